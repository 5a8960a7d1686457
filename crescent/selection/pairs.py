"""Which voted answers are trained on, together with which earlier ones.

agreement cut ─▶ decontamination ─▶ cap on unanimous questions ─▶ responses ─▶ data policy ─▶ replay

Nothing is drawn: whoever has to go is decided by hashes of ids, so the order of the votes favours nobody.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import numpy as np

from crescent.config import ConsensusConfig, DataPolicy, Labels, PairsConfig, TaskConfig, TrainPrompt, Winner
from crescent.config.checks import fill
from crescent.errors import DataSaysNo
from crescent.records import Answer, Pair, Quarantined, Vote, digest
from crescent.synthesis.consensus import SILENCE, is_kept, is_unanimous, margin, standings

RULES = ("ngram", "masked", "similarity")
T = TypeVar("T")


@dataclass(frozen=True)
class Selection:
    """What a round trains on."""

    new: list[Pair]
    """This round's own, whole: later rounds take their share of them."""
    pairs: list[Pair]
    """All that are trained on: earlier rounds' (oldest first), then the new ones, then general instructions."""
    quarantined: list[Quarantined]
    """Questions that make the agreement cut and are too near to a benchmark's."""
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
        contaminated: By question id (`crescent.selection.decontamination`).
        earlier: The new pairs of each earlier round, oldest round first.
        general: Instructions to replay (`crescent.synthesis.replay`).

    Raises:
        DataSaysNo: fewer than `pairs.minimum` new pairs; the message says which filter took how many.
    """
    agreed = [its for its in votes if labelled_answers(its, consensus, cfg.labels)]
    quarantined = [contaminated[its.question.id] for its in agreed if its.question.id in contaminated]
    clean = [its for its in agreed if its.question.id not in contaminated]
    kept = clean
    if cfg.labels is Labels.majority:
        kept = cap_unanimous(clean, consensus.samples, cfg.max_unanimous)
    new = [pair for its in kept for pair in pairs_of(its, task, consensus, cfg)]
    pairs = mix(new, earlier, general, cfg)

    still = [pair for pair in pairs if pair.source == "vote"]
    within = [pair for its in in_policy(earlier, cfg) for pair in its]
    metrics: dict[str, float] = {
        "pairs": len(new),
        "questions": len(kept),
        "silent": sum(its.votes == 0 for its in votes),
        "ties": sum(its.winner is None and its.votes > 0 for its in votes),
        "below_cut": sum(its.winner is not None and not is_kept(its, consensus) for its in votes),
        "quarantined": len(quarantined),
        **{f"quarantined_{rule}": sum(its.rule == rule for its in quarantined) for rule in RULES},
        "unanimous_kept": sum(is_unanimous(its, consensus.samples) for its in kept),
        "unanimous_dropped": len(clean) - len(kept),
        "with_rejected": sum(pair.rejected is not None for pair in new),
        "earlier": len(still) - len(new),
        "decayed": len(within) + len(new) - len(still),
        "replayed": len(pairs) - len(still),
        "total": len(pairs),
    }
    if len(new) < cfg.minimum:
        raise DataSaysNo(_why_too_few(votes, metrics, consensus, cfg))
    metrics["agreement"] = round(float(np.mean([pair.agreement for pair in new])), 6)
    metrics["characters"] = round(float(np.mean([len(pair.completion) for pair in new])), 1)
    return Selection(new, pairs, quarantined, metrics)


def cap_unanimous(votes: Sequence[Vote], samples: int, share: float) -> list[Vote]:
    """The votes, with unanimous ones at most so large a share of what is left; `samples` is K.

    The questions that stay are those whose ids come first by hash.
    """
    easy = {its.question.id for its in votes if is_unanimous(its, samples)}
    room = at_most(share, len(votes) - len(easy), len(easy))
    staying = set(sorted(easy, key=digest)[:room])
    return [its for its in votes if its.question.id not in easy or its.question.id in staying]


def at_most(share: float, others: int, available: int) -> int:
    """The largest part, up to `available`, that is no more than so large a share of itself and `others`."""
    exact = Fraction(str(share))  # 0.7 as it is written: the float is a little less
    return available if exact >= 1 else min(available, math.floor(exact * others / (1 - exact)))


def mix(
    new: Sequence[Pair], earlier: Sequence[Sequence[Pair]], general: Sequence[Pair], cfg: PairsConfig
) -> list[Pair]:
    """Earlier rounds' pairs that stay (oldest first), the new ones, and the general instructions' share.

    Of a round that lies `age` rounds back, the first decay**age of its pairs by hash, rounded up: what left once never
    comes back. Pairs of one question leave one by one, so that more different questions stay.
    """
    rounds = in_policy(earlier, cfg)
    decay = Fraction(str(cfg.decay))
    votes: list[Pair] = []
    for age, pairs in zip(range(len(rounds), 0, -1), rounds, strict=True):
        votes += _first_by_hash(pairs, math.ceil(decay**age * len(pairs)))
    votes += new
    # The first ones: how many there are to choose from must not change who is chosen.
    return [*votes, *general[: at_most(cfg.replay.share, len(votes), len(general))]]


def in_policy(earlier: Sequence[T], cfg: PairsConfig) -> Sequence[T]:
    """The earlier rounds that the data policy looks at, oldest first, whatever stands for a round."""
    match cfg.policy:
        case DataPolicy.accumulate:
            return earlier
        case DataPolicy.window:
            return earlier[max(0, len(earlier) - (cfg.window - 1)) :]
        case DataPolicy.replace:
            return []


def _first_by_hash(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """So many of the pairs, in their order; a larger count adds to the same ones."""
    chosen = {pair.id for pair in sorted(pairs, key=lambda pair: digest(pair.id))[:count]}
    return [pair for pair in pairs if pair.id in chosen]


def pairs_of(decided: Vote, task: TaskConfig, consensus: ConsensusConfig, cfg: PairsConfig) -> list[Pair]:
    """The question with each chosen response, the best first, and beside each the answer that was outvoted.

    Control arms have no outvoted answer: what they take for right is not what the vote found.
    """
    question = decided.question
    prompt = fill(task.answer_prompt, question.text) if cfg.prompt is TrainPrompt.answer else question.text
    outvoted = outvoted_answer(decided) if cfg.labels is Labels.majority else None
    return [
        Pair(
            id=digest(question.id, response.sample, prompt),
            question=question.id,
            round=question.round,
            prompt=prompt,
            completion=response.text,
            final=(decided.winner if cfg.labels is Labels.majority else response.final) or "",
            agreement=decided.agreement,
            rejected=outvoted.text if outvoted else None,
            margin=margin(decided) if outvoted else None,
        )
        for response in choose_responses(labelled_answers(decided, consensus, cfg.labels), cfg)
    ]


def labelled_answers(decided: Vote, consensus: ConsensusConfig, labels: Labels) -> list[Answer]:
    """The answers taken for right, in sample order; none where the question is not trained on."""
    winning = winning_answers(decided) if is_kept(decided, consensus) else []
    spoken = [answer for answer in decided.answers if answer.final is not None]
    match labels:
        case Labels.majority:
            return winning
        case Labels.first:
            return spoken[:1]
        case Labels.minority:
            return [answer for answer in spoken if winning and answer not in winning][:1]


def winning_answers(decided: Vote) -> list[Answer]:
    """The answers in the winner's class, in sample order."""
    leader, _, _ = standings(decided.classes)
    return [answer for answer, its in zip(decided.answers, decided.classes, strict=True) if its == leader]


