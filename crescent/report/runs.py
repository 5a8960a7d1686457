"""Several runs side by side: what differs between them, and what came of it.

Compared is on the same items only; a run that did not get so far, or was asked other items, is named and left out.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from crescent.reading.differing import ABSENT, INCIDENTAL, Differing, distinct, in_order, incidental, number_of
from crescent.reading.ranking import Ranking, final
from crescent.reading.rounds import ALONE, Measured, RoundRow
from crescent.reading.runs import RunTable
from crescent.records import Comparison
from crescent.report.charts import CHARACTER, LEFT, WIDTH, Line, Mark, Point, interval, line_plot, mark_legend
from crescent.report.costs import points_per_hour
from crescent.report.figures import Figure
from crescent.report.parallel import VALUES, Outcome, division, named, numeric_axis, parallel_figure
from crescent.report.run import RunReport, gain_text
from crescent.report.texts import (
    UNKNOWN,
    number,
    p_value,
    per_hour,
    percent,
    plural,
    points_with_interval,
    unbroken,
    with_interval,
)
from crescent.show.compare import called, headline, ranking_sheet, seeds_sheet
from crescent.show.texts import Sheet

COLUMNS = 5
"""Differing settings that are columns of the table of runs; where there are more, all stand in a table of their own."""
MULTIPLES = 24
"""Runs of a benchmark that have a chart of their own."""
UNFOLDED = 8
"""Runs whose charts are seen at once; those of more are folded."""
WORTH = 300.0
"""Seconds of a machine before points are counted by the hour."""
VALUE_CHARACTERS = 24
REASON_CHARACTERS = 200

Names = Mapping[str, str]
"""What the runs are called, by their names."""


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

    reports: tuple[RunReport, ...]
    """Best first."""
    names: Names
    claim: str
    """What it came to; empty where nothing can be ranked."""
    grounds: tuple[str, ...]
    ranking: Sheet | None
    runs: Sheet
    panels: tuple[Compared, ...]
    seeds: Sheet | None
    """Means over seeds."""
    settings: Sheet | None
    paired: Sheet | None
    """Models that were evaluated alone, each against the first."""
    verdicts: Sheet
    notes: tuple[str, ...]
    missing: tuple[str, ...]
    """What the runs' own reports cannot tell."""


def read_sweep(found: RunTable, reports: Sequence[RunReport]) -> Sweep:
    """From what `crescent.reading.runs.compare` says of the same runs, in the same order."""
    names = called(found)
    order = found.ranking.order(list(names)) if found.ranking else list(names)
    reports = sorted(reports, key=lambda its: order.index(its.name))
    panels = []
    for panel in _panels(reports):
        # What only a test set shows is not to be tuned to.
        parallel = _parallel(panel, found, names) if panel.decides else None
        by_setting = tuple(_by_setting(panel, found, names)) if panel.decides else ()
        multiples = tuple(_multiples(panel, names))
        panels.append(Compared(panel, _gains(panel, names), _rounds(panel, names), parallel, by_setting, multiples))
    claim, *grounds = map(_typeset, headline(found, names) or [""])
    return Sweep(
        reports=tuple(reports),
        names=names,
        claim=claim,
        grounds=tuple(grounds),
        ranking=_ranking(found, found.ranking, names) if found.ranking else None,
        runs=_runs(found, reports, names),
        panels=tuple(panels),
        seeds=seeds_sheet(found, names) if found.seeds else None,
        settings=_settings(found, reports, names) if len(found.settings) > COLUMNS else None,
        paired=_paired(found, names),
        verdicts=_verdicts(reports, names),
        notes=tuple(_notes(found, reports, names)),
        missing=tuple(f"{names[its.name]}: {line}" for its in reports for line in its.missing),
    )


def _typeset(line: str) -> str:
    """As the page writes numbers."""
    return unbroken(re.sub(r"(?<![\w=.-])-(?=\d)", "−", line).replace("<=", "≤").replace("seeds' ", "seeds’ "))


def _ranking(found: RunTable, ranking: Ranking, names: Names) -> Sheet:
    """As in a terminal, with a picture of how far each is from the best."""
    its = ranking_sheet(found, ranking, names)
    edges = [edge for each in ranking.standings if each.to_best for edge in (each.to_best.low, each.to_best.high)]
    domain = (min([0.0, *edges]), max([0.0, *edges]))
    rows: list[tuple[str, ...]] = []
    for standing, (name, *cells, p) in zip(ranking.standings, its.rows, strict=True):
        to_best = standing.to_best
        picture = interval(to_best.difference, to_best.low, to_best.high, domain) if to_best else ""
        rows.append((name, *map(_typeset, cells), picture, p))
    return Sheet(its.title, (*its.columns[:-1], "", its.columns[-1]), rows)


