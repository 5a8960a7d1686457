"""What a sweep is told about each of its runs."""

from collections.abc import Collection
from dataclasses import dataclass

from crescent.config.checks import require

GAIN_OVER_BASE = "gain_over_base"
ACCEPTED_ROUNDS = "accepted_rounds"
BEST = "best/"


@dataclass
class SweepConfig:
    """What a run returns to the sweeper that started it, such as Optuna's. Does not affect results."""

    objective: str = GAIN_OVER_BASE
    """Number to maximise, from accepted checkpoints alone: a child that was not accepted never counts.
    `gain_over_base`: accuracy of the best checkpoint minus the base's on the items that decide, in [-1, 1], 0 if no
    child was accepted; `best/NAME`: accuracy of the best checkpoint on the dev benchmark NAME, in [0, 1];
    `accepted_rounds`: number of accepted children."""


def check_objective(sweep: SweepConfig, dev: Collection[str], others: Collection[str]) -> None:
    """Check that the objective is known, and that no test benchmark chooses the settings.

    Args:
        dev: Names of the dev benchmarks.
        others: Names of the other benchmarks.
    """
    known = [GAIN_OVER_BASE, ACCEPTED_ROUNDS, *(f"{BEST}{name}" for name in dev)]
    name = sweep.objective
    tested = name.removeprefix(BEST) in others and name.startswith(BEST)
    rule = "test benchmarks are only reported, and settings chosen on them would make them dev" if tested else "unknown"
    require(name in known, "sweep.objective", name, rule, f"use {' or '.join(known)}")
