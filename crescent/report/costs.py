"""What a run cost: time, tokens and money."""

from dataclasses import dataclass
from pathlib import Path

from crescent.judging.reliability import VOTES
from crescent.machine.environment import read_environments
from crescent.reading.ranking import deciding_results
from crescent.reading.rounds import RoundSummary
from crescent.records import Response, Vote
from crescent.report.lenient import LenientReader
from crescent.report.texts import duration
from crescent.run_folder.manifest import MANIFEST
from crescent.run_folder.metric_names import REPLAY_TOKENS, TOKENS, TOKENS_SEEN
from crescent.run_folder.places import RESPONSES, SET_ASIDE

GENERATING = ("reliability", "replay", "synthesis", "eval", "harness")
"""Kinds of stages in which the engine generates tokens."""
KINDS = ("benchmarks", "others", "reliability", "replay", "synthesis", "pairs", "train", "eval", "harness", "verdict")
"""Kinds of stages, in the order in which they are shown."""


@dataclass(frozen=True)
class StageCost:
    """One finished stage."""

    stage: str
    place: str
    """`base` or `round-N`."""
    kind: str
    seconds: float
    """Time of the last attempt."""
    generated: float | None
    """Tokens that the engine generated; `None` where it generates none, or they were not counted."""
    trained: float | None
    """Tokens that the trainer processed."""
    made_by: str | None = None
    """Run that made the stage, if it was taken over from another run (`run.reuse`)."""


@dataclass(frozen=True)
class RunCosts:
    """The costs of all finished stages of a run."""

    stages: tuple[StageCost, ...]
    """Stages that the run made itself: sums are about these."""
    rate: float | None
    """Money per machine-hour."""
    gpus: int = 0
    """Number of the machine's GPUs, used or not; 0 without GPUs, and where it is not known."""
    reused: tuple[StageCost, ...] = ()
    """Stages that other runs made; their costs are counted there."""

    def seconds(self, place: str | None = None, kind: str | None = None) -> float:
        return sum(cost.seconds for cost in self.of(place, kind))

    def of(self, place: str | None = None, kind: str | None = None) -> list[StageCost]:
        return [cost for cost in self.stages if place in (None, cost.place) and kind in (None, cost.kind)]

    @property
    def places(self) -> list[str]:
        return list(dict.fromkeys(cost.place for cost in self.stages))

    @property
    def kinds(self) -> list[str]:
        found = {cost.kind for cost in self.stages}
        return [*(kind for kind in KINDS if kind in found), *sorted(found - set(KINDS))]

    @property
    def uncounted(self) -> list[str]:
        """Stages that generated tokens without recording how many."""
        return [cost.stage for cost in self.stages if cost.kind in GENERATING and cost.generated is None]

    @property
    def hours(self) -> float:
        return self.seconds() / 3600

    def money(self, seconds: float) -> float | None:
        return None if self.rate is None else seconds / 3600 * self.rate

    def until(self, number: int) -> float:
        """Seconds of the base and of all rounds up to this one, reused stages included: what the result took."""
        return sum(cost.seconds for cost in (*self.stages, *self.reused) if _number(cost.place) <= number)


def read_costs(reader: LenientReader, rate: float | None) -> RunCosts:
    """The costs of every finished stage in the run folder; stages that a redo set aside are not counted."""
    costs = []
    for path in reader.root.glob(f"*/*/{MANIFEST}"):
        place, kind = path.parent.parent.name, path.parent.name
        if place == SET_ASIDE or kind.endswith(".partial") or kind.startswith("."):
            continue
        manifest = reader.run.stage(f"{place}/{kind}")
        if manifest is not None:
            generated, trained = _tokens(reader, place, kind)
            seconds, made_by = float(manifest["seconds"]), reader.run.reused(f"{place}/{kind}")
            costs.append(StageCost(f"{place}/{kind}", place, kind, seconds, generated, trained, made_by))
    costs.sort(key=lambda cost: (_number(cost.place), cost.place, KINDS.index(cost.kind) if cost.kind in KINDS else 99))
    machines = read_environments(reader.root)
    own = tuple(cost for cost in costs if cost.made_by is None)
    reused = tuple(cost for cost in costs if cost.made_by is not None)
    return RunCosts(own, rate, gpus=len(machines[-1].gpus) if machines else 0, reused=reused)


def costs_so_far(root: Path, rate: float | None) -> str:
    """`12,345 tokens generated, engine 4 min, trainer 2 min, all stages 7 min`, for a line on the terminal."""
    costs = read_costs(LenientReader(root), rate)
    tokens = sum(cost.generated or 0 for cost in costs.stages)
    engine = sum(cost.seconds for cost in costs.stages if cost.kind in GENERATING)
    money = costs.money(costs.seconds())
    parts = [
        f"{tokens:,.0f} tokens generated",
        f"engine {duration(engine)}",
        f"trainer {duration(costs.seconds(kind='train'))}",
        f"all stages {duration(costs.seconds())}",
        *([] if money is None else [f"{money:,.2f} at {rate:g} an hour"]),
    ]
    return ", ".join(parts)


def _tokens(reader: LenientReader, place: str, kind: str) -> tuple[float | None, float | None]:
    """Tokens that a stage generated and trained on; from the records where its metrics do not count them."""
    metrics = reader.metrics(f"{place}/{kind}")
    match kind:
        case "train":
            return None, TOKENS_SEEN.of(metrics)
        case "synthesis":
            return TOKENS.of(metrics), None
        case "replay":
            return REPLAY_TOKENS.of(metrics), None
        case "eval":
            responses = reader.records(f"{place}/eval/{RESPONSES}", Response)
            return float(sum(response.tokens for response in responses)), None
        case "reliability":
            votes = reader.records(VOTES, Vote)
            return float(sum(answer.tokens for vote in votes for answer in vote.answers)), None
    return None, None


def points_per_hour(round_: RoundSummary, costs: RunCosts) -> float | None:
    """Points gained over the base on the deciding items, per hour up to that round; `None` where unknown.

    Hours are those of all GPUs of the machine, or of the machine where it has none.
    """
    gains = [result.against_base.difference for result in deciding_results(round_) if result.against_base]
    hours = costs.until(round_.round) / 3600 * max(1, costs.gpus)
    return 100 * sum(gains) / len(gains) / hours if gains and hours else None


def _number(place: str) -> int:
    number = place.removeprefix("round-")
    return int(number) if number.isdecimal() else 0
