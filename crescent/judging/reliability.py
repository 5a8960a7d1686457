"""How far agreement can be trusted as a label: votes on questions whose right answer is known.

The numbers beside which every gain belongs: what one sample of the model scores, what voting over K gives for nothing
(maj@K), and how many questions are within its reach at all (pass@K).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from crescent.judging.verdict import wilson

FILE = "base/reliability/reliability.json"
VOTES, LABELS = "base/reliability/votes.jsonl", "base/reliability/labels.jsonl"
"""Item by item, in the same order: a `Vote`, and the `LabelledVote` of it."""
TARGETS = (0.8, 0.9, 0.95)
"""Shares of right labels for which a cut is suggested."""


@dataclass(frozen=True)
class LabelledVote:
    """A vote over all K samples, none left out by adaptive asking, and what of it was right."""

    votes: int
    """Samples behind the winner; 0 when there is none, after a tie or silence."""
    of: int
    """K."""
    correct: bool
    """Whether the winner is the reference answer."""
    correct_samples: int

    @property
    def agreement(self) -> float:
        return self.votes / self.of

    @property
    def any_correct(self) -> bool:
        return self.correct_samples > 0


@dataclass(frozen=True)
class Bin:
    """The votes with one agreement j/K, and what a cut there (`consensus.min_agreement`) would keep."""

    agreement: float
    count: int
    correct: int
    low: float
    """Ends of the 95 % Wilson interval of the share right."""
    high: float
    kept: float
    """Share of all votes, in [0, 1], that reach this agreement."""
    accuracy: float
    """Share right of those kept."""
    accuracy_low: float
    """Ends of its 95 % Wilson interval."""
    accuracy_high: float


@dataclass(frozen=True)
class Reliability:
    """Agreement against correctness on one set of labelled items."""

    items: int
    samples: int
    """K."""
    bins: tuple[Bin, ...]
    """By agreement, the lowest first; agreements that no vote has are left out."""
    undecided: int
    """Votes without a winner: no label at any cut, and wrong for maj@K."""
    auroc: float | None
    """Chance, in [0, 1], that a right label has more agreement than a wrong one, ties counting half; `None` when all
    are right or all are wrong. 0.5: agreement says nothing."""
    single: float
    """Mean accuracy of one sample: pass@1 at the temperature of the vote."""
    majority: float
    """maj@K."""
    majority_low: float
    """Ends of its 95 % Wilson interval."""
    majority_high: float
    pass_at: dict[int, float]
    """pass@k for k = 1, 2, 4, … and K: chance that at least one of k samples is right."""


def curve(votes: Sequence[LabelledVote]) -> Reliability:
    """What the votes show, all over the same K.

    Raises:
        ValueError: no votes, or votes over different numbers of samples.
    """
    if len({vote.of for vote in votes}) != 1:
        raise ValueError(f"votes over {sorted({vote.of for vote in votes})} samples: one K is needed")
    samples = votes[0].of
    labels = [vote for vote in votes if vote.votes > 0]
    bins = []
    for behind in sorted({vote.votes for vote in labels}):
        here = [vote.correct for vote in labels if vote.votes == behind]
        kept = [vote.correct for vote in labels if vote.votes >= behind]
        bins.append(
            Bin(
                behind / samples,
                len(here),
                sum(here),
                *wilson(sum(here), len(here)),
                len(kept) / len(votes),
                sum(kept) / len(kept),
                *wilson(sum(kept), len(kept)),
            )
        )
    ks = sorted({1 << power for power in range(samples.bit_length())} | {samples})
    right = sum(vote.correct for vote in votes)
    return Reliability(
        items=len(votes),
        samples=samples,
        bins=tuple(bins),
        undecided=len(votes) - len(labels),
        auroc=auroc([v.agreement for v in labels if v.correct], [v.agreement for v in labels if not v.correct]),
        single=sum(vote.correct_samples / samples for vote in votes) / len(votes),
        majority=right / len(votes),
        majority_low=wilson(right, len(votes))[0],
        majority_high=wilson(right, len(votes))[1],
        pass_at={k: sum(pass_at(k, samples, vote.correct_samples) for vote in votes) / len(votes) for k in ks},
    )


def pass_at(k: int, samples: int, correct: int) -> float:
    """Chance that k of the samples, drawn without putting back, hold a right one: the unbiased estimator of pass@k
    (arXiv 2107.03374, section 2.1)."""
    return 1 - math.comb(samples - correct, k) / math.comb(samples, k)


def auroc(right: Sequence[float], wrong: Sequence[float]) -> float | None:
    """Area under the ROC curve, which is the Mann-Whitney statistic divided by the number of pairs."""
    from scipy.stats import mannwhitneyu

    if not right or not wrong:
        return None
    return float(mannwhitneyu(right, wrong, method="asymptotic").statistic) / (len(right) * len(wrong))


def suggest_cut(reliability: Reliability, target: float) -> float | None:
    """Lowest agreement from which at least `target` of the labels are right, `None` when no cut is known to do.

    By the lower end of the interval: of several cuts the luckiest would be chosen, and a handful of votes that all
    happen to be right would promise labels without error.
    """
    return next((its.agreement for its in reliability.bins if its.accuracy_low >= target), None)


def read_reliability(path: Path) -> dict[str, Reliability]:
    """By benchmark."""
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Reliability])
