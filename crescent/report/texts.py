"""How numbers and texts are written in a report. Most texts are a model's: they are shown, and never obeyed."""

import re
from dataclasses import dataclass

from crescent.show.texts import visible

UNKNOWN = "–"
QUESTION_CHARACTERS = 800
ANSWER_CHARACTERS = 1200
"""Of one text; a dozen questions with eight answers each must stay a page that a phone opens."""


@dataclass(frozen=True)
class Shown:
    """A text as far as it is shown."""

    text: str
    more: int = 0
    """Characters left out at its end."""


def shown(text: str, limit: int = ANSWER_CHARACTERS) -> Shown:
    """The beginning of a text, what is invisible in it spelled out."""
    return Shown(plain(text[:limit]), max(0, len(text) - limit))


def plain(text: str) -> str:
    """A text without anything that is not seen: `\\x00`, `\\u202e` or `\\ud800` instead of the character itself.

    Lines stay lines. What is left can be written as UTF-8, and stands in the order in which it was written.
    """
    return "\n".join(visible(line.expandtabs(4)) for line in text.replace("\r\n", "\n").split("\n"))


def unbroken(text: str) -> str:
    """With numbers that no line's end parts from their units."""
    return re.sub(r"(?<=[\d\]]) (?=%|points|items)|(?<=\bp) (?=[=<])|(?<=\bp [=<]) ", "\u00a0", text)


def percent(share: float | None) -> str:
    """53.2; the sign stands in the heading."""
    return UNKNOWN if share is None else f"{100 * share:.1f}"


def with_interval(share: float, low: float, high: float) -> str:
    return f"{100 * share:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def points(difference: float) -> str:
    """+4.7, with a minus that is as wide as a plus; what rounds to nothing has no sign."""
    text = f"{100 * difference:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def points_with_interval(difference: float, low: float, high: float) -> str:
    return f"{points(difference)} [{points(low)}, {points(high)}]"


def per_hour(gain: float) -> str:
    """+0.52, +12.3, +2,940 points."""
    return ("+" if gain > 0 else "−" if gain < 0 else "") + number(abs(gain))


def p_value(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def count(value: float | None) -> str:
    """12,345."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def number(value: float | None) -> str:
    """Of any size: 0.034, 2.50, 12.3, 1,234."""
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


def plural(many: float, noun: str) -> str:
    """1 round, 2 rounds."""
    return f"{many:,.0f} {noun}{'' if many == 1 else 's'}"


def listed(names: list[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
