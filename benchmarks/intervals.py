"""How often a study is wrong when nothing changed: `python -m benchmarks intervals`.

Simulates studies of two models that differ by nothing on average, but by something for each seed and each item, and
counts how often an interval excludes zero: in 5% of them, if it is what it says.
"""

import argparse
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks import save
from benchmarks.tables import Row, show
from crescent.judging.seeds_and_items import estimate

SIZES = ((5, 100), (5, 200), (5, 400), (3, 200), (10, 200))
"""Seeds and items."""
DEVIATIONS = (
    (0.0, 0.0, 0.0),
    (0.03, 0.0, 0.05),
    (0.0, 0.15, 0.05),
    (0.02, 0.15, 0.1),
    (0.05, 0.15, 0.1),
    (0.01, 0.3, 0.1),
    (0.1, 0.3, 0.1),
)
"""Standard deviations of the true difference over seeds, over items, and of both together."""
SAMPLES = 8
ALPHA = 0.05


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks intervals", description=__doc__)
    parser.add_argument("--studies", type=int, default=1_000, help="simulated studies per row (default: 1000)")
    given = parser.parse_args(arguments)
    rows = [wrong_shares(*size, *deviations, given.studies) for size in SIZES for deviations in DEVIATIONS]
    show(f"share of {given.studies:,} studies without an effect in which the interval excludes zero, in percent", rows)
    print(f"saved: {save('intervals', {'studies': given.studies, 'rows': rows})}")


def wrong_shares(seeds: int, items: int, of_seeds: float, of_items: float, of_both: float, studies: int) -> Row:
    """How often each interval excludes zero, in percent."""
    dice = np.random.default_rng([seeds, items])
    wrong = dict.fromkeys(("over items", "over seeds", "seeds × items", "bootstrap", "decision"), 0)
    for number in range(studies):
        table = simulated(dice, seeds, items, of_seeds, of_items, of_both)
        found = estimate(table, ALPHA, number, resamples=499)
        by_item = table.mean(axis=0)
        wrong["over items"] += abs(by_item.mean()) > 1.96 * by_item.std(ddof=1) / math.sqrt(items)
        wrong["over seeds"] += found.over_seeds.excludes_zero
        wrong["seeds × items"] += found.two_way.excludes_zero
        wrong["bootstrap"] += found.resampled.excludes_zero
        wrong["decision"] += found.low > 0 or found.high < 0
    about: Row = {"seeds": seeds, "items": items, "sd seeds": of_seeds, "sd items": of_items, "sd both": of_both}
    return about | {name: round(100 * float(count) / studies, 1) for name, count in wrong.items()}


def simulated(
    dice: np.random.Generator,
    seeds: int,
    items: int,
    of_seeds: float,
    of_items: float,
    of_both: float,
    gain: float = 0.0,
) -> NDArray[np.float64]:
    """Differences of two models by seed and item, each answer sampled 8 times; on average they differ by `gain`."""
    levels = dice.beta(1.2, 1.2, items)
    true = (
        dice.normal(0, of_seeds, (seeds, 1)) + dice.normal(0, of_items, items) + dice.normal(0, of_both, (seeds, items))
    )
    # To either side of the level, so that the bounds 0 and 1 cut both models alike.
    sides = [np.clip(levels + sign * (true + gain) / 2, 0, 1) for sign in (1, -1)]
    right, other = (dice.binomial(SAMPLES, side) / SAMPLES for side in sides)
    return np.asarray(right - other)
