"""Ask, diversify, solve and vote as one stream: its outcome depends on neither timing nor interruptions.

The model and the engine are in `fakes.py`: questions are sums, and near-duplicates begin with the same number.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import BySpelling, Say, ShufflingEngine, by_first_number, cut, question, say_sums, stop
from hypothesis import given, settings
from hypothesis import strategies as st

from crescent.config import AnswerStyle, BaitConfig, ConsensusConfig, DiversifyConfig, Recheck, TaskConfig
from crescent.engine.client import Engine, EngineDied
from crescent.engine.journal import Journal, Journaled
from crescent.models.embedders import Embed, Vectors
from crescent.records import Bait, Completion, Question, Request
from crescent.synthesis.bait import bait_request, read_question
from crescent.synthesis.consensus import read_answer, sample_request
from crescent.synthesis.diversify import Memory, rewrite_request
from crescent.synthesis.progress import Progress
from crescent.synthesis.stream import BLOCK, Synthesis, SynthesisConfig, synthesise
from crescent.tasks.math import MathTask

BAIT = Bait("paper", "Can you create some math word problems for me?")


def config(
    questions: int = 20, samples: int = 5, max_rewrites: int = 3, seed: int = 0, round_number: int = 1
) -> SynthesisConfig:
    return SynthesisConfig(
        TaskConfig(),
        BaitConfig({BAIT.name: BAIT.prompt}, questions=questions),
        DiversifyConfig(max_rewrites=max_rewrites),
        ConsensusConfig(samples=samples),
        seed,
        round_number,
    )


def remembering(earlier: Sequence[Question]) -> Memory:
    memory = Memory()
    vectors = by_first_number([question.text for question in earlier])
    for remembered, vector in zip(earlier, vectors, strict=True):
        memory.add(remembered, vector)
    return memory


def known(memory: Memory) -> list[str]:
    return [memory.neighbour(index).id for index in range(len(memory))]


def dropped_near_duplicates(found: Synthesis) -> list[Question]:
    return [candidate.question for candidate in found.candidates if candidate.outcome == "near-duplicate"]


def run(
    engine: Engine,
    cfg: SynthesisConfig,
    earlier: Sequence[Question] = (),
    embed: Embed = by_first_number,
    grader: Any = None,
    watch: Callable[[Progress], None] = lambda _: None,
    ahead: int = 256,
) -> Synthesis:
    return asyncio.run(synthesise(engine, embed, grader or BySpelling(), cfg, remembering(earlier), watch, ahead=ahead))


def assert_same(found: Synthesis, expected: Synthesis) -> None:
    assert found.votes == expected.votes
    assert found.candidates == expected.candidates
    assert np.array_equal(found.vectors, expected.vectors)
    assert found.metrics == expected.metrics


@dataclass
class Slow:
    """The rule written out: one candidate after another, wave after wave, and all K answers to each."""

    cfg: SynthesisConfig
    memory: list[Question]
    accepted: list[Question] = field(default_factory=list)
    rejected: list[Question] = field(default_factory=list)

    def run(self) -> None:
        cfg = self.cfg
        wave = []
        for index in range(cfg.bait.questions):
            request = bait_request(BAIT, index, cfg.bait, cfg.round, cfg.seed)
            text = read_question(say_sums(request), cfg.bait.min_characters)
            if text is not None:
                wave.append(Question("", text, cfg.round, index, "", 0))
        while wave:
            wave = [rewritten for candidate in wave if (rewritten := self.decide(candidate)) is not None]

    def decide(self, candidate: Question) -> Question | None:
        """The candidate's rewrite, if the rule asks for one and the model gives one."""
        cfg = self.cfg
        alike = [other for other in self.memory if other.text.split()[2] == candidate.text.split()[2]]
        if not alike:
            self.memory.append(candidate)
            self.accepted.append(candidate)
            return None
        if candidate.rewrites == cfg.diversify.max_rewrites:
            self.rejected.append(candidate)
            return None
        request = rewrite_request(candidate, alike[0], cfg.diversify, cfg.bait, cfg.round, cfg.seed)
        text = read_question(say_sums(request), cfg.bait.min_characters)
        return None if text is None else replace(candidate, text=text, rewrites=candidate.rewrites + 1)

    def finals(self, question: Question) -> list[str | None]:
        task, cfg = self.cfg.task, self.cfg.consensus
        requests = [sample_request(question, sample, task, cfg, self.cfg.seed) for sample in range(cfg.samples)]
        return [read_answer(question, 0, 0, say_sums(request), BySpelling()).final for request in requests]


