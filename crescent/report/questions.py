"""A round's own questions: how far their answers agreed, what became of them, and some of them to read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from crescent.errors import DataSaysNo
from crescent.reading.finished import setting
from crescent.records import BaitCount, Candidate, Pair, Quarantined, Question, Vote
from crescent.report.lenient import LenientReader, evenly_chosen
from crescent.synthesis.consensus import entropy, is_unanimous, standings

SAMPLES = 12
"""Questions of a round that are shown, and near-duplicates."""
UNUSABLE_SAMPLES = 6
ENTROPY_STEP = 0.5
"""Bits per column of the histogram of difficulty."""

VotedFate = Literal[
    "became pairs", "too easy", "quarantined", "too little agreement", "no majority", "not selected yet"
]
FATES: tuple[VotedFate, ...] = (
    "became pairs",
    "too little agreement",
    "no majority",
    "too easy",
    "quarantined",
    "not selected yet",
)
"""Fates in the order in which charts stack them."""


@dataclass(frozen=True)
class VotedQuestion:
    """One voted question in a few numbers."""

    id: str
    lead: int
    """Votes of the leading answer among the first ⌊K/2⌋+1 answers, which every question gets."""
    agreement: float
    entropy: float
    """Entropy of its answers, in bits: 0 when all agree."""
    fate: VotedFate


@dataclass(frozen=True)
class SampledQuestion:
    """A question to read, with all its answers."""

    vote: Vote
    fate: VotedFate
    neighbour: Question | None
    pair: Pair | None
    """Training pair made from it; the first of several."""
    quarantined: Quarantined | None


@dataclass(frozen=True)
class NearDuplicate:
    """A candidate that was too similar to an earlier question."""

    candidate: Candidate
    neighbour: Question | None
    """Earlier question, `None` when its text was not found."""


@dataclass(frozen=True)
class RoundQuestions:
    """The questions of one round."""

    samples: int | None
    """Answers planned per question, K."""
    cut: float
    """`consensus.min_agreement`."""
    voted: tuple[VotedQuestion, ...]
    baits: tuple[BaitCount, ...]
    sampled: tuple[SampledQuestion, ...]
    near_duplicates: tuple[NearDuplicate, ...]
    """Near-duplicates that are shown."""
    near_duplicates_total: int
    """Number of all candidates that were too similar to an earlier question, rewritten ones included."""
    unusable: tuple[Candidate, ...]
    """Unusable completions that are shown, one of each reason first."""

    @property
    def first(self) -> int:
        """Number of answers that every question gets, ⌊K/2⌋+1; adaptive voting may stop there."""
        return (self.samples or 1) // 2 + 1


def read_questions(reader: LenientReader, number: int) -> RoundQuestions | None:
    """The questions of a round, `None` when they are not there yet."""
    manifest = reader.run.synthesis(number)
    if manifest is None:
        return None
    folder, selected = f"round-{number}/synthesis", reader.run.selection(number) is not None
    samples = setting(manifest, "consensus.samples")
    samples = samples if isinstance(samples, int) else None
    cut = setting(manifest, "consensus.min_agreement") or 0.0
    pairs = {pair.question: pair for pair in _new_pairs(reader, number)} if selected else {}
    quarantine = {held.question.id: held for held in _quarantine(reader, number)} if selected else {}

    def fate(vote: Vote) -> VotedFate:
        if not selected:
            return "not selected yet"
        if vote.question.id in pairs:
            return "became pairs"
        if vote.question.id in quarantine:
            return "quarantined"
        if vote.winner is None:
            return "no majority"
        easy = samples is not None and is_unanimous(vote, samples) and vote.agreement >= cut
        return "too easy" if easy else "too little agreement"

    voted = []
    for vote in reader.records(f"{folder}/votes.jsonl", Vote):
        lead = standings(vote.classes[: (samples or 1) // 2 + 1])[1]
        bits = entropy(vote) if vote.answers else 0.0
        voted.append(VotedQuestion(vote.question.id, lead, vote.agreement, bits, fate(vote)))
    chosen = evenly_chosen(voted, SAMPLES, lambda question: (-question.agreement, question.id))
    votes = _votes_of(reader, folder, [question.id for question in chosen])
    near, near_total, unusable = _candidates(reader, folder)
    neighbours = _neighbours(reader, [*near, *(Candidate(vote.question, "accepted") for vote in votes.values())])
    return RoundQuestions(
        samples=samples,
        cut=cut,
        voted=tuple(voted),
        baits=tuple(reader.records(f"{folder}/baits.jsonl", BaitCount)),
        sampled=tuple(
            SampledQuestion(
                votes[question.id],
                question.fate,
                neighbours.get(votes[question.id].question.neighbour or ""),
                pairs.get(question.id),
                quarantine.get(question.id),
            )
            for question in chosen
            if question.id in votes
        ),
        near_duplicates=tuple(
            NearDuplicate(candidate, neighbours.get(candidate.question.neighbour or "")) for candidate in near
        ),
        near_duplicates_total=near_total,
        unusable=tuple(unusable),
    )


def by_level(baits: Sequence[BaitCount]) -> Mapping[str, list[BaitCount]]:
    """The baits of a pool by the level of difficulty that ends their names; empty where no pool is used."""
    levels: dict[str, list[BaitCount]] = {}
    for count in baits:
        parts = count.bait.name.split("/")
        if len(parts) >= 3:
            levels.setdefault(parts[-1], []).append(count)
    return levels


def _new_pairs(reader: LenientReader, number: int) -> list[Pair]:
    return list(reader.records(f"round-{number}/pairs/new.jsonl", Pair))


def _quarantine(reader: LenientReader, number: int) -> list[Quarantined]:
    return list(reader.records(f"round-{number}/pairs/quarantine.jsonl", Quarantined))


def _votes_of(reader: LenientReader, folder: str, identities: Sequence[str]) -> dict[str, Vote]:
    """A second pass over the file, so that only these votes are kept in memory: a round can have thousands."""
    votes = reader.records(f"{folder}/votes.jsonl", Vote, identities)
    return {vote.question.id: vote for vote in votes if vote.question.id in identities}


def _candidates(reader: LenientReader, folder: str) -> tuple[list[Candidate], int, list[Candidate]]:
    """Some near-duplicates, how many there were, and some unusable completions."""
    near: list[Candidate] = []
    unusable: dict[str, list[Candidate]] = {}
    for candidate in reader.records(f"{folder}/candidates.jsonl", Candidate):
        if candidate.outcome in ("near-duplicate", "rewritten"):
            near.append(candidate)
        elif candidate.outcome == "unusable":
            same_reason = unusable.setdefault(candidate.why, [])
            if len(same_reason) < UNUSABLE_SAMPLES:
                same_reason.append(candidate)
    chosen = evenly_chosen(
        near, SAMPLES, lambda candidate: (-(candidate.question.similarity or 0.0), candidate.question.id)
    )
    in_turn: list[Candidate] = []
    for turn in range(UNUSABLE_SAMPLES):
        in_turn += [same_reason[turn] for same_reason in unusable.values() if len(same_reason) > turn]
    return chosen, len(near), in_turn[:UNUSABLE_SAMPLES]


def _neighbours(reader: LenientReader, candidates: Sequence[Candidate]) -> dict[str, Question]:
    if not candidates:
        return {}
    try:
        return reader.run.neighbours(candidates)
    except DataSaysNo as error:
        reader.run.note(str(error))
        return {}


def count_fates(
    questions: Sequence[VotedQuestion], columns: int, column: Callable[[VotedQuestion], int]
) -> dict[VotedFate, list[int]]:
    """Number of questions of each fate in each column; `column` gives the column of a question."""
    counts: dict[VotedFate, list[int]] = {}
    for question in questions:
        counts.setdefault(question.fate, [0] * columns)[min(column(question), columns - 1)] += 1
    return {fate: counts[fate] for fate in FATES if fate in counts}
