"""Where a round's questions were lost, from what was asked for to what was trained on."""

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
    NEW_PAIRS,
    QUARANTINED,
    QUARANTINED_BY_RULE,
    QUESTIONS,
    REPLAYED_PAIRS,
    REWRITES,
    SILENT_VOTES,
    TOO_LONG,
    UNANIMOUS_DROPPED,
    UNUSABLE,
    UNUSABLE_BECAUSE,
)

Metrics = Mapping[str, float]
RULES = {
    "ngram": "share a run of words with a benchmark item",
    "masked": "are a benchmark item but for its numbers",
    "similarity": "mean nearly the same as a benchmark item",
}


@dataclass(frozen=True)
class Loss:
    """Questions that went no further, and why."""

    reason: str
    count: float


@dataclass(frozen=True)
class Step:
    """What was left after a filter, or was added."""

    name: str
    count: float
    losses: tuple[Loss, ...] = ()
    """What it took; together, where all is known, the count before less this one."""
    note: str = ""


def funnel(
    synthesis: Metrics, pairs: Metrics, train: Metrics, agreements: Sequence[float] = (), cut: float = 0.0
) -> list[Step]:
    """The steps that are finished, in order. Counts that an older version did not keep are left out.

    Args:
        agreements: Of all votes: what is known of them where no pairs were selected.
        cut: `consensus.min_agreement`.
    """
    selected = list(_selected(synthesis, pairs)) if pairs else list(_voted(agreements, cut))
    return [*_asked(synthesis), *selected, *_trained(pairs, train)]


def _asked(synthesis: Metrics) -> Iterator[Step]:
    asked, unusable = CANDIDATES.of(synthesis), UNUSABLE.of(synthesis) or 0
    if asked is None:
        return
    yield Step("questions asked for", asked)
    known = [Loss(reason, count) for reason, count in UNUSABLE_BECAUSE.find(synthesis).items()]
    known.sort(key=lambda its: (-its.count, its.reason))
    yield Step("usable", asked - unusable, tuple(known or _losses(("unusable", unusable))))
    rewrites = REWRITES.of(synthesis) or 0
    yield Step(
        "different from all earlier ones",
        QUESTIONS.of(synthesis) or 0,
        tuple(_losses((DROPPED_NEAR_DUPLICATES.label, DROPPED_NEAR_DUPLICATES.of(synthesis) or 0))),
        plural(rewrites, "rewrite") if rewrites else "",
    )


def _voted(agreements: Sequence[float], cut: float) -> Iterator[Step]:
    """As far as the votes decide alone."""
    if not agreements:
        return
    undecided = sum(its == 0 for its in agreements)
    kept = sum(its >= cut for its in agreements if its)
    losses = _losses(
        ("without a majority (a tie, or no final answer)", undecided),
        (f"below consensus.min_agreement={cut:g}", len(agreements) - undecided - kept),
    )
    note = "by the votes alone: no pairs were selected, be it that there are too few for pairs.minimum or not yet"
    yield Step("with a majority that makes the agreement cut", kept, tuple(losses), note)


def _selected(synthesis: Metrics, pairs: Metrics) -> Iterator[Step]:
    made, accepted = NEW_PAIRS.of(pairs), QUESTIONS.of(synthesis)
    if made is None or accepted is None:
        return
    easy, held = UNANIMOUS_DROPPED.of(pairs) or 0, QUARANTINED.of(pairs) or 0
    kept = KEPT_QUESTIONS.of(pairs) or made
    labelled = kept + easy + held
    unlabelled = list(
        _losses(
            ("no final answer in any response", SILENT_VOTES.of(pairs) or 0),
            (DROPPED_TIES.label, DROPPED_TIES.of(pairs) or 0),
            (BELOW_CUT.label, BELOW_CUT.of(pairs) or 0),
        )
    )
    lost = accepted - labelled
    # Where labels need no majority, questions without one stay: the counts are then no losses.
    if sum(its.count for its in unlabelled) != lost:
        unlabelled = list(_losses(("no label", max(0, lost))))
    yield Step("with a label to train on", labelled, tuple(unlabelled))
    caught = QUARANTINED_BY_RULE.find(pairs)
    rules = [(text, caught.get(rule, 0)) for rule, text in RULES.items()]
    yield Step("not too near to a benchmark", labelled - held, tuple(_losses(*rules) if held else ()))
    yield Step("not too easy", kept, tuple(_losses(("unanimous, beyond the share allowed", easy))))
    yield Step("new training pairs", made, (), "" if made == kept else f"of {kept:,.0f} questions")


def _trained(pairs: Metrics, train: Metrics) -> Iterator[Step]:
    total = ALL_PAIRS.of(pairs)
    if total is None:
        return
    earlier, decayed, replayed = (metric.of(pairs) or 0 for metric in (EARLIER_PAIRS, DECAYED_PAIRS, REPLAYED_PAIRS))
    added = [
        f"{count:,.0f} {what}" for what, count in (("from earlier rounds", earlier), ("general", replayed)) if count
    ]
    decays = f"; {decayed:,.0f} of earlier rounds have decayed" if decayed else ""
    note = f"with {' and '.join(added)}{decays}" if added else decays.removeprefix("; ")
    too_long = TOO_LONG.of(train) or 0
    losses = tuple(_losses(("too long for the trainer", too_long)))
    rows = EXAMPLES.of(train)
    yield Step("trained on" if train else "to be trained on", total if rows is None else rows, losses, note)


def _losses(*given: tuple[str, float]) -> Iterator[Loss]:
    return (Loss(reason, count) for reason, count in given if count)
