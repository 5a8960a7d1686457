"""Which votes become training pairs, with which responses, and which earlier pairs they are mixed with."""

import math
import random
from collections.abc import Mapping, Sequence
from fractions import Fraction

import pytest
from fakes import question
from hypothesis import given
from hypothesis import strategies as st

from crescent.config import (
    ConsensusConfig,
    DataPolicy,
    Labels,
    PairsConfig,
    ReplayConfig,
    TaskConfig,
    TrainPrompt,
    Winner,
)
from crescent.errors import DataSaysNo
from crescent.records import Answer, Pair, Quarantined, Vote
from crescent.selection.pairs import Selection, mix, pairs_of, select
from crescent.selection.responses import choose_responses, winning_answers, word_trigrams
from crescent.synthesis.consensus import is_kept, is_unanimous, vote

TASK = TaskConfig(answer_prompt="{question}\nThink, then write ####.")
NO_MINIMUM = PairsConfig(minimum=1, max_unanimous=1)
ANY_CUT = ConsensusConfig(min_agreement=0.0)


def voted(index: int, *finals: str | None, lengths: Sequence[int] = ()) -> Vote:
    """A vote on question `index`; the texts of the answers have these `lengths`, or one length."""
    asked = question(f"What is {{{index}}}?", index)
    spoken = list(dict.fromkeys(final for final in finals if final is not None))
    answers = [
        Answer(asked.id, sample, sample, "x" * length, final, "stop", 1)
        for sample, (final, length) in enumerate(zip(finals, lengths or [9] * len(finals), strict=True))
    ]
    return vote(asked, answers, [-1 if final is None else spoken.index(final) for final in finals])


def trained(decided: Vote, cfg: PairsConfig = NO_MINIMUM) -> Pair:
    """The one pair of a vote."""
    (pair,) = pairs_of(decided, TASK, ANY_CUT, cfg)
    return pair


def chosen(votes: Sequence[Vote], contaminated: Mapping[str, Quarantined] = {}, **settings: float) -> Selection:
    """The selection from votes with four samples."""
    cfg = PairsConfig(**{"minimum": 1, "max_unanimous": 1, **settings})  # type: ignore[arg-type]
    return select(votes, contaminated, TASK, ConsensusConfig(samples=4, min_agreement=0.5), cfg)


def quarantined(decided: Vote, rule: str = "ngram") -> dict[str, Quarantined]:
    return {decided.question.id: Quarantined(decided.question, "gsm8k", "item", "What?", rule, "what")}  # type: ignore[arg-type]


def test_the_winning_response_of_median_length_is_trained_on() -> None:
    decided = voted(0, "5", "7", "5", "5", "5", "5", lengths=[90, 1, 10, 50, 30, 70])
    assert len(trained(decided).completion) == 50


def test_of_two_middle_answers_the_shorter_is_trained_on() -> None:
    assert len(trained(voted(0, "5", "5", "5", "5", lengths=[40, 10, 30, 20])).completion) == 20


def test_of_equally_long_answers_the_earlier_counts_as_shorter() -> None:
    decided = voted(0, "6", "5", "5", "5")
    assert [answer.sample for answer in choose_responses(winning_answers(decided), NO_MINIMUM)] == [2]
    assert [answer.sample for answer in choose_responses(winning_answers(decided)[:2], NO_MINIMUM)] == [1]


@given(st.lists(st.tuples(st.sampled_from(["1", "2", "3", None]), st.integers(0, 50)), min_size=1, max_size=12))
def test_the_trained_answer_carries_the_winner_and_has_the_median_length(samples: list[tuple[str | None, int]]) -> None:
    decided = voted(0, *(final for final, _ in samples), lengths=[length for _, length in samples])
    if decided.winner is None:
        return
    pair = trained(decided)
    lengths = [length for final, length in samples if final == decided.winner]
    assert pair.final == decided.winner
    assert pair.completion in [answer.text for answer in decided.answers if answer.final == decided.winner]
    assert sum(length < len(pair.completion) for length in lengths) <= (len(lengths) - 1) // 2
    assert sum(length > len(pair.completion) for length in lengths) <= len(lengths) // 2


