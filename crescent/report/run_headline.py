"""What may be claimed about a run, from the deciding benchmarks and from nothing else, and what limits the claim."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from crescent.errors import DataSaysNo
from crescent.judging.comparison import by_benchmark, paired_test, wilson
from crescent.judging.reliability import LABELS, VOTES, LabelledVote
from crescent.judging.wording import p_value, percent, percent_with_interval, points_with_interval
from crescent.reading.outcome import best_round
from crescent.reading.ranking import deciding_results
from crescent.reading.rounds import EVALUATION_ONLY, RESAMPLES, BenchmarkResult, RoundSummary, RunSummary
from crescent.records import Comparison, Response, Vote
from crescent.report.lenient import LenientReader
from crescent.run_folder.places import RESPONSES

ON_FAKES = "On fakes, not on a model"
"""Beginning of the claim about a run without a model."""


@dataclass(frozen=True)
class Headline:
    """The result of the run."""

    claim: str
    lines: tuple[str, ...]
    """What supports the claim, and what limits it."""


def read_headline(reader: LenientReader, summary: RunSummary) -> Headline:
    """The headline, from the comparisons that the run folder allows."""
    found = headline(summary, _pooled(reader, summary), _against_votes(reader, summary))
    return replace(found, claim=f"{ON_FAKES}: {found.claim}") if summary.is_on_fakes else found


def headline(summary: RunSummary, pooled: Comparison | None, against_votes: Mapping[str, Comparison]) -> Headline:
    """The claim and its lines.

    Args:
        pooled: Best checkpoint against the base on all deciding items; `None` where it is the base or unknown.
        against_votes: Best checkpoint against votes without training, by benchmark, where each item's vote is known.
    """
    best, judged = best_round(summary.rounds), [round_ for round_ in summary.rounds if round_.action is not None]
    if best is None:
        return Headline("No stage is finished, so there is nothing to report yet.", ())
    if summary.status == EVALUATION_ONLY:
        return Headline("One model was evaluated; nothing was trained.", tuple(_scores(best, "the model")))
    if not judged:
        return Headline("No child has been judged yet.", tuple(_scores(best, "the base")))
    if best.round == 0:
        nearest = max(judged, key=_mean_gain)
        claim = "No child replaced the base." if len(judged) > 1 else "The child did not replace the base."
        gains = [f"{_child(nearest)} came nearest: {_gain(result, summary)}" for result in deciding_results(nearest)]
        return Headline(claim, (*gains, *_votes_alone(summary, best, against_votes), *_tests(nearest, summary)))
    is_better = pooled is not None and pooled.p_value <= _alpha(summary) and pooled.difference > 0
    evidence = "better than the base on the deciding items" if is_better else "not shown to be better than the base"
    claim = f"{_child(best)} is the best checkpoint, {evidence}."
    gains = [_gain(result, summary) for result in deciding_results(best)]
    if pooled is not None and len(gains) > 1:
        gains.append(f"Together: {gain_text(pooled)}, on {pooled.items} items.")
    return Headline(claim, (*gains, *_votes_alone(summary, best, against_votes), *_tests(best, summary)))


def gain_text(gain: Comparison) -> str:
    """`+4.7 points [0.0, 10.0], p = 0.12`."""
    return f"{points_with_interval(gain.difference, gain.low, gain.high)}, {p_value(gain.p_value)}"


def base_of(summary: RunSummary) -> RoundSummary | None:
    return next((round_ for round_ in summary.rounds if round_.round == 0), None)


def _pooled(reader: LenientReader, summary: RunSummary) -> Comparison | None:
    best = best_round(summary.rounds)
    if best is None or best.round == 0 or best.verdict is None:
        return None
    names = best.verdict.benchmarks
    after, before = (
        [response for response in reader.records(f"{place}/eval/{RESPONSES}", Response) if response.benchmark in names]
        for place in (f"round-{best.round}", "base")
    )
    try:
        return paired_test(after, before, RESAMPLES, 0, against="base")
    except DataSaysNo as error:
        reader.run.note(f"round-{best.round} is not compared with the base: {error}")
        return None


def _against_votes(reader: LenientReader, summary: RunSummary) -> dict[str, Comparison]:
    """The best child against the votes on the same items, by benchmark; empty where no item's vote was recorded."""
    best = best_round(summary.rounds)
    if best is None or best.round == 0:
        return {}
    votes, labels = list(reader.records(VOTES, Vote)), list(reader.records(LABELS, LabelledVote))
    if len(votes) != len(labels):
        return {}
    # A vote on a labelled item names the benchmark as its bait and the item as its question.
    vote_is_correct = {
        (vote.question.bait, vote.question.id): label.correct for vote, label in zip(votes, labels, strict=True)
    }
    responses = reader.records(f"round-{best.round}/eval/{RESPONSES}", Response)
    child = [response for response in responses if (response.benchmark, response.item) in vote_is_correct]
    majority = by_benchmark(
        [replace(response, correct=vote_is_correct[response.benchmark, response.item]) for response in child]
    )
    return {
        name: paired_test(own, majority[name], RESAMPLES, 0, name, "base") for name, own in by_benchmark(child).items()
    }


