r"""Short texts: a name, a date, a label. Two answers are the same when their normalised texts are.

The final answer stands in `\boxed{}`, behind `####` or behind "answer:"; else it is the last line. Normalising follows
the scorer of SQuAD (Rajpurkar et al., arXiv 1606.05250): lower case, no articles, no punctuation, single spaces. Ours
differs where that would equate answers which mean something else: what belongs to a number stays (-5, 3.5, 12:30), and
a hyphen between words is a space.
"""

import re
import unicodedata
from collections.abc import Sequence

from crescent.config import Boxes
from crescent.tasks.marks import boxed, marked
from crescent.tasks.thoughts import without_thoughts

TAIL = 20_000
"""Number of characters read at the end of a response, where a final answer stands."""
LONGEST = 500
"""Characters of the longest final answer. What is longer is none."""

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_JOINS = re.compile(r"(?<=[^\W\d])[-‐‑–—/](?=\w)|(?<=\w)[-‐‑–—/](?=[^\W\d])|_")
_OF_NUMBER = re.compile(r"(?:(?<!\w)[-−+]|(?<=\d)[.,:/-]|(?<!\w)\.)(?=\d)")
_ORNAMENTS = " \t*_`\"'“”‘’"
_SILENCE = re.compile(r"(?:no (?:final )?answer|none|n/a|null|unknown|i (?:do not|don't) know|\?*)[.!]?", re.IGNORECASE)


class TextTask:
    """Owns no processes."""

    undecided: int = 0

    def __enter__(self) -> "TextTask":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def accepts(self, question: str) -> bool:
        return True

    def read(self, text: str, inputs: Sequence[str] = ()) -> str | None:
        said = _tail(text)
        is_marked, final = _explicit(said)
        if is_marked:
            return final
        lines = [line for line in said.splitlines() if line.strip(_ORNAMENTS)]
        return _answer(lines[-1]) if lines else None

    def read_cut(self, text: str) -> str | None:
        return _explicit(_tail(text))[1]

    def classes(self, finals: Sequence[str | None]) -> tuple[int, ...]:
        numbers: dict[str, int] = {}
        return tuple(-1 if final is None else numbers.setdefault(normalised(final), len(numbers)) for final in finals)

    def correct(self, final: str, target: str) -> bool:
        return normalised(final) == normalised(target)


def normalised(text: str) -> str:
    """The text without what does not distinguish answers; never empty if the text is not.

    `The U.S.A.` and `usa` become the same, `-5` and `5` do not.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    plain = _JOINS.sub(" ", plain)
    kept = {match.start() for match in _OF_NUMBER.finditer(plain)}
    letters = [
        character for place, character in enumerate(plain) if place in kept or unicodedata.category(character)[0] != "P"
    ]
    words = _ARTICLES.sub(" ", "".join(letters)).split()
    return " ".join(words) or " ".join(plain.split())


def _tail(text: str) -> str:
    said = without_thoughts(text)[-TAIL:]
    # A lone surrogate could not be written to a file later.
    return said if said.isascii() else said.encode("utf-8", "replace").decode()


def _explicit(said: str) -> tuple[bool, str | None]:
    """Whether a mark settles the matter, and the answer behind it; `None` behind a mark is explicit silence."""
    if box := boxed(said, Boxes.last):
        return True, _answer(re.sub(r"\\(?:text|mathrm|textbf|mathbf)\s?\{([^{}]*)\}", r"\1", box))
    for found in marked(said):
        line = found.text.lstrip().partition("\n")[0]
        if line.strip(_ORNAMENTS):
            return True, _answer(line)
    return False, None


def _answer(line: str) -> str | None:
    """The answer in a line; `None` if the line is silence or too long for one."""
    found = line.strip().strip(_ORNAMENTS)
    return None if _SILENCE.fullmatch(found) or len(found) > LONGEST else found
