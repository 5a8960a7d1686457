"""Did the child get better? Paired statistics on the same items, and what follows from them.

scipy takes a second to import, so it is imported where it is used: the loop reads this file long before it judges.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from crescent.config import Gate, VerdictConfig
from crescent.errors import DataSaysNo
from crescent.records import Action, Checkpoint, Response, Verdict


@dataclass(frozen=True)
class Comparison:
    """Two checkpoints on the same items."""

    difference: float
    """Accuracy of the child minus the parent's, in [-1, 1]."""
    low: float
    """Ends of the 95 % paired bootstrap interval of `difference`."""
    high: float
    p_value: float
    """Exact McNemar, two-sided."""
    gained: int
    lost: int
    items: int


def compare(child: Sequence[Response], parent: Sequence[Response], resamples: int, seed: int) -> Comparison:
    """Pair the responses item by item.

    The interval is the percentile bootstrap over items (Efron & Tibshirani 1993, ch. 13). An item's difference is
    1, 0 or -1, so resampling items is drawing three counts from a multinomial: exact, and quick on any number of items.
    When no item differs the interval has no width: it says nothing about items that were not asked.

    Raises:
        DataSaysNo: no items, an item twice, or not the same items on both sides.
    """
    import numpy as np
    from scipy.stats import binomtest

    by_item_child, by_item_parent = _by_item(child), _by_item(parent)
    unpaired = by_item_child.keys() ^ by_item_parent.keys()
    if unpaired:
        example = "/".join(min(unpaired))
        raise DataSaysNo(
            f"{len(unpaired)} items were answered by only one of the two checkpoints (e.g. {example}): a paired test "
            "needs the same items; evaluate both with the same eval settings"
        )
    items = len(by_item_child)
    if items == 0:
        raise DataSaysNo("no items to compare on: a verdict needs a dev benchmark with at least one item")
    gained = sum(by_item_child[item] and not by_item_parent[item] for item in by_item_child)
    lost = sum(by_item_parent[item] and not by_item_child[item] for item in by_item_child)
    # McNemar 1947: under the null hypothesis a discordant item falls to either side like a fair coin.
    p_value = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    shares = [gained / items, lost / items, (items - gained - lost) / items]
    counts = np.random.default_rng(seed).multinomial(items, shares, size=resamples)
    low, high = np.quantile((counts[:, 0] - counts[:, 1]) / items, [0.025, 0.975])
    return Comparison((gained - lost) / items, float(low), float(high), p_value, gained, lost, items)


def judge(
    child: Checkpoint,
    parent: Checkpoint,
    child_responses: Sequence[Response],
    parent_responses: Sequence[Response],
    cfg: VerdictConfig,
    deciding: Collection[str],
    seed: int,
) -> Verdict:
    """Whether the child replaces its parent, by the responses to the `deciding` benchmarks alone.

    Args:
        deciding: Names of dev benchmarks. Only `gate=off` gets by without one.

    Raises:
        DataSaysNo: nothing to decide on, or the two were not asked the same items.
    """
    child_decides = [response for response in child_responses if response.benchmark in deciding]
    parent_decides = [response for response in parent_responses if response.benchmark in deciding]
    if cfg.gate is Gate.off and not child_decides and not parent_decides:
        result = Comparison(0.0, -1.0, 1.0, 1.0, 0, 0, 0)
    else:
        result = compare(child_decides, parent_decides, cfg.resamples, seed)
    speechless = result.items > 0 and all(response.final is None for response in child_decides)
    passed, finding = _gate(result, cfg)
    if speechless:
        passed = cfg.gate is Gate.off
        finding = f"no final answer could be read from any of the child's {result.items} responses ({finding})"
    action: Action = "accept"
    reason = f"{_numbers(result, cfg)}: {finding}"
    if not passed:
        action = "roll back"
    benchmarks = tuple(sorted({response.benchmark for response in child_decides}))
    return Verdict(
        action=action,
        reason=reason,
        child=child.name,
        parent=parent.name,
        difference=result.difference,
        low=result.low,
        high=result.high,
        p_value=result.p_value,
        gained=result.gained,
        lost=result.lost,
        items=result.items,
        benchmarks=benchmarks,
    )


def with_patience(verdict: Verdict, rejected_before: int, patience: int) -> Verdict:
    """The same verdict, turned into `stop` when it is one rejection in a row too many.

    Args:
        rejected_before: Children rejected since the last accepted one, this one not counted.
    """
    in_a_row = rejected_before + 1
    if verdict.action == "accept" or in_a_row <= patience:
        return verdict
    return replace(
        verdict, action="stop", reason=f"{verdict.reason}; rejected {in_a_row} in a row, patience is {patience}"
    )


def minimum_detectable_gain(items: int, alpha: float, power: float = 0.8, discordance: float = 0.2) -> float:
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


def wilson(correct: int, total: int) -> tuple[float, float]:
    """95 % interval of an accuracy (Wilson 1927), in [0, 1]. Of nothing, nothing is known: (0, 1)."""
    from scipy.stats import binomtest

    if total == 0:
        return 0.0, 1.0
    interval = binomtest(correct, total).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


def _by_item(responses: Sequence[Response]) -> dict[tuple[str, str], bool]:
    by_item = {(response.benchmark, response.item): response.correct for response in responses}
    if len(by_item) < len(responses):
        raise DataSaysNo(f"{len(responses) - len(by_item)} items were answered twice: a paired test needs each once")
    return by_item


def _gate(result: Comparison, cfg: VerdictConfig) -> tuple[bool, str]:
    """Whether the numbers open the gate, and what to call them."""
    significant = result.p_value <= cfg.alpha
    if result.items == 0:
        return True, "nothing was measured, accepted because verdict.gate=off"
    match cfg.gate:
        case Gate.off:
            return True, "accepted whatever they are, because verdict.gate=off"
        case Gate.better:
            return result.difference > 0, "better" if result.difference > 0 else "not better"
        case Gate.significant if significant and result.difference > 0:
            return True, "significantly better"
        case Gate.significant if significant:
            return False, "significantly worse"
        case Gate.significant:
            return False, "not significant"


def _numbers(result: Comparison, cfg: VerdictConfig) -> str:
    relation = "<=" if result.p_value <= cfg.alpha else ">"
    return (
        f"{result.gained} of {result.items} items gained, {result.lost} lost: {100 * result.difference:+.1f} points "
        f"[{100 * result.low:.1f}, {100 * result.high:.1f}], p = {result.p_value:.2g} {relation} {cfg.alpha:g}"
    )
