"""How many of a round's questions passed each step, from those asked for to those trained on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from crescent.report.texts import plural
from crescent.run_folder.metric_names import (
    ALL_PAIRS,
    BELOW_CUT,
    CANDIDATES,
    DECAYED_PAIRS,
    DROPPED_NEAR_DUPLICATES,
    DROPPED_TIES,
    EARLIER_PAIRS,
    EXAMPLES,
    KEPT_QUESTIONS,
    NEVER_RIGHT,
    NEW_PAIRS,
    NOT_COMPUTABLE,
    QUARANTINED,
    QUARANTINED_BY_RULE,
    QUESTIONS,
    REPLAYED_PAIRS,
    REWRITES,
    SILENT_VOTES,
    TOO_LONG,
    UNANIMOUS_DROPPED,
    UNOPPOSED,
    UNUSABLE,
    UNUSABLE_BECAUSE,
)

Metrics = Mapping[str, float]
RULES = {
    "ngram": "share a run of words with a benchmark item",
    "masked": "are a benchmark item with other numbers",
    "computation": "ask for the same computation as a benchmark item",
    "similarity": "mean nearly the same as a benchmark item",
}
DROPPED_BY_ARM = {
    NOT_COMPUTABLE: "pairs.labels=gold",
    NEVER_RIGHT: "pairs.labels=gold",
    UNOPPOSED: "pairs.labels=minority",
}


@dataclass(frozen=True)
class DroppedQuestions:
    """Questions that one step dropped for one reason."""

    reason: str
    count: float


@dataclass(frozen=True)
class FunnelStep:
    """What was left after a filter, or was added."""

    name: str
    count: float
    dropped: tuple[DroppedQuestions, ...] = ()
    """What the step dropped; where all reasons are known, their sum is the count before less this one."""
    note: str = ""


def funnel(
    synthesis: Metrics, pairs: Metrics, train: Metrics, agreements: Sequence[float] = (), cut: float = 0.0
) -> list[FunnelStep]:
    """The steps that are finished, in order. Counts that an older version did not record are left out.

    Args:
        agreements: Agreement of each vote; used where no pairs were selected yet.
        cut: `consensus.min_agreement`.
    """
    selected = list(_selected(synthesis, pairs)) if pairs else list(_voted(agreements, cut))
    return [*_asked(synthesis), *selected, *_trained(pairs, train)]


def _asked(synthesis: Metrics) -> Iterator[FunnelStep]:
    asked, unusable = CANDIDATES.of(synthesis), UNUSABLE.of(synthesis) or 0
    if asked is None:
        return
    yield FunnelStep("questions asked for", asked)
    known = [DroppedQuestions(reason, count) for reason, count in UNUSABLE_BECAUSE.find(synthesis).items()]
    known.sort(key=lambda dropped: (-dropped.count, dropped.reason))
    yield FunnelStep("usable", asked - unusable, tuple(known or _dropped(("unusable", unusable))))
    rewrites = REWRITES.of(synthesis) or 0
    yield FunnelStep(
        "different from all earlier ones",
        QUESTIONS.of(synthesis) or 0,
        tuple(_dropped((DROPPED_NEAR_DUPLICATES.label, DROPPED_NEAR_DUPLICATES.of(synthesis) or 0))),
        plural(rewrites, "rewrite") if rewrites else "",
    )


def _voted(agreements: Sequence[float], cut: float) -> Iterator[FunnelStep]:
    """As far as the votes alone decide."""
    if not agreements:
        return
    undecided = sum(agreement == 0 for agreement in agreements)
    kept = sum(agreement >= cut for agreement in agreements if agreement)
    dropped = _dropped(
        ("without a majority (a tie, or no final answer)", undecided),
        (f"below consensus.min_agreement={cut:g}", len(agreements) - undecided - kept),
    )
    note = "by the votes alone: pairs were not selected, either not yet or because there are fewer than pairs.minimum"
    yield FunnelStep("with a majority that reaches the agreement cut", kept, tuple(dropped), note)


def _selected(synthesis: Metrics, pairs: Metrics) -> Iterator[FunnelStep]:
    made, accepted = NEW_PAIRS.of(pairs), QUESTIONS.of(synthesis)
    if made is None or accepted is None:
        return
    easy, quarantined = UNANIMOUS_DROPPED.of(pairs) or 0, QUARANTINED.of(pairs) or 0
    kept = KEPT_QUESTIONS.of(pairs) or made
    labelled = kept + easy + quarantined
    unlabelled = list(
        _dropped(
            ("no final answer in any response", SILENT_VOTES.of(pairs) or 0),
            (DROPPED_TIES.label, DROPPED_TIES.of(pairs) or 0),
            (BELOW_CUT.label, BELOW_CUT.of(pairs) or 0),
            *((f"{dropped.label} ({arm})", dropped.of(pairs) or 0) for dropped, arm in DROPPED_BY_ARM.items()),
        )
    )
    lost = accepted - labelled
    # Where labels need no majority, questions without one are kept, and these counts are not losses.
    if sum(dropped.count for dropped in unlabelled) != lost:
        unlabelled = list(_dropped(("no label", max(0, lost))))
    yield FunnelStep("with a label to train on", labelled, tuple(unlabelled))
    by_rule = QUARANTINED_BY_RULE.find(pairs)
    rules = [(text, by_rule.get(rule, 0)) for rule, text in RULES.items()]
    similar = tuple(_dropped(*rules) if quarantined else ())
    yield FunnelStep("not too similar to a benchmark", labelled - quarantined, similar)
    yield FunnelStep("not too easy", kept, tuple(_dropped(("unanimous, beyond pairs.max_unanimous", easy))))
    yield FunnelStep("new training pairs", made, (), "" if made == kept else f"from {kept:,.0f} questions")


def _trained(pairs: Metrics, train: Metrics) -> Iterator[FunnelStep]:
    total = ALL_PAIRS.of(pairs)
    if total is None:
        return
    earlier, decayed, replayed = (metric.of(pairs) or 0 for metric in (EARLIER_PAIRS, DECAYED_PAIRS, REPLAYED_PAIRS))
    added = [
        f"{count:,.0f} {what}"
        for what, count in (("from earlier rounds", earlier), ("general instructions", replayed))
        if count
    ]
    decays = f"; {decayed:,.0f} of earlier rounds dropped by decay" if decayed else ""
    note = f"with {' and '.join(added)}{decays}" if added else decays.removeprefix("; ")
    dropped = tuple(_dropped(("too long for the trainer", TOO_LONG.of(train) or 0)))
    rows = EXAMPLES.of(train)
    yield FunnelStep("trained on" if train else "to be trained on", total if rows is None else rows, dropped, note)


def _dropped(*counts: tuple[str, float]) -> Iterator[DroppedQuestions]:
    return (DroppedQuestions(reason, count) for reason, count in counts if count)
