"""The runs of a sweep as lines: from the settings that differ, through what happened on the way, to the gain."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from crescent.judging.wording import first_few, points_number, points_number_with_interval
from crescent.reading.differing_settings import (
    NOT_SET,
    DifferingSetting,
    distinct,
    in_order,
    incidental,
    number_of,
    short,
)
from crescent.reading.rounds import RoundSummary
from crescent.records import Comparison
from crescent.report.charts import ticks
from crescent.report.figures import Figure
from crescent.report.parallel_axes import NUMBERED, STEPS, Axis, Track, parallel_plot, track_legend
from crescent.report.svg import Mark
from crescent.report.texts import listed, plural
from crescent.run_folder.metric import Metric, Unit
from crescent.run_folder.metric_names import AGREEMENT, NEAR_DUPLICATE_DROP_RATE, NEW_PAIRS, QUESTIONS
from crescent.show.texts import UNKNOWN, Sheet

AXES = 8
SETTINGS = 5
"""Axes for settings, if all axes of what happened on the way are wanted; more where these leave room."""
LINES = 40
FEWEST_RUNS = 3
"""Fewest runs with a gain; the table of runs shows the difference between two more quickly."""
DECADES = 1.5
"""Positive values that span more decades stand on a logarithmic axis."""
LEAST_LOG = 1e-100
"""Smallest number on a logarithmic axis."""
NAMED_NUMBERS = 7
"""Most different numbers of a setting that are each named on its axis; more stand on a scale."""
VALUES = 12
"""Most values of a setting that fit side by side."""
LABEL_CHARACTERS = 16
PREFERRED = (AGREEMENT.heading, NEW_PAIRS.heading)
"""Axes of what happened on the way that are kept where there is no room for all."""
NAMED = 4
"""Settings that are named where several differ in the same way."""
LOOKS: dict[Mark, str] = {"accept": "accepted", "roll back": "not accepted", "dot": "no child judged"}

Ticks = tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class RunGain:
    """The result of one run on one benchmark."""

    name: str
    round_: RoundSummary | None
    """Round of the child that stands for the run, `None` before any was judged."""
    gain: Comparison | None
    label: str = ""
    """Label of the run in tables; empty for its name."""

    @property
    def shown_name(self) -> str:
        return self.label or self.name


@dataclass(frozen=True)
class NumericAxis:
    """Places of a setting's values on an axis, from 0 to 1."""

    places: Mapping[str, float]
    ticks: Ticks
    log: bool


@dataclass(frozen=True)
class _Column:
    """An axis, and what each run has on it, by name; a run that is not there has a gap."""

    axis: Axis
    places: Mapping[str, float]
    cells: Mapping[str, str]
    equivalent: Sequence[str] = ()
    """Settings that divide these runs in the same way as this one."""


def gain_figure(benchmark: str, runs: Sequence[RunGain], settings: Sequence[DifferingSetting]) -> Figure | None:
    """`None` for few runs, and for runs that do not differ: then the tables show as much, and more quickly."""
    drawn = sorted(runs[:LINES], key=lambda run: -run.gain.difference if run.gain else math.inf)
    gains = {run.name: run.gain.difference for run in drawn if run.gain}
    by_setting, unfit = _setting_columns(settings, [run.name for run in drawn])
    if len(gains) < FEWEST_RUNS or not by_setting:
        return None
    on_the_way = list(_columns_on_the_way(drawn))
    kept = _with_room(by_setting, on_the_way)
    columns = [column for column in (*by_setting, *on_the_way) if column in kept]
    dropped = [column.axis.tooltip for column in (*by_setting, *on_the_way) if column not in kept]
    gain_column, scale = _gain_column(benchmark, gains)
    columns.append(gain_column)

    numbers = {run.name: str(place) for place, run in enumerate(runs, 1)} if len(drawn) <= NUMBERED else {}
    ends = (min(gains.values()), max(gains.values()))
    tracks = [
        Track(
            tooltip="; ".join(
                [
                    run.shown_name,
                    *(f"{column.axis.tooltip} {column.cells.get(run.name, UNKNOWN)}" for column in columns),
                ]
            ),
            places=tuple(column.places.get(run.name) for column in columns),
            step=_step(gains[run.name], ends) if run.name in gains else None,
            mark=_mark(run),
            label=numbers.get(run.name, ""),
        )
        for run in drawn
    ]
    marks = [mark for mark in LOOKS if any(track.mark == mark for track in tracks)]
    return Figure(
        title="From settings to gain",
        picture=parallel_plot([column.axis for column in columns], tracks, scale),
        description=(
            f"One line for each of {plural(len(drawn), 'run')}, through "
            f"{listed([column.axis.tooltip for column in columns])}. The gain goes from {points_number(ends[0])} to "
            f"{points_number(ends[1])} points. The numbers are in the table below."
        ),
        numbers=_sheet(benchmark, runs, columns, numbers),
        note=" ".join(_notes(columns, len(runs), [*unfit, *dropped], bool(numbers))),
        legend=tuple((swatch, LOOKS[mark]) for (swatch, _), mark in zip(track_legend(marks), marks, strict=True)),
        wide=True,
    )


