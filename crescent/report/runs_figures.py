"""The charts of several runs: gain by setting, and accuracy over the rounds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from crescent.judging.wording import (
    OUTCOMES,
    first_few,
    percent,
    percent_number,
    percent_with_interval,
    points_number_with_interval,
)
from crescent.reading.differing_settings import INCIDENTAL, NOT_SET, DifferingSetting, distinct, in_order, number_of
from crescent.reading.ranking import representative_child
from crescent.reading.rounds import EVALUATION_ONLY, BenchmarkResult, RoundSummary
from crescent.reading.runs import ComparedRuns
from crescent.records import Comparison
from crescent.report.charts import Line, Point, line_plot, mark_legend
from crescent.report.figures import Figure, whole_percent
from crescent.report.gain_by_settings import NAMED, VALUES, RunGain, division, gain_figure, numeric_axis
from crescent.report.run import RunReport
from crescent.report.run_headline import gain_text
from crescent.report.svg import CHARACTER, LEFT, WIDTH, Mark
from crescent.report.texts import plural
from crescent.show.texts import UNKNOWN, Sheet

MULTIPLES = 24
"""Runs of a benchmark that have a chart of their own."""
VALUE_CHARACTERS = 24


@dataclass(frozen=True)
class SharedBenchmark:
    """One set of items, and the runs that were asked it."""

    name: str
    decides: bool
    items: int
    members: tuple[RunReport, ...]
    key: tuple[str, str]
    """Name of the benchmark, and digest of its items' ids."""

    def result(self, round_: RoundSummary) -> BenchmarkResult | None:
        own = (result for result in round_.results if (result.score.benchmark, result.item_set) == self.key)
        return next(own, None)

    def results(self, report: RunReport) -> list[tuple[RoundSummary, BenchmarkResult]]:
        rounds = report.summary.rounds
        return [(round_, result) for round_ in rounds if (result := self.result(round_)) is not None]


def gain_of(benchmark: SharedBenchmark, report: RunReport) -> tuple[RoundSummary, Comparison] | None:
    """The round of the child that stands for the run, and its gain over the run's own base."""
    child = representative_child(report.summary)
    result = benchmark.result(child) if child else None
    return (child, result.against_base) if child and result and result.against_base else None


def mark_of(round_: RoundSummary) -> Mark:
    """Filled for an accepted child, hollow for all others."""
    return "accept" if round_.action == "accept" else "roll back"


def is_numeric(setting: DifferingSetting) -> bool:
    return all(number_of(value) is not None for value in setting.runs_by_value)


def all_settings_figure(benchmark: SharedBenchmark, compared: ComparedRuns, labels: Mapping[str, str]) -> Figure | None:
    """One line for each run through all settings that differ, to its gain."""
    runs = []
    for report in benchmark.members:
        if report.summary.status != EVALUATION_ONLY:
            round_, gain = gain_of(benchmark, report) or (representative_child(report.summary), None)
            runs.append(RunGain(report.name, round_, gain, labels[report.name]))
    return gain_figure(benchmark.name, runs, compared.settings)


Gains = Mapping[str, tuple[RoundSummary, Comparison]]
"""The child that stands for a run and its gain, by run."""


def setting_figures(benchmark: SharedBenchmark, compared: ComparedRuns, labels: Mapping[str, str]) -> Iterator[Figure]:
    """Gain by each setting that differs, seeds included: they show how much chance alone changes the gain."""
    gains = {report.name: gain for report in benchmark.members if (gain := gain_of(benchmark, report)) is not None}
    # Settings that divide these runs in the same way share a chart.
    by_division: dict[tuple[tuple[str, ...], ...], list[DifferingSetting]] = {}
    for setting in compared.settings:
        runs = {
            value: tuple(name for name in gains if name in members) for value, members in setting.runs_by_value.items()
        }
        known = [value for value in in_order(runs) if runs[value]]
        numeric = numeric_axis(known) is not None
        if len(known) >= 2 and (len(known) <= VALUES or numeric):
            drawn = DifferingSetting(setting.key, {value: runs[value] for value in known})
            by_division.setdefault(division(list(drawn.runs_by_value.values()), numeric), []).append(drawn)
    for settings in by_division.values():
        shown, *others = sorted(settings, key=lambda setting: setting.key.startswith(INCIDENTAL))
        yield _setting_figure(benchmark, shown, gains, labels, [other.key for other in others])


