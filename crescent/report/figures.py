"""The charts of one run, each with what it shows in a sentence and its numbers in a table."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from crescent.judging.reliability import Reliability
from crescent.reading.rounds import Measured, RoundRow
from crescent.records import Score
from crescent.report.charts import (
    Layer,
    Level,
    Line,
    Mark,
    Point,
    legend,
    line_legend,
    line_plot,
    mark_legend,
    stack_plot,
)
from crescent.report.questions import ENTROPY_STEP, FATES, Fate, gauge
from crescent.report.run import RoundReport, RunReport
from crescent.report.texts import UNKNOWN, count, number, p_value, percent, plural, points_with_interval, with_interval
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

PASS = "pass@k: at least one of k answers is right, an upper bound and no vote"


@dataclass(frozen=True)
class Figure:
    """A chart."""

    title: str
    picture: Markup
    says: str
    """What is to be seen, for who does not see it."""
    numbers: Sheet
    note: str = ""
    legend: tuple[tuple[Markup, str], ...] = ()
    wide: bool = False
    """Not shrunk: a picture with many columns, which scrolls where there is no room for it, as a table does."""


@dataclass(frozen=True)
class Monitor:
    """One sign of collapse over the rounds."""

    metric: Metric
    limit: Callable[[Mapping[str, float], float], float] | None = None
    """Value at which an alarm begins, about; from the first round's values and the setting named as below."""
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
        """Whether it is shown in percent."""
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


def score_figures(report: RunReport) -> Iterator[Figure]:
    """One for each benchmark, the deciding ones first."""
    rows = report.rows.rows
    names = {its.score.benchmark: its.score.decides for row in rows for its in row.measured}
    for name in sorted(names, key=lambda its: (not names[its], its)):
        measured = [(row, its) for row in rows for its in row.measured if its.score.benchmark == name]
        yield _scores(report, name, names[name], measured)


def _scores(report: RunReport, name: str, decides: bool, measured: Sequence[tuple[RoundRow, Measured]]) -> Figure:
    rows = [row for row in report.rows.rows if row.round == 0 or row.checkpoint]
    place = {row.round: where for where, row in enumerate(rows)}
    children = tuple(
        Point(
            place[row.round],
            its.score.accuracy,
            f"{_label(row)}: {with_interval(its.score.accuracy, its.score.low, its.score.high)} %",
            its.score.low,
            its.score.high,
            _mark(row),
        )
        for row, its in measured
    )
    lines = [_in_service(rows, place, measured), Line("", children, joined=False)]
    lines += _several_samples(place, measured)
    voted = report.rows.majority.get(name)
    asked_once = all(its.score.majority is None for _, its in measured)
    levels = [Level(f"maj@{voted.samples}", voted.majority)] if voted and asked_once else []
    teacher = next((its for its in report.teacher if its.benchmark == name), None)
    levels += [Level("teacher", teacher.accuracy)] if teacher else []
    names = [_category(row) for row in rows]
    beside = list(_all_shares(report))
    picture = line_plot(lines, names, _whole_percent, levels, "round", (0.0, 1.0), 0.1, beside=beside)
    first, last = measured[0][1].score, measured[-1][1].score
    kind = "dev, decides" if decides else "test, only reported"
    note = f"{plural(measured[0][1].items or first.total, 'item')}; {kind}; accuracy in %, bars are 95 % intervals"
    if asked_once and voted:
        whose = "teacher" if report.teacher else "base"
        note += f"; dashed: the {whose}’s majority of {voted.samples} votes on {voted.items} of the items"
    if any(its.score.pass_at for _, its in measured):
        note += f"; {PASS}"
    ends = f"accuracy {percent(first.accuracy)} % at {_label(measured[0][0])}, {percent(last.accuracy)} % at "
    return Figure(
        title=name,
        picture=picture,
        says=f"{ends}{_label(measured[-1][0])}. The numbers are in the table below.",
        numbers=_score_sheet(name, measured, voted, teacher),
        note=note,
        legend=(
            *mark_legend(list(dict.fromkeys(_mark(row) for row, _ in measured))),
            *([line_legend("ghost", "parent in service")] if len(lines[0].points) > 1 else []),
        ),
    )


def _all_shares(report: RunReport) -> Iterator[float]:
    """What the charts of all benchmarks show: they stand side by side, so they have one scale."""
    for its in (*(its.score for row in report.rows.rows for its in row.measured), *report.teacher):
        known = (its.low, its.high, its.majority, its.pass_at.get(str(its.samples)))
        yield from (share for share in known if share is not None)
    yield from (its.majority for its in report.rows.majority.values())


def _in_service(
    rows: Sequence[RoundRow], place: Mapping[int, int], measured: Sequence[tuple[RoundRow, Measured]]
) -> Line:
    """The accuracy of the checkpoint that would be served: a child that was not accepted leaves it where it was."""
    by_round = {row.round: its.score.accuracy for row, its in measured}
    found, now = [], by_round.get(0)
    for row in rows:
        now = by_round.get(row.round, now) if row.verdict == "accept" else now
        if now is not None:
            found.append(Point(place[row.round], now, f"in service after {_label(row)}: {percent(now)} %"))
    return Line("", tuple(found), "ghost")


