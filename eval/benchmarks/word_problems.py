"""Word problems with one number as the answer, and MATH-500 with formulas, from files or from the hub.

GSM8K arXiv 2110.14168; ASDiv arXiv 2106.15772; SVAMP arXiv 2103.07191; MAWPS aclanthology.org/N16-1136; GSM-Plus arXiv
2402.19255; MATH arXiv 2103.03874, of which MATH-500 is the test set of arXiv 2305.20050.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from crescent.config import BenchmarkConfig, Source, Split
from crescent.errors import BadConfig, DataSaysNo
from eval.benchmarks.origin import Origin, Raw, Row, fetch, from_hub, read_file

T = TypeVar("T")
LILA = {"addsub": "addsub", "multiarith": "multiarith", "singleop": "singleop", "singleeq": "singleq"}
"""Parts of MAWPS, with their names in Lila (arXiv 2210.17517)."""
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
"""Ways in which GSM-Plus changes questions of GSM8K. `critical thinking` leaves no answer, so it yields no items."""
SUBJECTS = (
    "Algebra",
    "Counting & Probability",
    "Geometry",
    "Intermediate Algebra",
    "Number Theory",
    "Prealgebra",
    "Precalculus",
)
"""Subjects of MATH-500."""


def rows(name: str, config: BenchmarkConfig, folder: Path | None) -> list[Row]:
    """All rows of the set, unusable ones included.

    Raises:
        Missing: the set is neither in `folder` nor on the hub.
        DataSaysNo: the file has another format.
    """
    origin = find(name, config)
    raws, where, convert = _raws(name, config, origin, folder)
    return _converted(raws, convert, where, origin.part)


def solutions(name: str, config: BenchmarkConfig, folder: Path | None) -> dict[str, str]:
    """Worked solutions by question; none if the set has only answers. Raises as `rows`."""
    origin = find(name, config)
    worked = origin.solution
    if worked is None:
        return {}
    raws, where, convert = _raws(name, config, origin, folder)
    return dict(_converted(raws, lambda raw: (convert(raw)[0], worked(raw)), where, origin.part))


def _raws(
    name: str, config: BenchmarkConfig, origin: Origin, folder: Path | None
) -> tuple[list[Raw], str, Callable[[Raw], Row]]:
    """The records, where they were found, and the function that makes rows of them."""
    path = folder / origin.file if folder else None
    if path and path.is_file():
        return read_file(path), str(path), origin.file_row
    raws = fetch(name, origin.hub, path or origin.file, lambda: from_hub(origin))
    return raws, origin.hub, origin.hub_row


def find(name: str, config: BenchmarkConfig) -> Origin:
    """Origin of the benchmark's set. Raises `BadConfig` for an unknown part of MAWPS, GSM-Plus or MATH-500."""
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
            # `datasets` no longer runs Lila's loading script; the hub has a converted copy on this branch.
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
            raise ValueError(f"{config.source.value} is not a set of word problems")


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
    """The solution without the calculator annotations (`<<48/2=24>>`)."""
    return re.sub(r"<<[^<>\n]*>>", "", raw["answer"]).strip()


def gsm_plus_row(raw: Raw) -> Row:
    return raw["question"].strip(), number(raw["answer"])


def math500_row(raw: Raw) -> Row:
    return raw["problem"].strip(), raw["answer"].strip() or None


def math500_solution(raw: Raw) -> str:
    return f"{raw['solution'].strip()}\n#### {raw['answer'].strip()}"


def asdiv_row(raw: Raw) -> Row:
    """Answers look like `9 (apples)`; names, times, ratios and several numbers cannot be compared as one number."""
    single = re.fullmatch(r"([^(;]+?)(\s*\([^()]*\))?", raw["answer"].strip())
    return _joined(raw["body"], raw["question"]), number(single[1]) if single else None


def svamp_row(raw: Raw) -> Row:
    return _joined(raw["Body"], raw["Question"]), number(raw["Answer"])


def mawps_row(raw: Raw) -> Row:
    return raw["input"].strip(), number(raw["target"])


def lila_row(raw: Raw) -> Row:
    return raw["input"].strip(), number(raw["output_answer"])


def number(written: object) -> str | None:
    """The plain form of one number (`1,080` → `1080`, `43.0` → `43`), `None` for anything else.

    The files write 2/3 as 0.6666666667. Five or more decimals that round a fraction with a denominator up to 12 mean
    the fraction, so that an exact answer is not wrong.
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
        raise DataSaysNo(f"{where}: not the format in which this benchmark is published ({error!r})") from error
