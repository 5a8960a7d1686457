"""Runs against each other: the same items, paired.

Models that were evaluated alone (`python -m eval`) each against the first; trained runs, or settings with several
seeds, each against the best.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from crescent.errors import DataSaysNo
from crescent.judging.comparison import by_benchmark, holm, paired_test
from crescent.reading.differing import SECONDARY
from crescent.reading.finished import Run
from crescent.reading.rounds import ALONE, RESAMPLES
from crescent.records import Comparison, Response, digest

if TYPE_CHECKING:
    from crescent.reading.rounds import Measured, RoundRow, RunRows

TOLD_APART = 0.05
"""The largest p-value, Holm's over all that are compared, at which one is called better than another."""


@dataclass(frozen=True)
class Paired:
    """One model against the first that was named, on one benchmark."""

    run: str
    first: str
    comparison: Comparison
    """`p_holm` is adjusted over all that stand beside it."""


@dataclass(frozen=True)
class Standing:
    """One run, or all seeds of one setting, on the deciding items."""

    runs: tuple[str, ...]
    rounds: tuple[int, ...]
    """Of the children that the runs are judged by."""
    accepted: tuple[bool, ...]
    accuracies: tuple[float, ...]
    gains: tuple[float, ...]
    """Each over the run's own base."""
    gain: Comparison | None
    """The same of a single run, with its interval."""
    tests: dict[str, tuple[Comparison, ...]]
    """By test benchmark, the gains of the same children: nothing was chosen by them."""
    to_best: Comparison | None = None
    """Its accuracy minus the best's. `p_holm` is adjusted over all that stand beside it."""
    seeds: int = 0
    """That `to_best` rests on: those both have. 0: it is a run against a run."""
    why: str = ""
    """Why there is no `to_best`; empty for the best."""

    @property
    def accuracy(self) -> float:
        return fmean(self.accuracies)

    @property
    def deviation(self) -> float:
        """Of the accuracy, over seeds; 0 for a single one."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else 0.0

    def worse_than(self, best: "Standing") -> bool:
        """Whether it can be told from the best: by more than luck with items, and than what seeds alone do."""
        its = self.to_best
        if its is None or its.p_holm > TOLD_APART:
            return False
        return -its.difference > max(self.deviation, best.deviation)


@dataclass(frozen=True)
class Ranking:
    """What the trained runs came to."""

    benchmarks: tuple[str, ...]
    """That decide; their items count together."""
    items: int
    standings: tuple[Standing, ...]
    """The most accurate first."""
    left_out: dict[str, str]
    """Runs that have no place, and why."""

    @property
    def seeds(self) -> bool:
        """Whether settings are ranked, by their means over seeds."""
        return any(len(its.runs) > 1 for its in self.standings)

    def order(self, names: Sequence[str]) -> list[str]:
        """Runs, best first; of one setting together, and those that have no place last."""
        placed = [name for its in self.standings for name in its.runs]
        return [*placed, *(its for its in names if its not in placed)]


@dataclass(frozen=True)
class _Child:
    """A run, and its checkpoint that it is judged by."""

    run: "RunRows"
    row: "RoundRow"
    measured: Sequence["Measured"]
    """On the deciding benchmarks."""

    def over_items(self, values: Sequence[float]) -> float:
        """The mean of what was measured on each benchmark, as if their items were those of one."""
        return sum(its.items * value for its, value in zip(self.measured, values, strict=True)) / sum(
            its.items for its in self.measured
        )

    def responses(self, stage: str = "") -> list[Response]:
        names = {its.score.benchmark for its in self.measured}
        found = Run(self.run.folder).records(f"{stage or f'round-{self.row.round}'}/eval/responses.jsonl", Response)
        return [its for its in found if its.benchmark in names]


@dataclass
class _Entrant:
    """What is ranked."""

    children: dict[str, _Child] = field(default_factory=dict)
    """By seed."""

    def standing(self) -> Standing:
        children = list(self.children.values())
        gains = [[its.against_base for its in child.measured if its.against_base] for child in children]
        tests: dict[str, list[Comparison]] = defaultdict(list)
        for child in children:
            for its in child.row.measured:
                if not its.score.decides and its.against_base:
                    tests[its.score.benchmark].append(its.against_base)
        gain = None
        if len(children) == 1:
            # One benchmark's is that of its round, interval and all.
            (child,), (known,) = children, gains
            pooled = len(known) > 1
            gain = (
                paired_test(child.responses(), child.responses("base"), RESAMPLES, 0, against="base")
                if pooled
                else known[0]
            )
        return Standing(
            runs=tuple(its.run.name for its in children),
            rounds=tuple(its.row.round for its in children),
            accepted=tuple(its.row.verdict == "accept" for its in children),
            accuracies=tuple(its.over_items([m.score.accuracy for m in its.measured]) for its in children),
            gains=tuple(
                child.over_items([its.difference for its in found])
                for child, found in zip(children, gains, strict=True)
            ),
            gain=gain,
            tests={name: tuple(its) for name, its in sorted(tests.items())},
        )


def rank(runs: Sequence["RunRows"]) -> Ranking | None:
    """The trained runs by what their children solve of the deciding items, most first; `None` for fewer than two.

    Where runs differ in nothing but their seed, their setting is ranked by its mean. Only runs whose deciding items are
    the same have a place: those of the largest such group.
    """
    children: dict[str, _Child] = {}
    left_out: dict[str, str] = {}
    for run in (its for its in runs if its.status != ALONE):
        row = final(run)
        if row is None:
            left_out[run.name] = "no child judged yet"
            continue
        measured = deciding(row)
        if measured and all(its.item_set and its.against_base for its in measured):
            children[run.name] = _Child(run, row, measured)
        else:
            left_out[run.name] = "not compared with its own base"
    of_items = {
        name: tuple(sorted((m.score.benchmark, m.item_set) for m in its.measured)) for name, its in children.items()
    }
    if not of_items:
        return None
    commonest = Counter(of_items.values()).most_common(1)[0][0]
    entrants: dict[str, _Entrant] = defaultdict(_Entrant)
    for name, child in children.items():
        if of_items[name] != commonest:
            left_out[name] = "other items decide"
            continue
        entrant, seed = entrants[_setting(child.run)], child.run.seed or ""
        if seed in entrant.children:
            left_out[name] = f"settings and seed of {entrant.children[seed].run.name}"
        entrant.children.setdefault(seed, child)
    if sum(len(its.children) for its in entrants.values()) < 2:
        return None
    ranked = [(its.standing(), its) for its in entrants.values()]
    ranked.sort(key=lambda its: (-its[0].accuracy, -fmean(its[0].gains), its[0].runs))
    (best, first), *others = ranked
    found = [_against_best(standing, entrant, first) for standing, entrant in others]
    adjusted = iter(holm([its.to_best.p_value for its in found if its.to_best]))
    found = [replace(its, to_best=replace(its.to_best, p_holm=next(adjusted))) if its.to_best else its for its in found]
    items = sum(its.items for its in next(iter(first.children.values())).measured)
    return Ranking(tuple(name for name, _ in commonest), items, (best, *found), left_out)


def final(run: "RunRows") -> "RoundRow | None":
    """The child a run is judged by: the last accepted; where there is none, the one that came nearest."""
    accepted = [its for its in run.rows if its.verdict == "accept"]
    judged = [its for its in run.rows if its.judged is not None]
    nearest = max(judged, key=lambda its: its.judged.difference if its.judged else -1.0, default=None)
    return accepted[-1] if accepted else nearest


def deciding(row: "RoundRow") -> "list[Measured]":
    """The benchmarks that a verdict rests on: of a judged child those it names, which leaves guards out."""
    named = row.judged.benchmarks if row.judged else ()
    return [its for its in row.measured if (its.score.benchmark in named if named else its.score.decides)]


def _setting(run: "RunRows") -> str:
    """The same for runs that differ in nothing but their seed."""
    if run.settings is None or run.seed is None:
        return f"run {run.name}"
    return digest({key: its for key, its in run.settings.items() if key == "run.rounds" or not SECONDARY.match(key)})


def _against_best(standing: Standing, entrant: _Entrant, best: _Entrant) -> Standing:
    """With a run's child against a child, with several seeds those that both have."""
    alone = len(entrant.children) == len(best.children) == 1
    shared = [its for its in entrant.children if its in best.children]
    if not alone and not shared:
        return replace(standing, why="no seed in common")
    sides = [list(its.children) if alone else shared for its in (entrant, best)]
    answers = [
        [response for seed in seeds for response in its.children[seed].responses()]
        for its, seeds in zip((entrant, best), sides, strict=True)
    ]
    try:
        # What the best is called in the record is of no matter.
        compared = paired_test(answers[0], answers[1], RESAMPLES, 0, against="best")
    except DataSaysNo as error:
        return replace(standing, why=str(error))
    return replace(standing, to_best=compared, seeds=0 if alone else len(shared))