def test_the_winning_class_counts_even_where_a_loser_is_spelled_the_same() -> None:
    """A grader that runs out of time may put one spelling into two classes."""
    asked = question("What is x?")
    answers = [Answer(asked.id, sample, 0, f"text {sample}", final, "stop", 1) for sample, final in enumerate("rsssss")]
    decided = vote(asked, answers, [0, 0, 1, 1, 1, 1])
    assert [answer.sample for answer in winning_answers(decided)] == [2, 3, 4, 5]


def test_a_pair_carries_the_outvoted_answer_of_median_length_and_its_margin() -> None:
    decided = voted(0, "5", "7", "5", "7", "5", "7", "5", lengths=[9, 40, 9, 20, 9, 30, 9])
    pair = trained(decided)
    assert len(pair.rejected or "") == 30
    assert pair.margin == 1 / 7


def test_the_most_frequent_losing_answer_is_rejected_and_the_earliest_of_equals() -> None:
    often = trained(voted(0, "5", "8", "7", "5", "7", "5", lengths=[9, 1, 2, 9, 3, 9]))
    assert (often.rejected, often.margin) == ("xx", 1 / 6)
    equals = trained(voted(0, "5", "8", "7", "5", lengths=[9, 1, 2, 9]))
    assert (equals.rejected, equals.margin) == ("x", 1 / 4)


def test_no_answer_is_outvoted_where_the_others_are_silent_or_all_agree() -> None:
    for finals in (["5", "5", None, None], ["5", "5", "5"]):
        pair = trained(voted(0, *finals))
        assert (pair.rejected, pair.margin) == (None, None)


def test_silence_is_never_rejected_but_counts_among_the_answers() -> None:
    pair = trained(voted(0, None, "5", None, "7", "5", None, "5", None, lengths=[1, 9, 1, 4, 9, 1, 9, 1]))
    assert (pair.rejected, pair.margin) == ("xxxx", 2 / 8)


def test_a_tie_has_no_rejected_answer_even_where_it_was_given_a_winner() -> None:
    asked = question("What is 1 + 1?")
    answers = [Answer(asked.id, sample, 0, f"It is {final}.", final, "stop", 1) for sample, final in enumerate("23")]
    pair = trained(vote(asked, answers, [0, 1], keep_ties=True))
    assert (pair.final, pair.rejected, pair.margin) == ("2", None, None)


def test_a_rejected_answer_changes_no_id_and_is_counted() -> None:
    votes = [voted(0, "1", "1", "2", "1"), voted(1, "1", "1", "1", "1"), voted(2, "1", "1", None, "1")]
    selection = chosen(votes)
    assert selection.metrics["with_rejected"] == 1
    assert [pair.rejected is not None for pair in selection.new] == [True, False, False]
    agreeing = voted(0, "1", "1", "1", "1")
    assert [trained(decided).id for decided in (votes[0], agreeing)] == [selection.new[0].id] * 2


@pytest.mark.parametrize("labels", [Labels.first, Labels.first_any, Labels.minority, Labels.shuffled])
def test_control_arms_have_no_rejected_answer(labels: Labels) -> None:
    selection = chosen([voted(index, "2", "1", "1", "1") for index in range(3)], labels=labels)  # type: ignore[arg-type]
    assert [pair.rejected for pair in selection.new] == [None] * 3
    assert selection.metrics["with_rejected"] == 0


@given(st.lists(st.tuples(st.sampled_from(["1", "2", "3", None]), st.integers(0, 50)), min_size=1, max_size=12))
def test_the_rejected_answer_contradicts_the_winner_by_its_margin(samples: list[tuple[str | None, int]]) -> None:
    decided = voted(0, *(final for final, _ in samples), lengths=[length for _, length in samples])
    finals = [final for final, _ in samples]
    counts = {final: finals.count(final) for final in finals if final not in (None, decided.winner)}
    if decided.winner is None:
        return
    pair = trained(decided)
    assert (pair.rejected is None) == (pair.margin is None) == (not counts)
    if counts:
        losers = [final for final, count in counts.items() if count == max(counts.values())]
        assert pair.rejected in [answer.text for answer in decided.answers if answer.final == losers[0]]
        assert pair.margin == (finals.count(decided.winner) - max(counts.values())) / len(finals)


