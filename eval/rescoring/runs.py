"""A finished run's responses, read and scored again: no engine is asked, and no stage of the run changes.

For everybody whose scores were made by an earlier way of reading answers. The responses are the stored ones, so old and
new scores differ by nothing but how they were read.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec

from crescent import __version__
from crescent.config import BenchmarkConfig, TaskConfig, as_settings, style_of
from crescent.errors import Missing
from crescent.judging.comparison import by_benchmark
from crescent.records import Completion, Response, Score, digest, to_line
from eval.reading import Reader, open_readers
from eval.rescoring.stored import Stored, no_texts, read_evaluations, settings_of
from eval.rescoring.verdicts import Rejudged, rejudge
from eval.scorers import score

FOLDER = "rescored"
"""Folder in a run's, beside its stages."""
THREADS = 4
"""Responses that are read at once; algebra and programs run in processes of their own."""


@dataclass(frozen=True)
class Rescored:
    """One checkpoint on one benchmark."""

    place: str
    benchmark: str
    style: str
    """Answer style of the new reading."""
    old: Score
    new: Score


@dataclass(frozen=True)
class Change:
    """A response whose final answer, or whether it is right, changed: one line of `changes.jsonl`."""

    place: str
    benchmark: str
    item: str
    sample: int
    line: int
    """Line of the response in `<place>/eval/responses.jsonl`, from 1."""
    text: str
    """`crescent.records.digest` of the response's text."""
    old_final: str | None
    new_final: str | None
    target: str
    old_correct: bool
    new_correct: bool


@dataclass(frozen=True)
class RescoredRun:
    """Everything that came of one run folder."""

    root: Path
    scores: tuple[Rescored, ...]
    verdicts: tuple[Rejudged, ...]
    changes: tuple[Change, ...]
    task: TaskConfig
    styles: Mapping[str, str]
    notes: tuple[str, ...]
    """What was not rescored, and why."""


def rescore_run(
    root: Path,
    grading_timeout_s: float,
    change_task: Callable[[TaskConfig], TaskConfig] = lambda task: task,
    change_styles: Callable[[dict[str, BenchmarkConfig]], dict[str, BenchmarkConfig]] = lambda benchmarks: benchmarks,
    report: Callable[[str, int], None] = lambda place, responses: None,
) -> RescoredRun:
    """Read and score all stored responses again, by the run's own settings.

    Args:
        change_task: From the run's task to the one that reads now.
        change_styles: From the run's benchmarks to the ones whose styles are used now.
        report: Called for each checkpoint with the number of its responses, before they are read.

    Raises:
        Missing: there is no evaluation with stored texts.
        BadConfig: the stages were made by another version, whose settings or records are not known here.
    """
    notes: list[str] = []
    evaluations = list(read_evaluations(root, notes))
    if not any(response.text for evaluation in evaluations for response in evaluation.responses):
        raise Missing(no_texts(root, notes))
    task, benchmarks = settings_of(root, evaluations[0])
    task, benchmarks = change_task(task), change_styles(benchmarks)
    read_again: dict[str, list[Response]] = {}
    scores: list[Rescored] = []
    changes: list[Change] = []
    with open_readers(benchmarks, task, grading_timeout_s) as readers, ThreadPoolExecutor(THREADS) as pool:

        def read(response: Response) -> Response:
            completion = Completion(response.text, response.finish_reason, response.tokens)
            return replace(response, **asdict(readers[response.benchmark].read(completion, response.target)))

        for evaluation in evaluations:
            report(evaluation.place, len(evaluation.responses))
            now = list(pool.map(read, evaluation.responses))
            read_again[evaluation.digest] = now
            changes += changed_readings(evaluation, now)
            new = by_benchmark(now)
            for old in (measured for measured in evaluation.scores if measured.total):
                reader = readers[old.benchmark]
                classes = classes_of(new[old.benchmark], reader, pool)
                again = score(old.benchmark, new[old.benchmark], classes, old.decides)
                scores.append(Rescored(evaluation.place, old.benchmark, reader.style.value, old, again))
        undecided = sum(
            reader.task.undecided for reader in {reader.style: reader for reader in readers.values()}.values()
        )
    if undecided:
        notes.append(f"{undecided} comparisons ran out of time or memory and count as different")
    styles = {name: style_of(benchmark, task).value for name, benchmark in benchmarks.items()}
    verdicts = tuple(rejudge(root, evaluations, read_again, notes))
    return RescoredRun(root, tuple(scores), verdicts, tuple(changes), task, styles, tuple(notes))


def changed_readings(evaluation: Stored, now: Sequence[Response]) -> Iterator[Change]:
    for line, (old, new) in enumerate(zip(evaluation.responses, now, strict=True), 1):
        if (old.final, old.correct) != (new.final, new.correct):
            yield Change(
                place=evaluation.place,
                benchmark=old.benchmark,
                item=old.item,
                sample=old.sample,
                line=line,
                text=digest(old.text),
                old_final=old.final,
                new_final=new.final,
                target=old.target,
                old_correct=old.correct,
                new_correct=new.correct,
            )


def classes_of(responses: Sequence[Response], reader: Reader, pool: ThreadPoolExecutor) -> list[tuple[int, ...]] | None:
    """Equivalence classes of each item's final answers; `None` where there is nothing to vote on."""
    samples = 1 + max((response.sample for response in responses), default=0)
    if samples == 1 or not reader.can_vote:
        return None
    finals = [response.final for response in responses]
    items = [finals[start : start + samples] for start in range(0, len(finals), samples)]
    return list(pool.map(reader.task.classes, items))


def write_rescored(found: RescoredRun) -> Path:
    """Write `rescored/scores.json` and `rescored/changes.jsonl` into the run's folder; earlier ones are replaced.

    Raises:
        Missing: nothing can be written there.
    """
    from crescent.machine.disk import write_whole

    folder = found.root / FOLDER
    about = {
        "version": __version__,
        "task": as_settings(found.task),
        "styles": found.styles,
        "scores": found.scores,
        "verdicts": found.verdicts,
        "notes": found.notes,
    }
    try:
        folder.mkdir(exist_ok=True)
        write_whole(folder / "changes.jsonl", b"".join(map(to_line, found.changes)))
        write_whole(folder / "scores.json", msgspec.json.format(msgspec.json.encode(about), indent=2) + b"\n")
    except PermissionError as error:
        raise Missing(f"{folder}: cannot be written ({error.strerror}); copy the run to where it can be") from error
    return folder