def kept_winner(finals: Sequence[str | None], cut: float) -> str | None:
    ranked = Counter(final for final in finals if final is not None).most_common()
    if not ranked or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]) or ranked[0][1] / len(finals) < cut:
        return None
    return ranked[0][0]


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 3 * BLOCK),
    st.integers(0, 3),
    st.integers(2, 8),
    st.lists(st.integers(0, 11), max_size=4, unique=True),
)
def test_the_stream_gives_what_one_candidate_after_another_gives(
    seed: int, number: int, max_rewrites: int, samples: int, numbers: list[int]
) -> None:
    earlier = [question(f"What is {first} + 0?", index) for index, first in enumerate(numbers)]
    cfg = config(number, samples, max_rewrites, seed, round_number=2)
    slow = Slow(cfg, list(earlier))
    slow.run()
    fast = run(ShufflingEngine(say_sums, order=seed), cfg, earlier)

    def seen(question: Question) -> tuple[int, str, int]:
        return question.index, question.text, question.rewrites

    by_index = sorted(slow.accepted, key=lambda question: question.index)
    assert [seen(vote.question) for vote in fast.votes] == [seen(question) for question in by_index]
    dropped = sorted(slow.rejected, key=lambda question: question.index)
    assert [seen(question) for question in dropped_near_duplicates(fast)] == [seen(question) for question in dropped]
    for vote in fast.votes:
        finals = slow.finals(vote.question)
        assert [answer.final for answer in vote.answers] == finals[: vote.of]
        made_the_cut = vote.agreement >= cfg.consensus.min_agreement
        assert (vote.winner if made_the_cut else None) == kept_winner(finals, cfg.consensus.min_agreement)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from([1, 2, 7, 256]), st.sampled_from([1, 20, 256]))
def test_neither_completion_order_nor_concurrency_changes_the_outcome(
    seed: int, order: int, concurrency: int, ahead: int
) -> None:
    cfg = config(questions=2 * BLOCK + 5, seed=seed)
    in_order = run(ShufflingEngine(say_sums), cfg)
    assert_same(in_order, run(ShufflingEngine(say_sums, order, concurrency), cfg, ahead=ahead))


class LateQuestionsWait:
    """Eight requests at once; questions after the second block wait until an answer was requested."""

    def __init__(self) -> None:
        self.free = asyncio.Semaphore(8)
        self.answered = asyncio.Event()

    async def complete(self, request: Request) -> Completion:
        kind, which, *_ = request.key.split("/")
        async with self.free:
            if kind == "answer":
                self.answered.set()
            if kind == "question" and int(which) >= 2 * BLOCK:
                await self.answered.wait()
            return say_sums(request)


@pytest.mark.timeout(30)
def test_answers_do_not_wait_until_the_last_question_is_written() -> None:
    cfg = config(questions=4 * BLOCK)
    assert_same(run(LateQuestionsWait(), cfg, ahead=4), run(ShufflingEngine(say_sums), cfg))


def test_the_embedder_sees_the_same_blocks_whatever_the_completion_order() -> None:
    """A matrix product is rounded depending on the shape of its block, so the blocks must not depend on timing."""

    def blocks(order: int, concurrency: int) -> list[list[str]]:
        seen: list[list[str]] = []

        def embed(texts: Sequence[str]) -> Vectors:
            seen.append(list(texts))
            return by_first_number(texts)

        run(ShufflingEngine(say_sums, order, concurrency), config(questions=3 * BLOCK), embed=embed)
        return seen

    assert blocks(0, 256) == blocks(1, 3) == blocks(2, 40)


def test_a_run_interrupted_at_any_request_resumes_to_the_same_outcome_and_asks_nothing_twice(tmp_path: Path) -> None:
    cfg = config(questions=7, samples=3, max_rewrites=2)
    undisturbed = ShufflingEngine(say_sums)
    expected = run(undisturbed, cfg)
    assert {key.split("/")[0] for key in undisturbed.answered} == {"question", "rewrite", "answer"}
    for dies_at in range(1, undisturbed.asked + 1):
        path = tmp_path / f"{dies_at}.jsonl"
        dying, living = ShufflingEngine(say_sums, dies_at, dies_at=dies_at), ShufflingEngine(say_sums, dies_at + 1)
        with Journal(path) as journal, pytest.raises(ExceptionGroup) as caught:
            run(Journaled(dying, journal), cfg)
        assert caught.value.split(EngineDied)[1] is None
        with Journal(path) as journal:
            assert journal.recovered == dies_at - 1
            assert_same(run(Journaled(living, journal), cfg), expected)
        assert dying.answered + living.answered == undisturbed.answered
        assert set((dying.answered + living.answered).values()) == {1}


