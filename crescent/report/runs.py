"""Several runs side by side: the settings that differ between them, and their results.

Runs are compared only on the same items. A run that has no result yet, or that was asked other items, is named and left
out.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from crescent.judging.wording import (
    OUTCOMES,
    p_number,
    percent_number_with_interval,
    points_number_with_interval,
)
from crescent.reading.differing_settings import DifferingSetting, distinct, in_order, incidental
from crescent.reading.ranking import Ranking, representative_child
from crescent.reading.rounds import EVALUATION_ONLY, BenchmarkResult
from crescent.reading.runs import ComparedRuns
from crescent.report.charts import interval_picture
from crescent.report.costs import points_per_hour
from crescent.report.figures import Figure
from crescent.report.gain_by_settings import division
from crescent.report.run import RunReport
from crescent.report.runs_figures import (
    MULTIPLES,
    SharedBenchmark,
    accuracy_figures,
    all_settings_figure,
    gain_of,
    is_numeric,
    mark_of,
    setting_figures,
)
from crescent.report.texts import number, per_hour, plural, unbroken
from crescent.show.compare import labels_of
from crescent.show.compare_tables import ranking_sheet, seeds_sheet
from crescent.show.headline import headline
from crescent.show.texts import UNKNOWN, Sheet

COLUMNS = 5
"""Differing settings that are columns of the table of runs; where there are more, all stand in a table of their own."""
UNFOLDED = 8
"""Most runs whose charts are visible at once; more are folded."""
SHORTEST_S = 300.0
"""Seconds that a run must have taken for its points per hour to be shown."""
VALUE_CHARACTERS = 24
REASON_CHARACTERS = 200

Labels = Mapping[str, str]
"""Labels of the runs, by their names."""


@dataclass(frozen=True)
class BenchmarkSection:
    """The part of the page about one shared benchmark."""

    benchmark: SharedBenchmark
    gains: Sheet | None
    """Gains of the runs; `None` where nothing was trained."""
    rounds: Sheet
    all_settings: Figure | None
    """All settings with the gain; `None` where there are too few runs, and for test benchmarks."""
    by_setting: tuple[Figure, ...]
    accuracies: tuple[Figure, ...]
    """Accuracy over the rounds, one figure for each run."""


@dataclass(frozen=True)
class ComparisonReport:
    """Several runs together."""

    reports: tuple[RunReport, ...]
    """Reports of the runs, best first."""
    labels: Labels
    claim: str
    """Result in a sentence; empty where nothing can be ranked."""
    grounds: tuple[str, ...]
    """What supports the claim, and what limits it."""
    ranking: Sheet | None
    runs: Sheet
    sections: tuple[BenchmarkSection, ...]
    seeds: Sheet | None
    """Means over seeds."""
    settings: Sheet | None
    models: Sheet | None
    """Models that were only evaluated, each compared with the first."""
    verdicts: Sheet
    notes: tuple[str, ...]
    missing: tuple[str, ...]
    """What the runs' own reports cannot show."""


def read_comparison(compared: ComparedRuns, reports: Sequence[RunReport]) -> ComparisonReport:
    """The page's content, from what `crescent.reading.runs.compare_runs` says of the same runs, in the same order."""
    labels = labels_of(compared)
    order = compared.ranking.order(list(labels)) if compared.ranking else list(labels)
    reports = sorted(reports, key=lambda report: order.index(report.name))
    benchmarks = list(_shared_benchmarks(reports))
    claim, *grounds = map(_typeset, headline(compared, labels) or [""])
    return ComparisonReport(
        reports=tuple(reports),
        labels=labels,
        claim=claim,
        grounds=tuple(grounds),
        ranking=_ranking_sheet(compared, compared.ranking, labels) if compared.ranking else None,
        runs=_runs_sheet(compared, reports, labels),
        sections=tuple(_section(benchmark, compared, labels) for benchmark in benchmarks),
        seeds=_seeds_sheet(compared, labels) if compared.seed_groups else None,
        settings=_settings_sheet(compared, reports, labels) if len(compared.settings) > COLUMNS else None,
        models=_models_sheet(compared, labels),
        verdicts=_verdicts_sheet(reports, labels),
        notes=tuple(_notes(compared, reports, benchmarks, labels)),
        missing=tuple(f"{labels[report.name]}: {line}" for report in reports for line in report.missing),
    )


