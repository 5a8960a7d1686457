"""What a run has come to, by its accepted checkpoints alone: a child that was not accepted counts for nothing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from crescent.errors import DataSaysNo
from crescent.reading.finished import RunReader
from crescent.records import Score, Verdict
from crescent.run_folder.metric_names import ACCEPTED_ROUNDS, BEST, GAIN_OVER_BASE

if TYPE_CHECKING:
    from crescent.reading.rounds import RoundSummary


@dataclass(frozen=True)
class Outcome:
    """The best checkpoint of a run, so far or at its end: the child accepted last, or the base."""

    best: Mapping[str, float]
    """Accuracy of the best checkpoint by benchmark, in [0, 1]; test benchmarks and guards included."""
    gain_over_base: float
    """Accuracy of the best checkpoint minus the base's on the items that decide, in [-1, 1]; 0 for the base itself."""
    accepted_rounds: int

    @property
    def metrics(self) -> dict[str, float]:
        """All values by the names that trackers and `sweep.objective` use."""
        by_benchmark = {BEST.named(benchmark=name): accuracy for name, accuracy in self.best.items()}
        total = {GAIN_OVER_BASE.name: self.gain_over_base, ACCEPTED_ROUNDS.name: float(self.accepted_rounds)}
        return by_benchmark | total


def read_outcome(run: RunReader, until: int | None = None) -> Outcome | None:
    """What the run has come to; `None` where its base is not evaluated.

    Args:
        until: Last round that counts; `None`: every judged one.
    """
    base = _scores(run, "base")
    if not base:
        return None
    accepted = dict(_accepted(run, until))
    if not accepted:
        return Outcome({score.benchmark: score.accuracy for score in base}, 0.0, 0)
    last = max(accepted)
    best = _scores(run, f"round-{last}")
    return Outcome(
        best={score.benchmark: score.accuracy for score in best},
        gain_over_base=_gain(best, base, accepted[last].benchmarks),
        accepted_rounds=len(accepted),
    )


def best_round(rounds: "Sequence[RoundSummary]") -> "RoundSummary | None":
    """The round whose checkpoint the run ends with: the last accepted one, or the base."""
    accepted = [round_ for round_ in rounds if round_.action == "accept"]
    return accepted[-1] if accepted else next((round_ for round_ in rounds if round_.round == 0), None)


def _accepted(run: RunReader, until: int | None) -> Iterator[tuple[int, Verdict]]:
    """The accepted rounds with their verdicts, up to the first round without one."""
    for number in run.rounds:
        if until is not None and number > until:
            return
        try:
            verdict = next(run.records(f"round-{number}/verdict/verdict.json", Verdict), None)
        except DataSaysNo as error:
            run.note(str(error))
            return
        if verdict is None:
            return
        if verdict.action == "accept":
            yield number, verdict


def _gain(best: Sequence[Score], base: Sequence[Score], deciding: Sequence[str]) -> float:
    """Difference in accuracy on all deciding responses together, as a verdict counts them.

    Args:
        deciding: Benchmarks that the verdict names; empty in runs of early versions, which named none.
    """
    before = {score.benchmark: score.accuracy for score in base}
    counted = [
        score
        for score in best
        if score.benchmark in before and (score.benchmark in deciding if deciding else score.decides)
    ]
    responses = sum(score.total for score in counted)
    if not responses:
        return 0.0
    return sum(score.total * (score.accuracy - before[score.benchmark]) for score in counted) / responses


def _scores(run: RunReader, place: str) -> tuple[Score, ...]:
    """Scores of a place that holds an evaluation (`base`, `round-3`), without benchmarks that asked nothing."""
    if run.stage(f"{place}/eval") is None:
        return ()
    path = run.root / place / "eval/scores.json"
    try:
        found = msgspec.json.decode(path.read_bytes(), type=tuple[Score, ...])
    except (OSError, ValueError) as error:
        run.note(f"{path}: cannot be read ({error})")
        return ()
    return tuple(score for score in found if score.total)