def test_a_finished_journal_needs_no_engine(tmp_path: Path) -> None:
    cfg = config()
    with Journal(tmp_path / "journal.jsonl") as journal:
        expected = run(Journaled(ShufflingEngine(say_sums), journal), cfg)
    with Journal(tmp_path / "journal.jsonl") as journal:
        assert_same(run(Journaled(ShufflingEngine(say_sums, dies_at=1), journal), cfg), expected)


def inventing(rewritten: Callable[[int], Completion]) -> Say:
    """A model whose every question is `What is 1 + 1?`, and whose n-th rewrite is `rewritten(n)`."""

    def say(request: Request) -> Completion:
        match request.key.split("/"):
            case "question", _:
                return stop("What is 1 + 1?")
            case "rewrite", _, attempt:
                return rewritten(int(attempt))
        return stop("#### 2")

    return say


def test_a_near_duplicate_is_rewritten_as_often_as_allowed_then_dropped() -> None:
    engine = ShufflingEngine(inventing(lambda attempt: stop(f"What is 1 + {attempt}?")))
    found = run(engine, config(questions=3, max_rewrites=2))
    assert [vote.question.index for vote in found.votes] == [0]
    assert [
        (question.index, question.text, question.rewrites, question.similarity)
        for question in dropped_near_duplicates(found)
    ] == [
        (1, "What is 1 + 2?", 2, 1.0),
        (2, "What is 1 + 2?", 2, 1.0),
    ]
    assert {question.neighbour for question in dropped_near_duplicates(found)} == {found.votes[0].question.id}
    asked = {key for key in engine.answered if key.startswith("rewrite")}
    assert asked == {"rewrite/1/1", "rewrite/1/2", "rewrite/2/1", "rewrite/2/2"}
    assert (found.metrics["rewrites"], found.metrics["dropped_near_duplicates"]) == (4, 2)


def test_a_rewrite_that_is_far_enough_is_kept_with_its_history() -> None:
    found = run(ShufflingEngine(inventing(lambda attempt: stop(f"What is {attempt} + 9?"))), config(questions=2))
    first, second = (vote.question for vote in found.votes)
    assert (first.text, first.rewrites, first.parent, first.neighbour) == ("What is 1 + 1?", 0, None, None)
    assert (second.text, second.rewrites) == ("What is 2 + 9?", 2)
    assert (second.neighbour, second.similarity) == (first.id, 0.0)
    assert second.parent not in (None, first.id, second.id)
    assert dropped_near_duplicates(found) == []


def test_without_rewrites_a_near_duplicate_is_dropped_at_once() -> None:
    engine = ShufflingEngine(inventing(lambda _: stop("What is 5 + 5?")))
    found = run(engine, config(questions=4, max_rewrites=0))
    assert (len(found.votes), len(dropped_near_duplicates(found))) == (1, 3)
    assert not any(key.startswith("rewrite") for key in engine.answered)


def test_the_model_sees_the_near_duplicate_and_its_neighbour_of_an_earlier_round() -> None:
    prompts: list[str] = []

    def say(request: Request) -> Completion:
        prompts.extend([request.prompt] if request.key.startswith("rewrite") else [])
        return inventing(lambda attempt: stop(f"What is {attempt + 1} + 1?"))(request)

    found = run(ShufflingEngine(say), config(questions=1, round_number=2), [question("What is 1 + 7?")])
    assert len(prompts) == 1
    assert "What is 1 + 1?" in prompts[0]
    assert "What is 1 + 7?" in prompts[0]
    assert found.votes[0].question.text == "What is 2 + 1?"


