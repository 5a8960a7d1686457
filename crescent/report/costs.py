"""What a run cost: time, tokens and money."""

from collections.abc import Sequence
from dataclasses import dataclass

from crescent.judging.reliability import VOTES
from crescent.machine.environment import read_environments
from crescent.reading.ranking import deciding
from crescent.reading.rounds import RoundRow
from crescent.records import Response, Vote
from crescent.report.reading import Reader
from crescent.run_folder.manifest import MANIFEST
from crescent.run_folder.metric_names import REPLAY_TOKENS, TOKENS, TOKENS_SEEN
from crescent.run_folder.places import SET_ASIDE

COUNTED = {"synthesis": TOKENS, "replay": REPLAY_TOKENS}
"""Stages that count the tokens they generate, each with its metric."""
GENERATING = ("reliability", "replay", "synthesis", "eval", "harness")
"""Kinds of stages that generate."""
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
    """Of its last attempt."""
    generated: float | None
    """Tokens that the engine generated; `None` where it generates none, or they were not counted."""
    trained: float | None
    """Tokens that the trainer saw."""


@dataclass(frozen=True)
class Ledger:
    """All finished stages of a run."""

    stages: tuple[StageCost, ...]
    rate: float | None
    """Money per machine-hour."""
    gpus: int = 0
    """Of the machine, used or not; 0 where there is none, or it is not known."""

    def seconds(self, place: str | None = None, kind: str | None = None) -> float:
        return sum(its.seconds for its in self.of(place, kind))

    def of(self, place: str | None = None, kind: str | None = None) -> list[StageCost]:
        return [its for its in self.stages if place in (None, its.place) and kind in (None, its.kind)]

    @property
    def places(self) -> list[str]:
        return list(dict.fromkeys(its.place for its in self.stages))

    @property
    def kinds(self) -> list[str]:
        found = {its.kind for its in self.stages}
        return [*(its for its in KINDS if its in found), *sorted(found - set(KINDS))]

    @property
    def uncounted(self) -> list[str]:
        """Stages that generated tokens which nobody wrote down."""
        return [its.stage for its in self.stages if its.kind in GENERATING and its.generated is None]

    @property
    def hours(self) -> float:
        return self.seconds() / 3600

    def money(self, seconds: float) -> float | None:
        return None if self.rate is None else seconds / 3600 * self.rate

    def until(self, number: int) -> float:
        """Seconds of the base and of all rounds up to this one."""
        return sum(self.seconds(place) for place in self.places if _number(place) <= number)


def read_ledger(reader: Reader, rate: float | None) -> Ledger:
    """Every finished stage that lies in the run folder now; what was set aside is not in it."""
    found = []
    for path in reader.root.glob(f"*/*/{MANIFEST}"):
        place, kind = path.parent.parent.name, path.parent.name
        manifest = reader.run.stage(f"{place}/{kind}") if place != SET_ASIDE and not kind.endswith(".partial") else None
        if manifest is not None:
            metrics = reader.metrics(f"{place}/{kind}")
            trained = TOKENS_SEEN.of(metrics) if kind == "train" else None
            generated = COUNTED[kind].of(metrics) if kind in COUNTED else None
            if kind == "eval":
                responses = reader.records(f"{place}/eval/responses.jsonl", Response)
                generated = float(sum(its.tokens for its in responses))
            if kind == "reliability":
                votes = reader.records(VOTES, Vote)
                generated = float(sum(answer.tokens for its in votes for answer in its.answers))
            found.append(StageCost(f"{place}/{kind}", place, kind, float(manifest["seconds"]), generated, trained))
    found.sort(key=lambda its: (_number(its.place), its.place, KINDS.index(its.kind) if its.kind in KINDS else 99))
    machines = read_environments(reader.root)
    return Ledger(tuple(found), rate, gpus=len(machines[-1].gpus) if machines else 0)


def points_per_hour(row: RoundRow, ledger: Ledger) -> float | None:
    """Points won over the base on the deciding items, per hour up to that round, of a GPU where there are some, else of
    the machine; `None` where unknown."""
    gains = [its.against_base.difference for its in deciding(row) if its.against_base]
    seconds = ledger.until(row.round)
    hours = seconds / 3600 * max(1, ledger.gpus)
    return 100 * sum(gains) / len(gains) / hours if gains and hours else None


def best_row(rows: Sequence[RoundRow]) -> RoundRow | None:
    """The checkpoint that a run ends with: the last accepted, or the base."""
    accepted = [its for its in rows if its.verdict == "accept"]
    return accepted[-1] if accepted else next((its for its in rows if its.round == 0), None)


def _number(place: str) -> int:
    given = place.removeprefix("round-")
    return int(given) if given.isdecimal() else 0
