"""Ask a served checkpoint every item of every benchmark, and score its responses (`eval.scorers`).

All items are requested at once and the client limits how many are open, so no benchmark waits for the slowest response
of another. Each finished completion is a line in a journal: an interrupted evaluation asks only for the rest.
"""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from crescent.config import EvalConfig, EvalJob, Split, samples_of, temperature_of
from crescent.engine.client import Client, Engine
from crescent.engine.journal import Journal, Journaled
from crescent.judging.likelihood import FILE as LIKELIHOODS
from crescent.judging.likelihood import Likelihood
from crescent.judging.wording import interval, percent
from crescent.machine.disk import write_whole
from crescent.machine.program import run_async
from crescent.records import Item, Request, Response, Score, request_seed, to_line, write_lines
from crescent.run_folder.places import RESPONSES
from eval.benchmarks import Benchmark, check_apart, read, usable
from eval.benchmarks.shots import STOP, Shot
from eval.likelihoods import prompt_of, score_likelihoods
from eval.progress import progress
from eval.reading import Reader, open_readers
from eval.results import write_result
from eval.scorers import score


async def evaluate(
    engine: Engine,
    items: Sequence[Item],
    config: EvalConfig,
    answer_prompt: str,
    readers: Mapping[str, Reader],
    seed: int,
    report: Callable[[int], None] = lambda done: None,
    shots: Mapping[str, Sequence[Shot]] | None = None,
) -> tuple[list[Response], list[Score]]:
    """All samples of each item in the order of `items`, and one score per benchmark in the order of `config`.

    Args:
        answer_prompt: Template for benchmarks without a prompt of their own (`task.answer_prompt`).
        readers: Reader of each benchmark, by name.
        report: Called after each response with the number of finished ones.
        shots: Solved problems that precede each item, by benchmark.
    """
    done = 0

    async def answer(item: Item, sample: int) -> Response:
        nonlocal done
        request = ask(item, config, answer_prompt, seed, sample, (shots or {}).get(item.benchmark, ()))
        completion = await engine.complete(request)
        # A symbolic comparison or a program can take seconds: in a thread it does not delay other responses.
        reading = await asyncio.to_thread(readers[item.benchmark].read, completion, item.target)
        done += 1
        report(done)
        return Response(
            item=item.id,
            benchmark=item.benchmark,
            prompt=request.prompt,
            text=completion.text,
            final=reading.final,
            target=item.target,
            correct=reading.correct,
            finish_reason=completion.finish_reason,
            tokens=completion.tokens,
            sample=sample,
            strict=reading.strict,
            flexible=reading.flexible,
        )

    times = {name: samples_of(benchmark, config) for name, benchmark in config.benchmarks.items()}
    asked = [(item, sample) for item in items for sample in range(times[item.benchmark])]
    tasks = [asyncio.create_task(answer(item, sample)) for item, sample in asked]
    try:
        responses = await asyncio.gather(*tasks)
    finally:
        # After a failure the remaining tasks would send requests while the journal is being closed.
        for unfinished in tasks:
            unfinished.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return responses, [await _score(name, responses, config, readers[name]) for name in config.benchmarks]


async def _score(benchmark: str, responses: Sequence[Response], config: EvalConfig, reader: Reader) -> Score:
    answers = [response for response in responses if response.benchmark == benchmark]
    classes = None
    samples = samples_of(config.benchmarks[benchmark], config)
    if samples > 1 and reader.can_vote:
        finals = [response.final for response in answers]
        items = [finals[start : start + samples] for start in range(0, len(finals), samples)]
        classes = await asyncio.gather(*(asyncio.to_thread(reader.task.classes, sampled) for sampled in items))
    return score(benchmark, answers, classes, decides=config.benchmarks[benchmark].split is Split.dev)


def ask(
    item: Item, config: EvalConfig, answer_prompt: str, seed: int, sample: int = 0, shots: Sequence[Shot] = ()
) -> Request:
    """The request for one sample of an item: after the shots, or in `benchmark.prompt`, or in the task's prompt."""
    # The first of several samples has the key and seed that a single one has, so a journal serves both.
    which: tuple[int, ...] = (sample,) if sample else ()
    return Request(
        key="/".join(map(str, ("eval", item.benchmark, item.id, *which))),
        prompt=prompt_of(item, config, answer_prompt, shots),
        temperature=temperature_of(config.benchmarks[item.benchmark], config),
        max_tokens=config.max_tokens,
        seed=request_seed(seed, "eval", item.id, *which),
        stop=STOP if shots else (),
    )


