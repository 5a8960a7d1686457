r"""Formulas in a text, told apart from money: `$x + 1$` is one, "$5 + $6 = $11" has none."""

import re
from dataclasses import dataclass

from crescent.tasks.equivalence import as_number, is_prose

LONGEST_FORMULA, LONGEST_DISPLAY = 500, 3_000
"""Characters of a formula, and of a display of several rows."""

_DELIMITER = re.compile(
    r"\\[\\$()\[\]]|\$\$?|\n|\\begin\{(?:align|alignat|eqnarray|equation|flalign|gather|multline)\*?\}"
)
_PAIRS = {r"\(": r"\)", r"\[": r"\]", "$$": "$$"}
_AMOUNT = re.compile(r"\s{0,2}[-+(]{0,2}(?:\d|\.\d)")
_ENDS_OPEN = re.compile(r"[-+*/×÷=<>(,;:&~]\s*\Z")
_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|textnormal|mathrm|mathbf|mbox|operatorname)\s?\{([^{}]*)\}")


@dataclass(frozen=True)
class Formula:
    """What stands between two delimiters, and where the delimiters begin and end."""

    inner: str
    start: int
    end: int


def formulas(text: str, start: int = 0) -> list[Formula]:
    r"""The formulas between `$…$` (on one line), `$$…$$`, `\(…\)` and `\[…\]`, and last rows of displays, in order."""
    found: list[Formula] = []
    if "$" not in text and "\\" not in text:
        return found
    tokens = [token for token in _DELIMITER.finditer(text, start) if token[0] not in (r"\\", r"\$")]
    skipped_to = 0
    for index, token in enumerate(tokens):
        if token.start() < skipped_to or token[0] in ("\n", r"\)", r"\]"):
            continue
        end = -1
        if token[0] == "$":
            following = tokens[index + 1] if index + 1 < len(tokens) else None
            if following and following[0] == "$" and not _is_money(text, token.start(), following.start()):
                end = following.start()
        elif token[0] in _PAIRS:
            end = text.find(_PAIRS[token[0]], token.end(), token.end() + LONGEST_FORMULA + 2)
        else:
            closing = r"\end" + token[0].removeprefix(r"\begin")
            end = text.find(closing, token.end(), token.end() + LONGEST_DISPLAY)
            if end >= 0:
                skipped_to = end + len(closing)
                row = _last_row(text[token.end() : end])
                found += [Formula(row, token.start(), skipped_to)] if 0 < len(row) <= LONGEST_FORMULA else []
            continue
        inner = text[token.end() : end].strip() if end >= 0 else ""
        if inner:
            skipped_to = end + len(token[0])
        if 0 < len(inner) <= LONGEST_FORMULA:
            found.append(Formula(inner, token.start(), skipped_to))
    return found


def _last_row(display: str) -> str:
    """Of rows like `x &= 2 \\\\` the last that says something, from its last `=` where it says what the first is."""
    rows = [row.replace("&", " ").strip(" \n,.") for row in display.split(r"\\")]
    return next((row.lstrip("= ") for row in reversed(rows) if row.strip("= ")), "")


def _is_money(text: str, first: int, second: int) -> bool:
    """Whether the dollar sign at `first` marks an amount, so that the one at `second` closes nothing.

    After the rules of Pandoc's `tex_math_dollars`, which look at what touches the two signs; but a formula may begin
    and end with a space, as models write it.
    """
    inner = text[first + 1 : second]
    if not re.search(r"\w|\\", inner):
        return True
    before, after = text[first - 1 : first] if first else "", text[second + 1 : second + 3]
    if before.isdigit() and (inner[0].isspace() or _ENDS_OPEN.match(inner[:1])):  # "5$ + 6$"
        return True
    if not _AMOUNT.match(inner):
        return False
    if text[max(0, first - 2) : first].strip().isupper() and not inner[0].isspace():  # "US$5"
        return True
    closes = not inner[-1].isspace() or inner[0].isspace()
    if not closes or after[:1].isdigit():
        return True
    opens_amount = _AMOUNT.match(after) is not None
    return (
        (opens_amount and _ENDS_OPEN.search(inner) is not None)
        or inner.count("(") != inner.count(")")
        or inner.count("{") != inner.count("}")
        or is_prose(spoken(inner))
    )


def said_of(formula: str) -> str | None:
    r"""What a formula says, `None` for nothing: itself, or the few words or the number that it only holds as text.

    `Even` of `\text{Even}`; prose between two amounts of money says nothing.
    """
    only = _TEXT.fullmatch(formula.strip(" .,"))
    if only is None:
        return None if is_prose(spoken(formula)) and as_number(formula) is None else formula
    text = only[1].strip()
    is_answer = as_number(text) is not None or not any(map(str.isdigit, text))
    return text if is_answer and 0 < len(text.split()) <= 5 else None


def spoken(formula: str) -> str:
    r"""A formula without the words that `\text{}` and the like set apart."""
    return _TEXT.sub(" ", formula)


def plain(formula: str) -> str:
    r"""A formula with those words as plain text, to be read like a sentence."""
    text = re.sub(r"\\[,;: ]|\\q?quad\b|~", " ", _TEXT.sub(r" \1 ", formula))
    return " ".join(re.sub(r"\\([$%&!])", r"\1", text).split())
