"""Ask the base every dev item K times and vote, as a round does with its own questions, but with the answers known.

Nothing is asked adaptively: agreement over fewer samples would be another number. Each finished answer is a line in a
journal, so an interrupted measurement asks only for the rest.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from crescent.config import ReliabilityJob, Split
from crescent.engine.client import Client, Engine
from crescent.engine.journal import Journal, Journaled
from crescent.errors import run_async
from crescent.judging.reliability import LabelledVote, Reliability, curve, read_reliability
from crescent.records import Answer, Item, Question, Vote, write_lines
from crescent.synthesis.consensus import SILENCE, answer_request, read_answer, vote
from crescent.tasks import Task, open_task
from eval.benchmarks import choose, load
from eval.progress import progress


async def ask_votes(
    engine: Engine,
    items: Sequence[Item],
    job: ReliabilityJob,
    task: Task,
    report: Callable[[int], None] = lambda done: None,
) -> list[tuple[Vote, LabelledVote]]:
    """One vote per item, in the order of `items`.

    The question of a vote has the item's id and text, and the benchmark's name as its bait.

    Args:
        report: Told the number of finished answers after each one.
    """
    done = 0

    async def answer(question: Question, sample: int) -> Answer:
        nonlocal done
        request = answer_request(question, sample, job.task, job.consensus, job.seed)
        # Two benchmarks may hold the same item.
        completion = await engine.complete(replace(request, key=f"{question.bait}/{request.key}"))
        done += 1
        report(done)
        return await asyncio.to_thread(read_answer, question, sample, request.seed, completion, task)

    async def solve(index: int, item: Item) -> tuple[Vote, LabelledVote]:
        question = Question(item.id, item.question, round=0, index=index, bait=item.benchmark, seed=job.seed)
        async with asyncio.TaskGroup() as samples:
            asking = [samples.create_task(answer(question, sample)) for sample in range(job.consensus.samples)]
        answers = [its.result() for its in asking]
        classes = await asyncio.to_thread(task.classes, [its.final for its in answers])
        decided = vote(question, answers, classes, job.consensus.keep_ties)
        return decided, await asyncio.to_thread(label, decided, item.target, task)

    async with asyncio.TaskGroup() as tasks:
        solving = [tasks.create_task(solve(index, item)) for index, item in enumerate(items)]
    return [its.result() for its in solving]


def label(decided: Vote, target: str, task: Task) -> LabelledVote:
    """What of a vote is right: each class is compared by the final answer that is first in it, as the winner is."""
    firsts = {
        its: answer.final
        for its, answer in reversed([*zip(decided.classes, decided.answers, strict=True)])
        if its != SILENCE
    }
    right = {its for its, final in firsts.items() if final is not None and task.correct(final, target)}
    return LabelledVote(
        votes=decided.votes if decided.winner is not None else 0,
        of=decided.of,
        correct=decided.winner in {firsts[its] for its in right},
        correct_samples=sum(its in right for its in decided.classes),
    )


def items_of(job: ReliabilityJob) -> list[Item]:
    """Of each dev benchmark the first `eval.reliability` items of its seeded choice."""
    return [
        item
        for name, config in job.eval.benchmarks.items()
        if config.split is Split.dev
        for item in choose(tuple(load(name, config, job.eval.data)), job.eval.reliability, config.seed)
    ]


def run(job: ReliabilityJob) -> dict[str, Reliability]:
    """Measure into `job.output`: `votes.jsonl`, what of each is right in `labels.jsonl`, and `reliability.json`.

    A folder that has the latter is finished and nothing is asked; one that has a journal is continued.
    """
    output = Path(job.output)
    finished, journal = output / "reliability.json", output / "journal.jsonl"
    if not finished.exists():
        output.mkdir(parents=True, exist_ok=True)
        items = items_of(job)
        voted = run_async(_ask(job, items, journal))
        write_lines(output / "votes.jsonl", [decided for decided, _ in voted])
        write_lines(output / "labels.jsonl", [its for _, its in voted])
        labelled: dict[str, list[LabelledVote]] = {}
        for item, (_, its) in zip(items, voted, strict=True):
            labelled.setdefault(item.benchmark, []).append(its)
        found = {benchmark: curve(votes) for benchmark, votes in labelled.items()}
        # It stands for all the rest: it appears last, and whole.
        unfinished = output / "reliability.json.part"
        unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
        unfinished.replace(finished)
    journal.unlink(missing_ok=True)
    return read_reliability(finished)


async def _ask(job: ReliabilityJob, items: Sequence[Item], path: Path) -> list[tuple[Vote, LabelledVote]]:
    report = progress(path.with_name("progress.jsonl"), len(items) * job.consensus.samples)
    key = os.environ.get("CRESCENT_API_KEY", "none")
    with Journal(path) as journal, open_task(job.task, job.consensus.grading_timeout_s) as task:
        async with Client(job.urls, job.model, key, job.concurrency, job.request_timeout_s) as client:
            return await ask_votes(Journaled(client, journal), items, job, task, report)
