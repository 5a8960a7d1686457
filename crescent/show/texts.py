"""Numbers and untrusted text, made fit for a terminal."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from crescent.reading.runs import mean_and_deviation
from crescent.records import Comparison


def visible(text: str) -> str:
    """Without anything that a terminal obeys or does not show: `\\x1b` instead of the escape character."""
    return "".join(its if _harmless(its) else its.encode("unicode_escape").decode() for its in text)


def _harmless(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


UNKNOWN = "–"


@dataclass(frozen=True)
class Sheet:
    """One table of texts."""

    title: str
    columns: tuple[str, ...]
    """A `|` in front stands for numbers: to the right."""
    rows: list[tuple[str, ...]]


def _gain(found: Comparison) -> str:
    return f"{100 * found.difference:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def spread(values: Sequence[float], sign: str) -> str:
    """Mean ± standard deviation of shares, in percent."""
    if not values:
        return UNKNOWN
    mean, deviation = mean_and_deviation(values)
    return f"{100 * mean:{sign}.1f}" + (f" ± {100 * deviation:.1f}" if deviation is not None else "")


def _interval(share: float, low: float, high: float) -> str:
    return f"{100 * share:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
