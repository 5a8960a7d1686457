"""Numbers that formulas come to: exact fractions where possible, else many digits; and keys that tell them apart."""

from fractions import Fraction
from functools import lru_cache
from typing import Any

from mpmath.ctx_mp import MPContext
from mpmath.libmp import from_rational, mpf_pos

Number = Any
"""An exact `Fraction`, or a real or complex number of mpmath."""

_KEY_BITS = 133
"""Of a value in a key: forty decimal places."""


@lru_cache(maxsize=8)
def context(digits: int) -> Any:
    context = MPContext()
    context.dps = digits
    return context


def rounded(value: Number | None) -> tuple[Any, ...]:
    """Forty digits of a value, in a form that is equal for equal values only."""
    if value is None:
        return ("undefined",)
    if isinstance(value, Fraction):
        if value == 0:
            return (0, 0, 0)
        return tuple(map(int, from_rational(value.numerator, value.denominator, _KEY_BITS, "n")[:3]))
    if hasattr(value, "_mpc_"):
        return tuple(tuple(map(int, mpf_pos(part, _KEY_BITS, "n")[:3])) for part in value._mpc_)
    return tuple(map(int, mpf_pos(value._mpf_, _KEY_BITS, "n")[:3]))


def constant(value: Number) -> tuple[Any, ...]:
    """Key of a constant: the exact fraction where it is one, else forty digits."""
    if hasattr(value, "_mpc_"):
        return ("complex", constant(value.real), constant(value.imag))
    exact = as_fraction(value)
    return ("exact", exact.numerator, exact.denominator) if exact is not None else ("rounded", *rounded(value))


def as_fraction(value: Number) -> Fraction | None:
    """The fraction that a real number is, to 100 places; `None` when none of moderate size is so close."""
    if isinstance(value, Fraction):
        return value
    if hasattr(value, "_mpc_"):
        return None
    sign, man, exp, _ = value._mpf_
    if abs(exp) > 5000:
        return None
    written = Fraction(int(man)) * Fraction(2) ** exp * (-1 if sign else 1)
    nearest = written.limit_denominator(10**35)
    return nearest if abs(nearest - written) <= abs(written) / 10**105 else None
