"""The statistics behind accept, retry, roll back and stop: by hand, and against scipy and statsmodels."""

import math
import re
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, binomtest, bootstrap, permutation_test

from crescent.config import BenchmarkConfig, CollapseConfig, Gate, OnCollapse, Split, VerdictConfig
from crescent.errors import BadConfig, DataSaysNo
from crescent.judging.comparison import (
    detectable_after,
    holm,
    minimum_detectable_gain,
    paired_test,
    paired_test_by_benchmark,
    wilson,
)
from crescent.judging.guards import Loss, guard_losses
from crescent.judging.measurements import Answers
from crescent.judging.verdict import Finding, decide, judge, with_patience
from crescent.records import Checkpoint, Response, Verdict, to_line

BASE = Checkpoint(name="run-base", round=0, digest="b")
PARENT = Checkpoint(name="run-r01-p", round=1, digest="p")
CHILD = Checkpoint(name="run-r01-c", round=1, digest="c")


def answered(correct: Iterable[bool], benchmark: str = "dev", final: str | None = "1") -> list[Response]:
    """One response for each flag, to items 0, 1, 2, …"""
    return [
        Response(str(index), benchmark, "q", "a", final, "1", bool(flag), "stop", 1)
        for index, flag in enumerate(correct)
    ]


def pair(gained: int, lost: int, items: int, benchmark: str = "dev") -> tuple[list[Response], list[Response]]:
    """Child and parent that differ on `gained + lost` of `items` items, and solve every second one of the others."""
    others = [index % 2 == 0 for index in range(items - gained - lost)]
    child = [True] * gained + [False] * lost + others
    parent = [False] * gained + [True] * lost + others
    return answered(child, benchmark), answered(parent, benchmark)


def sampled(correct: Iterable[Iterable[bool]]) -> list[Response]:
    """Several responses to each of the items 0, 1, 2, …"""
    return [
        Response(str(index), "dev", "q", "a", "1", "1", bool(flag), "stop", 1)
        for index, flags in enumerate(correct)
        for flag in flags
    ]


def judged(
    answers: Answers,
    deciding: Collection[str] = ("dev",),
    guards: Collection[str] = (),
    rounds: Sequence[Mapping[str, float]] = (),
    parent: Checkpoint = BASE,
    **settings: Any,
) -> Verdict:
    cfg = VerdictConfig(**{"resamples": 999, **settings})
    return judge(CHILD, parent, answers, cfg, deciding, guards, rounds, seed=0)


def verdict_on(child: list[Response], parent: list[Response], **settings: Any) -> Verdict:
    return judged(Answers(child, parent), **settings)


def test_the_p_value_is_the_binomial_tail_of_the_discordant_items() -> None:
    result = paired_test(*pair(12, 4, 300), resamples=999, seed=0)
    by_hand = 2 * sum(math.comb(16, k) for k in range(12, 17)) / 2**16
    assert result.p_value == pytest.approx(by_hand)
    assert result.difference == pytest.approx(8 / 300)
    assert (result.gained, result.lost, result.items) == (12, 4, 300)


def test_the_interval_is_the_percentile_bootstrap_over_items() -> None:
    gained, lost, items = 60, 25, 400
    differences = np.repeat([1, -1, 0], [gained, lost, items - gained - lost])
    result = paired_test(*pair(gained, lost, items), resamples=20_000, seed=1)
    reference = bootstrap((differences,), np.mean, n_resamples=20_000, method="percentile", rng=2, batch=1000)
    assert result.low == pytest.approx(reference.confidence_interval.low, abs=0.004)
    assert result.high == pytest.approx(reference.confidence_interval.high, abs=0.004)


def test_the_order_of_responses_does_not_matter_and_the_seed_settles_the_rest() -> None:
    child, parent = pair(9, 4, 100)
    result = paired_test(child, parent, resamples=999, seed=3)
    assert paired_test(child[::-1], parent, resamples=999, seed=3) == result
    assert paired_test(child, parent, resamples=999, seed=4).p_value == result.p_value


def test_identical_answers_have_no_difference_and_no_evidence() -> None:
    result = paired_test(*pair(0, 0, 50), resamples=999, seed=0)
    assert (result.difference, result.low, result.high, result.p_value) == (0, 0, 0, 1)


