"""The charts of one run, each with what it shows in a sentence and its numbers in a table."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from crescent.judging.reliability import Reliability
from crescent.judging.wording import (
    OUTCOMES,
    p_number,
    percent,
    percent_number,
    percent_number_with_interval,
    percent_with_interval,
    points_number_with_interval,
)
from crescent.reading.rounds import BenchmarkResult, RoundSummary
from crescent.records import Score
from crescent.report.charts import (
    Layer,
    Level,
    Line,
    Point,
    layer_legend,
    line_legend,
    line_plot,
    mark_legend,
    stack_plot,
)
from crescent.report.questions import ENTROPY_STEP, FATES, VotedFate, count_fates
from crescent.report.run import RoundReport, RunReport
from crescent.report.svg import Mark, Tone
from crescent.report.texts import count, percent_or_unknown, plural
from crescent.run_folder.metric_names import FLEXIBLE, STRICT
from crescent.show.texts import UNKNOWN, Sheet

PASS = "pass@k: at least one of k answers is correct; an upper bound, not a vote"


@dataclass(frozen=True)
class Figure:
    """A chart."""

    title: str
    picture: Markup
    description: str
    """What the chart shows, for readers who do not see it."""
    numbers: Sheet
    note: str = ""
    legend: tuple[tuple[Markup, str], ...] = ()
    wide: bool = False
    """Whether the picture scrolls, as a table does, instead of shrinking where there is no room for it."""


def score_figures(report: RunReport) -> Iterator[Figure]:
    """One figure for each benchmark, the deciding ones first."""
    rounds = report.summary.rounds
    decides = {result.score.benchmark: result.score.decides for round_ in rounds for result in round_.results}
    for name in sorted(decides, key=lambda name: (not decides[name], name)):
        results = [(round_, result) for round_ in rounds for result in round_.results if result.score.benchmark == name]
        yield _score_figure(report, name, decides[name], results)


Results = Sequence[tuple[RoundSummary, BenchmarkResult]]
"""Results on one benchmark, round by round."""


def _score_figure(report: RunReport, name: str, decides: bool, results: Results) -> Figure:
    rounds = [round_ for round_ in report.summary.rounds if round_.round == 0 or round_.checkpoint]
    places = {round_.round: place for place, round_ in enumerate(rounds)}
    checkpoints = tuple(
        Point(
            places[round_.round],
            result.score.accuracy,
            f"{label(round_)}: {percent_with_interval(result.score.accuracy, result.score.low, result.score.high)}",
            result.score.low,
            result.score.high,
            _mark(round_),
        )
        for round_, result in results
    )
    lines = [_in_service(rounds, places, results), Line("", checkpoints, joined=False)]
    lines += _several_samples(places, results)
    voted = report.summary.reliability.get(name)
    asked_once = all(result.score.majority is None for _, result in results)
    levels = [Level(f"maj@{voted.samples}", voted.majority)] if voted and asked_once else []
    teacher = next((score for score in report.teacher if score.benchmark == name), None)
    levels += [Level("teacher", teacher.accuracy)] if teacher else []
    categories = ["base" if round_.round == 0 else str(round_.round) for round_ in rounds]
    beside = list(_all_shares(report))
    picture = line_plot(lines, categories, whole_percent, levels, "round", (0.0, 1.0), 0.1, beside=beside)
    (first_round, first), (last_round, last) = results[0], results[-1]
    kind = "dev, decides" if decides else "test, only reported"
    note = f"{plural(first.items or first.score.total, 'item')}; {kind}; accuracy in %, bars are 95% intervals"
    if asked_once and voted:
        voter = "teacher" if report.teacher else "base"
        note += f"; dashed: the {voter}’s majority of {voted.samples} votes on {voted.items} of the items"
    if any(result.score.pass_at for _, result in results):
        note += f"; {PASS}"
    note += _about_formats([result.score for _, result in results])
    start = f"accuracy {percent(first.score.accuracy)} at {label(first_round)}"
    end = f"{percent(last.score.accuracy)} at {label(last_round)}"
    return Figure(
        title=name,
        picture=picture,
        description=f"{start}, {end}. The numbers are in the table below.",
        numbers=_score_sheet(name, results, voted, teacher),
        note=note,
        legend=(
            *mark_legend(list(dict.fromkeys(_mark(round_) for round_, _ in results))),
            *([line_legend("ghost", "parent in service")] if len(lines[0].points) > 1 else []),
        ),
    )


def _about_formats(scores: Sequence[Score]) -> str:
    """What strict and flexible scores mean, where a benchmark has them."""
    if any(score.strict for score in scores):
        return f"; {STRICT.explained}; {FLEXIBLE.explained}"
    if any(score.strict == 0 for score in scores):
        return "; no response is in the format that strict scoring asks for, so it is not shown"
    return ""


def _all_shares(report: RunReport) -> Iterator[float]:
    """Everything in the charts of all benchmarks: these stand side by side, so they have one scale."""
    scores = [result.score for round_ in report.summary.rounds for result in round_.results]
    for score in (*scores, *report.teacher):
        known = (score.low, score.high, score.majority, score.pass_at.get(str(score.samples)))
        yield from (share for share in known if share is not None)
    yield from (voted.majority for voted in report.summary.reliability.values())


def _in_service(rounds: Sequence[RoundSummary], places: Mapping[int, int], results: Results) -> Line:
    """Accuracy of the checkpoint that would be served: a child that was not accepted leaves it unchanged."""
    by_round = {round_.round: result.score.accuracy for round_, result in results}
    points, accuracy = [], by_round.get(0)
    for round_ in rounds:
        accuracy = by_round.get(round_.round, accuracy) if round_.action == "accept" else accuracy
        if accuracy is not None:
            tooltip = f"in service after {label(round_)}: {percent(accuracy)}"
            points.append(Point(places[round_.round], accuracy, tooltip))
    return Line("", tuple(points), "ghost")


def _several_samples(places: Mapping[int, int], results: Results) -> Iterator[Line]:
    """maj@k and pass@k over the rounds, where every item was asked several times."""
    several = [(round_, result.score) for round_, result in results if result.score.samples > 1]
    voted = [(round_, score.samples, score.majority) for round_, score in several if score.majority is not None]
    passed = [
        (round_, score.samples, score.pass_at[str(score.samples)])
        for round_, score in several
        if str(score.samples) in score.pass_at
    ]
    if voted:
        yield _share_line("maj", voted, places, "second")
    if passed:
        yield _share_line("pass", passed, places, "third")


def _share_line(
    kind: str, shares: Sequence[tuple[RoundSummary, int, float]], places: Mapping[int, int], tone: Tone
) -> Line:
    name = f"{kind}@{shares[0][1]}"
    points = [
        Point(places[round_.round], share, f"{label(round_)}: {name} {percent(share)}") for round_, _, share in shares
    ]
    return Line(name, tuple(points), tone)


def _score_sheet(name: str, results: Results, voted: Reliability | None, teacher: Score | None) -> Sheet:
    columns = ["checkpoint", "verdict", "|accuracy %", "|over base, points", "|p"]
    scores = [result.score for _, result in results]
    strict = any(score.strict for score in scores)
    columns += ["|unparsed", *(["|strict %"] if strict else []), "|flexible %"]
    several = any(score.majority is not None or score.pass_at for score in scores)
    ks = sorted({int(k) for score in scores for k in score.pass_at if int(k) > 1})
    if several:
        columns += ["|maj@k %", *(f"|pass@{k} %" for k in ks)]
    rows: list[tuple[str, ...]] = []
    for round_, result in results:
        score, gain = result.score, result.against_base
        cells = [
            label(round_),
            OUTCOMES[round_.action] if round_.action else UNKNOWN,
            percent_number_with_interval(score.accuracy, score.low, score.high),
            points_number_with_interval(gain.difference, gain.low, gain.high) if gain else UNKNOWN,
            p_number(gain.p_value) if gain else UNKNOWN,
            count(score.unparsed),
            *([_share(score.strict, score)] if strict else []),
            _share(score.flexible, score),
        ]
        if several:
            passes = (score.pass_at.get(str(k)) for k in ks)
            cells += [percent_or_unknown(score.majority), *(percent_or_unknown(share) for share in passes)]
        rows.append(tuple(cells))
    if voted:
        share = percent_number_with_interval(voted.majority, voted.majority_low, voted.majority_high)
        voter = "teacher" if teacher else "base"
        rows.append((f"{voter}, maj@{voted.samples}", UNKNOWN, share, *[UNKNOWN] * (len(columns) - 3)))
    if teacher:
        share = percent_number_with_interval(teacher.accuracy, teacher.low, teacher.high)
        rows.append(("teacher", UNKNOWN, share, *[UNKNOWN] * (len(columns) - 3)))
    return Sheet(f"{name}: accuracy with 95% intervals", tuple(columns), rows)


def agreement_figures(rounds: Sequence[RoundReport]) -> Iterator[Figure]:
    """Agreement of the first answers, by what became of the questions: one figure for each round, on the same axes."""
    by_round = {round_.number: round_.questions for round_ in rounds if round_.questions and round_.questions.voted}
    counts = {
        number: count_fates(questions.voted, questions.first + 1, lambda question: question.lead)
        for number, questions in by_round.items()
    }
    for number, questions in by_round.items():
        categories = [f"{lead}/{questions.first}" for lead in range(questions.first + 1)]
        counted = f"questions by how many of their first {questions.first} answers agree"
        title = "Agreement of the first answers"
        yield _stack_figure(title, number, counts, categories, "first answers that agree", counted)


def difficulty_figures(rounds: Sequence[RoundReport]) -> Iterator[Figure]:
    """Difficulty of the questions for the model that asked them, by the entropy of their answers."""
    by_round = {round_.number: round_.questions for round_ in rounds if round_.questions and round_.questions.voted}
    most = max((question.entropy for questions in by_round.values() for question in questions.voted), default=0.0)
    columns = math.floor(most / ENTROPY_STEP + 1e-9) + 1
    counts = {
        number: count_fates(questions.voted, columns, lambda question: int(question.entropy / ENTROPY_STEP + 1e-9))
        for number, questions in by_round.items()
    }
    categories = [f"{place * ENTROPY_STEP:g}" for place in range(columns)]
    for number in by_round:
        counted = "questions by the entropy of their answers, which is 0 bits when all agree"
        x_title = f"bits, in steps of {ENTROPY_STEP:g}"
        yield _stack_figure("Difficulty", number, counts, categories, x_title, counted)


def _stack_figure(
    kind: str,
    number: int,
    by_round: Mapping[int, Mapping[VotedFate, Sequence[int]]],
    categories: Sequence[str],
    x_title: str,
    counted: str,
) -> Figure:
    highest = max(sum(column) for counts in by_round.values() for column in zip(*counts.values(), strict=True))
    layers = [Layer(fate, tuple(counts), FATES.index(fate)) for fate, counts in by_round[number].items()]
    rows: list[tuple[str, ...]] = [
        (category, *(count(layer.values[place]) for layer in layers)) for place, category in enumerate(categories)
    ]
    title = f"{kind}, round {number}"
    return Figure(
        title=title,
        picture=stack_plot(layers, categories, x_title, highest),
        description=f"Counts of {counted}, and what became of them. The numbers are in the table below.",
        numbers=Sheet(f"{title}: questions", (x_title, *(f"|{layer.name}" for layer in layers)), rows),
        legend=tuple(layer_legend(layers)),
    )


def reliability_figures(report: RunReport) -> Iterator[Figure]:
    """How often the base's majority vote was correct, by agreement, on labelled items."""
    for name, reliability in report.summary.reliability.items():
        agreements = [
            f"{round(bin_.agreement * reliability.samples)}/{reliability.samples}" for bin_ in reliability.bins
        ]
        points = tuple(
            Point(
                place,
                bin_.correct / bin_.count,
                f"agreement {agreements[place]}: {bin_.correct} of {bin_.count} correct",
                bin_.low,
                bin_.high,
            )
            for place, bin_ in enumerate(reliability.bins)
        )
        if not points:
            continue
        rows: list[tuple[str, ...]] = [
            (
                agreement,
                count(bin_.count),
                percent_number_with_interval(bin_.correct / bin_.count, bin_.low, bin_.high),
                percent_number(bin_.kept),
                percent_number_with_interval(bin_.accuracy, bin_.accuracy_low, bin_.accuracy_high),
            )
            for agreement, bin_ in zip(agreements, reliability.bins, strict=True)
        ]
        columns = ("|agreement", "|votes", "|correct %", "|kept %", "|correct if kept %")
        auroc = UNKNOWN if reliability.auroc is None else f"{reliability.auroc:.2f}"
        passes = ", ".join(f"pass@{k} {percent(share)}" for k, share in reliability.pass_at.items())
        yield Figure(
            title=f"Is the majority correct? {name}",
            picture=line_plot([Line("", points)], agreements, whole_percent, (), "agreement", (0.0, 1.0), 0.2),
            description=f"Share of correct labels, in %, by agreement; AUROC of agreement {auroc}.",
            numbers=Sheet(f"{name}: the base’s labels by agreement", columns, rows),
            note=(
                f"correct labels, in %, on {plural(reliability.items, 'labelled item')}; AUROC {auroc}; "
                f"maj@{reliability.samples} {percent(reliability.majority)}; {passes} ({PASS})"
            ),
        )


def label(round_: RoundSummary) -> str:
    return "base" if round_.round == 0 else f"round {round_.round}"


def whole_percent(share: float) -> str:
    return f"{100 * share:g}"


def _mark(round_: RoundSummary) -> Mark:
    return "base" if round_.round == 0 else round_.action or "dot"


def _share(correct: int | None, score: Score) -> str:
    return UNKNOWN if correct is None else percent_number(correct / score.total)
