"""What equations and inequalities say, whatever way they are written.

An equation that is linear in one of its variables is solved for it: `2x - y + 1 = 0` and `y = 2x + 1` are one line, and
as answers both equal `2x + 1`. Any other equation is known by its values up to a constant factor. An inequality in one
variable that is linear is a set of real numbers; any other is known by its values up to a positive factor.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from crescent.tasks.evaluation import POINTS, names_in
from crescent.tasks.formulas import Tree
from crescent.tasks.probing import Probe
from crescent.tasks.realsets import End, Key, Piece, Pieces, complement, interval, point
from crescent.tasks.tokens import Unreadable
from crescent.tasks.values import Number, as_fraction, constant, context, rounded

_MP = context(150)
_INFINITY = End(_MP.inf, ("value", ("infinite", 1)))
_MINUS_INFINITY = End(-_MP.inf, ("value", ("infinite", -1)))
LINE = Piece(_MINUS_INFINITY, _INFINITY, True, True)
SMALL = _MP.mpf(10) ** -60
"""What is smaller, relative to the numbers it comes from, is rounding."""


def infinity(sign: int) -> End:
    return _INFINITY if sign > 0 else _MINUS_INFINITY


def end(value: Number) -> End | None:
    """A real constant as an end of an interval, with the key of its value; `None` for a complex one."""
    return None if hasattr(value, "_mpc_") else End(_wide(value), ("value", constant(value)))


def value_key(tree: Tree, probe: Probe) -> tuple[Key, Number | None]:
    """What an expression is known by, and its value if it is a constant.

    Raises:
        Unreadable: it cannot be evaluated.
    """
    names = names_in(tree)
    probe.work.is_invented = False
    key, value = _key(probe.values(tree, names), names)
    return key, None if probe.work.is_invented else value


def _key(values: Sequence[Number | None], names: frozenset[str]) -> tuple[Key, Number | None]:
    written = _written(values)
    if all(value is None or key == written[0] for value, key in zip(values, written, strict=True)):
        exact = next((value for value in values if isinstance(value, Fraction)), values[0])
        return ("value", constant(exact)), exact
    return ("value", *_by_point(written, names)), None


def _written(values: Sequence[Number | None]) -> list[Key]:
    """Where a real function has no real value, none counts: the square root of x^3 is x^{3/2}, whatever -1 does."""
    is_real = not any(hasattr(value, "_mpc_") for value in values[:POINTS])
    return [("not real",) if is_real and hasattr(value, "_mpc_") else rounded(value) for value in values]


def _by_point(written: Sequence[Key], names: frozenset[str]) -> Key:
    """A variable that changes nothing is none: x + y - y is x."""
    negative = zip(sorted(names), written[POINTS:], strict=True)
    return (*written[:POINTS], tuple((name, value) for name, value in negative if value != written[0]))


def equation(left: Tree, right: Tree, probe: Probe) -> tuple[Key, Number | None, str | None]:
    """Key, value and variable of an equation that can be solved; of any other its own key.

    Raises:
        Unreadable: a side cannot be evaluated, or there is no variable.
    """
    difference: Tree = ("add", left, ("neg", right))
    names = names_in(difference)
    if not names:
        raise Unreadable("an equation without a variable")
    lines = {name: line for name in names if (line := _line(difference, name, names - {name}, probe)) is not None}
    if lines:
        name = best_unknown(lines)
        probe.work.is_invented = False
        probe.values(difference, names)
        roots = [None if part is None else part[1] for part in lines[name]]
        key, value = _key(roots, names - {name})
        return key, None if probe.work.is_invented else value, name
    return ("equation", *_ratios(probe.values(difference, names), names, is_signed=True)), None, None


_PLACES = (-7001, 2, 9001)
"""Where it is tested whether something is linear: far apart, so that |x - 5| is not."""
Line = list[tuple[Any, Number] | None]
"""Slope and root at each point of the other variables; `None` where they are not defined."""


def _line(tree: Tree, name: str, others: frozenset[str], probe: Probe) -> Line | None:
    """How the tree depends on a variable in which it is linear; `None` where it is not."""
    try:
        samples = [probe.values(tree, others, {name: Fraction(place)}) for place in _PLACES]
    except Unreadable:
        return None
    line = [None if None in found else _through(*found) for found in zip(*samples, strict=True)]
    # Two points are enough to see that a slope of zero is none.
    return None if None in line[:2] else line


def _through(low: Number, middle: Number, high: Number) -> tuple[Any, Number] | None:
    """Slope and root of the line through three values; `None` where they lie on no line, or on a level one."""
    is_exact = all(isinstance(value, Fraction) for value in (low, middle, high))
    first, second, third = (low, middle, high) if is_exact else map(_wide, (low, middle, high))
    at, of, to = _PLACES
    slope = (second - first) / (of - at)
    bend = third - second - slope * (to - of)
    if is_exact:
        return None if bend or not slope else (slope, at - first / slope)
    scale = max(map(abs, (first, second, third)))
    if abs(bend) > scale * SMALL or abs(slope) <= scale * SMALL:
        return None
    return slope, _tidy(at - first / slope, abs(at) + abs(first / slope))


def best_unknown(lines: Mapping[str, Line]) -> str:
    """Which variable an equation is solved for, whatever side it stands on.

    z or y, if its factor is a number (y = x/2); else one with a number as factor, a small one (V = lwh, s = 5t); else
    any. Capitals come first, then from z to a.
    """
    order = sorted(lines, key=lambda name: (name[0].isupper(), name[0] != "\\", name), reverse=True)
    factors: dict[str, Any] = {}
    for name in order:
        slopes = [_wide(part[0]) for part in lines[name] if part is not None]
        if all(abs(slope - slopes[0]) <= abs(slopes[0]) * SMALL for slope in slopes):
            factors[name] = abs(slopes[0])
    if not factors:
        return order[0]
    smallest = min(factors.values())
    sizes = {name: round(float(factor / smallest), 9) for name, factor in factors.items()}
    return min(factors, key=lambda name: (name not in ("z", "y"), sizes[name], order.index(name)))


def inequality(smaller: Tree, larger: Tree, is_strict: bool, probe: Probe) -> tuple[Key, Pieces | None, str | None]:
    """Key, the set of reals where there is one variable and it is linear, and that variable.

    Raises:
        Unreadable: a side cannot be evaluated or is not real, or there is no variable.
    """
    difference: Tree = ("add", larger, ("neg", smaller))
    names = names_in(difference)
    if not names:
        raise Unreadable("an inequality without a variable")
    probe.work.is_invented = False
    if len(names) == 1:
        (name,) = names
        line = _line(difference, name, frozenset(), probe)
        root = end(line[0][1]) if line and line[0] and not probe.work.is_invented else None
        if line and line[0] and root is not None:
            rises = _wide(line[0][0]) > 0
            ray = (
                interval(root, _INFINITY, is_strict, True)
                if rises
                else interval(_MINUS_INFINITY, root, True, is_strict)
            )
            return ("ray",), ray, name
    values = probe.values(difference, names)
    if any(hasattr(value, "_mpc_") for value in values):
        raise Unreadable("an inequality between complex numbers")
    return ("above", is_strict, *_ratios(values, names, is_signed=False)), None, None


def unequal(left: Tree, right: Tree, probe: Probe) -> tuple[Pieces, str] | None:
    """The reals but one, for `x != 1`."""
    _, value, name = equation(left, right, probe)
    excluded = None if value is None else end(value)
    return None if excluded is None or name is None else (complement([point(excluded)], LINE), name)


def _ratios(values: Sequence[Number | None], names: frozenset[str], is_signed: bool) -> Key:
    """Values up to a constant factor; `is_signed` when it may be negative."""
    scale = _wide(values[0]) if is_signed else abs(_wide(values[0]))
    if scale == 0:
        raise Unreadable("zero at a random point")
    return _by_point(_written([None if value is None else _tidy(_wide(value) / scale, 1) for value in values]), names)


def _tidy(value: Any, scale: Any) -> Number:
    """Exact where it is a fraction, and without parts that are rounding."""
    if isinstance(value, Fraction):
        return value
    if abs(value) <= scale * SMALL:
        return Fraction(0)
    if hasattr(value, "_mpc_"):
        if abs(value.imag) > abs(value) * SMALL:
            return value
        value = value.real
    exact = as_fraction(value)
    return value if exact is None else exact


def _wide(value: Number) -> Any:
    """In mpmath's numbers, with 150 digits."""
    if isinstance(value, Fraction):
        return _MP.mpf(value.numerator) / value.denominator
    return _MP.mpc(value.real, value.imag) if hasattr(value, "_mpc_") else _MP.convert(value)