def _several_samples(place: Mapping[int, int], measured: Sequence[tuple[RoundRow, Measured]]) -> Iterator[Line]:
    """maj@k and pass@k over the rounds, where every item was asked several times."""
    several = [(row, its.score) for row, its in measured if its.score.samples > 1]
    voted = [(row, score, score.majority) for row, score in several if score.majority is not None]
    if voted:
        name = f"maj@{voted[0][1].samples}"
        points = [Point(place[row.round], y, f"{_label(row)}: {name} {percent(y)} %") for row, _, y in voted]
        yield Line(name, tuple(points), "second")
    passed = [
        (row, score.samples, score.pass_at[str(score.samples)])
        for row, score in several
        if str(score.samples) in score.pass_at
    ]
    if passed:
        name = f"pass@{passed[0][1]}"
        points = [Point(place[row.round], y, f"{_label(row)}: {name} {percent(y)} %") for row, _, y in passed]
        yield Line(name, tuple(points), "third")


def _score_sheet(
    name: str, measured: Sequence[tuple[RoundRow, Measured]], voted: Reliability | None, teacher: Score | None
) -> Sheet:
    columns = [
        "checkpoint",
        "verdict",
        "|accuracy %",
        "|to the base, points",
        "|p",
        "|unparsed",
        "|strict %",
        "|flexible %",
    ]
    scores = [its.score for _, its in measured]
    several = any(its.majority is not None or its.pass_at for its in scores)
    ks = sorted({int(k) for its in scores for k in its.pass_at if int(k) > 1})
    if several:
        columns += ["|maj@k %", *(f"|pass@{k} %" for k in ks)]
    rows: list[tuple[str, ...]] = []
    for row, its in measured:
        score, gain = its.score, its.against_base
        cells = [
            _label(row),
            row.verdict or UNKNOWN,
            with_interval(score.accuracy, score.low, score.high),
            points_with_interval(gain.difference, gain.low, gain.high) if gain else UNKNOWN,
            p_value(gain.p_value) if gain else UNKNOWN,
            count(score.unparsed),
            _share(score.strict, score),
            _share(score.flexible, score),
        ]
        if several:
            cells += [percent(score.majority), *(percent(score.pass_at.get(str(k))) for k in ks)]
        rows.append(tuple(cells))
    if voted:
        share = with_interval(voted.majority, voted.majority_low, voted.majority_high)
        who = "teacher" if teacher else "base"
        rows.append((f"{who}, maj@{voted.samples}", UNKNOWN, share, *[UNKNOWN] * (len(columns) - 3)))
    if teacher:
        share = with_interval(teacher.accuracy, teacher.low, teacher.high)
        rows.append(("teacher", UNKNOWN, share, *[UNKNOWN] * (len(columns) - 3)))
    return Sheet(f"{name}: accuracy with 95 % intervals", tuple(columns), rows)


def agreement_figures(rounds: Sequence[RoundReport]) -> Iterator[Figure]:
    """How far the first answers agreed, by what became of the questions: one for each round, on the same axes."""
    asked = {its.number: its.questions for its in rounds if its.questions and its.questions.asked}
    counts = {
        number_: gauge(questions.asked, questions.first + 1, lambda its: its.lead)
        for number_, questions in asked.items()
    }
    for number_, questions in asked.items():
        names = [f"{lead}/{questions.first}" for lead in range(questions.first + 1)]
        says = f"questions by how many of their first {questions.first} answers agree"
        yield _stack("Agreement of the first answers", number_, counts, names, "first answers that agree", says)


def difficulty_figures(rounds: Sequence[RoundReport]) -> Iterator[Figure]:
    """How difficult the questions were for who asked them: by the entropy of their answers."""
    asked = {its.number: its.questions for its in rounds if its.questions and its.questions.asked}
    most = max((its.entropy for questions in asked.values() for its in questions.asked), default=0.0)
    columns = math.floor(most / ENTROPY_STEP + 1e-9) + 1
    counts = {
        number_: gauge(questions.asked, columns, lambda its: int(its.entropy / ENTROPY_STEP + 1e-9))
        for number_, questions in asked.items()
    }
    names = [f"{place * ENTROPY_STEP:g}" for place in range(columns)]
    for number_ in asked:
        says = "questions by the entropy of their answers, which is 0 bits when all agree"
        yield _stack("Difficulty", number_, counts, names, f"bits, in steps of {ENTROPY_STEP:g}", says)


def _stack(
    kind: str,
    number_: int,
    by_round: Mapping[int, Mapping[Fate, Sequence[int]]],
    names: Sequence[str],
    x_title: str,
    says: str,
) -> Figure:
    highest = max(sum(column) for counts in by_round.values() for column in zip(*counts.values(), strict=True))
    layers = [Layer(its, tuple(values), FATES.index(its)) for its, values in by_round[number_].items()]
    rows: list[tuple[str, ...]] = [
        (name, *(count(layer.values[place]) for layer in layers)) for place, name in enumerate(names)
    ]
    title = f"{kind}, round {number_}"
    return Figure(
        title=title,
        picture=stack_plot(layers, names, x_title, highest),
        says=f"Counts of {says}, and what became of them. The numbers are in the table below.",
        numbers=Sheet(f"{title}: questions", (x_title, *(f"|{its.name}" for its in layers)), rows),
        legend=tuple(legend(layers)),
    )


