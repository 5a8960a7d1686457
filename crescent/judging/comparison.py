"""Paired statistics of two checkpoints on the same items.

scipy takes a second to import, so it is imported where it is used: the loop reads this file long before it judges.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from crescent.errors import DataSaysNo
from crescent.records import Comparison, Response

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Against = Literal["parent", "base", "best"]
POWER = 0.8
"""Power at which a gain counts as detectable: 80%, the convention."""


def paired_test(
    child: Sequence[Response],
    other: Sequence[Response],
    resamples: int,
    seed: int,
    benchmark: str = "",
    against: Against = "parent",
) -> Comparison:
    """Difference in accuracy, item by item, with its interval and its p-value.

    An item that was asked several times counts once, with its mean: samples of one item resemble each other, and
    counting them separately would make the interval too narrow and the p-value too small.

    The interval is the percentile bootstrap over items (Efron & Tibshirani 1993, ch. 13). Resampling items is drawing
    the count of each difference from a multinomial: exact, and quick on any number of items. When no item differs, the
    interval has no width and says nothing about items that were not asked. The p-value is that of `sign_flip`.

    Raises:
        DataSaysNo: there are no items, or the two sides answered different items or a different number of times.
    """
    import numpy as np

    differences, scale = differences_by_item(child, other, is_correct)
    items = len(differences)
    values, counts = np.unique(differences, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(items, counts / items, size=resamples) @ values / (items * scale)
    low, high = np.quantile(draws, [0.025, 0.975])
    p_value = sign_flip(differences)
    return Comparison(
        benchmark=benchmark,
        against=against,
        difference=int(differences.sum()) / (items * scale),
        low=float(low),
        high=float(high),
        p_value=p_value,
        p_holm=p_value,
        gained=int((differences > 0).sum()),
        lost=int((differences < 0).sum()),
        items=items,
    )


def paired_test_by_benchmark(
    child: Sequence[Response],
    other: Sequence[Response],
    against: Against,
    resamples: int,
    seed: int,
) -> list[Comparison]:
    """One comparison for each benchmark, sorted by name; `p_holm` is adjusted for all of them."""
    children, others = by_benchmark(child), by_benchmark(other)
    comparisons = [
        paired_test(children.get(name, []), others.get(name, []), resamples, seed, name, against)
        for name in sorted(children.keys() | others.keys())
    ]
    adjusted = holm([comparison.p_value for comparison in comparisons])
    return [replace(comparison, p_holm=p_holm) for comparison, p_holm in zip(comparisons, adjusted, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values, adjusted so that the chance of any false one below alpha is alpha at most (Holm 1979)."""
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def sign_flip(differences: "NDArray[np.int64]") -> float:
    """Exact two-sided p-value of the items' differences (whole numbers): if nothing changed, each sign is a fair coin.

    On differences of 1 and -1 this is the exact McNemar test (1947), the binomial test of the discordant items. All
    sign patterns count (Fisher 1935): the sum of the positive differences is a sum of binomials, one for each size.
    """
    import numpy as np
    from scipy.stats import binom

    uneven = differences[differences != 0]
    uneven = uneven // max(1, np.gcd.reduce(uneven))
    sizes, counts = np.unique(np.abs(uneven), return_counts=True)
    total, positive = int((sizes * counts).sum()), int(uneven[uneven > 0].sum())
    if 2 * positive == total:
        return 1.0
    chances: NDArray[np.floating] = np.ones(1)
    for size, count in zip(sizes, counts, strict=True):
        steps = np.zeros(size * count + 1)
        steps[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, steps)
    return min(1.0, 2 * float(chances[max(positive, total - positive) :].sum()))


