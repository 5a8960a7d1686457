"""The rounds of one run, read back from its folder: settings, scores, verdicts and costs."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from crescent.config import EngineKind
from crescent.errors import DataSaysNo
from crescent.judging.comparison import by_benchmark, paired_test
from crescent.judging.reliability import FILE as RELIABILITY
from crescent.judging.reliability import Reliability, read_reliability
from crescent.judging.verdict import rejections_in_a_row, with_patience
from crescent.reading.finished import Manifest, RunReader, likely_cause, setting
from crescent.records import CHECKPOINT_NAME, Action, Comparison, Response, Score, Verdict, child_suffix, digest
from crescent.run_folder.ended import read_end
from crescent.run_folder.lock import is_running
from crescent.run_folder.manifest import REUSED
from crescent.run_folder.metric import Metric
from crescent.run_folder.metric_names import AGREEMENT, NEW_PAIRS, QUESTIONS, TOKENS, drop_rate
from crescent.run_folder.places import CONFIG, RESPONSES

ROUND_STAGES = ("synthesis", "pairs", "train", "eval", "verdict")
EVALUATION_ONLY = "evaluation only"
"""Status of a run folder that `python -m eval` made."""
PLAN_UNKNOWN = "the number planned is not known"
"""End of the status of a run whose settings cannot be read."""
REUSED_NOTE = "reused from"
"""Words in the note about a stage that another run made."""
RESAMPLES = 9999
"""Bootstrap resamples, the default of `verdict.resamples`; with the run's own seed the intervals are the verdict's."""


@dataclass(frozen=True)
class BenchmarkResult:
    """One checkpoint on one benchmark."""

    score: Score
    items: int
    """Number of different items; `score.total` counts an item as often as it was asked."""
    item_set: str
    """Digest of the items' ids: results with equal sets can be compared. Empty when the responses could not be read."""
    against_base: Comparison | None
    """Comparison with the run's own base on the same items; `None` for the base, and where the items differ."""


@dataclass(frozen=True)
class RoundSummary:
    """The base (round 0), or one round as far as it is finished. What an older version did not measure is `None`."""

    round: int
    checkpoint: str | None
    """Name of the checkpoint, `None` before training."""
    action: Action | None
    """Action of the verdict, `None` before it."""
    questions: float | None
    """Number of questions that self-deduplication accepted."""
    agreement: float | None
    """Mean agreement over the questions, in [0, 1]."""
    near_duplicate_drop_rate: float | None
    """Share of all candidates dropped as near-duplicates, in [0, 1]."""
    pairs: float | None
    """Number of new training pairs."""
    tokens: float | None
    """Number of tokens generated for questions and answers; 0 if another run generated them (`run.reuse`)."""
    seconds: float | None
    """Time of all finished stages that the run made itself, last attempt only."""
    results: tuple[BenchmarkResult, ...]
    verdict: Verdict | None = None
    """Verdict in full, patience included; `None` where `action` is."""


@dataclass(frozen=True)
class RunSummary:
    """One run: how far it went, with which settings, and its rounds."""

    name: str
    """Name of the folder; the whole path where two runs have the same name."""
    folder: Path
    status: str
    settings: dict[str, str] | None
    """Settings as JSON by dotted key; `None` without a readable `config.yaml`."""
    reliability: dict[str, Reliability]
    """What voting gives the base without training, by benchmark; empty when it was not measured."""
    rounds: tuple[RoundSummary, ...]
    """The base as round 0, then the rounds."""
    missing: tuple[str, ...]
    """What was not read or not compared, and why."""

    @property
    def seed(self) -> str | None:
        return (self.settings or {}).get("run.seed")

    @property
    def is_on_fakes(self) -> bool:
        """Whether the run tried out the loop with the fake engine and trainer, on no model."""
        return (self.settings or {}).get("serving.engine") == f'"{EngineKind.fake.value}"'


