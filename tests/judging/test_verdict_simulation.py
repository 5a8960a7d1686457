"""What a sceptic asks of a verdict: how often is it wrong when nothing changed, and how often is it right?

Thousands of rounds whose truth is known. Rounds with the same counts get the same verdict, so each is judged once.
"""

import math
from functools import cache

import numpy as np
import pytest

from crescent.config import CollapseConfig, Gate, VerdictConfig
from crescent.judging.collapse import alarms, monitors, response_monitors
from crescent.judging.comparison import detectable_after, holm, minimum_detectable_gain, paired_test, sign_flip
from crescent.judging.guards import guard_losses
from crescent.judging.measurements import Answers
from crescent.judging.verdict import judge
from crescent.records import Answer, Candidate, Checkpoint, Comparison, Question, Response, Vote
from crescent.synthesis.consensus import vote

BASE = Checkpoint(name="run-base", round=0, digest="b")
CHILD = Checkpoint(name="run-r01-c", round=1, digest="c")


def bound(rate: float, rounds: int) -> float:
    """The highest rate that three standard errors of bad luck explain."""
    return rate + 3 * math.sqrt(rate * (1 - rate) / rounds)


@cache
def response(item: int, correct: bool, benchmark: str = "dev", read: bool = True) -> Response:
    # No final answer is frequent: that would be a collapse.
    return Response(str(item), benchmark, "q", "a", f"{item % 17}" if read else None, "1", correct, "stop", 1)


@cache
def pair(gained: int, lost: int, items: int, benchmark: str = "dev") -> tuple[list[Response], list[Response]]:
    """Child and parent that differ on `gained + lost` items and solve none of the others."""
    child = [response(item, item < gained, benchmark) for item in range(items)]
    parent = [response(item, gained <= item < gained + lost, benchmark) for item in range(items)]
    return child, parent


@cache
def compared(gained: int, lost: int, items: int) -> Comparison:
    return paired_test(*pair(gained, lost, items), resamples=999, seed=gained + 1000 * lost)


@cache
def accepted(gained: int, lost: int, items: int, gate: Gate = Gate.significant) -> bool:
    cfg = VerdictConfig(gate=gate, resamples=99)
    return judge(CHILD, BASE, Answers(*pair(gained, lost, items)), cfg, {"dev"}, (), (), seed=0).action == "accept"


def draws(items: int, discordance: float, gain: float, rounds: int, seed: int = 0) -> list[tuple[int, int]]:
    """Items gained and lost in each of many rounds with the same true gain."""
    shares = [(discordance + gain) / 2, (discordance - gain) / 2, 1 - discordance]
    counts = np.random.default_rng(seed).multinomial(items, shares, size=rounds)
    return [(int(gained), int(lost)) for gained, lost, _ in counts]


@pytest.mark.parametrize(("items", "discordance"), [(40, 0.5), (150, 0.1), (200, 0.3), (400, 0.1)])
def test_a_child_that_is_no_better_is_accepted_at_most_as_often_as_alpha_says(items: int, discordance: float) -> None:
    rounds = 3000
    found = sum(accepted(*counts, items) for counts in draws(items, discordance, 0, rounds))
    # Two-sided at 5%, and only gains are accepted: at most 2.5%.
    assert found / rounds <= bound(0.025, rounds)


def test_asking_for_no_evidence_accepts_a_child_that_is_no_better_almost_every_second_time() -> None:
    found = sum(accepted(*counts, 200, Gate.better) for counts in draws(200, 0.1, 0, 1000))
    assert 0.38 <= found / 1000 <= 0.5


@pytest.mark.parametrize(("items", "discordance"), [(300, 0.2), (1319, 0.2), (1319, 0.1), (5000, 0.3)])
def test_the_minimum_detectable_gain_is_found_four_times_in_five(items: int, discordance: float) -> None:
    gain = minimum_detectable_gain(items, alpha=0.05, power=0.8, discordance=discordance)
    rounds = draws(items, discordance, gain, 4000)
    found = sum(won > lost and sign_flip(np.repeat([1, -1], [won, lost])) <= 0.05 for won, lost in rounds)
    assert 0.74 <= found / len(rounds) <= 0.86


