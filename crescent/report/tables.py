"""The tables of one run."""

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from crescent.report.charts import bar, interval
from crescent.report.costs import points_per_hour
from crescent.report.questions import levels_of
from crescent.report.run import HarnessValue, RoundReport, RunReport
from crescent.report.texts import UNKNOWN, count, duration, number, p_value, per_hour, percent, points_with_interval
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
from crescent.show.texts import Sheet

BAITS = 20
"""Of a pool, those that are shown."""
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
"""What a trainer measures, as columns; those that no round has are left out."""


def funnel_sheet(its: RoundReport) -> Sheet | None:
    """From what was asked for to what was trained on, and what each filter took."""
    if not its.funnel:
        return None
    most = max(step.count for step in its.funnel) or 1
    rows: list[tuple[str, ...]] = []
    for step in its.funnel:
        losses = "; ".join(f"{count(loss.count)} {loss.reason}" for loss in step.losses)
        about = "; ".join(part for part in (losses and f"lost: {losses}", step.note) if part)
        rows.append((step.name, count(step.count), bar(step.count / most), about))
    return Sheet(f"Round {its.number}, step by step", ("step", "|left", "", "lost, and why"), rows)


def comparison_sheet(its: RoundReport) -> Sheet | None:
    """The child with parent, base and best on every benchmark, as the verdict has it."""
    judged = its.row.judged
    if judged is None or not judged.comparisons:
        return None
    edges = [edge for c in judged.comparisons for edge in (c.low, c.high, 0.0)]
    domain = (min(edges), max(edges))
    rows: list[tuple[str, ...]] = [
        (
            c.benchmark + ("" if c.benchmark in judged.benchmarks else " (reported)"),
            c.against,
            points_with_interval(c.difference, c.low, c.high),
            interval(c.difference, c.low, c.high, domain),
            p_value(c.p_value),
            p_value(c.p_holm),
            f"{c.gained} / {c.lost} / {c.items}",
        )
        for c in judged.comparisons
    ]
    columns = ("benchmark", "against", "|points", "", "|p", "|p (Holm)", "|gained / lost / items")
    return Sheet(f"Round {its.number}, compared", columns, rows)


def training_sheet(rounds: Sequence[RoundReport]) -> Sheet | None:
    """What the trainer measured, round by round."""
    known = [measure for measure in MEASURES if any(measure.name in its.training for its in rounds)]
    trained = [its for its in rounds if its.training]
    if not known:
        return None
    rows: list[tuple[str, ...]] = [
        (str(its.number), *(number_of(measure.of(its.training)) for measure in known)) for its in trained
    ]
    return Sheet("Training", ("|round", *(f"|{measure.label}" for measure in known)), rows)


def number_of(value: float | None) -> str:
    """Counts as counts, losses with digits."""
    return count(value) if value is not None and float(value).is_integer() else number(value)


def time_sheet(report: RunReport) -> Sheet | None:
    """Time and tokens of every kind of stage, by round."""
    ledger = report.ledger
    if not ledger.stages:
        return None
    total = ledger.seconds() or 1
    rows: list[tuple[str, ...]] = []
    for kind in ledger.kinds:
        stages, seconds = ledger.of(kind=kind), ledger.seconds(kind=kind)
        cells = [duration(ledger.seconds(at, kind)) if ledger.of(at, kind) else UNKNOWN for at in ledger.places]
        tokens = count(together([its for stage in stages for its in (stage.generated, stage.trained)]))
        rows.append((kind, *cells, duration(seconds), bar(seconds / total), percent(seconds / total), tokens))
    sums = [duration(ledger.seconds(place)) for place in ledger.places]
    rows.append(("all", *sums, duration(ledger.seconds()), Markup(""), "100.0", ""))
    places = (f"|{its.replace('-', ' ')}" for its in ledger.places)
    columns = ("stage", *places, "|together", "", "|%", "|tokens generated or trained on")
    return Sheet("Time and tokens by stage, of each the last attempt", columns, rows)


