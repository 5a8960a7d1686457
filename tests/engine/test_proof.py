"""Which weights are served, decided from noisy log-probabilities: simulated children, parents and strangers."""

from collections.abc import Callable

import numpy as np
import pytest

from crescent.engine.proof import (
    Outcome,
    Values,
    distance,
    find,
    noise,
    slope_through_origin,
)

TEXTS, TOKENS = 4, 96
NOISE = 0.05
"""Root mean square, in nats, that two correct engines in bfloat16 differ by."""
SHIFTS = (0.0, 0.005, 0.02, 0.05, 0.07, 0.1, 0.3, 1.0)
"""Root mean square, in nats, of what training changes."""

Table = list[list[float | None]]


def table(values: Values) -> Table:
    return [[None, *row] for row in values.reshape(TEXTS, TOKENS).tolist()]


class Simulated:
    """Log-probabilities of base, parent and child by a trainer, and by a server that holds one of them.

    Both engines are noisy, and noisier on improbable tokens. Training changes few tokens much and most a little.
    """

    def __init__(self, seed: int, shift: float, level: float = NOISE, kind: str = "even") -> None:
        self.dice = np.random.default_rng(seed)
        self.level = level
        self.kind = kind
        self.parent = -self.dice.exponential(1.0, TEXTS * TOKENS)
        self.child = self.parent + self.change(shift)
        self.stranger = self.parent + self.change(shift)

    def change(self, shift: float) -> Values:
        raw = self.dice.standard_t(3, TEXTS * TOKENS)
        return shift * raw / np.sqrt(np.mean(raw**2))

    def seen(self, true: Values) -> Table:
        """What one engine computes; the difference of two has the noise's size."""
        size = np.ones_like(true) if self.kind == "even" else np.sqrt(np.abs(true) + 0.05)
        error = self.dice.standard_normal(len(true)) * size
        return table(true + self.level / np.sqrt(2) * error / np.sqrt(np.mean(size**2)))

    def outcome(self, served: Values) -> Outcome:
        own = noise(self.seen(self.parent), self.seen(self.parent))
        return find(self.seen(served), self.seen(self.child), self.seen(self.parent), own).outcome


def count(shift: float, who: Callable[[Simulated], Values], outcome: Outcome, kind: str = "even") -> int:
    """How many of 100 simulated rounds end with the outcome."""
    rounds = [Simulated(seed, shift, kind=kind) for seed in range(100)]
    return sum(simulated.outcome(who(simulated)) is outcome for simulated in rounds)


@pytest.mark.parametrize("kind", ["even", "uneven"])
@pytest.mark.parametrize("shift", SHIFTS)
def test_no_correct_child_is_refused_however_little_it_moved(shift: float, kind: str) -> None:
    assert count(shift, lambda simulated: simulated.child, Outcome.wrong, kind) == 0


@pytest.mark.parametrize("kind", ["even", "uneven"])
@pytest.mark.parametrize("shift", [shift for shift in SHIFTS if shift >= 2 * NOISE])
def test_from_twice_the_noise_on_every_child_is_proven_and_every_swapped_one_caught(shift: float, kind: str) -> None:
    assert count(shift, lambda simulated: simulated.child, Outcome.proven, kind) == 100
    assert count(shift, lambda simulated: simulated.parent, Outcome.wrong, kind) == 100


@pytest.mark.parametrize("shift", [0.2, 0.3, 1.0])
def test_a_third_model_is_caught(shift: float) -> None:
    assert count(shift, lambda simulated: simulated.stranger, Outcome.wrong) == 100


def test_most_children_that_moved_as_much_as_the_noise_are_proven_and_most_swapped_ones_caught() -> None:
    """An earlier rule, which compared distances, refused every correct child that moved less than twice the noise."""
    assert count(NOISE, lambda simulated: simulated.child, Outcome.proven) > 80
    assert count(NOISE, lambda simulated: simulated.parent, Outcome.wrong) > 80


def test_a_child_that_did_not_move_cannot_be_told_from_its_parent() -> None:
    assert count(0.0, lambda simulated: simulated.parent, Outcome.unknown) == 100


def test_a_model_far_from_both_is_caught_even_if_training_changed_nothing() -> None:
    served, expected = [[None, -1.0, -2.0, -3.0]], [[None, -2.0, -1.0, -1.0]]
    assert find(served, expected, expected, noise=0.05).outcome is Outcome.wrong
    assert find(expected, expected, expected, noise=0.05).outcome is Outcome.unknown


@pytest.mark.parametrize("scale", [0.5, 0.0, 2.0])
def test_an_adapter_applied_at_the_wrong_strength_is_caught(scale: float) -> None:
    simulated = Simulated(0, shift=0.5)
    assert simulated.outcome(simulated.parent + scale * (simulated.child - simulated.parent)) is Outcome.wrong


def test_one_token_alone_does_not_prove_anything() -> None:
    parent = [[None, *[-1.0] * 20]]
    child = [[None, -3.0, *[-1.0] * 19]]
    assert find(child, child, parent, noise=0.1).outcome is Outcome.unknown


def test_the_slope_and_its_error_are_those_of_ordinary_regression_where_no_token_stands_out() -> None:
    x, y = np.array([1.0, 2.0, -1.0, 1.5]), np.array([1.1, 1.9, -0.7, 1.2])
    design, inverse = x[:, None], 1 / np.sum(x**2)
    slope = np.linalg.lstsq(design, y, rcond=None)[0][0]
    left = (y - slope * x) / (1 - x**2 * inverse)  # HC3: each residual by what the token's own leverage hides
    assert slope_through_origin(x, y) == pytest.approx((slope, np.sqrt(inverse * np.sum((x * left) ** 2) * inverse)))
    assert slope_through_origin(np.zeros(3), y[:3]) == (None, None)
    assert slope_through_origin(np.zeros(0), np.zeros(0)) == (None, None)


def test_noise_is_the_root_mean_square_and_distance_the_mean_absolute_difference() -> None:
    assert noise([[None, -1.0, -2.0]], [[None, -1.0, -2.5]]) == pytest.approx(np.sqrt(0.125))
    assert distance([[None, -1.0, -2.0]], [[None, -1.5, -2.0]]) == 0.25
    assert distance([], []) == 0.0
