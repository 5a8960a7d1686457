"""How often is a study wrong when nothing changed? Thousands of simulated studies whose truth is known.

`python -m benchmarks intervals` makes the table in docs/method.md with the same simulation.
"""

import math

import numpy as np
import pytest

from benchmarks.intervals import ALPHA, simulated
from crescent.judging.seeds_and_items import (
    Assumed,
    detectable,
    estimate,
    expected_detectable,
    resampled,
    two_way_error,
)

STUDIES = 250


def bound(rate: float) -> float:
    """The highest share of wrong studies that three standard errors of bad luck explain."""
    return rate + 3 * math.sqrt(rate * (1 - rate) / STUDIES)


@pytest.mark.parametrize(
    ("of_seeds", "of_items", "of_both"),
    [(0.0, 0.0, 0.0), (0.03, 0.0, 0.05), (0.0, 0.15, 0.05), (0.02, 0.15, 0.1), (0.05, 0.15, 0.1), (0.01, 0.3, 0.1)],
    ids=["samples only", "seeds", "items", "all", "large seeds", "large items"],
)
@pytest.mark.parametrize("items", [100, 400])
def test_nothing_is_found_where_nothing_is_more_often_than_declared(
    items: int, of_seeds: float, of_items: float, of_both: float
) -> None:
    dice = np.random.default_rng(items)
    wrong = 0
    for _ in range(STUDIES):
        found = estimate(simulated(dice, 5, items, of_seeds, of_items, of_both), ALPHA, resamples=2)
        wrong += found.low > 0 or found.high < 0
        assert (found.p_value < ALPHA) == (found.low > 0 or found.high < 0)
    assert wrong / STUDIES <= bound(0.06)


def test_each_interval_alone_is_too_narrow_somewhere() -> None:
    """Why two t intervals decide: one over seeds forgets the items, a bootstrap the small number of seeds."""
    dice = np.random.default_rng(1)
    over_seeds = of_bootstrap = 0
    for number in range(STUDIES):
        found = estimate(simulated(dice, 5, 100, 0.0, 0.15, 0.05), ALPHA, resamples=2)
        over_seeds += found.over_seeds.excludes_zero
        table = simulated(dice, 5, 200, 0.1, 0.0, 0.05)
        of_bootstrap += resampled(table, ALPHA, number, 199).excludes_zero
    assert over_seeds / STUDIES > 0.12
    assert of_bootstrap / STUDIES > 0.08


def test_a_gain_of_the_size_said_to_be_detectable_is_found_four_times_in_five() -> None:
    dice = np.random.default_rng(2)
    gain = expected_detectable(Assumed(0.03, 0.15, 0.3), seeds=5, items=200, samples=8, alpha=ALPHA)
    tables = [simulated(dice, 5, 200, 0.03, 0.15, 0.0, gain) for _ in range(STUDIES)]
    found = [estimate(table, ALPHA, resamples=2) for table in tables]
    assert 0.7 < sum(result.low > 0 for result in found) / STUDIES < 0.95
    after = float(np.median([result.detectable for result in found]))
    assert 0.6 * gain < after < 1.4 * gain


def test_without_an_effect_of_seeds_the_error_is_that_of_items_and_the_other_way_round() -> None:
    dice = np.random.default_rng(3)
    items = np.tile(dice.normal(0, 1, 50), (5, 1))
    error, freedom = two_way_error(items)
    assert error == pytest.approx(items[0].std(ddof=1) / math.sqrt(50))
    assert freedom == pytest.approx(49)
    seeds = np.tile(dice.normal(0, 1, (5, 1)), (1, 50))
    error, freedom = two_way_error(seeds)
    assert error == pytest.approx(seeds[:, 0].std(ddof=1) / math.sqrt(5))
    assert freedom == pytest.approx(4)


def test_one_seed_gives_no_interval() -> None:
    with pytest.raises(ValueError, match="1 seeds and 9 items"):
        estimate(np.zeros((1, 9)), ALPHA)


def test_equal_models_differ_by_nothing() -> None:
    found = estimate(np.zeros((5, 30)), ALPHA)
    assert (found.mean, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_more_of_anything_makes_smaller_gains_detectable() -> None:
    assumed = Assumed(0.02, 0.2, 0.5)
    plain = expected_detectable(assumed, 5, 200, 8, ALPHA)
    assert expected_detectable(assumed, 10, 200, 8, ALPHA) < plain
    assert expected_detectable(assumed, 5, 800, 8, ALPHA) < plain
    assert expected_detectable(assumed, 5, 200, 32, ALPHA) < plain
    assert detectable(0.01, 4, ALPHA) > detectable(0.01, 40, ALPHA) > 0.028
