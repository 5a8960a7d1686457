"""Self-deduplication: in blocks as one by one, on any machine and in any process."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import question
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from crescent.config import BaitConfig, DiversifyConfig, Embedder
from crescent.diversify import Decision, Memory, Vectors, decide, lexical_vectors, open_embedder, rewrite_request
from crescent.errors import Missing
from crescent.records import Question

ROOT = Path(__file__).parents[1]
# Unit vectors whose cosines are -1, -0.5, 0, 0.5 or 1, exactly: every comparison is full of ties.
TIES = [*np.eye(4), *-np.eye(4), *(np.array(signs) / 2 for signs in product((-1, 1), repeat=4))]


def questions(number: int) -> list[Question]:
    return [question(f"question {index}", index) for index in range(number)]


def as_vectors(rows: Sequence[Any]) -> Vectors:
    return np.asarray(rows, dtype=np.float32).reshape(len(rows), -1)


def in_blocks(vectors: Vectors, ends: Sequence[int], threshold: float) -> list[Decision]:
    memory, candidates = Memory(), questions(len(vectors))
    bounds = sorted({0, *(end % len(vectors) for end in ends), len(vectors)})
    decisions = []
    for start, end in pairwise(bounds):
        decisions += decide(candidates[start:end], vectors[start:end], memory, threshold)
    return decisions


def one_by_one(vectors: Vectors, threshold: float) -> list[tuple[bool, int | None, float | None]]:
    """The rule, slowly: accepted, index of the nearest earlier accepted one (the earliest of several), cosine."""
    accepted: list[int] = []
    decisions: list[tuple[bool, int | None, float | None]] = []
    for row, vector in enumerate(vectors.astype(float).tolist()):
        nearest, largest = None, -2.0
        for other in accepted:
            cosine = sum(a * b for a, b in zip(vector, vectors[other].astype(float).tolist(), strict=True))
            if cosine > largest:
                nearest, largest = other, cosine
        keep = nearest is None or largest < threshold - 1e-6
        accepted += [row] if keep else []
        decisions.append((keep, nearest, None if nearest is None else largest))
    return decisions


@given(
    st.lists(st.sampled_from(TIES), min_size=1, max_size=40),
    st.lists(st.integers(0, 39), max_size=8),
    st.sampled_from([0.3, 0.5, 0.7, 1.0]),
)
def test_blocks_decide_as_one_by_one_would_ties_included(rows: list[Any], ends: list[int], threshold: float) -> None:
    vectors = as_vectors(rows)
    found = [
        (its.accepted, its.neighbour.index if its.neighbour else None, its.similarity)
        for its in in_blocks(vectors, ends, threshold)
    ]
    assert found == one_by_one(vectors, threshold)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.lists(st.integers(0, 79), max_size=8), st.floats(0.3, 0.999))
def test_blocks_decide_as_one_by_one_would_on_random_vectors(
    seed: int, dimensions: int, ends: list[int], threshold: float
) -> None:
    drawn = np.random.default_rng(seed).normal(size=(80, dimensions))
    vectors = as_vectors(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))
    assume((np.abs(vectors @ vectors.T - threshold) > 1e-5).all())  # what rounding decides, nobody can predict
    found = in_blocks(vectors, ends, threshold)
    expected = one_by_one(vectors, threshold)
    assert [its.accepted for its in found] == [accepted for accepted, _, _ in expected]
    assert [its.similarity for its in found[1:]] == pytest.approx([cosine for _, _, cosine in expected[1:]], abs=1e-5)


@pytest.mark.parametrize("block", [2, 7, 32, 400])
def test_the_neighbour_does_not_depend_on_how_sums_are_rounded(block: int) -> None:
    """Sums are often equally far from several others, and a matrix product rounds by the size of its block."""
    rng = np.random.default_rng(0)
    texts = [f"What is {a} + {b}?" for a, b in rng.integers(0, 40, size=(400, 2))]
    vectors = lexical_vectors(texts)
    alone, blocks = (in_blocks(vectors, range(0, 400, size), 0.95) for size in (1, block))
    assert [its.neighbour for its in alone] == [its.neighbour for its in blocks]
    assert [its.accepted for its in alone] == [its.accepted for its in blocks]


def test_two_questions_at_the_threshold_are_near_duplicates() -> None:
    vectors = as_vectors([[1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5]])
    assert [its.accepted for its in in_blocks(vectors, [], 0.5)] == [True, False]
    assert [its.accepted for its in in_blocks(vectors, [], 0.51)] == [True, True]


def test_the_first_question_has_no_neighbour() -> None:
    first, second = in_blocks(as_vectors([[1, 0], [0, 1]]), [], 0.9)
    assert first == Decision(accepted=True, neighbour=None, similarity=None)
    assert second.neighbour == questions(1)[0]
    assert second.similarity == 0


@given(st.lists(st.text(max_size=60), min_size=1, max_size=12))
def test_at_threshold_one_exact_repeats_are_dropped(texts: list[str]) -> None:
    vectors = lexical_vectors([*texts, *texts])
    decisions = in_blocks(vectors, [len(texts)], 1.0)
    assert decisions[0].accepted
    assert not any(its.accepted for its in decisions[len(texts) :])


def test_questions_of_earlier_rounds_count() -> None:
    memory = Memory()
    earlier = question("old", 5, round_number=1)
    memory.add(earlier, as_vectors([[0, 1, 0]])[0])
    new = [question("repeat", 0, 2), question("new", 1, 2)]
    repeat, fresh = decide(new, as_vectors([[0, 1, 0], [1, 0, 0]]), memory, 0.9)
    assert repeat == Decision(accepted=False, neighbour=earlier, similarity=1.0)
    assert fresh.accepted
    assert memory.questions == [earlier, new[1]]


def test_memory_grows_and_forgets_nothing() -> None:
    memory = Memory()
    vectors = as_vectors(np.random.default_rng(0).normal(size=(1100, 3)))
    for index, vector in enumerate(vectors):
        memory.add(question(f"{index}", index), vector)
        assert len(memory) == index + 1
    assert np.array_equal(memory.vectors, vectors)
    assert [its.index for its in memory.questions] == list(range(1100))


def test_no_candidates_need_no_decisions() -> None:
    assert decide([], np.zeros((0, 3), np.float32), Memory(), 0.9) == []


@given(st.lists(st.text(max_size=80), min_size=1, max_size=8))
def test_lexical_vectors_have_length_one_and_stand_alone(texts: list[str]) -> None:
    vectors = lexical_vectors(texts)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)
    for text, vector in zip(texts, vectors, strict=True):
        assert np.array_equal(vector, lexical_vectors([text])[0])


def test_lexical_vectors_are_the_same_in_every_process() -> None:
    text = "Wie viele Äpfel hat 花子 bei 3/4?"
    code = f"from crescent.diversify import *; print(lexical_vectors([{text!r}]).tobytes().hex())"
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True
        )
        assert run.stdout.decode().strip() == lexical_vectors([text]).tobytes().hex()


def test_lexical_vectors_see_wording() -> None:
    base, near, far = lexical_vectors(
        ["Ann has 3 apples and buys 4 more.", "ann has 3 apples  and buys 5 more.", "Find the roots of x^2 - 5x + 6."]
    )
    assert base @ near > 0.9
    assert base @ far < 0.3


def test_the_lexical_embedder_is_opened_by_name() -> None:
    with open_embedder(DiversifyConfig(embedder=Embedder.lexical)) as embed:
        assert np.array_equal(embed(["1 + 1"]), lexical_vectors(["1 + 1"]))


def test_a_template_field_inside_a_question_stays_text() -> None:
    hostile = question("Is {neighbour} {question} {0} {x!r} } { 100% a set?", 3)
    other = question("What is {question}?", 1)
    cfg = DiversifyConfig(rewrite_prompt="A {question} B {neighbour} C")
    request = rewrite_request(hostile, other, cfg, BaitConfig(), 1, 0)
    assert request.prompt == f"A {hostile.text} B {other.text} C"


def test_each_rewrite_is_a_request_of_its_own() -> None:
    cfg, bait, other = DiversifyConfig(), BaitConfig(max_tokens=64, stop=["="]), question("other", 9)
    tries = [Question("q", "same", 1, index, "b", 0, rewrites) for index in range(3) for rewrites in range(3)]
    asked = [rewrite_request(its, other, cfg, bait, number, run_seed=0) for its in tries for number in (1, 2)]
    assert len({request.seed for request in asked}) == len(asked)
    assert len({request.key for request in asked}) == len(tries)
    assert {(request.max_tokens, request.stop) for request in asked} == {(64, ("=",))}  # as long as a first question


MINILM = """
import json, sys
from crescent.config import DiversifyConfig
from crescent.diversify import open_embedder
with open_embedder(DiversifyConfig()) as embed:
    vectors = embed(json.load(sys.stdin))
loaded = [name for name in ("torch", "transformers") if name in sys.modules]
print(json.dumps({"vectors": vectors.tolist(), "loaded": loaded}))
"""


@pytest.mark.real
def test_minilm_sees_meaning_from_another_process() -> None:
    texts = [
        "Tom has 3 apples and buys 4 more. How many apples does he have now?",
        "Tom owns three apples. He buys four additional apples. How many apples has he got?",
        "What is the area of a circle whose radius is 5 centimetres?",
    ]
    run = subprocess.run(
        [sys.executable, "-c", MINILM], cwd=ROOT, input=json.dumps(texts).encode(), capture_output=True
    )
    assert run.returncode == 0, run.stderr.decode()
    found = json.loads(run.stdout)
    assert found["loaded"] == []
    vectors = np.array(found["vectors"])
    assert vectors.shape == (3, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert vectors[0] @ vectors[1] > 0.85
    assert vectors[0] @ vectors[2] < 0.4


@pytest.mark.real
def test_a_missing_embedding_model_is_named_with_the_way_out(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    with (
        open_embedder(DiversifyConfig(path=nowhere)) as embed,
        pytest.raises(Missing, match=r"nowhere.*diversify\.path.*lexical"),
    ):
        embed(["1 + 1"])
