"""A sweep: names of its runs, and their comparison at the end."""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from crescent.doors.sweep_points import Point, PointsFailed
from crescent.records import digest

SWEPT = "CRESCENT_SWEPT"
"""Environment variable with the keys that a sweep varies; processes that a launcher starts inherit it."""
QUIET = (
    "experiment=",
    "run.name=",
    "run.root=",
    "run.rounds=",
    "run.keep=",
    "run.redo=",
    "run.reuse=",
    "tracking",
    "launch",
    "sweep.",
    "study",
    "mode=",
)
"""Prefixes of overrides that do not make a different run."""
LONGEST = 57
"""Largest number of characters of a name before its digest; `run.name` may have 64."""


def sweep_name(name: str, overrides: Sequence[str], root: Path) -> str:
    """A stable name for one run of a sweep: the base name, the settings that vary, and a digest.

    The digest of the base name and of all overrides that affect results identifies the run: an existing folder in
    `root` with this digest is resumed, whatever else varied when it was made.
    """
    effective = sorted(override for override in overrides if not override.lstrip("+~").startswith(QUIET))
    identity = digest(name, *effective)[:6]
    existing = sorted(folder.name for folder in root.glob(f"{name}-*{identity}") if folder.is_dir())
    if existing:
        return existing[0]
    swept = os.environ.get(SWEPT, "").split()
    parts = [
        re.sub(r"[^a-z0-9]+", "-", f"{key.split('.')[-1]}-{value}".lower()).strip("-")
        for key, _, value in (override.partition("=") for override in effective)
        if key.lstrip("+") in swept
    ]
    # Only the digest distinguishes train.max_steps=-1 from =1, and bait.temperature from consensus.temperature.
    return "-".join([name, *parts])[:LONGEST].rstrip("-") + f"-{identity}"


def conclude_sweep(points: Sequence[Point], ended_early: str = "") -> None:
    """Compare the runs of a sweep, and name the best by `sweep.objective`.

    Args:
        ended_early: Error with which its launcher or sweeper ended, if one did.

    Raises:
        PointsFailed: some did not come to their end.
    """
    begun = [point for point in points if point.folder is not None]
    if begun:
        show_sweep([Path(point.folder) for point in begun if point.folder], begun[0].group, begun[0].hourly_rate)
    reached = [point for point in begun if point.objective is not None]
    if len(reached) > 1:
        best = max(reached, key=lambda point: point.objective or 0.0)
        print(f"highest sweep.objective  {best.name}: {best.objective:.4g}, of {len(reached)} runs", flush=True)
    failed = [point for point in points if point.exit_code]
    if failed:
        raise PointsFailed(failed, len(points), ended_early)


def show_sweep(points: Sequence[Path], group: str | None, rate: float | None) -> None:
    """Print a comparison of a sweep's runs, and write `sweeps/NAME.html` beside them.

    Args:
        points: Folders of the runs, all in one folder.
        group: Value of `tracking.group`: other runs in that folder with the same value belong to the sweep, too. They
            were made by an earlier call.
        rate: Price of a machine-hour.
    """
    from rich.console import Console

    from crescent.reading.finished import runs_below
    from crescent.reading.runs import compare_runs
    from crescent.report import write_report
    from crescent.show.compare import show

    root = points[0].parent
    listed = {point.resolve() for point in points}
    runs = [
        run for run in runs_below(root) if run.resolve() in listed or (group is not None and group_of(run) == group)
    ]
    if len(runs) < 2:
        return
    runs.sort(key=lambda run: run.name)
    page = root / "sweeps" / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', group or 'evaluations')}.html"
    console = Console(width=None if sys.stdout.isatty() else 150, markup=False, highlight=False, emoji=False)
    console.print()
    try:
        show(compare_runs(runs), console)
        write_report(runs, page, rate)
    except Exception as error:  # the runs are complete without their comparison
        cause = f"{type(error).__name__}: {error}"
        console.print(
            f"the runs of this sweep were not compared ({cause}); to try again: crescent report RUN…", soft_wrap=True
        )
        return
    console.print(f"\nreport of the sweep  {page}", soft_wrap=True)


def group_of(root: Path) -> str | None:
    """The `tracking.group` of a run."""
    from crescent.run_folder.places import read_config

    tracking = read_config(root).get("tracking")
    return tracking.get("group") if isinstance(tracking, dict) else None
