"""Runs side by side, in a terminal and as Markdown. Names come from folders and files: they are shown as text."""

import io
import re
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crescent.machine.inert_text import visible
from crescent.reading.differing_settings import run_labels
from crescent.reading.runs import ComparedRuns
from crescent.run_folder.metric_names import AGREEMENT, NEAR_DUPLICATE_DROP_RATE, TOKENS
from crescent.show.compare_tables import sheets
from crescent.show.headline import headline
from crescent.show.texts import UNKNOWN, Sheet

ROOM_BESIDE_LABELS = 70
"""Columns that the widest table needs beside the labels of the runs."""
FOLDING = {"run", "name", "status", "folder", "runs", "value", "setting", "benchmark"}
"""Table columns whose texts may wrap; numbers never do."""
FOLDED = 12
"""Fewest characters per line of a text that wraps."""
NAMING = {"round", "|round", "checkpoint", "benchmark"}
"""Table columns that say, beside the first, what a row is about."""
NOTES = (
    "accuracy: 95% Wilson interval; over base: same items, 95% paired bootstrap interval, exact McNemar p "
    "(not adjusted for multiple comparisons); test benchmarks are only reported",
    "strict: correct in the requested format; flexible: correct by the last number in the text; maj@k: the majority of "
    "an item's k answers is correct; pass@k: at least one of them is",
    "; ".join(metric.explained for metric in (AGREEMENT, NEAR_DUPLICATE_DROP_RATE, TOKENS)),
)


def show(compared: ComparedRuns, console: Console) -> None:
    """Print the comparison, fitted to the console: where the labels of the runs are too long, they are numbers."""
    labels = labels_of(compared)
    longest = max(len(visible(label)) for label in labels.values())
    if longest > max(4, console.width - ROOM_BESIDE_LABELS):
        labels = {run.name: f"#{place}" for place, run in enumerate(compared.runs, 1)}
    for line in headline(compared, labels):
        console.print(Text(visible(line)))
    for sheet in sheets(compared, labels, short=console.width < 2 * longest + 100):
        print_sheet(sheet, console)
    for line in _notes(compared):
        console.print(Text(visible(line)))


def print_sheet(sheet: Sheet, console: Console) -> None:
    """Print a table; where the console is too narrow for it, its rows one below the other."""
    if _least_width(sheet) <= console.width:
        console.print(_table(sheet))
    else:
        console.print(Text("\n".join(visible(line) for line in _records(sheet))))


def labels_of(compared: ComparedRuns) -> dict[str, str]:
    """The runs' labels in tables: their differing settings, where these are shorter than their names."""
    return run_labels(compared.settings, [run.name for run in compared.runs])


def as_text(compared: ComparedRuns) -> str:
    """What a terminal of 120 columns shows."""
    text = io.StringIO()
    show(compared, Console(file=text, width=120, markup=False, highlight=False, emoji=False, color_system=None))
    return text.getvalue()


def as_markdown(compared: ComparedRuns) -> str:
    """Tables in GitHub's form."""
    labels = labels_of(compared)
    lines = headline(compared, labels)
    parts = ["\n".join(f"- {escaped(line)}" for line in lines)] if lines else []
    for sheet in sheets(compared, labels, short=False):
        rule = ["---:" if column.startswith("|") else "---" for column in sheet.columns]
        rows = [[escaped(column.removeprefix("|")) for column in sheet.columns], rule]
        rows += [[escaped(cell) for cell in row] for row in sheet.rows]
        parts.append(f"### {escaped(sheet.title)}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows))
    return "\n\n".join([*parts, "\n".join(f"- {escaped(line)}" for line in _notes(compared))]) + "\n"


def _notes(compared: ComparedRuns) -> Iterator[str]:
    yield from NOTES
    for run in compared.runs:
        for name, voted in run.reliability.items():
            yield (
                f"maj@{voted.samples} in {run.name}: majority vote of the base on {voted.items} items of {name} "
                "without training, the reference for its children"
            )
    yield from (f"{run.name}: {note}" for run in compared.runs for note in run.missing)
    yield from compared.notes


def _least_width(sheet: Sheet) -> int:
    """Columns of a console in which no number of the table is cut."""
    width = 2
    for place, column in enumerate(sheet.columns):
        name = column.removeprefix("|")
        cells = (name, *(row[place] for row in sheet.rows))
        longest = max(len(visible(line)) for cell in cells for line in cell.split("\n"))
        width += 2 + (min(longest, FOLDED) if name in FOLDING else longest)
    return width


def _records(sheet: Sheet) -> Iterator[str]:
    """The same for a narrow console: what each row is about, and below that its cells by name."""
    names = [column.removeprefix("|").replace("-\n", "").replace("\n", " ") for column in sheet.columns]
    yield sheet.title
    for row in sheet.rows:
        about, cells = [row[0]], []
        for name, column, cell in zip(names[1:], sheet.columns[1:], row[1:], strict=True):
            if column in NAMING:
                about.append(cell if column != "round" or not cell.isdecimal() else f"round {cell}")
            elif cell not in ("", UNKNOWN):
                cells.append(f"{name} {cell}")
        yield f"  {', '.join(about)}"
        if cells:
            yield f"    {'; '.join(cells)}"
    yield ""


def _table(sheet: Sheet) -> Table:
    table = Table(
        title=Text(visible(sheet.title), "bold"), title_justify="left", box=box.SIMPLE_HEAD, collapse_padding=True
    )
    for column in sheet.columns:
        name = column.removeprefix("|")
        is_number = column.startswith("|")
        table.add_column(name, justify="right" if is_number else "left", no_wrap=name not in FOLDING, overflow="fold")
    before = ""
    for row in sheet.rows:
        first = "" if row[0] == before else row[0]
        before = row[0]
        table.add_row(*(Text(visible(cell)) for cell in (first, *row[1:])))
    return table


def escaped(text: str) -> str:
    """The text inside a cell of a Markdown table."""
    plain = visible(text).replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"[|`*~]|(?<=\])(?=[(\[])|(?<!\w)_|_(?!\w)", r"\\\g<0>", plain)
