"""Runs side by side: in a terminal and as Markdown. Names come from folders and files: they are text."""

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crescent.reading.differing import NOTABLE, told_by
from crescent.reading.differing import labels as what_differs
from crescent.reading.ranking import TOLD_APART, Paired, Ranking, Standing
from crescent.reading.rounds import Measured, RoundRow
from crescent.reading.runs import OverSeeds, RunTable, mean_and_deviation
from crescent.records import CHECKPOINT_NAME, Comparison, round_label
from crescent.run_folder.metric_names import AGREEMENT, NEAR_DUPLICATE_DROP_RATE, NEW_PAIRS, QUESTIONS, TOKENS
from crescent.show.texts import UNKNOWN, Sheet, _gain, _interval, _p, spread, visible

VALUE_CHARACTERS = 160
NAMED = 5
"""Runs that a sentence names; the table has all."""
UNFINISHED = ("not finished", "running", "interrupted", "failed", "damaged")
"""Begin the status of a run that has rounds to come."""
ROOM_BESIDE_NAMES = 70
"""Columns that the widest table needs beside the names of the runs."""
FOLDING = {"run", "name", "status", "folder", "runs", "value", "setting", "benchmark"}
"""Columns whose texts may go over several lines; numbers never do."""
NARROW = {QUESTIONS: "ques-\ntions", AGREEMENT: "agree-\nment", NEAR_DUPLICATE_DROP_RATE: "drop\nrate"}
"""Labels over two lines, for a narrow table."""
FOLDED = 12
"""Characters that are left of them in a line at least."""
NAMING = {"round", "|round", "checkpoint", "benchmark"}
"""Columns that say, beside the first, what a row is about."""
EXPLAINED = (
    "accuracy: 95 % Wilson interval; to the base: the same items, 95 % paired bootstrap interval, exact McNemar p "
    "(not adjusted for looking at many); test benchmarks decide nothing",
    "strict, flexible: the answer as it was asked for, and the last number anywhere; maj@k, pass@k: the majority of an "
    "item's k answers, and whether any is right",
    "; ".join(metric.explained for metric in (AGREEMENT, NEAR_DUPLICATE_DROP_RATE, TOKENS)),
)


def show(found: RunTable, console: Console) -> None:
    """Fitted to the console: where what the runs are called is too long, they are numbered."""
    names = called(found)
    longest = max(len(visible(its)) for its in names.values())
    if longest > max(4, console.width - ROOM_BESIDE_NAMES):
        names = {run.name: f"#{place}" for place, run in enumerate(found.runs, 1)}
    for line in headline(found, names):
        console.print(Text(visible(line)))
    for sheet in sheets(found, names, short=console.width < 2 * longest + 100):
        if _room(sheet) <= console.width:
            console.print(_table(sheet))
        else:
            console.print(Text("\n".join(visible(line) for line in _records(sheet))))
    for line in _lines(found):
        console.print(Text(visible(line)))


def called(found: RunTable) -> dict[str, str]:
    """What the tables call the runs: by the settings that differ, where that is shorter than their names."""
    return what_differs(found.settings, [run.name for run in found.runs])


def as_text(found: RunTable) -> str:
    """What a terminal of 120 columns shows."""
    text = io.StringIO()
    show(found, Console(file=text, width=120, markup=False, highlight=False, emoji=False, color_system=None))
    return text.getvalue()