def test_ties_and_silent_votes_are_dropped() -> None:
    votes = [voted(0, "1", "1", "2", "2"), voted(1, None, None), voted(2, "3", "3")]
    selection = chosen(votes)
    assert [pair.final for pair in selection.new] == ["3"]
    assert (selection.metrics["ties"], selection.metrics["silent"]) == (1, 1)


def test_a_tie_that_was_given_a_winner_is_trained_on() -> None:
    asked = question("What is 1 + 1?")
    answers = [Answer(asked.id, sample, 0, f"It is {final}.", final, "stop", 1) for sample, final in enumerate("3223")]
    tie = vote(asked, answers, [0, 1, 1, 0], keep_ties=True)
    consensus = ConsensusConfig(samples=4, keep_ties=True, adaptive=False)
    selection = select([tie], {}, TASK, consensus, NO_MINIMUM)
    assert [(pair.final, pair.completion) for pair in selection.new] == [("3", "It is 3.")]
    assert selection.metrics["ties"] == 0


def test_the_cut_is_respected_and_includes_its_own_value() -> None:
    half, less = voted(0, "1", "1", "2", "3"), voted(1, "1", "1", "2", "3", None)
    kept = select([half, less], {}, TASK, ConsensusConfig(min_agreement=0.5), NO_MINIMUM)
    assert [(pair.question, pair.agreement) for pair in kept.new] == [(half.question.id, 0.5)]
    assert kept.metrics["below_cut"] == 1
    assert len(select([half, less], {}, TASK, ConsensusConfig(min_agreement=0.4), NO_MINIMUM).new) == 2


def test_a_contaminated_question_is_quarantined_and_counted_by_rule() -> None:
    votes = [voted(index, "1", "1", "1", "2") for index in range(4)]
    found = {**quarantined(votes[2], "masked"), **quarantined(votes[0])}
    selection = chosen(votes, found)
    assert [pair.question for pair in selection.new] == ["q1-1", "q1-3"]
    assert [hit.question.id for hit in selection.quarantined] == ["q1-0", "q1-2"]
    counts = {name: count for name, count in selection.metrics.items() if name.startswith("quarantined")}
    assert counts == {
        "quarantined": 2,
        "quarantined_ngram": 1,
        "quarantined_computation": 0,
        "quarantined_masked": 1,
        "quarantined_similarity": 0,
    }


def test_a_question_below_the_cut_is_not_counted_as_contaminated() -> None:
    weak, good = voted(0, "1", "2", "3", "4", "4"), voted(1, "1", "1", "1", "2")
    selection = chosen([weak, good], quarantined(weak))
    assert selection.quarantined == []
    assert (selection.metrics["below_cut"], selection.metrics["quarantined"]) == (1, 0)


def test_quarantined_questions_make_no_room_for_unanimous_ones() -> None:
    easy = [voted(index, "1", "1", "1") for index in range(4)]
    hard = [voted(index, "1", "2", "1", "1") for index in range(4, 8)]
    selection = chosen([*easy, *hard], {**quarantined(hard[0]), **quarantined(hard[1])}, max_unanimous=0.5)
    assert (selection.metrics["unanimous_kept"], selection.metrics["unanimous_dropped"]) == (2, 2)


@pytest.mark.parametrize(("share", "stay"), [(1.0, 50), (0.7, 7), (0.4, 2), (0.25, 1), (0.0, 0)])
def test_unanimous_questions_are_capped_exactly(share: float, stay: int) -> None:
    """0.7 of ten is seven, though 0.7 as a float is less."""
    votes = [voted(index, "1", "1", "1") for index in range(50)] + [voted(50 + n, "1", "2", "1", "1") for n in range(3)]
    assert chosen(votes, max_unanimous=share).metrics["unanimous_kept"] == stay


def test_a_question_is_unanimous_by_its_first_answers_alone() -> None:
    late_dissent, early_dissent = voted(0, "1", "1", "1", "2"), voted(1, "2", "1", "1", "1")
    selection = chosen([late_dissent, early_dissent], max_unanimous=0)
    assert [pair.question for pair in selection.new] == ["q1-1"]


