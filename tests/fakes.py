"""A model that invents sums and adds them up, and an engine that answers in random order.

The model's questions look like `What is 3 + 4?`. Two of them are near-duplicates if they begin with the same number, so
the reader of a test can see which ones are.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from crescent.config import AnswerStyle
from crescent.engine.client import EngineDied
from crescent.models.embedders import Vectors
from crescent.records import Answer, Completion, Pair, Question, Request
from crescent.tasks.answers import extract_final, extract_marked

FIRST_NUMBERS = 64

Say = Callable[[Request], Completion]


def stop(text: str) -> Completion:
    """A completion that the model ended by itself."""
    return Completion(text, "stop", tokens=len(text.split()))


def cut(text: str) -> Completion:
    """A completion that was cut at `max_tokens`."""
    return Completion(text, "length", tokens=len(text.split()))


def question(text: str, index: int = 0, round_number: int = 1) -> Question:
    return Question(f"q{round_number}-{index}", text, round_number, index, bait="paper", seed=0)


def answers(asked: Question, *finals: str | None) -> list[Answer]:
    """One answer for each final answer, which its text contains."""
    return [
        Answer(asked.id, sample, sample, f"It is {final}.", final, "stop", tokens=3)
        for sample, final in enumerate(finals)
    ]


def say_sums(request: Request) -> Completion:
    """The model's completion, which depends only on the request. Some completions are unusable, silent or wrong."""
    dice = random.Random(f"{request.seed}/{request.prompt}")
    first, second = dice.randrange(8), dice.randrange(4)
    match request.key.split("/")[0], dice.randrange(8):
        case (("question" | "rewrite"), 0):
            return dice.choice((stop(""), cut(f"What is {first} + {second} +")))
        case "question", _:
            return stop(f"What is {first} + {second}?")
        case "rewrite", _:
            return stop(f"What is {first + dice.randrange(4)} + {second}?")
        case _, 0:
            return dice.choice((stop("I would rather not say."), cut("Let me see: 1, 2, 3,")))
    _, _, a, _, b = request.prompt.rstrip("?").split()
    return stop(f"#### {int(a) + int(b) + dice.choice((0, 0, 0, 1, 2))}")


def by_first_number(texts: Sequence[str]) -> Vectors:
    """An embedder in which each first number has its own direction, so a cosine is 1 or 0."""
    vectors = np.zeros((len(texts), FIRST_NUMBERS), dtype=np.float32)
    for row, text in enumerate(texts):
        vectors[row, int(text.split()[2])] = 1
    return vectors


class BySpelling:
    """A task whose final answer is the last number. Two answers are the same only if their strings are equal."""

    undecided = 0

    def accepts(self, question: str) -> bool:
        return True

    def read(self, text: str, inputs: Sequence[str] = ()) -> str | None:
        return extract_final(text, AnswerStyle.number)

    def read_cut(self, text: str) -> str | None:
        return extract_marked(text, AnswerStyle.number)

    def correct(self, final: str, target: str) -> bool:
        return final == target

    def classes(self, finals: Sequence[str | None]) -> tuple[int, ...]:
        seen: list[str | None] = list(dict.fromkeys(final for final in finals if final is not None))
        return tuple(-1 if final is None else seen.index(final) for final in finals)


class ShufflingEngine:
    """Answers each request with `say`, after a random number of turns of the event loop."""

    def __init__(self, say: Say, order: int = 0, concurrency: int = 256, dies_at: int | None = None) -> None:
        """`order` seeds the random order. From request number `dies_at` on, counted from 1, the engine is dead."""
        self.say = say
        self.dice = random.Random(order)
        self.free = asyncio.Semaphore(concurrency)
        self.dies_at = dies_at
        self.asked = 0
        self.answered: Counter[str] = Counter()

    async def complete(self, request: Request) -> Completion:
        async with self.free:
            for _ in range(self.dice.randrange(8)):
                await asyncio.sleep(0)
            self.asked += 1
            if self.dies_at is not None and self.asked >= self.dies_at:
                raise EngineDied(f"at request {self.asked}")
            self.answered[request.key] += 1
            return self.say(request)


def some_pairs(count: int) -> list[Pair]:
    """Pairs of sums and right answers, of different lengths."""
    return [
        Pair(
            str(n),
            f"q{n}",
            1,
            f"What is {n} plus {n + 1}?",
            "Let us add. " * (1 + n % 3) + f"#### {2 * n + 1}",
            str(2 * n + 1),
            1.0,
        )
        for n in range(count)
    ]
