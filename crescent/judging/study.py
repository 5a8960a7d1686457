"""What a study found: each declared contrast on the child of the last declared round, and what deviates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from crescent.config import Secondary, StudyConfig
from crescent.config.study import BASE, parse_contrast
from crescent.judging.comparison import holm
from crescent.judging.item_records import (
    SILENT,
    BenchmarkRecord,
    RunRecord,
    StudyRecords,
    is_wrong_in_form,
    majority_is_right,
    passed,
    right,
)
from crescent.judging.seeds_and_items import (
    FEW,
    Assumed,
    Estimate,
    Interval,
    estimate,
    expected_detectable,
    t_interval,
)

Table = NDArray[np.float64]
"""Values by item, or by seed and item."""
Cell = tuple[str, str]
"""Name and measure of a term of a contrast."""
HOLDS, DOES_NOT, UNKNOWN_YET = "holds", "does not hold", "cannot be told yet"
GUARDED, LOST, NOT_SHOWN = "held", "lost", "not shown"


@dataclass(frozen=True)
class ContrastResult:
    """One declared difference."""

    contrast: str
    estimate: Estimate | None
    """Over the seeds that are there, also while some are missing; `None` below two."""
    by_seed: dict[int, float]
    missing: tuple[str, ...]
    """What is needed and not there."""
    p_holm: float | None = None
    """p-value adjusted for all contrasts of the study (Holm 1979)."""

    @property
    def decision(self) -> str:
        if self.missing or self.estimate is None:
            return UNKNOWN_YET
        return HOLDS if self.estimate.low > 0 else DOES_NOT


@dataclass(frozen=True)
class GuardResult:
    """What an arm lost or gained on the guard benchmark, against the base."""

    arm: str
    estimate: Estimate | None
    margin: float
    missing: tuple[str, ...]

    @property
    def decision(self) -> str:
        if self.missing or self.estimate is None:
            return UNKNOWN_YET
        if self.estimate.low > -self.margin:
            return GUARDED
        return LOST if self.estimate.high < -self.margin else NOT_SHOWN


@dataclass(frozen=True)
class ModelRow:
    """The base, or an arm: means over its seeds."""

    name: str
    seeds: int
    primary: Estimate | None
    """Mean accuracy over the samples, after the last declared round."""
    by_round: tuple[float | None, ...]
    """The same after each round; the base's stands for all rounds."""
    secondary: dict[Secondary, float]
    tokens: float | None
    """Mean number of generated tokens per answer."""


@dataclass(frozen=True)
class StudyResult:
    """Everything that the table of a study shows."""

    study: StudyConfig
    contrasts: tuple[ContrastResult, ...]
    guards: tuple[GuardResult, ...]
    models: tuple[ModelRow, ...]
    """The base, then the arms."""
    secondary: dict[Secondary, dict[str, tuple[float, Interval]]]
    """The contrasts between plain names, on each secondary figure: mean and interval."""
    best_prompt: str | None
    """Benchmark with the base's best prompt; `None` where no other prompts are declared or answered."""
    votes_at: dict[str, float]
    """Number of samples, on average over seeds, that each arm's vote has for the tokens of the base's k."""
    power_before: float
    """Difference that the declared size detects with 80% power, under the declared assumptions."""
    deviations: tuple[str, ...]
    missing: tuple[str, ...]
    """Notes of the runs about what could not be read."""


