"""The rounds of one run, read back from its folder: settings, scores, verdicts and costs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import msgspec

from crescent.errors import DataSaysNo
from crescent.judging.comparison import by_benchmark, paired_test
from crescent.judging.reliability import FILE as RELIABILITY
from crescent.judging.reliability import Reliability, read_reliability
from crescent.judging.verdict import with_patience
from crescent.reading.finished import Manifest, Run, setting, suspicion
from crescent.records import CHECKPOINT_NAME, Action, Comparison, Response, Score, Verdict, child_suffix, digest
from crescent.run_folder.ended import read_end
from crescent.run_folder.lock import is_running
from crescent.run_folder.metric import Metric
from crescent.run_folder.metric_names import AGREEMENT, NEW_PAIRS, QUESTIONS, TOKENS, drop_rate
from crescent.run_folder.places import CONFIG

STEPS = ("synthesis", "pairs", "train", "eval", "verdict")


@dataclass(frozen=True)
class Measured:
    """One checkpoint on one benchmark."""

    score: Score
    items: int
    """Different ones; `score.total` counts an item as often as it was asked."""
    item_set: str
    """Stands for the ids of the items: equal sets can be compared. Empty when the responses could not be read."""
    against_base: Comparison | None
    """With the run's own base, on the same items; `None` for the base, and where the items are not the same."""


@dataclass(frozen=True)
class RoundRow:
    """The base (round 0), or one round as far as it is finished. What an older version did not measure is `None`."""

    round: int
    checkpoint: str | None
    """`None`: not trained yet."""
    verdict: Action | None
    questions: float | None
    """Accepted by self-deduplication."""
    agreement: float | None
    """Mean over the questions, in [0, 1]."""
    near_duplicate_drop_rate: float | None
    """Share of all candidates dropped as near-duplicates, in [0, 1]."""
    pairs: float | None
    """New ones."""
    tokens: float | None
    """Generated for questions and answers."""
    seconds: float | None
    """Of all its finished stages, of each the last attempt."""
    measured: tuple[Measured, ...]
    judged: Verdict | None = None
    """The verdict in full, patience included; `None` where `verdict` is."""


@dataclass(frozen=True)
class RunRows:
    """One run."""

    name: str
    """Of its folder; the whole path where two runs have the same."""
    folder: Path
    status: str
    """How far it went."""
    settings: dict[str, str] | None
    """Each in JSON, by its dotted key; `None`: there is no `config.yaml` that can be read."""
    majority: dict[str, Reliability]
    """What voting gives the base without any training, by benchmark; empty when it was not measured."""
    rows: tuple[RoundRow, ...]
    missing: tuple[str, ...]
    """What was not read or not compared, and why."""

    @property
    def seed(self) -> str | None:
        return (self.settings or {}).get("run.seed")


def read_run(root: Path, name: str) -> RunRows:
    """What lies in one run folder."""
    run = Run(root)
    settings = _settings(run)
    rows = tuple(_rows(run, settings))
    return RunRows(name, root, _status(run, rows, settings), settings, _majority(run), rows, tuple(run.missing))


def read_status(root: Path) -> str:
    """How far a run went, or how it ended."""
    run = Run(root)
    settings = _settings(run)
    return _status(run, tuple(_rows(run, settings, scored=False)), settings)