def outvoted_answer(decided: Vote) -> Answer | None:
    """Of the losing class with the most votes (the earliest of equals) the answer of median length.

    Silence contradicts nothing, so it is never the one; nor does a tie outvote anybody.
    """
    leader, _, _ = standings(decided.classes)
    losing = Counter(its for its in decided.classes if its not in (SILENCE, leader)).most_common(1)
    if not losing or margin(decided) == 0:
        return None
    runner_up = losing[0][0]
    return from_the_median([a for a, its in zip(decided.answers, decided.classes, strict=True) if its == runner_up])[0]


def choose_responses(answers: Sequence[Answer], cfg: PairsConfig) -> list[Answer]:
    """Up to `pairs.responses` answers with different texts; the first is the one of median length."""
    different: dict[str, Answer] = {}
    for answer in from_the_median(answers):
        different.setdefault(answer.text.strip(), answer)
    candidates = list(different.values())
    match cfg.winner:
        case Winner.median:
            return candidates[: cfg.responses]
        case Winner.diverse:
            return most_diverse(candidates, cfg.responses)


def from_the_median(answers: Sequence[Answer]) -> list[Answer]:
    """The answers by how far in rank they are from the median length, the shorter of two as far first.

    Length is in characters; of two middle ones the shorter is the median, and of equally long ones the earlier counts
    as shorter. The shortest would teach ever shorter answers, round after round; the longest, rambling.
    """
    by_length = sorted(answers, key=lambda answer: (len(answer.text), answer.sample))
    middle = (len(by_length) - 1) // 2
    ranks = sorted(range(len(by_length)), key=lambda rank: (abs(rank - middle), rank))
    return [by_length[rank] for rank in ranks]


