"""Sets of real numbers as pieces of the number line: unions, intersections and complements of intervals and points."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

Key = tuple[Any, ...]


class End(NamedTuple):
    """Where a piece begins or ends."""

    value: Any
    """A real number of mpmath, `inf` and `-inf` included; only for the order."""
    key: Key
    """Tells whether two ends are the same number."""


class Piece(NamedTuple):
    """An interval, or with equal ends a point."""

    low: End
    high: End
    opens: bool
    """Whether `low` itself is left out."""
    closes: bool
    """Whether `high` itself is left out."""

    @property
    def is_point(self) -> bool:
        return self.low.key == self.high.key


Pieces = tuple[Piece, ...]


def point(end: End) -> Piece:
    return Piece(end, end, False, False)


def interval(low: End, high: End, opens: bool, closes: bool) -> Pieces:
    """One piece; none where the ends are in the wrong order, or equal and one of them left out."""
    if low.key == high.key:
        return () if opens or closes else (point(low),)
    return (Piece(low, high, opens, closes),) if low.value < high.value else ()


def union(pieces: Iterable[Piece]) -> Pieces:
    """Sorted, and no two pieces that touch or overlap: one form for one set."""
    found: list[Piece] = []
    for piece in sorted(pieces, key=lambda piece: (piece.low.value, piece.opens, piece.high.value)):
        last = found[-1] if found else None
        if last is None or _leaves_gap(last, piece):
            found.append(piece)
            continue
        if last.high.key == piece.high.key:
            closes = last.closes and piece.closes
            found[-1] = last._replace(closes=closes)
        elif last.high.value < piece.high.value:
            found[-1] = last._replace(high=piece.high, closes=piece.closes)
    return tuple(found)


def _leaves_gap(left: Piece, right: Piece) -> bool:
    if left.high.key == right.low.key:
        return left.closes and right.opens
    return bool(left.high.value < right.low.value)


def intersection(left: Sequence[Piece], right: Sequence[Piece]) -> Pieces:
    found: list[Piece] = []
    for a in left:
        for b in right:
            low, opens = _later(a, b)
            high, closes = _earlier(a, b)
            found += interval(low, high, opens, closes)
    return union(found)


def _later(a: Piece, b: Piece) -> tuple[End, bool]:
    if a.low.key == b.low.key:
        return a.low, a.opens or b.opens
    return (a.low, a.opens) if a.low.value > b.low.value else (b.low, b.opens)


def _earlier(a: Piece, b: Piece) -> tuple[End, bool]:
    if a.high.key == b.high.key:
        return a.high, a.closes or b.closes
    return (a.high, a.closes) if a.high.value < b.high.value else (b.high, b.closes)


def complement(pieces: Sequence[Piece], line: Piece) -> Pieces:
    """What of the whole line is not in the pieces."""
    found: Pieces = (line,)
    for piece in pieces:
        before = interval(line.low, piece.low, line.opens, not piece.opens)
        after = interval(piece.high, line.high, not piece.closes, line.closes)
        found = intersection(found, (*before, *after))
    return found