def _runs(found: RunTable, reports: Sequence[RunReport], names: Names) -> Sheet:
    shown = _telling(found.settings)[:COLUMNS]
    written = {its.key: distinct(list(its.runs_by_value), VALUE_CHARACTERS) for its in shown}
    paid = any(its.ledger.rate is not None for its in reports)
    yields = {its.name: _per_hour(its) for its in reports}
    hourly = any(its is not None for its in yields.values())
    named_otherwise = any(names[its.name] != its.name for its in reports)
    rows: list[tuple[str, ...]] = []
    for report in reports:
        ledger, gained = report.ledger, yields[report.name]
        money = ledger.money(ledger.seconds())
        rows.append(
            (
                names[report.name],
                *(_value(report, its.key, written[its.key]) for its in shown),
                report.rows.status,
                _rounds_accepted(report),
                number(ledger.hours),
                *((UNKNOWN if money is None else f"{money:,.2f}",) if paid else ()),
                *((UNKNOWN if gained is None else per_hour(gained),) if hourly else ()),
                *((report.name,) if named_otherwise else ()),
            )
        )
    columns = (
        "run",
        *(f"|{its.key}" if _numeric(its) else its.key for its in shown),
        "status",
        "|accepted",
        "|machine-hours",
        *(("|money",) if paid else ()),
        *(("|points/hour",) if hourly else ()),
        *(("name",) if named_otherwise else ()),
    )
    return Sheet("Runs, and what differs between them", columns, rows)


def _telling(settings: Sequence[Differing]) -> list[Differing]:
    """Those a sweep is about first; of those that these runs cannot tell apart, one."""
    found: dict[tuple[tuple[str, ...], ...], Differing] = {}
    for its in sorted(settings, key=lambda its: (incidental(its.key), its.key)):
        members = [its.runs_by_value[value] for value in in_order(its.runs_by_value)]
        found.setdefault(division(members, _numeric(its)), its)
    return list(found.values())


def _value(report: RunReport, key: str, written: Mapping[str, str]) -> str:
    if report.rows.settings is None:
        return UNKNOWN
    value = report.setting(key)
    return UNKNOWN if value is None else written[value]


def _per_hour(report: RunReport) -> float | None:
    """Of an accepted child; `None` of a run so short that the hour says nothing."""
    chosen = final(report.rows)
    if chosen is None or chosen.verdict != "accept" or report.ledger.until(chosen.round) < WORTH:
        return None
    return points_per_hour(chosen, report.ledger)


def _settings(found: RunTable, reports: Sequence[RunReport], names: Names) -> Sheet:
    """All that differ, by run."""
    written = {its.key: distinct(list(its.runs_by_value), VALUE_CHARACTERS) for its in found.settings}
    columns = [f"|{its.key}" if _numeric(its) else its.key for its in found.settings]
    rows: list[tuple[str, ...]] = [
        (names[report.name], *(_value(report, key, values) for key, values in written.items())) for report in reports
    ]
    return Sheet(f"All {len(columns)} settings that differ", ("run", *columns), rows)


def _verdicts(reports: Sequence[RunReport], names: Names) -> Sheet:
    """How each run ended, in a line."""
    rows: list[tuple[str, ...]] = []
    for report in reports:
        judged = [its for its in report.rows.rows if its.judged is not None]
        last = judged[-1] if judged else None
        reason = last.judged.reason if last and last.judged else report.headline.claim
        cut = reason if len(reason) <= REASON_CHARACTERS else f"{reason[: REASON_CHARACTERS - 1]}…"
        verdict = f"round {last.round}: {last.verdict}" if last else UNKNOWN
        rows.append((names[report.name], _rounds_accepted(report), verdict, cut))
    return Sheet("Last verdict of each run", ("run", "|accepted", "|last verdict", "reason"), rows)


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
    chosen = final(report.rows)
    measured = panel.of(chosen) if chosen else None
    return (chosen, measured.against_base) if chosen and measured and measured.against_base else None


def _mark(row: RoundRow) -> Mark:
    return "accept" if row.verdict == "accept" else "roll back"