def as_markdown(found: RunTable) -> str:
    """Tables of GitHub's kind."""
    names = called(found)
    parts = ["\n".join(f"- {_escaped(line)}" for line in told)] if (told := headline(found, names)) else []
    for sheet in sheets(found, names, short=False):
        rule = ["---:" if its.startswith("|") else "---" for its in sheet.columns]
        rows = [[_escaped(its.removeprefix("|")) for its in sheet.columns], rule]
        rows += [[_escaped(its) for its in row] for row in sheet.rows]
        parts.append(f"### {_escaped(sheet.title)}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows))
    return "\n\n".join([*parts, "\n".join(f"- {_escaped(line)}" for line in _lines(found))]) + "\n"


def sheets(found: RunTable, labels: dict[str, str], short: bool) -> Iterator[Sheet]:
    """All tables. `short`: without what can be read elsewhere in them."""
    numbered = any(name != label for name, label in labels.items())
    if found.ranking:
        yield ranking_sheet(found, found.ranking, labels)
    yield Sheet(
        "runs",
        ("run", *(("name",) if numbered else ()), "status", "|seed", "folder"),
        [
            (labels[run.name], *((run.name,) if numbered else ()), run.status, run.seed or UNKNOWN, str(run.folder))
            for run in found.runs
        ],
    )
    measures = [f"|{NARROW[metric] if short else metric.label}" for metric in NARROW]
    yield Sheet(
        "rounds",
        ("run", "checkpoint", "verdict", *measures, f"|{NEW_PAIRS.label}", f"|{TOKENS.label}", "|hours"),
        [_round(labels[run.name], row, short, short or numbered) for run in found.runs for row in run.rows],
    )
    yield from _benchmarks(found, labels, short)
    if found.paired:
        yield Sheet(
            f"against {labels[found.paired[0].first]}: the same items, paired",
            ("run", "benchmark", "|points", "|p", "|p (Holm)", "|gained", "|lost"),
            [_paired(its, labels) for its in found.paired],
        )
    if found.seeds:
        yield seeds_sheet(found, labels)
    if found.settings:
        yield Sheet(
            "settings that differ",
            ("setting", "value", "runs"),
            [
                ("" if place else its.key, _shortened(value), ", ".join(labels[name] for name in names))
                for its in found.settings
                for place, (value, names) in enumerate(its.runs_by_value.items())
            ],
        )


def headline(found: RunTable, labels: Mapping[str, str]) -> list[str]:
    """What it came to, in sentences: the claim, and what limits it. None where nothing can be ranked."""
    ranking = found.ranking
    if ranking is None:
        return []
    best, *others = ranking.standings
    names = _standings(found, ranking, labels)
    many = f"{len(others) + 1} {'settings' if ranking.seeds else 'runs'}"
    equals = sum(its.accuracy == best.accuracy for its in others)
    on = f"on {' and '.join(ranking.benchmarks)} ({ranking.items} items)"
    if not others:
        lines = [f"One setting {on}: {_told(best)}."]
    elif equals == len(others):
        lines = [f"None of {many} came out better than another {on}. {names[best.runs]}: {_told(best)}."]
    else:
        beside = f", equal with {equals} of the others," if equals else ""
        lines = [f"{names[best.runs]} came out best of {many}{beside} {on}: {_told(best)}."]
    lines += _limits(best)
    if not any(best.accepted) and (taken := next((its for its in others if any(its.accepted)), None)):
        lines.append(f"The best that was accepted is {names[taken.runs]}: {_told(taken)}.")
    if (most := max(len(its.runs) for its in ranking.standings)) > len(best.runs):
        lines.append(f"It rests on {len(best.runs)} of up to {most} seeds.")
    compared = [its for its in others if its.to_best]
    worse = [names[its.runs] for its in compared if its.worse_than(best)]
    alike = [names[its.runs] for its in compared if not its.worse_than(best)]
    if compared:
        test = "exact paired test" if ranking.seeds else "exact McNemar"
        rule = f"p <= {TOLD_APART:g}, {test} on the same items, Holm over {len(compared)}"
        rule += ", and a lead wider than the seeds' deviations" if ranking.seeds else ""
        told = f"It can be told from {_some(worse, len(compared))}" if worse else "It cannot be told from any other"
        lines.append(f"{told} ({rule}){f'; not from {_some(alike)}' if worse and alike else ''}.")
    if apart := [f"{names[its.runs]} ({its.why})" for its in others if its.why]:
        lines.append(f"Not compared with it: {_some(apart)}.")
    if equals < len(others):
        lines.append(f"Being picked as the best of {len(others) + 1} flatters it: expect less on new items.")
    for name, gains in best.tests.items():
        lines.append(f"On {name}, by which nothing was chosen, it gains {_gains(gains)} points.")
    if others and not best.tests:
        lines.append("There is no test benchmark to say how much less.")
    placed = {name for its in ranking.standings for name in its.runs}
    if begun := [labels[run.name] for run in found.runs if run.name in placed and run.status.startswith(UNFINISHED)]:
        lines.append(f"Ranked as far as they went, and not finished: {_some(begun)}.")
    if ranking.left_out:
        lines.append(f"Without a place: {_some([f'{labels[its]} ({why})' for its, why in ranking.left_out.items()])}.")
    return lines


def _told(its: Standing) -> str:
    accuracy = f"{100 * its.accuracy:.1f}"
    if its.gain:
        return f"{accuracy} %, {_gain(its.gain)} points over its own base"
    gains = spread(its.gains, "+")
    return f"{accuracy} ± {100 * its.deviation:.1f} %, {gains} points over their bases (means of {len(its.runs)} seeds)"


def _limits(best: Standing) -> Iterator[str]:
    """What the numbers of the best do not show."""
    if best.gain and (best.gain.difference <= 0 or best.gain.p_value > TOLD_APART):
        yield f"That is not shown to be better than its own base (p = {_p(best.gain.p_value)})."
    elif not best.gain and mean_and_deviation(best.gains)[0] <= (mean_and_deviation(best.gains)[1] or 0.0):
        yield "That gain is not wider than the seeds' deviation."
    if not all(best.accepted):
        whose = "Its child was not accepted" if best.gain else f"{sum(best.accepted)} of its children were accepted"
        yield f"{whose}; a run that accepts none ends with its base."


def _gains(gains: Sequence[Comparison]) -> str:
    return _gain(gains[0]) if len(gains) == 1 else spread([its.difference for its in gains], "+")


def _some(names: Sequence[str], of: int = 0) -> str:
    """a, b and 3 more; `of` so many, all of them are just that."""
    if len(names) == of > 1:
        return f"all {of} others"
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def ranking_sheet(found: RunTable, ranking: Ranking, labels: Mapping[str, str]) -> Sheet:
    """The trained runs, or settings by their means over seeds, best first."""
    names = _standings(found, ranking, labels)
    rows: list[tuple[str, ...]] = []
    for its in ranking.standings:
        accuracy, gain = (f"{100 * its.accuracy:.1f}", _gain(its.gain)) if its.gain else _spreads(its)
        to_best = its.to_best
        beside = (_gain(to_best), _p(to_best.p_holm)) if to_best else (its.why or "best", UNKNOWN)
        rows.append((names[its.runs], _children(its, ranking.seeds), accuracy, gain, *beside))
    over = ", means over seeds ± standard deviation" if ranking.seeds else ""
    title = f"best first: {' and '.join(ranking.benchmarks)}, {ranking.items} items{over}"
    kind = "setting" if ranking.seeds else "run"
    return Sheet(
        title, (kind, "child", "|accuracy %", "|to the base, points", "|to the best, points", "|p (Holm)"), rows
    )


def _spreads(its: Standing) -> tuple[str, str]:
    return spread(its.accuracies, ""), spread(its.gains, "+")


def _children(its: Standing, seeds: bool) -> str:
    if not seeds:
        return f"round {its.rounds[0]}" + ("" if its.accepted[0] else ", not accepted")
    accepted = "" if all(its.accepted) else f", {sum(its.accepted)} accepted"
    return f"{len(its.runs)} seed{'s' if len(its.runs) > 1 else ''}{accepted}"


def _standings(found: RunTable, ranking: Ranking, labels: Mapping[str, str]) -> dict[tuple[str, ...], str]:
    """What is ranked: runs, or settings."""
    groups = [its.runs for its in ranking.standings]
    return (
        of_settings(found, groups, ("run.seed",), labels) if ranking.seeds else {its: labels[its[0]] for its in groups}
    )


def of_settings(
    found: RunTable, groups: Sequence[tuple[str, ...]], without: Sequence[str], labels: Mapping[str, str]
) -> dict[tuple[str, ...], str]:
    """What runs have in common, by the settings that differ from others'; where that does not tell, their names."""
    told = told_by(found.settings, without)
    values = {its: told.get(its[0], "all seeds" if len(set(groups)) == 1 else "") for its in groups}
    unique = len(set(values.values())) == len(values) and all(values.values())
    return values if unique else {its: ", ".join(labels[name] for name in its) for its in groups}


def _round(label: str, row: RoundRow, short: bool, cut: bool) -> tuple[str, ...]:
    """`cut`: checkpoints without the names of their runs."""
    checkpoint = row.checkpoint or f"{round_label(row.round)} untrained"
    if cut and (name := CHECKPOINT_NAME.fullmatch(row.checkpoint or "")):
        checkpoint = name["own"]
    return (
        label,
        checkpoint,
        row.verdict or UNKNOWN,
        _number(row.questions, "{:.0f}"),
        _number(row.agreement, "{:.2f}"),
        _number(row.near_duplicate_drop_rate, "{:.2f}"),
        _number(row.pairs, "{:.0f}"),
        UNKNOWN if row.tokens is None else _thousands(row.tokens) if short else f"{row.tokens:.0f}",
        UNKNOWN if row.seconds is None else _hours(row.seconds),
    )


def _benchmarks(found: RunTable, labels: dict[str, str], short: bool) -> Iterator[Sheet]:
    """One table for each set of items, dev before test."""
    rows = [
        (not its.score.decides, its.score.benchmark, its.item_set or f"unknown/{run.name}", place, row.round, run, its)
        for place, run in enumerate(found.runs)
        for row in run.rows
        for its in row.measured
    ]
    unparsed = "|un-\nparsed" if short else "|unparsed"
    for (test, name, _), group in groupby(sorted(rows, key=lambda its: its[:5]), key=lambda its: its[:3]):
        members = list(group)
        items = members[0][-1].items
        sheet = Sheet(
            f"{name}: {'test' if test else 'dev'}, {f'{items} items' if items else 'items not known'}",
            ("run", "round", "|accuracy %", "|to the base, points", "|p", unparsed),
            [],
        )
        others = {what: read for what, read in READINGS.items() if any(read(its) for *_, its in members)}
        also = Sheet(
            f"{name}: the same responses, read otherwise", ("run", "round", *(f"|{its}" for its in others)), []
        )
        beside = 0 if short else len(others)
        for *_, number, run, its in members:
            place = (labels[run.name], "base" if number == 0 else str(number))
            read_otherwise = tuple(read(its) or UNKNOWN for read in others.values())
            sheet.rows.append((*place, *_accuracy(its), *read_otherwise[:beside]))
            also.rows.append((*place, *read_otherwise))
            if number == 0 and (voted := run.majority.get(name)):
                share = _interval(voted.majority, voted.majority_low, voted.majority_high)
                sheet.rows.append((labels[run.name], f"maj@{voted.samples}", share, *[UNKNOWN] * (3 + beside)))
        yield sheet if short else replace(sheet, columns=(*sheet.columns, *also.columns[2:]))
        if short and others:
            yield also


def _paired(its: Paired, labels: dict[str, str]) -> tuple[str, ...]:
    found = its.comparison
    counts = str(found.gained), str(found.lost)
    return labels[its.run], found.benchmark, _gain(found), _p(found.p_value), _p(found.p_holm), *counts


def _of_k(its: Measured, share: float | None) -> str:
    """With how many answers an item had: runs that asked differently often may stand side by side."""
    return "" if share is None else f"{100 * share:.1f} (k={its.score.samples})"


READINGS: dict[str, Callable[[Measured], str]] = {
    "strict %": lambda its: _of_all(its, its.score.strict),
    "flexible %": lambda its: _of_all(its, its.score.flexible),
    "maj@k %": lambda its: _of_k(its, its.score.majority),
    "pass@k %": lambda its: _of_k(its, its.score.pass_at.get(str(its.score.samples))),
}
"""What the same responses come to, read otherwise; empty where they have no such reading."""


def _of_all(its: Measured, count: int | None) -> str:
    return "" if count is None else f"{100 * count / its.score.total:.1f}"


def _accuracy(its: Measured) -> tuple[str, ...]:
    score, gain = its.score, its.against_base
    return (
        _interval(score.accuracy, score.low, score.high),
        _gain(gain) if gain else UNKNOWN,
        _p(gain.p_value) if gain else UNKNOWN,
        str(score.unparsed),
    )


def seeds_sheet(found: RunTable, labels: Mapping[str, str]) -> Sheet:
    """What runs that differ in nothing but their seed have in common, in the order of the ranking."""
    names = of_settings(found, [its.runs for its in found.seeds], NOTABLE, labels)
    order = found.ranking.order(list(labels)) if found.ranking else list(labels)
    ranked = sorted(found.seeds, key=lambda its: min(map(order.index, its.runs)))
    return Sheet(
        "over seeds: mean ± standard deviation of runs that differ in nothing else",
        ("setting", "benchmark", "|round", "|n", "|accuracy %", "|to the base"),
        [_over_seeds(its, names[its.runs]) for its in ranked],
    )


def _over_seeds(its: OverSeeds, name: str) -> tuple[str, ...]:
    accuracy, difference = spread(its.accuracies, ""), spread(its.differences, "+")
    return name, its.benchmark, str(its.round or "base"), str(len(its.runs)), accuracy, difference


def _lines(found: RunTable) -> Iterator[str]:
    yield from EXPLAINED
    for run in found.runs:
        for name, its in run.majority.items():
            yield (
                f"maj@{its.samples} in {run.name}: what voting gives the base on {its.items} items of {name} without "
                "any training, the yardstick for its children"
            )
    yield from (f"{run.name}: {note}" for run in found.runs for note in run.missing)
    yield from found.notes


def _room(sheet: Sheet) -> int:
    """Columns of a console in which no number of the table is cut."""
    room = 2
    for place, column in enumerate(sheet.columns):
        name = column.removeprefix("|")
        longest = max(
            len(visible(line)) for its in (name, *(row[place] for row in sheet.rows)) for line in its.split("\n")
        )
        room += 2 + (min(longest, FOLDED) if name in FOLDING else longest)
    return room


def _records(sheet: Sheet) -> Iterator[str]:
    """The same for a narrow console: of each row what it is about, and below that its cells by name."""
    names = [its.removeprefix("|").replace("-\n", "").replace("\n", " ") for its in sheet.columns]
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
        right = column.startswith("|")
        table.add_column(name, justify="right" if right else "left", no_wrap=name not in FOLDING, overflow="fold")
    before = ""
    for row in sheet.rows:
        first = "" if row[0] == before else row[0]
        before = row[0]
        table.add_row(*(Text(visible(its)) for its in (first, *row[1:])))
    return table


def _escaped(text: str) -> str:
    """As text inside a cell of a Markdown table."""
    plain = visible(text).replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"[|`*~]|(?<=\])(?=[(\[])|(?<!\w)_|_(?!\w)", r"\\\g<0>", plain)


def _shortened(text: str) -> str:
    more = len(text) - VALUE_CHARACTERS
    return text if more <= 0 else f"{text[:VALUE_CHARACTERS]}… ({more} more characters)"


def _number(value: float | None, form: str) -> str:
    return UNKNOWN if value is None else form.format(value)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.{2 if seconds >= 360 else 3}f}"


def _thousands(count: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.1f}{letter}"
    return f"{count:.0f}"