def test_a_child_that_solves_everything_its_parent_missed_has_an_interval_without_width() -> None:
    result = paired_test(*pair(30, 0, 30), resamples=999, seed=0)
    assert (result.difference, result.low, result.high) == (1, 1, 1)


def test_different_item_sets_are_refused_with_their_number() -> None:
    child, parent = pair(3, 1, 20)
    with pytest.raises(DataSaysNo, match="5 items were answered by only one"):
        paired_test(child[5:], parent, resamples=999, seed=0)


def test_an_item_answered_more_often_by_one_of_the_two_is_refused() -> None:
    child, parent = pair(3, 1, 20)
    with pytest.raises(DataSaysNo, match=r"1 items were answered more often .* dev/0: 2 and 1 times"):
        paired_test([*child, child[0]], parent, resamples=999, seed=0)


def test_samples_of_one_item_count_as_one_item() -> None:
    child, parent = sampled([[True, True, False, False]] * 50), sampled([[False, False, False, True]] * 50)
    result = paired_test(child, parent, resamples=999, seed=0)
    assert (result.items, result.gained, result.lost) == (50, 50, 0)
    assert result.difference == pytest.approx(0.25)
    assert result.p_value == pytest.approx(2 / 2**50)


def test_each_item_counts_the_same_however_often_it_was_asked() -> None:
    result = paired_test(sampled([[True], [True, False]]), sampled([[False], [False, False]]), resamples=99, seed=0)
    assert result.difference == pytest.approx(0.75)
    assert (result.low, result.high) == pytest.approx((0.5, 1))


def test_asking_every_item_again_with_the_same_outcome_adds_no_evidence() -> None:
    once = paired_test(*pair(12, 4, 100), resamples=999, seed=0)
    child, parent = pair(12, 4, 100)
    assert paired_test(child * 5, parent * 5, resamples=999, seed=0) == once


def test_over_several_samples_the_p_value_is_the_permutation_test_of_item_means() -> None:
    rng = np.random.default_rng(0)
    child, parent = rng.random((9, 4)) < 0.7, rng.random((9, 4)) < 0.4
    result = paired_test(sampled(child), sampled(parent), resamples=99, seed=0)
    reference = permutation_test(
        (child.mean(axis=1), parent.mean(axis=1)),
        lambda mine, theirs, axis: (mine - theirs).mean(axis=axis),
        permutation_type="samples",
        n_resamples=2**9,
        vectorized=True,
    )
    assert 0.001 < result.p_value < 0.5
    assert result.p_value == pytest.approx(reference.pvalue)


def test_over_several_samples_the_interval_is_the_bootstrap_over_item_means() -> None:
    rng = np.random.default_rng(1)
    solves = rng.random((200, 1))
    child, parent = rng.random((200, 4)) < solves, rng.random((200, 4)) < solves - 0.1
    result = paired_test(sampled(child), sampled(parent), resamples=20_000, seed=1)
    differences = child.mean(axis=1) - parent.mean(axis=1)
    reference = bootstrap((differences,), np.mean, n_resamples=20_000, method="percentile", rng=2, batch=1000)
    assert result.low == pytest.approx(reference.confidence_interval.low, abs=0.004)
    assert result.high == pytest.approx(reference.confidence_interval.high, abs=0.004)


def test_a_verdict_over_several_samples_counts_items_and_says_how_often_each_was_asked() -> None:
    child, parent = sampled([[True, True, False, False]] * 30), sampled([[False, False, False, False]] * 30)
    verdict = verdict_on(child, parent)
    assert verdict.items == 30
    numbers = "30 of 30 items (asked 4 times each) gained, 0 lost: +50.0 points [50.0, 50.0], p < 0.001"
    assert verdict.reason.startswith(f"{numbers}: ")
    silent = [replace(response, final=None, correct=False) for response in child]
    assert "from any of the child's 120 responses" in verdict_on(silent, parent).reason
    assert "120 of 120 answers to 30 dev items cannot be read" in label_free(silent, parent).reason