@dataclass(frozen=True)
class Findings:
    """The runs of a study that count, by arm and seed."""

    study: StudyConfig
    records: StudyRecords
    runs: Mapping[tuple[str, int], RunRecord]
    evaluated: Sequence[RunRecord]
    """Models that were only evaluated: the base with other prompts."""

    def answers(self, name: str, seed: int, benchmark: str, after: int | None = None) -> BenchmarkRecord | None:
        """The answers of the base, or of an arm's child after a round, by default the last declared one."""
        number = 0 if name == BASE else self.study.rounds if after is None else after
        names = self.study.arms if name == BASE else [name]
        for run in (self.runs.get((arm, seed)) for arm in names):
            for round_ in run.rounds if run else ():
                found = self.records.evaluations.get(round_.evaluation, {}).get(benchmark)
                if round_.round == number and found is not None:
                    return found
        return None

    def with_prompt(self, benchmark: str, seed: int) -> BenchmarkRecord | None:
        """The base's answers with another prompt: of this seed, else of the first model that was only evaluated."""
        own = self.answers(BASE, seed, benchmark)
        if own is not None:
            return own
        others = sorted(self.evaluated, key=lambda run: run.seed != seed)
        found = (
            self.records.evaluations.get(round_.evaluation, {}).get(benchmark)
            for run in others
            for round_ in run.rounds
        )
        return next((record for record in found if record is not None), None)

    def best_prompt(self) -> str | None:
        """The benchmark on which the base is best, of the primary one and those with other prompts, over all seeds."""
        means = {}
        for benchmark in (self.study.primary.benchmark, *self.study.base_prompts):
            answered = [self.with_prompt(benchmark, seed) for seed in self.study.seeds]
            if None in answered:
                return None
            means[benchmark] = fmean(float(accuracy(record).mean()) for record in answered if record is not None)
        return max(means, key=means.__getitem__)

    def samples_for_tokens(self, name: str, seed: int) -> int:
        """Number of an arm's samples that cost no more tokens than all samples of the base, at least 1, at most k."""
        own, base = (self.answers(who, seed, self.study.primary.benchmark) for who in (name, BASE))
        if own is None or base is None or own.tokens == 0:
            return self.study.primary.samples
        return max(1, min(own.samples, int(base.samples * base.tokens / own.tokens)))

    def values(self, cell: Cell, seed: int) -> tuple[Table, str] | str:
        """A value per item and the digest of the items; or what is missing with this seed, for a person."""
        name, measure = cell
        benchmark = self.study.primary.benchmark
        match measure:
            case "greedy":
                assert self.study.greedy is not None
                benchmark = self.study.greedy
                record = self.answers(name, seed, benchmark)
            case "prompt":
                best = self.best_prompt()
                if best is None:
                    absent = [other for other in self.study.base_prompts if self.with_prompt(other, seed) is None]
                    return f"the base's answers to {', '.join(absent)}"
                benchmark, record = best, self.with_prompt(best, seed)
            case _:
                record = self.answers(name, seed, benchmark)
        of_what = BASE if name == BASE else f"{name} after round {self.study.rounds}"
        if record is None:
            return f"{of_what}: no answers to {benchmark}"
        if measure == "likelihood" and not record.most_likely:
            return f"{of_what}: no likelihoods (eval.benchmarks.{benchmark}.likelihood)"
        expected = self.study.primary.items
        if len(record.answers) != expected:
            return f"{of_what}: {len(record.answers)} of {expected} items of {benchmark}"
        measures: dict[str, Callable[[BenchmarkRecord], Table]] = {
            "vote": partial(votes, samples=self.samples_for_tokens(name, seed)),
            "pass": passes,
            "likelihood": most_likely,
        }
        return measures.get(measure, accuracy)(record), record.items

    def table(self, weights: Mapping[Cell, int]) -> tuple[Table | None, dict[int, float], list[str]]:
        """A contrast by seed and item, the mean of each seed, and what is missing."""
        rows: dict[int, Table] = {}
        sets: set[str] = set()
        absent_in: dict[str, list[int]] = {}
        for seed in self.study.seeds:
            found = {cell: self.values(cell, seed) for cell in weights}
            absent = [value for value in found.values() if isinstance(value, str)]
            for part in absent:
                absent_in.setdefault(part, []).append(seed)
            if absent:
                continue
            sets |= {value[1] for value in found.values() if not isinstance(value, str)}
            parts = [weights[cell] * value[0] for cell, value in found.items() if not isinstance(value, str)]
            rows[seed] = np.sum(parts, axis=0)
        missing = with_seeds(absent_in)
        if len(sets) > 1:
            return None, {}, [*missing, f"the same items in all runs: there are {len(sets)} different sets of them"]
        by_seed = {seed: float(row.mean()) for seed, row in rows.items()}
        return (np.stack(list(rows.values())) if len(rows) > 1 else None), by_seed, missing


