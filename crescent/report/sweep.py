"""Several runs side by side: what differs between them, and what came of it.

Compared is on the same items only; a run that did not get so far, or was asked other items, is named and left out.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from crescent.compare import Measured, RoundRow, RunTable
from crescent.paired import ALONE
from crescent.records import Comparison
from crescent.report.charts import Line, Mark, Point, interval, line_plot, mark_legend
from crescent.report.content import RunReport, gain_text
from crescent.report.costs import points_per_hour
from crescent.report.figures import Figure
from crescent.report.parallel import INCIDENTAL, VALUES, Outcome, in_order, named, number_of, parallel_figure, short
from crescent.report.texts import (
    UNKNOWN,
    number,
    p_value,
    per_hour,
    percent,
    plural,
    points_with_interval,
    with_interval,
)
from crescent.show_compare import Sheet, seeds_sheet

COLUMNS = 5
"""Differing settings that are columns of the table of runs; more stand in a table of their own."""
MULTIPLES = 24
"""Runs of a benchmark that have a chart of their own."""


@dataclass(frozen=True)
class Panel:
    """One set of items, and the runs that were asked it."""

    benchmark: str
    decides: bool
    items: int
    members: tuple[RunReport, ...]
    key: tuple[str, str]
    """Name of the benchmark, and what stands for the ids of its items."""

    def of(self, row: RoundRow) -> Measured | None:
        return next((its for its in row.measured if (its.score.benchmark, its.item_set) == self.key), None)

    def rows(self, report: RunReport) -> list[tuple[RoundRow, Measured]]:
        return [(row, its) for row in report.rows.rows if (its := self.of(row)) is not None]


@dataclass(frozen=True)
class Compared:
    """What the runs of one panel came to."""

    panel: Panel
    gains: Sheet | None
    """`None` where nothing was trained."""
    rounds: Sheet
    parallel: Figure | None
    """All settings together with what came of them; `None` where there is too little for it, or it decides nothing."""
    by_setting: tuple[Figure, ...]
    multiples: tuple[Figure, ...]
    """One for each run."""


@dataclass(frozen=True)
class Sweep:
    """Everything that is shown of several runs together."""

    runs: Sheet
    panels: tuple[Compared, ...]
    seeds: Sheet | None
    """Means over seeds."""
    settings: Sheet | None
    paired: Sheet | None
    """Models that were evaluated alone, each against the first."""
    notes: tuple[str, ...]


def read_sweep(found: RunTable, reports: Sequence[RunReport]) -> Sweep:
    """From what `crescent.compare.compare` says of the same runs, in the same order."""
    many = len(found.settings) > COLUMNS
    panels = []
    for panel in _panels(reports):
        # What only a test set shows is not to be tuned to.
        parallel = _parallel(panel, found) if panel.decides else None
        by_setting = tuple(_by_setting(panel, found)) if panel.decides else ()
        panels.append(Compared(panel, _gains(panel), _rounds(panel), parallel, by_setting, tuple(_multiples(panel))))
    settings = None
    if many:
        rows: list[tuple[str, ...]] = [
            ("" if place else its.key, value, ", ".join(names))
            for its in found.settings
            for place, (value, names) in enumerate(its.runs_by_value.items())
        ]
        settings = Sheet("Settings that differ", ("setting", "value", "runs"), rows)
    return Sweep(
        runs=_runs(found, reports, not many),
        panels=tuple(panels),
        seeds=seeds_sheet(found, {run.name: run.name for run in found.runs}) if found.seeds else None,
        settings=settings,
        paired=_paired(found),
        notes=tuple(_notes(found, reports)),
    )


def final(report: RunReport) -> RoundRow | None:
    """The child a run is judged by: the last accepted; where there is none, the one that came nearest."""
    accepted = [its for its in report.rows.rows if its.verdict == "accept"]
    judged = [its for its in report.rows.rows if its.judged is not None]
    nearest = max(judged, key=lambda its: its.judged.difference if its.judged else -1.0, default=None)
    return accepted[-1] if accepted else nearest


def _runs(found: RunTable, reports: Sequence[RunReport], with_settings: bool) -> Sheet:
    keys = [its.key for its in found.settings] if with_settings else []
    paid = any(its.ledger.rate is not None for its in reports)
    rows: list[tuple[str, ...]] = []
    for report in reports:
        chosen, ledger = final(report), report.ledger
        yielded = points_per_hour(chosen, ledger) if chosen and chosen.verdict == "accept" else None
        money = ledger.money(ledger.seconds())
        rows.append(
            (
                report.name,
                *(short(report.setting(key) or UNKNOWN) for key in keys),
                report.rows.status,
                _rounds_accepted(report),
                number(ledger.hours),
                *((UNKNOWN if money is None else f"{money:,.2f}",) if paid else ()),
                UNKNOWN if yielded is None else per_hour(yielded),
            )
        )
    shown = [f"|{key}" if _numeric(found, key) else key for key in keys]
    columns = (
        "run",
        *shown,
        "status",
        "accepted",
        "|machine-hours",
        *(("|money",) if paid else ()),
        "|points per hour (of a GPU, where there is one)",
    )
    return Sheet("Runs, and what differs between them", columns, rows)


def _rounds_accepted(report: RunReport) -> str:
    accepted = [str(its.number) for its in report.rounds if its.row.verdict == "accept"]
    return f"round{'s' if len(accepted) > 1 else ''} {', '.join(accepted)}" if accepted else "none"


def _panels(reports: Sequence[RunReport]) -> Iterator[Panel]:
    """One for each set of items that at least two runs were asked, deciding ones first."""
    members: dict[tuple[str, str], list[RunReport]] = defaultdict(list)
    about: dict[tuple[str, str], Measured] = {}
    for report in reports:
        for key in dict.fromkeys(
            (its.score.benchmark, its.item_set) for row in report.rows.rows for its in row.measured
        ):
            if key[1]:
                members[key].append(report)
        for row in report.rows.rows:
            about |= {(its.score.benchmark, its.item_set): its for its in row.measured}
    for key in sorted(members, key=lambda its: (not about[its].score.decides, its)):
        if len(members[key]) > 1:
            its = about[key]
            yield Panel(key[0], its.score.decides, its.items, tuple(members[key]), key)


def _gain(panel: Panel, report: RunReport) -> tuple[RoundRow, Comparison] | None:
    chosen = final(report)
    measured = panel.of(chosen) if chosen else None
    return (chosen, measured.against_base) if chosen and measured and measured.against_base else None


def _mark(row: RoundRow) -> Mark:
    return "accept" if row.verdict == "accept" else "roll back"


def _gains(panel: Panel) -> Sheet | None:
    """`None` where nothing was trained: models that were evaluated alone have no base."""
    found = [(report, _gain(panel, report)) for report in panel.members if report.rows.status != ALONE]
    if not found:
        return None
    edges = [0.0, *(edge for _, its in found if its for edge in (its[1].low, its[1].high))]
    domain = (min(edges), max(edges))
    rows: list[tuple[str, ...]] = []
    for report, its in found:
        if its is None:
            rows.append((report.name, "none judged yet", UNKNOWN, "", UNKNOWN))
            continue
        row, gain = its
        rows.append(
            (
                report.name,
                f"round {row.round}" + ("" if row.verdict == "accept" else ", not accepted"),
                points_with_interval(gain.difference, gain.low, gain.high),
                interval(gain.difference, gain.low, gain.high, domain, _mark(row)),
                f"{gain.gained} / {gain.lost}",
            )
        )
    title = f"{panel.benchmark}: gain over the run’s own base, points with 95 % interval"
    return Sheet(title, ("run", "child", "|points", "", "|gained / lost"), rows)


def _paired(found: RunTable) -> Sheet | None:
    edges = [edge for its in found.paired for edge in (its.comparison.low, its.comparison.high, 0.0)]
    if not edges:
        return None
    domain = (min(edges), max(edges))
    rows: list[tuple[str, ...]] = []
    for its in found.paired:
        gain = its.comparison
        rows.append(
            (
                its.run,
                gain.benchmark,
                points_with_interval(gain.difference, gain.low, gain.high),
                interval(gain.difference, gain.low, gain.high, domain),
                p_value(gain.p_value),
                p_value(gain.p_holm),
                f"{gain.gained} / {gain.lost} / {gain.items}",
            )
        )
    columns = ("model", "benchmark", "|points", "", "|p", "|p (Holm)", "|gained / lost / items")
    return Sheet(f"Models evaluated alone, against {found.paired[0].first} on the same items", columns, rows)


def _rounds(panel: Panel) -> Sheet:
    """Rounds as columns, runs as rows."""
    last = max(row.round for report in panel.members for row, _ in panel.rows(report))
    rows: list[tuple[str, ...]] = []
    for report in panel.members:
        cells = {row.round: (row, its.score) for row, its in panel.rows(report)}
        texts = []
        for place in range(last + 1):
            if place not in cells:
                texts.append(UNKNOWN)
                continue
            row, score = cells[place]
            verdict = f" ({row.verdict})" if row.verdict else ""
            texts.append(f"{with_interval(score.accuracy, score.low, score.high)}{verdict}")
        rows.append((report.name, *texts))
    names = ["|base", *(f"|round {place}" for place in range(1, last + 1))]
    return Sheet(f"{panel.benchmark}: accuracy % by round, 95 % interval, verdict", ("run", *names), rows)


def _parallel(panel: Panel, found: RunTable) -> Figure | None:
    outcomes = []
    for report in panel.members:
        if report.rows.status != ALONE:
            its = _gain(panel, report)
            outcomes.append(Outcome(report.name, its[0] if its else final(report), its[1] if its else None))
    return parallel_figure(panel.benchmark, outcomes, found.settings)


def _by_setting(panel: Panel, found: RunTable) -> Iterator[Figure]:
    """Gain against each setting that differs, seeds among them: what luck does is the measure of all others."""
    gains = [(report, its) for report in panel.members if (its := _gain(panel, report)) is not None]
    # Settings that divide the runs in the same way share a chart: these runs cannot tell them apart.
    told_apart: dict[frozenset[frozenset[str]], list[tuple[str, list[str], dict[str, str]]]] = {}
    for differing in found.settings:
        values = {name: value for value, names in differing.runs_by_value.items() for name in names}
        known = in_order({values[report.name] for report, _ in gains if report.name in values})
        if 2 <= len(known) <= VALUES:
            alike = frozenset(
                frozenset(report.name for report, _ in gains if values.get(report.name) == its) for its in known
            )
            told_apart.setdefault(alike, []).append((differing.key, known, values))
    for settings in told_apart.values():
        (key, known, values), *others = sorted(settings, key=lambda its: its[0].startswith(INCIDENTAL))
        yield _setting_figure(panel, key, known, values, gains, [other for other, *_ in others])


def _setting_figure(
    panel: Panel,
    key: str,
    known: Sequence[str],
    values: Mapping[str, str],
    gains: Sequence[tuple[RunReport, tuple[RoundRow, Comparison]]],
    others: Sequence[str],
) -> Figure:
    by_value: dict[str, list[tuple[RunReport, RoundRow, Comparison]]] = defaultdict(list)
    for report, (row, gain) in gains:
        if report.name in values:
            by_value[values[report.name]].append((report, row, gain))
    drawn = []
    for place, value in enumerate(known):
        many = len(by_value[value])
        for nth, (report, row, gain) in enumerate(by_value[value]):
            # Side by side within their column, so that no interval hides another.
            x = place + (nth - (many - 1) / 2) * min(0.16, 0.7 / many)
            says = f"{report.name}: {gain_text(gain)}"
            drawn.append(Point(x, gain.difference, says, gain.low, gain.high, _mark(row)))
    rows: list[tuple[str, ...]] = [
        (short(value), report.name, points_with_interval(gain.difference, gain.low, gain.high))
        for value in known
        for report, _, gain in by_value[value]
    ]
    marks = list(dict.fromkeys(its.mark for its in drawn))
    along = f". These runs cannot tell it from {named(others)}" if others else ""
    return Figure(
        title=f"Gain by {key}",
        picture=line_plot(
            [Line("", tuple(drawn), joined=False)], [short(its) for its in known], _points, (), key, None, 0.02, True
        ),
        says=f"Gain over the base of {plural(len(drawn), 'run')} by {key}.",
        numbers=Sheet(f"{panel.benchmark}: gain by {key}", (key, "run", "|points"), rows),
        note=f"points over the run’s own base, with 95 % intervals; one mark for each run{along}",
        legend=tuple((swatch, "not accepted" if its == "rolled back" else its) for swatch, its in mark_legend(marks)),
    )


def _multiples(panel: Panel) -> Iterator[Figure]:
    """Accuracy over the rounds, one chart a run, on the same axes, the others behind it."""
    shown = panel.members[:MULTIPLES]
    last = max(row.round for report in panel.members for row, _ in panel.rows(report))
    scores = [its.score for report in panel.members for _, its in panel.rows(report)]
    names = ["base", *(str(its) for its in range(1, last + 1))]
    ends = (min(its.low for its in scores), max(its.high for its in scores))
    for report in shown:
        others = [
            Line("", tuple(Point(row.round, its.score.accuracy, "") for row, its in panel.rows(other)), "ghost")
            for other in shown
            if other is not report
        ]
        own = [
            Point(
                row.round,
                its.score.accuracy,
                f"{names[row.round]}: {with_interval(its.score.accuracy, its.score.low, its.score.high)} %",
                its.score.low,
                its.score.high,
                "base" if row.round == 0 else _mark(row),
            )
            for row, its in panel.rows(report)
        ]
        # The same axis for all: an invisible point at either end of it.
        frame = Line("", tuple(Point(0, its, "") for its in ends), "ghost", joined=False)
        rows: list[tuple[str, ...]] = [
            (names[row.round], row.verdict or UNKNOWN, percent(its.score.accuracy)) for row, its in panel.rows(report)
        ]
        yield Figure(
            title=report.name,
            picture=line_plot(
                [*others, frame, Line("", tuple(own))], names, lambda its: f"{100 * its:g}", (), "round", (0.0, 1.0)
            ),
            says=f"{report.name}: accuracy on {panel.benchmark} from {percent(own[0].y)} % to {percent(own[-1].y)} %.",
            numbers=Sheet(f"{report.name}: {panel.benchmark}", ("round", "verdict", "|accuracy %"), rows),
        )


def _notes(found: RunTable, reports: Sequence[RunReport]) -> Iterator[str]:
    """What is not compared, and why."""
    yield from found.notes
    made_by = defaultdict(list)
    for report in reports:
        made_by[", ".join(report.versions) or "unknown"].append(report.name)
    if len(made_by) > 1:
        told = "; ".join(f"{version}: {', '.join(names)}" for version, names in made_by.items())
        yield f"The runs were made by different versions of Crescent ({told}): what differs may be the versions’ doing."
    for report in reports:
        if final(report) is None and report.rows.status != ALONE:
            yield f"{report.name}: no child judged yet, so it has no gain to compare ({report.rows.status})."
    panels = list(_panels(reports))
    compared = {report.name for panel in panels for report in panel.members}
    for report in reports:
        if report.rows.rows and report.name not in compared:
            yield f"{report.name}: shares no items with another run, so its scores stand alone."
    for panel in panels:
        if len(panel.members) > MULTIPLES:
            members = plural(len(panel.members), "run")
            yield f"{panel.benchmark}: {members}, charts of the first {MULTIPLES}; all are in the tables."
    if not found.seeds and sum(report.rows.status != ALONE for report in reports) > 1:
        yield "No two runs differ in nothing but their seed: how much of a difference is luck, they cannot tell."


def _numeric(found: RunTable, key: str) -> bool:
    values = next(its for its in found.settings if its.key == key).runs_by_value
    return all(number_of(its) is not None for its in values)


def _points(value: float) -> str:
    return f"{100 * value:+g}".replace("-", "−") if value else "0"
