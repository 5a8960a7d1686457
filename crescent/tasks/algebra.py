"""Ask math-verify whether two formulas are equal: integrals, limits and sums that values at points do not decide.

Runs in a process that may be killed, and nowhere else: a response is hostile text.
"""

import logging
import re
from functools import lru_cache
from typing import Any

from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify
from sympy import Basic, Expr, Float, Rational, preorder_traversal

from crescent.tasks.equivalence import as_number

_PLACES = 30
"""In which two values that are no fractions have to agree. Math-verify's default of 6 makes pi equal 3.141593."""
# Refused before sympy computes them: powers of powers, huge exponents, factorials and numbers; and "1 2", which
# math-verify takes for 1 + 2.
_TOO_MUCH = re.compile(
    r".{301}|\d{31}|(?<![\^_{\d.])\d+ \d|\^[\s{(]*-?\d{5}|\^[\s{(]*[\d.]+[\s})]*\^|\d{4}\s*!|__", re.DOTALL
)
# Not `units`: it takes 5m for 5.
_PLAIN = NormalizationConfig(basic_latex=True, malformed_operators=True, nits=True, boxed="all", units=False)
_LATEX = [LatexExtractionConfig(normalization_config=_PLAIN)]

logging.disable(logging.CRITICAL)  # math-verify warns that its timeouts are off


def same_formula(a: str, b: str) -> bool:
    """Whether math-verify finds two formulas equal. Each is parsed once in the life of a process.

    Raises:
        OverflowError: one of them is refused.
    """
    # Without math-verify's timeouts: SIGALRM does not stop a long operation inside sympy, the kill does.
    left, right = read(a), read(b)
    if differ_in_value(left[0], right[0]):
        return False
    return bool(verify(left, right, _PLACES, _PLACES, timeout_seconds=None))


def differ_in_value(a: Any, b: Any) -> bool:
    """Whether two expressions have different values where each variable is some integer; False where that fails.

    A difference takes milliseconds to see, and up to seconds of simplification to prove.
    """
    if not (isinstance(a, Expr) and isinstance(b, Expr)):
        return False
    names = sorted(a.free_symbols | b.free_symbols, key=str)
    for start in (3, 8):
        values = {name: start + index for index, name in enumerate(names)}
        try:
            first, second = (complex(side.subs(values).evalf(15)) for side in (a, b))
        except Exception:  # no number there, or none that sympy finds: then simplification has to tell
            return False
        if abs(first - second) > 1e-6 * max(1.0, abs(first), abs(second)):
            return True
    return False


@lru_cache(maxsize=1024)
def read(text: str) -> list[Any]:
    """Math-verify's reading, with exact numbers."""
    if _TOO_MUCH.search(text) or not text.isprintable():
        raise OverflowError("refused: too large for sympy")
    if (number := as_number(text)) is not None:
        return [Rational(number.numerator, number.denominator)]
    return [_exact(found) for found in parse(f"${text}$", _LATEX, parsing_timeout=None)]


def _exact(found: Any) -> Any:
    if not isinstance(found, Basic):
        return found
    decimals = {part for part in preorder_traversal(found) if isinstance(part, Float)}
    return found.xreplace({part: Rational(str(part)) for part in decimals})