def _with_room(by_setting: Sequence[_Column], on_the_way: Sequence[_Column]) -> list[_Column]:
    """The columns that fit beside the gain.

    Settings that are rarely meant give way first; then what happened on the way, down to the room that `SETTINGS`
    leaves it.
    """
    wanted = sorted(by_setting, key=lambda column: (incidental(column.axis.tooltip), -len(set(column.cells.values()))))
    meant = sum(not incidental(column.axis.tooltip) for column in wanted)
    room = AXES - 1 - min(meant, SETTINGS)
    preferred = sorted(on_the_way, key=lambda column: column.axis.tooltip not in PREFERRED)[:room]
    return [*preferred, *wanted[: AXES - 1 - len(preferred)]]


def _setting_columns(settings: Sequence[DifferingSetting], names: Sequence[str]) -> tuple[list[_Column], list[str]]:
    """The axes of the settings, incidental ones last; and the settings that have too many values for an axis."""
    by_division: dict[tuple[tuple[str, ...], ...], list[_Column]] = {}
    unfit = []
    for setting in sorted(settings, key=lambda setting: (incidental(setting.key), setting.key)):
        runs = {
            value: tuple(name for name in members if name in names) for value, members in setting.runs_by_value.items()
        }
        known = in_order({value for value, members in runs.items() if members})
        numeric = numeric_axis(known)
        if len(known) < 2:
            continue
        if numeric is None and len(known) > VALUES:
            unfit.append(setting.key)
            continue
        key = division([runs[value] for value in known], numeric is not None)
        by_division.setdefault(key, []).append(_setting_column(setting.key, known, numeric, runs))
    columns = []
    for first, *others in by_division.values():
        columns.append(_Column(first.axis, first.places, first.cells, [other.axis.tooltip for other in others]))
    return columns, unfit


def division(members: Sequence[tuple[str, ...]], numeric: bool) -> tuple[tuple[str, ...], ...]:
    """Key that is equal for settings that divide these runs in the same way, given the runs of each value, in order.

    Numbers are equal when they put the runs in the same order, or its reverse; texts when they group the same runs.
    """
    order = tuple(members)
    return min(order, order[::-1]) if numeric else tuple(sorted(order))


def _setting_column(
    key: str, known: Sequence[str], numeric: NumericAxis | None, runs: Mapping[str, Sequence[str]]
) -> _Column:
    prefix, _, name = key.rpartition(".")
    if numeric:
        places, labels = numeric.places, numeric.ticks
    else:
        places = {value: nth / (len(known) - 1) for nth, value in enumerate(known)}
        labels = tuple(zip(places.values(), distinct(known, LABEL_CHARACTERS).values(), strict=True))
    return _Column(
        Axis(_cut(prefix), _cut(name) + (" (log)" if numeric and numeric.log else ""), key, labels),
        {run: place for value, place in places.items() for run in runs[value]},
        {run: short(value) for value in known for run in runs[value]},
    )


def numeric_axis(known: Sequence[str]) -> NumericAxis | None:
    """The axis of values that are all numbers, logarithmic where they span decades; else `None`."""
    read = {value: number_of(value) for value in known if value != NOT_SET}
    numbers = {value: number for value, number in read.items() if number is not None}
    if len(numbers) < len(read) or len(set(numbers.values())) < 2:
        return None
    low, high = min(numbers.values()), max(numbers.values())
    log = low > LEAST_LOG and math.log10(high / low) >= DECADES
    named = {number: short(value) for value, number in numbers.items()}
    place, labels = _scale(named if len(named) <= NAMED_NUMBERS else _round_numbers(low, high, log), log)
    return NumericAxis({value: place(number) for value, number in numbers.items()}, labels, log)


def _round_numbers(low: float, high: float, log: bool) -> dict[float, str]:
    """Round numbers around two others, with their labels."""
    if log:
        first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
        steps = [10.0**exponent for exponent in range(first, last + 1)]
    else:
        steps = ticks(low, high, 5)
    # Between numbers that hardly differ there may be no round one.
    return {step: f"{step:,.10g}" for step in (steps if steps[0] < steps[-1] else (low, high))}