def _rows(run: Run, settings: Mapping[str, str] | None, scored: bool = True) -> Iterator[RoundRow]:
    """The base and the rounds, up to the first that is not whole: what comes after one follows from it."""
    name = _name(run, settings)
    base = run.stage("base/eval")
    # Where another model teaches (`train.student`), it is who asks and answers.
    asking = [its for its in (base, run.stage("teacher/eval")) if its]
    checkpoints = {its["made_from"]["inputs"].get("checkpoint") for its in asking}
    evaluations = {base["digest"]} if base else set()
    votes: dict[str, str] = {}
    base_responses = _responses(run, "base/eval") if scored else {}
    if base is not None:
        yield _row(name, 0, [base], None, _measured(run, "base/eval", {}) if scored else ())
    past: list[Action] = []
    for number in run.rounds:
        synthesis = run.synthesis(number)
        if synthesis is not None and not _follows(synthesis, checkpoints, votes):
            run.note(f"round-{number}: was made before the rounds before it were made again, so it was not read")
            return
        selection, training = run.selection(number), run.training(number)
        evaluation = _made_from(run, f"round-{number}/eval", "checkpoint", [training["digest"]] if training else [])
        verdict = _verdict(run, number, training, evaluation, evaluations)
        if verdict is not None:
            rejected = len(list(takewhile(lambda its: its != "accept", reversed(past))))
            patience = (settings or {}).get("verdict.patience", "")
            verdict = with_patience(verdict, rejected, int(patience)) if patience.isdecimal() else verdict
            past.append(verdict.action)
        measured = _measured(run, f"round-{number}/eval", base_responses) if evaluation and scored else ()
        stages = [synthesis, selection, training, evaluation]
        judging = run.stage(f"round-{number}/verdict") if verdict else None
        if any(stages):
            yield _row(name, number, [*stages, judging], verdict, measured)
        if synthesis is None or training is None or evaluation is None or verdict is None:
            if later := [its for its in run.rounds if its > number]:
                run.note(f"round-{number} is not whole, so round {', '.join(map(str, later))} was not read")
            return
        votes[f"round-{number}"] = synthesis["digest"]
        checkpoints.add(training["digest"])
        evaluations.add(evaluation["digest"])


def _name(run: Run, settings: Mapping[str, str] | None) -> str:
    """With which its checkpoints' names begin: the folder may have been renamed since."""
    given: object = json.loads((settings or {}).get("run.name", "null"))
    if isinstance(given, str):
        return given
    for number in run.rounds:
        with suppress(DataSaysNo):
            verdicts = run.records(f"round-{number}/verdict/verdict.json", Verdict)
            for its in verdicts:
                if found := CHECKPOINT_NAME.fullmatch(its.child):
                    return found["run"]
    return run.root.resolve().name


def _row(
    name: str, number: int, stages: Sequence[Manifest | None], verdict: Verdict | None, measured: tuple[Measured, ...]
) -> RoundRow:
    synthesis, selection, training = stages[:3] if number else (None, None, None)
    checkpoint = f"{name}-base" if number == 0 else None
    if training is not None:
        checkpoint = verdict.child if verdict else name + child_suffix(number, training["digest"])
    return RoundRow(
        round=number,
        checkpoint=checkpoint,
        verdict=verdict.action if verdict else None,
        questions=_metric(synthesis, QUESTIONS),
        agreement=_metric(synthesis, AGREEMENT),
        near_duplicate_drop_rate=drop_rate(synthesis["metrics"]) if synthesis is not None else None,
        pairs=_metric(selection, NEW_PAIRS),
        tokens=_metric(synthesis, TOKENS),
        seconds=round(sum(its["seconds"] for its in stages if its is not None), 3),
        measured=measured,
        judged=verdict,
    )


def _metric(manifest: Manifest | None, metric: Metric) -> float | None:
    return metric.of(manifest["metrics"]) if manifest is not None else None


def _follows(synthesis: Manifest, checkpoints: set[Any], votes: Mapping[str, str]) -> bool:
    """Whether a round was made by a checkpoint that is here now, after the votes that are here now."""
    inputs = synthesis["made_from"]["inputs"]
    alike = all(inputs.get(name, its) == its for name, its in votes.items())
    return alike and (not checkpoints or inputs.get("parent") in checkpoints)


def _made_from(run: Run, stage: str, key: str, allowed: Sequence[str]) -> Manifest | None:
    manifest = run.stage(stage)
    if manifest is None:
        return None
    if manifest["made_from"]["inputs"].get(key) in allowed:
        return manifest
    run.note(f"{stage}: was not made from the stages before it as they are now, so it was not read")
    return None


def _verdict(
    run: Run, number: int, training: Manifest | None, evaluation: Manifest | None, parents: set[str]
) -> Verdict | None:
    stage = f"round-{number}/verdict"
    judging = _made_from(run, stage, "child", [evaluation["digest"]] if evaluation else [])
    if judging is None or training is None or _made_from(run, stage, "parent", list(parents)) is None:
        return None
    try:
        return run.verdict(number, child_suffix(number, training["digest"]))
    except DataSaysNo as error:
        run.note(str(error))
        return None