def monitor_figures(report: RunReport) -> Iterator[Figure]:
    """What was watched for signs of collapse, over the rounds; none of a run that did not watch."""
    for monitor in MONITORS:
        known = [its for its in report.rounds if monitor.name in its.monitors]
        if known:
            yield _monitor(monitor, known, report)


def _monitor(monitor: Monitor, rounds: Sequence[RoundReport], report: RunReport) -> Figure:
    def written(value: float) -> str:
        return percent(value) if monitor.share else number(value)

    unit = " %" if monitor.share else ""
    values = [its.monitors[monitor.name] for its in rounds]
    points = tuple(
        Point(place, value, f"round {its.number}: {written(value)}{unit}")
        for place, (its, value) in enumerate(zip(rounds, values, strict=True))
    )
    limit = _limit(monitor, rounds[0], report)
    levels = [Level("alarm", limit)] if limit is not None else []
    bounds = (0.0 if min(values) >= 0 else -1.0, 1.0) if monitor.share else (0.0, math.inf)
    first, last = rounds[0].number, rounds[-1].number
    ends = f"{written(values[0])}{unit} in round {first}, {written(values[-1])}{unit} in round {last}"
    alarm = f"; an alarm begins at about {written(limit)}{unit}" if limit is not None else ""
    return Figure(
        title=monitor.title,
        picture=line_plot(
            [Line("", points)],
            [str(its.number) for its in rounds],
            _whole_percent if monitor.share else _tick,
            levels,
            "round",
            bounds,
            0.1 if monitor.share else 0.0,
        ),
        says=f"{monitor.note}: {ends}{alarm}.",
        numbers=Sheet(
            f"{monitor.title}: {monitor.note}",
            ("|round", f"|{'%' if monitor.share else 'value'}"),
            [(str(its.number), written(value)) for its, value in zip(rounds, values, strict=True)],
        ),
        note=monitor.note + (", %" if monitor.share else ""),
    )


def _limit(monitor: Monitor, first: RoundReport, report: RunReport) -> float | None:
    given = report.setting(monitor.setting)
    if monitor.limit is None or given is None or monitor.name not in first.monitors:
        return None
    try:
        return monitor.limit(first.monitors, float(given))
    except ValueError:
        return None


def reliability_figures(report: RunReport) -> Iterator[Figure]:
    """How often the base's majority was right, by agreement, on labelled items."""
    for name, found in report.rows.majority.items():
        behind = [f"{round(its.agreement * found.samples)}/{found.samples}" for its in found.bins]
        points = tuple(
            Point(
                place,
                its.correct / its.count,
                f"agreement {behind[place]}: {its.correct} of {its.count} right",
                its.low,
                its.high,
            )
            for place, its in enumerate(found.bins)
        )
        if not points:
            continue
        rows: list[tuple[str, ...]] = [
            (
                behind[place],
                count(its.count),
                with_interval(its.correct / its.count, its.low, its.high),
                percent(its.kept),
                with_interval(its.accuracy, its.accuracy_low, its.accuracy_high),
            )
            for place, its in enumerate(found.bins)
        ]
        columns = ("|agreement", "|votes", "|right %", "|kept from here %", "|of these right %")
        ranks = UNKNOWN if found.auroc is None else f"{found.auroc:.2f}"
        passes = ", ".join(f"pass@{k} {percent(share)} %" for k, share in found.pass_at.items())
        yield Figure(
            title=f"Is the majority right? {name}",
            picture=line_plot([Line("", points)], behind, _whole_percent, (), "agreement", (0.0, 1.0), 0.2),
            says=f"Share of right labels, in %, by agreement; AUROC of agreement {ranks}.",
            numbers=Sheet(f"{name}: labels of the base by agreement", columns, rows),
            note=(
                f"labels that are right, in %, on {plural(found.items, 'labelled item')}; AUROC {ranks}; "
                f"maj@{found.samples} {percent(found.majority)} %; {passes} ({PASS})"
            ),
        )


def _mark(row: RoundRow) -> Mark:
    if row.round == 0:
        return "base"
    known: dict[str, Mark] = {"accept": "accept", "retry": "retry", "roll back": "roll back", "stop": "stop"}
    return known.get(row.verdict or "", "dot")


def _category(row: RoundRow) -> str:
    return "base" if row.round == 0 else str(row.round)


def _label(row: RoundRow) -> str:
    return "base" if row.round == 0 else f"round {row.round}"


def _share(correct: int | None, score: Score) -> str:
    return UNKNOWN if correct is None else percent(correct / score.total)


def _whole_percent(share: float) -> str:
    return f"{100 * share:g}"


def _tick(value: float) -> str:
    return f"{value:,g}"
