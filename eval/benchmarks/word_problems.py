"""Word problems with one number as the answer: GSM8K, ASDiv, SVAMP and MAWPS, from files or from the hub.

GSM8K arXiv 2110.14168; ASDiv arXiv 2106.15772; SVAMP arXiv 2103.07191; MAWPS aclanthology.org/N16-1136.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from crescent.config import BenchmarkConfig, Source, Split
from crescent.errors import BadConfig, DataSaysNo, Missing

Row = tuple[str, str | None]
"""A question and its reference answer, `None` when it has none that can be compared."""
Raw = Mapping[str, Any]
"""One record as the file or the hub has it."""

LILA = {"addsub": "addsub", "multiarith": "multiarith", "singleop": "singleop", "singleeq": "singleq"}
"""Parts of MAWPS and what Lila (arXiv 2210.17517) calls them."""


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


def rows(name: str, config: BenchmarkConfig, folder: Path | None) -> list[Row]:
    """All rows of the set, unusable ones included.

    Raises:
        Missing: it is neither in `folder` nor on the hub.
        DataSaysNo: the file is there and has another format.
    """
    origin = find(name, config)
    path = folder / origin.file if folder else None
    if path and path.is_file():
        return _converted(_read_file(path), origin.file_row, str(path))
    try:
        raws = from_hub(origin)
    except Exception as error:  # The hub's client raises a dozen kinds, and each of them means: not there.
        place = path or f"$CRESCENT_DATA/{origin.file}"
        raise Missing(
            f"eval.benchmarks.{name}: {config.source.value} is not at {place}, and the hub's {origin.hub} cannot be "
            f"had ({str(error).splitlines()[0] if str(error) else type(error).__name__}); put the file at {place} or "
            f"run `hf download --repo-type dataset {origin.hub}` where there is a network"
        ) from error
    return _converted(raws, origin.hub_row, origin.hub)


def find(name: str, config: BenchmarkConfig) -> Origin:
    """Raises `BadConfig` for an unknown part of MAWPS."""
    match config.source:
        case Source.gsm8k:
            split = "train" if config.split is Split.dev else "test"
            return Origin(
                f"gsm8k/{split}.jsonl", gsm8k_row, "openai/gsm8k", gsm8k_row, (split,), options={"name": "main"}
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
        case _:
            raise ValueError(f"{config.source.value} is no set of word problems")


def gsm8k_row(raw: Raw) -> Row:
    return raw["question"].strip(), number(raw["answer"].rpartition("####")[2])


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


def _converted(raws: Iterable[Raw], convert: Callable[[Raw], Row], where: str) -> list[Row]:
    try:
        return [convert(raw) for raw in raws]
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
