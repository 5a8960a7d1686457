"""Models that were evaluated alone (`python -m eval`), each against the first: the same items, paired."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from crescent.comparison import by_benchmark, holm
from crescent.comparison import compare as compare_responses
from crescent.errors import DataSaysNo
from crescent.finished import Run
from crescent.records import Comparison, Response

if TYPE_CHECKING:
    from crescent.compare import RunRows

RESAMPLES = 9999
"""Of the bootstrap, as `verdict.resamples` has it; with the run's own seed, the intervals are the verdict's."""
ALONE = "evaluated alone"
"""Status of a run folder that `python -m eval` made."""


@dataclass(frozen=True)
class Paired:
    """One model against the first that was named, on one benchmark."""

    run: str
    first: str
    comparison: Comparison
    """`p_holm` is adjusted over all that stand beside it."""


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
            compared = compare_responses(answers[benchmark], reference[benchmark], RESAMPLES, 0, benchmark, "base")
            yield Paired(other.name, first.name, compared)
        except DataSaysNo as error:
            notes.append(f"{other.name}, {benchmark}: not compared with {first.name}: {error}")


def _responses(run: "RunRows") -> dict[str, list[Response]]:
    return by_benchmark(list(Run(run.folder).records("base/eval/responses.jsonl", Response)))
