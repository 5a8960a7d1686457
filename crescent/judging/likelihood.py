"""A score without any format: is the reference answer more likely than wrong ones?

Nothing is generated and nothing is parsed. The model is given the benchmark's prompt and the beginning of a reply, and
the probabilities of several endings are compared: the reference answer, and distractors that resemble it, each with a
full stop. A child that only learned how answers are written does not rise here.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from crescent.records import digest
from crescent.tasks.equivalence import as_number, compact, normal

FILE = "likelihoods.jsonl"
"""Name of the file of an eval stage with one `Likelihood` per line."""
END = "."
"""Follows every candidate: without it, 1 would be the beginning of 11, and always more likely."""
STEPS = (1, -1, 10, -10, 2, -2, 9, -9, 11, -11, 100, -100, 3, -3)
"""Distances of the distractors from a whole number, the first ones first: slips by one, in the carry, in a digit."""


@dataclass(frozen=True)
class Likelihood:
    """The candidates of one item with their log-probabilities."""

    benchmark: str
    item: str
    candidates: tuple[str, ...]
    """The reference answer, then the distractors."""
    log_probabilities: tuple[float, ...]
    """Sum over the tokens of each candidate, in nats, from the first token on that not all candidates share."""

    @property
    def share(self) -> float:
        """Probability of the reference answer among the candidates, in [0, 1]."""
        top = max(self.log_probabilities)
        weights = [math.exp(value - top) for value in self.log_probabilities]
        return weights[0] / sum(weights)

    @property
    def is_most_likely(self) -> bool:
        """Whether the reference answer is more likely than every distractor; a tie is not."""
        return self.log_probabilities[0] > max(self.log_probabilities[1:], default=-math.inf)


def distractors(target: str, others: Iterable[str], count: int) -> list[str]:
    """Wrong answers like the reference answer, always the same: for a whole number its neighbours of the same sign,
    for anything else the reference answers of other items.

    Args:
        others: Reference answers of the other items.
        count: Largest number of distractors.
    """
    number = as_number(target)
    if number is not None and number.denominator == 1 and target.strip().lstrip("+-").isdigit():
        near = [int(number) + step for step in STEPS]
        same_sign = [value for value in near if (value < 0) == (number < 0)]
        return [str(value) for value in same_sign[:count]]
    different = {_spelling(other): other for other in sorted(others) if _spelling(other) != _spelling(target)}
    return sorted(different.values(), key=lambda other: digest("distractor", target, other))[:count]


def _spelling(answer: str) -> str:
    """One spelling for what differs in spaces, or in braces around a single character."""
    return re.sub(r"\{(\w)\}", r"\1", compact(normal(answer)))


def summed(candidates: Sequence[Sequence[tuple[int, float | None]]]) -> list[float]:
    """Log-probability of each candidate's own part, given the tokens of whole texts that differ only in the candidate.

    Equal texts before the candidates have equal probabilities, except for rounding. So sums start at the first token
    that the candidates do not all share, which needs no tokenizer and holds also where a token spans the boundary.

    Args:
        candidates: For each candidate, (token id, log-probability) of the whole text; `None` for the first token.
    """
    ids = [[token for token, _ in candidate] for candidate in candidates]
    shared = 0
    while all(shared < len(tokens) and tokens[shared] == ids[0][shared] for tokens in ids):
        shared += 1
    return [math.fsum(value for _, value in candidate[shared:] if value is not None) for candidate in candidates]
