"""The tables of one run."""

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from crescent.judging.wording import p_number, percent_number, points_number_with_interval
from crescent.records import BaitCount
from crescent.report.charts import bar, interval_picture
from crescent.report.costs import points_per_hour
from crescent.report.questions import by_level
from crescent.report.run import HarnessValue, RoundReport, RunReport
from crescent.report.texts import count, duration, number, per_hour
from crescent.run_folder.metric_names import (
    EXAMPLES,
    LOSS_FIRST,
    LOSS_LAST,
    LOSS_MEAN,
    STEPS,
    TARGET_TOKENS,
    TOKENS_SEEN,
    TOO_LONG,
    TRAINABLE_PARAMETERS,
)
from crescent.show.texts import UNKNOWN, Sheet

BAITS = 20
"""Baits of a pool that are shown."""
MEASURES = (
    EXAMPLES,
    STEPS,
    LOSS_FIRST,
    LOSS_LAST,
    LOSS_MEAN,
    TARGET_TOKENS,
    TOKENS_SEEN,
    TOO_LONG,
    TRAINABLE_PARAMETERS,
)
"""Metrics of a trainer that are shown; columns that no round has are left out."""


def funnel_sheet(round_: RoundReport) -> Sheet | None:
    """From what was asked for to what was trained on, and what each filter dropped."""
    if not round_.funnel:
        return None
    most = max(step.count for step in round_.funnel) or 1
    rows: list[tuple[str, ...]] = []
    for step in round_.funnel:
        dropped = [f"{count(dropped.count)} {dropped.reason}" for dropped in step.dropped]
        about = "; ".join(filter(None, (*dropped, step.note)))
        rows.append((step.name, count(step.count), bar(step.count / most), about))
    return Sheet(f"Round {round_.number}, step by step", ("step", "|left", "", "dropped; notes"), rows)


def comparison_sheet(round_: RoundReport) -> Sheet | None:
    """The child compared with parent, base and best on every benchmark, as in its verdict."""
    verdict = round_.summary.verdict
    if verdict is None or not verdict.comparisons:
        return None
    edges = [edge for comparison in verdict.comparisons for edge in (comparison.low, comparison.high, 0.0)]
    domain = (min(edges), max(edges))
    rows: list[tuple[str, ...]] = [
        (
            comparison.benchmark + ("" if comparison.benchmark in verdict.benchmarks else " (only reported)"),
            comparison.against,
            points_number_with_interval(comparison.difference, comparison.low, comparison.high),
            interval_picture(comparison.difference, comparison.low, comparison.high, domain),
            p_number(comparison.p_value),
            p_number(comparison.p_holm),
            f"{comparison.gained} / {comparison.lost} / {comparison.items}",
        )
        for comparison in verdict.comparisons
    ]
    columns = ("benchmark", "against", "|points", "", "|p", "|p (Holm)", "|gained / lost / items")
    return Sheet(f"Round {round_.number}, comparisons", columns, rows)


def training_sheet(rounds: Sequence[RoundReport]) -> Sheet | None:
    """What the trainer measured, round by round."""
    known = [measure for measure in MEASURES if any(measure.name in round_.training for round_ in rounds)]
    if not known:
        return None
    rows: list[tuple[str, ...]] = [
        (str(round_.number), *(_count_or_number(measure.of(round_.training)) for measure in known))
        for round_ in rounds
        if round_.training
    ]
    return Sheet("Training", ("|round", *(f"|{measure.label}" for measure in known)), rows)


def time_sheet(report: RunReport) -> Sheet | None:
    """Time and tokens of every kind of stage, by round."""
    costs = report.costs
    if not costs.stages:
        return None
    total = costs.seconds() or 1
    rows: list[tuple[str, ...]] = []
    for kind in costs.kinds:
        stages, seconds = costs.of(kind=kind), costs.seconds(kind=kind)
        cells = [duration(costs.seconds(place, kind)) if costs.of(place, kind) else UNKNOWN for place in costs.places]
        tokens = count(sum_known([tokens for stage in stages for tokens in (stage.generated, stage.trained)]))
        share = seconds / total
        rows.append((kind, *cells, duration(seconds), bar(share), percent_number(share), tokens))
    sums = [duration(costs.seconds(place)) for place in costs.places]
    rows.append(("all", *sums, duration(costs.seconds()), Markup(""), "100.0", ""))
    places = (f"|{place.replace('-', ' ')}" for place in costs.places)
    columns = ("stage", *places, "|total", "", "|%", "|tokens generated or trained on")
    return Sheet("Time and tokens by stage, last attempt only", columns, rows)


