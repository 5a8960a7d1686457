"""General instructions that the base writes and answers itself, so that a child trained on them forgets less.

No outside data enters here either: the bait prompt asks for requests instead of problems, and there is no vote.
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
"""Length of the shortest instruction."""
ANSWER_TEMPERATURE = 0.7
"""Temperature of the replies: the child should keep the base's usual style, which greedy text lacks (and from small
models it repeats itself)."""

# A line that announces the instruction, then a label in front of it. Possessive and bounded: the scan stays linear.
PREAMBLE = re.compile(r"^(?:sure|certainly|of course|okay|here)\b[^\n:]{0,100}+:\s*+", re.I)
LABEL = re.compile(
    r"^(?:#++\s*+)?(\*++)?+\s*+(?:user\s++)?(?:request|instruction|prompt|message)\s*+(?(1)(?:\1\s*+:|:\s*+\1)|:)\s*+",
    re.I,
)


async def write_instructions(
    engine: Engine, embed: Embed, cfg: ReplayConfig, count: int, run_seed: int, threshold: float = 0.85
) -> list[Pair]:
    """Ask for `count` instructions, then for an answer to each one that is usable and no near-duplicate.

    Fewer pairs come back, or even none: a run can do without them. The outcome does not depend on timing, because
    instructions are compared in the order of their requests, once all have arrived.

    Args:
        threshold: Cosine from which two instructions are near-duplicates.
    """
    requests = [instruction_request(index, cfg, run_seed) for index in range(count)]
    written = map(read_instruction, await _complete_all(engine, requests))
    usable = [(index, text) for index, text in enumerate(written) if text is not None]
    if not usable:
        return []
    instructions = await asyncio.to_thread(without_near_duplicates, usable, embed, threshold)
    replies = await _complete_all(engine, [reply_request(index, text, cfg, run_seed) for index, text in instructions])
    return [
        replay_pair(index, text, reply)
        for (index, text), reply in zip(instructions, replies, strict=True)
        if is_whole(reply)
    ]


def instruction_request(index: int, cfg: ReplayConfig, run_seed: int) -> Request:
    """The request for instruction `index`."""
    return Request(
        key=f"replay/question/{index}",
        prompt=cfg.prompt,
        temperature=cfg.temperature,
        max_tokens=cfg.max_tokens,
        seed=request_seed(run_seed, "replay", "question", index),
    )


def reply_request(index: int, instruction: str, cfg: ReplayConfig, run_seed: int) -> Request:
    """The request for the reply to instruction `index`: the instruction alone, as a person would send it."""
    return Request(
        key=f"replay/answer/{index}",
        prompt=instruction,
        temperature=ANSWER_TEMPERATURE,
        max_tokens=cfg.max_tokens,
        seed=request_seed(run_seed, "replay", "answer", index),
    )


def read_instruction(completion: Completion) -> str | None:
    """The instruction in a completion, without label and quotes; `None` where `read_question` finds nothing."""
    text = read_question(completion, MIN_CHARACTERS)
    if text is None:
        return None
    bare = LABEL.sub("", PREAMBLE.sub("", text, count=1), count=1)
    return read_question(replace(completion, text=bare), MIN_CHARACTERS)


def is_whole(reply: Completion) -> bool:
    """Whether a reply ended by itself, is not empty, and contains no chat-template token."""
    return reply.finish_reason == "stop" and bool(reply.text.strip()) and not CHAT_TOKEN.search(reply.text)


def without_near_duplicates(
    instructions: Sequence[tuple[int, str]], embed: Embed, threshold: float
) -> list[tuple[int, str]]:
    """The instructions whose cosine to every earlier kept one is below `threshold`."""
    memory = Memory()
    kept = []
    vectors = embed([text for _, text in instructions])
    for (index, text), vector in zip(instructions, vectors, strict=True):
        _, (cosine,) = memory.nearest(vector[None])
        if cosine < threshold:
            memory.add(Neighbour(str(index), text), vector)
            kept.append((index, text))
    return kept


def replay_pair(index: int, instruction: str, reply: Completion) -> Pair:
    """A pair that belongs to no round (0) and has no vote behind it (agreement 0)."""
    question = digest(instruction)
    return Pair(
        id=digest(question, index, instruction),
        question=question,
        round=0,
        prompt=instruction,
        completion=reply.text,
        final="",
        agreement=0.0,
        source="replay",
    )


async def _complete_all(engine: Engine, requests: Sequence[Request]) -> list[Completion]:
    """The completions in the order of the requests; when one request fails, the others are cancelled."""
    async with asyncio.TaskGroup() as tasks:
        completing = [tasks.create_task(engine.complete(request)) for request in requests]
    return [task.result() for task in completing]
