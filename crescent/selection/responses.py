"""The answers of a vote: those that carry the majority, the one that was outvoted, and those that are trained on."""

from collections import Counter
from collections.abc import Sequence

from crescent.config import PairsConfig, Winner
from crescent.records import Answer, Vote
from crescent.synthesis.consensus import SILENCE, margin, standings


def winning_answers(decided: Vote) -> list[Answer]:
    """The answers in the winner's class, in sample order."""
    leader, _, _ = standings(decided.classes)
    return _answers_in(decided, leader)


def outvoted_answer(decided: Vote) -> Answer | None:
    """The answer of median length in the losing class with the most votes (the earliest of equals).

    Silence contradicts nothing, so it is never chosen; and in a tie no answer is outvoted.
    """
    leader, _, _ = standings(decided.classes)
    losing = Counter(answer_class for answer_class in decided.classes if answer_class not in (SILENCE, leader))
    if not losing or margin(decided) == 0:
        return None
    runner_up = losing.most_common(1)[0][0]
    return from_the_median(_answers_in(decided, runner_up))[0]


def _answers_in(decided: Vote, wanted: int | None) -> list[Answer]:
    """The answers in one class, in sample order."""
    classes = zip(decided.answers, decided.classes, strict=True)
    return [answer for answer, answer_class in classes if answer_class == wanted]


def choose_responses(answers: Sequence[Answer], cfg: PairsConfig) -> list[Answer]:
    """Up to `pairs.responses` answers with different texts; the first has the median length."""
    candidates = different_texts(from_the_median(answers))
    match cfg.winner:
        case Winner.median:
            return candidates[: cfg.responses]
        case Winner.diverse:
            return most_diverse(candidates, cfg.responses)


def different_texts(answers: Sequence[Answer]) -> list[Answer]:
    """The answers in their order, without repeated texts."""
    different: dict[str, Answer] = {}
    for answer in answers:
        different.setdefault(answer.text.strip(), answer)
    return list(different.values())


def from_the_median(answers: Sequence[Answer]) -> list[Answer]:
    """The answers sorted by the distance of their rank from the median length; at equal distance the shorter first.

    Length is in characters; of two middle answers the shorter is the median, and of equally long ones the earlier
    counts as shorter. The shortest would teach ever shorter answers, round after round; the longest, rambling.
    """
    by_length = sorted(answers, key=lambda answer: (len(answer.text), answer.sample))
    middle = (len(by_length) - 1) // 2
    ranks = sorted(range(len(by_length)), key=lambda rank: (abs(rank - middle), rank))
    return [by_length[rank] for rank in ranks]


def most_diverse(answers: Sequence[Answer], count: int) -> list[Answer]:
    """The first answer, then one by one the answer least similar to the chosen ones, the earliest of equals.

    The similarity to several is that to the most similar of them: the Jaccard index of word trigrams (wording, not
    meaning).
    """
    trigrams = {answer.sample: word_trigrams(answer.text) for answer in answers}
    chosen, left = list(answers[:1]), list(answers[1:])
    while left and len(chosen) < count:
        similarities = [
            max(jaccard(trigrams[answer.sample], trigrams[earlier.sample]) for earlier in chosen) for answer in left
        ]
        chosen.append(left.pop(similarities.index(min(similarities))))
    return chosen


def word_trigrams(text: str) -> frozenset[tuple[str, ...]]:
    """All sequences of three words, case folded; of a text with fewer words, the words themselves."""
    words = text.casefold().split()
    return frozenset(tuple(words[start : start + 3]) for start in range(max(1, len(words) - 2)))


def jaccard(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> float:
    """Number of shared elements divided by the number of all, in [0, 1]; both sets must have elements."""
    return len(a & b) / len(a | b)
