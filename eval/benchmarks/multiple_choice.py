"""Questions with lettered options: ARC-Challenge and MMLU, from files or from the hub. The reference is a letter.

ARC arXiv 1803.05457; MMLU arXiv 2009.03300.
"""

import csv
import difflib
import json
from collections.abc import Sequence
from pathlib import Path

from crescent.config import BenchmarkConfig, Source, Split
from crescent.errors import BadConfig, DataSaysNo, Missing
from eval.benchmarks.word_problems import Raw, Row

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
        BadConfig: an unknown subject of MMLU.
        Missing: it is neither in `folder` nor on the hub.
        DataSaysNo: a file is there and has another format.
    """
    if config.source is Source.arc_challenge:
        return _arc(name, folder)
    if config.family is not None and config.family not in SUBJECTS:
        close = difflib.get_close_matches(config.family, SUBJECTS, n=5, cutoff=0.4)
        near = f"did you mean {', '.join(close)}?" if close else f"one of {', '.join(SUBJECTS)}, or null for all"
        raise BadConfig(f"eval.benchmarks.{name}.family={config.family}: MMLU has no such subject; {near}")
    if config.split is Split.test:
        return _mmlu(name, config.family, "test", folder)
    # 28 questions of the test set stand in the validation set too, most of them under another subject.
    reported = {letters_of(question) for question, _ in _mmlu(name, None, "test", folder)}
    found = _mmlu(name, config.family, "validation", folder)
    return [(question, target) for question, target in found if letters_of(question) not in reported]


def row(stem: str, options: Sequence[str], right: int) -> Row:
    """The question with its options, one a line, and the letter of the right one: the `right`-th, from 0.

    No reference when another option reads the same as the right one (MMLU has such rows): two letters would be right.
    """
    texts = [" ".join(option.split()) for option in options]
    lettered = [f"{chr(ord('A') + place)}. {text}" for place, text in enumerate(texts)]
    target = chr(ord("A") + right) if texts.count(texts[right]) == 1 else None
    return "\n".join([stem.strip(), *lettered]), target


def arc_file_row(raw: Raw) -> Row:
    return row(raw["query"].removeprefix("Question: "), raw["choices"], raw["gold"])


def arc_hub_row(raw: Raw) -> Row:
    """Labels are letters, or digits in a few rows; options are lettered anew."""
    choices = raw["choices"]
    return row(raw["question"], choices["text"], choices["label"].index(raw["answerKey"]))


def mmlu_file_row(cells: Sequence[str]) -> Row:
    stem, *options, letter = cells
    return row(stem, options, "ABCD".index(letter))


def mmlu_hub_row(raw: Raw) -> Row:
    return row(raw["question"], raw["choices"], raw["answer"])


def letters_of(question: str) -> str:
    """What two spellings of one question have in common."""
    return "".join(question.split()).casefold()


def _arc(name: str, folder: Path | None) -> list[Row]:
    path = folder / ARC_FILE if folder else None
    if path is None or not path.is_file():
        # The other two splits of the hub are left alone: a run is the same with the file and without.
        return [arc_hub_row(raw) for raw in _from_hub(name, ARC_HUB, "ARC-Challenge", "test", path or ARC_FILE)]
    try:
        return [arc_file_row(json.loads(line)) for line in path.read_text("utf-8").split("\n") if line.strip()]
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise DataSaysNo(f"{path}: not the format this benchmark is published in ({error!r})") from error


def _mmlu(name: str, subject: str | None, split: str, folder: Path | None) -> list[Row]:
    """`split` is the hub's name; the published folder of `validation` is called `val`."""
    short = {"validation": "val"}.get(split, split)
    files = [f"mmlu/{short}/{one}_{short}.csv" for one in ([subject] if subject else SUBJECTS)]
    paths = [folder / file for file in files] if folder else []
    absent = [path for path in paths if not path.is_file()]
    if absent or not folder:
        place = absent[0] if absent else files[0]
        return [mmlu_hub_row(raw) for raw in _from_hub(name, MMLU_HUB, subject or "all", split, place)]
    found = []
    for path in paths:
        try:
            with path.open(encoding="utf-8", newline="") as file:
                found += [mmlu_file_row(cells) for cells in csv.reader(file, strict=True)]
        except (ValueError, LookupError, csv.Error) as error:
            raise DataSaysNo(f"{path}: not the format this benchmark is published in ({error!r})") from error
    return found


def _from_hub(name: str, hub: str, part: str, split: str, place: Path | str) -> list[Raw]:
    """Raises `Missing`, which names the file that was looked for first."""
    from datasets import load_dataset

    try:
        return list(load_dataset(hub, part, split=split))
    except Exception as error:  # The hub's client raises a dozen kinds, and each of them means: not there.
        place = place if isinstance(place, Path) else f"$CRESCENT_DATA/{place}"
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Missing(
            f"eval.benchmarks.{name}: it is not at {place}, and the hub's {hub} cannot be had ({cause}); put the file "
            f"at {place} or run `hf download --repo-type dataset {hub}` where there is a network"
        ) from error
