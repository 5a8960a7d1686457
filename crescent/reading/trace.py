"""Which data made which checkpoint: a training pair, or any question, followed from its bait prompt to the checkpoints
that learned from it.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from crescent.errors import Missing
from crescent.reading.finished import Manifest, Run, find, setting
from crescent.records import Bait, Candidate, Outcome, Pair, Quarantined, Question, Verdict, Vote, child_suffix, digest
from crescent.run_folder.metric_names import TOO_LONG
from crescent.synthesis.consensus import entropy, is_unanimous, margin

Fate = Literal[
    "trained on",
    "not trained on yet",
    "not selected",
    "not selected yet",
    "too easy",
    "quarantined",
    "too little agreement",
    "no majority",
    "near-duplicate",
    "unusable",
]


@dataclass(frozen=True)
class Step:
    """One wording of a question, from the one invented to the one accepted or given up."""

    question: Question
    outcome: Outcome
    why: str = ""
    """Of an unusable one."""
    neighbour: Question | None = None
    """The nearest earlier question; `None` when there was none, or it is not found."""


@dataclass(frozen=True)
class Filter:
    """Something a question has to pass before it is trained on."""

    name: Literal["usable", "self-deduplication", "majority", "agreement", "decontamination", "unanimity"]
    passed: bool | None
    """`None`: nobody looked."""
    finding: str


@dataclass(frozen=True)
class Training:
    """One round whose pairs contain traced ones."""

    round: int
    pairs: tuple[str, ...]
    """Ids of the traced pairs among them."""
    checkpoint: str | None
    """`None`: not trained yet."""
    too_long: int = 0
    """Pairs of the round that the trainer left out as too long; which ones is not recorded."""
    verdict: Verdict | None = None
    """`None`: not judged yet."""


@dataclass(frozen=True)
class Trace:
    """Everything that is known about one question, and about the pairs made of it."""

    run: str
    """The run folder."""
    id: str
    """The id asked for, in full."""
    of: Literal["pair", "question"]
    fate: Fate
    bait: Bait | None = None
    steps: tuple[Step, ...] = ()
    """The last one was voted on, unless it was given up. None of an instruction that is replayed."""
    samples: int | None = None
    """Answers planned, the K of majority voting."""
    vote: Vote | None = None
    margin: float | None = None
    entropy: float | None = None
    """Of the vote, in bits."""
    pairs: tuple[Pair, ...] = ()
    chosen: tuple[int | None, ...] = ()
    """For each of `pairs` the sample it was made of, `None` where that cannot be told."""
    filters: tuple[Filter, ...] = ()
    """In order, up to the first that was not passed."""
    quarantine: Quarantined | None = None
    trained: tuple[Training, ...] = ()
    missing: tuple[str, ...] = ()
    """What could not be read, and why."""


def trace(root: Path, pair_id: str) -> Trace:
    """Follow a pair or a question of one run. The id may be given by its first digits.

    Raises:
        BadConfig, Missing: see `find`; or the stage that knows the id is damaged.
        DataSaysNo: a file of a finished stage cannot be read.
    """
    _, identity = find([root], pair_id)
    run = Run(root)
    asked = run.pair(identity)
    question = run.question(asked.question if asked else identity)
    if question is not None:
        return _trace_question(run, identity, question, asked)
    if asked is None:
        raise Missing(f"{identity}: stands in {root}, but cannot be read: {'; '.join(run.missing)}")
    trained = _trainings(run, [asked])
    return Trace(
        str(root),
        identity,
        "pair",
        _fate([], trained, selected=bool(trained)),
        pairs=(asked,),
        chosen=(None,),
        trained=trained,
    )


def _trace_question(run: Run, identity: str, question: Question, asked: Pair | None) -> Trace:
    candidates = run.candidates(question)
    last = candidates[-1].question
    vote = run.vote(last)
    pairs = [asked] if asked else run.pairs_of(last.id)
    filters = _up_to_a_stop(_filters(run, candidates[-1], vote, selected=bool(pairs)))
    near = run.neighbours(candidates)
    steps = [Step(its.question, its.outcome, its.why, near.get(its.question.neighbour or "")) for its in candidates]
    trained = _trainings(run, pairs)
    return Trace(
        run=str(run.root),
        id=identity,
        of="pair" if asked else "question",
        fate=_fate(filters, trained, selected=bool(pairs), waiting=run.selection(last.round) is None),
        bait=run.bait(last),
        steps=tuple(steps),
        samples=setting(run.synthesis(last.round), "consensus.samples"),
        vote=vote,
        margin=margin(vote) if vote else None,
        entropy=entropy(vote) if vote else None,
        pairs=tuple(pairs),
        chosen=tuple(_sample(pair, vote) for pair in pairs),
        filters=tuple(filters),
        quarantine=run.quarantine(last),
        trained=trained,
        missing=tuple(run.missing),
    )


def _filters(run: Run, last: Candidate, vote: Vote | None, selected: bool) -> Iterator[Filter]:
    """Everything between a question and a training file, in order, as far as the stages are finished."""
    question, number = last.question, last.question.round
    synthesis, selection = run.synthesis(number), run.selection(number)
    yield Filter("usable", last.outcome != "unusable", last.why or "a whole question")
    yield Filter("self-deduplication", last.outcome == "accepted", _distance(question, synthesis))
    if vote is None:
        return
    won = f"{vote.votes} of {vote.of} answers agree"
    labels = setting(selection, "pairs.labels") or "majority"
    if labels == "first":
        yield Filter("majority", True, f"not asked for (pairs.labels=first); {won}")
    else:
        yield Filter("majority", vote.winner is not None, won if vote.winner is not None else f"none: at most {won}")
    if selection is None:
        return
    cut = setting(selection, "consensus.min_agreement") or 0.0
    if labels != "first":
        yield Filter("agreement", vote.agreement >= cut, f"{vote.agreement:.3f}; consensus.min_agreement={cut:g}")
    found = run.quarantine(question)
    if found is not None:
        yield Filter("decontamination", False, f"{found.rule}: too near to {found.benchmark}, item {found.item}")
    elif run.decontaminated(number):
        yield Filter("decontamination", True, f"nothing found ({_rules(selection)})")
    else:
        yield Filter("decontamination", None, f"round-{number}/pairs has no quarantine.jsonl: nobody looked")
    samples = setting(synthesis, "consensus.samples") or vote.of
    if labels == "majority" and is_unanimous(vote, samples):
        share = f"pairs.max_unanimous={setting(selection, 'pairs.max_unanimous')}"
        yield Filter("unanimity", selected, f"the first {samples // 2 + 1} answers agree; {share} caps how many such")
    else:
        yield Filter("unanimity", True, f"the first {samples // 2 + 1} answers do not all agree")


def _up_to_a_stop(filters: Iterator[Filter]) -> list[Filter]:
    found = []
    for its in filters:
        found.append(its)
        if its.passed is False:
            break
    return found


def _distance(question: Question, synthesis: Manifest | None) -> str:
    threshold = setting(synthesis, "diversify.threshold")
    if setting(synthesis, "diversify.recheck") == "never" and question.rewrites:
        return "a rewrite, accepted unchecked (diversify.recheck=never)"
    if question.similarity is None:
        return "the first question: nothing to compare it with"
    return f"cosine {question.similarity:.3f} to the nearest; diversify.threshold={threshold}"


def _rules(selection: Manifest | None) -> str:
    """The decontamination rules that were on."""
    rules = setting(selection, "pairs.decontamination") or {}
    ngram, cosine = rules.get("ngram"), rules.get("similarity")
    named = [f"{ngram} words in a row"] if ngram else []
    named += ["the same with numbers masked"] if ngram and rules.get("masked") else []
    named += [f"cosine from {cosine:g}"] if cosine is not None else []
    return ", ".join(named) or "all rules are off"


FATES: dict[str, Fate] = {
    "usable": "unusable",
    "self-deduplication": "near-duplicate",
    "majority": "no majority",
    "agreement": "too little agreement",
    "decontamination": "quarantined",
    "unanimity": "too easy",
}
"""By the filter that was not passed."""


def _fate(filters: Sequence[Filter], trained: Sequence[Training], selected: bool = True, waiting: bool = False) -> Fate:
    """`waiting`: its round's pairs are not there yet."""
    if any(its.checkpoint for its in trained):
        return "trained on"
    if selected:
        return "not trained on yet"
    if filters and filters[-1].passed is False:
        return FATES[filters[-1].name]
    return "not selected yet" if waiting else "not selected"


def _sample(pair: Pair, vote: Vote | None) -> int | None:
    """The answer a pair was made of; its number is part of the pair's id (`crescent.selection.pairs.pairs_of`)."""
    samples = [answer.sample for answer in vote.answers] if vote else []
    return next((its for its in samples if digest(pair.question, its, pair.prompt) == pair.id), None)


def _trainings(run: Run, pairs: Sequence[Pair]) -> tuple[Training, ...]:
    """Every round whose pairs contain some of these."""
    ids = [pair.id for pair in pairs]
    return tuple(_training(run, number, there) for number in run.rounds if (there := run.trained_on(number, ids)))


def _training(run: Run, number: int, pairs: Collection[str]) -> Training:
    manifest = run.training(number)
    if manifest is None:
        return Training(number, tuple(sorted(pairs)), None)
    # The folder may have been renamed, so the name in the verdict is preferred.
    suffix = child_suffix(number, manifest["digest"])
    verdict = run.verdict(number, suffix)
    name = verdict.child if verdict else run.root.resolve().name + suffix
    return Training(number, tuple(sorted(pairs)), name, int(TOO_LONG.of(manifest["metrics"]) or 0), verdict)