def test_the_verdict_finds_the_minimum_detectable_gain_four_times_in_five() -> None:
    gain = minimum_detectable_gain(300, alpha=0.05, discordance=0.2)
    found = sum(accepted(*counts, 300) for counts in draws(300, 0.2, gain, 1000))
    assert 0.74 <= found / 1000 <= 0.86


def test_the_detectable_gain_estimated_after_a_run_is_the_true_one() -> None:
    # The counts of one run give about the gain that was detectable before the run, whatever came of it.
    estimates = [detectable_after(compared(*counts, 600), 0.05) for counts in draws(600, 0.2, 0, 300)]
    assert np.mean(estimates) == pytest.approx(minimum_detectable_gain(600, 0.05, discordance=0.2), rel=0.03)
    assert np.std(estimates) < 0.005


def test_the_interval_covers_the_truth_in_95_of_100_rounds() -> None:
    found = [compared(*counts, 300) for counts in draws(300, 0.25, 0.05, 2000)]
    covered = sum(comparison.low <= 0.05 <= comparison.high for comparison in found)
    assert 0.93 <= covered / len(found) <= 0.97


def test_among_several_benchmarks_nothing_is_found_where_nothing_is() -> None:
    rounds = np.array([draws(200, 0.3, 0, 3000, seed) for seed in range(5)])
    p_values = [[compared(*counts, 200).p_value for counts in round_] for round_ in rounds.swapaxes(0, 1)]
    assert sum(min(holm(of_round)) <= 0.05 for of_round in p_values) / 3000 <= bound(0.05, 3000)
    assert sum(min(of_round) <= 0.05 for of_round in p_values) / 3000 > 0.1


def sampled(solves: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]", rng: np.random.Generator) -> list[Response]:
    """Eight answers to each item, right with the item's probability."""
    right = rng.random((len(solves), 8)) < solves[:, None]
    return [response(item, bool(flag)) for item, flags in enumerate(right) for flag in flags]


def as_items(responses: list[Response]) -> list[Response]:
    """The same responses, as if each sample were an item."""
    return [response(index, sample.correct) for index, sample in enumerate(responses)]


def test_samples_of_one_item_are_no_independent_evidence() -> None:
    rng = np.random.default_rng(0)
    clustered = naive = covered = 0
    for seed in range(400):
        # Any training changes which items a checkpoint can solve; here it does not change how many.
        child, parent = (sampled(rng.beta(0.3, 0.3, size=50), rng) for _ in range(2))
        result = paired_test(child, parent, resamples=499, seed=seed)
        clustered += result.p_value <= 0.05
        covered += result.low <= 0 <= result.high
        naive += paired_test(as_items(child), as_items(parent), resamples=99, seed=seed).p_value <= 0.05
    assert clustered / 400 <= bound(0.05, 400)
    assert covered / 400 >= 0.91
    assert naive / 400 > 0.3


@pytest.mark.parametrize(
    ("names", "items", "discordance"),
    [("a", 100, 0.2), ("a", 1000, 0.2), ("a", 60, 0.05), ("abcd", 100, 0.3), ("abcd", 400, 0.1)],
)
def test_guards_reject_few_children_that_forgot_nothing(names: str, items: int, discordance: float) -> None:
    rounds = 1000
    drawn = [draws(items, discordance, 0, rounds, seed) for seed in range(len(names))]
    broken = 0
    for round_ in zip(*drawn, strict=True):
        sides = [pair(*counts, items, name) for name, counts in zip(names, round_, strict=True)]
        child, parent = ([answer for answers in sides for answer in answers[side]] for side in (0, 1))
        broken += guard_losses(child, parent, names, VerdictConfig()).are_broken
    # One side at 5% for the mean and for the worst of them.
    assert broken / rounds <= bound(0.10, rounds)