def read_run(root: Path, name: str) -> RunSummary:
    """Summarise one run folder."""
    reader = RunReader(root)
    settings = _settings(reader)
    rounds = tuple(_rounds(reader, settings))
    status = _status(reader, rounds, settings)
    return RunSummary(name, root, status, settings, _reliability(reader), rounds, tuple(reader.missing))


def read_rounds(root: Path) -> RunSummary:
    """Summarise a run without its scores: settings, status, and the rounds that count."""
    reader = RunReader(root)
    settings = _settings(reader)
    rounds = tuple(_rounds(reader, settings, scored=False))
    return RunSummary(root.name, root, _status(reader, rounds, settings), settings, {}, rounds, tuple(reader.missing))


def read_status(root: Path) -> str:
    """How far a run went, or how it ended."""
    return read_rounds(root).status


def _rounds(reader: RunReader, settings: Mapping[str, str] | None, scored: bool = True) -> Iterator[RoundSummary]:
    """The base and the rounds, up to the first incomplete round: whatever follows was made from an earlier attempt."""
    name = _run_name(reader, settings)
    base = reader.stage("base/eval")
    # With `train.student`, the teacher asks and answers instead of the base.
    askers = [evaluation for evaluation in (base, reader.stage("teacher/eval")) if evaluation]
    checkpoints = {evaluation["made_from"]["inputs"].get("checkpoint") for evaluation in askers}
    evaluations = {base["digest"]} if base else set()
    votes: dict[str, str] = {}
    reused = {manifest["digest"] for manifest in _reused(reader)}
    base_responses = _responses(reader, "base/eval") if scored else {}
    if base is not None:
        yield _summary(name, 0, [base], None, _results(reader, "base/eval", {}) if scored else (), reused)
    past: list[Action] = []
    for number in reader.rounds:
        synthesis = reader.synthesis(number)
        if synthesis is not None and not _follows(synthesis, checkpoints, votes):
            reader.note(f"round-{number}: was made before the rounds before it were made again, so it was not read")
            return
        selection, training = reader.selection(number), reader.training(number)
        evaluation = _made_from(reader, f"round-{number}/eval", "checkpoint", [training["digest"]] if training else [])
        verdict = _verdict(reader, number, training, evaluation, evaluations)
        if verdict is not None:
            # The verdict on disk holds what the comparison shows; the loop counts patience on top of it.
            patience = (settings or {}).get("verdict.patience", "")
            verdict = (
                with_patience(verdict, rejections_in_a_row(past), int(patience)) if patience.isdecimal() else verdict
            )
            past.append(verdict.action)
        results = _results(reader, f"round-{number}/eval", base_responses) if evaluation and scored else ()
        stages = [synthesis, selection, training, evaluation]
        judging = reader.stage(f"round-{number}/verdict") if verdict else None
        if any(stages):
            yield _summary(name, number, [*stages, judging], verdict, results, reused)
        if synthesis is None or training is None or evaluation is None or verdict is None:
            if later := [other for other in reader.rounds if other > number]:
                reader.note(f"round-{number} is not complete, so round {', '.join(map(str, later))} was not read")
            return
        votes[f"round-{number}"] = synthesis["digest"]
        checkpoints.add(training["digest"])
        evaluations.add(evaluation["digest"])


def _run_name(reader: RunReader, settings: Mapping[str, str] | None) -> str:
    """The name that the run's checkpoints begin with: the folder may have been renamed since."""
    name: object = json.loads((settings or {}).get("run.name", "null"))
    if isinstance(name, str):
        return name
    for number in reader.rounds:
        with suppress(DataSaysNo):
            for verdict in reader.records(f"round-{number}/verdict/verdict.json", Verdict):
                if match := CHECKPOINT_NAME.fullmatch(verdict.child):
                    return match["run"]
    return reader.root.resolve().name


