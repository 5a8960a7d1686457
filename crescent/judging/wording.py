"""How shares, differences, intervals and p-values are written, in verdicts, on the terminal and in reports.

Sentences name the unit (`+4.7 points [0.0, 10.0], p = 0.12`). The functions that end in `_number` leave it out, for
table columns whose heading names it. Minus signs are hyphens, so that a verdict can be searched for on any keyboard.
"""

from collections.abc import Sequence

from crescent.records import Action

OUTCOMES: dict[Action, str] = {
    "accept": "accepted",
    "retry": "retried",
    "roll back": "rolled back",
    "stop": "stopped",
}
"""What became of a child, by the action of its verdict."""


def percent(share: float) -> str:
    """`53.3%` for a share of 0.533."""
    return f"{percent_number(share)}%"


def percent_with_interval(share: float, low: float, high: float) -> str:
    """`53.3% [48.1, 58.5]`."""
    return f"{percent(share)} {interval(low, high)}"


def points(difference: float) -> str:
    """`+4.7 points` for a difference of two shares of 0.047; what rounds to zero has no sign."""
    return f"{points_number(difference)} points"


def points_with_interval(difference: float, low: float, high: float) -> str:
    """`+4.7 points [0.0, 10.0]`."""
    return f"{points(difference)} {interval(low, high)}"


def interval(low: float, high: float) -> str:
    """`[-1.3, 10.0]`: the ends of a confidence interval of a share or a difference, in percent or points."""
    return f"[{percent_number(low)}, {percent_number(high)}]"


def p_value(p: float) -> str:
    """`p = 0.12`, or `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {p_number(p)}"


def p_beside_alpha(p: float, alpha: float) -> str:
    """`p = 0.12 > 0.05`, or `p < 0.001` alone where that settles it.

    As many digits as it takes to stand on the right side of alpha: a p-value of 0.0504 is not written as 0.050.
    """
    if p < 0.001 <= alpha:
        return "p < 0.001"
    texts = (f"{p:#.{digits}g}" for digits in range(2, 18))
    text = next(text for text in texts if (float(text) <= alpha) == (p <= alpha))
    return f"p = {text} {'<=' if p <= alpha else '>'} {alpha:g}"


def percent_number(share: float) -> str:
    """`53.3`, in percent; `-0.0` is written as `0.0`."""
    return f"{100 * share:z.1f}"


def percent_number_with_interval(share: float, low: float, high: float) -> str:
    """`53.3 [48.1, 58.5]`, in percent."""
    return f"{percent_number(share)} {interval(low, high)}"


def points_number(difference: float) -> str:
    """`+4.7`, in percentage points; what rounds to zero has no sign."""
    text = f"{100 * difference:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def points_number_with_interval(difference: float, low: float, high: float) -> str:
    """`+4.7 [0.0, 10.0]`, in percentage points."""
    return f"{points_number(difference)} {interval(low, high)}"


def p_number(p: float) -> str:
    """`0.12`, to two significant digits, or `<0.001`."""
    return "<0.001" if p < 0.001 else f"{p:#.2g}"


def first_few(names: Sequence[str], most: int) -> str:
    """`a, b and 3 more`: the first names, and how many follow."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