def costs_sheet(report: RunReport) -> Sheet | None:
    """What the base and each round cost, and the points gained per hour."""
    costs = report.costs
    if not costs.stages:
        return None
    rounds = {f"round-{round_.number}": round_.summary for round_ in report.rounds}
    rows: list[tuple[str, ...]] = []
    for place in (*costs.places, None):
        stages, seconds = costs.of(place), costs.seconds(place)
        round_ = rounds.get(place or "")
        gain = points_per_hour(round_, costs) if round_ else None
        rows.append(
            (
                place.replace("-", " ") if place else "all",
                number(seconds / 3600),
                *([number(seconds / 3600 * costs.gpus)] if costs.gpus else []),
                count(sum_known([stage.generated for stage in stages])),
                count(sum_known([stage.trained for stage in stages])),
                *(_money(costs.money(seconds))),
                "" if place is None else UNKNOWN if gain is None else per_hour(gain),
            )
        )
    money = () if costs.rate is None else ("|money",)
    hours = ("|machine-hours", "|GPU-hours") if costs.gpus else ("|machine-hours",)
    gain_per = "|points per GPU-hour" if costs.gpus else "|points per hour"
    columns = ("", *hours, "|tokens generated", "|tokens trained on", *money, gain_per)
    return Sheet("Costs", columns, rows)


def sum_known(values: Sequence[float | None]) -> float | None:
    """The sum of the known values; `None` when none is known."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def bait_sheets(round_: RoundReport) -> Iterator[Sheet]:
    """What came of each bait, and of each level of difficulty where a pool has levels."""
    if round_.questions is None or not round_.questions.baits:
        return
    columns = ("|asked", "|usable", "|accepted", "|agreed", "|too easy", "|agreement")
    baits = round_.questions.baits
    if levels := by_level(baits):
        rows = [_level_row(name, members) for name, members in levels.items()]
        yield Sheet(f"Round {round_.number}: by level of difficulty", ("level", *columns), rows)
    most = sorted(baits, key=lambda bait: (-bait.asked, bait.bait.name))[:BAITS]
    rows = [
        (
            bait.bait.name,
            *map(count, (bait.asked, bait.usable, bait.accepted, bait.agreed, bait.unanimous)),
            f"{bait.agreement:.2f}" if bait.accepted else UNKNOWN,
        )
        for bait in most
    ]
    more = f", the {len(most)} asked most of {len(baits)}" if len(baits) > len(most) else ""
    yield Sheet(f"Round {round_.number}: by bait prompt{more}", ("bait", *columns), rows)


def _level_row(name: str, baits: Sequence[BaitCount]) -> tuple[str, ...]:
    accepted = sum(bait.accepted for bait in baits)
    agreement = sum(bait.agreement * bait.accepted for bait in baits) / accepted if accepted else None
    sums = (
        sum(bait.asked for bait in baits),
        sum(bait.usable for bait in baits),
        accepted,
        sum(bait.agreed for bait in baits),
        sum(bait.unanimous for bait in baits),
    )
    return (name, *map(count, sums), UNKNOWN if agreement is None else f"{agreement:.2f}")


def harness_sheet(report: RunReport) -> Sheet | None:
    """Tasks of lm-evaluation-harness, checkpoint by checkpoint."""
    by_place: list[tuple[str, Sequence[HarnessValue]]] = [("base", report.base_harness)]
    by_place += [(f"round {round_.number}", round_.harness) for round_ in report.rounds]
    by_place = [(place, values) for place, values in by_place if values]
    if not by_place:
        return None
    known = list(dict.fromkeys((value.task, value.metric) for _, values in by_place for value in values))
    rows: list[tuple[str, ...]] = []
    for task, metric in known:
        cells = [
            next((_harness(value) for value in values if (value.task, value.metric) == (task, metric)), UNKNOWN)
            for _, values in by_place
        ]
        rows.append((task, metric, *cells))
    columns = ("task", "metric", *(f"|{place}" for place, _ in by_place))
    return Sheet("lm-evaluation-harness, value ± standard error; only reported", columns, rows)


def _harness(value: HarnessValue) -> str:
    return f"{value.value:.4g}" + (f" ± {value.stderr:.2g}" if value.stderr is not None else "")


def _count_or_number(value: float | None) -> str:
    """Counts as counts, losses with digits."""
    return count(value) if value is not None and float(value).is_integer() else number(value)


def _money(amount: float | None) -> tuple[str, ...]:
    return () if amount is None else (f"{amount:,.2f}",)