def paired(runs: Sequence["RunRows"], notes: list[str]) -> list[Paired]:
    """Every other model against the first, on each benchmark that both answered with the same items.

    Where the items differ the note about them says so; where they were asked differently often, one is added here.
    """
    alone = [run for run in runs if run.status == ALONE]
    if len(alone) < 2:
        return []
    first, *others = alone
    reference = _responses(first)
    found = [its for other in others for its in _against(first, reference, other, notes)]
    adjusted = holm([its.comparison.p_value for its in found])
    return [
        replace(its, comparison=replace(its.comparison, p_holm=p_holm))
        for its, p_holm in zip(found, adjusted, strict=True)
    ]


def _against(
    first: "RunRows", reference: dict[str, list[Response]], other: "RunRows", notes: list[str]
) -> Iterator[Paired]:
    sets = [{its.score.benchmark: its.item_set for row in run.rows for its in row.measured} for run in (first, other)]
    answers = _responses(other)
    for benchmark in sorted(sets[0].keys() & sets[1].keys()):
        if not sets[0][benchmark] or sets[0][benchmark] != sets[1][benchmark]:
            continue
        try:
            # What one of them is called in the record is of no matter: there is no base here.
            compared = paired_test(answers[benchmark], reference[benchmark], RESAMPLES, 0, benchmark, "base")
            yield Paired(other.name, first.name, compared)
        except DataSaysNo as error:
            notes.append(f"{other.name}, {benchmark}: not compared with {first.name}: {error}")


def _responses(run: "RunRows") -> dict[str, list[Response]]:
    return by_benchmark(list(Run(run.folder).records("base/eval/responses.jsonl", Response)))
