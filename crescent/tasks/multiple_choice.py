r"""Multiple choice: lettered options in the question, one letter as the final answer.

A letter is easily a word: "A plant needs light", "B cells", "I think". So a letter counts only after an announcement of
the answer, or when the response is nothing else, and only if the text after it does not continue a word or phrase: "the
answer is A" and "the answer is A, as …" name an option, "the answer is a plant" does not. Two letters at once ("A and
C") name no option.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import dropwhile

from crescent.tasks.thoughts import without_thoughts

TAIL = 20_000
"""Number of characters read at the end of a response, where a final answer stands."""
OPTIONS = "ABCDEFGHIJ"
"""Letters of options: at most ten, as in MMLU-Pro (arXiv 2406.01574)."""
_NEAR = 300
"""Number of characters read after a mark."""

# Possessive quantifiers (++) and counted ones keep every scan linear, whatever the text.
_AT_LINE_START = re.compile(r"^[ \t]*+(?:[-*>#]++[ \t]*+){0,2}+(?:[Oo]ption )?\(?([A-Z])[.):](?!\w)", re.MULTILINE)
_IN_LINE = re.compile(r"(?<!\S)\(?([A-Z])\)(?!\w)")

_BOXED = re.compile(r"\\boxed\s*+\{")
_HASHES = re.compile(r"####(?!#)")
_ANSWER = re.compile(
    r"\b(?:answer|(?:correct|right|best|final)\s(?:option|choice|letter))\b"
    r"(?:\s(?:to|of|for)\s[^.:\n]{1,80}?)?[\s*_`]{0,4}(?:\bis\b|:|=)",
    re.IGNORECASE,
)
# What may stand between a mark and the letter: "#### Answer:\n\n**(B)**", "\boxed{\text{B}}".
_LEAD = re.compile(
    r"(?:[\s*_`:=$\"'“({\[]|\\(?:text|mathrm|mathbf|textbf|boxed)\b"
    r"|\b(?:the|final|correct|best|most likely|answer|option|choice|letter|is|therefore|thus|clearly|definitely)\b)*+",
    re.IGNORECASE,
)
_NEXT = r"(?:[\s)*]*+(?:,|/|&|\+|\band\b|\bor\b)){1,2}+[\s(*]*+(?:option )?[A-HJ](?![\w'’])"
# An open bracket, or the end of the word, the line or the clause.
_LETTER = re.compile(
    rf"([A-Ja-j])(?!{_NEXT})"
    r"(?=[)\]}*_`\"'$”](?!\w)|[.,:;!?](?:\W|\Z)|[ \t]*(?:\n|\Z)"
    r"|\s{1,4}(?:because|since|as|is|which|with|for)\b|\s{0,4}[–—(]|\s{1,4}-\s)"
)
_REST_OF_BARE = re.compile(r"[ \t)\]}*_`\"'$.”]*+(?:\n|\Z)")
_SILENCE = re.compile(
    r"none\b|no (?:final |correct |valid |clear )?(?:answer|option|choice)\b|n/?a\b|null\b|unknown\b|\?"
    r"|not (?:given|listed|available|known)\b|i (?:do not|don't) know\b|(?:it )?can(?:not|'t| not) be\b",
    re.IGNORECASE,
)
_BOLD = re.compile(r"^[ \t]*+\*\*\(?([A-J])[.):]?\*\*[.:]?[ \t]*+$", re.MULTILINE)
_ALONE = re.compile(r"[\s*_`\"'.$]*+(?:\(?([A-J])\)?|\(([a-j])\))[\s*_`\"'.:$]*+")
# "I." opens a list of Roman numerals.
_START = re.compile(r"\s*+\*{0,2}\(?([A-HJ])(?:\)|\.(?=\s))")


class MultipleChoice:
    """Two answers are the same when their letters are. Owns no processes."""

    undecided: int = 0

    def __enter__(self) -> "MultipleChoice":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def accepts(self, question: str) -> bool:
        """Whether the question is a stem and two to ten options lettered from A, and does not give its answer away."""
        tail = question[-TAIL:]
        for pattern in (_AT_LINE_START, _IN_LINE):
            # "I." before the first option numbers a statement of the stem.
            options = [*dropwhile(lambda option: option[1] != "A", pattern.finditer(tail))]
            letters = "".join(option[1] for option in options)
            if len(letters) < 2 or not OPTIONS.startswith(letters):
                continue
            ends = [option.start() for option in options[1:]] + [len(tail)]
            texts = [tail[: options[0].start()]]
            texts += [tail[option.end() : end] for option, end in zip(options, ends, strict=True)]
            # A question that contains its answer teaches and tests nothing.
            return all(re.search(r"[^\s*_.()]", text) for text in texts) and self.read_cut(texts[-1]) is None
        return False

    def read(self, text: str, inputs: Sequence[str] = ()) -> str | None:
        r"""The letter, as a capital.

        Tried in this order, the last occurrence of each: `\boxed{B}`; `#### B` (GSM8K's mark); `answer: B` or `answer
        is B`; **B** alone on a line; then a response that is only the letter, or starts with "B)" or "B.". A mark
        followed by "none", "no answer" or the like is silence. Only the last `TAIL` characters are read.
        """
        text = without_thoughts(text)
        tail = text[-TAIL:]
        is_settled, letter = _explicit(tail)
        if is_settled:
            return letter
        # Several lines of one letter each, or several lettered paragraphs, discuss the options and choose none.
        if bold := {match[1] for match in _BOLD.finditer(tail)}:
            return bold.pop() if len(bold) == 1 else None
        if alone := _ALONE.fullmatch(tail):
            return (alone[1] or alone[2]).upper()
        start = _START.match(tail) if len(text) <= TAIL else None
        return start[1] if start and _lettered(tail) <= {start[1]} else None

    def read_cut(self, text: str) -> str | None:
        return _explicit(without_thoughts(text)[-TAIL:])[1]

    def classes(self, finals: Sequence[str | None]) -> tuple[int, ...]:
        numbers: dict[str, int] = {}
        return tuple(-1 if final is None else numbers.setdefault(final, len(numbers)) for final in finals)

    def correct(self, final: str, target: str) -> bool:
        return final == target


def _explicit(tail: str) -> tuple[bool, str | None]:
    """Whether a mark decides, and the letter behind it; with a mark, `None` is explicit silence."""
    for mark in (_BOXED, _HASHES, _ANSWER):
        found = [*_marked(tail, mark)]
        letters = {letter for letter, _ in found}
        for letter, is_bare in found:
            # "#### Option A: density …", then the same of B and C, are headings.
            if mark is not _HASHES or is_bare or len(letters) == 1:
                return True, letter
    return False, None


def _marked(tail: str, mark: re.Pattern[str]) -> Iterator[tuple[str | None, bool]]:
    """The letter behind each mark (or `None` for silence) and whether nothing follows on its line, the last first."""
    for match in reversed([*mark.finditer(tail)][-20:]):  # the last 20 marks are enough
        after = tail[match.end() : match.end() + _NEAR]
        lead = _LEAD.match(after)
        assert lead is not None  # the pattern also matches the empty string
        if _SILENCE.match(after, lead.end()):
            yield None, True
        elif letter := _LETTER.match(after, lead.end()):
            is_bare = _REST_OF_BARE.match(after, letter.end()) is not None
            # "The answer:\n\nA. Density: no.\nB. …" discusses the options.
            is_list = "\n" in lead[0] and not is_bare and bool(_lettered(after[letter.end() :]))
            if not is_list:
                yield letter[1].upper(), is_bare


def _lettered(text: str) -> set[str]:
    """Letters that begin a line or an option."""
    return {match[1] for pattern in (_AT_LINE_START, _IN_LINE) for match in pattern.finditer(text)}
