"""Questions with lettered options: ARC-Challenge and MMLU, from files or from the hub. The reference is a letter.

ARC arXiv 1803.05457; MMLU arXiv 2009.03300.
"""

import csv
import difflib
import io
import json
from collections.abc import Sequence
from pathlib import Path

from crescent.config import BenchmarkConfig, Source, Split
from crescent.errors import BadConfig, DataSaysNo
from crescent.machine.text_files import read_text
from eval.benchmarks.origin import Raw, Row, fetch

ARC_FILE = "arc_challenge/arc_challenge.jsonl"
"""The test set, one `{"query", "choices", "gold"}` a line, as in llm-foundry."""
ARC_HUB = "allenai/ai2_arc"
MMLU_HUB = "cais/mmlu"
SUBJECTS = """
    abstract_algebra anatomy astronomy business_ethics clinical_knowledge college_biology college_chemistry
    college_computer_science college_mathematics college_medicine college_physics computer_security conceptual_physics
    econometrics electrical_engineering elementary_mathematics formal_logic global_facts high_school_biology
    high_school_chemistry high_school_computer_science high_school_european_history high_school_geography
    high_school_government_and_politics high_school_macroeconomics high_school_mathematics high_school_microeconomics
    high_school_physics high_school_psychology high_school_statistics high_school_us_history high_school_world_history
    human_aging human_sexuality international_law jurisprudence logical_fallacies machine_learning management marketing
    medical_genetics miscellaneous moral_disputes moral_scenarios nutrition philosophy prehistory
    professional_accounting professional_law professional_medicine professional_psychology public_relations
    security_studies sociology us_foreign_policy virology world_religions
""".split()  # noqa: SIM905 - 57 quoted names would be a page
"""MMLU's subjects, as its files are named."""


def rows(name: str, config: BenchmarkConfig, folder: Path | None) -> list[Row]:
    """All rows of the set, unusable ones included; of MMLU those of the configured split.

    Raises:
        BadConfig: the subject of MMLU is unknown.
        Missing: the set is neither in `folder` nor on the hub.
        DataSaysNo: a file has another format.
    """
    if config.source is Source.arc_challenge:
        return _arc(name, folder)
    if config.family is not None and config.family not in SUBJECTS:
        close = difflib.get_close_matches(config.family, SUBJECTS, n=5, cutoff=0.4)
        near = f"did you mean {', '.join(close)}?" if close else f"one of {', '.join(SUBJECTS)}, or null for all"
        raise BadConfig(f"eval.benchmarks.{name}.family={config.family}: MMLU has no such subject; {near}")
    if config.split is Split.test:
        return _mmlu(name, config.family, "test", folder)
    # 28 questions of the test set are in the validation set too, most of them under another subject.
    reported = {letters_of(question) for question, _ in _mmlu(name, None, "test", folder)}
    found = _mmlu(name, config.family, "validation", folder)
    return [(question, target) for question, target in found if letters_of(question) not in reported]


def row(stem: str, options: Sequence[str], right: int) -> Row:
    """The question with one option per line, and the letter of the right option, which is number `right`, from 0.

    The letter is `None` if another option has the same text (MMLU has such rows): two letters would be right.
    """
    texts = [" ".join(option.split()) for option in options]
    lettered = [f"{chr(ord('A') + place)}. {text}" for place, text in enumerate(texts)]
    target = chr(ord("A") + right) if texts.count(texts[right]) == 1 else None
    return "\n".join([stem.strip(), *lettered]), target


def arc_file_row(raw: Raw) -> Row:
    return row(raw["query"].removeprefix("Question: "), raw["choices"], raw["gold"])


def arc_hub_row(raw: Raw) -> Row:
    """Labels in the data are letters, or digits in a few rows; options get new letters."""
    choices = raw["choices"]
    return row(raw["question"], choices["text"], choices["label"].index(raw["answerKey"]))


def mmlu_file_row(cells: Sequence[str]) -> Row:
    stem, *options, letter = cells
    return row(stem, options, "ABCD".index(letter))


def mmlu_hub_row(raw: Raw) -> Row:
    return row(raw["question"], raw["choices"], raw["answer"])


def letters_of(question: str) -> str:
    """The letters of a question, without spaces and case: the same for two spellings of it."""
    return "".join(question.split()).casefold()


def _arc(name: str, folder: Path | None) -> list[Row]:
    path = folder / ARC_FILE if folder else None
    if path is None or not path.is_file():
        # Only the hub's test split is used, as the file has no other: a run is the same with and without the file.
        return [arc_hub_row(raw) for raw in _from_hub(name, ARC_HUB, "ARC-Challenge", "test", path or ARC_FILE)]
    try:
        return [arc_file_row(json.loads(line)) for line in read_text(path).split("\n") if line.strip()]
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise DataSaysNo(f"{path}: not the format in which this benchmark is published ({error!r})") from error


def _mmlu(name: str, subject: str | None, split: str, folder: Path | None) -> list[Row]:
    """Rows of one subject or of all. `split` is the hub's name; the published folder of `validation` is `val`."""
    short = {"validation": "val"}.get(split, split)
    files = [f"mmlu/{short}/{part}_{short}.csv" for part in ([subject] if subject else SUBJECTS)]
    paths = [folder / file for file in files] if folder else []
    absent = [path for path in paths if not path.is_file()]
    if absent or not folder:
        place = absent[0] if absent else files[0]
        return [mmlu_hub_row(raw) for raw in _from_hub(name, MMLU_HUB, subject or "all", split, place)]
    found = []
    for path in paths:
        try:
            lines = io.StringIO(read_text(path), newline="")
            found += [mmlu_file_row(cells) for cells in csv.reader(lines, strict=True)]
        except (ValueError, LookupError, csv.Error) as error:
            raise DataSaysNo(f"{path}: not the format in which this benchmark is published ({error!r})") from error
    return found


def _from_hub(name: str, hub: str, part: str, split: str, file: Path | str) -> list[Raw]:
    """All records of a split. Raises as `fetch`."""
    from datasets import load_dataset

    return fetch(name, hub, file, lambda: load_dataset(hub, part, split=split))
