"""What equations and inequalities say, whatever way they are written.

An equation that is linear in one of its variables is solved for it: `2x - y + 1 = 0` and `y = 2x + 1` are one line, and
as answers both equal `2x + 1`. Any other equation is known by its values up to a constant factor. An inequality in one
variable that is linear is a set of real numbers; any other is known by its values up to a positive factor.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from mpmath.ctx_mp import MPContext

from crescent.tasks.formulas import Tree, Unreadable
from crescent.tasks.probing import Number, Probe, as_fraction, constant, names_in, rounded
from crescent.tasks.realsets import End, Key, Piece, Pieces, complement, interval, point

_MP = MPContext()
_MP.dps = 150
_INFINITY = End(_MP.inf, ("value", ("infinite", 1)))
_MINUS_INFINITY = End(-_MP.inf, ("value", ("infinite", -1)))
LINE = Piece(_MINUS_INFINITY, _INFINITY, True, True)
_EXACT_ENOUGH = _MP.mpf(10) ** -60


def infinity(sign: int) -> End:
    return _INFINITY if sign > 0 else _MINUS_INFINITY


def end(value: Number) -> End | None:
    """A real constant as an end of an interval, with the key of its value; `None` for a complex one."""
    return None if hasattr(value, "_mpc_") else End(_real(value), ("value", constant(value)))


def value_key(tree: Tree, probe: Probe) -> tuple[Key, Number | None]:
    """What an expression is known by, and its value if it is a constant.

    Raises:
        Unreadable: it cannot be evaluated.
    """
    points = probe.points(names_in(tree))
    probe.is_invented = False
    key, value = _key([probe.value(tree, at) for at in points], [at[1] for at in points])
    return key, None if probe.is_invented else value


def _key(values: Sequence[Number], negated: Sequence[str | None]) -> tuple[Key, Number | None]:
    written = [rounded(value) for value in values]
    if all(value == written[0] for value in written):
        exact = next((value for value in values if isinstance(value, Fraction)), values[0])
        return ("value", constant(exact)), exact
    # A variable that changes nothing is none: x + y - y is x.
    changed = tuple((name, value) for name, value in zip(negated, written, strict=True) if name and value != written[0])
    return ("value", written[0], written[1], changed), None


def order_of_unknowns(names: frozenset[str]) -> list[str]:
    """Which variable an equation is solved for, the best first: y before x, z before y, A before r, x before a."""
    return sorted(names, key=lambda name: (name[0].isupper(), name[0] != "\\", name), reverse=True)


def equation(left: Tree, right: Tree, probe: Probe) -> tuple[Key, Number | None, str | None]:
    """Key, value and variable of an equation that can be solved; of any other its own key.

    Raises:
        Unreadable: a side cannot be evaluated, or there is no variable.
    """
    difference: Tree = ("add", left, ("neg", right))
    names = names_in(difference)
    for name in order_of_unknowns(names):
        solved = _solved(difference, name, names - {name}, probe)
        if solved is not None:
            return *solved, name
    if not names:
        raise Unreadable("an equation without a variable")
    values = [probe.value(difference, at) for at in probe.points(names)]
    return ("equation", *_ratios(values, sorted(names), _real_or_complex(values[0]))), None, None


def _solved(tree: Tree, name: str, others: frozenset[str], probe: Probe) -> tuple[Key, Number | None] | None:
    """The value of `name` that makes the tree zero, if the tree is linear in it; a key like an expression's."""
    points = probe.points(others)
    probe.is_invented = False
    values = []
    for at in points:
        zero, first, second = (probe.value(tree, at, {name: Fraction(index)}) for index in (0, 1, 2))
        if isinstance(zero, Fraction) and isinstance(first, Fraction) and isinstance(second, Fraction):
            slope, bend = first - zero, second - 2 * first + zero
            if bend != 0 or slope == 0:
                return None
            values.append(-zero / slope)
            continue
        zero, first, second = (_real_or_complex(value) for value in (zero, first, second))
        slope, bend = first - zero, second - 2 * first + zero
        scale = max(abs(zero), abs(first), abs(second))
        if abs(bend) > scale * _EXACT_ENOUGH or abs(slope) <= scale * _EXACT_ENOUGH:
            return None
        values.append(_tidy(-zero / slope, abs(first / slope) + 1))
    key, value = _key(values, [at[1] for at in points])
    return key, None if probe.is_invented else value


def inequality(smaller: Tree, larger: Tree, is_strict: bool, probe: Probe) -> tuple[Key, Pieces | None, str | None]:
    """Key, the set of reals where there is one variable and it is linear, and that variable.

    Raises:
        Unreadable: a side cannot be evaluated or is not real, or there is no variable.
    """
    difference: Tree = ("add", larger, ("neg", smaller))
    names = names_in(difference)
    if not names:
        raise Unreadable("an inequality without a variable")
    if len(names) == 1:
        (name,) = names
        solved = _solved(difference, name, frozenset(), probe)
        root = end(solved[1]) if solved and solved[1] is not None else None
        if root is not None:
            rises = _real(probe.value(difference, (0, None), {name: Fraction(1)})) > _real(
                probe.value(difference, (0, None), {name: Fraction(0)})
            )
            ray = interval(root, _INFINITY, is_strict, True) if rises else interval(_MINUS_INFINITY, root, True, is_strict)
            return ("ray",), ray, name
    values = [probe.value(difference, at) for at in probe.points(names)]
    if any(hasattr(value, "_mpc_") for value in values):
        raise Unreadable("an inequality between complex numbers")
    return ("above", is_strict, *_ratios(values, sorted(names), abs(_real(values[0])))), None, None


def unequal(left: Tree, right: Tree, probe: Probe) -> tuple[Pieces, str] | None:
    """The reals but one, for `x != 1`."""
    _, value, name = equation(left, right, probe)
    excluded = None if value is None else end(value)
    return None if excluded is None or name is None else (complement([point(excluded)], LINE), name)


def _ratios(values: Sequence[Number], names: Sequence[str], scale: Any) -> Key:
    if scale == 0:
        raise Unreadable("zero at a random point")
    ratios = [rounded(_tidy(_real_or_complex(value) / scale, 1)) for value in values]
    changed = tuple((name, ratio) for name, ratio in zip(names, ratios[2:], strict=True) if ratio != ratios[0])
    return (ratios[0], ratios[1], changed)


def _tidy(value: Any, scale: Any) -> Number:
    """Exact where it is a fraction, and without parts that are rounding."""
    if abs(value) <= scale * _EXACT_ENOUGH:
        return Fraction(0)
    if hasattr(value, "_mpc_"):
        if abs(value.imag) > abs(value) * _EXACT_ENOUGH:
            return value
        value = value.real
    exact = as_fraction(value)
    return value if exact is None else exact


def _real(value: Number) -> Any:
    return _MP.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else _MP.convert(value)


def _real_or_complex(value: Number) -> Any:
    return _MP.mpc(value.real, value.imag) if hasattr(value, "_mpc_") else _real(value)