def _setting_figure(
    benchmark: SharedBenchmark,
    setting: DifferingSetting,
    gains: Gains,
    labels: Mapping[str, str],
    confounded: Sequence[str],
) -> Figure:
    known = list(setting.runs_by_value)
    numeric = numeric_axis(known)
    values = distinct(known, VALUE_CHARACTERS)
    room = (WIDTH - LEFT) / len(known)
    categories, key = distinct(known, max(8, int(room / CHARACTER) - 2)), ""
    if not numeric and len(set(categories.values())) < len(known):
        # Values that look the same in so little room get letters.
        categories = dict(zip(known, ascii_uppercase, strict=False))
        key = "; " + ", ".join(f"{letter} {values[value]}" for value, letter in categories.items())
    points = []
    for place, value in enumerate(known):
        if numeric and value == NOT_SET:
            continue
        members = setting.runs_by_value[value]
        for nth, name in enumerate(members):
            round_, gain = gains[name]
            # Side by side, so that no interval hides another.
            sidestep = nth - (len(members) - 1) / 2
            x = place + sidestep * min(0.16, 0.7 / len(members))
            if numeric:
                x = numeric.places[value] + sidestep * 0.02
            tooltip = f"{name}: {gain_text(gain)}"
            points.append(Point(x, gain.difference, tooltip, gain.low, gain.high, mark_of(round_)))
    rows: list[tuple[str, ...]] = [
        (values[value], labels[name], points_number_with_interval(gain.difference, gain.low, gain.high))
        for value in known
        for name in setting.runs_by_value[value]
        for _, gain in [gains[name]]
    ]
    marks = list(dict.fromkeys(point.mark for point in points))
    confounding = f". In these runs it is confounded with {first_few(confounded, NAMED)}" if confounded else ""
    return Figure(
        title=f"Gain by {setting.key}",
        picture=line_plot(
            [Line("", tuple(points), joined=False)],
            numeric.ticks if numeric else list(categories.values()),
            _whole_points,
            x_title=setting.key + (" (log)" if numeric and numeric.log else ""),
            least_span=0.02,
            zero=True,
        ),
        description=f"Gain over the base of {plural(len(points), 'run')} by {setting.key}.",
        numbers=Sheet(f"{benchmark.name}: gain by {setting.key}", (setting.key, "run", "|points"), rows),
        note=f"points over the run’s own base, with 95% intervals; one mark for each run{key}{confounding}",
        legend=tuple(
            (swatch, "accepted" if mark == "accept" else "not accepted")
            for (swatch, _), mark in zip(mark_legend(marks), marks, strict=True)
        ),
    )


def accuracy_figures(benchmark: SharedBenchmark, labels: Mapping[str, str]) -> Iterator[Figure]:
    """Accuracy over the rounds, one chart for each run, on the same axes, with the others behind it."""
    shown = benchmark.members[:MULTIPLES]
    results = {report.name: benchmark.results(report) for report in benchmark.members}
    last = max(round_.round for own in results.values() for round_, _ in own)
    scores = [result.score for own in results.values() for _, result in own]
    categories = ["base", *(str(number) for number in range(1, last + 1))]
    ends = (min(score.low for score in scores), max(score.high for score in scores))
    # The same axis for all: an invisible point at either end of it.
    frame = Line("", tuple(Point(0, end, "") for end in ends), "ghost", joined=False)
    for report in shown:
        others = [
            Line(
                "",
                tuple(Point(round_.round, result.score.accuracy, "") for round_, result in results[other.name]),
                "ghost",
            )
            for other in shown
            if other is not report
        ]
        own = [_accuracy_point(round_, result, categories) for round_, result in results[report.name]]
        rows: list[tuple[str, ...]] = [
            (
                categories[round_.round],
                OUTCOMES[round_.action] if round_.action else UNKNOWN,
                percent_number(result.score.accuracy),
            )
            for round_, result in results[report.name]
        ]
        yield Figure(
            title=labels[report.name],
            picture=line_plot(
                [*others, frame, Line("", tuple(own))],
                categories,
                whole_percent,
                x_title="round",
                bounds=(0.0, 1.0),
            ),
            description=f"Accuracy on {benchmark.name} from {percent(own[0].y)} to {percent(own[-1].y)}.",
            numbers=Sheet(f"{labels[report.name]}: {benchmark.name}", ("round", "verdict", "|accuracy %"), rows),
        )


def _accuracy_point(round_: RoundSummary, result: BenchmarkResult, categories: Sequence[str]) -> Point:
    score = result.score
    return Point(
        round_.round,
        score.accuracy,
        f"{categories[round_.round]}: {percent_with_interval(score.accuracy, score.low, score.high)}",
        score.low,
        score.high,
        "base" if round_.round == 0 else mark_of(round_),
    )


def _whole_points(difference: float) -> str:
    return f"{100 * difference:+g}" if difference else "0"
