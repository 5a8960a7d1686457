"""The base writes and answers general instructions; nothing unusable or repeated gets into the training data."""

import asyncio
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from fakes import ShufflingEngine, cut, stop

from crescent.config import ReplayConfig
from crescent.models.embedders import Vectors, lexical_vectors
from crescent.records import Completion, Pair, Request
from crescent.synthesis.replay import (
    ANSWER_TEMPERATURE,
    read_instruction,
    without_near_duplicates,
    write_instructions,
)

THINGS = ("a haiku about fog", "three names for a ferry", "how bread rises", "a toast for a retiring clockmaker")
CFG = ReplayConfig(prompt="Ask me something.", max_tokens=99, temperature=1.2)


def index_of(request: Request) -> int:
    return int(request.key.rsplit("/", 1)[1])


def say_instructions(request: Request) -> Completion:
    """Every sixth instruction and every fifth answer is unusable; some instructions come twice."""
    index = index_of(request)
    if request.key.startswith("replay/question/"):
        return cut("Write a") if index % 6 == 5 else stop(f'"Number {index // 2}: tell me {THINGS[index % 4]}."')
    return cut("Well,") if index % 5 == 4 else stop(f"Here you are ({request.seed}): {request.prompt}")


def write(say: Callable[[Request], Completion], count: int = 40, order: int = 0, threshold: float = 0.97) -> list[Pair]:
    engine = ShufflingEngine(say, order)
    return asyncio.run(write_instructions(engine, lexical_vectors, CFG, count, 7, threshold))


def test_instructions_become_pairs_that_no_round_made() -> None:
    pairs = write(say_instructions)
    assert len(pairs) > 10
    assert {(pair.source, pair.round, pair.final, pair.agreement) for pair in pairs} == {("replay", 0, "", 0.0)}
    assert all(pair.completion.endswith(pair.prompt) for pair in pairs)
    assert all(pair.prompt.startswith("Number") for pair in pairs)
    assert len({pair.id for pair in pairs}) == len({pair.question for pair in pairs}) == len(pairs)


def test_the_outcome_does_not_depend_on_which_request_is_answered_first() -> None:
    first, *others = (write(say_instructions, order=order) for order in range(5))
    assert all(other == first for other in others)


def test_each_request_is_asked_once_with_its_own_seed() -> None:
    seen: list[Request] = []

    def say(request: Request) -> Completion:
        seen.append(request)
        return say_instructions(request)

    pairs = write(say)
    asked = [request for request in seen if request.key.startswith("replay/question/")]
    answered = [request for request in seen if request.key.startswith("replay/answer/")]
    assert {request.key for request in asked} == {f"replay/question/{index}" for index in range(40)}
    assert len({request.seed for request in seen}) == len({request.key for request in seen}) == len(seen)
    assert {(request.prompt, request.temperature, request.max_tokens) for request in asked} == {
        ("Ask me something.", 1.2, 99)
    }
    assert {(request.temperature, request.max_tokens) for request in answered} == {(ANSWER_TEMPERATURE, 99)}
    assert {pair.prompt for pair in pairs} <= {request.prompt for request in answered}


def test_of_near_duplicates_the_first_one_requested_stays() -> None:
    written = ["Tell me a story about a fox.", "Tell me a story about a fox!", "Name a river."]

    def say(request: Request) -> Completion:
        return stop("Well." if request.key.startswith("replay/answer/") else written[index_of(request)])

    assert [pair.prompt for pair in write(say, 3, threshold=0.7)] == [written[0], written[2]]
    assert len(write(say, 3, threshold=1.0)) == 3


def test_equal_instructions_are_answered_once_even_at_a_threshold_of_one() -> None:
    pairs = write(lambda request: stop("Tell me a story about a fox."), 20, threshold=1.0)
    assert len(pairs) == 1


@pytest.mark.parametrize(
    "unusable",
    [
        cut("Tell me a story about"),
        Completion("too long", "error", 0),
        stop(""),
        stop("  \n"),
        stop("Hi <|im_end|> you"),
    ],
    ids=lambda completion: completion.text,
)
def test_when_nothing_is_usable_there_is_nothing_to_replay(unusable: Completion) -> None:
    def only_answers(request: Request) -> Completion:
        return unusable if request.key.startswith("replay/answer/") else stop("Tell me a story about a fox.")

    assert write(lambda request: unusable) == []
    assert write(only_answers) == []
    assert write(say_instructions, count=0) == []


@pytest.mark.parametrize(
    "wrapped",
    [
        '"Tell me a story."',
        "Request: Tell me a story.",
        "**Request:** Tell me a story.",
        '**User request**: "Tell me a story."',
        "Sure! Here is a request:\n\nTell me a story.",
        'Here\'s one request a person might send: "Tell me a story."',
        "  Tell me a story.\n\n",
    ],
)
def test_what_surrounds_an_instruction_is_removed(wrapped: str) -> None:
    assert read_instruction(stop(wrapped)) == "Tell me a story."


@pytest.mark.parametrize(
    "kept",
    [
        "Here in Oslo it rains; what can I do today?",
        "Translate this into French: the boat is late.",
        'Explain the difference between "its" and "it\'s".',
        "Write a message: short, kind, on time.",
        "Surely you know this: who wrote it?",
    ],
)
def test_an_instruction_stays_as_it_was_written(kept: str) -> None:
    assert read_instruction(stop(kept)) == kept


def test_a_text_that_is_too_short_without_its_label_is_no_instruction() -> None:
    assert read_instruction(stop("Request: Hi.")) is None


def test_hostile_text_is_read_in_linear_time() -> None:
    """In quadratic time each of these would run into the time limit of the test."""
    for text in ("*" * 1_000_000, "request " * 100_000, "#" * 500_000 + " " * 500_000, "here " * 200_000):
        read_instruction(stop(text))


def test_instructions_are_compared_with_kept_ones_only() -> None:
    def embed(texts: Sequence[str]) -> Vectors:
        angles = np.radians([float(text) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    written = list(enumerate(["0", "20", "40", "60", "0"]))
    # 20 degrees are too near to 0 and dropped, so they do not exclude 40.
    assert without_near_duplicates(written, embed, threshold=float(np.cos(np.radians(30)))) == [(0, "0"), (2, "40")]
