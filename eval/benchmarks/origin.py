"""Where the records of a published set come from: a file below the data folder, or the Hugging Face hub."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from crescent.errors import DataSaysNo, Missing
from crescent.machine.text_files import read_text

Row = tuple[str, str | None]
"""A question and its reference answer, `None` if there is none that can be compared."""
Raw = Mapping[str, Any]
"""One record, as in the file or on the hub."""


@dataclass(frozen=True)
class Origin:
    """Where a set is found, and how its records become rows."""

    file: str
    """Path below the data folder."""
    file_row: Callable[[Raw], Row]
    hub: str
    """Id of the data set on the Hugging Face hub."""
    hub_row: Callable[[Raw], Row]
    splits: tuple[str, ...]
    """Splits on the hub; they are joined, because sets are divided here."""
    options: dict[str, str] = field(default_factory=dict)
    """Further arguments of `datasets.load_dataset`."""
    part: tuple[str, str] | None = None
    """Field and value of the records that belong to the set; all records if `None`."""
    solution: Callable[[Raw], str] | None = None
    """A record's worked solution, with the answer after `####` on the last line; `None` if the set has only answers."""


def read_file(path: Path) -> list[Raw]:
    """The records of a JSONL, JSON or XML file. Raises `DataSaysNo` if it is damaged, and as `read_text`."""
    text = read_text(path)
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
    """The records of all splits of the set."""
    from datasets import load_dataset

    return [raw for split in origin.splits for raw in load_dataset(origin.hub, split=split, **origin.options)]


def fetch(name: str, hub: str, file: Path | str, load: Callable[[], Iterable[Raw]]) -> list[Raw]:
    """The records that `load` gets from the hub.

    Args:
        name: The benchmark's, for the error.
        hub: Id of the data set.
        file: Path that was looked for first; relative to the data folder if there is none.

    Raises:
        Missing: the hub does not have it, or cannot be reached; the message says where to put the file.
    """
    try:
        return list(load())
    except Exception as error:  # the hub's client raises a dozen kinds, and each means: not available
        place = file if isinstance(file, Path) else f"$CRESCENT_DATA/{file}"
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Missing(
            f"eval.benchmarks.{name}: there is no {place}, and the hub's {hub} is not available ({cause}); put the "
            f"file at {place} or run `hf download --repo-type dataset {hub}` where there is a network"
        ) from error
