"""Is the model closing in on itself? What a round's votes look like, and from where on that is an alarm.

Nothing here looks at a label, but for one rule: agreement may not rise while dev accuracy falls, or the model agrees on
its errors. numpy is imported where it is used, because the loop reads `crescent.judging.verdict` long before it judges.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING

from crescent.config import CollapseConfig
from crescent.records import Alarm, Candidate, Comparison, Response, Vote
from crescent.synthesis.consensus import SILENCE, is_unanimous, standings
from crescent.tasks.equivalence import as_number, normal

if TYPE_CHECKING:
    from crescent.models.embedders import Vectors

ENOUGH = 1000
"""Questions whose variety is measured, evenly spaced over the round: it grows with their number, and costs its cube."""


def monitors(
    votes: Sequence[Vote],
    vectors: "Vectors",
    candidates: Sequence[Candidate],
    samples: int,
    dev: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """What one round's votes say about the model that made them, its diversity and its honesty.

    Agreement, silence and length are those of the first ⌊K/2⌋+1 answers, which every question is asked: they must not
    depend on adaptive voting. `agreement_3_of_5` is the share of questions with three of those five behind the leader.

    Args:
        vectors: Of the voted questions, shape (questions, dimensions), unit length.
        candidates: All that were invented, with what self-deduplication made of them; none leave `near_duplicates` out.
        samples: K.
        dev: Of the model that made the votes, on the dev items: `greedy` accuracy and, where it was measured,
            `majority` accuracy (maj@K). Their gap is what voting still has to teach.
    """
    first = samples // 2 + 1
    asked = [its for its in votes if its.answers]
    leads = [standings(its.classes[:first])[1] for its in asked]
    answers = [answer for its in asked for answer in its.answers[:first]]
    found = {
        "questions": float(len(votes)),
        "agreement": _mean([lead / first for lead in leads]),
        **{f"agreement_{lead}_of_{first}": _mean([its == lead for its in leads]) for lead in range(first + 1)},
        "unanimous": _mean([is_unanimous(its, samples) for its in asked]),
        "commonest": commonest([its.winner for its in votes if its.winner is not None]),
        "silent": _mean([its == SILENCE for vote in asked for its in vote.classes[:first]]),
        "answer_tokens": _median([answer.tokens for answer in answers if answer.final is not None]),
        "question_characters": _mean([len(its.question.text) for its in votes]),
        "variety": round(effective_number(vectors), 3),
    }
    invented = [its.outcome for its in candidates if its.question.rewrites == 0 and its.outcome != "unusable"]
    if invented:
        found["near_duplicates"] = _mean([outcome != "accepted" for outcome in invented])
    if dev is not None and {"greedy", "majority"} <= dev.keys():
        found["majority_gap"] = round(dev["majority"] - dev["greedy"], 6)
    return found


def readings(responses: Sequence[Response]) -> dict[str, float]:
    """The form of answers to benchmark items, labels unseen, under the names that `monitors` uses."""
    return {
        "questions": float(len({(its.benchmark, its.item) for its in responses})),
        "commonest": commonest([its.final for its in responses if its.final is not None]),
        "silent": _mean([its.final is None for its in responses]),
        "answer_tokens": _median([its.tokens for its in responses if its.final is not None]),
    }


def commonest(finals: Sequence[str]) -> float:
    """Share of the most frequent final answer, in [0, 1]; equal numbers are one answer, other text goes by spelling."""
    spelled = {final: as_number(final) for final in set(finals)}
    spellings = Counter(normal(its) if (number := spelled[its]) is None else str(number) for its in finals)
    return round(spellings.most_common(1)[0][1] / len(finals), 6) if finals else 0.0


def effective_number(vectors: "Vectors") -> float:
    """How many entirely different questions would be as varied as these, in [1, min(shape, `ENOUGH`)]; 0 of none.

    The Vendi score with cosine as similarity (arXiv 2210.02410): exp of the entropy of the eigenvalues of X Xᵀ / n,
    which are those of XᵀX / n, whichever is smaller.
    """
    import numpy as np

    if len(vectors) == 0:
        return 0.0
    places = np.linspace(0, len(vectors) - 1, min(len(vectors), ENOUGH)).round().astype(int)
    some = vectors[places].astype(np.float64)
    moments = some.T @ some if some.shape[1] < len(some) else some @ some.T
    shares = np.linalg.eigvalsh(moments / np.trace(moments))
    shares = shares[shares > 1e-12]
    return float(np.exp(-(shares * np.log(shares)).sum()))


@dataclass(frozen=True)
class _Seen:
    """What the rules below look at."""

    now: Mapping[str, float]
    first: Mapping[str, float]
    dev: Comparison | None
    cfg: CollapseConfig
    of: str
    since: str

    def has(self, *names: str) -> bool:
        return all(name in self.now and name in self.first for name in names)

    def beyond_chance(self, limit: float) -> float:
        """The limit of a share, and two binomial standard errors more: a share of few questions proves little."""
        return min(1.0, limit) + 2 * math.sqrt(min(1.0, limit) * (1 - min(1.0, limit)) / self.now["questions"])


def alarms(
    now: Mapping[str, float],
    before: Sequence[Mapping[str, float]],
    dev: Comparison | None,
    cfg: CollapseConfig,
    of: str = "its own questions",
    since: str = "in the first round",
) -> list[Alarm]:
    """The signs of collapse in one round; a rule whose numbers are missing is silent.

    Compared is with the first round that had enough questions, not the last one: small steps add up.

    Args:
        now: This round's `monitors`, or the `readings` of the child's answers.
        before: Of the earlier rounds, oldest first.
        dev: The child against the best checkpoint so far on the dev items; `None` where labels must not be looked at.
        of: Whose answers `now` is about, for the sentences.
        since: What the first of `before` is called there.
    """
    if now["questions"] < cfg.minimum:
        return []
    first = next((its for its in before if its["questions"] >= cfg.minimum), {})
    seen = _Seen(now, first, dev, cfg, of, since)
    return [alarm for rule in RULES for alarm in rule(seen)]


def _agreement_without_accuracy(its: _Seen) -> Iterator[Alarm]:
    if its.dev is None or not its.has("agreement"):
        return
    rise = its.now["agreement"] - its.first["agreement"]
    # As in the guard: an interval of its own, so that few dev items are not taken for a fall.
    noise = 1.645 * math.sqrt(its.dev.gained + its.dev.lost) / max(1, its.dev.items)
    fall = -its.dev.difference
    if rise >= its.cfg.agreement_rise and fall > max(its.cfg.accuracy_fall, noise):
        sentence = (
            f"it agrees with itself more ({its.first['agreement']:.2f} {its.since}, now {its.now['agreement']:.2f}) "
            f"and solves {100 * fall:.1f} points fewer of the dev items: it agrees on errors"
        )
        yield Alarm("agreement without accuracy", rise, its.cfg.agreement_rise, sentence)


def _near_duplicates(its: _Seen) -> Iterator[Alarm]:
    share, limit = its.now.get("near_duplicates", 0.0), its.beyond_chance(its.cfg.near_duplicates)
    if share > limit:
        sentence = f"{share:.0%} of the questions it invents resemble earlier ones (limit {limit:.0%})"
        yield Alarm("near-duplicates", share, limit, sentence)


def _one_answer(its: _Seen) -> Iterator[Alarm]:
    share = its.now.get("commonest", 0.0)
    limit = its.beyond_chance(max(its.cfg.commonest, 1.5 * its.first.get("commonest", 0.0)))
    if share > limit:
        sentence = f"{share:.0%} of {its.of} have the same final answer (limit {limit:.0%})"
        yield Alarm("one answer", share, limit, sentence)


def _less_variety(its: _Seen) -> Iterator[Alarm]:
    if not its.has("variety"):
        return
    value, had = its.now["variety"], its.first["variety"]
    # Fewer questions are less varied without being more alike.
    measured, had_measured = (min(ENOUGH, its["questions"]) for its in (its.now, its.first))
    limit = its.cfg.variety * had * min(1.0, measured / had_measured)
    if value < limit:
        sentence = f"{its.of} are as varied as {value:.1f} different ones, {had:.1f} {its.since} (limit {limit:.1f})"
        yield Alarm("less variety", value, limit, sentence)


def _shorter_answers(its: _Seen) -> Iterator[Alarm]:
    if not its.has("answer_tokens"):
        return
    value, limit = its.now["answer_tokens"], its.cfg.length * its.first["answer_tokens"]
    if value < limit:
        sentence = (
            f"answers to {its.of} are {value:g} tokens long, {its.first['answer_tokens']:g} {its.since} "
            f"(limit {limit:g})"
        )
        yield Alarm("shorter answers", value, limit, sentence)


def _silence(its: _Seen) -> Iterator[Alarm]:
    share, had = its.now.get("silent", 0.0), its.first.get("silent", 0.0)
    limit = its.beyond_chance(max(its.cfg.silent, 2 * had))
    if share > limit and its.first:
        sentence = (
            f"{share:.0%} of the answers to {its.of} have no final answer, {had:.0%} {its.since} (limit {limit:.0%})"
        )
        yield Alarm("silence", share, limit, sentence)


RULES: tuple[Callable[[_Seen], Iterator[Alarm]], ...] = (
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