def test_all_originals_are_decided_before_any_rewrite() -> None:
    """Question 1 repeats question 0 and is rewritten into question 2, which had been decided before."""

    def say(request: Request) -> Completion:
        texts = {"question/0": "1", "question/1": "1", "question/2": "2", "rewrite/1/1": "2", "rewrite/1/2": "3"}
        return stop(f"What is {texts.get(request.key, '0')} + 1?")

    for order in range(20):
        found = run(ShufflingEngine(say, order), config(questions=3))
        assert [vote.question.text for vote in found.votes] == ["What is 1 + 1?", "What is 3 + 1?", "What is 2 + 1?"]


def released(questions: int, batch: int, seed: int = 0) -> SynthesisConfig:
    """Settings for the rule of the authors' released code."""
    diversify = DiversifyConfig(recheck=Recheck.never, history_threshold=0.875, batch=batch)
    return replace(config(questions, seed=seed), diversify=diversify)


def test_by_the_released_rule_a_rewrite_is_accepted_unchecked_even_when_it_repeats_its_neighbour() -> None:
    engine = ShufflingEngine(inventing(lambda _: stop("What is 1 + 1?")))
    found = run(engine, released(questions=6, batch=2))
    assert [(vote.question.index, vote.question.rewrites) for vote in found.votes] == [(0, 0), (2, 1), (4, 1)]
    assert {vote.question.text for vote in found.votes} == {"What is 1 + 1?"}
    first, *others = (vote.question for vote in found.votes)
    assert [(question.neighbour, question.similarity) for question in others] == [(first.id, 1.0)] * 2
    assert [question.index for question in dropped_near_duplicates(found)] == [1, 3, 5]
    assert len(found.vectors) == 3
    assert {key for key in engine.answered if key.startswith("rewrite")} == {"rewrite/2/1", "rewrite/4/1"}


def test_by_the_released_rule_a_batch_waits_for_the_rewrites_of_the_batch_before() -> None:
    """Question 1 repeats question 0 and becomes question 2's text; so question 2 is rewritten in turn."""

    def say(request: Request) -> Completion:
        texts = {"question/0": "1", "question/1": "1", "question/2": "2", "rewrite/1/1": "2", "rewrite/2/1": "3"}
        return stop(f"What is {texts.get(request.key, '0')} + 1?")

    for order in range(20):
        found = run(ShufflingEngine(say, order), released(questions=3, batch=1))
        assert [vote.question.text for vote in found.votes] == ["What is 1 + 1?", "What is 2 + 1?", "What is 3 + 1?"]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from([1, 7, 256]), st.sampled_from([1, 10, 100]))
def test_by_the_released_rule_too_completion_order_changes_nothing(
    seed: int, order: int, concurrency: int, batch: int
) -> None:
    cfg = released(questions=70, batch=batch, seed=seed)
    in_order = run(ShufflingEngine(say_sums), cfg)
    assert_same(in_order, run(ShufflingEngine(say_sums, order, concurrency), cfg))
    counts = in_order.metrics
    assert counts["candidates"] == counts["unusable"] + counts["questions"] + counts["dropped_near_duplicates"]


def test_questions_of_earlier_rounds_count_and_are_not_voted_on_again() -> None:
    earlier = [question(f"What is {first} + 1?", first) for first in range(12)]
    memory = remembering(earlier)
    engine = ShufflingEngine(say_sums)
    found = asyncio.run(synthesise(engine, by_first_number, BySpelling(), config(), memory, lambda _: None))  # type: ignore[arg-type]
    assert found.votes == []
    assert dropped_near_duplicates(found) != []
    assert known(memory) == [question.id for question in earlier]
    assert {question.neighbour for question in dropped_near_duplicates(found)} <= {question.id for question in earlier}


@pytest.mark.parametrize(
    "nothing", [stop(""), cut("What is 1 +"), Completion("too long", "error", 0), stop("\x00" * 20)]
)
def test_a_round_without_a_usable_question_has_no_votes(nothing: Completion) -> None:
    found = run(ShufflingEngine(lambda _: nothing), config())
    assert (found.votes, dropped_near_duplicates(found), len(found.vectors)) == ([], [], 0)
    assert found.metrics["unusable"] == found.metrics["candidates"] == 20
    assert found.metrics["agreement"] == 0


