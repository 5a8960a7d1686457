"""Which weights does a server answer with? The statistics of the proof.

The trainer computes the log-probabilities of some texts under the child and under its parent, the server those of what
it serves. Two correct engines disagree a little (the noise: in bfloat16 0.04 to 0.05 nats a token), often by more than
a round of training changes. So no single distance decides. Two questions do:

1. *Whose weights are nearer?* Regress served - parent on child - parent, through the origin. The slope is near 1 if the
   child is served and near 0 if the parent is; with noise in the trainer's own numbers both move towards 1/2, and
   neither crosses it. How sure that is follows from the standard error over tokens.
2. *Is it a third model?* Then what is left between the served and the expected values is more than noise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from crescent.config import Dtype

LogProbabilities = Sequence[Sequence[float | None]]
"""For each text, the log-probability (nats) of each token; `None` where there is none, as for the first."""
Values = npt.NDArray[np.float64]

STANDARD_ERRORS = 4.0
"""Distance of the slope from 1/2 at which a verdict is certain, in standard errors: in normal noise, wrong once in
30,000 proofs."""
CLIPPED = 2.0
"""Bound of a token's weight in the regression, in multiples of the mean change."""
NOISES = 3.0
"""Largest difference from the expected values that still counts as noise, in multiples of the engine's own noise. A
child's noise is not quite that of the base on which it was measured."""
SHARE_OF_SHIFT = 0.25
"""The same as a share of what training changed: noise grows with it (adapters add roundings of their own)."""
ASSUMED_NOISE = {Dtype.float32: 0.001, Dtype.bfloat16: 0.1, Dtype.auto: 0.1}
"""Noise (see `noise`) of an engine on which none was measured. In float32, vLLM and transformers differ by 0.00001 to
0.00005 nats on the mean; in bfloat16 two engines differed by 0.04 to 0.05 on a model of 135M parameters. Both have
tokens that differ more, so the root mean square is larger; these values are generous."""
LEAST_NOISE = {Dtype.float32: 0.0001, Dtype.bfloat16: 0.01, Dtype.auto: 0.0001}
"""Noise that is reckoned with however little was measured."""
NOISE_LIMIT = {Dtype.float32: 0.05, Dtype.bfloat16: 0.5, Dtype.auto: 0.5}
"""Noise above which engine and trainer do not hold the same base at all."""


class Outcome(StrEnum):
    proven = "proven"
    """The expected weights are served."""
    wrong = "wrong weights"
    """Others are served: those of the parent, or of a third model."""
    unknown = "cannot be told"
    """Nothing speaks against the expected weights, but they and the parent's are too similar to be told apart."""


@dataclass(frozen=True)
class Finding:
    """Result of comparing what is served with what is expected."""

    outcome: Outcome
    slope: float | None
    """Regression slope: 1 for the expected weights, 0 for the other ones; `None` if those do not differ."""
    standard_error: float | None
    """Standard error of the slope over tokens."""
    noise: float
    """Noise of the engine that the decision was based on, in nats."""
    left: float
    """Root mean square of served minus expected, in nats."""
    shift: float
    """Root mean square of what training changed, in nats."""
    tokens: int


def find(served: LogProbabilities, expected: LogProbabilities, other: LogProbabilities, noise: float) -> Finding:
    """Decide whether a server answers with the expected weights.

    Args:
        expected: Values by the trainer under the weights that should be served.
        other: Values by the trainer under the weights that would be served by mistake.
        noise: The engine's noise on weights that are known to be served, see `noise`.
    """
    answers, own, others = aligned(served, expected, other)
    left, shift = root_mean_square(answers - own), root_mean_square(own - others)
    slope, error = slope_through_origin(own - others, answers - others)
    if error is not None:
        # Agreement by chance must not look like certainty.
        error = max(error, noise / math.sqrt(float((own - others) @ (own - others))))
    outcome = Outcome.unknown
    if left > max(NOISES * noise, SHARE_OF_SHIFT * shift):
        outcome = Outcome.wrong
    elif slope is not None and error is not None:
        if slope - 0.5 > STANDARD_ERRORS * error:
            outcome = Outcome.proven
        elif 0.5 - slope > STANDARD_ERRORS * error:
            outcome = Outcome.wrong
    return Finding(outcome, slope, error, noise, left, shift, len(answers))


def slope_through_origin(x: Values, y: Values) -> tuple[float | None, float | None]:
    """Slope of y on x through the origin, and its standard error; `None` for both if x is all zero.

    Training changes few tokens much and most a little. So x is clipped where it weights the tokens (Mallows' bounded
    influence, see Krasker and Welsch 1982, doi 10.2307/2287712). The error is robust to noise that differs from token
    to token, and a token that alone carries the slope does not make it look certain (HC3, MacKinnon and White 1985, doi
    10.1016/0304-4076(85)90158-7).
    """
    bound = CLIPPED * float(np.mean(np.abs(x))) if len(x) else 0.0
    weights = np.clip(x, -bound, bound)
    total = float(weights @ x)
    if total == 0:
        return None, None
    slope = float(weights @ y) / total
    leverage = weights * x / total
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(leverage < 1, (y - slope * x) / (1 - leverage), np.inf)
        error = float(np.sqrt(np.nansum((weights * left) ** 2))) / total
    return slope, error


def noise(served: LogProbabilities, expected: LogProbabilities) -> float:
    """Root mean square of the difference between engine and trainer on the same weights, in nats a token."""
    return root_mean_square(np.subtract(*aligned(served, expected)))


def distance(some: LogProbabilities, others: LogProbabilities) -> float:
    """Mean absolute difference of two sets of token log-probabilities, in nats."""
    first, second = aligned(some, others)
    return math.fsum(np.abs(first - second)) / max(1, len(first))


def root_mean_square(values: Values) -> float:
    return float(np.sqrt(np.mean(values * values))) if len(values) else 0.0


def aligned(*sets: LogProbabilities) -> tuple[Values, ...]:
    """The values of all tokens for which each set has one, as vectors of the same length."""
    rows = [
        values
        for texts in zip(*sets, strict=True)
        for values in zip(*texts, strict=True)
        if all(value is not None for value in values)
    ]
    table = np.array(rows, dtype=np.float64).reshape(-1, len(sets))
    return tuple(table.T)
