"""Every stage on what a real model wrote: the recordings under tests/recorded, without an engine."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import ShufflingEngine

from benchmarks.recorded import RecordedEngine, Recording, Row, read_recording, write_recording
from benchmarks.replay import ARITHMETIC, NO_REPEATS, WORDS, Recorded, replay
from crescent.config import ConsensusConfig, DiversifyConfig, Embedder, PairsConfig
from crescent.models.embedders import Vectors, lexical_vectors
from crescent.records import Completion, Request, Vote
from crescent.selection.pairs import select
from crescent.synthesis.consensus import is_kept
from crescent.synthesis.stream import Synthesis
from crescent.tasks import open_task

RECORDINGS = pytest.mark.parametrize("recorded", [ARITHMETIC, WORDS], ids=["arithmetic", "words"])
FEW = PairsConfig(minimum=1)


def winners(votes: list[Vote], consensus: ConsensusConfig) -> dict[str, str | None]:
    """Winner of each question that is kept, by its text."""
    return {vote.question.text: vote.winner for vote in votes if is_kept(vote, consensus)}


def assert_same(found: Synthesis, expected: Synthesis) -> None:
    assert found.votes == expected.votes
    assert found.candidates == expected.candidates
    assert found.baits == expected.baits
    assert np.array_equal(found.vectors, expected.vectors)
    assert found.metrics == expected.metrics


@RECORDINGS
def test_the_recording_holds_what_the_stages_ask(recorded: Recorded) -> None:
    """Fails after a change in how questions are read; `python -m benchmarks record` then records what is missing."""
    engine = recorded.engine()
    votes = replay(engine, recorded.synthesis()).votes
    assert len(votes) >= 20
    assert len(engine.unknown) <= 0.1 * len(engine.recording), engine.unknown[:3]


@RECORDINGS
def test_asking_adaptively_keeps_the_same_questions_with_the_same_winners(recorded: Recorded) -> None:
    saved = 0.0
    for samples, cut in ((8, 0.5), (8, 0.0), (7, 0.75), (5, 0.4), (3, 0.5)):
        fixed = replace(recorded.consensus, samples=samples, min_agreement=cut, adaptive=False)
        all_of_them = replay(recorded.engine(), recorded.synthesis(consensus=fixed))
        adaptive = replay(recorded.engine(), recorded.synthesis(consensus=replace(fixed, adaptive=True)))
        assert winners(adaptive.votes, fixed) == winners(all_of_them.votes, fixed), (samples, cut)
        assert all_of_them.metrics["answers"] == samples * len(all_of_them.votes)
        saved += all_of_them.metrics["answers"] - adaptive.metrics["answers"]
    assert saved > 0


@RECORDINGS
def test_a_trained_response_says_what_its_vote_says(recorded: Recorded) -> None:
    cfg = recorded.synthesis(consensus=replace(recorded.consensus, min_agreement=0.25))
    votes = replay(recorded.engine(), cfg).votes
    generous = replace(FEW, responses=8, max_unanimous=1.0)
    pairs = select(votes, {}, cfg.task, cfg.consensus, generous).new
    by_id = {vote.question.id: vote for vote in votes}
    assert {pair.question for pair in pairs} == {vote.question.id for vote in votes if is_kept(vote, cfg.consensus)}
    with open_task(cfg.task, cfg.consensus.grading_timeout_s) as task:
        for pair in pairs:
            decided = by_id[pair.question]
            assert pair.prompt == cfg.task.answer_prompt.format(question=decided.question.text)
            assert pair.final == decided.winner
            assert task.classes([task.read(pair.completion), pair.final]) == (0, 0), pair


@RECORDINGS
def test_the_outcome_does_not_depend_on_which_request_is_answered_first(recorded: Recorded) -> None:
    cfg = recorded.synthesis(consensus=replace(recorded.consensus, adaptive=True))
    in_order = replay(recorded.engine(), cfg)
    assert_same(replay(recorded.engine(), cfg), in_order)
    for order in range(2):
        shuffled = ShufflingEngine(recorded.engine().say, order, concurrency=16)
        assert_same(replay(shuffled, cfg), in_order)


def one_after_another(questions: list[tuple[str, Vectors]], threshold: float) -> list[str]:
    """The rule written out: accepted unless its cosine to an accepted one reaches `threshold`."""
    accepted: list[tuple[str, Vectors]] = []
    for text, vector in questions:
        to_earlier = [float(np.dot(vector.astype(float), other.astype(float))) for _, other in accepted]
        if all(round(cosine, 6) < threshold for cosine in to_earlier):
            accepted.append((text, vector))
    return [text for text, _ in accepted]


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9, 0.97, 1.0])
@RECORDINGS
def test_self_deduplication_decides_like_one_comparison_after_another(recorded: Recorded, threshold: float) -> None:
    seen: list[str] = []

    def embed(texts: Sequence[str]) -> Vectors:
        seen.extend(texts)
        return lexical_vectors(texts)

    at_once = DiversifyConfig(embedder=Embedder.lexical, threshold=threshold, max_rewrites=0)
    found = replay(recorded.engine(), recorded.synthesis(diversify=at_once), embed)
    expected = one_after_another([(text, lexical_vectors([text])[0]) for text in seen], threshold)
    assert [vote.question.text for vote in found.votes] == expected
    assert found.metrics["dropped_near_duplicates"] == len(seen) - len(expected)


def test_rewrites_are_requested_and_compared_again() -> None:
    found = replay(ARITHMETIC.engine(), ARITHMETIC.synthesis())
    once = replay(ARITHMETIC.engine(), ARITHMETIC.synthesis(diversify=NO_REPEATS))
    originals = {vote.question.index for vote in once.votes}
    rewritten = [vote.question for vote in found.votes if vote.question.rewrites]
    assert rewritten
    assert all(
        question.similarity is not None and question.similarity < ARITHMETIC.diversify.threshold
        for question in rewritten
    )
    assert {question.index for question in rewritten} - originals, "of exact repeats"


def ask(engine: RecordedEngine, key: str, prompt: str, temperature: float = 1.0) -> Completion:
    return asyncio.run(engine.complete(Request(key, prompt, temperature, max_tokens=8, seed=12345)))


def row(kind: str, prompt: str, sample: int, text: str) -> Row:
    return Row(kind, prompt, 1.0, 8, (), sample, text, "stop", 1)


def test_a_recorded_engine_recognises_a_request_by_its_content() -> None:
    said = [
        row("question", "bait", 0, "a"),
        row("question", "bait", 1, "b"),
        row("answer", "q", 0, "c"),
        row("rewrite", "r", 1, "d"),
    ]
    engine = RecordedEngine(Recording(said), baits=3)
    assert ask(engine, "question/2", "bait").text == "a"
    assert ask(engine, "question/3", "bait").text == "b"
    assert ask(engine, "answer/any id/0", "q").text == "c"
    assert ask(engine, "rewrite/7/2", "r").text == "d"
    assert engine.unknown == []
    for unknown in (
        ask(engine, "answer/any id/1", "q"),
        ask(engine, "answer/any id/0", "Q"),
        ask(engine, "answer/any id/0", "q", temperature=0.5),
        ask(engine, "rewrite/6/2", "r"),
    ):
        assert unknown == Completion("", "error", 0)
    assert len(engine.unknown) == 4


def test_a_recording_is_the_same_file_in_whatever_order_it_was_made(tmp_path: Path) -> None:
    rows = [row("question", "bait", sample, f"text {sample} \u2028 π") for sample in range(12)]
    write_recording(tmp_path / "a.jsonl.gz", Recording(rows))
    write_recording(tmp_path / "b.jsonl.gz", Recording(reversed(rows)))
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert read_recording(tmp_path / "a.jsonl.gz").rows() == rows
