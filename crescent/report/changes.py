"""Benchmark items that the child answers differently from its parent: gained or lost."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from crescent.reading.rounds import RoundSummary
from crescent.records import Response
from crescent.report.lenient import LenientReader, evenly_chosen
from crescent.run_folder.places import RESPONSES

SHOWN = 8
"""Gained items of a round that are shown, and lost ones."""


@dataclass(frozen=True)
class ChangedItem:
    """One item, with a response of each checkpoint that shows the difference."""

    parent: Response
    child: Response
    before: float
    """Share of the parent's responses that are correct."""
    after: float
    """Share of the child's responses that are correct."""


@dataclass(frozen=True)
class ChangedItems:
    """The differences between a child and its parent."""

    against: str
    """Name of the parent's checkpoint."""
    gained: tuple[ChangedItem, ...]
    """Gained items that are shown."""
    lost: tuple[ChangedItem, ...]
    """Lost items that are shown."""
    gained_total: int
    """Number of all gained items."""
    lost_total: int
    """Number of all lost items."""


def read_changes(reader: LenientReader, round_: RoundSummary, rounds: Sequence[RoundSummary]) -> ChangedItems | None:
    """The changed items of a judged round, `None` when the parent's responses are missing."""
    if round_.verdict is None:
        return None
    parent = next((earlier for earlier in rounds if earlier.checkpoint == round_.verdict.parent), None)
    if parent is None:
        reason = f"its parent {round_.verdict.parent} was not read"
        reader.run.note(f"round-{round_.round}: {reason}, so the items that changed are not shown")
        return None
    after, before = (_by_item(reader, number) for number in (round_.round, parent.round))
    changed = [
        _changed(before[item], after[item])
        for item in after
        if item in before and _share_correct(after[item]) != _share_correct(before[item])
    ]
    gained = [item for item in changed if item.after > item.before]
    lost = [item for item in changed if item.after < item.before]
    return ChangedItems(round_.verdict.parent, _to_show(gained), _to_show(lost), len(gained), len(lost))


def _by_item(reader: LenientReader, number: int) -> dict[tuple[str, str], list[Response]]:
    stage = f"round-{number}/eval" if number else "base/eval"
    by_item = defaultdict(list)
    for response in reader.records(f"{stage}/{RESPONSES}", Response):
        by_item[response.benchmark, response.item].append(response)
    return by_item


def _share_correct(responses: Sequence[Response]) -> float:
    return fmean(response.correct for response in responses)


def _changed(before: Sequence[Response], after: Sequence[Response]) -> ChangedItem:
    """With several samples, one of each checkpoint that shows the direction of the change."""
    gained = _share_correct(after) > _share_correct(before)
    parent = next(response for response in before if response.correct is not gained)
    child = next(response for response in after if response.correct is gained)
    return ChangedItem(parent, child, _share_correct(before), _share_correct(after))


def _to_show(changed: Sequence[ChangedItem]) -> tuple[ChangedItem, ...]:
    """A choice over all sizes of change; equal changes are ordered by item id, which means nothing."""
    return tuple(evenly_chosen(changed, SHOWN, lambda item: (-abs(item.after - item.before), item.child.item)))
