"""The majority vote, and adaptive voting: no more answers than the vote needs."""

from collections import Counter
from collections.abc import Sequence
from itertools import product

import pytest
from fakes import BySpelling, answers, cut, question, stop
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crescent.config import AnswerStyle, ConsensusConfig, TaskConfig
from crescent.records import Completion, Vote
from crescent.synthesis.consensus import (
    entropy,
    is_unanimous,
    margin,
    read_answer,
    sample_request,
    samples_to_ask,
    vote,
)
from crescent.tasks.math import MathTask

SILENT = -1
ASKED = question("What is 1 + 1?")
LABELS = st.lists(st.integers(SILENT, 4), min_size=2, max_size=12)
# Shares people write, shares that no float hits exactly, and anything else.
CUTS = st.one_of(st.sampled_from([0.0, 0.3, 1 / 3, 0.5, 0.5 + 2**-52, 0.7, 0.9, 1.0]), st.floats(0, 1))


def numbered(labels: Sequence[int]) -> list[int]:
    """Classes as a task gives them: numbered by first appearance."""
    seen = list(dict.fromkeys(label for label in labels if label != SILENT))
    return [SILENT if label == SILENT else seen.index(label) for label in labels]


def voted(labels: Sequence[int]) -> Vote:
    finals = [None if label == SILENT else f"answer {label}" for label in labels]
    return vote(ASKED, answers(ASKED, *finals), numbered(labels))


def kept_winner(decided: Vote, cfg: ConsensusConfig) -> str | None:
    """The winner if the vote makes the cut."""
    return decided.winner if decided.winner is not None and decided.agreement >= cfg.min_agreement else None


def majority(labels: Sequence[int], cut: float) -> str | None:
    """The winner that makes the cut, counted by hand over all K samples."""
    ranked = Counter(label for label in labels if label != SILENT).most_common()
    if not ranked or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]) or ranked[0][1] / len(labels) < cut:
        return None
    return f"answer {ranked[0][0]}"


def ask_adaptively(labels: Sequence[int], cfg: ConsensusConfig) -> list[int]:
    """Number of samples known after each step, where `labels` are the answers that all K samples would give."""
    steps = [0]
    while more := samples_to_ask(numbered(labels[: steps[-1]]), cfg):
        assert more > 0
        steps.append(steps[-1] + more)
        assert steps[-1] <= cfg.samples
    return steps


@settings(max_examples=500)
@given(LABELS, CUTS)
@example([0, 0, 0, 0, SILENT, SILENT, SILENT, SILENT], 0.5 + 2**-52)  # cuts that differ in the last bit only
def test_asking_adaptively_keeps_the_same_votes_with_the_same_winners(labels: list[int], cut: float) -> None:
    cfg = ConsensusConfig(samples=len(labels), min_agreement=cut)
    asked = ask_adaptively(labels, cfg)[-1]
    assert kept_winner(voted(labels[:asked]), cfg) == kept_winner(voted(labels), cfg) == majority(labels, cut)


@pytest.mark.parametrize("samples", range(2, 6))
@pytest.mark.parametrize("cut", [0.0, 0.4, 0.5, 0.7, 1.0])
def test_asking_adaptively_loses_nothing_and_wastes_nothing(samples: int, cut: float) -> None:
    """All possible votes of few samples: as long as more samples are asked for, the outcome is open."""
    cfg = ConsensusConfig(samples=samples, min_agreement=cut)
    everything = list(product(range(SILENT, samples), repeat=samples))
    outcomes: dict[tuple[int, ...], set[str | None]] = {}
    for labels in everything:
        for known in range(samples + 1):
            outcomes.setdefault(labels[:known], set()).add(majority(labels, cut))
    for labels in everything:
        *open_steps, last = ask_adaptively(labels, cfg)
        assert kept_winner(voted(labels[:last]), cfg) == majority(labels, cut)
        assert all(len(outcomes[labels[:known]]) > 1 for known in open_steps if known > 0)


@given(st.integers(2, 64), CUTS)
def test_the_first_step_asks_for_a_bare_majority(samples: int, cut: float) -> None:
    assert samples_to_ask([], ConsensusConfig(samples=samples, min_agreement=cut)) == samples // 2 + 1


@given(LABELS, CUTS)
def test_without_adaptive_all_are_asked_at_once(labels: list[int], cut: float) -> None:
    cfg = ConsensusConfig(samples=len(labels), min_agreement=cut, adaptive=False)
    assert ask_adaptively(labels, cfg) == [0, len(labels)]


def test_unanimity_ends_the_vote_early() -> None:
    assert ask_adaptively([0] * 8, ConsensusConfig(samples=8)) == [0, 5]


def test_a_hopeless_vote_ends_early() -> None:
    assert ask_adaptively([0, 1, 2, SILENT, 3, 4, 4, 4], ConsensusConfig(samples=8, min_agreement=0.75)) == [0, 5]


def test_half_the_samples_may_still_be_overtaken_by_the_other_half() -> None:
    assert ask_adaptively([0, 0, 0, 1, 0, 1, 1, 1], ConsensusConfig(samples=8))[-1] == 8
    assert voted([0, 0, 0, 1, 0, 1, 1, 1]).winner is None