def _section(benchmark: SharedBenchmark, compared: ComparedRuns, labels: Labels) -> BenchmarkSection:
    decides = benchmark.decides  # Settings must not be tuned to what only a test benchmark shows.
    return BenchmarkSection(
        benchmark=benchmark,
        gains=_gains_sheet(benchmark, labels),
        rounds=_rounds_sheet(benchmark, labels),
        all_settings=all_settings_figure(benchmark, compared, labels) if decides else None,
        by_setting=tuple(setting_figures(benchmark, compared, labels)) if decides else (),
        accuracies=tuple(accuracy_figures(benchmark, labels)),
    )


def _typeset(line: str) -> str:
    return unbroken(line.replace("<=", "≤"))


def _ranking_sheet(compared: ComparedRuns, ranking: Ranking, labels: Labels) -> Sheet:
    """As in a terminal, with a picture of each difference to the best."""
    sheet = ranking_sheet(compared, ranking, labels)
    comparisons = [standing.against_best for standing in ranking.standings if standing.against_best]
    edges = [edge for comparison in comparisons for edge in (comparison.low, comparison.high)]
    domain = (min([0.0, *edges]), max([0.0, *edges]))
    rows: list[tuple[str, ...]] = []
    for standing, (name, *cells, p) in zip(ranking.standings, sheet.rows, strict=True):
        difference = standing.against_best
        picture = interval_picture(difference.difference, difference.low, difference.high, domain) if difference else ""
        rows.append((name, *map(unbroken, cells), picture, p))
    return Sheet(_capitalised(sheet.title), (*sheet.columns[:-1], "", sheet.columns[-1]), rows)


def _seeds_sheet(compared: ComparedRuns, labels: Labels) -> Sheet:
    """As in a terminal."""
    sheet = seeds_sheet(compared, labels)
    return replace(sheet, title=_capitalised(sheet.title))


def _capitalised(title: str) -> str:
    return title[:1].upper() + title[1:]


def _runs_sheet(compared: ComparedRuns, reports: Sequence[RunReport], labels: Labels) -> Sheet:
    settings = _most_telling(compared.settings)[:COLUMNS]
    texts = {setting.key: distinct(list(setting.runs_by_value), VALUE_CHARACTERS) for setting in settings}
    has_rate = any(report.costs.rate is not None for report in reports)
    gains = {report.name: _points_per_hour(report) for report in reports}
    has_gains = any(gain is not None for gain in gains.values())
    is_renamed = any(labels[report.name] != report.name for report in reports)
    rows: list[tuple[str, ...]] = []
    for report in reports:
        costs, gain = report.costs, gains[report.name]
        money = costs.money(costs.seconds())
        rows.append(
            (
                labels[report.name],
                *(_value(report, setting.key, texts[setting.key]) for setting in settings),
                report.summary.status,
                _accepted_rounds(report),
                number(costs.hours),
                *((UNKNOWN if money is None else f"{money:,.2f}",) if has_rate else ()),
                *((UNKNOWN if gain is None else per_hour(gain),) if has_gains else ()),
                *((report.name,) if is_renamed else ()),
            )
        )
    columns = (
        "run",
        *(_heading(setting) for setting in settings),
        "status",
        "|accepted",
        "|machine-hours",
        *(("|money",) if has_rate else ()),
        *(("|points/hour",) if has_gains else ()),
        *(("name",) if is_renamed else ()),
    )
    return Sheet("Runs and their differing settings", columns, rows)


def _heading(setting: DifferingSetting) -> str:
    return f"|{setting.key}" if is_numeric(setting) else setting.key


