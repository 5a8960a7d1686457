"""What several runs came to, side by side: what their finished stages say, and nothing that is not in them.

A stage counts when its manifest holds and it was made from what lies beside it now; what was left out is said.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from crescent.reading.differing import SECONDARY, Differing, differing
from crescent.reading.ranking import Paired, Ranking, paired, rank
from crescent.reading.rounds import Measured, RunRows, read_run
from crescent.records import digest


@dataclass(frozen=True)
class OverSeeds:
    """Runs that differ in nothing but their seeds, on one benchmark after the same round."""

    runs: tuple[str, ...]
    benchmark: str
    round: int
    accuracies: tuple[float, ...]
    differences: tuple[float, ...]
    """Each to its own base; none for round 0."""


@dataclass(frozen=True)
class RunTable:
    """Everything `crescent compare` shows."""

    runs: tuple[RunRows, ...]
    settings: tuple[Differing, ...]
    seeds: tuple[OverSeeds, ...]
    paired: tuple[Paired, ...]
    """Of models that were evaluated alone; between the checkpoints of a run the verdict's comparisons are."""
    ranking: Ranking | None
    """`None` where no two trained runs can be compared."""
    notes: tuple[str, ...]
    """What is not compared across the runs, and why."""


def compare(roots: Sequence[Path]) -> RunTable:
    """Read the run folders, each once."""
    different = {root.resolve(): root for root in reversed(roots)}
    roots_once = [root for root in roots if different[root.resolve()] is root]
    notes = [f"{root}: named more than once, shown once" for root in roots_once if _times(root, roots) > 1]
    names = [root.resolve().name for root in roots_once]
    runs = tuple(
        read_run(root, name if names.count(name) == 1 else str(root))
        for root, name in zip(roots_once, names, strict=True)
    )
    seeds, pairs = list(_over_seeds(runs, notes)), paired(runs, notes)
    settings = tuple(differing({its.name: its.settings for its in runs if its.settings is not None}))
    ranking = rank(runs)
    return RunTable(runs, settings, tuple(seeds), tuple(pairs), ranking, (*notes, *_other_items(runs)))


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """The deviation is the sample's (n - 1); a single value has none."""
    return fmean(values), stdev(values) if len(values) > 1 else None


def _times(root: Path, roots: Sequence[Path]) -> int:
    return sum(its.resolve() == root.resolve() for its in roots)


def _over_seeds(runs: Sequence[RunRows], notes: list[str]) -> Iterator[OverSeeds]:
    groups: dict[str, dict[str, RunRows]] = defaultdict(dict)
    for run in runs:
        if run.settings is not None and run.seed is not None and run.rows:
            alike = groups[digest({key: its for key, its in run.settings.items() if not SECONDARY.match(key)})]
            if run.seed in alike:
                notes.append(f"{run.name}: settings and seed of {alike[run.seed].name}, so only that one is averaged")
            alike.setdefault(run.seed, run)
    for group in groups.values():
        cells: dict[tuple[str, str, int], list[tuple[str, Measured]]] = defaultdict(list)
        for run in group.values():
            for row in run.rows:
                for its in row.measured:
                    if its.item_set:
                        cells[its.score.benchmark, its.item_set, row.round].append((run.name, its))
        for (benchmark, _, number), found in sorted(cells.items()):
            if len(found) > 1:
                yield OverSeeds(
                    runs=tuple(name for name, _ in found),
                    benchmark=benchmark,
                    round=number,
                    accuracies=tuple(its.score.accuracy for _, its in found),
                    differences=tuple(its.against_base.difference for _, its in found if its.against_base),
                )


def _other_items(runs: Sequence[RunRows]) -> Iterator[str]:
    """One line for each benchmark whose name does not mean the same items everywhere."""
    sets: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        for row in run.rows:
            for its in row.measured:
                sets[its.score.benchmark][its.item_set][run.name] = its.items
    for benchmark, found in sorted(sets.items()):
        if len(found) > 1:
            named = "; ".join(
                f"{max(its.values())} items in {', '.join(its)}" if item_set else f"not known in {', '.join(its)}"
                for item_set, its in found.items()
            )
            yield f"{benchmark}: other items under the same name ({named}), so these are not compared"
