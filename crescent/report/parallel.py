"""The runs of a sweep as lines: from the settings that differ, through what happened on the way, to the gain."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from crescent.reading.differing import ABSENT, Differing, distinct, in_order, incidental, number_of, short
from crescent.reading.rounds import RoundRow
from crescent.records import Comparison
from crescent.report.charts import NUMBERED, STEPS, Axis, Mark, Track, parallel_plot, ticks, track_legend
from crescent.report.figures import Figure
from crescent.report.texts import UNKNOWN, listed, plural, points, points_with_interval
from crescent.run_folder.metric import Metric, Unit
from crescent.run_folder.metric_names import AGREEMENT, NEAR_DUPLICATE_DROP_RATE, NEW_PAIRS, QUESTIONS
from crescent.show.texts import Sheet

AXES = 8
SETTINGS = 5
"""Axes of settings before those of what happened on the way; more have room where that leaves some."""
LINES = 40
LEAST = 3
"""Runs with a gain; two are told apart sooner by the table of runs."""
DECADES = 1.5
"""Values that span more stand on a logarithmic axis, where they are positive."""
LEAST_LOG = 1e-100
"""Numbers below are not on a logarithmic axis."""
FEW = 7
"""Different numbers of a setting that are each named on its axis; more stand on a scale."""
VALUES = 12
"""Values of a setting that fit side by side."""
LABEL_CHARACTERS = 16
TELLING = (AGREEMENT.heading, NEW_PAIRS.heading)
"""Of what happened on the way: where there is no room for all."""
NAMED = 4
"""Settings that are named where several differ in the same way."""
LOOKS: dict[Mark, str] = {"accept": "accepted", "roll back": "not accepted", "dot": "no child judged"}

Ticks = tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Outcome:
    """What one run came to on one benchmark."""

    name: str
    row: RoundRow | None
    """Of the child it is judged by; `None`: none was judged yet."""
    gain: Comparison | None
    label: str = ""
    """What it is called; empty for its name."""

    @property
    def called(self) -> str:
        return self.label or self.name


@dataclass(frozen=True)
class NumericAxis:
    """Where on an axis the values of a setting stand, from 0 to 1."""

    places: Mapping[str, float]
    ticks: Ticks
    log: bool


@dataclass(frozen=True)
class _Column:
    """An axis, and what each run has on it, by name; a run that is not there has a gap."""

    axis: Axis
    places: Mapping[str, float]
    cells: Mapping[str, str]
    others: Sequence[str] = ()
    """Settings that these runs cannot tell from this one."""


def parallel_figure(benchmark: str, outcomes: Sequence[Outcome], settings: Sequence[Differing]) -> Figure | None:
    """`None` for few runs, and for runs that differ in nothing: then the tables say as much, and sooner."""
    drawn = sorted(outcomes[:LINES], key=lambda its: -its.gain.difference if its.gain else math.inf)
    gains = {its.name: its.gain.difference for its in drawn if its.gain}
    by_setting, unfit = _settings(settings, [its.name for its in drawn])
    if len(gains) < LEAST or not by_setting:
        return None
    way = list(_way(drawn))
    wanted = sorted(by_setting, key=lambda its: (incidental(its.axis.says), -len(set(its.cells.values()))))
    many = sum(not incidental(its.axis.says) for its in wanted)
    room = AXES - 1 - min(many, SETTINGS)
    way_first = sorted(way, key=lambda its: its.axis.says not in TELLING)[:room]
    kept = [*way_first, *wanted[: AXES - 1 - len(way_first)]]
    columns = [its for its in (*by_setting, *way) if its in kept]
    dropped = [its.axis.says for its in (*by_setting, *way) if its not in kept]
    last, scale = _gain(benchmark, gains)
    columns.append(last)

    number = {its.name: str(place) for place, its in enumerate(outcomes, 1)} if len(drawn) <= NUMBERED else {}
    ends = (min(gains.values()), max(gains.values()))
    tracks = [
        Track(
            says="; ".join([its.called, *(f"{col.axis.says} {col.cells.get(its.name, UNKNOWN)}" for col in columns)]),
            places=tuple(col.places.get(its.name) for col in columns),
            step=_step(gains[its.name], ends) if its.name in gains else None,
            mark=_mark(its),
            label=number.get(its.name, ""),
        )
        for its in drawn
    ]
    marks = [its for its in LOOKS if any(track.mark == its for track in tracks)]
    return Figure(
        title="From settings to gain",
        picture=parallel_plot([its.axis for its in columns], tracks, scale),
        says=(
            f"One line for each of {plural(len(drawn), 'run')}, through {listed([its.axis.says for its in columns])}. "
            f"The gain goes from {points(ends[0])} to {points(ends[1])} points. The numbers are in the table below."
        ),
        numbers=_numbers(benchmark, outcomes, columns, number),
        note=" ".join(_notes(columns, len(outcomes), [*unfit, *dropped], bool(number))),
        legend=tuple((swatch, LOOKS[its]) for (swatch, _), its in zip(track_legend(marks), marks, strict=True)),
        wide=True,
    )


def _settings(settings: Sequence[Differing], names: Sequence[str]) -> tuple[list[_Column], list[str]]:
    """The axes of the settings, incidental ones last; and the settings that have too many values for one."""
    found: dict[tuple[tuple[str, ...], ...], list[_Column]] = {}
    unfit = []
    for its in sorted(settings, key=lambda its: (incidental(its.key), its.key)):
        runs = {value: tuple(name for name in its.runs_by_value[value] if name in names) for value in its.runs_by_value}
        known = in_order({value for value, members in runs.items() if members})
        numeric = numeric_axis(known)
        if len(known) < 2:
            continue
        if numeric is None and len(known) > VALUES:
            unfit.append(its.key)
            continue
        alike = division([runs[value] for value in known], numeric is not None)
        found.setdefault(alike, []).append(_setting(its.key, known, numeric, runs))
    first = []
    for same in found.values():
        first.append(_Column(same[0].axis, same[0].places, same[0].cells, [its.axis.says for its in same[1:]]))
    return first, unfit


def division(members: Sequence[tuple[str, ...]], numeric: bool) -> tuple[tuple[str, ...], ...]:
    """The same for settings that these runs cannot tell apart, given who has each of their values, in order.

    Those are numbers that put the runs in the same order, or its reverse, and texts that go together.
    """
    order = tuple(members)
    return min(order, order[::-1]) if numeric else tuple(sorted(order))


def _setting(key: str, known: Sequence[str], numeric: NumericAxis | None, runs: Mapping[str, Sequence[str]]) -> _Column:
    prefix, _, name = key.rpartition(".")
    if numeric:
        places, written = numeric.places, numeric.ticks
    else:
        places = {value: nth / (len(known) - 1) for nth, value in enumerate(known)}
        written = tuple(zip(places.values(), distinct(known, LABEL_CHARACTERS).values(), strict=True))
    return _Column(
        Axis(_cut(prefix), _cut(name) + (" (log)" if numeric and numeric.log else ""), key, written),
        {run: its for value, its in places.items() for run in runs[value]},
        {run: short(value) for value in known for run in runs[value]},
    )


def numeric_axis(known: Sequence[str]) -> NumericAxis | None:
    """For values that are numbers: logarithmic where they span decades. `None` where one is something else."""
    read = {its: number_of(its) for its in known if its != ABSENT}
    numbers = {value: number for value, number in read.items() if number is not None}
    if len(numbers) < len(read) or len(set(numbers.values())) < 2:
        return None
    low, high = min(numbers.values()), max(numbers.values())
    log = low > LEAST_LOG and math.log10(high / low) >= DECADES
    few = {number: short(value) for value, number in numbers.items()}
    place, written = _scale(few if len(few) <= FEW else _round(low, high, log), log)
    return NumericAxis({value: place(number) for value, number in numbers.items()}, written, log)


def _round(low: float, high: float, log: bool) -> dict[float, str]:
    """Round numbers around two others, as they are written."""
    if log:
        first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
        steps = [10.0**its for its in range(first, last + 1)]
    else:
        steps = ticks(low, high, 5)
    # Of numbers that hardly differ there may be none.
    return {its: f"{its:,.10g}" for its in (steps if steps[0] < steps[-1] else (low, high))}


def _scale(
    marks: Mapping[float, str], log: bool = False
) -> tuple[Callable[[float], float], tuple[tuple[float, str], ...]]:
    """Where a number stands on an axis from its lowest mark (0) to its highest (1), and where the marks do."""
    bent = math.log10 if log else float
    low, high = bent(min(marks)), bent(max(marks))

    def place(value: float) -> float:
        return (bent(value) - low) / (high - low)

    return place, tuple((place(its), text) for its, text in marks.items())


def _way(drawn: Sequence[Outcome]) -> Iterator[_Column]:
    """What happened in the judged rounds, as far as it is known and not the same in all of them."""
    measures: tuple[tuple[Metric, Callable[[RoundRow], float | None]], ...] = (
        (QUESTIONS, lambda row: row.questions),
        (AGREEMENT, lambda row: row.agreement),
        (NEAR_DUPLICATE_DROP_RATE, lambda row: row.near_duplicate_drop_rate),
        (NEW_PAIRS, lambda row: row.pairs),
    )
    for metric, read in measures:
        name, unit = metric.heading, 100 if metric.unit is Unit.share else 1
        known = {its.name: unit * value for its in drawn if its.row and (value := read(its.row)) is not None}
        if len(set(known.values())) > 1:
            place, written = _scale(_round(min(known.values()), max(known.values()), log=False))
            axis = Axis("judged round", name, name, written)
            cells = {run: f"{its:,.0f}" if unit == 1 else f"{its:.1f}" for run, its in known.items()}
            yield _Column(axis, {run: place(its) for run, its in known.items()}, cells)


def _gain(benchmark: str, gains: Mapping[str, float]) -> tuple[_Column, tuple[float, float] | None]:
    """The last axis, and from where to where on it the colours go."""
    low, high = min(gains.values()), max(gains.values())
    around = _round(100 * low, 100 * high, log=False)
    place, written = _scale({its: f"{its:+g}".replace("-", "−") if its else "0" for its in around})
    axis = Axis(_cut(benchmark), "gain, points", f"points gained on {benchmark}", written)
    places = {name: place(100 * its) for name, its in gains.items()}
    scale = (place(100 * low), place(100 * high)) if low < high else None
    return _Column(axis, places, {name: points(its) for name, its in gains.items()}), scale


def _step(gain: float, ends: tuple[float, float]) -> int:
    low, high = ends
    return min(STEPS - 1, int(STEPS * (gain - low) / (high - low))) if low < high else STEPS - 1


def _mark(its: Outcome) -> Mark:
    if its.gain is None or its.row is None:
        return "dot"
    return "accept" if its.row.verdict == "accept" else "roll back"


def _numbers(
    benchmark: str, outcomes: Sequence[Outcome], columns: Sequence[_Column], number: Mapping[str, str]
) -> Sheet:
    rows: list[tuple[str, ...]] = []
    for its in outcomes[:LINES]:
        cells = [col.cells.get(its.name, UNKNOWN) for col in columns[:-1]]
        gain = points_with_interval(its.gain.difference, its.gain.low, its.gain.high) if its.gain else UNKNOWN
        child = "none judged" if its.row is None else "accepted" if its.row.verdict == "accept" else "not accepted"
        rows.append((its.called, *([number[its.name]] if number else []), *cells, child, gain))
    heads = ["run", *(["|line"] if number else []), *(f"|{col.axis.says}" for col in columns[:-1]), "child", "|points"]
    return Sheet(f"{benchmark}: from settings to gain", tuple(heads), rows)


def _notes(columns: Sequence[_Column], runs: int, dropped: Sequence[str], numbered: bool) -> Iterator[str]:
    yield "One line for each run, in the colour of its gain on the last axis; equal values lie side by side."
    yield "How much of a gain is luck is not in it: the intervals are in the table above."
    if numbered:
        yield "The number at a line’s end is in the table below."
    for col in columns:
        if col.others:
            yield f"These runs cannot tell {col.axis.says} from {named(col.others)}."
    if runs > LINES:
        yield f"The first {LINES} of {runs} runs."
    if dropped:
        yield f"Without an axis here: {named(dropped)}."


def named(keys: Sequence[str]) -> str:
    """The first few."""
    return ", ".join(keys[:NAMED]) + (f" and {len(keys) - NAMED} more" if len(keys) > NAMED else "")


def _cut(text: str, most: int = LABEL_CHARACTERS) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
