"""Word problems with one number as the answer, and MATH-500 with formulas, from files or from the hub.

GSM8K arXiv 2110.14168; ASDiv arXiv 2106.15772; SVAMP arXiv 2103.07191; MAWPS aclanthology.org/N16-1136; GSM-Plus arXiv
2402.19255; MATH arXiv 2103.03874, of which MATH-500 is the test set of arXiv 2305.20050.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree

from crescent.config import BenchmarkConfig, Source, Split
from crescent.errors import BadConfig, DataSaysNo, Missing

T = TypeVar("T")
Row = tuple[str, str | None]
"""A question and its reference answer, `None` when it has none that can be compared."""
Raw = Mapping[str, Any]
"""One record as the file or the hub has it."""

LILA = {"addsub": "addsub", "multiarith": "multiarith", "singleop": "singleop", "singleeq": "singleq"}
"""Parts of MAWPS and what Lila (arXiv 2210.17517) calls them."""
PERTURBATIONS = (
    "numerical substitution",
    "digit expansion",
    "integer-decimal-fraction conversion",
    "adding operation",
    "reversing operation",
    "problem understanding",
    "distraction insertion",
    "critical thinking",
)
"""What GSM-Plus does to a question of GSM8K's. After critical thinking it has no answer, so none is an item."""
SUBJECTS = (
    "Algebra",
    "Counting & Probability",
    "Geometry",
    "Intermediate Algebra",
    "Number Theory",
    "Prealgebra",
    "Precalculus",
)
"""Of MATH-500."""


@dataclass(frozen=True)
class Origin:
    """Where one set is found, and how a record of it becomes a row."""

    file: str
    """Below the data folder."""
    file_row: Callable[[Raw], Row]
    hub: str
    """Data set id on the Hugging Face hub."""
    hub_row: Callable[[Raw], Row]
    splits: tuple[str, ...]
    """The hub's splits, joined: sets that are divided here are taken whole."""
    options: dict[str, str] = field(default_factory=dict)
    """Further arguments of `datasets.load_dataset`."""
    part: tuple[str, str] | None = None
    """Field and value of the records that belong to the set; all when `None`."""
    solution: Callable[[Raw], str] | None = None
    """A record's worked solution, its answer after `####` on the last line; `None` where there is only the answer."""


def rows(name: str, config: BenchmarkConfig, folder: Path | None) -> list[Row]:
    """All rows of the set, unusable ones included.

    Raises:
        Missing: it is neither in `folder` nor on the hub.
        DataSaysNo: the file is there and has another format.
    """
    origin = find(name, config)
    raws, where, convert = _raws(name, config, origin, folder)
    return _converted(raws, convert, where, origin.part)


def solutions(name: str, config: BenchmarkConfig, folder: Path | None) -> dict[str, str]:
    """The worked solutions by question; none where the set holds only answers. Raises as `rows`."""
    origin = find(name, config)
    worked = origin.solution
    if worked is None:
        return {}
    raws, where, convert = _raws(name, config, origin, folder)
    return dict(_converted(raws, lambda raw: (convert(raw)[0], worked(raw)), where, origin.part))


def _raws(
    name: str, config: BenchmarkConfig, origin: Origin, folder: Path | None
) -> tuple[list[Raw], str, Callable[[Raw], Row]]:
    """The records, where they were found, and how they become rows."""
    path = folder / origin.file if folder else None
    if path and path.is_file():
        return _read_file(path), str(path), origin.file_row
    try:
        return from_hub(origin), origin.hub, origin.hub_row
    except Exception as error:  # The hub's client raises a dozen kinds, and each of them means: not there.
        place = path or f"$CRESCENT_DATA/{origin.file}"
        raise Missing(
            f"eval.benchmarks.{name}: {config.source.value} is not at {place}, and the hub's {origin.hub} cannot be "
            f"had ({str(error).splitlines()[0] if str(error) else type(error).__name__}); put the file at {place} or "
            f"run `hf download --repo-type dataset {origin.hub}` where there is a network"
        ) from error