def test_rows_of_vectors_are_in_the_order_of_the_votes() -> None:
    memory = remembering([question("What is 3 + 1?")])
    engine, cfg = ShufflingEngine(say_sums, order=3), config(questions=60, round_number=2)
    found = asyncio.run(synthesise(engine, by_first_number, BySpelling(), cfg, memory, lambda _: None))  # type: ignore[arg-type]
    voted = [vote.question for vote in found.votes]
    assert any(question.rewrites for question in voted)  # accepted late, and still in request order
    assert [question.index for question in voted] == sorted(question.index for question in voted)
    assert np.array_equal(found.vectors, by_first_number([question.text for question in voted]))
    assert sorted(known(memory)[1:]) == sorted(question.id for question in voted)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 3))
def test_every_candidate_and_every_answer_is_accounted_for(seed: int, max_rewrites: int) -> None:
    cfg = config(questions=50, max_rewrites=max_rewrites, seed=seed)
    engine = ShufflingEngine(say_sums)
    last: list[Progress] = []
    found = run(engine, cfg, watch=lambda progress: last.__setitem__(slice(None), [progress]))
    counts, kinds = found.metrics, Counter(key.split("/")[0] for key in engine.answered)
    assert (
        counts["candidates"]
        == counts["unusable"] + counts["questions"] + counts["dropped_near_duplicates"]
        == kinds["question"]
    )
    assert counts["questions"] == len(found.votes)
    assert counts["dropped_near_duplicates"] == len(dropped_near_duplicates(found))
    assert counts["rewrites"] == kinds["rewrite"]
    assert counts["answers"] == kinds["answer"] == sum(vote.of for vote in found.votes)
    assert counts["answers"] + counts["answers_saved"] == len(found.votes) * cfg.consensus.samples
    silent = [answer for vote in found.votes for answer in vote.answers if answer.final is None]
    assert counts["answers_silent"] == len(silent)
    assert counts["answers_cut"] == sum(answer.finish_reason == "length" for answer in silent)
    assert (last[0].asked, last[0].voted, last[0].questions) == (50, len(found.votes), len(found.votes))


def test_ids_are_unique_and_the_same_in_every_run() -> None:
    first, second = (run(ShufflingEngine(say_sums, order), config(questions=60)) for order in (0, 1))
    ids = [vote.question.id for vote in first.votes]
    assert len(set(ids)) == len(ids)
    assert ids == [vote.question.id for vote in second.votes]
    other_round = run(ShufflingEngine(say_sums), config(questions=60, round_number=2))
    assert not set(ids) & {vote.question.id for vote in other_round.votes}


def test_with_the_real_grader_different_spellings_agree() -> None:
    spellings = ["#### 0.5", r"So \boxed{\frac{1}{2}}", "#### 3", "The answer is 1/2.", "#### 50/100"]

    def say(request: Request) -> Completion:
        kind, _, sample = request.key.rpartition("/")
        return stop(spellings[int(sample)] if kind.startswith("answer") else "What is 1 + 1?")

    with MathTask(AnswerStyle.math, 5.0) as grader:
        found = run(ShufflingEngine(say), config(questions=1), grader=grader)
    assert (found.votes[0].winner, found.votes[0].votes, found.votes[0].of) == ("0.5", 3, 4)
    assert found.metrics["undecided"] == 0


def test_the_total_of_the_progress_stays_and_the_share_done_only_grows() -> None:
    cfg = config(questions=50, max_rewrites=1, seed=3)
    seen: list[tuple[int, int]] = []
    samples = cfg.consensus.samples
    run(ShufflingEngine(say_sums), cfg, watch=lambda progress: seen.append(progress.settled(samples)))
    assert {total for _, total in seen} == {50 * (1 + samples)}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1], "everything is settled in the end, also what was dropped or decided early"


def test_the_note_of_the_progress_says_what_came_of_the_questions() -> None:
    progress = Progress(candidates=100, asked=50, unusable=10, questions=30, rejected=10, voted=10, agreed=4)
    assert progress.acceptance == pytest.approx(0.6)
    assert progress.note().startswith("60% accepted, 10 of 30 voted, 40% agreed; 10 near-duplicates, 10 unusable")


def test_questions_wait_in_no_queue_of_tasks_until_they_are_asked_for() -> None:
    class Counting:
        """An engine that knows how many tasks there are while it is asked for questions."""

        most = 0

        async def complete(self, request: Request) -> Completion:
            if request.key.startswith("question"):
                self.most = max(self.most, len(asyncio.all_tasks()))
            await asyncio.sleep(0)
            return say_sums(request)

    engine = Counting()
    run(engine, config(questions=600, samples=2), ahead=8)
    assert engine.most < 400
