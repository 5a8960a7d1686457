r"""Where a response marks its answer: `\boxed{}`, `####`, `<answer>`, "answer: …", a last line "A: …".

Quantifiers are possessive (++) or counted, so that every scan is linear, whatever the text.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from crescent.config import Boxes
from crescent.tasks.equivalence import LONGEST

REACH = 2 * LONGEST
"""Characters behind a mark that are looked at."""
MOST = 20
"""Marks of one kind that are looked at, the last ones: enough for any honest response."""

_BRACES = re.compile(r"[{}]|\\(?:boxed\s*+\{|f(?:boxed|box)\s*+\{|.)", re.DOTALL)
_BARE_BOX = re.compile(r"\\boxed\s?+(-?\d[\d.,/]{0,40})")
_HASHES = re.compile(r"####(?!#)")
_TAG = re.compile(r"<(?:final_?)?answer>", re.IGNORECASE)
_LINE_OF_ANSWER = re.compile(r"[ \t*_]{0,4}A[:.)][ \t*_]{0,4}(?=\S)")  # the last line of a solved shot

_IS = (
    r"(?:\b(?:is|are|was|(?:would|should|must|will)\sbe|equals|becomes|(?:comes|turns)\s(?:out\s)?to(?:\sbe)?)\b"
    r"|:|=|→|⇒|≈)"
)
_ASIDE = r"(?:\s?\([^()\n]{1,40}\)|,\s[a-z]{2,12},)"  # "The answer, then, is", "The answer (in dollars) is"
_TO_WHAT = r"\s(?:to|of|for)\s[^.:\n]{1,80}?"
# Behind one of these words stands an answer, if the pattern fits; the shorter one first, since "ans" begins "answer".
_WORDS = {
    "ans": re.compile(r"ans\b[.\s]{0,2}[:=]", re.IGNORECASE),
    "answer": re.compile(rf"answers?(?:{_TO_WHAT})?{_ASIDE}?[\s*_`\"']{{0,4}}{_IS}", re.IGNORECASE),
    "final": re.compile(rf"final\s(?:result|solution)[\s*_`]{{0,4}}{_IS}", re.IGNORECASE),
}
# "## Final Answer" on a line of its own.
_HEADING = re.compile(r"answer[ \t*_:]{0,6}$", re.IGNORECASE | re.MULTILINE)
_BEFORE_HEADING = re.compile(r"[ \t#*_>]{0,8}(?:the\s)?(?:(?:final|correct)\s)?", re.IGNORECASE)
_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}

# What may stand between a mark and its answer, new lines included: "#### Answer:\n\n**12**".
_LEAD = re.compile(
    r"(?:[\s*_`:=≈~→>\"“,]|(?<=\n)[-•]\s|\b(?:the(?!\s\d)|final|answer|is|are|be|would|should|must|will|so|therefore|thus|hence|then|indeed"
    r"|simply|just|clearly|obviously|actually|definitely|about|approximately|around|roughly|almost|exactly|precisely"
    r"|given by|equal to|equals|only|(?:a )?total(?: of)?|in total|namely)\b)*+",
    re.IGNORECASE,
)
_STEP = re.compile(r"\(?(\d{1,2})[.):][ \t]+\S")


@dataclass(frozen=True)
class Marked:
    """What follows a mark."""

    text: str
    ends: bool
    """Whether the response ends within `REACH` of the mark."""


def boxed(text: str, boxes: Boxes) -> str | None:
    """What stands in the box that counts, of those that are closed and not empty; one pass whatever the nesting."""
    if "box" not in text:
        return None
    starts: list[tuple[int, bool]] = []
    found: dict[int, str] = {}
    for token in _BRACES.finditer(text):
        if token[0].endswith("{") and token[0] != r"\{":
            starts.append((token.end(), token[0] != "{"))
        elif token[0] == "}" and starts:
            start, is_box = starts.pop()
            content = text[start : token.start()].strip(" \n*$") if is_box and token.start() - start <= LONGEST else ""
            if content:
                found[start] = content
    found = found or {bare.start(): bare[1].rstrip(".,") for bare in _BARE_BOX.finditer(text)}
    if not found:
        return None
    match boxes:
        case Boxes.last:
            return found[max(found)]
        case Boxes.first:
            return found[min(found)]
        case Boxes.all:
            return ", ".join(dict.fromkeys(found[start] for start in sorted(found)))


def marked(text: str) -> Iterator[Marked]:
    """What follows each mark, the most trusted first, without ornaments; nothing where it is the heading of a step."""
    if "####" in text:
        yield from _behind(_ends(_HASHES, text), text, of_steps=True)
    if "nswer>" in text:
        yield from _behind(_ends(_TAG, text), text)
    last_line = text.rstrip().rpartition("\n")[2]
    if answer := _LINE_OF_ANSWER.match(last_line):
        yield Marked(last_line[answer.end() :], ends=True)
    yield from _behind(islice(_ends_of_words(text), MOST), text)


def _ends(mark: re.Pattern[str], text: str) -> list[int]:
    return [found.end() for found in mark.finditer(text)][: -MOST - 1 : -1]


def _ends_of_words(text: str) -> Iterator[int]:
    """Where "answer: " and the like end, the last first. `str.rfind` finds the words faster than any pattern."""
    lowered = text.lower()
    if len(lowered) != len(text):  # "İ" is two characters in lower case
        lowered = text.translate(_LOWER)
    places = {word: lowered.rfind(word) for word in _WORDS}
    while (place := max(places.values())) >= 0:
        here = [word for word, at in places.items() if at == place]
        if not lowered[max(0, place - 1) : place].isalnum():
            found = next((found for word in here if (found := _WORDS[word].match(text, place))), None)
            found = found or (_heading(text, place) if "answer" in here else None)
            if found:
                yield found.end()
        places |= {word: lowered.rfind(word, 0, place + len(word) - 1) for word in here}


def _heading(text: str, place: int) -> re.Match[str] | None:
    """The word "answer" at `place`, when its line holds nothing else."""
    start = max(text.rfind("\n", 0, place) + 1, place - 40)
    return _HEADING.match(text, place) if _BEFORE_HEADING.fullmatch(text, start, place) else None


def _behind(ends: Iterable[int], text: str, of_steps: bool = False) -> Iterator[Marked]:
    """What follows marks that end at `ends`; `of_steps` when such a mark may be the heading of a step as well."""
    for end in ends:
        lead = _LEAD.match(text, end, end + REACH)
        assert lead is not None  # it also matches nothing
        after = text[lead.end() : end + REACH]
        if after and not ((of_steps or "\n" in lead[0]) and _is_step(after, text[:end])):
            yield Marked(after, end + REACH >= len(text))


def _is_step(after: str, before: str) -> bool:
    """Whether a list begins or goes on behind a mark: "#### 1. Add". "#### 30. That leaves 5." is an answer."""
    step = _STEP.match(after)
    if step is None:
        return False
    number = int(step[1])
    if number <= 1:
        return "\n" in after.strip()
    return re.search(rf"(?:^|\n)[\s#*(]{{0,8}}(?:Step )?{number - 1}[.):]", before[-5000:]) is not None