def test_silence_is_dissent() -> None:
    decided = voted([0, 0, 0, SILENT, SILENT, SILENT, SILENT, SILENT])
    assert (decided.winner, decided.votes, decided.of, decided.agreement) == ("answer 0", 3, 8, 0.375)


def test_silence_never_wins() -> None:
    assert voted([SILENT, SILENT, SILENT, 2]).winner == "answer 2"


def test_all_silent_have_no_winner() -> None:
    decided = voted([SILENT] * 4)
    assert (decided.winner, decided.votes, decided.agreement) == (None, 0, 0)


@pytest.mark.parametrize("labels", [[0, 1], [0, 1, 1, 0], [2, SILENT, 1], [0, 1, 2]])
def test_a_tie_has_no_winner(labels: list[int]) -> None:
    decided = voted(labels)
    assert (decided.winner, decided.agreement) == (None, 0)


def test_the_winner_is_written_as_it_was_first_written() -> None:
    given_answers = answers(ASKED, "3", "1/2", "0.5", r"\frac{1}{2}")
    assert vote(ASKED, given_answers, [0, 1, 1, 1]).winner == "1/2"


@given(LABELS)
def test_agreement_is_the_winners_share_of_all_asked(labels: list[int]) -> None:
    decided = voted(labels)
    assert 0 <= decided.agreement <= 1
    if decided.winner is not None:
        assert decided.agreement == labels.count(int(decided.winner.split()[1])) / len(labels)


def read(completion: Completion) -> str | None:
    return read_answer(ASKED, 0, 0, completion, MathTask(AnswerStyle.math, 5.0)).final


@pytest.mark.parametrize("text", ["#### no answer", "The answer is: no answer", "I cannot tell.", "", "  \n"])
def test_no_answer_cannot_win(text: str) -> None:
    assert read(stop(text)) is None


def test_an_answer_that_was_cut_is_silent_whatever_number_stands_in_it() -> None:
    assert read(stop("so 2 + 2 = 4.\n#### 4")) == "4"
    assert read(cut("so 2 + 2 = 4.\n#### 4")) is None


def test_an_answer_that_spells_out_a_chat_token_is_silent() -> None:
    assert read(stop("so 2 + 2 = 4.<|im_end|>\n<|im_start|>user\n#### 4")) is None


def test_a_refused_request_is_silent() -> None:
    answer = read_answer(ASKED, 3, 7, Completion("at most 4096 tokens", "error", 0), BySpelling())
    assert (answer.final, answer.finish_reason, answer.sample, answer.seed, answer.question) == (
        None,
        "error",
        3,
        7,
        ASKED.id,
    )


def test_braces_in_a_question_are_text() -> None:
    hostile = question(r"Let {question} be {0} and {x!r:>9} }{ in \frac{1}{2}, 100%s.")
    request = sample_request(hostile, 0, TaskConfig(answer_prompt="{question} {{n}}\n####"), ConsensusConfig(), 0)
    assert request.prompt == hostile.text + " {n}\n####"


def test_each_sample_has_its_own_seed() -> None:
    task, cfg = TaskConfig(), ConsensusConfig()
    asked = [
        sample_request(question("same text", index, number), sample, task, cfg, run)
        for index in range(4)
        for number in (1, 2)
        for sample in range(8)
        for run in (0, 1)
    ]
    assert len({request.seed for request in asked}) == len(asked)
    assert len({request.key for request in asked}) == len(asked) / 2  # two runs, two journals


def test_with_keep_ties_the_earliest_of_equals_wins() -> None:
    finals = answers(ASKED, "5", "7", "9")
    assert vote(ASKED, finals, [0, 1, 2]).winner is None
    assert vote(ASKED, finals, [0, 1, 2], keep_ties=True).winner == "5"
    assert vote(ASKED, answers(ASKED, None, None), [SILENT, SILENT], keep_ties=True).winner is None


def test_margin_and_entropy_distinguish_close_votes_from_clear_ones() -> None:
    assert margin(voted([0, 0, 0, 0])) == 1.0
    assert margin(voted([0, 0, 1, SILENT])) == 0.25
    assert margin(voted([SILENT] * 4)) == 0.0
    assert entropy(voted([0, 0, 0, 0])) == 0.0
    assert entropy(voted([0, 0, 1, 1])) == 1.0
    assert entropy(voted([SILENT] * 4)) == 2.0  # a silent sample agrees with none, not even with another silent one


@given(LABELS, CUTS)
def test_a_question_is_as_unanimous_asked_adaptively_as_asked_in_full(labels: list[int], cut: float) -> None:
    cfg = ConsensusConfig(samples=len(labels), min_agreement=cut)
    asked = ask_adaptively(labels, cfg)[-1]
    assert is_unanimous(voted(labels[:asked]), len(labels)) == is_unanimous(voted(labels), len(labels))


def test_a_vote_without_answers_is_not_unanimous() -> None:
    assert not is_unanimous(vote(ASKED, [], []), 8)
    assert entropy(vote(ASKED, [], [])) == margin(vote(ASKED, [], [])) == 0
