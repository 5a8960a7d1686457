"""Show rows as a table. The same rows are saved as JSON."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from crescent.judging.comparison import wilson

Row = dict[str, Any]


def show(title: str, rows: Sequence[Row]) -> None:
    """Print a table whose columns are the keys of the first row."""
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name, justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        table.add_row(*(_written(value) for value in row.values()))
    Console(width=160, soft_wrap=True).print(table)


def rate(part: int, whole: int) -> str:
    """A share with its 95% Wilson confidence interval, as `61% [50, 71] of 96`."""
    if not whole:
        return "–"
    low, high = wilson(part, whole)
    return f"{100 * part / whole:.0f}% [{100 * low:.0f}, {100 * high:.0f}] of {whole}"


def _written(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