def test_which_unanimous_questions_stay_does_not_depend_on_their_order() -> None:
    votes = [voted(index, "1", *("12" if index % 4 == 0 else "11"), "1") for index in range(80)]
    stay = [pair.question for pair in chosen(votes, max_unanimous=0.5).new]
    shuffled = votes.copy()
    random.Random(0).shuffle(shuffled)
    assert {pair.question for pair in chosen(shuffled, max_unanimous=0.5).new} == set(stay)
    easy = [index for index in range(80) if index % 4 and f"q1-{index}" in stay]
    assert len(easy) == 20
    assert 20 < sum(easy) / len(easy) < 60


@given(
    st.lists(st.lists(st.sampled_from(["1", "2", None]), min_size=4, max_size=4), min_size=1, max_size=30),
    st.sampled_from([0.0, 0.1, 0.3, 0.4, 0.5, 0.7, 0.9, 1.0]),
    st.sets(st.integers(0, 29)),
)
def test_every_question_is_trained_on_or_counted_and_the_cap_is_tight(
    samples: list[list[str | None]], share: float, contaminated: set[int]
) -> None:
    votes = [voted(index, *finals) for index, finals in enumerate(samples)]
    found = {
        key: hit
        for decided in votes
        if decided.question.index in contaminated
        for key, hit in quarantined(decided).items()
    }
    consensus = ConsensusConfig(samples=4)
    clean = [decided for decided in votes if is_kept(decided, consensus) and decided.question.id not in found]
    try:
        metrics = chosen(votes, found, max_unanimous=share).metrics
    except DataSaysNo:
        assert all(is_unanimous(decided, 4) for decided in clean)
        assert share < 1 or not clean
        return
    dropped = ("silent", "ties", "below_cut", "quarantined", "unanimous_dropped")
    assert metrics["questions"] + sum(metrics[name] for name in dropped) == len(votes)
    easy, all_of_them, exact = metrics["unanimous_kept"], metrics["questions"], Fraction(str(share))
    assert easy <= exact * int(all_of_them)
    assert metrics["unanimous_dropped"] == 0 or easy + 1 > exact * (int(all_of_them) + 1)


def texts(*given_texts: str) -> list[Answer]:
    return [Answer("q", sample, 0, text, "1", "stop", 1) for sample, text in enumerate(given_texts)]


def test_several_responses_are_those_nearest_to_the_median_length() -> None:
    answers = texts(*("x" * length for length in (10, 20, 30, 40, 90)))
    cfg = PairsConfig(responses=3)
    assert [len(answer.text) for answer in choose_responses(answers, cfg)] == [30, 20, 40]
    assert len(choose_responses(answers, PairsConfig(responses=9))) == 5


def test_equal_responses_are_trained_on_once() -> None:
    answers = texts("It is 1.", " It is 1.\n", "So it is 1.", "It is 1.")
    for winner in Winner:
        found = choose_responses(answers, PairsConfig(responses=4, winner=winner))
        assert [answer.text.strip() for answer in found] == ["It is 1.", "So it is 1."]


def test_diverse_responses_differ_most_from_those_chosen_before() -> None:
    answers = texts(
        "Add three and four and get seven",
        "Add three and four and get 7 then",
        "Counting on from four: five, six, seven, done.",
        "Add three and four and get seven indeed, yes",
        "Three fingers here, four fingers there: seven fingers, all told.",
    )
    cfg = PairsConfig(responses=3, winner=Winner.diverse)
    assert [answer.sample for answer in choose_responses(answers, cfg)] == [3, 2, 4]
    assert [answer.sample for answer in choose_responses(answers, PairsConfig(responses=3))] == [3, 1, 2]


def test_short_responses_are_compared_whole() -> None:
    assert word_trigrams("It is") == {("it", "is")}
    assert word_trigrams("a b c d") == {("a", "b", "c"), ("b", "c", "d")}
    answers = texts("7", "It is 7", "seven")
    assert len(choose_responses(answers, PairsConfig(responses=3, winner=Winner.diverse))) == 3


