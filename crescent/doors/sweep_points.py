"""The points of a sweep on the disk: how each of its runs began and ended.

A launcher may run the points in this process, in others or on other machines (joblib, submitit, ray), and hands back
nothing that can be relied on. So each point leaves a record in the sweep's folder, from where the process that started
the sweep reads them all. Comparison and exit code are the same whatever ran the points.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from secrets import token_hex

import msgspec

from crescent.errors import CrescentError, TryAgain, known_failure
from crescent.machine.disk import write_whole
from crescent.machine.inert_text import visible_lines
from crescent.machine.secrets import censored

RECORDS = "CRESCENT_SWEEP_POINTS"
"""Environment variable with the folder of the records; processes that a launcher starts inherit it."""
VANISHED = "it ended without a word, as if killed; its log, or that of the launcher, may say why"


@dataclass(frozen=True)
class Point:
    """One run of a sweep."""

    number: int
    """Place among the points, from 0."""
    name: str
    """Name of the run; its settings, where these were refused before it had a name."""
    folder: str | None = None
    """Path of the run folder."""
    group: str | None = None
    """Value of `tracking.group`."""
    hourly_rate: float | None = None
    """Price of a machine-hour."""
    objective: float | None = None
    """Value of `sweep.objective`; `None` unless the run came to its end."""
    exit_code: int = TryAgain.exit_code
    """Exit code as if the run had been started alone; until the point has ended, that of a killed run."""
    cause: str = VANISHED
    """Error that ended it, on one line; empty if none did."""


class PointsFailed(CrescentError):
    """Some runs of a sweep failed. The exit code is that of the first."""

    def __init__(self, failed: Sequence[Point], started: int, ended_early: str = "") -> None:
        self.exit_code = failed[0].exit_code
        causes = [f"{point.name} ({point.exit_code}): {point.cause}" for point in failed]
        if ended_early:
            causes.append(f"and the sweep itself ended, perhaps before its last run began: {_line(ended_early)}")
        runs = "started runs" if ended_early else "runs"
        super().__init__("\n  ".join([f"{len(failed)} of {started} {runs} of this sweep failed", *causes]))


def open_records(folder: Path) -> None:
    """Start the records of a sweep in a folder of their own, in `folder`."""
    records = folder.absolute() / "points" / token_hex(4)
    records.mkdir(parents=True)
    os.environ[RECORDS] = str(records)


def run_point(point: Point, enter: Callable[[Callable[[Point], None]], float | None]) -> float | None:
    """Run one point and record how it began and ended; its errors end no other point.

    Args:
        enter: The run. It calls the function that it is given once it knows more about the point.

    Returns:
        The objective; `None` after an error, which sweepers take as a failed trial.
    """
    known = point

    def record(now: Point) -> None:
        nonlocal known
        known = now
        path = Path(os.environ[RECORDS]) / f"{now.number:05d}.json"
        write_whole(path, json.dumps(asdict(now)).encode())

    record(point)
    try:
        objective = enter(record)
    except BaseException as error:
        failure = known_failure(error)
        cause = str(failure) if failure is not None else f"{type(error).__name__}: {error}"
        ended = replace(known, exit_code=1 if failure is None else failure.exit_code, cause=_line(cause))
        record(ended)
        if _ends_the_sweep(error):
            raise
        print(visible_lines(f"{ended.name} failed ({ended.exit_code}): {ended.cause}"), file=sys.stderr, flush=True)
        if failure is None:
            traceback.print_exc()
        return None
    record(replace(known, exit_code=0, cause="", objective=objective))
    return objective


def read_points() -> list[Point]:
    """The recorded points of the sweep that this process started, in their order; empty if it started none."""
    folder = os.environ.get(RECORDS)
    if folder is None:
        return []
    return [msgspec.json.decode(path.read_bytes(), type=Point) for path in sorted(Path(folder).glob("*.json"))]


def _line(cause: str) -> str:
    return censored(" ".join(cause.split()))


def _ends_the_sweep(error: BaseException) -> bool:
    """Whether a signal asked for the end, rather than one run failed."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(lambda leaf: not isinstance(leaf, Exception)) is not None
    return not isinstance(error, Exception)
