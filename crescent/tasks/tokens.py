"""The tokens of a formula, and its structure as far as brackets and separators tell."""

import re
from collections.abc import Sequence
from typing import NamedTuple


class Unreadable(ValueError):
    """A text is no formula that we can read: then it equals its own spelling only, or algebra is asked."""


class TooLarge(Unreadable):
    """A formula that is not worth computing: nobody else is asked either."""


class Token(NamedTuple):
    kind: str
    """`number`, `letter`, `command`, or `sign`."""
    text: str
    start: int
    end: int


_TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<number>\d+(?:\.\d*)?(?:\s?\\(?:overline|bar)\s?\{\d+\}|\s?\\ldots)?|\.\d+)"
    r"|(?P<word>(?<![a-zA-Z])(?:and|or)(?![a-zA-Z]))|(?P<environment>\\(?:begin|end)\s?\{[a-z]+\*?\}(?:\{[clr|]*\})?)"
    r"|(?P<letter>[a-zA-Z])|(?P<command>\\[a-zA-Z]+|\\.)|(?P<sign><=|>=|!=|.)",
    re.ASCII | re.DOTALL,
)
_SIGNS = {"<=": r"\le", ">=": r"\ge", "!=": r"\ne"}
OPENING = frozenset(("(", "[", "{", r"\{", r"\langle", r"\lfloor", r"\lceil"))
CLOSING = frozenset((")", "]", "}", r"\}", r"\rangle", r"\rfloor", r"\rceil"))
MATCHING = {"(": ")", "[": "]", "{": "}", r"\{": r"\}", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil"}


def tokens_of(text: str) -> list[Token]:
    found = []
    for match in _TOKEN.finditer(text):
        kind, written = str(match.lastgroup), match[0]
        if kind == "space":
            continue
        if kind == "sign":
            written = _SIGNS.get(written, written)
        if kind == "environment":
            written = re.sub(r"\s|\}\{[clr|]*(?=\})", "", written)
        found.append(Token(kind, written, match.start(), match.end()))
    return found


def outside(tokens: Sequence[Token]) -> list[Token]:
    """The tokens that stand in no bracket."""
    depth, found = 0, []
    for token in tokens:
        depth -= token.text in CLOSING or token.text.startswith(r"\end")
        if depth == 0:
            found.append(token)
        depth += token.text in OPENING or token.text.startswith(r"\begin")
    return found


def split(tokens: Sequence[Token], separators: Sequence[str]) -> list[list[Token]]:
    """The parts between separators outside of brackets."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        depth -= token.text in CLOSING or token.text.startswith(r"\end")
        if depth == 0 and token.text in separators:
            parts.append([])
        else:
            parts[-1].append(token)
        depth += token.text in OPENING or token.text.startswith(r"\begin")
    return parts


def closing_of(tokens: Sequence[Token], start: int) -> int:
    """Where the bracket at `start` is closed; -1 when it is not."""
    depth = 0
    for index in range(start, len(tokens)):
        token = tokens[index].text
        depth += token in OPENING or token.startswith(r"\begin")
        depth -= token in CLOSING or token.startswith(r"\end")
        if depth == 0:
            return index
    return -1


def spell(tokens: Sequence[Token]) -> str:
    return "".join(token.text for token in tokens)
