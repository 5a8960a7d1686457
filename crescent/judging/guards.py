"""Guard benchmarks: abilities that a child must not lose, however much it gains elsewhere."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from crescent.config import VerdictConfig
from crescent.judging.comparison import by_benchmark, differences_by_item, is_correct
from crescent.records import Response


@dataclass(frozen=True)
class Loss:
    """Accuracy that a child lost against the reference, and the loss that is allowed."""

    lost: float
    """In [-1, 1]; negative where the child gained."""
    allowed: float

    @property
    def is_too_much(self) -> bool:
        # Differences of shares carry rounding errors: 3 points are not more than 3 points.
        return self.lost > self.allowed + 1e-9


@dataclass(frozen=True)
class GuardLosses:
    """Losses on the guard benchmarks, each alone and on average."""

    each: Mapping[str, Loss]
    """By benchmark."""
    average: Loss

    @property
    def are_broken(self) -> bool:
        return self.average.is_too_much or any(loss.is_too_much for loss in self.each.values())


def guard_losses(
    child: Sequence[Response], reference: Sequence[Response], guards: Collection[str], cfg: VerdictConfig
) -> GuardLosses:
    """What the child lost on the guards, beside the limits in points or in standard errors, whichever are larger.

    The standard error is McNemar's, under which an item falls to either side like a fair coin: √(Σ d²) / n, with d the
    difference of an item. One side at 5% each for the average and for the worst of several (Bonferroni), so a child
    that lost nothing is rejected one time in ten at most, and rarely where the limits in points are the larger ones.

    Raises:
        DataSaysNo: a guard has no items, or the two sides answered different items.
    """
    of_child, of_reference = by_benchmark(child), by_benchmark(reference)
    lost, errors = {}, {}
    for name in sorted(guards):
        differences, scale = differences_by_item(of_child.get(name, []), of_reference.get(name, []), is_correct)
        lost[name] = -float(differences.mean()) / scale
        errors[name] = math.sqrt(float((differences.astype(float) ** 2).sum())) / scale / len(differences)
    z_average, z_worst = (NormalDist().inv_cdf(1 - 0.05 / tests) for tests in (1, len(lost)))
    error_of_average = math.sqrt(sum(error**2 for error in errors.values())) / len(errors)
    return GuardLosses(
        each={name: Loss(lost[name], max(cfg.guard_any, z_worst * errors[name])) for name in lost},
        average=Loss(sum(lost.values()) / len(lost), max(cfg.guard_mean, z_average * error_of_average)),
    )
