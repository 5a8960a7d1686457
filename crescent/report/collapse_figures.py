"""The charts of what a run watches for signs of collapse."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from crescent.judging.wording import percent, percent_number
from crescent.report.charts import Level, Line, Point, line_plot
from crescent.report.figures import Figure, whole_percent
from crescent.report.run import RoundReport, RunReport
from crescent.report.texts import number
from crescent.run_folder.metric import Metric, Unit
from crescent.run_folder.metric_names import (
    ANSWER_LENGTH,
    FIRST_AGREEMENT,
    MAJORITY_GAP,
    MOST_COMMON_ANSWER,
    NEAR_DUPLICATE_RATE,
    QUESTION_LENGTH,
    SILENT_SHARE,
    UNANIMOUS_SHARE,
    VARIETY,
)
from crescent.show.texts import Sheet


@dataclass(frozen=True)
class Monitor:
    """One sign of collapse over the rounds."""

    metric: Metric
    limit: Callable[[Mapping[str, float], float], float] | None = None
    """Approximate limit of its alarm, from the first round's values and the value of `setting`."""
    setting: str = ""

    @property
    def name(self) -> str:
        """Name among `crescent.judging.collapse.monitors`."""
        return self.metric.monitor

    @property
    def title(self) -> str:
        return self.metric.label[:1].upper() + self.metric.label[1:]

    @property
    def note(self) -> str:
        return self.metric.meaning[:1].lower() + self.metric.meaning[1:]

    @property
    def share(self) -> bool:
        """Whether the values are shown in percent."""
        return self.metric.unit in (Unit.share, Unit.points)


MONITORS = (
    Monitor(FIRST_AGREEMENT),
    Monitor(UNANIMOUS_SHARE),
    Monitor(VARIETY, lambda first, share: first[VARIETY.monitor] * share, "verdict.collapse.variety"),
    Monitor(NEAR_DUPLICATE_RATE, lambda first, share: share, "verdict.collapse.near_duplicates"),
    Monitor(
        MOST_COMMON_ANSWER,
        lambda first, share: max(share, min(1.0, 1.5 * first[MOST_COMMON_ANSWER.monitor])),
        "verdict.collapse.commonest",
    ),
    Monitor(
        SILENT_SHARE,
        lambda first, share: min(1.0, max(share, 2 * first[SILENT_SHARE.monitor])),
        "verdict.collapse.silent",
    ),
    Monitor(ANSWER_LENGTH, lambda first, share: first[ANSWER_LENGTH.monitor] * share, "verdict.collapse.length"),
    Monitor(QUESTION_LENGTH),
    Monitor(MAJORITY_GAP),
)


def collapse_figures(report: RunReport) -> Iterator[Figure]:
    """One figure for each monitor over the rounds; none for a run that did not measure them."""
    for monitor in MONITORS:
        rounds = [round_ for round_ in report.rounds if monitor.name in round_.monitors]
        if rounds:
            yield _figure(monitor, rounds, report)


def _figure(monitor: Monitor, rounds: Sequence[RoundReport], report: RunReport) -> Figure:
    def written(value: float) -> str:
        return percent(value) if monitor.share else number(value)

    values = [round_.monitors[monitor.name] for round_ in rounds]
    points = tuple(
        Point(place, value, f"round {round_.number}: {written(value)}")
        for place, (round_, value) in enumerate(zip(rounds, values, strict=True))
    )
    limit = _limit(monitor, rounds[0], report)
    levels = [Level("alarm", limit)] if limit is not None else []
    bounds = (0.0 if min(values) >= 0 else -1.0, 1.0) if monitor.share else (0.0, math.inf)
    start = f"{written(values[0])} in round {rounds[0].number}"
    end = f"{written(values[-1])} in round {rounds[-1].number}"
    alarm = f"; the alarm limit is about {written(limit)}" if limit is not None else ""
    return Figure(
        title=monitor.title,
        picture=line_plot(
            [Line("", points)],
            [str(round_.number) for round_ in rounds],
            whole_percent if monitor.share else _tick,
            levels,
            "round",
            bounds,
            0.1 if monitor.share else 0.0,
        ),
        description=f"{monitor.note}: {start}, {end}{alarm}.",
        numbers=Sheet(
            monitor.title,
            ("|round", f"|{'%' if monitor.share else 'value'}"),
            [
                (str(round_.number), percent_number(value) if monitor.share else number(value))
                for round_, value in zip(rounds, values, strict=True)
            ],
        ),
        note=monitor.note + (", %" if monitor.share else ""),
    )


def _limit(monitor: Monitor, first: RoundReport, report: RunReport) -> float | None:
    value = report.setting(monitor.setting)
    if monitor.limit is None or value is None or monitor.name not in first.monitors:
        return None
    try:
        return monitor.limit(first.monitors, float(value))
    except ValueError:
        return None


def _tick(value: float) -> str:
    return f"{value:,g}"
