"""Which votes become training pairs, and which response is trained on."""

from collections.abc import Sequence

import pytest
from fakes import question
from hypothesis import given
from hypothesis import strategies as st

from crescent.config import ConsensusConfig, PairsConfig, TaskConfig, TrainPrompt
from crescent.consensus import vote
from crescent.errors import DataSaysNo
from crescent.pairs import median_length, pair_of, select, winning_answers
from crescent.records import Answer, Vote

TASK = TaskConfig(answer_prompt="{question}\nThink, then write ####.")
NO_MINIMUM = PairsConfig(minimum=1)


def voted(index: int, *finals: str | None, lengths: Sequence[int] = ()) -> Vote:
    """A vote on question `index`; the answers' texts are as long as `lengths` says, else all alike."""
    asked = question(f"What is {{{index}}}?", index)
    spoken = list(dict.fromkeys(final for final in finals if final is not None))
    answers = [
        Answer(asked.id, sample, sample, "x" * length, final, "stop", 1)
        for sample, (final, length) in enumerate(zip(finals, lengths or [9] * len(finals), strict=True))
    ]
    return vote(asked, answers, [-1 if final is None else spoken.index(final) for final in finals])


def test_the_winning_response_of_median_length_is_trained_on() -> None:
    its = voted(0, "5", "7", "5", "5", "5", "5", lengths=[90, 1, 10, 50, 30, 70])
    assert len(pair_of(its, TASK, NO_MINIMUM).completion) == 50


def test_of_two_middle_ones_the_shorter_is_trained_on() -> None:
    assert len(pair_of(voted(0, "5", "5", "5", "5", lengths=[40, 10, 30, 20]), TASK, NO_MINIMUM).completion) == 20


def test_of_equally_long_ones_the_earliest_is_trained_on() -> None:
    its = voted(0, "6", "5", "5", "5")
    assert median_length(winning_answers(its)).sample == 2
    assert median_length(winning_answers(its)[:2]).sample == 1


@given(st.lists(st.tuples(st.sampled_from(["1", "2", "3", None]), st.integers(0, 50)), min_size=1, max_size=12))
def test_what_is_trained_on_carries_the_winner_and_stands_in_the_middle(samples: list[tuple[str | None, int]]) -> None:
    its = voted(0, *(final for final, _ in samples), lengths=[length for _, length in samples])
    if its.winner is None:
        return
    pair = pair_of(its, TASK, NO_MINIMUM)
    lengths = [length for final, length in samples if final == its.winner]
    assert pair.final == its.winner
    assert pair.completion in [answer.text for answer in its.answers if answer.final == its.winner]
    assert sum(length < len(pair.completion) for length in lengths) <= (len(lengths) - 1) // 2
    assert sum(length > len(pair.completion) for length in lengths) <= len(lengths) // 2


def test_the_winning_class_counts_even_where_a_loser_is_spelled_the_same() -> None:
    """A grader out of time may put one spelling into two classes."""
    asked = question("What is x?")
    answers = [Answer(asked.id, sample, 0, f"text {sample}", final, "stop", 1) for sample, final in enumerate("rsssss")]
    its = vote(asked, answers, [0, 0, 1, 1, 1, 1])
    assert [answer.sample for answer in winning_answers(its)] == [2, 3, 4, 5]


def test_ties_and_silent_votes_are_dropped() -> None:
    votes = [voted(0, "1", "1", "2", "2"), voted(1, None, None), voted(2, "3", "3")]
    assert [pair.final for pair in select(votes, TASK, ConsensusConfig(min_agreement=0), NO_MINIMUM)] == ["3"]


def test_the_cut_is_respected_and_includes_its_own_value() -> None:
    half, less = voted(0, "1", "1", "2", "3"), voted(1, "1", "1", "2", "3", None)
    kept = select([half, less], TASK, ConsensusConfig(min_agreement=0.5), NO_MINIMUM)
    assert [(pair.question, pair.agreement) for pair in kept] == [(half.question.id, 0.5)]
    assert len(select([half, less], TASK, ConsensusConfig(min_agreement=0.4), NO_MINIMUM)) == 2


def test_pairs_keep_the_order_of_the_votes_and_have_names_of_their_own() -> None:
    pairs = select([voted(index, "1", "1") for index in range(20)], TASK, ConsensusConfig(), PairsConfig())
    assert [pair.question for pair in pairs] == [f"q1-{index}" for index in range(20)]
    assert len({pair.id for pair in pairs}) == 20
    assert {pair.round for pair in pairs} == {1}


def test_the_prompt_is_the_one_that_was_answered_or_the_bare_question() -> None:
    its = voted(7, "1", "1")
    with_instruction = pair_of(its, TASK, PairsConfig(prompt=TrainPrompt.answer))
    bare = pair_of(its, TASK, PairsConfig(prompt=TrainPrompt.bare))
    assert with_instruction.prompt == "What is {7}?\nThink, then write ####."
    assert bare.prompt == "What is {7}?"
    assert with_instruction.id != bare.id


def refusal(votes: Sequence[Vote], **settings: int) -> str:
    with pytest.raises(DataSaysNo) as caught:
        select(votes, TASK, ConsensusConfig(min_agreement=0.5), PairsConfig(**settings))
    assert caught.value.exit_code == 65
    return str(caught.value)


def test_too_few_pairs_end_the_run_with_numbers_and_a_way_out() -> None:
    message = refusal([voted(0, "1", "1", None), voted(1, "1", "2", "3"), voted(2, "1", None, None)], minimum=2)
    for part in ("1 of 3 questions", "agreement >= 0.5", "pairs.minimum=2", "1 ties", "3 of 9 answers silent"):
        assert part in message
    assert "bait.questions" in message
    assert "consensus.min_agreement" in message


def test_mostly_silent_answers_point_to_the_answer_prompt() -> None:
    message = refusal([voted(0, None, None, "1")])
    assert "consensus.max_tokens" in message
    assert "task.answer_prompt" in message


def test_no_questions_at_all_point_to_where_they_were_lost() -> None:
    message = refusal([])
    assert "0 of 0 questions" in message
    for part in ("unusable", "bait.max_tokens", "diversify.threshold", "metrics.jsonl"):
        assert part in message