def _summary(
    name: str,
    number: int,
    stages: Sequence[Manifest | None],
    verdict: Verdict | None,
    results: tuple[BenchmarkResult, ...],
    reused: Collection[str],
) -> RoundSummary:
    """The summary of one round; `reused` are digests of the stages that other runs made."""
    synthesis, selection, training = stages[:3] if number else (None, None, None)
    checkpoint = f"{name}-base" if number == 0 else None
    if training is not None:
        checkpoint = verdict.child if verdict else name + child_suffix(number, training["digest"])
    return RoundSummary(
        round=number,
        checkpoint=checkpoint,
        action=verdict.action if verdict else None,
        questions=_metric(synthesis, QUESTIONS),
        agreement=_metric(synthesis, AGREEMENT),
        near_duplicate_drop_rate=drop_rate(synthesis["metrics"]) if synthesis is not None else None,
        pairs=_metric(selection, NEW_PAIRS),
        tokens=0.0 if synthesis is not None and synthesis["digest"] in reused else _metric(synthesis, TOKENS),
        seconds=round(sum(made["seconds"] for made in stages if made is not None and made["digest"] not in reused), 3),
        results=results,
        verdict=verdict,
    )


def _reused(reader: RunReader) -> Iterator[Manifest]:
    """The stages that other runs made. A note says where their cost is counted."""
    stages_by_maker: dict[str, list[str]] = {}
    for path in sorted(reader.root.glob(f"*/*{REUSED}")):
        stage = path.relative_to(reader.root).as_posix().removesuffix(REUSED)
        maker, manifest = reader.reused(stage), reader.stage(stage)
        if maker is not None and manifest is not None:
            stages_by_maker.setdefault(maker, []).append(stage)
            yield manifest
    for maker, stages in stages_by_maker.items():
        reader.note(f"{', '.join(stages)}: {REUSED_NOTE} {maker}, where time and tokens are counted")


def _metric(manifest: Manifest | None, metric: Metric) -> float | None:
    return metric.of(manifest["metrics"]) if manifest is not None else None


def _follows(synthesis: Manifest, checkpoints: set[Any], votes: Mapping[str, str]) -> bool:
    """Whether a round was made by a checkpoint that is here now, after the votes that are here now."""
    inputs = synthesis["made_from"]["inputs"]
    same_votes = all(inputs.get(round_name, digest_now) == digest_now for round_name, digest_now in votes.items())
    return same_votes and (not checkpoints or inputs.get("parent") in checkpoints)


def _made_from(reader: RunReader, stage: str, key: str, allowed: Sequence[str]) -> Manifest | None:
    manifest = reader.stage(stage)
    if manifest is None:
        return None
    if manifest["made_from"]["inputs"].get(key) in allowed:
        return manifest
    reader.note(f"{stage}: was not made from the stages before it as they are now, so it was not read")
    return None


def _verdict(
    reader: RunReader, number: int, training: Manifest | None, evaluation: Manifest | None, parents: set[str]
) -> Verdict | None:
    stage = f"round-{number}/verdict"
    judging = _made_from(reader, stage, "child", [evaluation["digest"]] if evaluation else [])
    if judging is None or training is None or _made_from(reader, stage, "parent", list(parents)) is None:
        return None
    try:
        return reader.verdict(number, child_suffix(number, training["digest"]))
    except DataSaysNo as error:
        reader.note(str(error))
        return None


def _responses(reader: RunReader, stage: str) -> dict[str, list[Response]]:
    try:
        return by_benchmark(list(reader.records(f"{stage}/{RESPONSES}", Response)))
    except DataSaysNo as error:
        reader.note(f"{error}; so its items are not known, and nothing is compared on them")
        return {}


