"""How far agreement can be trusted as a label: votes on questions whose right answer is known.

Every gain should be read beside these numbers: the score of one sample, the score that voting over K gives without any
training (maj@K), and the share of questions within the model's reach at all (pass@K).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from crescent.judging.comparison import wilson

FILE = "base/reliability/reliability.json"
VOTES, LABELS = "base/reliability/votes.jsonl", "base/reliability/labels.jsonl"
"""One line for each item, in the same order: its `Vote`, and its `LabelledVote`."""
TARGETS = (0.8, 0.9, 0.95)
"""Shares of right labels for which a cut is suggested."""


@dataclass(frozen=True)
class LabelledVote:
    """A vote over all K samples, without adaptive voting, and which of them were right."""

    votes: int
    """Samples behind the winner; 0 without a winner, after a tie or silence."""
    of: int
    """K."""
    correct: bool
    """Whether the winner is the reference answer."""
    correct_samples: int
    """Number of samples that gave the reference answer."""

    @property
    def agreement(self) -> float:
        return self.votes / self.of


@dataclass(frozen=True)
class Bin:
    """The votes with one agreement j/K, and what a cut there (`consensus.min_agreement`) would keep."""

    agreement: float
    count: int
    correct: int
    low: float
    """Lower end of the 95% Wilson interval of the share right."""
    high: float
    """Upper end."""
    kept: float
    """Share of all votes, in [0, 1], that reach this agreement."""
    accuracy: float
    """Share of the kept votes that are right."""
    accuracy_low: float
    """Lower end of the 95% Wilson interval of `accuracy`."""
    accuracy_high: float
    """Upper end."""


@dataclass(frozen=True)
class Reliability:
    """Agreement against correctness on one set of labelled items."""

    items: int
    samples: int
    """K."""
    bins: tuple[Bin, ...]
    """Sorted by agreement, lowest first; agreements that no vote has are left out."""
    undecided: int
    """Number of votes without a winner: no label at any cut, and wrong for maj@K."""
    auroc: float | None
    """Chance, in [0, 1], that a right label has more agreement than a wrong one, ties counting half; `None` when all
    are right or all are wrong. At 0.5, agreement says nothing about correctness."""
    single: float
    """Mean accuracy of one sample: pass@1 at the temperature of the vote."""
    majority: float
    """Share of all votes whose winner is right: maj@K."""
    majority_low: float
    """Lower end of the 95% Wilson interval of `majority`."""
    majority_high: float
    """Upper end."""
    pass_at: dict[int, float]
    """pass@k for k = 1, 2, 4, … and K: chance that at least one of k samples is right."""


def curve(votes: Sequence[LabelledVote]) -> Reliability:
    """Agreement against correctness, of votes over the same K.

    Raises:
        ValueError: there are no votes, or they are over different numbers of samples.
    """
    if len({vote.of for vote in votes}) != 1:
        raise ValueError(
            f"votes over {sorted({vote.of for vote in votes})} samples: a curve needs one K; read each K by itself"
        )
    samples = votes[0].of
    decided = [vote for vote in votes if vote.votes > 0]
    powers_of_two = {1 << power for power in range(samples.bit_length())}
    ks = sorted(powers_of_two | {samples})
    right = sum(vote.correct for vote in votes)
    majority_low, majority_high = wilson(right, len(votes))
    return Reliability(
        items=len(votes),
        samples=samples,
        bins=tuple(_bin(decided, behind, len(votes)) for behind in sorted({vote.votes for vote in decided})),
        undecided=len(votes) - len(decided),
        auroc=auroc(
            [vote.agreement for vote in decided if vote.correct],
            [vote.agreement for vote in decided if not vote.correct],
        ),
        single=sum(vote.correct_samples / samples for vote in votes) / len(votes),
        majority=right / len(votes),
        majority_low=majority_low,
        majority_high=majority_high,
        pass_at={k: sum(pass_at(k, samples, vote.correct_samples) for vote in votes) / len(votes) for k in ks},
    )


def _bin(decided: Sequence[LabelledVote], behind: int, items: int) -> Bin:
    """The votes with exactly `behind` samples behind the winner, and all that a cut there would keep."""
    here = [vote.correct for vote in decided if vote.votes == behind]
    kept = [vote.correct for vote in decided if vote.votes >= behind]
    low, high = wilson(sum(here), len(here))
    accuracy_low, accuracy_high = wilson(sum(kept), len(kept))
    return Bin(
        agreement=behind / decided[0].of,
        count=len(here),
        correct=sum(here),
        low=low,
        high=high,
        kept=len(kept) / items,
        accuracy=sum(kept) / len(kept),
        accuracy_low=accuracy_low,
        accuracy_high=accuracy_high,
    )


def pass_at(k: int, samples: int, correct: int) -> float:
    """Chance that k of the samples, drawn without replacement, contain a right one: the unbiased estimator of pass@k
    (arXiv 2107.03374, section 2.1)."""
    return 1 - math.comb(samples - correct, k) / math.comb(samples, k)


def auroc(right: Sequence[float], wrong: Sequence[float]) -> float | None:
    """Area under the ROC curve: the Mann-Whitney statistic divided by the number of pairs; `None` without any pair."""
    from scipy.stats import mannwhitneyu

    if not right or not wrong:
        return None
    return float(mannwhitneyu(right, wrong, method="asymptotic").statistic) / (len(right) * len(wrong))


def suggest_cut(reliability: Reliability, target: float) -> float | None:
    """Lowest agreement at which a cut keeps labels of which at least `target` are right; `None` if no cut is known to.

    The lower end of the interval decides. Otherwise the luckiest of several cuts would be chosen, and a handful of
    votes that all happen to be right would promise labels without error.
    """
    return next((bin_.agreement for bin_ in reliability.bins if bin_.accuracy_low >= target), None)


def read_reliability(path: Path) -> dict[str, Reliability]:
    """The measured reliability, by benchmark."""
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Reliability])
