"""Self-deduplication: blocks decide like one candidate after another, on any machine and in any process."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from fakes import question
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.recorded import FOLDER, read_recording
from crescent.config import BaitConfig, DiversifyConfig, Recheck
from crescent.models.embedders import Vectors, lexical_vectors
from crescent.records import Question
from crescent.synthesis.diversify import (
    ROWS,
    Decision,
    Memory,
    Neighbour,
    accept_unchecked,
    decide,
    decide_released,
    rewrite_request,
)

# Unit vectors whose cosines are -1, -0.5, 0, 0.5 or 1, exactly: every comparison is full of ties.
TIES = [*np.eye(4), *-np.eye(4), *(np.array(signs) / 2 for signs in product((-1, 1), repeat=4))]


def questions(number: int) -> list[Question]:
    return [question(f"question {index}", index) for index in range(number)]


def as_vectors(rows: Sequence[Any]) -> Vectors:
    return np.asarray(rows, dtype=np.float32).reshape(len(rows), -1)


def random_vectors(seed: int, number: int, dimensions: int) -> Vectors:
    """Of length one, on a grid so coarse that their products have no rounding in whatever order they are summed."""
    drawn = np.random.default_rng(seed).normal(size=(number, dimensions))
    return as_vectors(np.round(drawn / np.linalg.norm(drawn, axis=1, keepdims=True) * 1024) / 1024)


def in_blocks(
    vectors: Vectors,
    ends: Sequence[int],
    threshold: float,
    rule: Callable[..., list[Decision]] = decide,
    memory: Memory | None = None,
    **settings: Any,
) -> list[Decision]:
    memory, candidates = memory or Memory(), questions(len(vectors))
    cfg = DiversifyConfig(threshold=threshold, **{"max_rewrites": 0, **settings})
    bounds = sorted({0, *(end % len(vectors) for end in ends), len(vectors)})
    decisions = []
    for start, end in pairwise(bounds):
        decisions += rule(candidates[start:end], vectors[start:end], memory, cfg)
    return decisions


def cosine(vector: Vectors, other: Vectors) -> float:
    return round(sum(a * b for a, b in zip(vector.tolist(), other.tolist(), strict=True)), 6)


Plain = tuple[str, str | None, float | None]
"""Action, id of the nearest earlier accepted one (the earliest of several), cosine."""


def plain(decisions: Sequence[Decision]) -> list[Plain]:
    return [
        (decision.action, decision.neighbour.id if decision.neighbour else None, decision.similarity)
        for decision in decisions
    ]


def one_by_one(vectors: Vectors, threshold: float) -> list[Plain]:
    """The rule written out: one comparison after another."""
    accepted: list[int] = []
    decisions: list[Plain] = []
    for row, vector in enumerate(vectors):
        nearest, largest = None, None
        for other in accepted:
            similarity = cosine(vector, vectors[other])
            if largest is None or similarity > largest:
                nearest, largest = other, similarity
        keep = largest is None or largest < threshold
        accepted += [row] if keep else []
        decisions.append(("accept" if keep else "drop", None if nearest is None else f"q1-{nearest}", largest))
    return decisions


@given(
    st.lists(st.sampled_from(TIES), min_size=1, max_size=40),
    st.lists(st.integers(0, 39), max_size=8),
    st.sampled_from([0.3, 0.5, 0.7, 1.0]),
)
def test_blocks_decide_as_one_by_one_would_ties_included(rows: list[Any], ends: list[int], threshold: float) -> None:
    vectors = as_vectors(rows)
    assert plain(in_blocks(vectors, ends, threshold)) == one_by_one(vectors, threshold)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.lists(st.integers(0, 79), max_size=8), st.floats(0.3, 0.999))
def test_blocks_decide_as_one_by_one_would_on_random_vectors(
    seed: int, dimensions: int, ends: list[int], threshold: float
) -> None:
    vectors = random_vectors(seed, 80, dimensions)
    assert plain(in_blocks(vectors, ends, threshold)) == one_by_one(vectors, threshold)


def word_problems(seed: int, number: int) -> list[str]:
    """Problems from four plots and few names and numbers: many are near to each other, some are equal."""
    rng = np.random.default_rng(seed)
    plots = (
        "{a} has {n} {thing} and buys {m} more. How many {thing} does {a} have now?",
        "A box holds {n} {thing}. {a} fills {m} boxes and gives one to {b}. How many {thing} are left for {a}?",
        "{a} and {b} share {n} {thing} equally. {b} loses {m} of hers. How many does each of them have in the end?",
        "A train with {n} {thing} leaves at {m} o'clock. {a} and {b} wait. When does it arrive if it takes {m} hours?",
    )
    names, things = ("Mia", "Omar", "Lena", "Tomás"), ("apples", "marbles", "stickers")

    def problem() -> str:
        first, second = rng.choice(names, size=2, replace=False)
        n, m = rng.integers(2, 30, size=2)
        return str(rng.choice(plots)).format(a=first, b=second, n=n, m=m, thing=rng.choice(things))

    return [problem() for _ in range(number)]


@pytest.mark.parametrize("threshold", [0.6, 0.8, 0.97])
def test_blocks_decide_as_one_by_one_would_on_word_problems(threshold: float) -> None:
    vectors = lexical_vectors(word_problems(0, 250))
    found = plain(in_blocks(vectors, range(0, 250, 32), threshold))
    assert found == one_by_one(vectors, threshold)
    assert {action for action, _, _ in found} == {"accept", "drop"}


@pytest.mark.parametrize("threshold", [0.6, 0.97])
def test_blocks_decide_as_one_by_one_would_on_what_a_real_model_invented(threshold: float) -> None:
    texts: list[str] = []
    for recording in ("words", "arithmetic"):
        rows = read_recording(FOLDER / f"{recording}.jsonl.gz").rows()
        texts += [row.text for row in rows if row.kind in ("question", "rewrite")][:120]
    vectors = lexical_vectors(texts)
    found = plain(in_blocks(vectors, range(0, len(texts), 32), threshold))
    assert found == one_by_one(vectors, threshold)
    assert {action for action, _, _ in found} == {"accept", "drop"}


@pytest.mark.parametrize("block", [2, 7, 32, 400])
def test_the_neighbour_does_not_depend_on_how_sums_are_rounded(block: int) -> None:
    """A sum is often equally far from several others, and a matrix product is rounded depending on its block size."""
    rng = np.random.default_rng(0)
    vectors = lexical_vectors([f"What is {a} + {b}?" for a, b in rng.integers(0, 40, size=(400, 2))])
    assert in_blocks(vectors, range(0, 400, block), 0.95) == in_blocks(vectors, range(400), 0.95)


def test_the_earliest_of_equally_near_questions_is_the_neighbour_across_pieces_of_memory() -> None:
    memory = Memory()
    # The last one is nearer only in decimals that are not compared.
    near = {7: 0.8, ROWS + 3: 0.8, 2 * ROWS + 5: 0.8000002}
    for index in range(2 * ROWS + 10):
        memory.add(Neighbour(str(index), ""), as_vectors([[near.get(index, 0.1), 0]])[0])
    indices, largest = memory.nearest(as_vectors([[1, 0], [0, 1]]))
    assert indices.tolist() == [7, 0]
    assert largest.tolist() == [0.8, 0.0]


def test_two_questions_at_the_threshold_are_near_duplicates() -> None:
    vectors = as_vectors([[1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5]])
    assert [decision.action for decision in in_blocks(vectors, [], 0.5)] == ["accept", "drop"]
    assert [decision.action for decision in in_blocks(vectors, [], 0.51)] == ["accept", "accept"]


def test_a_near_duplicate_is_rewritten_up_to_the_limit() -> None:
    vectors = as_vectors([[1, 0]] * 4)
    tried = [replace(candidate, rewrites=candidate.index) for candidate in questions(4)]
    decisions = decide(tried, vectors, Memory(), DiversifyConfig(max_rewrites=2))
    assert [decision.action for decision in decisions] == ["accept", "rewrite", "drop", "drop"]


def test_the_first_question_has_no_neighbour() -> None:
    first, second = in_blocks(as_vectors([[1, 0], [0, 1]]), [], 0.9)
    assert first == Decision("accept", neighbour=None, similarity=None)
    assert second == Decision("accept", Neighbour("q1-0", "question 0"), 0.0)


@given(st.lists(st.text(max_size=60), min_size=1, max_size=12))
def test_at_threshold_one_exact_repeats_are_dropped(texts: list[str]) -> None:
    vectors = lexical_vectors([*texts, *texts])
    decisions = in_blocks(vectors, [len(texts)], 1.0)
    assert decisions[0].action == "accept"
    assert {decision.action for decision in decisions[len(texts) :]} == {"drop"}


def test_questions_of_earlier_rounds_count() -> None:
    memory = Memory()
    earlier = question("old", 5, round_number=1)
    memory.add(earlier, as_vectors([[0, 1, 0]])[0])
    new = [question("repeat", 0, 2), question("new", 1, 2)]
    repeat, fresh = decide(new, as_vectors([[0, 1, 0], [1, 0, 0]]), memory, DiversifyConfig())
    assert repeat == Decision("rewrite", Neighbour(earlier.id, "old"), 1.0)
    assert fresh.action == "accept"
    assert [memory.neighbour(index) for index in range(len(memory))] == [
        Neighbour(earlier.id, "old"),
        Neighbour(new[1].id, "new"),
    ]


@given(st.lists(st.tuples(st.text(), st.text(st.characters(codec=None), max_size=300)), max_size=5))
def test_memory_returns_what_was_added(kept: list[tuple[str, str]]) -> None:
    memory = Memory()
    for neighbour in kept:
        memory.add(Neighbour(*neighbour), as_vectors([[1, 0]])[0])
    assert [memory.neighbour(index) for index in range(len(memory))] == [Neighbour(*neighbour) for neighbour in kept]


def test_memory_grows_and_keeps_earlier_vectors() -> None:
    memory = Memory()
    vectors = random_vectors(0, 2 * ROWS + 100, 3)
    for index, vector in enumerate(vectors):
        memory.add(Neighbour(str(index), ""), vector)
        if index == 0:
            first = memory.vectors([0]).copy()
        assert len(memory) == index + 1
    assert np.array_equal(memory.vectors([0]), first)
    order = np.random.default_rng(1).permutation(len(vectors))
    assert np.array_equal(memory.vectors(order), vectors[order])
    assert memory.vectors([]).shape[0] == 0
    asked = vectors[order[:50]]
    indices, largest = memory.nearest(asked)
    assert [cosine(*pair) for pair in zip(memory.vectors(indices), asked, strict=True)] == largest.tolist()


def test_no_candidates_need_no_decisions() -> None:
    memory, nothing = Memory(), np.zeros((0, 0), np.float32)
    memory.add(question("1 + 1"), as_vectors([[1, 0]])[0])
    for rule in (decide, decide_released):
        assert rule([], nothing, memory, DiversifyConfig()) == []
        assert rule([], nothing, Memory(), DiversifyConfig()) == []
    assert accept_unchecked([], nothing, memory) == []


def released_one_by_one(vectors: Vectors, memory: Vectors, threshold: float, limit: float) -> list[str]:
    kept: list[Vectors] = []
    actions = []
    for vector in vectors:
        if any(cosine(vector, other) >= threshold for other in kept):
            actions.append("drop")
            continue
        kept.append(vector)
        actions.append("rewrite" if any(cosine(vector, other) > limit for other in memory) else "accept")
    return actions


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(0, 30), st.floats(0.2, 0.99), st.floats(0.2, 0.99))
def test_the_released_rule_has_one_threshold_in_the_batch_and_one_against_the_history(
    seed: int, batch: int, earlier: int, threshold: float, limit: float
) -> None:
    vectors = random_vectors(seed, batch + earlier, 4)
    memory = Memory()
    for index in range(earlier):
        memory.add(Neighbour(f"old-{index}", ""), vectors[index])
    cfg = DiversifyConfig(threshold=threshold, history_threshold=limit, recheck=Recheck.never)
    decisions = decide_released(questions(batch), vectors[earlier:], memory, cfg)
    actions = [decision.action for decision in decisions]
    assert actions == released_one_by_one(vectors[earlier:], vectors[:earlier], threshold, limit)
    accepted = [f"q1-{index}" for index, action in enumerate(actions) if action == "accept"]
    assert [memory.neighbour(index).id for index in range(earlier, len(memory))] == accepted


def test_the_released_rule_records_the_near_question() -> None:
    memory, old = Memory(), Neighbour("old", "1 + 1")
    memory.add(old, as_vectors([[1, 0, 0]])[0])
    near, far, repeat = as_vectors([[0.9, np.sqrt(0.19), 0], [0.6, 0, 0.8], [0.6, 0, 0.8]])
    cfg = DiversifyConfig(threshold=0.85, history_threshold=0.875, recheck=Recheck.never)
    asked = questions(3)
    assert decide_released(asked, np.stack([near, far, repeat]), memory, cfg) == [
        Decision("rewrite", old, 0.9),
        Decision("accept", old, 0.6),
        Decision("drop", Neighbour(asked[1].id, asked[1].text), 1.0),
    ]


def test_a_batch_that_waits_for_its_rewrite_still_drops_what_repeats_it() -> None:
    memory = Memory()
    memory.add(Neighbour("old", ""), as_vectors([[1, 0]])[0])
    cfg = DiversifyConfig(recheck=Recheck.never)
    decisions = decide_released(questions(2), as_vectors([[1, 0], [1, 0]]), memory, cfg)
    assert [decision.action for decision in decisions] == ["rewrite", "drop"]
    assert len(memory) == 1


def test_an_unchecked_rewrite_enters_memory_even_when_it_repeats_its_neighbour() -> None:
    memory, vector = Memory(), as_vectors([[1, 0]])
    memory.add(Neighbour("old", "1 + 1"), vector[0])
    assert accept_unchecked(questions(1), vector, memory) == [Decision("accept", Neighbour("old", "1 + 1"), 1.0)]
    assert memory.neighbour(1) == Neighbour("q1-0", "question 0")


def test_a_template_field_inside_a_question_stays_text() -> None:
    hostile = question("Is {neighbour} {question} {0} {x!r} } { 100% a set?", 3)
    other = question("What is {question}?", 1)
    cfg = DiversifyConfig(rewrite_prompt="A {question} B {neighbour} C")
    request = rewrite_request(hostile, other, cfg, BaitConfig(), 1, 0)
    assert request.prompt == f"A {hostile.text} B {other.text} C"


def test_each_rewrite_is_a_different_request() -> None:
    cfg, bait, other = DiversifyConfig(), BaitConfig(max_tokens=64, stop=["="]), question("other", 9)
    tries = [Question("q", "same", 1, index, "b", 0, rewrites) for index in range(3) for rewrites in range(3)]
    asked = [
        rewrite_request(candidate, other, cfg, bait, number, run_seed=0) for candidate in tries for number in (1, 2)
    ]
    assert len({request.seed for request in asked}) == len(asked)
    assert len({request.key for request in asked}) == len(tries)
    assert {(request.max_tokens, request.stop) for request in asked} == {(64, ("=",))}  # as long as a first question
