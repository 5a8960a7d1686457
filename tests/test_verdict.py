"""The statistics behind accept, roll back and stop: by hand, against scipy, and by simulation."""

import math
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, binomtest, bootstrap

from crescent.config import Gate, VerdictConfig
from crescent.errors import DataSaysNo
from crescent.records import Checkpoint, Response, Verdict
from crescent.verdict import compare, judge, minimum_detectable_gain, wilson, with_patience

BASE = Checkpoint(name="run-base", round=0, digest="b")
CHILD = Checkpoint(name="run-r01-c", round=1, digest="c")


def answered(correct: Iterable[bool], benchmark: str = "dev", final: str | None = "1") -> list[Response]:
    """One response per flag, to items 0, 1, 2, …"""
    return [
        Response(str(index), benchmark, "q", "a", final, "1", bool(flag), "stop", 1)
        for index, flag in enumerate(correct)
    ]


def pair(gained: int, lost: int, items: int) -> tuple[list[Response], list[Response]]:
    """Child and parent that differ on `gained + lost` of `items` items, and solve every second one of the others."""
    others = [index % 2 == 0 for index in range(items - gained - lost)]
    child = [True] * gained + [False] * lost + others
    parent = [False] * gained + [True] * lost + others
    return answered(child), answered(parent)


def decide(child: list[Response], parent: list[Response], **settings: Any) -> Verdict:
    cfg = VerdictConfig(resamples=999, **settings)
    return judge(CHILD, BASE, child, parent, cfg, {"dev"}, seed=0)


def test_the_p_value_is_the_binomial_tail_of_the_discordant_items() -> None:
    result = compare(*pair(12, 4, 300), resamples=999, seed=0)
    by_hand = 2 * sum(math.comb(16, k) for k in range(12, 17)) / 2**16
    assert result.p_value == pytest.approx(by_hand)
    assert result.difference == pytest.approx(8 / 300)
    assert (result.gained, result.lost, result.items) == (12, 4, 300)


def test_the_interval_is_the_percentile_bootstrap_over_items() -> None:
    gained, lost, items = 60, 25, 400
    differences = np.repeat([1, -1, 0], [gained, lost, items - gained - lost])
    result = compare(*pair(gained, lost, items), resamples=20_000, seed=1)
    reference = bootstrap((differences,), np.mean, n_resamples=20_000, method="percentile", rng=2, batch=1000)
    assert result.low == pytest.approx(reference.confidence_interval.low, abs=0.004)
    assert result.high == pytest.approx(reference.confidence_interval.high, abs=0.004)


def test_the_interval_covers_the_truth_in_95_of_100_cases() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(1000):
        gained, lost, _ = rng.multinomial(300, [0.15, 0.10, 0.75])
        result = compare(*pair(gained, lost, 300), resamples=999, seed=seed)
        covered += result.low <= 0.05 <= result.high
    assert 0.93 <= covered / 1000 <= 0.97


def test_the_order_of_responses_does_not_matter_and_the_seed_settles_the_rest() -> None:
    child, parent = pair(9, 4, 100)
    result = compare(child, parent, resamples=999, seed=3)
    assert compare(child[::-1], parent, resamples=999, seed=3) == result
    assert compare(child, parent, resamples=999, seed=4).p_value == result.p_value


def test_identical_answers_have_no_difference_and_no_evidence() -> None:
    result = compare(*pair(0, 0, 50), resamples=999, seed=0)
    assert (result.difference, result.low, result.high, result.p_value) == (0, 0, 0, 1)


def test_a_child_that_solves_everything_its_parent_missed_has_an_interval_without_width() -> None:
    result = compare(*pair(30, 0, 30), resamples=999, seed=0)
    assert (result.difference, result.low, result.high) == (1, 1, 1)


def test_different_item_sets_are_refused_with_their_number() -> None:
    child, parent = pair(3, 1, 20)
    with pytest.raises(DataSaysNo, match="5 items were answered by only one"):
        compare(child[5:], parent, resamples=999, seed=0)


def test_an_item_answered_twice_is_refused() -> None:
    child, parent = pair(3, 1, 20)
    with pytest.raises(DataSaysNo, match="1 items were answered twice"):
        compare([*child, child[0]], parent, resamples=999, seed=0)


def test_no_items_are_refused_unless_the_gate_is_off() -> None:
    with pytest.raises(DataSaysNo, match="no items"):
        decide([], [])
    verdict = decide([], [], gate=Gate.off)
    assert (verdict.action, verdict.items, verdict.p_value) == ("accept", 0, 1.0)
    assert "nothing was measured" in verdict.reason


def test_a_significant_gain_is_accepted() -> None:
    verdict = decide(*pair(20, 4, 300))
    assert verdict.action == "accept"
    assert (verdict.child, verdict.parent, verdict.benchmarks) == ("run-r01-c", "run-base", ("dev",))
    assert "significantly better" in verdict.reason


def test_a_rejection_says_the_numbers() -> None:
    verdict = decide(*pair(12, 4, 300))
    assert verdict.action == "roll back"
    assert verdict.reason.startswith("12 of 300 items gained, 4 lost: +2.7 points [0.")
    assert verdict.reason.endswith("p = 0.077 > 0.05: not significant")