@pytest.mark.parametrize(
    ("raw", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.02, 0.6, 0.6, 0.001, 0.02, 0.3], [0.1, 1.0, 1.0, 0.006, 0.1, 0.9]),
        ([0.2], [0.2]),
        ([], []),
    ],
)
def test_holm_is_what_statsmodels_computes(raw: list[float], adjusted: list[float]) -> None:
    # statsmodels 0.15.0: multipletests(raw, method="holm")[1].
    assert holm(raw) == pytest.approx(adjusted)


@pytest.mark.parametrize(("gained", "lost", "p_value"), [(12, 4, 0.076812744140625), (4, 20, 0.001543879508972168)])
def test_the_p_value_is_the_exact_mcnemar_test_of_statsmodels(gained: int, lost: int, p_value: float) -> None:
    # statsmodels 0.15.0: mcnemar(table, exact=True).pvalue.
    assert paired_test(*pair(gained, lost, 300), resamples=99, seed=0).p_value == pytest.approx(p_value, rel=1e-12)


def test_each_benchmark_is_compared_and_its_p_value_adjusted_for_the_others() -> None:
    child, parent = [], []
    for name, gained, lost in (("b", 20, 5), ("a", 12, 4), ("c", 3, 3)):
        mine, theirs = pair(gained, lost, 100, name)
        child, parent = child + mine, parent + theirs
    found = paired_test_by_benchmark(child, parent, "best", resamples=999, seed=0)
    assert [(comparison.benchmark, comparison.against, comparison.gained, comparison.lost) for comparison in found] == [
        ("a", "best", 12, 4),
        ("b", "best", 20, 5),
        ("c", "best", 3, 3),
    ]
    assert [comparison.p_value for comparison in found] == pytest.approx([0.07681, 0.004077, 1.0], rel=1e-3)
    assert [comparison.p_holm for comparison in found] == pytest.approx([0.15363, 0.012232, 1.0], rel=1e-3)


def test_a_benchmark_only_one_of_the_two_answered_is_refused() -> None:
    child, parent = pair(3, 1, 20)
    with pytest.raises(DataSaysNo, match=r"7 items .* \(e.g. other/0\)"):
        paired_test_by_benchmark(child + answered([True] * 7, "other"), parent, "base", resamples=99, seed=0)


def test_no_items_are_refused_unless_the_gate_is_off() -> None:
    with pytest.raises(DataSaysNo, match="no items"):
        verdict_on([], [])
    verdict = verdict_on([], [], gate=Gate.off)
    assert (verdict.action, verdict.items, verdict.p_value) == ("accept", 0, 1.0)
    assert "nothing was measured" in verdict.reason


def test_a_significant_gain_is_accepted() -> None:
    verdict = verdict_on(*pair(20, 4, 300))
    assert verdict.action == "accept"
    assert (verdict.child, verdict.parent, verdict.benchmarks) == ("run-r01-c", "run-base", ("dev",))
    assert "significantly better" in verdict.reason


def test_a_rejection_says_the_numbers() -> None:
    verdict = verdict_on(*pair(12, 4, 300))
    assert verdict.action == "retry"
    assert verdict.reason.startswith("12 of 300 items gained, 4 lost: +2.7 points [0.")
    assert verdict.reason.endswith(
        "p = 0.077 > 0.05: not significant (can detect a 3.7-point gain with 80% power); "
        "no evidence against it, so the parent tries again and these pairs stay"
    )
    assert verdict.detectable == pytest.approx(0.0372, abs=1e-4)


def test_five_items_can_detect_no_gain_and_the_verdict_can_still_be_written() -> None:
    verdict = verdict_on(*pair(5, 0, 5))
    assert "5 items are too few to detect any gain" in verdict.reason
    assert verdict.detectable == 0
    assert b"null" not in to_line(verdict)


def test_what_could_have_been_detected_follows_from_how_many_items_differed() -> None:
    few, many = (paired_test(*pair(n, n, 400), resamples=99, seed=0) for n in (10, 40))
    assert detectable_after(few, 0.05) == minimum_detectable_gain(400, 0.05, discordance=0.05)
    assert detectable_after(few, 0.05) < detectable_after(many, 0.05)


def test_a_significant_loss_is_no_gain() -> None:
    verdict = verdict_on(*pair(4, 20, 300))
    assert verdict.p_value < 0.05
    assert verdict.action == "roll back"
    assert verdict.reason.endswith("significantly worse; the parent stays and these pairs are discarded")


