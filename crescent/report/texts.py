"""Numbers and texts of a report. Most texts come from a model: they are shown, and never obeyed."""

import re
from dataclasses import dataclass

from crescent.judging.wording import percent_number
from crescent.machine.inert_text import visible
from crescent.show.texts import UNKNOWN

QUESTION_CHARACTERS = 800
ANSWER_CHARACTERS = 1200
"""Characters of one text that are shown: a dozen questions with eight answers each must not make the page too large for
a phone."""


@dataclass(frozen=True)
class Shown:
    """The beginning of a text, as much of it as is shown."""

    text: str
    more: int = 0
    """Number of characters left out at the end."""


def shown(text: str, limit: int = ANSWER_CHARACTERS) -> Shown:
    """The beginning of a text, with invisible characters spelled out."""
    return Shown(plain(text[:limit]), max(0, len(text) - limit))


def plain(text: str) -> str:
    """A text without invisible characters: `\\x00`, `\\u202e` or `\\ud800` instead of the character itself.

    Line breaks stay. The result can be written as UTF-8, and reads in the order in which it is stored.
    """
    return "\n".join(visible(line.expandtabs(4)) for line in text.replace("\r\n", "\n").split("\n"))


def unbroken(text: str) -> str:
    """The text with no-break spaces inside a number with its unit, its interval or its p-value."""
    inside = r"(?<=\d) (?=points|items)|(?<=%|s) (?=\[)|(?<=\d,) (?=-?\d+\.\d\])|(?<=\bp) (?=[=<])|(?<=\bp [=<]) "
    return re.sub(inside, "\u00a0", text)


def percent_or_unknown(share: float | None) -> str:
    """53.3; the heading of the column has the sign."""
    return UNKNOWN if share is None else percent_number(share)


def per_hour(gain: float) -> str:
    """+0.52, +12.3, -2,940 points."""
    return ("+" if gain > 0 else "-" if gain < 0 else "") + number(abs(gain))


def count(value: float | None) -> str:
    """12,345."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def number(value: float | None) -> str:
    """0.034, 2.50, 12.3, 1,234: three significant digits, and whole numbers from 1,000."""
    if value is None:
        return UNKNOWN
    for least, form in ((1000, ",.0f"), (10, ".1f"), (1, ".2f")):
        if abs(value) >= least:
            return f"{value:{form}}"
    return f"{value:.3f}" if value else "0"


def duration(seconds: float | None) -> str:
    """0.4 s, 42 s, 3 min 05 s, 2 h 07 min."""
    if seconds is None:
        return UNKNOWN
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    if seconds < 3599.5:
        return f"{round(seconds) // 60} min {round(seconds) % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def plural(quantity: float, noun: str) -> str:
    """1 round, 2 rounds."""
    return f"{quantity:,.0f} {noun}{'' if quantity == 1 else 's'}"


def listed(names: list[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