def test_guards_reject_children_that_forgot_much() -> None:
    rounds = draws(1000, 0.15, -0.06, 500)
    broken = sum(guard_losses(*pair(*counts, 1000), ["dev"], VerdictConfig()).are_broken for counts in rounds)
    assert broken / len(rounds) >= 0.95


def test_without_labels_silence_that_did_not_rise_rolls_nothing_back() -> None:
    cfg = VerdictConfig(gate=Gate.label_free, resamples=99)
    rng = np.random.default_rng(0)
    rejected = 0
    for _ in range(800):
        child, parent = (
            [response(item, False, read=bool(flag)) for item, flag in enumerate(rng.random(200) > 0.08)]
            for _ in range(2)
        )
        rejected += judge(CHILD, BASE, Answers(child, parent), cfg, {"dev"}, (), (), seed=0).action != "accept"
    # 2.5% for the test of silence, and the alarm that needs twice as much of it.
    assert rejected / 800 <= bound(0.03, 800)


def healthy_round(rng: np.random.Generator, agreeing: float, questions: int) -> dict[str, float]:
    """A round of a model with the given agreement that is silent 4% of the time and repeats itself a little."""
    votes: list[Vote] = []
    for index in range(questions):
        asked = Question(f"q{index}", "What is 3 + 4?", 1, index, bait="paper", seed=0)
        leader = str(rng.geometric(0.05))
        finals = [
            None if silent else leader if agrees else f"{index}.{k}"
            for k, (agrees, silent) in enumerate(zip(rng.random(5) < agreeing, rng.random(5) < 0.04, strict=True))
        ]
        tokens = rng.lognormal(4.5, 0.4, size=5).astype(int)
        answers = [Answer(asked.id, k, 0, "…", final, "stop", int(tokens[k])) for k, final in enumerate(finals)]
        kinds = list(dict.fromkeys(final for final in finals if final is not None))
        votes.append(vote(asked, answers, [-1 if final is None else kinds.index(final) for final in finals]))
    vectors = rng.normal(size=(questions, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    near = rng.random(questions) < 0.35
    candidates = [
        Candidate(voted.question, "rewritten" if near[index] else "accepted") for index, voted in enumerate(votes)
    ]
    return monitors(votes, vectors, candidates, samples=8)


@pytest.mark.parametrize("questions", [30, 100])
def test_healthy_rounds_raise_hardly_any_alarm(questions: int) -> None:
    rng = np.random.default_rng(0)
    runs = 100
    raised = 0
    for gained, lost in draws(300, 0.2, 0.02, runs):
        # Agreement rises, as it does when training works, and so does accuracy, as far as 300 items can tell.
        rounds = [healthy_round(rng, agreeing, questions) for agreeing in (0.45, 0.55, 0.65)]
        raised += bool(alarms(rounds[2], rounds[:2], compared(gained, lost, 300), CollapseConfig()))
    assert raised / runs <= 0.04


def test_agreement_may_rise_without_alarm_when_accuracy_stays() -> None:
    rounds = [{"questions": 500.0, "agreement": 0.4}, {"questions": 500.0, "agreement": 0.9}]
    drawn = draws(300, 0.2, 0, 3000)
    raised = sum(bool(alarms(rounds[1], rounds[:1], compared(*counts, 300), CollapseConfig())) for counts in drawn)
    # One side at 5%: 1.645 standard errors.
    assert raised / len(drawn) <= bound(0.05, len(drawn)) + 0.005


def test_dev_answers_of_a_child_like_its_parent_raise_no_alarm() -> None:
    rng = np.random.default_rng(0)

    def answered() -> list[Response]:
        return [
            Response(str(item), "dev", "q", "a", None if silent else str(int(final)), "1", False, "stop", int(tokens))
            for item, (silent, final, tokens) in enumerate(
                zip(rng.random(150) < 0.05, rng.geometric(0.1, 150), rng.lognormal(4, 0.5, 150), strict=True)
            )
        ]

    raised = 0
    for _ in range(500):
        child, parent = response_monitors(answered()), response_monitors(answered())
        raised += bool(alarms(child, [parent], None, CollapseConfig()))
    assert raised / 500 <= 0.02