def _scale(labels: Mapping[float, str], log: bool = False) -> tuple[Callable[[float], float], Ticks]:
    """The place of a number on an axis from the lowest label (0) to the highest (1), and the places of the labels."""
    transformed = math.log10 if log else float
    low, high = transformed(min(labels)), transformed(max(labels))

    def place(value: float) -> float:
        return (transformed(value) - low) / (high - low)

    return place, tuple((place(number), text) for number, text in labels.items())


def _columns_on_the_way(drawn: Sequence[RunGain]) -> Iterator[_Column]:
    """What happened in the judged rounds, as far as it is known and differs between them."""
    measures: tuple[tuple[Metric, Callable[[RoundSummary], float | None]], ...] = (
        (QUESTIONS, lambda round_: round_.questions),
        (AGREEMENT, lambda round_: round_.agreement),
        (NEAR_DUPLICATE_DROP_RATE, lambda round_: round_.near_duplicate_drop_rate),
        (NEW_PAIRS, lambda round_: round_.pairs),
    )
    for metric, measure in measures:
        name, unit = metric.heading, 100 if metric.unit is Unit.share else 1
        known = {run.name: unit * value for run in drawn if run.round_ and (value := measure(run.round_)) is not None}
        if len(set(known.values())) > 1:
            place, labels = _scale(_round_numbers(min(known.values()), max(known.values()), log=False))
            axis = Axis("judged round", name, name, labels)
            cells = {run: f"{value:,.0f}" if unit == 1 else f"{value:.1f}" for run, value in known.items()}
            yield _Column(axis, {run: place(value) for run, value in known.items()}, cells)


def _gain_column(benchmark: str, gains: Mapping[str, float]) -> tuple[_Column, tuple[float, float] | None]:
    """The last axis, and the range of it that the colours cover."""
    low, high = min(gains.values()), max(gains.values())
    around = _round_numbers(100 * low, 100 * high, log=False)
    place, labels = _scale({number: f"{number:+g}" if number else "0" for number in around})
    axis = Axis(_cut(benchmark), "gain, points", f"points gained on {benchmark}", labels)
    places = {name: place(100 * gain) for name, gain in gains.items()}
    scale = (place(100 * low), place(100 * high)) if low < high else None
    return _Column(axis, places, {name: points_number(gain) for name, gain in gains.items()}), scale


def _step(gain: float, ends: tuple[float, float]) -> int:
    low, high = ends
    return min(STEPS - 1, int(STEPS * (gain - low) / (high - low))) if low < high else STEPS - 1


def _mark(run: RunGain) -> Mark:
    if run.gain is None or run.round_ is None:
        return "dot"
    return "accept" if run.round_.action == "accept" else "roll back"


def _sheet(benchmark: str, runs: Sequence[RunGain], columns: Sequence[_Column], numbers: Mapping[str, str]) -> Sheet:
    rows: list[tuple[str, ...]] = []
    for run in runs[:LINES]:
        cells = [column.cells.get(run.name, UNKNOWN) for column in columns[:-1]]
        gain = run.gain
        points = points_number_with_interval(gain.difference, gain.low, gain.high) if gain else UNKNOWN
        child = "none judged" if run.round_ is None else "accepted" if run.round_.action == "accept" else "not accepted"
        rows.append((run.shown_name, *([numbers[run.name]] if numbers else []), *cells, child, points))
    headings = [f"|{column.axis.tooltip}" for column in columns[:-1]]
    heads = ("run", *(["|line"] if numbers else []), *headings, "child", "|points")
    return Sheet(f"{benchmark}: from settings to gain", heads, rows)


def _notes(columns: Sequence[_Column], runs: int, dropped: Sequence[str], numbered: bool) -> Iterator[str]:
    yield "One line for each run, in the colour of its gain on the last axis; equal values lie side by side."
    yield "The uncertainty of a gain is not drawn: the intervals are in the table above."
    if numbered:
        yield "The number at a line’s end is in the table below."
    for column in columns:
        if column.equivalent:
            others = first_few(column.equivalent, NAMED)
            yield f"In these runs, {column.axis.tooltip} is confounded with {others}."
    if runs > LINES:
        yield f"The first {LINES} of {runs} runs."
    if dropped:
        yield f"Without an axis here: {first_few(dropped, NAMED)}."


def _cut(text: str, most: int = LABEL_CHARACTERS) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