@pytest.mark.parametrize(("gained", "lost"), [(4, 4), (4, 9), (9, 4)])
def test_a_child_that_is_neither_better_nor_worse_is_retried(gained: int, lost: int) -> None:
    assert verdict_on(*pair(gained, lost, 300)).action == "retry"


def test_a_loss_on_one_deciding_benchmark_rolls_back_a_child_that_lost_little_in_all() -> None:
    better, was = pair(12, 5, 200, "sums")
    worse, had = pair(1, 15, 200, "products")
    verdict = verdict_on(better + worse, was + had, deciding={"sums", "products"}, resamples=99)
    assert verdict.p_value > 0.05
    assert verdict.action == "roll back"
    assert "significantly worse on products (-7.0 points [" in verdict.reason


def test_how_test_sets_came_out_changes_nothing_in_the_decision() -> None:
    """p = 0.021 on products is 0.043 after Holm among the two that decide, and would be 0.13 among all six."""
    better, was = pair(12, 5, 200, "sums")
    worse, had = pair(3, 13, 200, "products")
    reported = [pair(3, 3, 200, name) for name in "abcd"]
    child, parent = (
        [*deciding, *(response for test in reported for response in test[side])]
        for side, deciding in enumerate((better + worse, was + had))
    )
    verdict = verdict_on(child, parent, deciding={"sums", "products"}, resamples=99)
    without = verdict_on(better + worse, was + had, deciding={"sums", "products"}, resamples=99)
    assert verdict.action == "roll back"
    assert verdict.reason == without.reason


@pytest.mark.parametrize(
    ("gained", "lost", "action"), [(5, 4, "accept"), (4, 4, "retry"), (4, 5, "retry"), (4, 20, "roll back")]
)
def test_the_better_gate_counts_items_and_asks_for_no_evidence(gained: int, lost: int, action: str) -> None:
    assert verdict_on(*pair(gained, lost, 100), gate=Gate.better).action == action


def test_an_open_gate_accepts_a_worse_child_and_still_reports_it() -> None:
    verdict = verdict_on(*pair(4, 20, 300), gate=Gate.off)
    assert verdict.action == "accept"
    assert verdict.difference == pytest.approx(-16 / 300)
    assert "gate=off" in verdict.reason


@pytest.mark.parametrize(
    ("rejected_before", "patience", "action"),
    [(0, 0, "stop"), (0, 1, "go on"), (1, 1, "stop"), (1, 2, "go on")],
)
@pytest.mark.parametrize(("lost", "otherwise"), [(0, "retry"), (20, "roll back")])
def test_rounds_without_an_accepted_child_stop_the_run_beyond_patience(
    rejected_before: int, patience: int, action: str, lost: int, otherwise: str
) -> None:
    verdict = with_patience(verdict_on(*pair(0, lost, 50)), rejected_before, patience)
    assert verdict.action == (otherwise if action == "go on" else action)
    assert ("patience" in verdict.reason) == (action == "stop")


def test_test_benchmarks_are_only_reported() -> None:
    child, parent = pair(1, 1, 100)
    brilliant, poor = answered([True] * 100, "test"), answered([False] * 100, "test")
    verdict, without = verdict_on(child + brilliant, parent + poor), verdict_on(child, parent)
    assert (verdict.action, verdict.reason, verdict.difference) == (without.action, without.reason, without.difference)
    assert verdict.benchmarks == ("dev",)
    found = [(comparison.benchmark, comparison.difference) for comparison in verdict.comparisons]
    assert found == [("dev", 0.0), ("test", 1.0)]


def test_the_child_is_compared_with_parent_base_and_best() -> None:
    child, parent = pair(10, 5, 100)
    base, best = answered([False] * 100), answered([True] * 100)
    verdict = judged(Answers(child, parent, base, best), parent=PARENT)
    assert [comparison.against for comparison in verdict.comparisons] == ["parent", "base", "best"]
    differences = [comparison.difference for comparison in verdict.comparisons]
    assert differences == pytest.approx([0.05, 0.53, -0.47])
    assert verdict.difference == pytest.approx(0.05)
    assert re.search(r"\+53\.0 points \[4.*\] against the base", verdict.reason)


