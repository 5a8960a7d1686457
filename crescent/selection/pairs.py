"""Which voted answers are trained on, together with which pairs of earlier rounds.

agreement cut ─▶ decontamination ─▶ cap on unanimous questions ─▶ responses ─▶ data policy ─▶ replay

Nothing is random: where some must be dropped, hashes of their ids decide, so the order of the votes does not matter.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import numpy as np

from crescent.config import ConsensusConfig, DataPolicy, Labels, PairsConfig, TaskConfig, TrainPrompt
from crescent.config.checks import fill
from crescent.errors import DataSaysNo
from crescent.records import Pair, Quarantined, Vote, digest
from crescent.selection.arms import (
    WITHOUT_ANSWER,
    answers_to_train_on,
    disturb,
    dropped_by_arm,
    follows_majority,
)
from crescent.selection.responses import outvoted_answer
from crescent.synthesis.consensus import is_kept, is_unanimous, margin

RULES = ("ngram", "masked", "computation", "similarity")
T = TypeVar("T")


@dataclass(frozen=True)
class Selection:
    """What a round trains on."""

    new: list[Pair]
    """Pairs of this round, all of them: later rounds take their share."""
    pairs: list[Pair]
    """Pairs to train on: those of earlier rounds (oldest first), then the new ones, then general instructions."""
    quarantined: list[Quarantined]
    """Questions that make the agreement cut but are too near to a benchmark question."""
    metrics: dict[str, float]


def select(
    votes: Sequence[Vote],
    contaminated: Mapping[str, Quarantined],
    task: TaskConfig,
    consensus: ConsensusConfig,
    cfg: PairsConfig,
    earlier: Sequence[Sequence[Pair]] = (),
    general: Sequence[Pair] = (),
) -> Selection:
    """New pairs from the votes, mixed with earlier ones and general instructions.

    Args:
        contaminated: Questions too near to a benchmark, by question id (`crescent.selection.decontamination`).
        earlier: The new pairs of each earlier round, oldest round first.
        general: Instructions to replay (`crescent.synthesis.replay`).

    Raises:
        DataSaysNo: fewer than `pairs.minimum` new pairs; the message says how many each filter dropped.
    """
    # 1. Agreement: questions that have a label at all. All arms but `first_any` take those of the majority.
    following = follows_majority(cfg.labels)
    labelled = [
        vote for vote in votes if (is_kept(vote, consensus) if following else answers_to_train_on(vote, consensus, cfg))
    ]
    # 2. Decontamination comes before the cap: a question that is not trained on must make no room for easy ones.
    quarantined = [contaminated[vote.question.id] for vote in labelled if vote.question.id in contaminated]
    clean = [vote for vote in labelled if vote.question.id not in contaminated]
    # 3. Unanimous questions are too easy to teach much. Arms have the majority's cap, so that they share its questions.
    capped = cap_unanimous(clean, consensus.samples, cfg.max_unanimous) if following else clean
    # 4. One or more responses to each question; which ones depends on the arm (`pairs.labels`, `pairs.noise`).
    kept = [vote for vote in capped if answers_to_train_on(vote, consensus, cfg)]
    new = [pair for vote in kept for pair in pairs_of(vote, task, consensus, cfg)]
    new, disturbed = disturb(new, kept, cfg)
    # 5. Pairs of earlier rounds by the data policy, and general instructions beside them all.
    pairs = mix(new, earlier, general, cfg)
    counts = {
        **_counts_of_votes(votes, consensus),
        **_counts_of_questions(kept, quarantined, consensus),
        "unanimous_dropped": len(clean) - len(capped),
        **dropped_by_arm(capped, kept, cfg.labels),
        **disturbed,
        **_counts_of_pairs(new, pairs, in_policy(earlier, cfg)),
    }
    if len(new) < cfg.minimum:
        raise DataSaysNo(_why_too_few(votes, counts, consensus, cfg))
    means = {
        "agreement": round(float(np.mean([pair.agreement for pair in new])), 6),
        "characters": round(float(np.mean([len(pair.completion) for pair in new])), 1),
    }
    return Selection(new, pairs, quarantined, {**counts, **means})


def _counts_of_votes(votes: Sequence[Vote], consensus: ConsensusConfig) -> dict[str, int]:
    """Votes that end without a label, by reason: each vote counts once at most."""
    return {
        "silent": sum(vote.votes == 0 for vote in votes),
        "ties": sum(vote.winner is None and vote.votes > 0 for vote in votes),
        "below_cut": sum(vote.winner is not None and not is_kept(vote, consensus) for vote in votes),
    }


def _counts_of_questions(
    kept: Sequence[Vote], quarantined: Sequence[Quarantined], consensus: ConsensusConfig
) -> dict[str, int]:
    """Questions that are trained on, and those that decontamination took before."""
    return {
        "questions": len(kept),
        "quarantined": len(quarantined),
        **{f"quarantined_{rule}": sum(hit.rule == rule for hit in quarantined) for rule in RULES},
        "unanimous_kept": sum(is_unanimous(vote, consensus.samples) for vote in kept),
    }


def _counts_of_pairs(new: Sequence[Pair], pairs: Sequence[Pair], earlier: Sequence[Sequence[Pair]]) -> dict[str, int]:
    """Pairs by origin; `earlier` are the rounds within the data policy, before decay."""
    voted = sum(pair.source == "vote" for pair in pairs)
    return {
        "pairs": len(new),
        "with_rejected": sum(pair.rejected is not None for pair in new),
        "earlier": voted - len(new),
        "decayed": sum(map(len, earlier)) + len(new) - voted,
        "replayed": len(pairs) - voted,
        "total": len(pairs),
    }


def cap_unanimous(votes: Sequence[Vote], samples: int, share: float) -> list[Vote]:
    """The votes, of which at most `share` are unanimous once the others have been dropped; `samples` is K.

    The questions that stay are those whose ids come first by hash.
    """
    easy = {vote.question.id for vote in votes if is_unanimous(vote, samples)}
    room = at_most(share, len(votes) - len(easy), len(easy))
    staying = set(sorted(easy, key=digest)[:room])
    return [vote for vote in votes if vote.question.id not in easy or vote.question.id in staying]


def at_most(share: float, others: int, available: int) -> int:
    """The largest number, up to `available`, that is at most `share` of its sum with `others`."""
    exact = Fraction(str(share))  # 0.7 as written: the float is a little less
    return available if exact >= 1 else min(available, math.floor(exact * others / (1 - exact)))


def mix(
    new: Sequence[Pair], earlier: Sequence[Sequence[Pair]], general: Sequence[Pair], cfg: PairsConfig
) -> list[Pair]:
    """The pairs of earlier rounds that stay (oldest first), the new ones, and the share of general instructions.

    From a round that lies `age` rounds back, the first decay**age of the pairs by hash stay, rounded up: a pair that
    was dropped once never comes back. Pairs of one question are dropped one by one, so that more questions stay.
    """
    rounds = in_policy(earlier, cfg)
    decay = Fraction(str(cfg.decay))
    voted: list[Pair] = []
    for age, pairs in zip(range(len(rounds), 0, -1), rounds, strict=True):
        voted += _first_by_hash(pairs, math.ceil(decay**age * len(pairs)))
    voted += new
    # The first ones: the number of instructions to choose from must not change which ones are chosen.
    return [*voted, *general[: at_most(cfg.replay.share, len(voted), len(general))]]


def in_policy(earlier: Sequence[T], cfg: PairsConfig) -> Sequence[T]:
    """The earlier rounds whose pairs the data policy uses, oldest first; a round may be given by any object."""
    match cfg.policy:
        case DataPolicy.accumulate:
            return earlier
        case DataPolicy.window:
            # The window includes this round, so one fewer of the earlier ones.
            return earlier[max(0, len(earlier) - (cfg.window - 1)) :]
        case DataPolicy.replace:
            return []


def _first_by_hash(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """`count` of the pairs, in their order; a larger count keeps the same ones and adds to them."""
    chosen = {pair.id for pair in sorted(pairs, key=lambda pair: digest(pair.id))[:count]}
    return [pair for pair in pairs if pair.id in chosen]


def pairs_of(decided: Vote, task: TaskConfig, consensus: ConsensusConfig, cfg: PairsConfig) -> list[Pair]:
    """The question with each chosen response, the best first, and beside each the answer that was outvoted.

    Control arms have no outvoted answer: the answer they train on is not the one the vote found.
    """
    question = decided.question
    prompt = fill(task.answer_prompt, question.text) if cfg.prompt is TrainPrompt.answer else question.text
    voted = cfg.labels in (Labels.majority, Labels.fixed)
    outvoted = outvoted_answer(decided) if voted else None
    carries_majority = voted or cfg.labels is Labels.shuffled
    return [
        Pair(
            id=digest(question.id, response.sample, prompt),
            question=question.id,
            round=question.round,
            prompt=prompt,
            completion=response.text,
            final=(decided.winner if carries_majority else response.final) or "",
            agreement=decided.agreement,
            rejected=outvoted.text if outvoted else None,
            margin=margin(decided) if outvoted else None,
        )
        for response in answers_to_train_on(decided, consensus, cfg)
    ]


def _why_too_few(votes: Sequence[Vote], counts: Mapping[str, int], consensus: ConsensusConfig, cfg: PairsConfig) -> str:
    """How many questions each filter dropped, and how to get more pairs."""
    finals = [answer.final for vote in votes for answer in vote.answers]
    silent = sum(final is None for final in finals)
    dropped = [
        (counts["silent"], "without any final answer"),
        (counts["ties"], "ties"),
        (counts["below_cut"], f"below consensus.min_agreement={consensus.min_agreement}"),
        (counts["quarantined"], "too near to a benchmark (pairs.decontamination)"),
        (counts["unanimous_dropped"], f"too easy: above pairs.max_unanimous={cfg.max_unanimous}"),
        *((counts[name], reason) for name, reason in WITHOUT_ANSWER.items() if name in counts),
    ]
    why = ", ".join(f"{count} {reason}" for count, reason in dropped if count) or "nothing was dropped"
    without_answer = sum(counts.get(name, 0) for name in WITHOUT_ANSWER)
    labelled = counts["questions"] + counts["quarantined"] + counts["unanimous_dropped"] + without_answer
    arm = "" if cfg.labels is Labels.majority else f" with pairs.labels={cfg.labels.value}"
    too_few = f"{counts['pairs']} pairs are left{arm}, and training needs pairs.minimum={cfg.minimum}"
    if not follows_majority(cfg.labels):
        return (
            f"{labelled} of {len(votes)} questions have a final answer, {too_few}; ask more questions (bait.questions)"
        )
    return (
        f"{labelled} of {len(votes)} questions have a winner with agreement >= {consensus.min_agreement}, {too_few} "
        f"({why}; {silent} of {len(finals)} answers silent); {_fix(votes, counts, silent, len(finals))}"
    )


def _fix(votes: Sequence[Vote], counts: Mapping[str, int], silent: int, answers: int) -> str:
    """The settings that help against the filter that dropped most."""
    easy, near = counts["unanimous_dropped"], counts["quarantined"]
    without_answer = max(counts.get(name, 0) for name in WITHOUT_ANSWER)
    disagreed = counts["ties"] + counts["below_cut"] + counts["silent"]
    if not votes:
        return (
            "no question was left: all were unusable (cut at bait.max_tokens, too short) or near-duplicates "
            "(diversify.threshold); metrics.jsonl has the counts"
        )
    if silent > answers / 2:
        return "most answers have no final answer: raise consensus.max_tokens or change task.answer_prompt"
    if without_answer > max(easy, near, disagreed):
        if counts.get("not_computable", 0) == without_answer:
            return "use a bait for questions that are one plain computation (bait=arithmetic), or another pairs.labels"
        return "ask more questions (bait.questions), or use another pairs.labels"
    if easy and easy >= max(near, disagreed):
        fix = "set pairs.max_unanimous=1, or use a bait for harder questions (bait.prompts)"
        only = "all remaining questions are unanimous, which exceeds that share however few are kept"
        return fix if counts["questions"] else f"{only}; {fix}"
    if near and near >= disagreed:
        return (
            "the model repeats benchmark problems: use a bait for other questions (bait.prompts), or loosen "
            "pairs.decontamination (similarity, masked) where all questions of the task look alike"
        )
    return "ask more questions (bait.questions) or lower consensus.min_agreement"
