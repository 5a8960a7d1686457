"""Evaluate a formula's tree at one point, with a number of decimal places, to a limit of work."""

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from crescent.tasks.formulas import Tree
from crescent.tasks.tokens import TooLarge
from crescent.tasks.values import Number, context, rounded

POINTS = 3
"""Where all variables are positive."""
Point = tuple[int, str | None]
"""Number of the point, and the variable that is negative there."""

_EXACT_BITS = 20_000
"""Of the largest fraction that is kept exactly; beyond it, a value is rounded."""
_MOST_BITS = 10**12
"""Of the exponent of a rounded value."""
_MOST_TERMS = 500
"""Of a sum or product that is evaluated."""
_FUEL = 40_000
"""Nodes that may be evaluated for one reading of one answer."""


class Work:
    """What the evaluations for one answer may cost, and what they leave open."""

    def __init__(self) -> None:
        self.is_settled = True
        """False once a value stands for something that was not computed: an integral, a limit, a sum up to n."""
        self.is_invented = False
        """True once a value depends on one that was not computed, f(2) included: it has no place on the number line."""
        self.fuel = _FUEL

    def burn(self) -> None:
        self.fuel -= 1
        if self.fuel < 0:
            raise TooLarge("too much work")


def names_in(tree: Tree) -> frozenset[str]:
    """Free variables."""
    if tree[0] == "name":
        return frozenset() if tree[1] in ("e", "i") else frozenset((tree[1],))
    if tree[0] == "big":
        _, _, variable, low, above, body = tree
        rest = names_in(low) if low else frozenset()
        return rest | (names_in(above) if above else frozenset()) | (names_in(body) - {variable})
    return frozenset().union(*(names_in(part) for part in tree[1:] if isinstance(part, tuple)))


@lru_cache(maxsize=4096)
def coordinate(name: str, index: int) -> Fraction:
    """Size of a variable at a point; `POINTS` is the one where it is negative. Large ones tell |x - 5| from 5 - x."""
    drawn = int.from_bytes(blake2b(f"{index} {name}".encode(), digest_size=8).digest(), "big") / 2**64
    low, high = ((0.1, 0.9), (1.2, 2.6), (1100, 9900), (1100, 9900))[index]
    return Fraction(round((low + (high - low) * drawn) * 1_000_000_007), 1_000_000_007)


