"""Which data made which checkpoint.

A training pair, or any question, is followed from its bait prompt to the checkpoints that were trained on it.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from crescent.config import Labels
from crescent.errors import Missing
from crescent.reading.finished import Manifest, RunReader, find_id, setting
from crescent.records import (
    Bait,
    Candidate,
    Outcome,
    Pair,
    Quarantined,
    Question,
    SeedQuestion,
    Verdict,
    Vote,
    child_suffix,
    digest,
)
from crescent.run_folder.metric_names import TOO_LONG
from crescent.selection.arms import right_answers
from crescent.synthesis.consensus import SILENCE, entropy, is_unanimous, margin

Fate = Literal[
    "trained on",
    "not trained on yet",
    "not selected",
    "not selected yet",
    "too easy",
    "no answer of its arm",
    "quarantined",
    "too little agreement",
    "no majority",
    "near-duplicate",
    "unusable",
]


@dataclass(frozen=True)
class Wording:
    """One wording of a question, from the invented one to the one that was accepted or dropped."""

    question: Question
    outcome: Outcome
    why: str = ""
    """Reason why it is unusable; empty for a usable one."""
    neighbour: Question | None = None
    """Nearest earlier question; `None` for the first question, and when the text was not found."""


@dataclass(frozen=True)
class Filter:
    """One condition that a question must pass before it is trained on."""

    name: Literal["usable", "self-deduplication", "majority", "agreement", "decontamination", "unanimity", "arm"]
    passed: bool | None
    """`None` when it was not checked."""
    finding: str


@dataclass(frozen=True)
class TrainedRound:
    """One round whose pairs contain traced ones."""

    round: int
    pairs: tuple[str, ...]
    """Ids of the traced pairs among them."""
    checkpoint: str | None
    """Name of the child, `None` before training."""
    too_long: int = 0
    """Number of the round's pairs that the trainer left out as too long; which ones is not recorded."""
    verdict: Verdict | None = None
    """Verdict on the child, `None` before it."""


@dataclass(frozen=True)
class Trace:
    """Everything that is known about one question, and about the pairs made from it."""

    run: str
    """Path of the run folder."""
    id: str
    """Id that was asked for, in full."""
    of: Literal["pair", "question"]
    fate: Fate
    bait: Bait | None = None
    seed: SeedQuestion | None = None
    """Seed question that the bait prompt showed to the model (`bait.seeds`); `None` for one that showed none."""
    steps: tuple[Wording, ...] = ()
    """Wordings, the last of which was voted on unless it was dropped; empty for a replayed instruction."""
    samples: int | None = None
    """Number of answers planned, the K of majority voting."""
    vote: Vote | None = None
    margin: float | None = None
    entropy: float | None = None
    """Entropy of the vote, in bits."""
    pairs: tuple[Pair, ...] = ()
    chosen: tuple[int | None, ...] = ()
    """Sample that each of `pairs` was made from, `None` where it is not known."""
    filters: tuple[Filter, ...] = ()
    """Filters in order, up to the first that was not passed."""
    quarantine: Quarantined | None = None
    trained: tuple[TrainedRound, ...] = ()
    reused: tuple[str, ...] = ()
    """Stages that other runs made, each with its run, e.g. `round-1/synthesis of runs/a`."""
    missing: tuple[str, ...] = ()
    """What could not be read, and why."""


def trace(root: Path, pair_id: str) -> Trace:
    """Follow a pair or a question of one run. The id may be given by its first digits.

    Raises:
        BadConfig, Missing: see `find_id`; or the stage that contains the id is damaged.
        DataSaysNo: a file of a finished stage cannot be read.
    """
    _, identity = find_id([root], pair_id)
    reader = RunReader(root)
    asked = reader.pair(identity)
    question = reader.question(asked.question if asked else identity)
    if question is not None:
        return _trace_question(reader, identity, question, asked)
    if asked is None:
        raise Missing(f"{identity}: is in {root}, but cannot be read: {'; '.join(reader.missing)}")
    trained = _trained_rounds(reader, [asked])
    return Trace(
        str(root),
        identity,
        "pair",
        _fate([], trained, selected=bool(trained)),
        pairs=(asked,),
        chosen=(None,),
        trained=trained,
    )