def test_each_response_makes_its_own_pair() -> None:
    decided = voted(0, "5", "5", "5", "6", lengths=[1, 2, 3, 4])
    selection = chosen([decided], responses=2)
    assert [pair.completion for pair in selection.new] == ["xx", "x"]
    assert len({pair.id for pair in selection.new}) == 2
    assert {pair.question for pair in selection.new} == {decided.question.id}
    assert (selection.metrics["pairs"], selection.metrics["questions"]) == (2, 1)
    assert selection.metrics["characters"] == 1.5


def test_pairs_keep_the_order_of_the_votes_and_have_unique_ids() -> None:
    pairs = chosen([voted(index, "1", "1") for index in range(20)]).new
    assert [pair.question for pair in pairs] == [f"q1-{index}" for index in range(20)]
    assert len({pair.id for pair in pairs}) == 20
    assert {pair.round for pair in pairs} == {1}
    assert {pair.source for pair in pairs} == {"vote"}


def test_the_prompt_is_the_one_that_was_answered_or_the_bare_question() -> None:
    decided = voted(7, "1", "1")
    with_instruction = trained(decided, PairsConfig(prompt=TrainPrompt.answer))
    bare = trained(decided, PairsConfig(prompt=TrainPrompt.bare))
    assert with_instruction.prompt == "What is {7}?\nThink, then write ####."
    assert bare.prompt == "What is {7}?"
    assert with_instruction.id != bare.id


def pairs(round_number: int, count: int) -> list[Pair]:
    return [Pair(f"p{round_number}-{n}", f"q{n}", round_number, "What?", "It is 1.", "1", 1.0) for n in range(count)]


def general(count: int) -> list[Pair]:
    return [Pair(f"g{n}", f"i{n}", 0, "Write.", "Once upon a time", "", 0.0, "replay") for n in range(count)]


def test_the_data_policy_decides_which_rounds_are_trained_on() -> None:
    new, earlier = pairs(4, 2), [pairs(number, 2) for number in (1, 2, 3)]

    def rounds(policy: DataPolicy, window: int = 3) -> list[int]:
        return [pair.round for pair in mix(new, earlier, [], PairsConfig(policy=policy, window=window, decay=1))]

    assert rounds(DataPolicy.accumulate) == [1, 1, 2, 2, 3, 3, 4, 4]
    assert rounds(DataPolicy.replace) == [4, 4]
    assert rounds(DataPolicy.window, 1) == [4, 4]
    assert rounds(DataPolicy.window, 2) == [3, 3, 4, 4]
    assert rounds(DataPolicy.window, 9) == [1, 1, 2, 2, 3, 3, 4, 4]


def test_older_rounds_keep_a_share_for_each_round_that_followed() -> None:
    mixed = mix(pairs(3, 10), [pairs(1, 100), pairs(2, 10)], [], PairsConfig(decay=0.7))
    assert [sum(pair.round == number for pair in mixed) for number in (1, 2, 3)] == [49, 7, 10]
    assert [pair.round for pair in mixed] == sorted(pair.round for pair in mixed)


@given(st.integers(0, 40), st.sampled_from([1.0, 0.9, 0.7, 0.5, 0.1]))
def test_a_dropped_pair_never_comes_back(count: int, decay: float) -> None:
    cfg, first = PairsConfig(decay=decay), pairs(1, count)
    before = {pair.id for pair in first}
    for age in range(1, 6):
        staying = [pair for pair in mix([], [first, *[[]] * (age - 1)], [], cfg) if pair.round == 1]
        assert len(staying) == math.ceil(Fraction(str(decay)) ** age * count)
        assert staying == [pair for pair in first if pair in staying]
        assert {pair.id for pair in staying} <= before
        before = {pair.id for pair in staying}


@pytest.mark.parametrize(("share", "mixed_in"), [(0.0, 0), (0.05, 4), (0.1, 10), (0.5, 90), (0.29, 36)])
def test_general_instructions_are_at_most_their_share_of_all(share: float, mixed_in: int) -> None:
    cfg = PairsConfig(decay=1, replay=ReplayConfig(share=share))
    mixed = mix(pairs(2, 40), [pairs(1, 50)], general(200), cfg)
    assert [pair.source for pair in mixed] == ["vote"] * 90 + ["replay"] * mixed_in
    assert len({pair.id for pair in mixed}) == len(mixed)


