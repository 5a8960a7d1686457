"""Ask a served checkpoint every item of every benchmark, and score what it says.

All items go out at once and the client limits how many are under way, so no benchmark waits for another one's slowest
answer. Each finished answer is a line in a journal: an interrupted evaluation asks only for the rest.
"""

import argparse
import asyncio
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from crescent.client import Client, Engine
from crescent.config import EvalConfig, EvalJob, ReliabilityJob, Split, read_job
from crescent.errors import run_to_exit_code
from crescent.journal import Journal, Journaled
from crescent.records import Completion, Item, Request, Response, Score, request_seed, write_lines
from crescent.tasks import Task, open_task
from crescent.verdict import wilson
from eval.benchmarks import Benchmark, read, usable


async def evaluate(
    engine: Engine,
    items: Sequence[Item],
    config: EvalConfig,
    answer_prompt: str,
    task: Task,
    seed: int,
    report: Callable[[int], None] = lambda done: None,
) -> tuple[list[Response], list[Score]]:
    """One response per item in the order of `items`, one score per benchmark in the order of `config`.

    Args:
        answer_prompt: How an item is asked whose benchmark has no prompt of its own (`task.answer_prompt`).
        report: Told the number of finished items after each one.
    """
    done = 0

    async def answer(item: Item) -> Response:
        nonlocal done
        request = ask(item, config, answer_prompt, seed)
        completion = await engine.complete(request)
        # A symbolic comparison, or a program, can take seconds: in a thread it does not keep other answers waiting.
        final, correct = await asyncio.to_thread(grade, completion, item.target, task)
        done += 1
        report(done)
        return Response(
            item=item.id,
            benchmark=item.benchmark,
            prompt=request.prompt,
            text=completion.text,
            final=final,
            target=item.target,
            correct=correct,
            finish_reason=completion.finish_reason,
            tokens=completion.tokens,
        )

    tasks = [asyncio.create_task(answer(item)) for item in items]
    try:
        responses = await asyncio.gather(*tasks)
    finally:
        # After a failure the others would go on asking while the journal is being closed.
        for unfinished in tasks:
            unfinished.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return responses, [score(name, responses, config) for name in config.benchmarks]


def ask(item: Item, config: EvalConfig, answer_prompt: str, seed: int) -> Request:
    """The request for one item: `benchmark.prompt`, or the task's own, around the question."""
    template = config.benchmarks[item.benchmark].prompt or answer_prompt
    return Request(
        key=f"eval/{item.benchmark}/{item.id}",
        # Only the template is a format string (checked when it was configured); braces in the question stay braces.
        prompt=template.format(question=item.question),
        temperature=config.temperature,
        max_tokens=config.max_tokens,
        seed=request_seed(seed, "eval", item.id),
    )


def grade(completion: Completion, target: str, task: Task) -> tuple[str | None, bool]:
    """The final answer, and whether it is the reference answer."""
    final = read_final(completion, task)
    return final, final is not None and task.correct(final, target)


def read_final(completion: Completion, task: Task) -> str | None:
    """The final answer, `None` for unparsed.

    A response cut at `max_tokens` counts only with an explicitly marked final answer (models may ramble on after it):
    the last number of an unfinished calculation is no answer. Its last word may be half a number and is not read.
    """
    match completion.finish_reason:
        case "error":
            return None
        case "length":
            # The lookbehind keeps the search linear: it starts where a word starts, not at each of its letters.
            return task.read_cut(re.sub(r"(?<!\S)\S++\Z", "", completion.text))
        case _:
            return task.read(completion.text)


def score(benchmark: str, responses: Sequence[Response], config: EvalConfig) -> Score:
    """Accuracy on one benchmark. Unparsed responses are wrong, and counted apart."""
    ours = [response for response in responses if response.benchmark == benchmark]
    correct = sum(response.correct for response in ours)
    low, high = wilson(correct, len(ours))
    return Score(
        benchmark=benchmark,
        correct=correct,
        unparsed=sum(response.final is None for response in ours),
        total=len(ours),
        low=low,
        high=high,
        decides=config.benchmarks[benchmark].split is Split.dev,
    )


