"""Benchmark items that came out differently under the child than under its parent."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from crescent.reading.rounds import RoundRow
from crescent.records import Response
from crescent.report.reading import Reader, spread

SHOWN = 8
"""Items gained that are shown of a round, and as many lost ones."""


@dataclass(frozen=True)
class Changed:
    """One item, with a response of each that shows the difference."""

    parent: Response
    child: Response
    before: float
    """Share of the parent's responses that were right."""
    after: float


@dataclass(frozen=True)
class Changes:
    """Between a child and its parent."""

    against: str
    """Name of the parent's checkpoint."""
    gained: tuple[Changed, ...]
    lost: tuple[Changed, ...]
    gained_of: int
    """Of how many `gained` are a choice."""
    lost_of: int


def read_changes(reader: Reader, row: RoundRow, rows: Sequence[RoundRow]) -> Changes | None:
    """Of one judged round, `None` when the parent's responses are not there."""
    if row.judged is None:
        return None
    parent = next((its for its in rows if its.checkpoint == row.judged.parent), None)
    if parent is None:
        named = f"its parent {row.judged.parent} is not among what was read"
        reader.run.note(f"round-{row.round}: {named}, so the items that changed are not shown")
        return None
    now, before = (_by_item(reader, its.round) for its in (row, parent))
    changed = [
        _changed(before[item], now[item])
        for item in now
        if item in before and _share(now[item]) != _share(before[item])
    ]
    gained = [its for its in changed if its.after > its.before]
    lost = [its for its in changed if its.after < its.before]
    return Changes(row.judged.parent, _some(gained), _some(lost), len(gained), len(lost))


def _by_item(reader: Reader, number: int) -> dict[tuple[str, str], list[Response]]:
    stage = f"round-{number}/eval" if number else "base/eval"
    found = defaultdict(list)
    for its in reader.records(f"{stage}/responses.jsonl", Response):
        found[its.benchmark, its.item].append(its)
    return found


def _share(responses: Sequence[Response]) -> float:
    return fmean(its.correct for its in responses)


def _changed(before: Sequence[Response], after: Sequence[Response]) -> Changed:
    better = _share(after) > _share(before)
    parent = next(its for its in before if its.correct is not better)
    return Changed(parent, next(its for its in after if its.correct is better), _share(before), _share(after))


def _some(changed: Sequence[Changed]) -> tuple[Changed, ...]:
    """Those that changed most, and of these a choice by their ids, which mean nothing."""
    return tuple(spread(changed, SHOWN, lambda its: (-abs(its.after - its.before), its.child.item)))
