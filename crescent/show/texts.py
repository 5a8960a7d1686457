"""Untrusted text and tables of numbers, prepared for display."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from crescent.judging.wording import percent_number
from crescent.reading.runs import mean_and_deviation

UNKNOWN = "–"


@dataclass(frozen=True)
class Sheet:
    """One table of texts."""

    title: str
    columns: tuple[str, ...]
    """Headings; a leading `|` marks a column of numbers, which is aligned to the right."""
    rows: list[tuple[str, ...]]


def mean_with_deviation(values: Sequence[float], number: Callable[[float], str]) -> str:
    """`53.3 ± 1.2`, in percent or points; a single value has no deviation.

    Args:
        number: How the mean is written: `percent_number` or `points_number`.
    """
    if not values:
        return UNKNOWN
    mean, deviation = mean_and_deviation(values)
    return number(mean) + (f" ± {percent_number(deviation)}" if deviation is not None else "")