def run(job: EvalJob) -> list[Score]:
    """Evaluate into `job.output`: `responses.jsonl`, `scores.json`, and `benchmarks.json` with what was left out.

    A folder that has its scores is finished and nothing is asked; one that has a journal is continued.
    """
    output = Path(job.output)
    finished, journal = output / "scores.json", output / "journal.jsonl"
    if not finished.exists():
        output.mkdir(parents=True, exist_ok=True)
        benchmarks = {name: read(name, config, job.eval.data) for name, config in job.eval.benchmarks.items()}
        responses, scores = asyncio.run(_answer(job, benchmarks, journal))
        write_lines(output / "responses.jsonl", responses)
        left_out = {
            name: {"items": len(found.items), "unusable": found.unusable, "duplicates": found.duplicates}
            for name, found in benchmarks.items()
        }
        (output / "benchmarks.json").write_bytes(_pretty(left_out))
        # The scores stand for all the rest: they appear last, and whole.
        unfinished = output / "scores.json.part"
        unfinished.write_bytes(_pretty(scores))
        unfinished.replace(finished)
    journal.unlink(missing_ok=True)
    return msgspec.json.decode(finished.read_bytes(), type=list[Score])


async def _answer(job: EvalJob, benchmarks: dict[str, Benchmark], path: Path) -> tuple[list[Response], list[Score]]:
    items = [item for found in benchmarks.values() for item in found.items]
    report = progress(path.with_name("progress.jsonl"), len(items))
    key = os.environ.get("CRESCENT_API_KEY", "none")
    with Journal(path) as journal, open_task(job.task, job.grading_timeout_s) as task:
        async with Client(job.urls, job.model, key, job.concurrency, job.request_timeout_s) as client:
            engine = Journaled(client, journal)
            return await evaluate(engine, items, job.eval, job.task.answer_prompt, task, job.seed, report)


def list_items(job: EvalJob) -> list[Item]:
    """Every usable item of every benchmark's split, chosen or not: what training data must not contain.

    Of a generated family only the chosen ones, for its others are endless. Nothing is asked of any engine.

    Raises:
        Missing, BadConfig, DataSaysNo: as `eval.benchmarks.load`.
    """
    return [item for name, config in job.eval.benchmarks.items() for item in usable(name, config, job.eval.data).items]


def write_items(job: EvalJob, console: Console) -> None:
    """Write them to `<output>/items.jsonl` and say how many there are of each benchmark."""
    items = list_items(job)
    output = Path(job.output)
    output.mkdir(parents=True, exist_ok=True)
    write_lines(output / "items.jsonl.part", items)
    (output / "items.jsonl.part").replace(output / "items.jsonl")
    table = Table("benchmark", "items")
    for name, count in Counter(item.benchmark for item in items).items():
        table.add_row(name, str(count))
    console.print(table)


def progress(path: Path, total: int) -> Callable[[int], None]:
    """A function that appends `{"done": n, "total": m}` to `path`: at most once a second, and for the last item."""
    written = -1.0

    def report(done: int) -> None:
        nonlocal written
        now = time.monotonic()
        if written < 0 or now - written >= 1 or done == total:
            written = now
            with path.open("ab") as file:
                file.write(msgspec.json.encode({"done": done, "total": total}) + b"\n")

    return report


def show(scores: Sequence[Score], console: Console) -> None:
    """A short table of the scores."""
    table = Table("benchmark", "split")
    for column in ("accuracy", "95 % interval", "correct", "unparsed", "items"):
        table.add_column(column, justify="right")
    for one in scores:
        table.add_row(
            one.benchmark,
            "dev" if one.decides else "test",
            f"{100 * one.accuracy:.1f} %",
            f"{100 * one.low:.1f} – {100 * one.high:.1f} %",
            *map(str, (one.correct, one.unparsed, one.total)),
        )
    console.print(table)


def main(arguments: Sequence[str]) -> int:
    """The door: returns the exit code, with the reason on stderr when it is not 0."""
    parser = argparse.ArgumentParser(prog="python -P -m eval", description="Evaluate a served checkpoint.")
    parser.add_argument(
        "job", type=Path, help="YAML file of crescent.config.EvalJob (or ReliabilityJob); the loop writes it"
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--items", action="store_true", help="only list all benchmark items, without asking anything")
    only.add_argument("--reliability", action="store_true", help="instead vote on dev items, to compare with labels")
    given = parser.parse_args(arguments)
    if given.reliability:
        return run_to_exit_code(lambda: _measure_reliability(given.job))
    if given.items:
        return run_to_exit_code(lambda: write_items(read_job(given.job, EvalJob), Console()))
    return run_to_exit_code(lambda: show(run(read_job(given.job, EvalJob)), Console()))


def _measure_reliability(job: Path) -> None:
    from crescent.reliability import show_tables
    from eval import reliability

    show_tables(reliability.run(read_job(job, ReliabilityJob)), Console())


def _pretty(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