def with_seeds(absent_in: Mapping[str, Sequence[int]]) -> list[str]:
    """What is missing, each with the seeds in which it is."""
    return [
        f"{part} with seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        for part, seeds in absent_in.items()
    ]


def accuracy(record: BenchmarkRecord) -> Table:
    """Share of right samples of each item."""
    return np.array([right(answers) / len(answers) for answers in record.answers])


def votes(record: BenchmarkRecord, samples: int | None = None) -> Table:
    return np.array([float(majority_is_right(answers, samples)) for answers in record.answers])


def passes(record: BenchmarkRecord) -> Table:
    return np.array([float(passed(answers)) for answers in record.answers])


def most_likely(record: BenchmarkRecord) -> Table:
    return np.array([float(top == "1") for top in record.most_likely])


def silence(record: BenchmarkRecord) -> Table:
    return np.array([answers.count(SILENT) / len(answers) for answers in record.answers])


def wrong_in_form(record: BenchmarkRecord) -> Table:
    return np.array([sum(map(is_wrong_in_form, answers)) / len(answers) for answers in record.answers])


def readable_accuracy(record: BenchmarkRecord) -> float:
    """Share right of the readable answers; 0 where none is readable."""
    said = "".join(record.answers).replace(SILENT, "")
    return right(said) / len(said) if said else 0.0


BY_ITEM: dict[Secondary, Callable[[BenchmarkRecord], Table]] = {
    Secondary.greedy: accuracy,
    Secondary.vote: votes,
    Secondary.passed: passes,
    Secondary.unparsed: silence,
    Secondary.wrong_in_form: wrong_in_form,
    Secondary.likelihood: most_likely,
}


def judge_study(study: StudyConfig, records: StudyRecords, deviations: Sequence[str] = ()) -> StudyResult:
    """Everything that the study found.

    Args:
        deviations: As `crescent.judging.deviations.deviations` found them.
    """
    findings = select_runs(study, records)
    contrasts = [_contrast(findings, contrast) for contrast in study.contrasts]
    tested = [result.estimate.p_value for result in contrasts if result.estimate]
    adjusted = iter(holm(tested))
    plain = [contrast for contrast in study.contrasts if not any(measure for _, measure in parse_contrast(contrast))]
    names = (BASE, *study.arms)
    assumed = Assumed(study.assumed.seed_deviation, study.assumed.item_deviation, study.assumed.accuracy)
    primary = study.primary
    return StudyResult(
        study=study,
        contrasts=tuple(
            ContrastResult(
                result.contrast,
                result.estimate,
                result.by_seed,
                result.missing,
                next(adjusted) if result.estimate else None,
            )
            for result in contrasts
        ),
        guards=tuple(_guard(findings, arm) for arm in study.arms) if study.guard.benchmark else (),
        models=tuple(_model(findings, name) for name in names),
        secondary={
            figure: {contrast: found for contrast in plain if (found := _secondary(findings, contrast, figure))}
            for figure in study.secondary
        },
        best_prompt=findings.best_prompt() if study.base_prompts else None,
        votes_at={arm: fmean(findings.samples_for_tokens(arm, seed) for seed in study.seeds) for arm in study.arms},
        power_before=expected_detectable(assumed, len(study.seeds), primary.items, primary.samples, study.alpha),
        deviations=tuple(deviations),
        missing=tuple(f"{run.name}: {note}" for run in records.runs for note in run.missing),
    )


def select_runs(study: StudyConfig, records: StudyRecords) -> Findings:
    """The runs that count: one for each declared arm and seed. Two different ones are ambiguous, so neither counts."""
    by_place: dict[tuple[str, int], list[RunRecord]] = {}
    for run in records.runs:
        if run.arm in study.arms and run.seed in study.seeds:
            by_place.setdefault((run.arm, run.seed), []).append(run)
    chosen = {
        place: runs[0]
        for place, runs in by_place.items()
        if len({tuple(round_.evaluation for round_ in run.rounds) for run in runs}) == 1
    }
    return Findings(study, records, chosen, [run for run in records.runs if run.arm is None])


def _contrast(findings: Findings, contrast: str) -> ContrastResult:
    table, by_seed, missing = findings.table(parse_contrast(contrast))
    found = estimate(table, findings.study.alpha) if table is not None else None
    return ContrastResult(contrast, found, by_seed, tuple(missing))


