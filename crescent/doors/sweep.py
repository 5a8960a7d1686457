"""A sweep: what its runs are called, and how they compare at its end."""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from crescent.records import digest

SWEPT = "CRESCENT_SWEPT"
"""Variable of the environment: the keys that a sweep varies. Launchers start processes, and this goes along."""
QUIET = (
    "experiment=",
    "run.name=",
    "run.root=",
    "run.rounds=",
    "run.keep=",
    "run.redo=",
    "tracking",
    "launch",
    "mode=",
)
"""How overrides begin that make no other run."""
LONGEST = 57
"""Characters of a name before its digest; `run.name` may have 64."""


def sweep_name(name: str, overrides: Sequence[str], root: Path) -> str:
    """A stable run name for one point of a sweep: the base name, what the sweep varies, and a digest.

    The digest is that of the base name and all overrides that touch results. It alone says which run it is: a folder
    in `root` that carries it is gone on with, whatever else varied when it was made.
    """
    telling = sorted(its for its in overrides if not its.lstrip("+~").startswith(QUIET))
    known = digest(name, *telling)[:6]
    made = sorted(its.name for its in root.glob(f"{name}-*{known}") if its.is_dir())
    if made:
        return made[0]
    swept = os.environ.get(SWEPT, "").split()
    parts = [
        re.sub(r"[^a-z0-9]+", "-", f"{key.split('.')[-1]}-{value}".lower()).strip("-")
        for key, _, value in (its.partition("=") for its in telling)
        if key.lstrip("+") in swept
    ]
    # The digest tells train.max_steps=-1 from =1, and bait.temperature from consensus.temperature.
    return "-".join([name, *parts])[:LONGEST].rstrip("-") + f"-{known}"


def show_sweep(points: Sequence[Path], group: str | None, rate: float | None) -> None:
    """Print how the runs of a sweep compare, and write `sweeps/NAME.html` beside them.

    Args:
        points: Folders of the points that ran, in one folder.
        group: Every run beside them of this `tracking.group` belongs to the sweep, too: points of an earlier day.
        rate: Money per machine-hour.
    """
    from rich.console import Console

    from crescent.reading.finished import runs_below
    from crescent.reading.runs import compare
    from crescent.report import write_report
    from crescent.show.compare import show

    root = points[0].parent
    runs = [its for its in runs_below(root) if its in points or (group is not None and group_of(its) == group)]
    if len(runs) < 2:
        return
    runs.sort(key=lambda its: its.name)
    page = root / "sweeps" / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', group or 'evaluations')}.html"
    console = Console(width=None if sys.stdout.isatty() else 150, markup=False, highlight=False, emoji=False)
    console.print()
    try:
        show(compare(runs), console)
        write_report(runs, page, rate)
    except Exception as error:  # what came of the runs is whole without their comparison
        cause = f"{type(error).__name__}: {error}"
        console.print(f"the sweep's runs were not compared ({cause}); crescent report RUN… tries again", soft_wrap=True)
        return
    console.print(f"\nreport of the sweep  {page}", soft_wrap=True)


def group_of(root: Path) -> str | None:
    """The `tracking.group` of a run."""
    from crescent.run_folder.places import read_config

    tracking = read_config(root).get("tracking")
    return tracking.get("group") if isinstance(tracking, dict) else None
