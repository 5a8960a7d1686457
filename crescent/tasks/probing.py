"""Evaluate formulas at fixed points, so that equal ones can be told by their values.

Two expressions that agree at random points in forty digits are equal, up to a chance that nobody will meet (Schwartz
1980, doi.org/10.1145/322217.322225, for polynomials). The points follow from the names of the variables alone, so the
values are a property of one formula: equality of values is reflexive, symmetric and transitive, whatever is compared.

All variables are positive at three points, small, middling and large, and each of them is negative at one: there |x|
differs from x. Roots and logarithms have their principal values; an odd root of a negative number is real.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from crescent.tasks.evaluation import POINTS, Evaluation, Point, Work
from crescent.tasks.formulas import Tree
from crescent.tasks.tokens import TooLarge, Unreadable
from crescent.tasks.values import Number, context

_DIGITS = ((60, 150), (150, 320), (320, 700))
"""Decimal places of two evaluations that have to agree in `_AGREED`; where they do not, the next two are tried."""
_AGREED = 45
_MOST_VARIABLES = 12


class Probe:
    """Evaluates trees at points, to a limit of work; one for each answer."""

    def __init__(self) -> None:
        self.work = Work()

    def value(self, tree: Tree, point: Point, bound: Mapping[str, Number] | None = None) -> Number:
        """Exact where it can be, else to many more places than a key has.

        Raises:
            Unreadable: undefined at the point, too large, or too much work.
        """
        for low, high in _DIGITS:
            first = self._at(tree, point, bound or {}, low)
            if isinstance(first, Fraction):
                return first
            second = self._at(tree, point, bound or {}, high)
            if isinstance(second, Fraction):
                return second
            mp = context(high)
            size, small = mp.fabs(second), mp.mpf(10) ** -_AGREED
            if size == 0 or (size < mp.fabs(first) * small and size < mp.mpf("1e-40")):
                return Fraction(0)
            if mp.fabs(second - mp.convert(first)) <= size * small:
                return _without_noise(mp, second)
        raise Unreadable("digits cancel")

    def values(
        self, tree: Tree, names: frozenset[str], bound: Mapping[str, Number] | None = None
    ) -> list[Number | None]:
        """At all points for these variables; `None` where it is too large or not defined.

        Raises:
            Unreadable: so it is already at the first two points.
        """
        if len(names) > _MOST_VARIABLES:
            raise Unreadable("too many variables")
        values: list[Number | None] = []
        for at in self.points(names):
            try:
                values.append(self.value(tree, at, bound))
            except Unreadable:
                if len(values) < 2 or self.work.fuel < 0:
                    raise
                values.append(None)
        return values

    def _at(self, tree: Tree, point: Point, bound: Mapping[str, Number], digits: int) -> Number:
        try:
            return Evaluation(self.work, point, digits).of(tree, bound)
        except (OverflowError, MemoryError) as error:
            raise TooLarge(str(error)) from error
        except (ValueError, TypeError, ArithmeticError) as error:
            raise Unreadable(f"not defined: {error}") from error

    def points(self, names: frozenset[str]) -> list[Point]:
        """The variables all positive, then each of them negative, in the order of their names."""
        positive: list[Point] = [(index, None) for index in range(POINTS)]
        return [*positive, *((0, name) for name in sorted(names))] if names else [(0, None)]


def _without_noise(mp: Any, value: Number) -> Number:
    """Drop a real or imaginary part that is nothing but rounding."""
    if not hasattr(value, "imag") or isinstance(value, type(mp.mpf(0))):
        return value
    small = mp.fabs(value) * mp.mpf(10) ** -(2 * _AGREED)
    if abs(value.imag) <= small:
        return value.real
    return mp.mpc(0, value.imag) if abs(value.real) <= small else value
