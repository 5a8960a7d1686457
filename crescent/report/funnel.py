"""Where a round's questions were lost, from what was asked for to what was trained on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from crescent.report.texts import plural

Metrics = Mapping[str, float]
UNUSABLE = "unusable/"
"""Begins the names of the reasons among a synthesis' metrics."""
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
    if "candidates" not in synthesis:
        return
    asked, unusable = synthesis["candidates"], synthesis.get("unusable", 0)
    yield Step("questions asked for", asked)
    known = [Loss(name.removeprefix(UNUSABLE), count) for name, count in synthesis.items() if name.startswith(UNUSABLE)]
    known.sort(key=lambda its: (-its.count, its.reason))
    yield Step("usable", asked - unusable, tuple(known or _losses(("unusable", unusable))))
    rewrites = synthesis.get("rewrites", 0)
    yield Step(
        "different from all earlier ones",
        synthesis["questions"],
        tuple(_losses(("near-duplicates after all rewrites", synthesis.get("near_duplicates", 0)))),
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
    if "pairs" not in pairs or "questions" not in synthesis:
        return
    kept, easy, held = (pairs.get(name, 0) for name in ("questions", "unanimous_dropped", "quarantined"))
    kept = kept or pairs["pairs"]
    labelled = kept + easy + held
    unlabelled = list(
        _losses(
            ("no final answer in any response", pairs.get("silent", 0)),
            ("ties", pairs.get("ties", 0)),
            ("too little agreement", pairs.get("below_cut", 0)),
        )
    )
    lost = synthesis["questions"] - labelled
    # Where labels need no majority, questions without one stay: the counts are then no losses.
    if sum(its.count for its in unlabelled) != lost:
        unlabelled = list(_losses(("no label", max(0, lost))))
    yield Step("with a label to train on", labelled, tuple(unlabelled))
    rules = [(text, pairs.get(f"quarantined_{rule}", 0)) for rule, text in RULES.items()]
    yield Step("not too near to a benchmark", labelled - held, tuple(_losses(*rules) if held else ()))
    yield Step("not too easy", kept, tuple(_losses(("unanimous, beyond the share allowed", easy))))
    made = pairs["pairs"]
    yield Step("new training pairs", made, (), "" if made == kept else f"of {kept:,.0f} questions")


def _trained(pairs: Metrics, train: Metrics) -> Iterator[Step]:
    if "total" not in pairs:
        return
    earlier, decayed, replayed = (pairs.get(name, 0) for name in ("earlier", "decayed", "replayed"))
    added = [
        f"{count:,.0f} {what}" for what, count in (("from earlier rounds", earlier), ("general", replayed)) if count
    ]
    decays = f"; {decayed:,.0f} of earlier rounds have decayed" if decayed else ""
    note = f"with {' and '.join(added)}{decays}" if added else decays.removeprefix("; ")
    too_long = train.get("too_long", 0)
    losses = tuple(_losses(("too long for the trainer", too_long)))
    yield Step("trained on" if train else "to be trained on", train.get("rows", pairs["total"]), losses, note)


def _losses(*given: tuple[str, float]) -> Iterator[Loss]:
    return (Loss(reason, count) for reason, count in given if count)