def _trace_question(reader: RunReader, identity: str, question: Question, asked: Pair | None) -> Trace:
    candidates = reader.candidates(question)
    last = candidates[-1].question
    vote = reader.vote(last)
    pairs = [asked] if asked else reader.pairs_of(last.id)
    filters = _up_to_a_stop(_filters(reader, candidates[-1], vote, selected=bool(pairs)))
    neighbours = reader.neighbours(candidates)
    wordings = [
        Wording(
            candidate.question, candidate.outcome, candidate.why, neighbours.get(candidate.question.neighbour or "")
        )
        for candidate in candidates
    ]
    trained = _trained_rounds(reader, pairs)
    return Trace(
        run=str(reader.root),
        id=identity,
        of="pair" if asked else "question",
        fate=_fate(filters, trained, selected=bool(pairs), waiting=reader.selection(last.round) is None),
        bait=reader.bait(last),
        seed=reader.seed(last),
        steps=tuple(wordings),
        samples=setting(reader.synthesis(last.round), "consensus.samples"),
        vote=vote,
        margin=margin(vote) if vote else None,
        entropy=entropy(vote) if vote else None,
        pairs=tuple(pairs),
        chosen=tuple(_sample(pair, vote) for pair in pairs),
        filters=tuple(filters),
        quarantine=reader.quarantine(last),
        trained=trained,
        reused=_reused(reader, last.round, trained),
        missing=tuple(reader.missing),
    )


def _filters(reader: RunReader, last: Candidate, vote: Vote | None, selected: bool) -> Iterator[Filter]:
    """Everything between a question and a training file, in order, as far as the stages are finished."""
    question, number = last.question, last.question.round
    synthesis, selection = reader.synthesis(number), reader.selection(number)
    yield Filter("usable", last.outcome != "unusable", last.why or "a complete question")
    yield Filter("self-deduplication", last.outcome == "accepted", _distance(question, synthesis))
    if vote is None:
        return
    agreeing = f"{vote.votes} of {vote.of} answers agree"
    # Arms of earlier runs had questions of their own: what they recorded as `first` is now called `first_any`.
    labels = setting(selection, "pairs.labels") or "majority"
    any_question = labels == "first" and setting(selection, "pairs.questions") is None
    if any_question:
        yield Filter("majority", True, f"not required (pairs.labels=first_any); {agreeing}")
    elif vote.winner is None:
        yield Filter("majority", False, f"none: at most {agreeing}")
    else:
        yield Filter("majority", True, agreeing)
    if selection is None:
        return
    cut = setting(selection, "consensus.min_agreement") or 0.0
    if not any_question:
        yield Filter("agreement", vote.agreement >= cut, f"{vote.agreement:.3f}; consensus.min_agreement={cut:g}")
    quarantined = reader.quarantine(question)
    if quarantined is not None:
        finding = f"{quarantined.rule}: too similar to {quarantined.benchmark}, item {quarantined.item}"
        yield Filter("decontamination", False, finding)
    elif reader.decontaminated(number):
        yield Filter("decontamination", True, f"nothing found ({_rules(selection)})")
    else:
        yield Filter("decontamination", None, f"not checked: round-{number}/pairs has no quarantine.jsonl")
    samples = setting(synthesis, "consensus.samples") or vote.of
    first_answers = f"the first {samples // 2 + 1} answers"
    capped = labels == "majority" or setting(selection, "pairs.questions") == "kept"
    without_answer = "" if selected else _without_answer(vote, labels)
    # Unanimous questions are not all dropped: `pairs.max_unanimous` limits their share, and hashes choose among them.
    if capped and is_unanimous(vote, samples):
        share = f"pairs.max_unanimous={setting(selection, 'pairs.max_unanimous')}"
        passed = None if without_answer else selected
        yield Filter("unanimity", passed, f"{first_answers} agree; {share} limits the share of such questions")
    else:
        yield Filter("unanimity", True, f"{first_answers} do not all agree")
    if without_answer:
        yield Filter("arm", False, f"{without_answer} (pairs.labels={labels})")


