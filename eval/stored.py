"""A finished run's responses, read and scored again: no engine is asked, and no stage of the run changes.

For everybody whose scores were made by an earlier way of reading answers. The responses are the stored ones, so old and
new scores differ by nothing but how they were read.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from crescent import __version__
from crescent.config import BenchmarkConfig, TaskConfig, as_settings, style_of
from crescent.errors import BadConfig, Missing
from crescent.judging.comparison import by_benchmark, paired_test
from crescent.records import Comparison, Completion, Response, Score, Verdict, digest, read_lines, to_line
from crescent.run_folder.manifest import damage, verified_manifest
from crescent.run_folder.places import read_config
from eval.reading import Reader, open_readers
from eval.scorers import score

C = TypeVar("C")

FOLDER = "rescored"
"""Folder in a run's, beside its stages."""
THREADS = 4
"""Responses that are read at once; algebra and programs run in processes of their own."""


@dataclass(frozen=True)
class Stored:
    """One checkpoint's finished evaluation."""

    place: str
    """`base`, `teacher` or `round-2`."""
    digest: str
    """Digest of the stage, by which a verdict names it."""
    settings: Mapping[str, Any]
    """Settings that the stage was made with."""
    responses: tuple[Response, ...]
    scores: tuple[Score, ...]


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
class Evidence:
    """What a verdict rests on: child and parent on the benchmarks that decided."""

    round: int
    action: str
    """The verdict's, as it was."""
    parent: str
    """Place of the parent."""
    benchmarks: tuple[str, ...]
    items: int
    """Items that decided."""
    changed: int
    """Items of these that are now right or wrong otherwise, for child or parent."""
    old: Comparison
    new: Comparison
    alpha: float
    """`verdict.alpha` of the run."""

    @property
    def flips(self) -> bool:
        """Whether the two comparisons differ in sign or in being significant."""
        old, new = ((sign(result.difference), result.p_value <= self.alpha) for result in (self.old, self.new))
        return old != new


@dataclass(frozen=True)
class RescoredRun:
    """Everything that came of one run folder."""

    root: Path
    scores: tuple[Rescored, ...]
    evidence: tuple[Evidence, ...]
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
    evidence = tuple(find_evidence(root, evaluations, read_again, notes))
    return RescoredRun(root, tuple(scores), evidence, tuple(changes), task, styles, tuple(notes))


def read_evaluations(root: Path, notes: list[str]) -> Iterator[Stored]:
    """The finished evaluations of a run: base, teacher, then the rounds in order."""
    rounds = sorted(
        (folder for folder in root.glob("round-*/") if folder.name.removeprefix("round-").isdecimal()),
        key=lambda folder: int(folder.name.removeprefix("round-")),
    )
    for folder in (root / "base", root / "teacher", *rounds):
        stage = folder / "eval"
        if not stage.is_dir():
            continue
        manifest = verified_manifest(stage)
        if manifest is None:
            notes.append(f"{folder.name}/eval: {damage(stage)}, so it was not rescored")
        elif not (stage / "responses.jsonl").is_file():
            notes.append(f"{folder.name}/eval: has no responses.jsonl, so it was not rescored")
        else:
            responses = read_records(stage / "responses.jsonl", Response)
            scores = msgspec.json.decode((stage / "scores.json").read_bytes(), type=tuple[Score, ...])
            settings = manifest["made_from"]["settings"]
            yield Stored(folder.name, manifest["digest"], settings, responses, scores)


def read_records(path: Path, kind: type[C]) -> tuple[C, ...]:
    try:
        return tuple(read_lines(path, kind))
    except msgspec.DecodeError as error:
        raise BadConfig(
            f"{path}: holds no {kind.__name__} records ({error}); was another version the writer?"
        ) from error


def no_texts(root: Path, notes: Sequence[str]) -> str:
    """Why there is nothing to rescore, and what to do."""
    why = "; ".join(notes) or "no finished evaluation with response texts lies in it"
    return (
        f"rescore={root}: {why}. Scores are made again from the texts in */eval/responses.jsonl: copy the folder whole "
        "from where the run was made, or evaluate again (run.redo=base/eval, or python -m eval on a checkpoint)"
    )


