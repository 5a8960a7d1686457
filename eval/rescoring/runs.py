"""A finished run's responses, read and scored again. No engine is asked, and no stage of the run changes.

The responses are the stored ones, so old and new scores differ only by how answers are read and compared.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from crescent import __version__
from crescent.config import AnswerStyle, BenchmarkConfig, TaskConfig, as_settings, style_of
from crescent.errors import BadConfig, Missing
from crescent.judging.comparison import by_benchmark
from crescent.machine.disk import write_whole
from crescent.records import Completion, Response, Score, digest, to_line
from eval.reading import Reader, open_readers
from eval.rescoring.stored import Stored, no_texts, read_evaluations, settings_of
from eval.rescoring.verdicts import Rejudged, rejudge
from eval.results import write_result
from eval.scorers import score

FOLDER = "rescored"
"""Folder of the results in a run's folder, beside its stages."""
THREADS = 4
"""Number of responses that are read at once; algebra and programs run in separate processes."""


@dataclass(frozen=True)
class Rescored:
    """Old and new score of one checkpoint on one benchmark."""

    place: str
    benchmark: str
    style: str
    """Style in which the answers are read now."""
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
    """Number of the response's line in `<place>/eval/responses.jsonl`, from 1."""
    text: str
    """Digest of the response's text (`crescent.records.digest`)."""
    old_final: str | None
    new_final: str | None
    target: str
    old_correct: bool
    new_correct: bool


@dataclass(frozen=True)
class RescoredRun:
    """Results of rescoring one run folder."""

    root: Path
    scores: tuple[Rescored, ...]
    verdicts: tuple[Rejudged, ...]
    changes: tuple[Change, ...]
    task: TaskConfig
    """Task with which the answers were read now."""
    styles: Mapping[str, str]
    """Style in which they were read, by benchmark."""
    notes: tuple[str, ...]
    """Sentences about what was left out, and why."""


def rescore_run(
    root: Path,
    grading_timeout_s: float,
    task_changes: Mapping[str, Any] | None = None,
    styles: Mapping[str, AnswerStyle] | None = None,
    report: Callable[[str, int], None] = lambda place, responses: None,
) -> RescoredRun:
    """Read and score all stored responses again, by the run's own settings.

    Args:
        task_changes: Values for fields of the run's task.
        styles: Answer styles by benchmark, instead of the benchmarks' own.
        report: Called for each checkpoint with the number of its responses, before they are read.

    Raises:
        Missing: no evaluation with stored texts is left.
        BadConfig: there is no such benchmark, or the stages are of another version whose records are not known here.
    """
    notes: list[str] = []
    evaluations = list(read_evaluations(root, notes))
    if not any(response.text for evaluation in evaluations for response in evaluation.responses):
        raise Missing(no_texts(root, notes))
    task, benchmarks = settings_of(root, evaluations[0])
    task, benchmarks = replace(task, **(task_changes or {})), with_styles(benchmarks, styles or {}, root)
    read_again: dict[str, list[Response]] = {}
    scores: list[Rescored] = []
    with open_readers(benchmarks, task, grading_timeout_s) as readers, ThreadPoolExecutor(THREADS) as pool:
        for evaluation in evaluations:
            report(evaluation.place, len(evaluation.responses))
            now = list(pool.map(lambda response: read_response(response, readers), evaluation.responses))
            read_again[evaluation.digest] = now
            scores += score_again(evaluation, now, readers, pool)
        undecided = sum(reader.task.undecided for reader in set(readers.values()))
    if undecided:
        notes.append(f"{undecided} comparisons ran out of time or memory; they count as different")
    return RescoredRun(
        root=root,
        scores=tuple(scores),
        verdicts=tuple(rejudge(root, evaluations, read_again, notes)),
        changes=tuple(change for old in evaluations for change in changed_readings(old, read_again[old.digest])),
        task=task,
        styles={name: style_of(benchmark, task).value for name, benchmark in benchmarks.items()},
        notes=tuple(notes),
    )


def with_styles(
    benchmarks: Mapping[str, BenchmarkConfig], styles: Mapping[str, AnswerStyle], root: Path
) -> dict[str, BenchmarkConfig]:
    """The benchmarks in other styles. Raises `BadConfig` for a style of an unknown benchmark."""
    if unknown := sorted(styles.keys() - benchmarks.keys()):
        raise BadConfig(f"styles.{unknown[0]}: {root} has no such benchmark; it has {', '.join(benchmarks)}")
    return {name: replace(benchmark, style=styles.get(name, benchmark.style)) for name, benchmark in benchmarks.items()}


def read_response(response: Response, readers: Mapping[str, Reader]) -> Response:
    completion = Completion(response.text, response.finish_reason, response.tokens)
    return replace(response, **asdict(readers[response.benchmark].read(completion, response.target)))


def score_again(
    evaluation: Stored, now: Sequence[Response], readers: Mapping[str, Reader], pool: ThreadPoolExecutor
) -> Iterator[Rescored]:
    """Old and new score of each benchmark."""
    responses = by_benchmark(now)
    for old in evaluation.scores:
        if old.total:
            reader, answers = readers[old.benchmark], responses[old.benchmark]
            new = score(old.benchmark, answers, classes_of(answers, reader, pool), old.decides)
            yield Rescored(evaluation.place, old.benchmark, reader.style.value, old, new)


def changed_readings(evaluation: Stored, now: Sequence[Response]) -> Iterator[Change]:
    """Responses with another final answer than before, or that became right or wrong."""
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
    """Equivalence classes of each item's final answers; `None` if there is nothing to vote on."""
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
        write_result(folder / "scores.json", about)
    except PermissionError as error:
        fix = "copy the run to a folder that can be written to"
        raise Missing(f"{folder}: cannot be written ({error.strerror}); {fix}") from error
    return folder