def most_diverse(answers: Sequence[Answer], count: int) -> list[Answer]:
    """The first answer, then each time the one whose likest chosen answer is least like it, the earliest of equals.

    Likeness is the Jaccard index of word trigrams: wording, not meaning.
    """
    trigrams = {answer.sample: word_trigrams(answer.text) for answer in answers}
    chosen, left = list(answers[:1]), list(answers[1:])
    while left and len(chosen) < count:
        likeness = [max(jaccard(trigrams[one.sample], trigrams[its.sample]) for its in chosen) for one in left]
        chosen.append(left.pop(likeness.index(min(likeness))))
    return chosen


def word_trigrams(text: str) -> frozenset[tuple[str, ...]]:
    """Three words in a row each, case folded; all words of a text that has fewer."""
    words = text.casefold().split()
    return frozenset(tuple(words[at : at + 3]) for at in range(max(1, len(words) - 2)))


def jaccard(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> float:
    """Shared elements over all elements, in [0, 1]; neither may be empty."""
    return len(a & b) / len(a | b)


def _why_too_few(
    votes: Sequence[Vote], metrics: Mapping[str, float], consensus: ConsensusConfig, cfg: PairsConfig
) -> str:
    finals = [answer.final for its in votes for answer in its.answers]
    silent = sum(final is None for final in finals)
    counts = {name: int(count) for name, count in metrics.items()}
    taken = [
        (counts["silent"], "without any final answer"),
        (counts["ties"], "ties"),
        (counts["below_cut"], f"below consensus.min_agreement={consensus.min_agreement}"),
        (counts["quarantined"], "too near to a benchmark (pairs.decontamination)"),
        (counts["unanimous_dropped"], f"too easy: beyond pairs.max_unanimous={cfg.max_unanimous}"),
    ]
    why = ", ".join(f"{count} {reason}" for count, reason in taken if count) or "nothing was dropped"
    agreed = counts["questions"] + counts["quarantined"] + counts["unanimous_dropped"]
    if cfg.labels is not Labels.majority:
        arm = {Labels.first: "have a final answer", Labels.minority: "have a majority and an answer against it"}
        return (
            f"{agreed} of {len(votes)} questions {arm[cfg.labels]} (pairs.labels={cfg.labels.value}), "
            f"{counts['pairs']} pairs are left, and pairs.minimum={cfg.minimum} are needed to train; "
            "ask more questions (bait.questions)"
        )
    return (
        f"{agreed} of {len(votes)} questions have a winner with agreement >= {consensus.min_agreement}, "
        f"{counts['pairs']} pairs are left, and pairs.minimum={cfg.minimum} are needed to train "
        f"({why}; {silent} of {len(finals)} answers silent); {_way_out(votes, counts, silent, len(finals), cfg)}"
    )


def _way_out(votes: Sequence[Vote], counts: Mapping[str, int], silent: int, answers: int, cfg: PairsConfig) -> str:
    """What helps against the filter that took most."""
    easy, near = counts["unanimous_dropped"], counts["quarantined"]
    disagreed = counts["ties"] + counts["below_cut"] + counts["silent"]
    if not votes:
        return (
            "no question was left: all were unusable (cut at bait.max_tokens, too short) or near-duplicates "
            "(diversify.threshold); metrics.jsonl counts them"
        )
    if silent > answers / 2:
        return "most answers have no final answer: raise consensus.max_tokens or change task.answer_prompt"
    if easy and easy >= max(near, disagreed):
        way_out = "set pairs.max_unanimous=1, or use a bait for harder questions (bait.prompts)"
        only = "all questions that are left are unanimous, which is more than that share, however few stay"
        return way_out if counts["questions"] else f"{only}; {way_out}"
    if near and near >= disagreed:
        return (
            "the model repeats benchmark problems: use a bait for other questions (bait.prompts), or loosen "
            "pairs.decontamination (similarity, masked) where all questions of the task look alike"
        )
    return "ask more questions (bait.questions) or lower consensus.min_agreement"