def test_a_larger_round_replays_the_same_instructions_and_more() -> None:
    cfg = PairsConfig(replay=ReplayConfig(share=0.5))
    few, more = ({pair.id for pair in mix(pairs(1, n), [], general(50), cfg)[n:]} for n in (5, 20))
    assert (len(few), len(more)) == (5, 20)
    assert few < more
    assert few == {pair.id for pair in mix(pairs(1, 5), [], general(500), cfg)[5:]}, "however many there are"
    assert len(mix(pairs(1, 80), [], general(50), cfg)) == 130


def test_the_metrics_count_the_training_pairs_by_origin() -> None:
    votes = [voted(index, "1", "1", "2", "1") for index in range(10)]
    cfg = PairsConfig(minimum=1, max_unanimous=1, policy=DataPolicy.window, window=2, replay=ReplayConfig(share=0.1))
    selection = select(votes, {}, TASK, ConsensusConfig(samples=4), cfg, [pairs(1, 9), pairs(2, 10)], general(30))
    metrics = selection.metrics
    assert [pair.round for pair in selection.pairs] == [2] * 7 + [1] * 10 + [0]
    assert [metrics[name] for name in ("pairs", "earlier", "decayed", "replayed", "total")] == [10, 7, 3, 1, 18]
    assert metrics["agreement"] == 0.75


def refusal(votes: Sequence[Vote], found: Mapping[str, Quarantined] = {}, **settings: float) -> str:
    with pytest.raises(DataSaysNo) as caught:
        chosen(votes, found, **{"minimum": 16, **settings})
    assert caught.value.exit_code == 65
    return str(caught.value)


def test_too_few_pairs_end_the_run_with_numbers_and_a_fix() -> None:
    votes = [voted(0, "1", "1", None), voted(1, "1", "2", "3"), voted(2, "1", None, None), voted(3, "1", "1", "2")]
    message = refusal(votes, minimum=3)
    for part in ("2 of 4 questions", "agreement >= 0.5", "pairs.minimum=3", "1 ties", "3 of 12 answers silent"):
        assert part in message
    assert "1 below consensus.min_agreement=0.5" in message
    assert "bait.questions" in message
    assert "or lower consensus.min_agreement" in message


def test_mostly_silent_answers_point_to_the_answer_prompt() -> None:
    message = refusal([voted(0, None, None, "1")])
    assert "consensus.max_tokens" in message
    assert "task.answer_prompt" in message


def test_no_questions_at_all_point_to_where_they_were_dropped() -> None:
    message = refusal([])
    assert "0 of 0 questions" in message
    for part in ("unusable", "bait.max_tokens", "diversify.threshold", "metrics.jsonl"):
        assert part in message


def test_only_unanimous_questions_point_to_the_cap() -> None:
    message = refusal([voted(index, "1", "1", "1") for index in range(20)], max_unanimous=0.4)
    assert "20 of 20 questions" in message
    assert "0 pairs are left" in message
    assert "20 too easy: above pairs.max_unanimous=0.4" in message
    assert "all remaining questions are unanimous" in message
    assert "set pairs.max_unanimous=1" in message
    assert "harder questions" in message


def test_too_many_unanimous_questions_point_to_the_cap_too() -> None:
    votes = [voted(index, "1", "1", "1") for index in range(20)] + [voted(20 + n, "1", "2", "1", "1") for n in range(3)]
    message = refusal(votes, max_unanimous=0.4)
    assert "5 pairs are left" in message
    assert "18 too easy" in message
    assert "set pairs.max_unanimous=1" in message
    assert "all remaining questions" not in message


def test_a_model_that_repeats_the_benchmark_points_to_decontamination() -> None:
    votes = [voted(index, "1", "1", "2", "1") for index in range(20)]
    found = {key: hit for decided in votes[:12] for key, hit in quarantined(decided, "similarity").items()}
    message = refusal(votes, found)
    assert "12 too near to a benchmark" in message
    assert "loosen pairs.decontamination" in message