def _most_telling(settings: Sequence[DifferingSetting]) -> list[DifferingSetting]:
    """Settings that a sweep is about first; of settings that divide these runs in the same way, one."""
    by_division: dict[tuple[tuple[str, ...], ...], DifferingSetting] = {}
    for setting in sorted(settings, key=lambda setting: (incidental(setting.key), setting.key)):
        members = [setting.runs_by_value[value] for value in in_order(setting.runs_by_value)]
        by_division.setdefault(division(members, is_numeric(setting)), setting)
    return list(by_division.values())


def _value(report: RunReport, key: str, texts: Mapping[str, str]) -> str:
    if report.summary.settings is None:
        return UNKNOWN
    value = report.setting(key)
    return UNKNOWN if value is None else texts[value]


def _points_per_hour(report: RunReport) -> float | None:
    """Points of the accepted child that stands for the run; `None` for a run that is too short to count by the hour."""
    child = representative_child(report.summary)
    if child is None or child.action != "accept" or report.costs.until(child.round) < SHORTEST_S:
        return None
    return points_per_hour(child, report.costs)


def _settings_sheet(compared: ComparedRuns, reports: Sequence[RunReport], labels: Labels) -> Sheet:
    """All differing settings, by run."""
    texts = {setting.key: distinct(list(setting.runs_by_value), VALUE_CHARACTERS) for setting in compared.settings}
    columns = [_heading(setting) for setting in compared.settings]
    rows: list[tuple[str, ...]] = [
        (labels[report.name], *(_value(report, key, values) for key, values in texts.items())) for report in reports
    ]
    return Sheet(f"All {len(columns)} settings that differ", ("run", *columns), rows)


def _verdicts_sheet(reports: Sequence[RunReport], labels: Labels) -> Sheet:
    """How each run ended, in a line."""
    rows: list[tuple[str, ...]] = []
    for report in reports:
        judged = [(round_.round, round_.verdict) for round_ in report.summary.rounds if round_.verdict is not None]
        reason, outcome = report.headline.claim, UNKNOWN
        if judged:
            last, verdict = judged[-1]
            reason, outcome = verdict.reason, f"round {last} {OUTCOMES[verdict.action]}"
        cut = reason if len(reason) <= REASON_CHARACTERS else f"{reason[: REASON_CHARACTERS - 1]}…"
        rows.append((labels[report.name], _accepted_rounds(report), outcome, cut))
    return Sheet("Last verdict of each run", ("run", "|accepted", "|last verdict", "reason"), rows)


def _accepted_rounds(report: RunReport) -> str:
    accepted = [str(round_.number) for round_ in report.rounds if round_.summary.action == "accept"]
    return f"round{'s' if len(accepted) > 1 else ''} {', '.join(accepted)}" if accepted else "none"


def _shared_benchmarks(reports: Sequence[RunReport]) -> Iterator[SharedBenchmark]:
    """One for each set of items that at least two runs were asked, deciding ones first."""
    members: dict[tuple[str, str], list[RunReport]] = defaultdict(list)
    results: dict[tuple[str, str], BenchmarkResult] = {}
    for report in reports:
        own = {
            (result.score.benchmark, result.item_set): result
            for round_ in report.summary.rounds
            for result in round_.results
        }
        results |= own
        for benchmark, item_set in own:
            if item_set:
                members[benchmark, item_set].append(report)
    for key in sorted(members, key=lambda key: (not results[key].score.decides, key)):
        if len(members[key]) > 1:
            yield SharedBenchmark(key[0], results[key].score.decides, results[key].items, tuple(members[key]), key)


def _gains_sheet(benchmark: SharedBenchmark, labels: Labels) -> Sheet | None:
    """`None` where nothing was trained: models that were only evaluated have no base."""
    trained = [report for report in benchmark.members if report.summary.status != EVALUATION_ONLY]
    if not trained:
        return None
    gains = {report.name: gain_of(benchmark, report) for report in trained}
    edges = [edge for found in gains.values() if found for edge in (found[1].low, found[1].high)]
    domain = (min([0.0, *edges]), max([0.0, *edges]))
    rows: list[tuple[str, ...]] = []
    for name, found in gains.items():
        if found is None:
            rows.append((labels[name], "none judged yet", UNKNOWN, "", UNKNOWN))
            continue
        round_, gain = found
        rows.append(
            (
                labels[name],
                f"round {round_.round}" + ("" if round_.action == "accept" else ", not accepted"),
                points_number_with_interval(gain.difference, gain.low, gain.high),
                interval_picture(gain.difference, gain.low, gain.high, domain, mark_of(round_)),
                f"{gain.gained} / {gain.lost}",
            )
        )
    title = f"{benchmark.name}: gain over the run’s own base, in points, with 95% interval"
    return Sheet(title, ("run", "child", "|points", "", "|gained / lost"), rows)