def _gains(panel: Panel, names: Names) -> Sheet | None:
    """`None` where nothing was trained: models that were evaluated alone have no base."""
    found = [(report, _gain(panel, report)) for report in panel.members if report.rows.status != ALONE]
    if not found:
        return None
    edges = [0.0, *(edge for _, its in found if its for edge in (its[1].low, its[1].high))]
    domain = (min(edges), max(edges))
    rows: list[tuple[str, ...]] = []
    for report, its in found:
        if its is None:
            rows.append((names[report.name], "none judged yet", UNKNOWN, "", UNKNOWN))
            continue
        row, gain = its
        rows.append(
            (
                names[report.name],
                f"round {row.round}" + ("" if row.verdict == "accept" else ", not accepted"),
                points_with_interval(gain.difference, gain.low, gain.high),
                interval(gain.difference, gain.low, gain.high, domain, _mark(row)),
                f"{gain.gained} / {gain.lost}",
            )
        )
    title = f"{panel.benchmark}: gain over the run’s own base, points with 95 % interval"
    return Sheet(title, ("run", "child", "|points", "", "|gained / lost"), rows)


def _paired(found: RunTable, names: Names) -> Sheet | None:
    edges = [edge for its in found.paired for edge in (its.comparison.low, its.comparison.high, 0.0)]
    if not edges:
        return None
    domain = (min(edges), max(edges))
    rows: list[tuple[str, ...]] = []
    for its in found.paired:
        gain = its.comparison
        rows.append(
            (
                names[its.run],
                gain.benchmark,
                points_with_interval(gain.difference, gain.low, gain.high),
                interval(gain.difference, gain.low, gain.high, domain),
                p_value(gain.p_value),
                p_value(gain.p_holm),
                f"{gain.gained} / {gain.lost} / {gain.items}",
            )
        )
    columns = ("model", "benchmark", "|points", "", "|p", "|p (Holm)", "|gained / lost / items")
    return Sheet(f"Models evaluated alone, against {names[found.paired[0].first]} on the same items", columns, rows)


def _rounds(panel: Panel, names: Names) -> Sheet:
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
        rows.append((names[report.name], *texts))
    heads = ["|base", *(f"|round {place}" for place in range(1, last + 1))]
    return Sheet(f"{panel.benchmark}: accuracy % by round, 95 % interval, verdict", ("run", *heads), rows)


def _parallel(panel: Panel, found: RunTable, names: Names) -> Figure | None:
    outcomes = []
    for report in panel.members:
        if report.rows.status != ALONE:
            its = _gain(panel, report)
            row, gain = its or (final(report.rows), None)
            outcomes.append(Outcome(report.name, row, gain, names[report.name]))
    return parallel_figure(panel.benchmark, outcomes, found.settings)


def _by_setting(panel: Panel, found: RunTable, names: Names) -> Iterator[Figure]:
    """Gain against each setting that differs, seeds among them: what luck does is the measure of all others."""
    gains = {report.name: its for report in panel.members if (its := _gain(panel, report)) is not None}
    # Settings that these runs cannot tell apart share a chart.
    told_apart: dict[tuple[tuple[str, ...], ...], list[Differing]] = {}
    for each in found.settings:
        runs = {value: tuple(its for its in gains if its in members) for value, members in each.runs_by_value.items()}
        known = [value for value in in_order(runs) if runs[value]]
        numeric = numeric_axis(known) is not None
        if len(known) >= 2 and (len(known) <= VALUES or numeric):
            differing = Differing(each.key, {value: runs[value] for value in known})
            told_apart.setdefault(division(list(differing.runs_by_value.values()), numeric), []).append(differing)
    for settings in told_apart.values():
        shown, *others = sorted(settings, key=lambda its: its.key.startswith(INCIDENTAL))
        yield _setting_figure(panel, shown, gains, names, [other.key for other in others])