def run(job: EvalJob) -> list[Score]:
    """Evaluate into `job.output`: `responses.jsonl`, `scores.json`, and `benchmarks.json` with what was left out.

    A folder with scores is finished, and nothing is asked; a folder with a journal is resumed. Likelihoods are no
    completions, so an interrupted measurement of them starts over.
    """
    output = Path(job.output)
    finished, journal = output / "scores.json", output / "journal.jsonl"
    if not finished.exists():
        output.mkdir(parents=True, exist_ok=True)
        benchmarks = {name: read(name, config, job.eval.data) for name, config in job.eval.benchmarks.items()}
        responses, scores = run_async(_answer(job, benchmarks, journal))
        write_lines(output / RESPONSES, responses)
        if any(config.likelihood for config in job.eval.benchmarks.values()):
            write_lines(output / LIKELIHOODS, run_async(_score_likelihoods(job, benchmarks)))
        left_out = {
            name: {
                "items": len(found.items),
                "unusable": found.unusable,
                "duplicates": found.duplicates,
                "shots": [shot.id for shot in found.shots],
            }
            for name, found in benchmarks.items()
        }
        write_result(output / "benchmarks.json", left_out)
        write_result(finished, scores)
    journal.unlink(missing_ok=True)
    return msgspec.json.decode(finished.read_bytes(), type=list[Score])


async def _answer(job: EvalJob, benchmarks: dict[str, Benchmark], path: Path) -> tuple[list[Response], list[Score]]:
    items = [item for found in benchmarks.values() for item in found.items]
    shots = {name: found.shots for name, found in benchmarks.items()}
    total = sum(samples_of(job.eval.benchmarks[item.benchmark], job.eval) for item in items)
    key = os.environ.get("CRESCENT_API_KEY", "none")
    readings = open_readers(job.eval.benchmarks, job.task, job.grading_timeout_s)
    with Journal(path) as journal, readings as readers:
        async with Client(job.urls, job.model, key, job.concurrency, job.request_timeout_s) as client:
            engine = Journaled(client, journal, job.max_refused)
            refused = engine.refusals.refused
            report = progress(path.with_name("progress.jsonl"), total, lambda: len(refused))
            show_notice(journal)
            return await evaluate(engine, items, job.eval, job.task.answer_prompt, readers, job.seed, report, shots)


async def _score_likelihoods(job: EvalJob, benchmarks: dict[str, Benchmark]) -> list[Likelihood]:
    key = os.environ.get("CRESCENT_API_KEY", "none")
    async with Client(job.urls, job.model, key, 1, job.request_timeout_s) as client:
        return await score_likelihoods(client, benchmarks, job.eval, job.task.answer_prompt)


def show_notice(journal: Journal) -> None:
    """Write what a person should know about the journal to the log."""
    if journal.notice:
        print(journal.notice, file=sys.stderr, flush=True)


def list_items(job: EvalJob) -> list[Item]:
    """Every usable item of every benchmark's split, chosen or not: what training data must not contain.

    Of a generated family only the chosen items, because the others are endless. No engine is asked anything.

    Raises:
        Missing, BadConfig, DataSaysNo: as `eval.benchmarks.load` and `eval.benchmarks.check_apart`.
    """
    benchmarks = job.eval.benchmarks
    items = [item for name, config in benchmarks.items() for item in usable(name, config, job.eval.data).items]
    check_apart(benchmarks, items)
    return items


def write_items(job: EvalJob, console: Console) -> None:
    """Write all items to `<output>/items.jsonl` and show the number of each benchmark's."""
    items = list_items(job)
    output = Path(job.output)
    output.mkdir(parents=True, exist_ok=True)
    write_whole(output / "items.jsonl", b"".join(map(to_line, items)))
    table = Table("benchmark", "items")
    for name, count in Counter(item.benchmark for item in items).items():
        table.add_row(name, str(count))
    console.print(table)


def show(scores: Sequence[Score], console: Console) -> None:
    """A table of the scores. With several samples, `correct` and `unparsed` count responses."""
    samples = max((row.samples for row in scores), default=1)
    table = Table("benchmark", "split")
    best_of = (f"maj@{samples}", f"pass@{samples}") if samples > 1 else ()
    for column in ("accuracy", "95% interval", *best_of, "strict", "flexible", "correct", "unparsed", "items"):
        table.add_column(column, justify="right")
    for row in scores:
        strict, flexible = (None if count is None else count / row.total for count in (row.strict, row.flexible))
        table.add_row(
            row.benchmark,
            "dev" if row.decides else "test",
            percent(row.accuracy),
            interval(row.low, row.high),
            *([_known(row.majority), _known(row.pass_at.get(str(samples)))] if best_of else []),
            _known(strict),
            _known(flexible),
            *map(str, (row.correct, row.unparsed, row.total // row.samples)),
        )
    console.print(table)


def _known(share: float | None) -> str:
    return "–" if share is None else percent(share)