def test_a_gain_that_hides_a_loss_says_where() -> None:
    better, was = pair(60, 5, 200, "sums")
    worse, had = pair(1, 15, 200, "products")
    verdict = verdict_on(better + worse, was + had, deciding={"sums", "products"})
    assert verdict.action == "accept"
    assert "significantly worse on products (-7.0 points [" in verdict.reason


def guarded(lost: int, items: int, gate: Gate = Gate.significant, base: Sequence[Response] = ()) -> Verdict:
    """A clear gain on dev, and a guard benchmark of which some items are lost."""
    child, parent = pair(40, 4, 300)
    now, before = pair(0, lost, items, "general")
    answers = Answers(child + now, parent + before, base)
    return judged(answers, deciding={"dev", "general"}, guards={"general"}, gate=gate)


def test_a_child_that_forgets_is_rolled_back_however_much_it_gained() -> None:
    verdict = guarded(lost=40, items=1000)
    assert verdict.p_value < 0.001
    assert verdict.action == "roll back"
    assert "guards broken against the parent: general lost 4.0 points (allowed 3.0)" in verdict.reason
    assert guarded(lost=40, items=1000, gate=Gate.off).action == "accept"


def test_a_child_that_forgets_a_little_passes_its_guards() -> None:
    verdict = guarded(lost=10, items=1000)
    assert verdict.action == "accept"
    assert "guards held against the parent (-1.0 points on average, a loss of 1.0 is allowed)" in verdict.reason


def test_a_guard_is_no_gain() -> None:
    child, parent = pair(1, 1, 100)
    brilliant, poor = answered([True] * 100, "general"), answered([False] * 100, "general")
    verdict = verdict_on(child + brilliant, parent + poor, deciding={"dev", "general"}, guards={"general"})
    assert (verdict.action, verdict.benchmarks, verdict.difference) == ("retry", ("dev",), 0.0)


def test_small_losses_do_not_add_up_because_guards_are_held_against_the_base() -> None:
    assert guarded(lost=9, items=1000).action == "accept"
    base = answered([True] * 100 + [index % 2 == 0 for index in range(900)], "general")
    verdict = guarded(lost=9, items=1000, base=pair(40, 4, 300)[1] + base)
    assert verdict.action == "roll back"
    assert "guards broken against the base: " in verdict.reason
    assert "their average lost 5.4 points (allowed 5.1);" in verdict.reason


def in_points(loss: Loss) -> tuple[float, float]:
    return round(100 * loss.lost, 1), round(100 * loss.allowed, 1)


def test_all_guards_together_may_lose_less_than_each_alone() -> None:
    names = ("a", "b", "c", "d")
    sides = [pair(0, 20, 1000, name) for name in names]
    now, before = ([response for responses in sides for response in responses[side]] for side in (0, 1))
    losses = guard_losses(now, before, names, VerdictConfig())
    assert losses.are_broken
    assert not any(loss.is_too_much for loss in losses.each.values())
    assert in_points(losses.average) == (2.0, 1.0)


def test_a_few_items_that_fell_the_wrong_way_do_not_break_a_small_guard() -> None:
    now, before = pair(2, 4, 40, "general")
    losses = guard_losses(now, before, ["general"], VerdictConfig())
    assert not losses.are_broken
    assert in_points(losses.average) == (5.0, 10.1)


def test_one_of_many_guards_falls_further_by_chance_than_one_alone() -> None:
    fell = pair(5, 14, 100, "a")
    losses = guard_losses(*fell, ["a"], VerdictConfig(guard_mean=1))
    assert losses.are_broken
    assert in_points(losses.each["a"]) == (9.0, 7.2)
    now, before = (
        [*fell[side], *(response for name in "bcd" for response in pair(2, 0, 100, name)[side])] for side in (0, 1)
    )
    assert not guard_losses(now, before, "abcd", VerdictConfig()).are_broken


def test_a_guard_without_answers_is_refused() -> None:
    with pytest.raises(DataSaysNo, match="no items"):
        verdict_on(*pair(9, 0, 50), guards={"general"})