def _setting_figure(
    panel: Panel,
    setting: Differing,
    gains: Mapping[str, tuple[RoundRow, Comparison]],
    names: Names,
    others: Sequence[str],
) -> Figure:
    known = list(setting.runs_by_value)
    numeric = numeric_axis(known)
    room = (WIDTH - LEFT) / len(known)
    full = distinct(known, VALUE_CHARACTERS)
    written, key = distinct(known, max(8, int(room / CHARACTER) - 2)), ""
    if not numeric and len(set(written.values())) < len(known):
        written = dict(zip(known, ascii_uppercase, strict=False))
        key = "; " + ", ".join(f"{letter} {full[value]}" for value, letter in written.items())
    drawn = []
    for place, value in enumerate(known):
        if numeric and value == ABSENT:
            continue
        members = setting.runs_by_value[value]
        for nth, name in enumerate(members):
            row, gain = gains[name]
            # Side by side, so that no interval hides another.
            aside = nth - (len(members) - 1) / 2
            x = numeric.places[value] + aside * 0.02 if numeric else place + aside * min(0.16, 0.7 / len(members))
            drawn.append(Point(x, gain.difference, f"{name}: {gain_text(gain)}", gain.low, gain.high, _mark(row)))
    rows: list[tuple[str, ...]] = [
        (full[value], names[name], points_with_interval(gain.difference, gain.low, gain.high))
        for value in known
        for name in setting.runs_by_value[value]
        for _, gain in [gains[name]]
    ]
    marks = list(dict.fromkeys(its.mark for its in drawn))
    along = f". These runs cannot tell it from {named(others)}" if others else ""
    return Figure(
        title=f"Gain by {setting.key}",
        picture=line_plot(
            [Line("", tuple(drawn), joined=False)],
            numeric.ticks if numeric else list(written.values()),
            _points,
            x_title=setting.key + (" (log)" if numeric and numeric.log else ""),
            least_span=0.02,
            zero=True,
        ),
        says=f"Gain over the base of {plural(len(drawn), 'run')} by {setting.key}.",
        numbers=Sheet(f"{panel.benchmark}: gain by {setting.key}", (setting.key, "run", "|points"), rows),
        note=f"points over the run’s own base, with 95 % intervals; one mark for each run{key}{along}",
        legend=tuple((swatch, "not accepted" if its == "rolled back" else its) for swatch, its in mark_legend(marks)),
    )


def _multiples(panel: Panel, names: Names) -> Iterator[Figure]:
    """Accuracy over the rounds, one chart a run, on the same axes, the others behind it."""
    shown = panel.members[:MULTIPLES]
    last = max(row.round for report in panel.members for row, _ in panel.rows(report))
    scores = [its.score for report in panel.members for _, its in panel.rows(report)]
    rounds = ["base", *(str(its) for its in range(1, last + 1))]
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
                f"{rounds[row.round]}: {with_interval(its.score.accuracy, its.score.low, its.score.high)} %",
                its.score.low,
                its.score.high,
                "base" if row.round == 0 else _mark(row),
            )
            for row, its in panel.rows(report)
        ]
        # The same axis for all: an invisible point at either end of it.
        frame = Line("", tuple(Point(0, its, "") for its in ends), "ghost", joined=False)
        rows: list[tuple[str, ...]] = [
            (rounds[row.round], row.verdict or UNKNOWN, percent(its.score.accuracy)) for row, its in panel.rows(report)
        ]
        yield Figure(
            title=names[report.name],
            picture=line_plot(
                [*others, frame, Line("", tuple(own))], rounds, lambda its: f"{100 * its:g}", (), "round", (0.0, 1.0)
            ),
            says=f"Accuracy on {panel.benchmark} from {percent(own[0].y)} % to {percent(own[-1].y)} %.",
            numbers=Sheet(f"{names[report.name]}: {panel.benchmark}", ("round", "verdict", "|accuracy %"), rows),
        )


def _notes(found: RunTable, reports: Sequence[RunReport], names: Names) -> Iterator[str]:
    """What is not compared, and why."""
    yield from found.notes
    made_by = defaultdict(list)
    for report in reports:
        made_by[", ".join(report.versions) or "unknown"].append(names[report.name])
    if len(made_by) > 1:
        told = "; ".join(f"{version}: {', '.join(members)}" for version, members in made_by.items())
        yield f"The runs were made by different versions of Crescent ({told}): what differs may be the versions’ doing."
    for report in reports:
        if final(report.rows) is None and report.rows.status != ALONE:
            yield f"{names[report.name]}: no child judged yet, so it has no gain to compare ({report.rows.status})."
    panels = list(_panels(reports))
    compared = {report.name for panel in panels for report in panel.members}
    for report in reports:
        if report.rows.rows and report.name not in compared:
            yield f"{names[report.name]}: shares no items with another run, so its scores stand alone."
    for panel in panels:
        if len(panel.members) > MULTIPLES:
            members = plural(len(panel.members), "run")
            yield f"{panel.benchmark}: {members}, charts of the first {MULTIPLES}; all are in the tables."
    if not found.seeds and sum(report.rows.status != ALONE for report in reports) > 1:
        yield "No two runs differ in nothing but their seed: how much of a difference is luck, they cannot tell."


def _numeric(its: Differing) -> bool:
    return all(number_of(value) is not None for value in its.runs_by_value)


def _points(value: float) -> str:
    return f"{100 * value:+g}".replace("-", "−") if value else "0"