def _alpha(summary: RunSummary) -> float:
    return float((summary.settings or {}).get("verdict.alpha", "0.05"))


def _child(round_: RoundSummary, first: str = "R") -> str:
    return f"{first}ound {round_.round}’s child"


def _mean_gain(round_: RoundSummary) -> float:
    gains = [result.against_base.difference for result in deciding_results(round_) if result.against_base]
    return sum(gains) / len(gains) if gains else -1.0


def _gain(result: BenchmarkResult, summary: RunSummary) -> str:
    base, name = base_of(summary), result.score.benchmark
    scores = (other.score for other in base.results if other.score.benchmark == name) if base else iter(())
    before = next(scores, None)
    after = percent(result.score.accuracy)
    if result.against_base is None:
        return f"{name}: {after}, not compared with the base."
    change = after if before is None else f"{percent(before.accuracy)} → {after}"
    return f"{name}: {change}, {gain_text(result.against_base)}, on the same {result.items} items."


def _scores(round_: RoundSummary, name: str) -> Iterator[str]:
    for result in round_.results:
        score = result.score
        yield f"{score.benchmark}: {name} scores {percent_with_interval(score.accuracy, score.low, score.high)}."


def _tests(round_: RoundSummary, summary: RunSummary) -> Iterator[str]:
    for result in round_.results:
        if not result.score.decides:
            yield f"Only reported: {_gain(result, summary)}"


def _votes_alone(summary: RunSummary, best: RoundSummary, against_votes: Mapping[str, Comparison]) -> Iterator[str]:
    """What voting gives without training: a gain that is not above it needs no training."""
    base = base_of(summary)
    for result in deciding_results(base) if base else []:
        name, voter = result.score.benchmark, "base"
        voted, gain = summary.reliability.get(name), against_votes.get(name)
        # Votes on labelled items are preferred where they allow a paired comparison, or where nothing else is known;
        # otherwise the majority of the benchmark's own samples is used.
        if voted is not None and (gain is not None or result.score.majority is None):
            voter = "base" if (summary.settings or {}).get("train.student", "null") == "null" else "teacher"
            share, samples, items = voted.majority, voted.samples, voted.items
        elif result.score.majority is not None:
            share, samples, items, gain = result.score.majority, result.score.samples, result.items, None
        else:
            continue
        majority = percent_with_interval(share, *wilson(round(share * items), items))
        sentence = f"Voting alone gives the {voter} {majority} on {name} (maj@{samples}, {items} items)"
        after = next((other for other in best.results if other.score.benchmark == name), None) if best.round else None
        if gain is not None:
            is_significant = gain.p_value <= _alpha(summary)
            relation = ("above" if gain.difference > 0 else "below") if is_significant else "not shown to be above"
            child = f"{_child(best, 'r')} is {relation} that, {gain_text(gain)}"
            sentence += f": on the same {gain.items} items {child}"
        elif after is not None:
            accuracy = percent_with_interval(after.score.accuracy, after.score.low, after.score.high)
            sentence += (
                f"; {_child(best, 'r')} scores {accuracy} on {after.items or after.score.total} items. They were not "
                "compared item by item, so it is not shown that training gave more than voting"
            )
        yield f"{sentence}."