def ledger_sheet(report: RunReport) -> Sheet | None:
    """What the base and each round cost, and what a machine-hour bought."""
    ledger = report.ledger
    if not ledger.stages:
        return None
    rows: list[tuple[str, ...]] = []
    row_of = {f"round-{its.number}": its.row for its in report.rounds}
    for place in ledger.places:
        stages, seconds = ledger.of(place), ledger.seconds(place)
        row = row_of.get(place)
        yielded = points_per_hour(row, ledger) if row else None
        rows.append(
            (
                place.replace("-", " "),
                number(seconds / 3600),
                *([number(seconds / 3600 * ledger.gpus)] if ledger.gpus else []),
                count(together([its.generated for its in stages])),
                count(together([its.trained for its in stages])),
                *(_money(ledger.money(seconds))),
                UNKNOWN if yielded is None else per_hour(yielded),
            )
        )
    rows.append(
        (
            "all",
            number(ledger.hours),
            *([number(ledger.hours * ledger.gpus)] if ledger.gpus else []),
            count(together([its.generated for its in ledger.stages])),
            count(together([its.trained for its in ledger.stages])),
            *(_money(ledger.money(ledger.seconds()))),
            "",
        )
    )
    money = () if ledger.rate is None else ("|money",)
    hours = ("|machine-hours", "|GPU-hours") if ledger.gpus else ("|machine-hours",)
    yielded_per = "|points per GPU-hour" if ledger.gpus else "|points per hour"
    columns = ("", *hours, "|tokens generated", "|tokens trained on", *money, yielded_per)
    return Sheet("What it cost", columns, rows)


def together(values: Sequence[float | None]) -> float | None:
    """Their sum; unknown when none is known."""
    known = [its for its in values if its is not None]
    return sum(known) if known else None


def bait_sheets(its: RoundReport) -> Iterator[Sheet]:
    """What came of each bait, and of each level of difficulty where a pool has levels."""
    if its.questions is None or not its.questions.baits:
        return
    columns = ("|asked", "|usable", "|accepted", "|agreed", "|too easy", "|agreement")
    baits = its.questions.baits
    rows: list[tuple[str, ...]] = []
    levels = levels_of(baits)
    if levels:
        for name, members in levels.items():
            accepted = sum(m.accepted for m in members)
            mean = sum(m.agreement * m.accepted for m in members) / accepted if accepted else None
            sums = [
                sum(getattr(m, what) for m in members)
                for what in ("asked", "usable", "accepted", "agreed", "unanimous")
            ]
            rows.append((name, *map(count, sums), UNKNOWN if mean is None else f"{mean:.2f}"))
        yield Sheet(f"Round {its.number}: by level of difficulty", ("level", *columns), rows)
    most = sorted(baits, key=lambda b: (-b.asked, b.bait.name))[:BAITS]
    rows = [
        (
            b.bait.name,
            *map(count, (b.asked, b.usable, b.accepted, b.agreed, b.unanimous)),
            f"{b.agreement:.2f}" if b.accepted else UNKNOWN,
        )
        for b in most
    ]
    more = f", the {len(most)} asked most of {len(baits)}" if len(baits) > len(most) else ""
    yield Sheet(f"Round {its.number}: by bait prompt{more}", ("bait", *columns), rows)


def harness_sheet(report: RunReport) -> Sheet | None:
    """Tasks of lm-evaluation-harness, checkpoint by checkpoint."""
    by_place: list[tuple[str, Sequence[HarnessValue]]] = [("base", report.base_harness)]
    by_place += [(f"round {its.number}", its.harness) for its in report.rounds]
    by_place = [(place, values) for place, values in by_place if values]
    if not by_place:
        return None
    known = list(dict.fromkeys((its.task, its.metric) for _, values in by_place for its in values))
    rows: list[tuple[str, ...]] = []
    for task, metric in known:
        cells = [
            next((_harness(its) for its in values if (its.task, its.metric) == (task, metric)), UNKNOWN)
            for _, values in by_place
        ]
        rows.append((task, metric, *cells))
    columns = ("task", "metric", *(f"|{place}" for place, _ in by_place))
    return Sheet("lm-evaluation-harness, value ± its standard error; only reported", columns, rows)


def _harness(its: HarnessValue) -> str:
    return f"{its.value:.4g}" + (f" ± {its.stderr:.2g}" if its.stderr is not None else "")


def _money(amount: float | None) -> tuple[str, ...]:
    return () if amount is None else (f"{amount:,.2f}",)
