"""What in the runs of a study is not as declared."""

import json
from collections import defaultdict
from collections.abc import Iterator

from crescent.config import StudyConfig
from crescent.judging.item_records import BenchmarkRecord, RunRecord, StudyRecords
from crescent.judging.study import select_runs
from crescent.judging.wording import first_few

VARIED = ("pairs.labels", "pairs.noise", "run.seed", "run.rounds")
"""Settings that differ between the arms and seeds of a study by declaration."""
NAMED = 4
"""Runs that a line names before it only counts the rest."""


def deviations(study: StudyConfig, records: StudyRecords) -> list[str]:
    """One line for each kind of deviation, with the runs that it concerns."""
    by_line: dict[str, list[str]] = defaultdict(list)
    for run in records.runs:
        for line in (
            *_declaration(run, study),
            *_place(run, study),
            *_settings(run, study, records),
            *_rounds(run, study),
        ):
            by_line[line].append(run.name)
    found = [f"{line} ({first_few(names, NAMED)})" for line, names in by_line.items()]
    if records.digest != study.digest:
        found.insert(0, f"the records were made for declaration {records.digest}, and it is {study.digest} now")
    return [
        *found,
        *_ambiguous(study, records),
        *_answers(study, records),
        *_differing(records),
        *_unshared(study, records),
    ]


def _declaration(run: RunRecord, study: StudyConfig) -> Iterator[str]:
    if run.arm is None:
        return
    if not run.declared:
        yield "made without a declaration"
        return
    if run.declared[-1].digest != study.digest:
        yield f"made under declaration {run.declared[-1].digest}, and it is {study.digest} now"
    elif any(declared.digest != study.digest for declared in run.declared):
        yield "the declaration was changed while the run was under way"
    if finished := run.declared[0].finished:
        yield f"declared only after {finished[-1]} was finished"


def _place(run: RunRecord, study: StudyConfig) -> Iterator[str]:
    if run.arm is None:
        return
    if run.arm not in study.arms:
        yield f"arm {run.arm} is not declared: left out"
    elif run.seed not in study.seeds:
        yield f"seed {run.seed} is not declared: left out"


def _settings(run: RunRecord, study: StudyConfig, records: StudyRecords) -> Iterator[str]:
    if run.arm is None:
        return
    own = {**records.settings, **run.settings}
    for key, value in study.settings.items():
        if json.loads(own.get(key, "null")) != value:
            yield f"{key}={own.get(key, 'not set')}, declared is {json.dumps(value)}"


def _rounds(run: RunRecord, study: StudyConfig) -> Iterator[str]:
    """A verdict that decides what the next round starts from makes arms differ in more than their labels."""
    earlier = [round_ for round_ in run.rounds if 0 < round_.round < study.rounds]
    for round_ in earlier:
        if round_.action not in (None, "accept"):
            yield f"round {round_.round} was not accepted, so the next one did not start from it (set verdict.gate=off)"


def _ambiguous(study: StudyConfig, records: StudyRecords) -> Iterator[str]:
    chosen = select_runs(study, records).runs
    by_place: dict[tuple[str, int], list[str]] = defaultdict(list)
    for run in records.runs:
        if run.arm in study.arms and run.seed in study.seeds:
            by_place[run.arm, run.seed].append(run.name)
    for (arm, seed), names in by_place.items():
        if (arm, seed) not in chosen:
            yield f"{len(names)} different runs of {arm} with seed {seed} ({', '.join(names)}): none counts, name one"


def _answers(study: StudyConfig, records: StudyRecords) -> Iterator[str]:
    primary = study.primary
    by_line: dict[str, list[str]] = defaultdict(list)
    bases: dict[str, str] = {}
    for run in records.runs:
        for round_ in run.rounds:
            found: BenchmarkRecord | None = records.evaluations.get(round_.evaluation, {}).get(primary.benchmark)
            if found is None or run.arm is None:
                continue
            if len(found.answers) != primary.items:
                by_line[f"{len(found.answers)} items of {primary.benchmark}, declared are {primary.items}"].append(
                    run.name
                )
            if found.samples != primary.samples:
                by_line[f"{found.samples} samples of each item, declared are {primary.samples}"].append(run.name)
        for round_ in run.rounds[:1]:
            bases.setdefault(round_.checkpoint, run.name)
    yield from (f"{line} ({first_few(list(dict.fromkeys(names)), NAMED)})" for line, names in by_line.items())
    if len(bases) > 1:
        yield f"the runs start from {len(bases)} different models ({first_few(list(bases.values()), NAMED)})"


def _differing(records: StudyRecords) -> Iterator[str]:
    """Settings that are not the same in all trained runs, and are not declared to vary."""
    trained = [run for run in records.runs if run.arm is not None]
    for key in sorted({key for run in trained for key in run.settings} - set(VARIED)):
        by_value: dict[str, list[str]] = defaultdict(list)
        for run in trained:
            by_value[run.settings.get(key, records.settings.get(key, "not set"))].append(run.name)
        if len(by_value) > 1:
            named = "; ".join(f"{value} in {first_few(names, 2)}" for value, names in by_value.items())
            yield f"{key} differs between the runs: {named}"


def _unshared(study: StudyConfig, records: StudyRecords) -> Iterator[str]:
    chosen = select_runs(study, records).runs
    for seed in study.seeds:
        firsts = {
            arm: round_
            for arm in study.arms
            if (run := chosen.get((arm, seed))) is not None
            for round_ in run.rounds
            if round_.round == 1 and round_.synthesis
        }
        if len({round_.synthesis for round_ in firsts.values()}) > 1:
            yield f"the arms of seed {seed} do not train on the same questions in round 1 (share them by run.reuse)"
        if len({round_.steps for round_ in firsts.values() if round_.steps is not None}) > 1:
            steps = ", ".join(f"{arm} {round_.steps}" for arm, round_ in firsts.items())
            yield f"the arms of seed {seed} train for different numbers of steps ({steps}): set train.max_steps"