def _guard(findings: Findings, arm: str) -> GuardResult:
    study = findings.study
    assert study.guard.benchmark is not None
    rows, sets = [], set()
    absent_in: dict[str, list[int]] = {}
    for seed in study.seeds:
        own, base = (findings.answers(name, seed, study.guard.benchmark) for name in (arm, BASE))
        if own is None or base is None:
            absent_in.setdefault(f"{arm}: no answers to {study.guard.benchmark}", []).append(seed)
            continue
        sets |= {own.items, base.items}
        rows.append((own, base))
    missing = with_seeds(absent_in)
    if len(sets) > 1:
        missing.append(f"the same items of {study.guard.benchmark} in all runs")
        rows = []
    table = np.stack([accuracy(own) - accuracy(base) for own, base in rows]) if len(rows) > 1 else None
    found = estimate(table, study.alpha, resamples=FEW) if table is not None else None
    return GuardResult(arm, found, study.guard.margin, tuple(missing))


def _model(findings: Findings, name: str) -> ModelRow:
    study = findings.study
    benchmark = study.primary.benchmark
    table, by_seed, _ = findings.table({(name, ""): 1})
    answered = [record for seed in study.seeds if (record := findings.answers(name, seed, benchmark)) is not None]
    by_round = []
    for number in range(1, study.rounds + 1):
        there = [record for seed in study.seeds if (record := findings.answers(name, seed, benchmark, number))]
        by_round.append(fmean(float(accuracy(record).mean()) for record in there) if there else None)
    secondary = {}
    for figure in study.secondary:
        of_seeds = [value for seed in study.seeds if (value := _figure(findings, name, seed, figure)) is not None]
        if of_seeds:
            secondary[figure] = fmean(of_seeds)
    return ModelRow(
        name=name,
        seeds=len(by_seed),
        primary=estimate(table, study.alpha, resamples=FEW) if table is not None else None,
        by_round=tuple(by_round),
        secondary=secondary,
        tokens=fmean(record.tokens for record in answered) if answered else None,
    )


def _record_for(findings: Findings, name: str, seed: int, figure: Secondary) -> BenchmarkRecord | None:
    study = findings.study
    benchmark = study.greedy if figure is Secondary.greedy else study.primary.benchmark
    record = findings.answers(name, seed, benchmark) if benchmark is not None else None
    unmeasured = record is not None and figure is Secondary.likelihood and not record.most_likely
    return None if unmeasured else record


def _figure(findings: Findings, name: str, seed: int, figure: Secondary) -> float | None:
    record = _record_for(findings, name, seed, figure)
    if record is None:
        return None
    return readable_accuracy(record) if figure is Secondary.readable else float(BY_ITEM[figure](record).mean())


def _secondary(findings: Findings, contrast: str, figure: Secondary) -> tuple[float, Interval] | None:
    """A contrast on a secondary figure. Accuracy of readable answers has none per item: an interval over seeds."""
    study, weights = findings.study, parse_contrast(contrast)
    rows: list[Table] = []
    means = []
    for seed in study.seeds:
        found = {name: _record_for(findings, name, seed, figure) for name, _ in weights}
        records = {name: record for name, record in found.items() if record is not None}
        if len(records) < len(found) or len({record.items for record in records.values()}) > 1:
            continue
        if figure is Secondary.readable:
            means.append(sum(weight * readable_accuracy(records[name]) for (name, _), weight in weights.items()))
        else:
            parts = [weight * BY_ITEM[figure](records[name]) for (name, _), weight in weights.items()]
            rows.append(np.sum(parts, axis=0))
    if figure is Secondary.readable and len(means) > 1:
        error = float(np.std(means, ddof=1)) / len(means) ** 0.5
        return fmean(means), t_interval(fmean(means), error, len(means) - 1, study.alpha)
    if len(rows) > 1 and len({len(row) for row in rows}) == 1:
        result = estimate(np.stack(rows), study.alpha, resamples=FEW)
        return result.mean, Interval(result.low, result.high, result.two_way.error, result.two_way.freedom)
    return None