def find(name: str, config: BenchmarkConfig) -> Origin:
    """Raises `BadConfig` for an unknown part of MAWPS, GSM-Plus or MATH-500."""
    match config.source:
        case Source.gsm8k:
            split = "train" if config.split is Split.dev else "test"
            return Origin(
                f"gsm8k/{split}.jsonl",
                gsm8k_row,
                "openai/gsm8k",
                gsm8k_row,
                (split,),
                options={"name": "main"},
                solution=gsm8k_solution,
            )
        case Source.asdiv:
            return Origin("asdiv/ASDiv.xml", asdiv_row, "EleutherAI/asdiv", asdiv_row, ("validation",))
        case Source.svamp:
            return Origin("svamp/SVAMP.json", svamp_row, "ChilleD/SVAMP", svamp_row, ("train", "test"))
        case Source.mawps if config.family in LILA:
            # Lila's own loading script is no longer run by `datasets`; the hub keeps a converted copy on this branch.
            options = {"data_dir": LILA[config.family], "revision": "refs/convert/parquet"}
            splits = ("train", "validation", "test")
            return Origin(f"mawps/{config.family}.jsonl", mawps_row, "allenai/lila", lila_row, splits, options)
        case Source.mawps:
            key = f"eval.benchmarks.{name}.family={config.family}"
            raise BadConfig(f"{key}: MAWPS has no such part; one of {', '.join(LILA)}")
        case Source.gsm_plus:
            part = _part(name, config, "perturbation_type", PERTURBATIONS, "GSM-Plus has no such perturbation")
            file, hub = "gsm_plus/gsmplus_testmini.jsonl", "qintongli/GSM-Plus"
            return Origin(file, gsm_plus_row, hub, gsm_plus_row, ("testmini",), part=part)
        case Source.math500:
            part = _part(name, config, "subject", SUBJECTS, "MATH-500 has no such subject")
            file, hub = "math500/test.jsonl", "HuggingFaceH4/MATH-500"
            return Origin(file, math500_row, hub, math500_row, ("test",), part=part, solution=math500_solution)
        case _:
            raise ValueError(f"{config.source.value} is no set of word problems")


def _part(
    name: str, config: BenchmarkConfig, field_name: str, known: tuple[str, ...], rule: str
) -> tuple[str, str] | None:
    if config.family is None:
        return None
    if config.family not in known:
        key = f"eval.benchmarks.{name}.family={config.family}"
        raise BadConfig(f"{key}: {rule}; one of {', '.join(known)}, or null for all")
    return field_name, config.family


def gsm8k_row(raw: Raw) -> Row:
    return raw["question"].strip(), number(raw["answer"].rpartition("####")[2])


def gsm8k_solution(raw: Raw) -> str:
    """Without the annotations `<<48/2=24>>`, which were written for a calculator and not for a reader."""
    return re.sub(r"<<[^<>\n]*>>", "", raw["answer"]).strip()


def gsm_plus_row(raw: Raw) -> Row:
    return raw["question"].strip(), number(raw["answer"])


def math500_row(raw: Raw) -> Row:
    return raw["problem"].strip(), raw["answer"].strip() or None


def math500_solution(raw: Raw) -> str:
    return f"{raw['solution'].strip()}\n#### {raw['answer'].strip()}"


def asdiv_row(raw: Raw) -> Row:
    """Answers look like `9 (apples)`; names, times, ratios and several numbers at once cannot be compared as one."""
    single = re.fullmatch(r"([^(;]+?)(\s*\([^()]*\))?", raw["answer"].strip())
    return _joined(raw["body"], raw["question"]), number(single[1]) if single else None


def svamp_row(raw: Raw) -> Row:
    return _joined(raw["Body"], raw["Question"]), number(raw["Answer"])


def mawps_row(raw: Raw) -> Row:
    return raw["input"].strip(), number(raw["target"])


def lila_row(raw: Raw) -> Row:
    return raw["input"].strip(), number(raw["output_answer"])


def number(written: object) -> str | None:
    """The plain form of one number (`1,080` → `1080`, `43.0` → `43`), `None` if `written` is anything else.

    The files write 2/3 as 0.6666666667. Five or more decimals that are a rounded fraction with a denominator up to 12
    mean the fraction: the exact answer must not count as wrong.
    """
    text = str(written).strip().replace("$", "")
    if re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?", text):
        text = text.replace(",", "")
    if re.fullmatch(r"-?\d+/0*[1-9]\d*", text):
        return text
    if not re.fullmatch(r"-?\d+(\.\d+)?", text):
        return None
    decimals = len(text.partition(".")[2])
    if decimals >= 5:
        for denominator in range(2, 13):
            numerator = round(float(text) * denominator)
            if f"{numerator / denominator:.{decimals}f}" == text and numerator % denominator:
                return f"{numerator}/{denominator}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _joined(body: str, question: str) -> str:
    return f"{body.strip()} {question.strip()}".strip()


def _converted(
    raws: Iterable[Raw], convert: Callable[[Raw], tuple[str, T]], where: str, part: tuple[str, str] | None
) -> list[tuple[str, T]]:
    try:
        return [convert(raw) for raw in raws if part is None or raw[part[0]] == part[1]]
    except (KeyError, AttributeError, TypeError) as error:
        raise DataSaysNo(f"{where}: not the format this benchmark is published in ({error!r})") from error


def _read_file(path: Path) -> list[Raw]:
    text = path.read_text("utf-8")
    try:
        match path.suffix:
            case ".jsonl":
                return [json.loads(line) for line in text.split("\n") if line.strip()]
            case ".json":
                return list(json.loads(text))
            case _:
                problems = ElementTree.fromstring(text.encode()).iter("Problem")
                return [{child.tag.lower(): child.text or "" for child in problem} for problem in problems]
    except (json.JSONDecodeError, ElementTree.ParseError) as error:
        raise DataSaysNo(f"{path}: cannot be read ({error}); copy it again") from error


def from_hub(origin: Origin) -> list[Raw]:
    from datasets import load_dataset

    return [raw for split in origin.splits for raw in load_dataset(origin.hub, split=split, **origin.options)]