def _responses(run: Run, stage: str) -> dict[str, list[Response]]:
    try:
        return by_benchmark(list(run.records(f"{stage}/responses.jsonl", Response)))
    except DataSaysNo as error:
        run.note(f"{error}; so items are not known, and nothing is compared on them")
        return {}


def _measured(run: Run, stage: str, base: Mapping[str, Sequence[Response]]) -> tuple[Measured, ...]:
    path = run.root / stage / "scores.json"
    try:
        scores = msgspec.json.decode(path.read_bytes(), type=tuple[Score, ...])
    except (OSError, ValueError) as error:
        run.note(f"{path}: cannot be read ({error}); {suspicion(error)}")
        return ()
    seed = setting(run.stage(stage), "seed") or 0
    responses, found = _responses(run, stage), []
    for score in (its for its in scores if its.total):
        given = responses.get(score.benchmark, [])
        ids = {its.item for its in given}
        against_base = None
        if stage != "base/eval" and given and base:
            try:
                known = base.get(score.benchmark, [])
                against_base = paired_test(given, known, RESAMPLES, seed, score.benchmark, "base")
            except DataSaysNo as error:
                run.note(f"{stage}, {score.benchmark}: not compared with the base: {error}")
        found.append(Measured(score, len(ids), f"set-{digest(sorted(ids))}" if ids else "", against_base))
    return tuple(found)


def _majority(run: Run) -> dict[str, Reliability]:
    if run.stage(RELIABILITY.rpartition("/")[0]) is None:
        return {}
    try:
        return read_reliability(run.root / RELIABILITY)
    except (OSError, ValueError) as error:
        run.note(f"{run.root / RELIABILITY}: cannot be read ({error}); {suspicion(error)}")
        return {}


def _settings(run: Run) -> dict[str, str] | None:
    import yaml

    path = run.root / CONFIG
    try:
        loaded = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        run.note(f"{path}: there is none, so the settings are not compared")
        return None
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        run.note(f"{path}: cannot be read ({str(error).splitlines()[0]}), so the settings are not compared")
        return None
    if not isinstance(loaded, dict):
        run.note(f"{path}: holds no settings, so they are not compared")
        return None
    return dict(_flat(loaded))


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for name, part in value.items():
            yield from _flat(part, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, json.dumps(value, ensure_ascii=False, default=str)


def _status(run: Run, rows: Sequence[RoundRow], settings: Mapping[str, str] | None) -> str:
    progress = _progress(run, rows, settings)
    if progress.startswith(("finished", "stopped", ALONE)):
        return progress
    if (ended := read_end(run.root)) is not None:
        if ended.is_cut:
            run.note(f"{run.root.name} ended with: {ended.cause}")
        return ended.status
    if is_running(run.root):
        return f"running: {progress.removeprefix('not finished: ').replace(', next ', ', now ')}"
    return f"damaged in {run.damaged[0]}" if run.damaged else progress


def _progress(run: Run, rows: Sequence[RoundRow], settings: Mapping[str, str] | None) -> str:
    judged = [row for row in rows if row.verdict is not None]
    rounds = f"{len(judged)} round{'' if len(judged) == 1 else 's'}"
    if judged and judged[-1].verdict == "stop":
        return f"stopped after {rounds}"
    if not rows:
        return "nothing finished to compare"
    if run.stage("base/eval") is None:
        return "base/eval is not finished"
    if "adapter" in (settings or {}):
        return ALONE
    planned = (settings or {}).get("run.rounds", "")
    if not planned.isdecimal():
        return f"{rounds}; how many were planned is not known"
    if len(judged) >= int(planned):
        return f"finished, {rounds}"
    following = len(judged) + 1
    waiting = next((its for its in STEPS if run.stage(f"round-{following}/{its}") is None), STEPS[0])
    return f"not finished: {len(judged)} of {planned} rounds, next round-{following}/{waiting}"


RESAMPLES = 9999
"""Of the bootstrap, as `verdict.resamples` has it; with the run's own seed, the intervals are the verdict's."""


ALONE = "evaluated alone"
"""Status of a run folder that `python -m eval` made."""