def test_a_test_set_cannot_guard() -> None:
    with pytest.raises(BadConfig, match=r"guard=True: test sets are only reported"):
        BenchmarkConfig(split=Split.test, guard=True)


def label_free(child: list[Response], parent: list[Response], **more: Any) -> Verdict:
    return verdict_on(child, parent, gate=Gate.label_free, **more)


def varied(unread: int, items: int = 200, correct: bool = True, tokens: int = 20) -> list[Response]:
    """Answers that all differ, some of them silent."""
    return [
        Response(str(i), "dev", "q", "a", None if i < unread else str(i), "1", correct, "stop", tokens)
        for i in range(items)
    ]


def test_without_labels_a_child_is_accepted_whatever_the_labels_say() -> None:
    right, wrong = label_free(varied(2), varied(2, correct=False)), label_free(varied(2, correct=False), varied(2))
    assert right.action == wrong.action == "accept"
    assert "no label was looked at" in wrong.reason
    assert wrong.difference == -1


def test_without_labels_a_child_that_falls_silent_is_rolled_back() -> None:
    assert label_free(varied(7), varied(2)).action == "accept"
    verdict = label_free(varied(9), varied(2))
    assert verdict.action == "roll back"
    assert (
        "9 of 200 answers to 200 dev items cannot be read, 2 of the parent's (p = 0.016 <= 0.05): significantly more"
        in verdict.reason
    )
    assert label_free(varied(2), varied(9)).action == "accept"


def test_without_labels_a_collapse_alarm_rolls_back() -> None:
    verdict = label_free(varied(2, tokens=4), varied(2))
    assert verdict.action == "roll back"
    assert [alarm.name for alarm in verdict.alarms] == ["shorter answers"]
    assert "answers to the dev items are 4 tokens long, 20 under the parent (limit 10)" in verdict.reason


def test_without_labels_no_alarm_may_look_at_accuracy() -> None:
    rounds = [{"questions": 100.0, "agreement": 0.4}, {"questions": 100.0, "agreement": 0.9}]
    child, parent = varied(2, correct=False), varied(2)
    assert label_free(child, parent, rounds=rounds).alarms == ()
    labelled = verdict_on(child, parent, rounds=rounds)
    assert [alarm.name for alarm in labelled.alarms] == ["agreement without accuracy"]


def test_an_alarm_warns_or_ends_the_run() -> None:
    rounds = [{"questions": 500.0, "near_duplicate_rate": 0.9}]
    child, parent = pair(40, 4, 300)
    warned = verdict_on(child, parent, rounds=rounds)
    assert warned.action == "accept"
    assert "collapse alarm: 90% of the questions it invents resemble earlier ones" in warned.reason
    stopped = verdict_on(child, parent, rounds=rounds, collapse=CollapseConfig(on_collapse=OnCollapse.stop))
    assert stopped.action == "stop"
    assert stopped.reason.endswith("stopped, because verdict.collapse.on_collapse=stop")
    assert with_patience(stopped, rejected_before=5, patience=0) == stopped


@pytest.mark.parametrize(
    ("spoken", "action"),
    [
        (["for"], "accept"),
        (["neither", "for", "against"], "accept"),
        (["for", "veto"], "roll back"),
        (["neither", "against"], "roll back"),
        (["neither"], "retry"),
        (["for", "stop"], "stop"),
        (["veto", "stop"], "stop"),
    ],
)
def test_the_findings_decide(spoken: list[Any], action: str) -> None:
    assert decide([Finding("a sentence", speaks) for speaks in spoken]) == action


def test_a_child_without_a_readable_answer_is_rolled_back_and_the_reason_says_so() -> None:
    child = answered([False] * 40, final=None)
    parent = answered([True] * 10 + [False] * 30)
    verdict = verdict_on(child, parent)
    assert verdict.action == "roll back"
    assert "no final answer could be read from any of the child's 40 responses" in verdict.reason
    assert verdict_on(child, parent, gate=Gate.label_free).action == "roll back"
    accepted = verdict_on(child, parent, gate=Gate.off)
    assert accepted.action == "accept"
    assert "no final answer could be read" in accepted.reason


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
    code = "import sys, crescent.judging.verdict; sys.exit('scipy' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
