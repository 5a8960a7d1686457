"""Runs compared with each other on the same items, paired.

Models that were only evaluated (`python -m eval`) are each compared with the first; trained runs, or settings with
several seeds, each with the best.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from crescent.errors import DataSaysNo
from crescent.judging.comparison import by_benchmark, holm, paired_test
from crescent.reading.differing_settings import SECONDARY
from crescent.reading.finished import RunReader
from crescent.reading.rounds import EVALUATION_ONLY, RESAMPLES
from crescent.records import Comparison, Response, digest
from crescent.run_folder.places import RESPONSES

if TYPE_CHECKING:
    from crescent.reading.rounds import BenchmarkResult, RoundSummary, RunSummary

ALPHA = 0.05
"""Largest p-value, adjusted by Holm's method, at which runs are called significantly different."""


@dataclass(frozen=True)
class ModelComparison:
    """One model against the first that was named, on one benchmark."""

    run: str
    reference: str
    """Name of the first."""
    comparison: Comparison
    """Comparison whose `p_holm` is adjusted for all models and benchmarks compared."""


@dataclass(frozen=True)
class Standing:
    """One run, or all seeds of one setting, on the deciding items."""

    runs: tuple[str, ...]
    rounds: tuple[int, ...]
    """Rounds of the children that stand for the runs."""
    accepted: tuple[bool, ...]
    """Whether each of these children was accepted."""
    accuracies: tuple[float, ...]
    gains: tuple[float, ...]
    """Differences in accuracy, each to the run's own base."""
    gain: Comparison | None
    """Gain of a single run with its interval; `None` for several seeds."""
    test_gains: dict[str, tuple[Comparison, ...]]
    """Gains of the same children by test benchmark, which was not used for selection."""
    against_best: Comparison | None = None
    """Difference in accuracy to the best. `p_holm` is adjusted for all runs or settings compared."""
    shared_seeds: int = 0
    """Seeds that both settings have; `against_best` is computed on these. 0 when a run is compared with a run."""
    why_not_compared: str = ""
    """Reason for having no `against_best`; empty for the best."""

    @property
    def accuracy(self) -> float:
        return fmean(self.accuracies)

    @property
    def deviation(self) -> float:
        """Standard deviation of the accuracy over seeds; 0 for a single one."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else 0.0

    def is_worse_than(self, best: "Standing") -> bool:
        """Whether it is significantly worse than the best, and by more than seeds alone explain."""
        difference = self.against_best
        if difference is None or difference.p_holm > ALPHA:
            return False
        return -difference.difference > max(self.deviation, best.deviation)


@dataclass(frozen=True)
class Ranking:
    """The trained runs, or settings, by accuracy on the items that decide."""

    benchmarks: tuple[str, ...]
    """Names of the deciding benchmarks; their items count together."""
    items: int
    standings: tuple[Standing, ...]
    """Standings, the most accurate first."""
    left_out: dict[str, str]
    """Reasons, by run, for not being ranked."""

    @property
    def by_setting(self) -> bool:
        """Whether settings are ranked, by their means over seeds."""
        return any(len(standing.runs) > 1 for standing in self.standings)

    def order(self, names: Sequence[str]) -> list[str]:
        """Runs, best first; the seeds of one setting stay together, and runs that are not ranked come last."""
        placed = [name for standing in self.standings for name in standing.runs]
        return [*placed, *(name for name in names if name not in placed)]


@dataclass(frozen=True)
class _Child:
    """The checkpoint that stands for a run."""

    run: "RunSummary"
    round_: "RoundSummary"
    results: Sequence["BenchmarkResult"]
    """Results on the deciding benchmarks."""

    @property
    def item_sets(self) -> tuple[tuple[str, str], ...]:
        return tuple(sorted((result.score.benchmark, result.item_set) for result in self.results))

    def over_items(self, values: Sequence[float]) -> float:
        """Mean of one value per benchmark, weighted by items: as if all items were those of one benchmark."""
        weighted = (result.items * value for result, value in zip(self.results, values, strict=True))
        return sum(weighted) / sum(result.items for result in self.results)

    def responses(self, stage: str = "") -> list[Response]:
        names = {result.score.benchmark for result in self.results}
        path = f"{stage or f'round-{self.round_.round}'}/eval/{RESPONSES}"
        found = RunReader(self.run.folder).records(path, Response)
        return [response for response in found if response.benchmark in names]


@dataclass
class _Entrant:
    """What is ranked: a run, or a setting with several seeds."""

    children: dict[str, _Child] = field(default_factory=dict)
    """Children by seed."""

    def standing(self) -> Standing:
        children = list(self.children.values())
        gains = [[result.against_base for result in child.results if result.against_base] for child in children]
        test_gains: dict[str, list[Comparison]] = defaultdict(list)
        for child in children:
            for result in child.round_.results:
                if not result.score.decides and result.against_base:
                    test_gains[result.score.benchmark].append(result.against_base)
        gain = None
        if len(children) == 1:
            (child,), (by_deciding_benchmark,) = children, gains
            # On one benchmark the round has its comparison already; over several, the items are pooled.
            gain = by_deciding_benchmark[0]
            if len(by_deciding_benchmark) > 1:
                gain = paired_test(child.responses(), child.responses("base"), RESAMPLES, 0, against="base")
        return Standing(
            runs=tuple(child.run.name for child in children),
            rounds=tuple(child.round_.round for child in children),
            accepted=tuple(child.round_.action == "accept" for child in children),
            accuracies=tuple(
                child.over_items([result.score.accuracy for result in child.results]) for child in children
            ),
            gains=tuple(
                child.over_items([comparison.difference for comparison in comparisons])
                for child, comparisons in zip(children, gains, strict=True)
            ),
            gain=gain,
            test_gains={name: tuple(comparisons) for name, comparisons in sorted(test_gains.items())},
        )


def rank_runs(runs: Sequence["RunSummary"]) -> Ranking | None:
    """Rank the trained runs by their children's accuracy on the deciding items; `None` for fewer than two.

    Where runs differ only in their seed, their setting is ranked by its mean. Only runs with the same deciding items
    are ranked: those of the largest such group.
    """
    left_out: dict[str, str] = {}
    children = _children(runs, left_out)
    if not children:
        return None
    item_sets = Counter(child.item_sets for child in children).most_common(1)[0][0]
    entrants: dict[str, _Entrant] = defaultdict(_Entrant)
    for child in children:
        if child.item_sets != item_sets:
            left_out[child.run.name] = "other items decide"
            continue
        entrant, seed = entrants[_setting(child.run)], child.run.seed or ""
        if seed in entrant.children:
            left_out[child.run.name] = f"settings and seed of {entrant.children[seed].run.name}"
        entrant.children.setdefault(seed, child)
    if sum(len(entrant.children) for entrant in entrants.values()) < 2:
        return None
    ranked = [(entrant.standing(), entrant) for entrant in entrants.values()]
    # Equal accuracies are ordered by gain; equal gains by name, so that the order never depends on chance.
    ranked.sort(key=lambda pair: (-pair[0].accuracy, -fmean(pair[0].gains), pair[0].runs))
    (best, best_entrant), *others = ranked
    compared = _adjusted([_compared_with_best(standing, entrant, best_entrant) for standing, entrant in others])
    items = sum(result.items for result in next(iter(best_entrant.children.values())).results)
    return Ranking(tuple(name for name, _ in item_sets), items, (best, *compared), left_out)


def _children(runs: Sequence["RunSummary"], left_out: dict[str, str]) -> list[_Child]:
    """The children that can be ranked; `left_out` receives the reasons of all other trained runs."""
    children = []
    for run in (run for run in runs if run.status != EVALUATION_ONLY):
        round_ = representative_child(run)
        if round_ is None:
            left_out[run.name] = "no child judged yet"
            continue
        results = deciding_results(round_)
        if results and all(result.item_set and result.against_base for result in results):
            children.append(_Child(run, round_, results))
        else:
            left_out[run.name] = "not compared with its own base"
    return children


def _adjusted(standings: Sequence[Standing]) -> list[Standing]:
    """The same with `p_holm` over all of them."""
    adjusted = iter(holm([standing.against_best.p_value for standing in standings if standing.against_best]))
    return [
        replace(standing, against_best=replace(standing.against_best, p_holm=next(adjusted)))
        if standing.against_best
        else standing
        for standing in standings
    ]


def representative_child(run: "RunSummary") -> "RoundSummary | None":
    """The child that stands for a run: the last accepted one; if none was accepted, the one that came nearest."""
    accepted = [round_ for round_ in run.rounds if round_.action == "accept"]
    if accepted:
        return accepted[-1]
    judged = [round_ for round_ in run.rounds if round_.verdict is not None]
    return max(judged, key=lambda round_: round_.verdict.difference if round_.verdict else -1.0, default=None)


def deciding_results(round_: "RoundSummary") -> "list[BenchmarkResult]":
    """Results on the benchmarks that a verdict rests on; for a judged child those it names, which excludes guards."""
    named = round_.verdict.benchmarks if round_.verdict else ()
    return [result for result in round_.results if (result.score.benchmark in named if named else result.score.decides)]


def _setting(run: "RunSummary") -> str:
    """Key that is equal for runs that differ only in their seed."""
    if run.settings is None or run.seed is None:
        return f"run {run.name}"
    return digest(
        {key: value for key, value in run.settings.items() if key == "run.rounds" or not SECONDARY.match(key)}
    )


def _compared_with_best(standing: Standing, entrant: _Entrant, best: _Entrant) -> Standing:
    """Single runs are compared child with child; settings over the seeds that both have."""
    single_runs = len(entrant.children) == len(best.children) == 1
    shared = [seed for seed in entrant.children if seed in best.children]
    if not single_runs and not shared:
        return replace(standing, why_not_compared="no seed in common")
    own, others = (
        [side.children[seed] for seed in (side.children if single_runs else shared)] for side in (entrant, best)
    )
    if asked := _differently_often(own, others):
        return replace(standing, why_not_compared=asked)
    try:
        comparison = paired_test(
            [response for child in own for response in child.responses()],
            [response for child in others for response in child.responses()],
            RESAMPLES,
            0,
            against="best",
        )
    except DataSaysNo as error:
        return replace(standing, why_not_compared=str(error))
    return replace(standing, against_best=comparison, shared_seeds=0 if single_runs else len(shared))


def _differently_often(own: Sequence[_Child], others: Sequence[_Child]) -> str:
    """The reason in a few words where items were asked a different number of times, which no paired test allows."""
    own_samples, best_samples = (
        sorted({result.score.samples for child in children for result in child.results}) for children in (own, others)
    )
    if own_samples == best_samples:
        return ""
    asked, best_asked = ("/".join(map(str, samples)) for samples in (own_samples, best_samples))
    return f"eval.samples={asked}, the best has {best_asked}"


def compare_models(runs: Sequence["RunSummary"], notes: list[str]) -> list[ModelComparison]:
    """Compare every other evaluated model with the first, on each benchmark where both answered the same items.

    Where the items differ, the note about them says so; where they were asked a different number of times, this
    function adds a note.
    """
    models = [run for run in runs if run.status == EVALUATION_ONLY]
    if len(models) < 2:
        return []
    first, *others = models
    reference = _responses(first)
    found = [comparison for other in others for comparison in _with_first(first, reference, other, notes)]
    adjusted = holm([model.comparison.p_value for model in found])
    return [
        replace(model, comparison=replace(model.comparison, p_holm=p_holm))
        for model, p_holm in zip(found, adjusted, strict=True)
    ]


def _with_first(
    first: "RunSummary", reference: dict[str, list[Response]], other: "RunSummary", notes: list[str]
) -> Iterator[ModelComparison]:
    first_sets, other_sets = (
        {result.score.benchmark: result.item_set for round_ in run.rounds for result in round_.results}
        for run in (first, other)
    )
    responses = _responses(other)
    for benchmark in sorted(first_sets.keys() & other_sets.keys()):
        if not first_sets[benchmark] or first_sets[benchmark] != other_sets[benchmark]:
            continue
        try:
            # `against` has no name for a model that is neither parent nor base nor best; nothing reads it here.
            comparison = paired_test(responses[benchmark], reference[benchmark], RESAMPLES, 0, benchmark, "base")
            yield ModelComparison(other.name, first.name, comparison)
        except DataSaysNo as error:
            notes.append(f"{other.name}, {benchmark}: not compared with {first.name}: {error}")


def _responses(run: "RunSummary") -> dict[str, list[Response]]:
    return by_benchmark(list(RunReader(run.folder).records(f"base/eval/{RESPONSES}", Response)))
