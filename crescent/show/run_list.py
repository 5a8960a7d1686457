"""The runs of a folder as a table, and sizes as people write them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crescent.judging.wording import percent
from crescent.machine.inert_text import visible
from crescent.reading.listing import Best, ListedRun
from crescent.show.texts import UNKNOWN

WIDE = 200
"""Columns of the table where no terminal limits it."""
FOLDING = ("name", "model", "status")
"""Columns whose texts wrap where the terminal is narrow; numbers and dates never do."""


def show_runs(runs: Sequence[ListedRun], root: Path, console: Console) -> None:
    """Print a line about each run, fitted to the console."""
    if not runs:
        line = f"{root.absolute()} has no run in it; crescent +experiment=smoke makes one in seconds"
        console.print(Text(visible(line)), soft_wrap=True)
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    for column in ("name", "model", "date", "rounds", "status", "best", "size"):
        folds = column in FOLDING
        align: Literal["left", "right"] = "right" if column in ("rounds", "size") else "left"
        table.add_column(column, justify=align, overflow="fold", no_wrap=not folds)
    for run in runs:
        table.add_row(*(Text(visible(cell)) for cell in _row(run)))
    console.print(table, width=None if console.is_terminal else WIDE)


def _row(run: ListedRun) -> tuple[str, ...]:
    rounds = str(run.rounds) if run.planned is None else f"{run.rounds} of {run.planned}"
    # The number of rounds has a column of its own.
    status = re.sub(r", \d+ rounds?\Z", "", run.status)
    date = run.changed.strftime("%Y-%m-%d") if run.changed else UNKNOWN
    best = UNKNOWN
    if run.best is not None:
        best = f"{f'r{run.best.round}' if run.best.round else 'base'} {percent(run.best.accuracy)}"
    return run.name, short_model(run.model), date, rounds, status, best, size(run.bytes)


def short_model(path: str) -> str:
    """A hub id as it is; of a folder its last part."""
    return path if path.count("/") < 2 and not path.startswith((".", "/", "~")) else Path(path).name or UNKNOWN


def best_of(best: Best | None) -> str:
    """`round 2: 58.0 % (base 55.0 %)`."""
    if best is None:
        return UNKNOWN
    if best.round == 0:
        return f"base: {percent(best.accuracy)}"
    return f"round {best.round}: {percent(best.accuracy)} (base {percent(best.base)})"


def size(count: int) -> str:
    """Bytes with a unit: 512 B, 1.5 MB, 14.2 GB (powers of 1000, as disks are sold)."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def facts(run: ListedRun, checkpoint: Path | None, report: Path | None) -> list[str]:
    """What `crescent show` says about a run before its results.

    Args:
        checkpoint: Folder of the best child's adapter or weights.
    """
    lines = [
        f"{run.folder}  {size(run.bytes)}",
        f"model       {run.model or UNKNOWN}",
        f"status      {run.status}",
        f"changed     {run.changed.strftime('%Y-%m-%d %H:%M') if run.changed else UNKNOWN}",
        f"best        {best_of(run.best)}" + (f", {checkpoint}" if checkpoint else ""),
    ]
    return [visible(line) for line in [*lines, *([f"report      {report}"] if report else [])]]
