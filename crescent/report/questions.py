"""What a round asked itself: how far its answers agreed, what became of its questions, and some of them to read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from crescent.errors import DataSaysNo
from crescent.reading.finished import setting
from crescent.records import BaitCount, Candidate, Pair, Quarantined, Question, Vote
from crescent.report.reading import Reader, spread
from crescent.synthesis.consensus import entropy, is_unanimous, standings

SAMPLES = 12
"""Questions of a round, and near-duplicates, that are shown."""
UNUSABLE_SAMPLES = 6
ENTROPY_STEP = 0.5
"""Bits per column of the histogram of difficulty."""

Fate = Literal["became pairs", "too easy", "quarantined", "too little agreement", "no majority", "not selected yet"]
FATES: tuple[Fate, ...] = (
    "became pairs",
    "too little agreement",
    "no majority",
    "too easy",
    "quarantined",
    "not selected yet",
)


@dataclass(frozen=True)
class Asked:
    """One voted question in a few numbers."""

    id: str
    lead: int
    """Answers behind the leader among the first ⌊K/2⌋+1, which every question is asked."""
    agreement: float
    entropy: float
    """Of its answers, in bits: 0 when all agree."""
    fate: Fate


@dataclass(frozen=True)
class Sampled:
    """A question to read, with everything it was answered."""

    vote: Vote
    fate: Fate
    neighbour: Question | None
    pair: Pair | None
    """The training pair that was made of it; of several the first."""
    quarantined: Quarantined | None


@dataclass(frozen=True)
class Rejected:
    """A candidate that was too near to an earlier question."""

    candidate: Candidate
    neighbour: Question | None
    """`None`: its text was not found."""


@dataclass(frozen=True)
class Questions:
    """A round's own questions."""

    samples: int | None
    """K."""
    cut: float
    """`consensus.min_agreement`."""
    asked: tuple[Asked, ...]
    baits: tuple[BaitCount, ...]
    sampled: tuple[Sampled, ...]
    rejected: tuple[Rejected, ...]
    rejections: int
    """Of how many `rejected` are a choice."""
    unusable: tuple[Candidate, ...]
    """Some of them, of each reason one first."""

    @property
    def first(self) -> int:
        """Answers that every question is asked, ⌊K/2⌋+1."""
        return (self.samples or 1) // 2 + 1


def read_questions(reader: Reader, number: int) -> Questions | None:
    """Of a round, `None` when its questions are not there."""
    manifest = reader.run.synthesis(number)
    if manifest is None:
        return None
    folder, selected = f"round-{number}/synthesis", reader.run.selection(number) is not None
    samples = setting(manifest, "consensus.samples")
    samples = samples if isinstance(samples, int) else None
    cut = setting(manifest, "consensus.min_agreement") or 0.0
    new = {its.question: its for its in reader.records(f"round-{number}/pairs/new.jsonl", Pair)} if selected else {}
    held = {its.question.id: its for its in _quarantine(reader, number)} if selected else {}

    def fate(vote: Vote) -> Fate:
        if not selected:
            return "not selected yet"
        if vote.question.id in new:
            return "became pairs"
        if vote.question.id in held:
            return "quarantined"
        if vote.winner is None:
            return "no majority"
        easy = samples is not None and is_unanimous(vote, samples) and vote.agreement >= cut
        return "too easy" if easy else "too little agreement"

    asked = []
    for vote in reader.records(f"{folder}/votes.jsonl", Vote):
        lead = standings(vote.classes[: (samples or 1) // 2 + 1])[1]
        bits = entropy(vote) if vote.answers else 0.0
        asked.append(Asked(vote.question.id, lead, vote.agreement, bits, fate(vote)))
    chosen = {its.id: its for its in spread(asked, SAMPLES, lambda its: (-its.agreement, its.id))}
    # Only the chosen ones are kept in memory: a round can have many thousand questions.
    read = {
        its.question.id: its
        for its in reader.records(f"{folder}/votes.jsonl", Vote, chosen)
        if its.question.id in chosen
    }
    votes = [read[identity] for identity in chosen if identity in read]
    near, rejections, unusable = _candidates(reader, folder)
    known = _neighbours(reader, [*near, *(Candidate(its.question, "accepted") for its in votes)])
    return Questions(
        samples=samples,
        cut=cut,
        asked=tuple(asked),
        baits=tuple(reader.records(f"{folder}/baits.jsonl", BaitCount)),
        sampled=tuple(
            Sampled(
                its,
                chosen[its.question.id].fate,
                known.get(its.question.neighbour or ""),
                new.get(its.question.id),
                held.get(its.question.id),
            )
            for its in votes
        ),
        rejected=tuple(Rejected(its, known.get(its.question.neighbour or "")) for its in near),
        rejections=rejections,
        unusable=tuple(unusable),
    )


def levels_of(baits: Sequence[BaitCount]) -> Mapping[str, list[BaitCount]]:
    """The baits of a pool by the level of difficulty at the end of their names; none where no pool is used."""
    levels: dict[str, list[BaitCount]] = {}
    for its in baits:
        parts = its.bait.name.split("/")
        if len(parts) >= 3:
            levels.setdefault(parts[-1], []).append(its)
    return levels


def _quarantine(reader: Reader, number: int) -> list[Quarantined]:
    return list(reader.records(f"round-{number}/pairs/quarantine.jsonl", Quarantined))


def _candidates(reader: Reader, folder: str) -> tuple[list[Candidate], int, list[Candidate]]:
    """Some near-duplicates, how many there were, and some unusable completions."""
    near: list[Candidate] = []
    unusable: dict[str, list[Candidate]] = {}
    for its in reader.records(f"{folder}/candidates.jsonl", Candidate):
        if its.outcome in ("near-duplicate", "rewritten"):
            near.append(its)
        elif its.outcome == "unusable" and len(alike := unusable.setdefault(its.why, [])) < UNUSABLE_SAMPLES:
            alike.append(its)
    chosen = spread(near, SAMPLES, lambda its: (-(its.question.similarity or 0.0), its.question.id))
    in_turn: list[Candidate] = []
    for turn in range(UNUSABLE_SAMPLES):
        in_turn += [its[turn] for its in unusable.values() if len(its) > turn]
    return chosen, len(near), in_turn[:UNUSABLE_SAMPLES]


def _neighbours(reader: Reader, candidates: Sequence[Candidate]) -> dict[str, Question]:
    if not candidates:
        return {}
    try:
        return reader.run.neighbours(candidates)
    except DataSaysNo as error:
        reader.run.note(str(error))
        return {}


def gauge(asked: Sequence[Asked], columns: int, of: Callable[[Asked], int]) -> dict[Fate, list[int]]:
    """How many questions of each fate fall into each column; `of` gives a question's column."""
    found: dict[Fate, list[int]] = {}
    for its in asked:
        found.setdefault(its.fate, [0] * columns)[min(of(its), columns - 1)] += 1
    return {fate: found[fate] for fate in FATES if fate in found}
