"""Reading for a report: what a stage's file cannot tell is left out and said, never a reason to have no report."""

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from crescent.errors import DataSaysNo
from crescent.reading.finished import Run, suspicion
from crescent.run_folder.metric_names import current_names, kind_of

R = TypeVar("R")
T = TypeVar("T")


class Reader:
    """One run folder. What could not be read stands in `run.missing`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run = Run(root)

    def records(self, name: str, kind: type[R], containing: Collection[str] = ("",)) -> Iterator[R]:
        """As `Run.records`, up to the first line that is no such record."""
        try:
            yield from self.run.records(name, kind, containing)
        except DataSaysNo as error:
            self.run.note(str(error))

    def file(self, name: str, kind: type[T]) -> T | None:
        """The content of a JSON file of a finished stage; `None` without one."""
        path = self.root / name
        if self.run.stage(name.rpartition("/")[0]) is None or not path.exists():
            return None
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except (OSError, ValueError) as error:
            self.run.note(f"{path}: cannot be read ({error}); {suspicion(error)}")
            return None

    def metrics(self, stage: str) -> dict[str, float]:
        """Of a finished stage; none of one that is not."""
        manifest = self.run.stage(stage)
        found = current_names(kind_of(stage), manifest["metrics"]) if manifest is not None else {}
        return {name: value for name, value in found.items() if isinstance(value, int | float)}


def spread(records: Sequence[T], many: int, key: Callable[[T], tuple[float, str]]) -> list[T]:
    """So many of the records, evenly over their order by `key`, the first and the last among them."""
    ordered = sorted(records, key=key)
    if len(ordered) <= many:
        return ordered
    return [ordered[round(place * (len(ordered) - 1) / (many - 1))] for place in range(many)]
