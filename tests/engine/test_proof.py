"""Which weights are served, decided from noisy log-probabilities: simulated children, parents and strangers."""

import numpy as np
import pytest

from benchmarks.proof import DETECTABLE, KINDS, NOISE, SHIFTS, Kind, Simulated, count
from crescent.engine.proof import Outcome, distance, find, noise, slope_through_origin

TUNED = range(100)
"""Seeds on which the rule was developed."""
FRESH = range(2_000_000, 2_000_100)
"""Seeds that it never saw."""


@pytest.mark.parametrize("seeds", [TUNED, FRESH], ids=["tuned", "fresh"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shift", SHIFTS)
def test_no_correct_child_is_refused_however_little_it_moved(shift: float, kind: Kind, seeds: range) -> None:
    assert count(shift, "child", Outcome.wrong, kind, seeds) == 0


@pytest.mark.parametrize("seeds", [TUNED, FRESH], ids=["tuned", "fresh"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shift", [shift for shift in SHIFTS if shift >= DETECTABLE])
def test_wherever_the_shift_can_be_detected_every_swapped_child_is_caught(
    shift: float, kind: Kind, seeds: range
) -> None:
    assert count(shift, "parent", Outcome.wrong, kind, seeds) == 100
    assert count(shift, "child", Outcome.proven, kind, seeds) >= 99


@pytest.mark.parametrize("kind", ["even", "uneven"])
@pytest.mark.parametrize("shift", [shift for shift in SHIFTS if shift >= 2 * NOISE])
def test_from_twice_the_noise_on_every_child_is_proven_and_every_swapped_one_caught(shift: float, kind: Kind) -> None:
    assert count(shift, "child", Outcome.proven, kind, TUNED) == 100
    assert count(shift, "parent", Outcome.wrong, kind, TUNED) == 100


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shift", SHIFTS)
def test_a_swapped_child_is_never_taken_for_proven(shift: float, kind: Kind) -> None:
    assert count(shift, "parent", Outcome.proven, kind, FRESH) == 0


@pytest.mark.parametrize("shift", [0.2, 0.3, 1.0])
def test_a_third_model_is_caught(shift: float) -> None:
    assert count(shift, "stranger", Outcome.wrong, "even", TUNED) == 100


def test_most_children_that_moved_as_much_as_the_noise_are_proven_and_most_swapped_ones_caught() -> None:
    """An earlier rule, which compared distances, refused every correct child that moved less than twice the noise."""
    assert count(NOISE, "child", Outcome.proven, "even", TUNED) > 80
    assert count(NOISE, "parent", Outcome.wrong, "even", TUNED) > 80


def test_a_child_that_did_not_move_cannot_be_told_from_its_parent() -> None:
    assert count(0.0, "parent", Outcome.unknown, "even", TUNED) == 100


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