def _models_sheet(compared: ComparedRuns, labels: Labels) -> Sheet | None:
    if not compared.models:
        return None
    comparisons = [model.comparison for model in compared.models]
    edges = [edge for comparison in comparisons for edge in (comparison.low, comparison.high, 0.0)]
    domain = (min(edges), max(edges))
    rows: list[tuple[str, ...]] = []
    for model in compared.models:
        difference = model.comparison
        rows.append(
            (
                labels[model.run],
                difference.benchmark,
                points_number_with_interval(difference.difference, difference.low, difference.high),
                interval_picture(difference.difference, difference.low, difference.high, domain),
                p_number(difference.p_value),
                p_number(difference.p_holm),
                f"{difference.gained} / {difference.lost} / {difference.items}",
            )
        )
    columns = ("model", "benchmark", "|points", "", "|p", "|p (Holm)", "|gained / lost / items")
    return Sheet(f"Models compared with {labels[compared.models[0].reference]} on the same items", columns, rows)


def _rounds_sheet(benchmark: SharedBenchmark, labels: Labels) -> Sheet:
    """Accuracy, with rounds as columns and runs as rows."""
    last = max(round_.round for report in benchmark.members for round_, _ in benchmark.results(report))
    rows: list[tuple[str, ...]] = []
    for report in benchmark.members:
        scores = {round_.round: (round_, result.score) for round_, result in benchmark.results(report)}
        cells = []
        for place in range(last + 1):
            if place not in scores:
                cells.append(UNKNOWN)
                continue
            round_, score = scores[place]
            outcome = f" ({OUTCOMES[round_.action]})" if round_.action else ""
            cells.append(f"{percent_number_with_interval(score.accuracy, score.low, score.high)}{outcome}")
        rows.append((labels[report.name], *cells))
    heads = ["|base", *(f"|round {place}" for place in range(1, last + 1))]
    return Sheet(f"{benchmark.name}: accuracy % by round, 95% interval, verdict", ("run", *heads), rows)


def _notes(
    compared: ComparedRuns, reports: Sequence[RunReport], benchmarks: Sequence[SharedBenchmark], labels: Labels
) -> Iterator[str]:
    """What is not compared, and why."""
    yield from compared.notes
    made_by = defaultdict(list)
    for report in reports:
        made_by[", ".join(report.versions) or "unknown"].append(labels[report.name])
    if len(made_by) > 1:
        versions = "; ".join(f"{version}: {', '.join(members)}" for version, members in made_by.items())
        yield f"The runs were made by different versions of Crescent, which may explain differences ({versions})."
    for report in reports:
        if representative_child(report.summary) is None and report.summary.status != EVALUATION_ONLY:
            status = report.summary.status
            yield f"{labels[report.name]}: no child judged yet, so there is no gain to compare ({status})."
    shared = {report.name for benchmark in benchmarks for report in benchmark.members}
    for report in reports:
        if report.summary.rounds and report.name not in shared:
            yield f"{labels[report.name]}: shares no items with another run, so its scores are not compared."
    for benchmark in benchmarks:
        if len(benchmark.members) > MULTIPLES:
            members = plural(len(benchmark.members), "run")
            yield f"{benchmark.name}: {members}, charts of the first {MULTIPLES}; the tables have all."
    if not compared.seed_groups and sum(report.summary.status != EVALUATION_ONLY for report in reports) > 1:
        yield "No two runs differ only in their seed, so the variation between seeds is not known."