def minimum_detectable_gain(items: int, alpha: float, power: float = POWER, discordance: float = 0.2) -> float:
    """Smallest accuracy gain, in (0, 1], that the paired test detects with probability `power`; `inf` if none can be.

    The normal approximation of McNemar's power (Connor 1987, Biometrics 43:207-211; after Miettinen 1968), solved for
    the gain d with n items and discordance u, the share of items only one of the two solves:

        n d² = (z[1 - alpha/2] √u + z[power] √(u - d²))²

    A gain larger than `discordance` needs more discordance than that: then u = d, nothing but gains. On few items the
    exact test is stricter than the approximation, so the result is never below the gain at which p <= alpha can be
    reached at all: five items can never give p <= 0.05.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    # k gains and no loss have the two-sided p-value 2 / 2^k.
    fewest = math.ceil(1 - math.log2(alpha))
    if items < fewest:
        return math.inf
    z_alpha, z_power = float(norm.ppf(1 - alpha / 2)), float(norm.ppf(power))

    def excess(gain: float) -> float:
        share = max(discordance, gain)
        needed = z_alpha * math.sqrt(share) + z_power * math.sqrt(max(0.0, share - gain * gain))
        return math.sqrt(items) * gain - needed

    if excess(1.0) < 0:
        return math.inf
    return max(float(brentq(excess, 1e-12, 1.0)), fewest / items)


def detectable_after(result: Comparison, alpha: float) -> float:
    """Gain that this comparison detects with 80% power, given how many items differed; `inf` if none can be."""
    share = (result.gained + result.lost) / max(1, result.items)
    return minimum_detectable_gain(result.items, alpha, discordance=share)


def wilson(correct: int, total: int) -> tuple[float, float]:
    """95% interval of an accuracy (Wilson 1927), in [0, 1]; without items nothing is known: (0, 1)."""
    from scipy.stats import binomtest

    if total == 0:
        return 0.0, 1.0
    interval = binomtest(correct, total).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


def is_correct(response: Response) -> bool:
    return response.correct


def is_silent(response: Response) -> bool:
    return response.final is None


def differences_by_item(
    child: Sequence[Response], other: Sequence[Response], value: Callable[[Response], bool]
) -> tuple["NDArray[np.int64]", int]:
    """Mean value of each item under the child minus under the other, as whole numbers, and the divisor of them all."""
    import numpy as np

    child_values, other_values = _by_item(child, value), _by_item(other, value)
    unpaired = child_values.keys() ^ other_values.keys()
    if unpaired:
        raise DataSaysNo(
            f"{len(unpaired)} items were answered by only one of the two checkpoints (e.g. {'/'.join(min(unpaired))}): "
            "a paired test needs the same items; evaluate both with the same eval settings"
        )
    if not child_values:
        raise DataSaysNo("no items to compare on: a verdict needs a dev benchmark with at least one item")
    uneven = [item for item in child_values if len(child_values[item]) != len(other_values[item])]
    if uneven:
        first = uneven[0]
        times = f"{len(child_values[first])} and {len(other_values[first])} times"
        raise DataSaysNo(
            f"{len(uneven)} items were answered more often by one of the two checkpoints (e.g. {'/'.join(first)}: "
            f"{times}): a paired test needs the same number of answers from each; "
            "evaluate both with the same eval settings"
        )
    # Whole numbers keep the test exact: means over 4 samples are counted in quarters.
    scale = math.lcm(*(len(values) for values in child_values.values()))
    differences = [
        (sum(values) - sum(other_values[item])) * (scale // len(values)) for item, values in child_values.items()
    ]
    return np.array(differences, dtype=np.int64), scale


def _by_item(responses: Sequence[Response], value: Callable[[Response], bool]) -> dict[tuple[str, str], list[bool]]:
    by_item = defaultdict(list)
    for response in responses:
        by_item[response.benchmark, response.item].append(value(response))
    return by_item


def by_benchmark(responses: Sequence[Response]) -> dict[str, list[Response]]:
    by_benchmark = defaultdict(list)
    for response in responses:
        by_benchmark[response.benchmark].append(response)
    return by_benchmark
