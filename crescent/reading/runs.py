"""Several runs side by side, read from their finished stages and from nothing else.

A stage is read when its manifest is intact and it was made from the stages that lie beside it now; notes name what was
left out.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from crescent.reading.differing_settings import SECONDARY, DifferingSetting, differing_settings
from crescent.reading.ranking import ModelComparison, Ranking, compare_models, rank_runs
from crescent.reading.rounds import BenchmarkResult, RunSummary, read_run
from crescent.records import digest


@dataclass(frozen=True)
class SeedGroup:
    """Runs that differ only in their seeds, on one benchmark after the same round."""

    runs: tuple[str, ...]
    benchmark: str
    round: int
    accuracies: tuple[float, ...]
    gains: tuple[float, ...]
    """Differences to each run's own base; none for round 0."""


@dataclass(frozen=True)
class ComparedRuns:
    """Everything that `crescent compare` shows."""

    runs: tuple[RunSummary, ...]
    settings: tuple[DifferingSetting, ...]
    """Settings that differ between the runs."""
    seed_groups: tuple[SeedGroup, ...]
    models: tuple[ModelComparison, ...]
    """Comparisons of models that were only evaluated; those between the checkpoints of a run are in its verdicts."""
    ranking: Ranking | None
    """Ranking of the trained runs, `None` where no two can be compared."""
    notes: tuple[str, ...]
    """What is not compared across the runs, and why."""


def compare_runs(roots: Sequence[Path]) -> ComparedRuns:
    """Read the run folders, each once, and compare what they share."""
    different = {root.resolve(): root for root in reversed(roots)}
    roots_once = [root for root in roots if different[root.resolve()] is root]
    notes = [f"{root}: named more than once, shown once" for root in roots_once if _times(root, roots) > 1]
    names = [root.resolve().name for root in roots_once]
    runs = tuple(
        read_run(root, name if names.count(name) == 1 else str(root))
        for root, name in zip(roots_once, names, strict=True)
    )
    seed_groups, models = tuple(_seed_groups(runs, notes)), tuple(compare_models(runs, notes))
    settings = tuple(differing_settings({run.name: run.settings for run in runs if run.settings is not None}))
    return ComparedRuns(runs, settings, seed_groups, models, rank_runs(runs), (*notes, *_different_items(runs)))


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1); a single value has no deviation."""
    return fmean(values), stdev(values) if len(values) > 1 else None


def _times(root: Path, roots: Sequence[Path]) -> int:
    return sum(other.resolve() == root.resolve() for other in roots)


def _seed_groups(runs: Sequence[RunSummary], notes: list[str]) -> Iterator[SeedGroup]:
    groups: dict[str, dict[str, RunSummary]] = defaultdict(dict)
    for run in runs:
        if run.settings is not None and run.seed is not None and run.rounds:
            own_settings = {key: value for key, value in run.settings.items() if not SECONDARY.match(key)}
            group = groups[digest(own_settings)]
            if run.seed in group:
                notes.append(f"{run.name}: settings and seed of {group[run.seed].name}, so only that run is averaged")
            group.setdefault(run.seed, run)
    for group in groups.values():
        cells: dict[tuple[str, str, int], list[tuple[str, BenchmarkResult]]] = defaultdict(list)
        for run in group.values():
            for round_ in run.rounds:
                for result in round_.results:
                    if result.item_set:
                        cells[result.score.benchmark, result.item_set, round_.round].append((run.name, result))
        for (benchmark, _, number), found in sorted(cells.items()):
            if len(found) > 1:
                yield SeedGroup(
                    runs=tuple(name for name, _ in found),
                    benchmark=benchmark,
                    round=number,
                    accuracies=tuple(result.score.accuracy for _, result in found),
                    gains=tuple(result.against_base.difference for _, result in found if result.against_base),
                )


def _different_items(runs: Sequence[RunSummary]) -> Iterator[str]:
    """One line for each benchmark whose name stands for different items in different runs."""
    sets: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        for round_ in run.rounds:
            for result in round_.results:
                sets[result.score.benchmark][result.item_set][run.name] = result.items
    for benchmark, found in sorted(sets.items()):
        if len(found) > 1:
            named = "; ".join(
                f"{max(items_by_run.values())} items in {', '.join(items_by_run)}"
                if item_set
                else f"not known in {', '.join(items_by_run)}"
                for item_set, items_by_run in found.items()
            )
            yield f"{benchmark}: different items under the same name ({named}), so these are not compared"
