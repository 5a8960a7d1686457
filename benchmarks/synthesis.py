"""What a round's synthesis costs the process that runs it: `python -m benchmarks synthesis`.

The engine is in the same process and answers at once, so what is counted is Crescent's own work: reading, embedding
(`lexical`), self-deduplication, votes and the journal. Each number of questions has a process of its own. Memory is the
growth of that process from before the round until its result is there, divided by the number of questions accepted.
"""

import argparse
import asyncio
import gc
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import psutil

from benchmarks import save
from benchmarks.dedup import questions
from benchmarks.tables import Row, show
from crescent.config import AnswerStyle, BaitConfig, ConsensusConfig, DiversifyConfig, TaskConfig
from crescent.engine.journal import Journal, Journaled
from crescent.models.embedders import lexical_vectors
from crescent.records import Completion, Request
from crescent.synthesis.diversify import Memory
from crescent.synthesis.stream import Synthesis, SynthesisConfig, synthesise
from crescent.tasks import open_task

WARM = 64
"""Number of questions of a round before the one that is measured."""
STEPS = "First we look at what is given. " * 30


class Instant:
    """An engine that answers at once: questions in their order, and answers of which most are the same."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.completions = 0

    async def complete(self, request: Request) -> Completion:
        await asyncio.sleep(0)
        self.completions += 1
        kind, *where = request.key.split("/")
        if kind != "answer":
            return Completion(self.texts[int(where[0])], "stop", tokens=60, prompt_tokens=40)
        answer = request.seed % 7 if request.seed % 4 == 0 else 84
        # A text of its own for each, as from a model.
        return Completion(f"{STEPS}{request.key}\n#### {answer}", "stop", tokens=250, prompt_tokens=80)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks synthesis", description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="500,2000", help="numbers of questions asked for")
    options = parser.parse_args(arguments)
    rows = [in_a_process(int(size)) for size in options.sizes.split(",")]
    show("Cost of a round's synthesis, without the engine", rows)
    print(f"saved: {save('synthesis', {'rows': rows})}")


def in_a_process(size: int) -> Row:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(measure, size).result()


def measure(size: int) -> Row:
    """Cost of a synthesis of `size` questions."""
    synthesised(Instant(questions(WARM)))  # imports, and what is allocated once
    engine = Instant(questions(size))
    gc.collect()
    resident, spent = psutil.Process().memory_info().rss, time.process_time()
    found = synthesised(engine)
    spent = time.process_time() - spent
    gc.collect()
    grown = psutil.Process().memory_info().rss - resident
    texts = sum(len(answer.text) for vote in found.votes for answer in vote.answers)
    return {
        "questions": size,
        "accepted": len(found.votes),
        "completions": engine.completions,
        "CPU ms a completion": 1000 * spent / engine.completions,
        "bytes a question": round(grown / len(found.votes)),
        "of them answers' texts": round(texts / len(found.votes)),
    }


def synthesised(engine: Instant) -> Synthesis:
    """A round with a question for each of the engine's texts."""
    task = TaskConfig(answer_style=AnswerStyle.number)
    bait = BaitConfig({"bait": "Write a word problem."}, questions=len(engine.texts))
    diversify = DiversifyConfig(threshold=0.6, max_rewrites=0)
    cfg = SynthesisConfig(task, bait, diversify, ConsensusConfig(samples=8), seed=0, round=1)
    with (
        tempfile.TemporaryDirectory() as folder,
        Journal(Path(folder) / "journal.jsonl") as journal,
        open_task(task, cfg.consensus.grading_timeout_s) as grading,
    ):
        asked = Journaled(engine, journal)
        return asyncio.run(synthesise(asked, lexical_vectors, grading, cfg, Memory(), lambda _: None))
