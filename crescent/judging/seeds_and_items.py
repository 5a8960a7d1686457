"""Intervals for differences that were measured on several seeds and the same items: both are samples of more.

A table has one row per seed and one column per item; a value is the difference that a contrast makes for this item in
this seed (a mean over samples). Another seed would have given other models, another draw of items another test. The
model is value = effect + seed + item + rest, where the rest holds the interaction and the noise of the samples.

Decided is by two t intervals, and the wider one counts: over the means of the seeds (five seeds are few), and over
seeds and items together. A bootstrap over both stands beside them. tests/judging/test_study_simulation.py shows how
often each is wrong when nothing changed; docs/method.md has the numbers.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crescent.judging.comparison import POWER

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Table = NDArray[np.float64]
RESAMPLES = 4_999
FEW = 2
"""Resamples where the bootstrap interval is not shown."""


@dataclass(frozen=True)
class Interval:
    """An interval with what it was made from."""

    low: float
    high: float
    error: float
    """Standard error."""
    freedom: float
    """Degrees of freedom of the t distribution; infinite for a bootstrap."""

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Estimate:
    """A mean difference over seeds and items."""

    mean: float
    seeds: int
    items: int
    over_seeds: Interval
    """t interval over the means of the seeds: for these very items."""
    two_way: Interval
    """t interval over seeds and items."""
    resampled: Interval
    """Percentile bootstrap over seeds and items."""
    p_value: float
    """Two-sided, the larger one of the two t tests."""
    detectable: float
    """Smallest difference that such a study would have detected with 80% power."""

    @property
    def low(self) -> float:
        """Lower end of the interval that decides: of both t intervals together. `high` is the upper end."""
        return min(self.over_seeds.low, self.two_way.low)

    @property
    def high(self) -> float:
        return max(self.over_seeds.high, self.two_way.high)


def estimate(table: "Table", alpha: float, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The mean of a table of differences, shape (seeds, items), with its intervals.

    Raises:
        ValueError: fewer than two seeds or items.
    """
    seeds, items = table.shape
    if min(seeds, items) < 2:
        raise ValueError(f"{seeds} seeds and {items} items: no interval without two of each")
    mean, means = float(table.mean()), table.mean(axis=1)
    one_way = float(means.std(ddof=1)) / math.sqrt(seeds), float(seeds - 1)
    both_ways = two_way_error(table)
    return Estimate(
        mean=mean,
        seeds=seeds,
        items=items,
        over_seeds=t_interval(mean, *one_way, alpha),
        two_way=t_interval(mean, *both_ways, alpha),
        resampled=resampled(table, alpha, seed, resamples),
        p_value=max(t_test(mean, *one_way), t_test(mean, *both_ways)),
        detectable=max(detectable(*one_way, alpha), detectable(*both_ways, alpha)),
    )


def two_way_error(table: "Table") -> tuple[float, float]:
    """Standard error of the mean of a crossed table of random seeds and random items, and its degrees of freedom.

    By the mean squares of the two-way layout (Searle, Casella & McCulloch 1992, ch. 4), the variance of the mean is
    (MS_seeds + MS_items - MS_rest) / n, with Satterthwaite's degrees of freedom (1946). Neither of the two one-way
    variances may be undercut: a difference of mean squares can be too small by chance.
    """
    import numpy as np

    seeds, items = table.shape
    mean, by_seed, by_item = table.mean(), table.mean(axis=1), table.mean(axis=0)
    rest = table - by_seed[:, None] - by_item[None, :] + mean
    of_seeds = items * float(((by_seed - mean) ** 2).sum()) / (seeds - 1)
    of_items = seeds * float(((by_item - mean) ** 2).sum()) / (items - 1)
    of_rest = float((rest**2).sum()) / ((seeds - 1) * (items - 1))
    total = of_seeds + of_items - of_rest
    squares = np.array([of_seeds, of_items, of_rest])
    freedoms = np.array([seeds - 1, items - 1, (seeds - 1) * (items - 1)])
    if total <= max(of_seeds, of_items):
        # One of the two has no effect of its own: the other one's mean square is the variance.
        larger = int(of_items > of_seeds)
        return math.sqrt(float(squares[larger]) / table.size), float(freedoms[larger])
    return math.sqrt(total / table.size), float(total**2 / (squares**2 / freedoms).sum())


def resampled(table: "Table", alpha: float, seed: int, resamples: int = RESAMPLES) -> Interval:
    """Percentile interval of the mean when seeds and items are drawn anew, independently of each other (Owen 2007,
    "The pigeonhole bootstrap", arXiv 0712.1111); all seeds have the same items."""
    import numpy as np

    seeds, items = table.shape
    dice = np.random.default_rng(seed)
    of_seeds = dice.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    of_items = dice.multinomial(items, np.full(items, 1 / items), size=resamples)
    # Not by BLAS: its threads wait for each other on a busy machine, and the product is small.
    means = (np.einsum("rs,si->ri", of_seeds, table) * of_items).sum(axis=1) / table.size
    low, high = np.quantile(means, [alpha / 2, 1 - alpha / 2])
    return Interval(float(low), float(high), float(means.std()), math.inf)


def detectable(error: float, freedom: float, alpha: float, power: float = POWER) -> float:
    """Difference that a two-sided t test with this standard error detects with probability `power`."""
    return (t_quantile(1 - alpha / 2, freedom) + t_quantile(power, freedom)) * error


@dataclass(frozen=True)
class Assumed:
    """Assumptions about a contrast before it is measured."""

    seed_deviation: float
    """Standard deviation of its true value over seeds."""
    item_deviation: float
    """Standard deviation over items of an item's true difference."""
    accuracy: float
    """Mean accuracy, in [0, 1]."""


def expected_detectable(assumed: Assumed, seeds: int, items: int, samples: int, alpha: float) -> float:
    """Smallest difference that a study of this size detects with 80% power, under the assumptions."""
    # Both sides of the difference are sampled; samples of an item vary by p(1 - p), at most as for the mean accuracy.
    noise = 2 * assumed.accuracy * (1 - assumed.accuracy) / samples
    rest = noise / (seeds * items)
    of_seeds, of_items = assumed.seed_deviation**2 / seeds + rest, assumed.item_deviation**2 / items + rest
    total = of_seeds + of_items - rest
    freedom = total**2 / (of_seeds**2 / (seeds - 1) + of_items**2 / (items - 1) + rest**2 / ((seeds - 1) * (items - 1)))
    by_seeds = detectable(math.sqrt(of_seeds), seeds - 1, alpha)
    return max(by_seeds, detectable(math.sqrt(total), freedom, alpha))


def t_test(mean: float, error: float, freedom: float) -> float:
    """Two-sided p-value of a mean."""
    from scipy.special import stdtr

    return 2 * float(stdtr(freedom, -abs(mean) / error)) if error > 0 else float(mean == 0)


def t_interval(mean: float, error: float, freedom: float, alpha: float) -> Interval:
    width = t_quantile(1 - alpha / 2, freedom) * error
    return Interval(mean - width, mean + width, error, freedom)


def t_quantile(share: float, freedom: float) -> float:
    """Quantile of Student's t distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, share))
