"""Reading for a report: a file that cannot be read is left out and noted, and never prevents the report."""

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from crescent.errors import DataSaysNo
from crescent.reading.finished import RunReader, likely_cause
from crescent.run_folder.metric_names import current_names, kind_of

R = TypeVar("R")
T = TypeVar("T")


class LenientReader:
    """Reads one run folder, and notes in `run.missing` what it could not read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run = RunReader(root)

    def records(self, name: str, kind: type[R], containing: Collection[str] = ("",)) -> Iterator[R]:
        """As `RunReader.records`, up to the first line that is not such a record."""
        try:
            yield from self.run.records(name, kind, containing)
        except DataSaysNo as error:
            self.run.note(str(error))

    def file(self, name: str, kind: type[T]) -> T | None:
        """Content of a JSON file of a finished stage; `None` if it does not exist."""
        path = self.root / name
        if self.run.stage(name.rpartition("/")[0]) is None or not path.exists():
            return None
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except (OSError, ValueError) as error:
            self.run.note(f"{path}: cannot be read ({error}); {likely_cause(error)}")
            return None

    def metrics(self, stage: str) -> dict[str, float]:
        """Metrics of a stage by their current names; empty unless it is finished."""
        manifest = self.run.stage(stage)
        metrics = current_names(kind_of(stage), manifest["metrics"]) if manifest is not None else {}
        return {name: value for name, value in metrics.items() if isinstance(value, int | float)}


def evenly_chosen(records: Sequence[T], count: int, key: Callable[[T], tuple[float, str]]) -> list[T]:
    """Choose `count` of the records, evenly over their order by `key`; the first and the last are among them."""
    ordered = sorted(records, key=key)
    if len(ordered) <= count:
        return ordered
    return [ordered[round(place * (len(ordered) - 1) / (count - 1))] for place in range(count)]
