"""How far agreement can be trusted as a label: votes on questions whose right answer is known.

The numbers beside which every gain belongs: what one sample of the model scores, what voting over K gives for nothing
(maj@K), and how many questions are within its reach at all (pass@K).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from crescent.errors import Missing
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


def reliability_table(reliability: Reliability) -> Table:
    """One row per agreement, and below it what the model does without any training."""
    table = Table()
    for column in ("agreement", "votes", "right %", "kept from here %", "of these right %"):
        table.add_column(column, justify="right")
    for its in reliability.bins:
        table.add_row(
            f"{round(its.agreement * reliability.samples)}/{reliability.samples}",
            str(its.count),
            f"{percent(its.correct / its.count)} {interval(its.low, its.high)}",
            percent(its.kept),
            f"{percent(its.accuracy)} {interval(its.accuracy_low, its.accuracy_high)}",
        )
    auroc_known = "unknown" if reliability.auroc is None else f"{reliability.auroc:.2f}"
    passes = ", ".join(f"pass@{k} {percent(share)} %" for k, share in reliability.pass_at.items() if k > 1)
    cuts = {target: suggest_cut(reliability, target) for target in TARGETS}
    suggestions = ", ".join(
        f"{target:.0%}: {'none' if cut is None else f'min_agreement={cut:g}'}" for target, cut in cuts.items()
    )
    table.caption_justify = "left"
    table.caption = (
        f"{reliability.items} items, {reliability.undecided} without a winner\n"
        f"one sample {percent(reliability.single)} %, maj@{reliability.samples} {percent(reliability.majority)} % "
        f"{interval(reliability.majority_low, reliability.majority_high)}, {passes}\n"
        f"AUROC of agreement: {auroc_known}\n"
        f"[95 % Wilson intervals]; lowest cut whose interval begins\nat {suggestions}"
    )
    return table


def show_tables(found: Mapping[str, Reliability], console: Console) -> None:
    """One table per benchmark."""
    for benchmark, reliability in found.items():
        table = reliability_table(reliability)
        table.title = escape(benchmark)
        console.print(table)


def show_reliability(root: Path, console: Console) -> None:
    """What a run measured before its first round.

    Raises:
        Missing: the run did not measure it, or not yet.
    """
    path = root / FILE
    if not path.is_file():
        raise Missing(
            f"{path}: not there; runs with eval.reliability=200 (items of each dev benchmark) measure it before their "
            "first round"
        )
    show_tables(read_reliability(path), console)


def read_reliability(path: Path) -> dict[str, Reliability]:
    """By benchmark."""
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Reliability])


def percent(share: float) -> str:
    """Without the sign, which stands in the heading of the column."""
    return f"{100 * share:.1f}"


def interval(low: float, high: float) -> str:
    return f"[{100 * low:.0f}, {100 * high:.0f}]"
