"""General instructions that the base writes and answers itself, so that a child trained on them forgets less.

Nothing from outside comes in here either: the bait prompt asks for requests instead of problems, and there is no vote.
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace

from crescent.config import ReplayConfig
from crescent.engine.client import Engine
from crescent.models.embedders import Embed
from crescent.records import Completion, Pair, Request, digest, request_seed
from crescent.synthesis.bait import read_question
from crescent.synthesis.chatter import CHAT_TOKEN
from crescent.synthesis.diversify import Memory, Neighbour

MIN_CHARACTERS = 8
ANSWER_TEMPERATURE = 0.7
"""The child shall keep how the base usually speaks. Greedy text is not that, and in small models repeats itself."""

# A line that announces the instruction, then a label in front of it. Possessive and bounded: the scan stays linear.
PREAMBLE = re.compile(r"^(?:sure|certainly|of course|okay|here)\b[^\n:]{0,100}+:\s*+", re.I)
LABEL = re.compile(
    r"^(?:#++\s*+)?(\*++)?+\s*+(?:user\s++)?(?:request|instruction|prompt|message)\s*+(?(1)(?:\1\s*+:|:\s*+\1)|:)\s*+",
    re.I,
)


async def write_instructions(
    engine: Engine, embed: Embed, cfg: ReplayConfig, count: int, run_seed: int, threshold: float = 0.85
) -> list[Pair]:
    """Ask for so many instructions, then for an answer to each that is usable and not like an earlier one.

    Fewer come back than were asked for, or none: a run can do without. The outcome does not depend on timing:
    instructions are compared in the order they were asked for, once all are there.

    Args:
        threshold: Cosine from which two instructions are near-duplicates.
    """
    asked = [instruction_request(index, cfg, run_seed) for index in range(count)]
    written = map(read_instruction, await _complete_all(engine, asked))
    usable = [(index, text) for index, text in enumerate(written) if text is not None]
    if not usable:
        return []
    instructions = await asyncio.to_thread(different, usable, embed, threshold)
    answers = await _complete_all(engine, [answer_request(index, text, cfg, run_seed) for index, text in instructions])
    return [
        pair_of(index, text, answer)
        for (index, text), answer in zip(instructions, answers, strict=True)
        if is_whole(answer)
    ]


def instruction_request(index: int, cfg: ReplayConfig, run_seed: int) -> Request:
    """The request behind instruction `index`."""
    return Request(
        key=f"replay/question/{index}",
        prompt=cfg.prompt,
        temperature=cfg.temperature,
        max_tokens=cfg.max_tokens,
        seed=request_seed(run_seed, "replay", "question", index),
    )


def answer_request(index: int, instruction: str, cfg: ReplayConfig, run_seed: int) -> Request:
    """The request behind the answer to instruction `index`: the instruction alone, as a person would send it."""
    return Request(
        key=f"replay/answer/{index}",
        prompt=instruction,
        temperature=ANSWER_TEMPERATURE,
        max_tokens=cfg.max_tokens,
        seed=request_seed(run_seed, "replay", "answer", index),
    )


def read_instruction(completion: Completion) -> str | None:
    """The instruction a completion contains, without label and quotes; `None` as for a question (`read_question`)."""
    text = read_question(completion, MIN_CHARACTERS)
    if text is None:
        return None
    bare = LABEL.sub("", PREAMBLE.sub("", text, count=1), count=1)
    return read_question(replace(completion, text=bare), MIN_CHARACTERS)


def is_whole(answer: Completion) -> bool:
    """Whether an answer ended by itself, says something, and spells out no token of a chat template."""
    return answer.finish_reason == "stop" and bool(answer.text.strip()) and not CHAT_TOKEN.search(answer.text)


def different(instructions: Sequence[tuple[int, str]], embed: Embed, threshold: float) -> list[tuple[int, str]]:
    """Those less alike than `threshold` to all that were kept before them."""
    memory = Memory()
    kept = []
    vectors = embed([text for _, text in instructions])
    for (index, text), vector in zip(instructions, vectors, strict=True):
        _, (cosine,) = memory.nearest(vector[None])
        if cosine < threshold:
            memory.add(Neighbour(str(index), text), vector)
            kept.append((index, text))
    return kept


def pair_of(index: int, instruction: str, answer: Completion) -> Pair:
    """No round made it and no vote stands behind it."""
    question = digest(instruction)
    return Pair(
        id=digest(question, index, instruction),
        question=question,
        round=0,
        prompt=instruction,
        completion=answer.text,
        final="",
        agreement=0.0,
        source="replay",
    )


async def _complete_all(engine: Engine, requests: Sequence[Request]) -> list[Completion]:
    """In the order of the requests; when one fails, the others are not asked any more."""
    async with asyncio.TaskGroup() as tasks:
        completing = [tasks.create_task(engine.complete(request)) for request in requests]
    return [task.result() for task in completing]
