"""Is the model collapsing? What a round's votes look like, and the limits beyond which that is an alarm.

Nothing here looks at a label, with one exception: agreement must not rise while dev accuracy falls, or the model agrees
on its errors. numpy is imported where it is used, because the loop reads this file long before it judges.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING

from crescent.config import CollapseConfig
from crescent.judging.wording import percent_number
from crescent.records import Alarm, Candidate, Comparison, Response, Vote
from crescent.run_folder.metric_names import NEAR_DUPLICATE_RATE
from crescent.synthesis.consensus import SILENCE, is_unanimous, standings
from crescent.tasks.equivalence import as_number, normal

if TYPE_CHECKING:
    from crescent.models.embedders import Vectors

VARIETY_SAMPLE = 1000
"""Number of questions whose variety is measured, evenly spaced over the round: variety grows with their number, and the
time it takes with the cube of it."""


def monitors(
    votes: Sequence[Vote],
    vectors: "Vectors",
    candidates: Sequence[Candidate],
    samples: int,
    dev: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """What the votes of one round show about the diversity and the honesty of the model that made them.

    Agreement, silence and length are those of the first ⌊K/2⌋+1 answers, which every question is asked: they must not
    depend on adaptive voting. `agreement_3_of_5` is the share of questions with three of those five behind the leader.

    Args:
        vectors: Embeddings of the voted questions, shape (questions, dimensions), unit length.
        candidates: All invented questions, with their outcome in self-deduplication; `near_duplicate_rate` is left out
            where there are none.
        samples: K.
        dev: Scores on the dev items of the model that made the votes: `greedy` accuracy and, where it was measured,
            `majority` accuracy (maj@K). Their gap is what voting can still teach.
    """
    first = samples // 2 + 1
    answered = [vote for vote in votes if vote.answers]
    leads = [standings(vote.classes[:first])[1] for vote in answered]
    answers = [answer for vote in answered for answer in vote.answers[:first]]
    found = {
        "questions": float(len(votes)),
        "agreement": _mean([lead / first for lead in leads]),
        **{f"agreement_{lead}_of_{first}": _mean([leading == lead for leading in leads]) for lead in range(first + 1)},
        "unanimous": _mean([is_unanimous(vote, samples) for vote in answered]),
        "commonest": most_common_share([vote.winner for vote in votes if vote.winner is not None]),
        "silent": _mean([answer_class == SILENCE for vote in answered for answer_class in vote.classes[:first]]),
        "answer_tokens": _median([answer.tokens for answer in answers if answer.final is not None]),
        "question_characters": _mean([len(vote.question.text) for vote in votes]),
        "variety": round(effective_number(vectors), 3),
    }
    # As first invented: the rewrite of a near-duplicate is no second invention, and unusable text is no question.
    invented = [
        candidate.outcome
        for candidate in candidates
        if candidate.question.rewrites == 0 and candidate.outcome != "unusable"
    ]
    if invented:
        found[NEAR_DUPLICATE_RATE.monitor] = _mean([outcome != "accepted" for outcome in invented])
    if dev is not None and {"greedy", "majority"} <= dev.keys():
        found["majority_gap"] = round(dev["majority"] - dev["greedy"], 6)
    return found


def response_monitors(responses: Sequence[Response]) -> dict[str, float]:
    """The form of answers to benchmark items, labels unseen, under the names that `monitors` uses."""
    return {
        "questions": float(len({(response.benchmark, response.item) for response in responses})),
        "commonest": most_common_share([response.final for response in responses if response.final is not None]),
        "silent": _mean([response.final is None for response in responses]),
        "answer_tokens": _median([response.tokens for response in responses if response.final is not None]),
    }


def most_common_share(finals: Sequence[str]) -> float:
    """Share of the most common final answer, in [0, 1]; equal numbers are one answer, other text goes by spelling."""
    numbers = {final: as_number(final) for final in set(finals)}
    counts = Counter(normal(final) if (number := numbers[final]) is None else str(number) for final in finals)
    return round(counts.most_common(1)[0][1] / len(finals), 6) if finals else 0.0


def effective_number(vectors: "Vectors") -> float:
    """Effective number of distinct questions, in [1, min(shape, `VARIETY_SAMPLE`)]; 0 where there are none.

    The Vendi score with cosine as similarity (arXiv 2210.02410): the exponential of the entropy of the eigenvalues of
    X Xᵀ / n, which are those of XᵀX / n; the smaller matrix is used.
    """
    import numpy as np

    if len(vectors) == 0:
        return 0.0
    rows = np.linspace(0, len(vectors) - 1, min(len(vectors), VARIETY_SAMPLE)).round().astype(int)
    sample = vectors[rows].astype(np.float64)
    moments = sample.T @ sample if sample.shape[1] < len(sample) else sample @ sample.T
    shares = np.linalg.eigvalsh(moments / np.trace(moments))
    shares = shares[shares > 1e-12]
    return float(np.exp(-(shares * np.log(shares)).sum()))


@dataclass(frozen=True)
class _Watched:
    """What the rules below look at."""

    now: Mapping[str, float]
    first: Mapping[str, float]
    """The earliest monitors that covered enough questions; empty where there are none."""
    dev: Comparison | None
    cfg: CollapseConfig
    of: str
    since: str

    def has(self, name: str) -> bool:
        return name in self.now and name in self.first

    def beyond_chance(self, limit: float) -> float:
        """The limit of a share plus two binomial standard errors: a share of few questions proves little."""
        return min(1.0, limit) + 2 * math.sqrt(min(1.0, limit) * (1 - min(1.0, limit)) / self.now["questions"])


def alarms(
    now: Mapping[str, float],
    before: Sequence[Mapping[str, float]],
    dev: Comparison | None,
    cfg: CollapseConfig,
    of: str = "its own questions",
    since: str = "in the first round",
) -> list[Alarm]:
    """The signs of collapse in one round; a rule whose numbers are missing raises no alarm.

    The round is compared with the first one that had enough questions, not with the last one: small steps add up.

    Args:
        now: This round's `monitors`, or the `response_monitors` of the child's answers.
        before: Those of the earlier rounds, oldest first.
        dev: The child against the best checkpoint so far on the dev items; `None` where labels must not be looked at.
        of: Whose answers `now` is about, for the sentences.
        since: What the sentences call the first of `before`.
    """
    if now["questions"] < cfg.minimum:
        return []
    first = next((earlier for earlier in before if earlier["questions"] >= cfg.minimum), {})
    watched = _Watched(now, first, dev, cfg, of, since)
    return [alarm for rule in RULES for alarm in rule(watched)]


def _agreement_without_accuracy(watched: _Watched) -> Iterator[Alarm]:
    dev, cfg = watched.dev, watched.cfg
    if dev is None or not watched.has("agreement"):
        return
    agreement, agreement_before = watched.now["agreement"], watched.first["agreement"]
    rise, fall = agreement - agreement_before, -dev.difference
    # As for the guards, one side at 5%: on few dev items, chance alone looks like a fall.
    noise = 1.645 * math.sqrt(dev.gained + dev.lost) / max(1, dev.items)
    if rise >= cfg.agreement_rise and fall > max(cfg.accuracy_fall, noise):
        sentence = (
            f"it agrees with itself more ({agreement_before:.2f} {watched.since}, now {agreement:.2f}) "
            f"and solves {percent_number(fall)} points fewer of the dev items: it agrees on errors"
        )
        yield Alarm("agreement without accuracy", rise, cfg.agreement_rise, sentence)


def _near_duplicates(watched: _Watched) -> Iterator[Alarm]:
    share, limit = watched.now.get(NEAR_DUPLICATE_RATE.monitor, 0.0), watched.beyond_chance(watched.cfg.near_duplicates)
    if share > limit:
        sentence = f"{share:.0%} of the questions it invents resemble earlier ones (limit {limit:.0%})"
        yield Alarm("near-duplicates", share, limit, sentence)


def _one_answer(watched: _Watched) -> Iterator[Alarm]:
    share, before = watched.now.get("commonest", 0.0), watched.first.get("commonest", 0.0)
    limit = watched.beyond_chance(max(watched.cfg.commonest, 1.5 * before))
    if share > limit:
        sentence = f"{share:.0%} of {watched.of} have the same final answer (limit {limit:.0%})"
        yield Alarm("one answer", share, limit, sentence)


def _less_variety(watched: _Watched) -> Iterator[Alarm]:
    if not watched.has("variety"):
        return
    variety, variety_before = watched.now["variety"], watched.first["variety"]
    # Fewer questions are less varied without being more alike.
    questions, questions_before = (min(VARIETY_SAMPLE, seen["questions"]) for seen in (watched.now, watched.first))
    limit = watched.cfg.variety * variety_before * min(1.0, questions / questions_before)
    if variety < limit:
        sentence = (
            f"{watched.of} are as varied as {variety:.1f} different ones, {variety_before:.1f} {watched.since} "
            f"(limit {limit:.1f})"
        )
        yield Alarm("less variety", variety, limit, sentence)


def _shorter_answers(watched: _Watched) -> Iterator[Alarm]:
    if not watched.has("answer_tokens"):
        return
    tokens, tokens_before = watched.now["answer_tokens"], watched.first["answer_tokens"]
    limit = watched.cfg.length * tokens_before
    if tokens < limit:
        sentence = (
            f"answers to {watched.of} are {tokens:g} tokens long, {tokens_before:g} {watched.since} (limit {limit:g})"
        )
        yield Alarm("shorter answers", tokens, limit, sentence)


def _silence(watched: _Watched) -> Iterator[Alarm]:
    # Without an earlier round there is no telling silence by nature from silence by collapse.
    if not watched.first:
        return
    share, before = watched.now.get("silent", 0.0), watched.first.get("silent", 0.0)
    limit = watched.beyond_chance(max(watched.cfg.silent, 2 * before))
    if share > limit:
        sentence = (
            f"{share:.0%} of the answers to {watched.of} have no final answer, {before:.0%} {watched.since} "
            f"(limit {limit:.0%})"
        )
        yield Alarm("silence", share, limit, sentence)


RULES: tuple[Callable[[_Watched], Iterator[Alarm]], ...] = (
    _agreement_without_accuracy,
    _near_duplicates,
    _one_answer,
    _less_variety,
    _shorter_answers,
    _silence,
)


def _mean(values: Sequence[float]) -> float:
    return round(fmean(values), 6) if values else 0.0


def _median(values: Sequence[float]) -> float:
    return float(median(values)) if values else 0.0
