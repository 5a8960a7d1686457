"""Runs in a folder, a line about each: read from their manifests and scores, without comparing any responses."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from crescent.reading.finished import RunReader, runs_below
from crescent.reading.rounds import EVALUATION_ONLY, RoundSummary, read_rounds
from crescent.records import Score
from crescent.run_folder.manifest import MANIFEST
from crescent.run_folder.places import read_config


@dataclass(frozen=True)
class Best:
    """The checkpoint that a run would go on from, on the benchmarks that decide."""

    round: int
    """0 for the base."""
    accuracy: float
    """Mean over the benchmarks, in [0, 1]."""
    base: float
    """The same of the base."""


@dataclass(frozen=True)
class ListedRun:
    """A line of `crescent runs`."""

    name: str
    folder: str
    model: str
    """Model that learns, as the settings name it; empty if they cannot be read."""
    changed: datetime | None
    """Time at which the last stage was finished, in local time; `None` before the first one."""
    rounds: int
    """Number of judged rounds."""
    planned: int | None
    """Number of rounds that the settings ask for."""
    status: str
    best: Best | None
    """`None` until the base is evaluated."""
    bytes: int
    """Size on the disk. What several stages of the run share counts once; what it shares with other runs counts."""


def list_runs(root: Path) -> list[ListedRun]:
    """The runs in a folder, the most recently changed first."""
    return [list_run(folder) for folder in runs_below(root)]


def list_run(folder: Path) -> ListedRun:
    """The line about one run."""
    summary = read_rounds(folder)
    settings = read_config(folder)
    model, train = _group(settings, "model"), _group(settings, "train")
    planned = _group(settings, "run").get("rounds")
    return ListedRun(
        name=folder.resolve().name,
        folder=str(folder),
        model=str(train.get("student") or model.get("path") or ""),
        changed=last_change(folder),
        rounds=sum(round_.action is not None for round_ in summary.rounds),
        planned=planned if isinstance(planned, int) and summary.status != EVALUATION_ONLY else None,
        status=summary.status,
        best=_best(RunReader(folder), summary.rounds),
        bytes=size_of(folder),
    )


def last_change(folder: Path) -> datetime | None:
    """Time at which the newest stage was finished."""
    times = [path.stat().st_mtime for path in folder.glob(f"*/*/{MANIFEST}")]
    return datetime.fromtimestamp(max(times)).astimezone() if times else None


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder; a file with several names there counts once."""
    sizes = {}
    for path in folder.rglob("*"):
        try:
            status = path.lstat()
        except OSError:
            continue  # a run that is at work renames and deletes
        if not path.is_dir() or path.is_symlink():
            sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())


def _group(settings: dict[str, object], name: str) -> dict[str, object]:
    found = settings.get(name)
    return found if isinstance(found, dict) else {}


def _best(reader: RunReader, rounds: Sequence[RoundSummary]) -> Best | None:
    accepted = [round_ for round_ in rounds if round_.action == "accept"]
    judged = [round_ for round_ in rounds if round_.verdict is not None]
    named = judged[-1].verdict.benchmarks if judged and judged[-1].verdict else ()
    base = _accuracy(reader, "base/eval", named)
    if base is None or not accepted:
        return Best(0, base, base) if base is not None else None
    accuracy = _accuracy(reader, f"round-{accepted[-1].round}/eval", named)
    return Best(accepted[-1].round, accuracy, base) if accuracy is not None else None


def _accuracy(reader: RunReader, stage: str, named: Sequence[str]) -> float | None:
    """Mean accuracy on the named benchmarks or, before any verdict, on those that may decide."""
    if reader.stage(stage) is None:
        return None
    try:
        scores = msgspec.json.decode((reader.root / stage / "scores.json").read_bytes(), type=tuple[Score, ...])
    except (OSError, msgspec.DecodeError):
        return None
    counted = [score for score in scores if score.total and (score.benchmark in named if named else score.decides)]
    return sum(score.accuracy for score in counted) / len(counted) if counted else None
