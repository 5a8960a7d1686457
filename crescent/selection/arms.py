"""Control arms: which answers are trained on (`pairs.labels`), and how many are made wrong on purpose (`pairs.noise`).

Arms train on the questions of the majority arm, so that they differ in answers and in nothing else. Nothing is random:
hashes decide.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from crescent.config import ConsensusConfig, Labels, PairsConfig
from crescent.records import Answer, Pair, Vote, digest
from crescent.selection.responses import choose_responses, different_texts, outvoted_answer, winning_answers
from crescent.synthesis.consensus import is_kept
from crescent.tasks.computation import truth
from crescent.tasks.equivalence import as_number

SMALLEST_GROUP = 8
"""Pairs of one bait below which responses are exchanged with those to other baits, too."""
CAUTIONS = {
    Labels.gold: "uses labels (answers that are right by computation): a ceiling, no result of the vote",
    Labels.minority: "10 to 40% of the answers against a weak majority are right; the clean control for format is "
    "pairs.labels=shuffled",
    Labels.first_any: "trains on more questions than the other arms; compare pairs.labels=first with the majority",
}
"""What a person should know about an arm, in words that follow `pairs.labels=…`."""
WITHOUT_ANSWER = {
    "not_computable": "ask for more than one plain computation",
    "never_right": "have no answer that is right by computation",
    "unopposed": "have no answer against the majority",
}
"""Why an arm has no answer to a question that the majority arm trains on, by the name of the metric that counts it."""


def follows_majority(labels: Labels) -> bool:
    """Whether the arm trains on the questions of the majority arm."""
    return labels is not Labels.first_any


def answers_to_train_on(decided: Vote, consensus: ConsensusConfig, cfg: PairsConfig) -> list[Answer]:
    """The answers that count as right in this arm, the best first; none where the question is not trained on.

    As many as the majority arm trains on, if there are as many.
    """
    winning = winning_answers(decided) if is_kept(decided, consensus) else []
    chosen = choose_responses(winning, cfg)
    spoken = [answer for answer in decided.answers if answer.final is not None]
    match cfg.labels:
        case Labels.majority | Labels.fixed | Labels.shuffled:
            return chosen
        case Labels.first:
            return different_texts(spoken)[: len(chosen)]
        case Labels.minority:
            return different_texts([answer for answer in spoken if answer not in winning])[: len(chosen)]
        case Labels.gold:
            return choose_responses(right_answers(decided), cfg)[: len(chosen)]
        case Labels.first_any:
            return spoken[:1]


def right_answers(decided: Vote) -> list[Answer]:
    """The answers that are right by computation; none where the question is not one plain computation."""
    known = truth(decided.question.text)
    if known is None:
        return []
    return [answer for answer in decided.answers if answer.final is not None and as_number(answer.final) == known.value]


def dropped_by_arm(votes: Sequence[Vote], answered: Sequence[Vote], labels: Labels) -> dict[str, int]:
    """Counts of the questions to which this arm has no answer, by the names of `WITHOUT_ANSWER`.

    Args:
        votes: The questions that the majority arm trains on.
        answered: Those of them that this arm trains on.
    """
    dropped = len(votes) - len(answered)
    match labels:
        case Labels.gold:
            not_computable = sum(truth(vote.question.text) is None for vote in votes)
            return {"not_computable": not_computable, "never_right": dropped - not_computable}
        case Labels.minority:
            return {"unopposed": dropped}
    return {}


def disturb(pairs: Sequence[Pair], votes: Sequence[Vote], cfg: PairsConfig) -> tuple[list[Pair], dict[str, int]]:
    """The pairs as the arm trains on them, and counts: all shuffled, or a share made wrong, or as they are.

    Args:
        votes: The questions behind the pairs.
    """
    baits = {vote.question.id: vote.question.bait for vote in votes}
    if cfg.labels is Labels.shuffled:
        shuffled = shuffle(pairs, baits)
        right = {pair.id: meaning(pair.final) for pair in pairs}
        differ = sum(meaning(found.final) != right[original] for original, found in shuffled.items())
        return [shuffled[pair.id] for pair in pairs if pair.id in shuffled], {"mismatched": differ}
    if cfg.noise:
        noisy = noisy_pairs(pairs, votes, baits, cfg.noise)
        return [noisy.get(pair.id, pair) for pair in pairs], {"noisy": len(noisy)}
    return list(pairs), {}


def shuffle(pairs: Sequence[Pair], baits: Mapping[str, str]) -> dict[str, Pair]:
    """Each pair with the completion of another question's pair, by the pair's id: right form, wrong pairing.

    Completions are permuted among the pairs of one bait. Final answers differ wherever that is possible. A pair is left
    out only if there is no other question.

    Args:
        baits: Name of the bait by question id.
    """
    found = {}
    for group in _like_questions(pairs, baits):
        # Equal final answers stand together, so half a turn leads to a different one: an answer that fills at most half
        # of the group never meets itself, and a more frequent one meets itself as rarely as it can.
        ordered = sorted(group, key=_place)
        half = len(ordered) // 2
        for place, pair in enumerate(ordered):
            other = ordered[(place + half) % len(ordered)]
            if other.question != pair.question:
                found[pair.id] = replaced(pair, digest(pair.question, other.id), other.completion, other.final)
    return found


def noisy_pairs(
    pairs: Sequence[Pair], votes: Sequence[Vote], baits: Mapping[str, str], share: float
) -> dict[str, Pair]:
    """This share of the pairs, rounded, with a wrong completion, by the original pair's id.

    It is the answer that was outvoted; if nobody disagreed, the response to another question. A larger share makes the
    same pairs wrong and others with them.
    """
    count = round(Fraction(str(share)) * len(pairs))
    chosen = sorted(pairs, key=lambda pair: digest("noise", pair.id))[:count]
    outvoted = {vote.question.id: outvoted_answer(vote) for vote in votes}
    shuffled = shuffle(pairs, baits)
    found = {}
    for pair in chosen:
        answer = outvoted.pop(pair.question, None)  # Once: two equal pairs of one question would be one.
        if answer is not None:
            identity = digest(pair.question, answer.sample, pair.prompt)
            found[pair.id] = replaced(pair, identity, answer.text, answer.final or "")
        elif pair.id in shuffled:
            found[pair.id] = shuffled[pair.id]
    return found


def replaced(pair: Pair, identity: str, completion: str, final: str) -> Pair:
    """The pair with another completion; nothing is outvoted by it."""
    return replace(pair, id=identity, completion=completion, final=final, rejected=None, margin=None)


def meaning(final: str) -> Fraction | str:
    """What a final answer is compared by across questions: its number if it is one, else its spelling."""
    number = as_number(final)
    return final.strip().casefold() if number is None else number


def _place(pair: Pair) -> tuple[str, str, str]:
    """Order of the pairs for `shuffle`: by final answer, then by question, each by hash."""
    return digest("shuffle", str(meaning(pair.final))), digest("shuffle", pair.question), pair.id


def _like_questions(pairs: Sequence[Pair], baits: Mapping[str, str]) -> list[list[Pair]]:
    """The pairs by bait. Groups that are too small, or in which half the answers are the same, fall together."""
    by_bait: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_bait[baits[pair.question]].append(pair)
    groups = [by_bait[bait] for bait in sorted(by_bait, key=lambda bait: (len(by_bait[bait]), bait))]
    together = [pair for group in groups if not _can_exchange(group) for pair in group]
    groups = [group for group in groups if _can_exchange(group)]
    while together and groups and not _can_exchange(together):
        together += groups.pop(0)
    return [*groups, together]


def _can_exchange(group: Sequence[Pair]) -> bool:
    """Whether each pair can get a different final answer within the group, and the group is large enough."""
    most = max(Counter(meaning(pair.final) for pair in group).values(), default=0)
    return len(group) >= SMALLEST_GROUP and 2 * most <= len(group)