def _without_answer(vote: Vote, labels: str) -> str:
    """Why a control arm has no answer to a question that the majority arm trains on; empty if it has one."""
    if labels == Labels.gold.value and not right_answers(vote):
        return "no answer is right by computation"
    if labels == Labels.minority.value and len(set(vote.classes) - {SILENCE}) < 2:
        return "no answer contradicts the majority"
    return ""


def _up_to_a_stop(filters: Iterator[Filter]) -> list[Filter]:
    found = []
    for filter_ in filters:
        found.append(filter_)
        if filter_.passed is False:
            break
    return found


def _distance(question: Question, synthesis: Manifest | None) -> str:
    threshold = setting(synthesis, "diversify.threshold")
    if setting(synthesis, "diversify.recheck") == "never" and question.rewrites:
        return "a rewrite, accepted without a check (diversify.recheck=never)"
    if question.similarity is None:
        return "the first question: there is no earlier one to compare it with"
    return f"cosine {question.similarity:.3f} to the nearest; diversify.threshold={threshold}"


def _rules(selection: Manifest | None) -> str:
    """The decontamination rules that were on."""
    rules = setting(selection, "pairs.decontamination") or {}
    ngram, cosine = rules.get("ngram"), rules.get("similarity")
    named = [f"{ngram} words in a row"] if ngram else []
    named += ["the same with numbers masked"] if ngram and rules.get("masked") else []
    named += ["the same computation"] if rules.get("computation") else []
    named += [f"cosine from {cosine:g}"] if cosine is not None else []
    return ", ".join(named) or "all rules are off"


FATES: dict[str, Fate] = {
    "usable": "unusable",
    "self-deduplication": "near-duplicate",
    "majority": "no majority",
    "agreement": "too little agreement",
    "decontamination": "quarantined",
    "unanimity": "too easy",
    "arm": "no answer of its arm",
}
"""Fate of a question by the filter that it did not pass."""


def _fate(
    filters: Sequence[Filter], trained: Sequence[TrainedRound], selected: bool = True, waiting: bool = False
) -> Fate:
    """`waiting`: the pairs of its round are not selected yet."""
    if any(round_.checkpoint for round_ in trained):
        return "trained on"
    if selected:
        return "not trained on yet"
    if filters and filters[-1].passed is False:
        return FATES[filters[-1].name]
    return "not selected yet" if waiting else "not selected"


def _sample(pair: Pair, vote: Vote | None) -> int | None:
    """The sample that a pair was made from, which is part of the pair's id (`crescent.selection.pairs.pairs_of`)."""
    samples = [answer.sample for answer in vote.answers] if vote else []
    return next((sample for sample in samples if digest(pair.question, sample, pair.prompt) == pair.id), None)


def _reused(reader: RunReader, number: int, trained: Sequence[TrainedRound]) -> tuple[str, ...]:
    """The stages of a question's round, and the trainings on its pairs, that were taken over from other runs."""
    stages = [f"round-{number}/synthesis", f"round-{number}/pairs", *(f"round-{made.round}/train" for made in trained)]
    makers = ((stage, reader.reused(stage)) for stage in stages)
    return tuple(f"{stage} of {maker}" for stage, maker in makers if maker is not None)


def _trained_rounds(reader: RunReader, pairs: Sequence[Pair]) -> tuple[TrainedRound, ...]:
    """Every round whose pairs contain some of these."""
    ids = [pair.id for pair in pairs]
    return tuple(
        _trained_round(reader, number, traced) for number in reader.rounds if (traced := reader.trained_on(number, ids))
    )


def _trained_round(reader: RunReader, number: int, pairs: Collection[str]) -> TrainedRound:
    manifest = reader.training(number)
    if manifest is None:
        return TrainedRound(number, tuple(sorted(pairs)), None)
    # The folder may have been renamed, so the name in the verdict is preferred.
    suffix = child_suffix(number, manifest["digest"])
    verdict = reader.verdict(number, suffix)
    name = verdict.child if verdict else reader.root.resolve().name + suffix
    return TrainedRound(number, tuple(sorted(pairs)), name, int(TOO_LONG.of(manifest["metrics"]) or 0), verdict)
