"""Ask the base every dev item K times and vote, as a round does with its own questions, but with known answers.

All K samples are asked, never adaptively: agreement over fewer samples would be a different number. Each finished
completion is a line in a journal, so an interrupted measurement asks only for the rest.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from crescent.config import ReliabilityJob, can_vote
from crescent.engine.client import Client, Engine
from crescent.engine.journal import Journal, Journaled
from crescent.judging.reliability import LabelledVote, Reliability, curve, read_reliability
from crescent.machine.program import run_async
from crescent.records import Answer, Item, Question, Vote, write_lines
from crescent.synthesis.consensus import SILENCE, read_answer, sample_request, vote
from crescent.tasks import Task
from eval.benchmarks import choose, load
from eval.evaluate import show_notice
from eval.progress import progress
from eval.reading import Reader, open_readers
from eval.results import write_result


async def ask_votes(
    engine: Engine,
    items: Sequence[Item],
    job: ReliabilityJob,
    readers: Mapping[str, Reader],
    report: Callable[[int], None] = lambda done: None,
) -> list[tuple[Vote, LabelledVote]]:
    """One vote per item, in the order of `items`.

    The question of a vote has the item's id and text, and the benchmark's name as its bait.

    Args:
        readers: Reader of each benchmark, by name.
        report: Called after each answer with the number of finished ones.
    """
    done = 0

    async def answer(question: Question, sample: int) -> Answer:
        nonlocal done
        request = sample_request(question, sample, job.task, job.consensus, job.seed)
        # The benchmark's name keeps keys unique: two benchmarks may hold the same item.
        completion = await engine.complete(replace(request, key=f"{question.bait}/{request.key}"))
        done += 1
        report(done)
        task = readers[question.bait].task
        return await asyncio.to_thread(read_answer, question, sample, request.seed, completion, task)

    async def solve(index: int, item: Item) -> tuple[Vote, LabelledVote]:
        question = Question(item.id, item.question, round=0, index=index, bait=item.benchmark, seed=job.seed)
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(answer(question, sample)) for sample in range(job.consensus.samples)]
        answers = [asked.result() for asked in asking]
        task = readers[item.benchmark].task
        classes = await asyncio.to_thread(task.classes, [answer.final for answer in answers])
        decided = vote(question, answers, classes, job.consensus.keep_ties)
        return decided, await asyncio.to_thread(label, decided, item.target, task)

    async with asyncio.TaskGroup() as group:
        solving = [group.create_task(solve(index, item)) for index, item in enumerate(items)]
    return [solved.result() for solved in solving]


def label(decided: Vote, target: str, task: Task) -> LabelledVote:
    """Which answers of a vote are right. Each class is judged by its first final answer, as the winner is."""
    firsts: dict[int, str] = {}
    for number, answer in zip(decided.classes, decided.answers, strict=True):
        if number != SILENCE and answer.final is not None:
            firsts.setdefault(number, answer.final)
    right = {number for number, final in firsts.items() if task.correct(final, target)}
    return LabelledVote(
        votes=decided.votes if decided.winner is not None else 0,
        of=decided.of,
        correct=decided.winner in {firsts[number] for number in right},
        correct_samples=sum(number in right for number in decided.classes),
    )


def items_of(job: ReliabilityJob) -> list[Item]:
    """The first `eval.reliability` items of each dev benchmark's seeded choice.

    Benchmarks with another kind of answer than the task's are left out, because the task's prompt does not ask for it.
    """
    return [
        item
        for name, config in job.eval.benchmarks.items()
        if can_vote(config, job.task)
        for item in choose(tuple(load(name, config, job.eval.data)), job.eval.reliability, config.seed)
    ]


def run(job: ReliabilityJob) -> dict[str, Reliability]:
    """Measure into `job.output`: `votes.jsonl`, which answers are right in `labels.jsonl`, and `reliability.json`.

    A folder with `reliability.json` is finished, and nothing is asked; a folder with a journal is resumed.
    """
    output = Path(job.output)
    finished, journal = output / "reliability.json", output / "journal.jsonl"
    if not finished.exists():
        output.mkdir(parents=True, exist_ok=True)
        items = items_of(job)
        voted = run_async(_ask(job, items, journal))
        write_lines(output / "votes.jsonl", [decided for decided, _ in voted])
        write_lines(output / "labels.jsonl", [labelled for _, labelled in voted])
        by_benchmark: dict[str, list[LabelledVote]] = {}
        for item, (_, labelled) in zip(items, voted, strict=True):
            by_benchmark.setdefault(item.benchmark, []).append(labelled)
        found = {benchmark: curve(votes) for benchmark, votes in by_benchmark.items()}
        write_result(finished, found)
    journal.unlink(missing_ok=True)
    return read_reliability(finished)


async def _ask(job: ReliabilityJob, items: Sequence[Item], path: Path) -> list[tuple[Vote, LabelledVote]]:
    key = os.environ.get("CRESCENT_API_KEY", "none")
    readings = open_readers(job.eval.benchmarks, job.task, job.consensus.grading_timeout_s)
    with Journal(path) as journal, readings as readers:
        async with Client(job.urls, job.model, key, job.concurrency, job.request_timeout_s) as client:
            engine = Journaled(client, journal, job.max_refused)
            refused, total = engine.refusals.refused, len(items) * job.consensus.samples
            report = progress(path.with_name("progress.jsonl"), total, lambda: len(refused))
            show_notice(journal)
            return await ask_votes(engine, items, job, readers, report)