def settings_of(root: Path, evaluation: Stored) -> tuple[TaskConfig, dict[str, BenchmarkConfig]]:
    """The run's task and benchmarks, as its stage recorded them.

    Only a style that the run's own config names is kept: what a stage recorded without one was read by the task's
    style, which is what changed since.
    """
    stage = evaluation.settings
    configured = (read_config(root).get("eval") or {}).get("benchmarks") or {}
    benchmarks = {}
    for name, settings in stage["eval"]["benchmarks"].items():
        chosen = (configured.get(name) or {}).get("style")
        benchmarks[name] = read_settings(BenchmarkConfig, {**settings, "style": chosen}, f"{root}, {name}")
    return read_settings(TaskConfig, stage["task"], f"{root}, task"), benchmarks


def read_settings(kind: type[C], settings: Mapping[str, Any], where: str) -> C:
    """A config from recorded settings; keys that only another version knows are left out."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    schema = OmegaConf.structured(kind)
    try:
        found = OmegaConf.to_object(OmegaConf.merge(schema, {key: settings[key] for key in schema if key in settings}))
    except OmegaConfBaseException as error:
        raise BadConfig(f"{where}: settings of another version ({str(error).splitlines()[0]})") from error
    assert isinstance(found, kind)
    return found


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


def find_evidence(
    root: Path, evaluations: Sequence[Stored], read_again: Mapping[str, Sequence[Response]], notes: list[str]
) -> Iterator[Evidence]:
    """Child against parent on the benchmarks that decided, by the old readings and by the new."""
    stored = {evaluation.digest: evaluation for evaluation in evaluations}
    for evaluation in evaluations:
        stage = root / evaluation.place / "verdict"
        manifest = verified_manifest(stage)
        if manifest is None:
            continue
        inputs, settings = manifest["made_from"]["inputs"], manifest["made_from"]["settings"]
        child, parent = stored.get(inputs["child"]), stored.get(inputs["parent"])
        if child is None or parent is None:
            notes.append(f"{evaluation.place}/verdict: is about an evaluation that is not here, so it was left out")
            continue
        verdict = read_records(stage / "verdict.json", Verdict)[0]
        if not verdict.benchmarks:
            continue
        deciding = set(verdict.benchmarks)
        old_child, old_parent = (on(deciding, side.responses) for side in (child, parent))
        new_child, new_parent = (on(deciding, read_again[side.digest]) for side in (child, parent))
        resamples, seed = settings["verdict"]["resamples"], settings["seed"]
        moved = turned_items(old_child, new_child) | turned_items(old_parent, new_parent)
        yield Evidence(
            round=int(evaluation.place.removeprefix("round-")),
            action=verdict.action,
            parent=parent.place,
            benchmarks=tuple(sorted(deciding)),
            items=verdict.items,
            changed=len(moved),
            old=paired_test(old_child, old_parent, resamples, seed),
            new=paired_test(new_child, new_parent, resamples, seed),
            alpha=settings["verdict"]["alpha"],
        )


def on(benchmarks: Collection[str], responses: Sequence[Response]) -> list[Response]:
    return [response for response in responses if response.benchmark in benchmarks]


def turned_items(old: Sequence[Response], new: Sequence[Response]) -> set[tuple[str, str]]:
    """Items with a response that was right and is wrong, or was wrong and is right."""
    return {
        (before.benchmark, before.item)
        for before, after in zip(old, new, strict=True)
        if before.correct != after.correct
    }


def sign(difference: float) -> int:
    return (difference > 0) - (difference < 0)


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
        "verdicts": found.evidence,
        "notes": found.notes,
    }
    try:
        folder.mkdir(exist_ok=True)
        write_whole(folder / "changes.jsonl", b"".join(map(to_line, found.changes)))
        write_whole(folder / "scores.json", msgspec.json.format(msgspec.json.encode(about), indent=2) + b"\n")
    except PermissionError as error:
        raise Missing(f"{folder}: cannot be written ({error.strerror}); copy the run to where it can be") from error
    return folder