def test_a_significant_loss_is_no_gain() -> None:
    verdict = decide(*pair(4, 20, 300))
    assert verdict.p_value < 0.05
    assert verdict.action == "roll back"
    assert "significantly worse" in verdict.reason


@pytest.mark.parametrize(("gained", "lost", "action"), [(5, 4, "accept"), (4, 4, "roll back"), (4, 5, "roll back")])
def test_the_better_gate_counts_items_and_asks_for_no_evidence(gained: int, lost: int, action: str) -> None:
    assert decide(*pair(gained, lost, 100), gate=Gate.better).action == action


def test_an_open_gate_accepts_a_worse_child_and_still_reports_it() -> None:
    verdict = decide(*pair(4, 20, 300), gate=Gate.off)
    assert verdict.action == "accept"
    assert verdict.difference == pytest.approx(-16 / 300)
    assert "gate=off" in verdict.reason


@pytest.mark.parametrize(
    ("rejected_before", "patience", "action"),
    [(0, 0, "stop"), (0, 1, "roll back"), (1, 1, "stop"), (1, 2, "roll back")],
)
def test_rejections_beyond_patience_stop_the_run(rejected_before: int, patience: int, action: str) -> None:
    verdict = with_patience(decide(*pair(0, 0, 50)), rejected_before, patience)
    assert verdict.action == action
    assert ("patience" in verdict.reason) == (action == "stop")


def test_test_benchmarks_are_not_looked_at() -> None:
    child, parent = pair(1, 1, 100)
    brilliant, poor = answered([True] * 100, "test"), answered([False] * 100, "test")
    assert decide(child + brilliant, parent + poor) == decide(child, parent)


def test_a_child_nobody_understands_is_rolled_back_and_the_reason_says_so() -> None:
    child = answered([False] * 40, final=None)
    parent = answered([True] * 10 + [False] * 30)
    verdict = decide(child, parent)
    assert verdict.action == "roll back"
    assert "no final answer could be read from any of the child's 40 responses" in verdict.reason
    accepted = decide(child, parent, gate=Gate.off)
    assert accepted.action == "accept"
    assert "no final answer could be read" in accepted.reason


def test_a_child_that_is_no_better_is_accepted_at_most_as_often_as_alpha_says() -> None:
    rng = np.random.default_rng(0)
    rounds, accepted = 2000, 0
    for _ in range(rounds):
        gained, lost, _ = rng.multinomial(200, [0.15, 0.15, 0.7])
        accepted += decide(*pair(gained, lost, 200)).action == "accept"
    # Two-sided at 5 %, and only gains are accepted: at most 2.5 %, and three standard errors for luck.
    assert accepted / rounds <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / rounds)


@pytest.mark.parametrize(("items", "discordance"), [(300, 0.2), (1319, 0.2), (1319, 0.1), (5000, 0.3)])
def test_the_minimum_detectable_gain_is_found_four_times_in_five(items: int, discordance: float) -> None:
    gain = minimum_detectable_gain(items, alpha=0.05, power=0.8, discordance=discordance)
    gains, losses = (discordance + gain) / 2, (discordance - gain) / 2
    rng = np.random.default_rng(0)
    draws = rng.multinomial(items, [gains, losses, 1 - discordance], size=1000)
    found = sum(won > lost and binomtest(won, won + lost).pvalue <= 0.05 for won, lost, _ in draws)
    assert 0.74 <= found / len(draws) <= 0.86


def test_found_half_the_time_is_the_edge_of_significance() -> None:
    # The familiar 2.7 points on the 1,319 test items of GSM8K: 1.96 standard errors when a quarter of them differ.
    gain = minimum_detectable_gain(1319, alpha=0.05, power=0.5, discordance=0.25)
    assert gain == pytest.approx(1.96 * math.sqrt(0.25 / 1319), abs=1e-5)
    assert round(100 * gain, 1) == 2.7


def test_on_few_items_the_gain_needs_more_discordance_than_was_assumed() -> None:
    gain = minimum_detectable_gain(20, alpha=0.05)
    assert gain > 0.2
    # All of it gains: six of twenty are the fewest with p <= 0.05.
    assert 0.7 <= binom.sf(5, 20, gain) <= 0.9


def test_fewer_than_six_items_can_never_be_significant() -> None:
    assert minimum_detectable_gain(5, alpha=0.05) == math.inf
    assert minimum_detectable_gain(6, alpha=0.05) == 1.0


def test_more_items_find_smaller_gains() -> None:
    gains = [minimum_detectable_gain(items, alpha=0.05) for items in (6, 10, 30, 100, 300, 1319, 10_000)]
    assert gains == sorted(gains, reverse=True)


def test_wilson_is_the_textbook_formula() -> None:
    z, n, p = 1.959964, 200, 0.75
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert wilson(150, 200) == pytest.approx((middle - reach, middle + reach), abs=1e-6)
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == 1
    assert wilson(0, 0) == (0, 1)


def test_importing_the_verdict_costs_no_scipy() -> None:
    code = "import sys, crescent.verdict; sys.exit('scipy' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
