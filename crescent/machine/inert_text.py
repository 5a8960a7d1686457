"""Text of a model or a library, made harmless for a terminal and for programs that calculate tables."""

import re
import unicodedata

CALCULATED = re.compile(r" *[=+\-@\t\r\n＝＋－＠]")
"""Matches text that a spreadsheet would calculate (https://owasp.org/www-community/attacks/CSV_Injection)."""
NUMBER = re.compile(r"[+\-−]?[0-9][0-9.,]*")


def uncalculated(text: str) -> str:
    """The text for a cell of a table: with an apostrophe before it if it begins like a formula and is no number."""
    return f"'{text}" if CALCULATED.match(text) and not NUMBER.fullmatch(text) else text


def visible(text: str) -> str:
    """The text without characters that a terminal obeys or does not show: `\\x1b` instead of the escape character."""
    return "".join(
        character if _is_harmless(character) else character.encode("unicode_escape").decode() for character in text
    )


def visible_lines(text: str) -> str:
    """Like `visible`, with its line breaks and tabs kept."""
    return "\n".join(visible(line.expandtabs(4)) for line in text.replace("\r\n", "\n").split("\n"))


def _is_harmless(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"
