"""Control arms train on the questions of the majority arm, and differ from it in what they say they differ in."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from fakes import question
from hypothesis import given
from hypothesis import strategies as st

from crescent.config import (
    AnswerStyle,
    BaitConfig,
    BenchmarkConfig,
    Config,
    ConsensusConfig,
    EvalConfig,
    GrpoConfig,
    Labels,
    PairsConfig,
    Reward,
    Source,
    Split,
    TaskConfig,
    TrainConfig,
    Trainer,
)
from crescent.errors import BadConfig, DataSaysNo
from crescent.records import Answer, Pair, Vote
from crescent.run_folder.stage_settings import completed, stage_settings
from crescent.selection.arms import SMALLEST_GROUP, shuffle
from crescent.selection.pairs import Selection, select
from crescent.synthesis.consensus import vote
from crescent.tasks.equivalence import as_number

FOLLOWING = [labels for labels in Labels if labels is not Labels.first_any]
ARMS = [Labels.majority, Labels.first, Labels.shuffled, Labels.fixed]
"""Arms that have an answer to every question of the majority arm."""


def voted(index: int, *finals: str | None, bait: str = "sums") -> Vote:
    """A vote on `What is {index} + 1?`, with an answer text of pair own for each sample."""
    asked = replace(question(f"What is {index} + 1?", index), bait=bait)
    spoken = list(dict.fromkeys(final for final in finals if final is not None))
    answers = [
        Answer(asked.id, sample, sample, f"q{index} s{sample}: {final}", final, "stop", 1)
        for sample, final in enumerate(finals)
    ]
    return vote(asked, answers, [-1 if final is None else spoken.index(final) for final in finals])


def chosen(votes: Sequence[Vote], **settings: Any) -> Selection:
    """The selection from votes with four samples."""
    cfg = PairsConfig(**{"minimum": 1, "max_unanimous": 1.0, **settings})
    return select(votes, {}, TaskConfig(), ConsensusConfig(samples=4, min_agreement=0.5), cfg)


def questions_of(selection: Selection) -> list[str]:
    return [pair.question for pair in selection.new]


MANY = [voted(n, str(n + 1), str(n + 1), *("7", None) if n % 3 else (str(n + 1), "9")) for n in range(40)]
"""Votes that all make the cut, with right winners; a third of them unanimous by their first answers."""


@given(
    st.lists(st.lists(st.sampled_from(["1", "2", "3", None]), min_size=4, max_size=4), min_size=2, max_size=30),
    st.sampled_from([0.0, 0.4, 1.0]),
    st.sampled_from([1, 2]),
)
def test_arms_train_on_the_same_questions_as_often(samples: list[list[str | None]], cap: float, responses: int) -> None:
    votes = [voted(index, *finals) for index, finals in enumerate(samples)]
    found = {}
    for labels in FOLLOWING:
        try:
            found[labels] = chosen(votes, labels=labels, max_unanimous=cap, responses=responses)
        except DataSaysNo:
            continue
    if Labels.majority not in found or found[Labels.majority].metrics["questions"] < 2:
        return
    majority = Counter(questions_of(found[Labels.majority]))
    for labels in ARMS:
        assert Counter(questions_of(found[labels])) == majority
    for labels in found:
        assert Counter(questions_of(found[labels])) <= majority


def test_the_unvoted_arm_trains_on_the_first_answer_to_each_question_of_the_majority_arm() -> None:
    votes = [voted(0, *"5777"), voted(1, *"1234"), voted(2, None, "9", "9", "9"), voted(3, None, "9", None, None)]
    found = chosen(votes, labels=Labels.first)
    assert [pair.final for pair in found.new] == ["5", "9"]
    assert [pair.completion for pair in found.new] == ["q0 s0: 5", "q2 s1: 9"]


def test_first_any_trains_on_the_first_answer_of_every_question_without_cut_and_cap() -> None:
    votes = [voted(0, *"5777"), voted(1, *"1234"), voted(2, None, "9", None, None), voted(3, None), voted(4, *"6666")]
    found = chosen(votes, labels=Labels.first_any, max_unanimous=0.0)
    assert [pair.final for pair in found.new] == ["5", "1", "9", "6"]
    assert found.metrics["unanimous_dropped"] == 0


def test_the_minority_arm_trains_on_answers_that_the_majority_contradicts() -> None:
    votes = [voted(0, *"5777"), voted(1, *"1234"), voted(2, "9", None, "9", "8"), voted(3, *"6666")]
    found = chosen(votes, labels=Labels.minority)
    assert [pair.final for pair in found.new] == ["5", "8"]
    assert found.metrics["unopposed"] == 1


def test_the_minority_arm_has_the_cap_of_the_majority() -> None:
    late_dissent, early_dissent = voted(0, *"1112"), voted(1, *"2111")
    assert questions_of(chosen([late_dissent, early_dissent], labels=Labels.minority, max_unanimous=0.0)) == ["q1-1"]


def test_gold_answers_are_right_and_all_else_is_dropped_and_counted() -> None:
    word_problem = replace(voted(9, *"3333"), question=replace(question("How many legs have 2 cats?", 9), id="q1-9"))
    votes = [voted(0, "1", "7", "7", "7"), voted(1, "3", "3", "3", "4"), voted(2, *"3339"), word_problem]
    found = chosen(votes, labels=Labels.gold)
    assert [(pair.question, pair.final, pair.completion) for pair in found.new] == [
        ("q1-0", "1", "q0 s0: 1"),
        ("q1-2", "3", "q2 s1: 3"),
    ]
    counts = {
        name: found.metrics[name]
        for name in ("questions", "not_computable", "never_right", "unopposed")
        if name in found.metrics
    }
    assert counts == {"questions": 2, "not_computable": 1, "never_right": 1}


@given(st.lists(st.lists(st.sampled_from(["1", "2", "3", None]), min_size=4, max_size=4), min_size=1, max_size=20))
def test_every_question_is_trained_on_or_counted_in_every_arm(samples: list[list[str | None]]) -> None:
    votes = [voted(index, *finals) for index, finals in enumerate(samples)]
    dropped = ("silent", "ties", "below_cut", "unanimous_dropped", "not_computable", "never_right", "unopposed")
    for labels in FOLLOWING:
        try:
            metrics = chosen(votes, labels=labels, max_unanimous=0.4).metrics
        except DataSaysNo:
            continue
        # A single question has no other to take a response from.
        if labels is not Labels.shuffled or metrics["questions"] > 1:
            assert metrics["questions"] + sum(metrics.get(name, 0) for name in dropped) == len(votes)


def test_too_few_gold_answers_say_what_was_dropped_and_which_questions_would_help() -> None:
    votes = [replace(voted(n, *"3333"), question=replace(question(f"How many are {n} cats?", n))) for n in range(9)]
    with pytest.raises(DataSaysNo) as refused:
        chosen(votes, labels=Labels.gold, minimum=4)
    for part in (
        "9 of 9 questions",
        "0 pairs are left with pairs.labels=gold",
        "9 ask for more than one plain comp",
        "bait=arithmetic",
    ):
        assert part in str(refused.value)


def test_shuffled_responses_are_the_same_responses_in_other_places() -> None:
    majority, shuffled = chosen(MANY), chosen(MANY, labels=Labels.shuffled)
    assert Counter(pair.completion for pair in shuffled.new) == Counter(pair.completion for pair in majority.new)
    assert [pair.prompt for pair in shuffled.new] == [pair.prompt for pair in majority.new]
    for before, after in zip(majority.new, shuffled.new, strict=True):
        assert after.completion != before.completion
        assert after.final != before.final
        assert after.final in after.completion
        assert (after.rejected, after.margin) == (None, None)
    assert shuffled.metrics["mismatched"] == shuffled.metrics["pairs"] == 40
    assert not {pair.id for pair in shuffled.new} & {pair.id for pair in majority.new}


def test_shuffling_does_not_depend_on_the_order_of_the_votes() -> None:
    others = MANY.copy()
    random.Random(0).shuffle(others)
    first, second = (chosen(votes, labels=Labels.shuffled) for votes in (MANY, others))
    assert {pair.id: pair for pair in first.new} == {pair.id: pair for pair in second.new}


def made(number: int, final: str, response: int = 0) -> Pair:
    return Pair(f"p{number}-{response}", f"q{number}", 1, "What?", f"{number}, {response}: {final}", final, 1.0)


@given(st.lists(st.tuples(st.sampled_from("1234"), st.integers(1, 3)), min_size=2, max_size=40))
def test_final_answers_differ_wherever_that_is_possible(given_pairs: list[tuple[str, int]]) -> None:
    pairs = [made(number, final, n) for number, (final, count) in enumerate(given_pairs) for n in range(count)]
    found = shuffle(pairs, {pair.question: "sums" for pair in pairs})
    finals = Counter(pair.final for pair in pairs)
    inevitable = max(0, 2 * max(finals.values()) - len(pairs))
    same = sum(found[pair.id].final == pair.final for pair in pairs if pair.id in found)
    assert same + len(pairs) - len(found) == inevitable
    own_texts = {(pair.question, pair.completion) for pair in pairs}
    assert not {(pair.question, pair.completion) for pair in found.values()} & own_texts, "no question keeps a response"


def test_one_number_spelled_in_two_ways_is_one_final_answer() -> None:
    pairs = [made(0, "5"), made(1, "5.0"), made(2, "$6"), made(3, "6")]
    found = shuffle(pairs, {pair.question: "sums" for pair in pairs})
    assert all(as_number(found[pair.id].final) != as_number(pair.final) for pair in pairs)


def test_responses_are_exchanged_among_questions_of_one_bait_and_small_groups_fall_together() -> None:
    size = SMALLEST_GROUP
    baits = {
        f"q{n}": "large" if n < 2 * size else "larger" if n < 5 * size else f"small-{n % 3}" for n in range(6 * size)
    }
    pairs = [made(n, str(n)) for n in range(6 * size)]
    found = shuffle(pairs, baits)
    assert len(found) == len(pairs)
    moves = {(baits[pair.question], baits[f"q{found[pair.id].completion.split(',')[0]}"]) for pair in pairs}
    assert {origin for target, origin in moves if target == "large"} == {"large"}
    assert {origin for target, origin in moves if target == "larger"} == {"larger"}
    small = {origin for target, origin in moves if target.startswith("small")}
    assert small <= {"small-0", "small-1", "small-2"}
    assert any(target != origin for target, origin in moves)


def test_a_bait_whose_answers_are_all_the_same_takes_those_of_other_baits() -> None:
    pairs = [made(n, "0") for n in range(10)] + [made(10 + n, str(n + 1)) for n in range(10)]
    found = shuffle(pairs, {f"q{n}": "zeros" if n < 10 else "sums" for n in range(20)})
    assert all(found[pair.id].final != pair.final for pair in pairs)


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.25, 10), (0.5, 20), (1.0, 40)])
def test_noise_makes_its_share_of_the_pairs_wrong(share: float, count: int) -> None:
    majority, noisy = chosen(MANY), chosen(MANY, noise=share)
    changed = [(a, b) for a, b in zip(majority.new, noisy.new, strict=True) if a != b]
    assert len(changed) == count
    assert noisy.metrics.get("noisy", 0) == count
    assert len({pair.id for pair in noisy.new}) == 40
    for before, after in changed:
        own = {
            answer.text: answer.final
            for decided in MANY
            if decided.question.id == before.question
            for answer in decided.answers
        }
        assert after.final != before.final
        assert after.completion == before.rejected if before.rejected else after.completion not in own
        assert (after.prompt, after.rejected, after.margin) == (before.prompt, None, None)


def test_more_noise_keeps_the_pairs_that_less_noise_made_wrong() -> None:
    wrong = [
        {
            pair.question
            for pair, right in zip(chosen(MANY, noise=share).new, chosen(MANY).new, strict=True)
            if pair != right
        }
        for share in (0.1, 0.2, 0.6)
    ]
    assert wrong[0] < wrong[1] < wrong[2]


def test_two_noisy_responses_to_one_question_are_two_pairs() -> None:
    decided = [voted(n, str(n), str(n), str(n), "99") for n in range(6)]
    found = chosen(decided, noise=1.0, responses=2)
    assert len(found.new) == len({pair.id for pair in found.new}) == 12


def whole(**parts: Any) -> Config:
    """A config that can run, but for what is given."""
    benchmark = BenchmarkConfig(source=Source.gsm8k, split=Split.dev)
    asked = BaitConfig(prompts={"sums": "Write a sum."})
    return Config(**{"bait": asked, "eval": EvalConfig(benchmarks={"gsm8k": benchmark}), **parts})


def settings(**pairs: Any) -> dict[str, Any]:
    found: dict[str, Any] = stage_settings(whole(pairs=PairsConfig(**pairs)), "pairs")
    return found


def test_pairs_that_an_earlier_run_made_with_first_do_not_count_as_those_of_today() -> None:
    recorded = settings(labels=Labels.first)
    del recorded["pairs"]["questions"], recorded["pairs"]["noise"]
    now = settings(labels=Labels.first)
    assert completed(recorded, now) != now
    now = settings(labels=Labels.first_any)
    assert completed(recorded, now) == now, "that is what it was"


def test_runs_from_before_there_was_noise_had_none() -> None:
    recorded = settings()
    del recorded["pairs"]["noise"]
    assert completed(recorded, settings()) == settings()
    assert completed(recorded, settings(noise=0.1)) != settings(noise=0.1)


def test_arms_of_one_round_differ_in_their_settings_and_a_fixed_arm_in_its_votes_only() -> None:
    assert settings(labels=Labels.fixed) == settings()
    different = [settings(labels=labels) for labels in Labels if labels is not Labels.fixed]
    assert all(arm not in different[:place] for place, arm in enumerate(different))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (
            {
                "task": TaskConfig(answer_style=AnswerStyle.choice),
                "eval": EvalConfig(benchmarks={"arc": BenchmarkConfig(source=Source.arc_challenge, split=Split.dev)}),
                "pairs": {"labels": Labels.gold},
            },
            "no answer of task.answer_style=choice can be computed",
        ),
        ({"pairs": {"labels": Labels.shuffled}, "train": TrainConfig(trainer=Trainer.dpo)}, "train.trainer=sft"),
        ({"pairs": {"labels": Labels.gold}, "train": TrainConfig(trainer=Trainer.dpo)}, "train.trainer=sft"),
        ({"pairs": {"noise": 0.2}, "train": TrainConfig(trainer=Trainer.dpo)}, "pairs.noise=0"),
        ({"pairs": {"noise": 0.2, "labels": Labels.first}}, "pairs.labels=first does not train on those"),
        ({"pairs": {"noise": 1.2}}, "must lie in [0, 1]"),
        (
            {
                "pairs": {"labels": Labels.shuffled},
                "train": TrainConfig(trainer=Trainer.grpo, grpo=GrpoConfig(reward=Reward.group)),
            },
            "train.grpo.reward=voted",
        ),
    ],
)
def test_arms_without_a_meaning_are_refused_with_the_fix(parts: dict[str, Any], said: str) -> None:
    with pytest.raises(BadConfig) as refused:
        whole(**{**parts, "pairs": PairsConfig(**parts["pairs"])})
    assert said in str(refused.value)


@pytest.mark.parametrize("labels", Labels)
def test_arms_that_mean_something_are_not_refused(labels: Labels) -> None:
    whole(pairs=PairsConfig(labels=labels))
    whole(pairs=PairsConfig(labels=labels), train=TrainConfig(trainer=Trainer.grpo))