def _results(
    reader: RunReader, stage: str, base_responses: Mapping[str, Sequence[Response]]
) -> tuple[BenchmarkResult, ...]:
    path = reader.root / stage / "scores.json"
    try:
        scores = msgspec.json.decode(path.read_bytes(), type=tuple[Score, ...])
    except (OSError, ValueError) as error:
        reader.note(f"{path}: cannot be read ({error}); {likely_cause(error)}")
        return ()
    seed = setting(reader.stage(stage), "seed") or 0
    responses, results = _responses(reader, stage), []
    for score in (score for score in scores if score.total):
        own = responses.get(score.benchmark, [])
        ids = {response.item for response in own}
        against_base = None
        if stage != "base/eval" and own and base_responses:
            try:
                base = base_responses.get(score.benchmark, [])
                against_base = paired_test(own, base, RESAMPLES, seed, score.benchmark, "base")
            except DataSaysNo as error:
                reader.note(f"{stage}, {score.benchmark}: not compared with the base: {error}")
        item_set = f"set-{digest(sorted(ids))}" if ids else ""
        results.append(BenchmarkResult(score, len(ids), item_set, against_base))
    return tuple(results)


def _reliability(reader: RunReader) -> dict[str, Reliability]:
    if reader.stage(RELIABILITY.rpartition("/")[0]) is None:
        return {}
    try:
        return read_reliability(reader.root / RELIABILITY)
    except (OSError, ValueError) as error:
        reader.note(f"{reader.root / RELIABILITY}: cannot be read ({error}); {likely_cause(error)}")
        return {}


def _settings(reader: RunReader) -> dict[str, str] | None:
    import yaml

    path = reader.root / CONFIG
    try:
        loaded = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        reader.note(f"{path}: does not exist, so the settings are not compared")
        return None
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        reader.note(f"{path}: cannot be read ({str(error).splitlines()[0]}), so the settings are not compared")
        return None
    if not isinstance(loaded, dict):
        reader.note(f"{path}: holds no settings, so they are not compared")
        return None
    return dict(_flat(loaded))


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for name, part in value.items():
            yield from _flat(part, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, json.dumps(value, ensure_ascii=False, default=str)


def _status(reader: RunReader, rounds: Sequence[RoundSummary], settings: Mapping[str, str] | None) -> str:
    progress = _progress(reader, rounds, settings)
    if is_complete(progress):
        return progress
    if (ended := read_end(reader.root)) is not None:
        if ended.is_cut:
            reader.note(f"{reader.root.name} ended with: {ended.cause}")
        return ended.status
    if is_running(reader.root):
        return f"running: {progress.removeprefix('not finished: ').replace(', next ', ', now ')}"
    return f"damaged in {reader.damaged[0]}" if reader.damaged else progress


def is_complete(status: str) -> bool:
    """Whether a run of this status came to its end: as planned, or by a verdict."""
    return status.startswith(("finished", "stopped", EVALUATION_ONLY))


def has_rounds_to_come(status: str) -> bool:
    """Whether a run of this status is known to have planned more rounds."""
    return not is_complete(status) and not status.endswith(PLAN_UNKNOWN)


def _progress(reader: RunReader, rounds: Sequence[RoundSummary], settings: Mapping[str, str] | None) -> str:
    judged = [round_ for round_ in rounds if round_.action is not None]
    count = f"{len(judged)} round{'' if len(judged) == 1 else 's'}"
    if judged and judged[-1].action == "stop":
        return f"stopped after {count}"
    if not rounds:
        return "nothing finished to compare"
    if reader.stage("base/eval") is None:
        return "base/eval is not finished"
    if "adapter" in (settings or {}):
        return EVALUATION_ONLY
    planned = (settings or {}).get("run.rounds", "")
    if not planned.isdecimal():
        return f"{count}; {PLAN_UNKNOWN}"
    if len(judged) >= int(planned):
        return f"finished, {count}"
    following = len(judged) + 1
    unfinished = (stage for stage in ROUND_STAGES if reader.stage(f"round-{following}/{stage}") is None)
    next_stage = next(unfinished, ROUND_STAGES[0])
    return f"not finished: {len(judged)} of {planned} rounds, next round-{following}/{next_stage}"