class Evaluation:
    """One evaluation, at one point with a number of decimal places."""

    def __init__(self, work: Work, point: Point, digits: int) -> None:
        self.work = work
        self.index, self.negative = point
        self.mp = context(digits)

    def of(self, tree: Tree, bound: Mapping[str, Number]) -> Number:
        self.work.burn()
        kind = tree[0]
        if kind == "number":
            return tree[1]
        if kind == "name":
            return self.name(tree[1], bound)
        if kind == "big":
            return self.big(tree, bound)
        if kind == "pow" and tree[1] == ("name", "e") and "e" not in bound:
            return self._exp(self.of(tree[2], bound))  # a rounded e to a high power would lose digits
        parts = [self.of(part, bound) for part in tree[1:] if isinstance(part, tuple)]
        if kind == "value":
            return self.unknown("value", tree[1], *parts)
        if kind in ("floor", "ceil", "max", "min") and names_in(tree) - bound.keys():
            # A few points cannot tell ⌊x⌋ from ⌊x + 0.01⌋, or max(x, y) from x.
            return self.unknown(kind, *sorted(parts, key=rounded))
        return getattr(self, f"_{kind}")(*parts)

    def name(self, name: str, bound: Mapping[str, Number]) -> Number:
        if name in bound:
            return bound[name]
        if name == "e":
            return +self.mp.e
        if name == "i":
            return self.mp.mpc(0, 1)
        return -coordinate(name, POINTS) if name == self.negative else coordinate(name, self.index)

    def unknown(self, *what: Any) -> Fraction:
        """A value for something that is not computed: equal for equal parts, else as good as random."""
        self.work.is_invented = True
        written = repr([rounded(part) if not isinstance(part, str) else part for part in what])
        return Fraction(int.from_bytes(blake2b(written.encode(), digest_size=8).digest(), "big") | 1, 2**63 - 25)

    def real(self, value: Number) -> Number:
        """In mpmath's numbers."""
        return self.mp.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value

    def bounded(self, value: Number) -> Number:
        if isinstance(value, Fraction):
            if max(value.numerator.bit_length(), value.denominator.bit_length()) > _EXACT_BITS:
                return self.real(value)
            return value
        if value != 0 and (not self.mp.isfinite(value) or abs(self.mp.mag(value)) > _MOST_BITS):
            raise OverflowError("too large")
        return value

    def _two(self, a: Number, b: Number, do: Callable[[Any, Any], Any]) -> Number:
        if isinstance(a, Fraction) and isinstance(b, Fraction):
            return self.bounded(do(a, b))
        return self.bounded(do(self.real(a), self.real(b)))

    def _add(self, a: Number, b: Number) -> Number:
        return self._two(a, b, lambda x, y: x + y)

    def _mul(self, a: Number, b: Number) -> Number:
        return self._two(a, b, lambda x, y: x * y)

    def _div(self, a: Number, b: Number) -> Number:
        return self._two(a, b, lambda x, y: x / y)

    def _neg(self, a: Number) -> Number:
        return -a

    def _pi(self) -> Number:
        return +self.mp.pi

    def _degree(self) -> Number:
        return self.mp.pi / 180

    def _root(self, a: Number, degree: Number) -> Number:
        return self._pow(a, Fraction(1) / degree if isinstance(degree, Fraction) else 1 / degree)

    def _pow(self, a: Number, b: Number) -> Number:
        if not isinstance(b, Fraction):
            base = self.real(a)
            if base == 0:
                raise ZeroDivisionError
            if self.mp.fabs(b * self.mp.log(base)) > _MOST_BITS:
                raise OverflowError("too large a power")
            return self.bounded(self.mp.power(base, b))
        if b.denominator == 1:
            return self.integer_power(a, b.numerator)
        is_negative = not hasattr(a, "_mpc_") and a < 0
        if is_negative and b.denominator % 2 and b.denominator < 1000:
            root = self._pow(-a, b)
            return -root if b.numerator % 2 else root
        if isinstance(a, Fraction) and not is_negative and b.denominator <= 12:
            above, below = _exact_root(a.numerator, b.denominator), _exact_root(a.denominator, b.denominator)
            if above is not None and below is not None:
                return self.integer_power(Fraction(above, below), b.numerator)
        base = self.real(a)
        if base == 0:
            return Fraction(0) if b > 0 else Fraction(1) / 0
        if self.mp.fabs(self.mp.log(base)) * self.real(abs(b)) > _MOST_BITS:
            raise OverflowError("too large a power")
        if is_negative and b.denominator == 2:  # exactly, without a real part that is rounding
            return self.mp.mpc(0, 1) ** (b.numerator % 4) * self.mp.power(-base, self.real(b))
        return self.bounded(self.mp.power(base, self.real(b)))

    def integer_power(self, a: Number, b: int) -> Number:
        if abs(b) > 10**12:
            raise OverflowError("too large a power")
        if isinstance(a, Fraction):
            bits = max(a.numerator.bit_length(), a.denominator.bit_length())
            if abs(a) in (0, 1) or bits * abs(b) <= _EXACT_BITS:
                return a**b
        base = self.real(a)
        if base != 0 and abs(self.mp.mag(base)) * abs(b) > _MOST_BITS:
            raise OverflowError("too large a power")
        return self.bounded(base**b)

    def _factorial(self, a: Number) -> Number:
        if isinstance(a, Fraction) and a.denominator == 1 and 0 <= a <= 1500:
            return self.bounded(Fraction(math.factorial(int(a))))
        if self.mp.fabs(self.real(a)) > 10**5:
            raise OverflowError("too large a factorial")
        return self.mp.gamma(self.real(a) + 1)

    def _binomial(self, n: Number, k: Number) -> Number:
        if all(isinstance(part, Fraction) and part.denominator == 1 and 0 <= part <= 5000 for part in (n, k)):
            return self.bounded(Fraction(math.comb(int(n), int(k))))
        if self.mp.fabs(self.real(n)) > 10**5 or self.mp.fabs(self.real(k)) > 10**5:
            raise OverflowError("too large a binomial")
        return self.mp.binomial(self.real(n), self.real(k))

    def _abs(self, a: Number) -> Number:
        return abs(a)

    def _floor(self, a: Number) -> Number:
        return Fraction(math.floor(self.snapped(a)))

    def _ceil(self, a: Number) -> Number:
        return Fraction(math.ceil(self.snapped(a)))

    def snapped(self, a: Number) -> Number:
        """A real number; the integer it is but for rounding."""
        if isinstance(a, Fraction):
            return a
        if hasattr(a, "_mpc_") or self.mp.fabs(a) > 10**30:
            raise ValueError("no real number to round")
        nearest = self.mp.nint(a)
        return nearest if self.mp.fabs(a - nearest) < self.mp.mpf("1e-25") else a

    def _max(self, *parts: Number) -> Number:
        return max(parts, key=self.real)

    def _min(self, *parts: Number) -> Number:
        return min(parts, key=self.real)

    def _gcd(self, *parts: Number) -> Number:
        return Fraction(math.gcd(*self.integers(parts)))

    def _lcm(self, *parts: Number) -> Number:
        return self.bounded(Fraction(math.lcm(*self.integers(parts))))

    def integers(self, parts: tuple[Number, ...]) -> list[int]:
        if not all(isinstance(part, Fraction) and part.denominator == 1 for part in parts):
            raise ValueError("no integers")
        return [int(part) for part in parts]

    def _exp(self, a: Number) -> Number:
        if self.mp.fabs(self.real(a)) > _MOST_BITS:
            raise OverflowError("too large an exponential")
        return Fraction(1) if a == 0 else self.bounded(self.mp.exp(self.real(a)))

    def _ln(self, a: Number) -> Number:
        if a == 1:
            return Fraction(0)
        if a == 0:
            raise ZeroDivisionError
        return self.mp.log(self.real(a))

    def _log(self, a: Number) -> Number:
        return self._div(self._ln(a), self.mp.log(10))

    def __getattr__(self, name: str) -> Callable[[Number], Number]:
        function = _ANGLES.get(name[1:])
        if function is None:
            raise AttributeError(name)

        def evaluated(a: Number) -> Number:
            if self.mp.fabs(self.real(a)) > 10**60:
                raise OverflowError("too large an angle")
            return Fraction(0) if a == 0 and name[1:] in _ODD else getattr(self.mp, function)(self.real(a))

        return evaluated

    def big(self, tree: Tree, bound: Mapping[str, Number]) -> Number:
        """A sum or product between two integers is computed; anything else is a value that nothing else has."""
        _, kind, variable, low, above, body = tree
        start = None if low is None else self.of(low, bound)
        end = None if above is None else self.of(above, bound)
        ends = [part for part in (start, end) if isinstance(part, Fraction) and part.denominator == 1]
        if kind in ("sum", "prod") and len(ends) == 2 and ends[1] - ends[0] < _MOST_TERMS:
            total: Number = Fraction(kind == "prod")
            for index in range(int(ends[0]), int(ends[1]) + 1):
                term = self.of(body, {**bound, variable: Fraction(index)})
                total = self._add(total, term) if kind == "sum" else self._mul(total, term)
            return total
        self.work.is_settled = False
        inside = [self.of(body, {**bound, variable: coordinate("the variable of a range", index)}) for index in (0, 1)]
        bounds = ["none" if part is None else part for part in (start, end)]
        return self.unknown(kind, *bounds, *inside)


_ANGLES = {name: name for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh")}
_ANGLES |= {"arcsin": "asin", "arccos": "acos", "arctan": "atan"}
_ODD = ("sin", "tan", "sinh", "tanh", "arcsin", "arctan")


def _exact_root(value: int, degree: int) -> int | None:
    """The integer whose power `value` is, `None` when there is none, or it is not worth looking for."""
    if value < 2:
        return value
    if value.bit_length() > 4000:
        return None
    if degree == 2:
        root = math.isqrt(value)
        return root if root * root == value else None
    low, high = 1, 1 << (value.bit_length() // degree + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**degree <= value else (low, middle - 1)
    return low if low**degree == value else None
