"""Two checkpoints on the same items: paired statistics.

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
"""The chance with which a gain that counts as detectable is found: four times in five, the convention."""


def compare(
    child: Sequence[Response],
    other: Sequence[Response],
    resamples: int,
    seed: int,
    benchmark: str = "",
    against: Against = "parent",
) -> Comparison:
    """Pair the responses item by item.

    An item that was asked several times counts once, with its mean: its samples resemble each other, and counting them
    apart would make the interval too narrow and the p-value too small.

    The interval is the percentile bootstrap over items (Efron & Tibshirani 1993, ch. 13). Resampling items is drawing
    the count of each difference from a multinomial: exact, and quick on any number of items. When no item differs the
    interval has no width: it says nothing about items that were not asked. The p-value is `sign_flip`'s.

    Raises:
        DataSaysNo: no items, or not the same ones on both sides, or not equally often.
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


def compare_benchmarks(
    child: Sequence[Response],
    other: Sequence[Response],
    against: Against,
    resamples: int,
    seed: int,
) -> list[Comparison]:
    """One comparison for each benchmark, by name; the p-values are Holm's over all of them."""
    children, others = by_benchmark(child), by_benchmark(other)
    found = [
        compare(children.get(name, []), others.get(name, []), resamples, seed, name, against)
        for name in sorted(children.keys() | others.keys())
    ]
    adjusted = holm([its.p_value for its in found])
    return [replace(its, p_holm=p_holm) for its, p_holm in zip(found, adjusted, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values, adjusted so that the chance of any false one below alpha is alpha at most (Holm 1979)."""
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda its: p_values[its])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def sign_flip(differences: "NDArray[np.int64]") -> float:
    """Exact two-sided p-value of items' differences in whole numbers, whose sign is a fair coin's if nothing changed.

    On differences of 1 and -1 this is the exact McNemar test (1947), the binomial one of the discordant items. All sign
    patterns count (Fisher 1935): the sum of those that came out positive is one of binomials, one for each size.
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
    """Smallest accuracy gain, in (0, 1], that the paired test finds with probability `power`; `inf` if none can be.

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
    """The gain that the comparison would have shown four times in five: with as many items differing as did."""
    share = (result.gained + result.lost) / max(1, result.items)
    return minimum_detectable_gain(result.items, alpha, discordance=share)


def wilson(correct: int, total: int) -> tuple[float, float]:
    """95 % interval of an accuracy (Wilson 1927), in [0, 1]. Of nothing, nothing is known: (0, 1)."""
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
    """Each item's mean value under the child minus the other's, as whole numbers, and what to divide them by."""
    import numpy as np

    mine, theirs = _by_item(child, value), _by_item(other, value)
    unpaired = mine.keys() ^ theirs.keys()
    if unpaired:
        raise DataSaysNo(
            f"{len(unpaired)} items were answered by only one of the two checkpoints (e.g. {'/'.join(min(unpaired))}): "
            "a paired test needs the same items; evaluate both with the same eval settings"
        )
    if not mine:
        raise DataSaysNo("no items to compare on: a verdict needs a dev benchmark with at least one item")
    uneven = [item for item in mine if len(mine[item]) != len(theirs[item])]
    if uneven:
        first = uneven[0]
        raise DataSaysNo(
            f"{len(uneven)} items were answered more often by one of the two checkpoints (e.g. {'/'.join(first)}: "
            f"{len(mine[first])} and {len(theirs[first])} times): a paired test needs as many answers from both; "
            "evaluate both with the same eval settings"
        )
    scale = math.lcm(*(len(its) for its in mine.values()))
    differences = [(sum(mine[item]) - sum(theirs[item])) * (scale // len(mine[item])) for item in mine]
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
