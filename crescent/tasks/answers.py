r"""Find the final answer of a response, as a teacher would who has only the response before them.

What a model thinks (`crescent.tasks.thoughts`) is not read. A plain space groups digits only right behind a mark
("#### 1 200"): elsewhere nothing tells "it costs 1 200 euros" from "he got in week 1 200 euros", so the first is
misread as 200. `crescent.tasks.equivalence` and `crescent.tasks.grading` decide which final answers are the same.
"""

import re
from dataclasses import replace

from crescent.config import AnswerStyle, Boxes, DecimalMark
from crescent.tasks.closing import REMARK, closing_number, number_outside_remarks, principal_number
from crescent.tasks.delimiters import Formula, formulas, plain, said_of, spoken
from crescent.tasks.equivalence import LONGEST, as_number, is_prose
from crescent.tasks.marks import Marked, boxed, marked
from crescent.tasks.numerals import (
    CURRENCY,
    MONEY_CODE,
    NOT_ABBREVIATED,
    NUMBER,
    amount,
    is_whole_answer,
    leading_number,
    says_what_it_counts,
)
from crescent.tasks.text_spelling import spelled, with_plain_signs
from crescent.tasks.thoughts import without_thoughts

TAIL = 20_000
"""Characters at the end of a response that are looked at: a final answer stands at the end."""

_STOP = re.compile(rf"[.!?]{NOT_ABBREVIATED}(?=[\s*]|$)|\n", re.IGNORECASE)
_SENTENCE_END = re.compile(
    rf"\n|[.;?]{NOT_ABBREVIATED}(?=[\s*]|$)|!++(?=\s|$)(?!\s?=)|,?\s\(?(?=(?:because|since|so|which|where|as)\s)"
    r"|</|<\||<(?:eos|end_of_turn)>|\s\#{2}",
    re.IGNORECASE,
)
_NEXT_CLAUSE = re.compile(rf"{_STOP.pattern}|,?\s(?=(?:so|thus|hence|therefore|meaning|which means)\s)", re.IGNORECASE)
_SUBORDINATE = re.compile(r"\s*(?:if|when|since|as|because|for|with|let|given|from)\b", re.IGNORECASE)
_PLAIN_NUMBER = re.compile(r"\$?(-?(?:\d++|[1-9]\d{0,2}(?:,\d{3})++)(?:\.\d++)?)[\s.*$]*+\Z")
_MONEY_FIRST = re.compile(rf"\A{MONEY_CODE}\s?")
# Signs and units alone, and no names of quantities: "2 * 8 = 16", "3 dozen = 36".
_COMPUTATION = re.compile(r"(?:[\d\s.,+*/x×÷=()$!-]|\b[a-zA-Z]{3,}+\b)+")
_BRACKETED = re.compile(r"[\[(<]\s?(.{1,40}?)\s?[\])>]")
_ENDS_OPEN = re.compile(r"[-+*/×÷=(]\s*\Z")
# "12 (twelve)": words that say a number again. A factor, "12 (x + y)", has signs or single letters.
_GLOSS = re.compile(r"\s\((?!mod\b)[a-zA-Z][a-zA-Z ,'-]{2,80}\)\Z")
_REASON = re.compile(r"\W*(?:because|since)\s|\s?,\sas\s")
_SAID = re.compile(r"(?:he|she|it|we|i|they|you)\s[a-z]", re.IGNORECASE)
_NO_ANSWER = re.compile(
    r"(?:so|and|but|however|since|if|then|thus|therefore|hence|because|now|with|when|as|for|let|first|next|finally)\b"
    r"|.*\b(?:is|are|was|were|has|have|had|can|will|would|must|should|makes?|gets?|sold|sells?|costs?)\b",
    re.IGNORECASE | re.DOTALL,
)
_STATES = re.compile(r"(?:[A-Za-z'’-]{1,20}\s){1,6}(?:has|have|had|is|are|was|were|gets?|needs?|costs?|equals)\s\Z")
_SILENCE = re.compile(
    r"(?:\\text\{)?(?:no (?:final )?answer\b.*|none|n/a|nan|null|unknown|not (?:available|given|known)|\?+"
    r"|none of (?:the|these|those) (?:\w{1,20} ){0,2}(?:above|given|listed|provided|options?|choices?|answers?)\b.*"
    r"|i (?:do not|don't) know.*|(?:it )?can(?:not|'t| not) be (?:determined|answered).*)[\s.*}]*",
    re.IGNORECASE,
)
_NEXT_FORMULA = re.compile(r"\s?(?:,\s?(?:and|or)?|;|\band|\bor)\s?")
_ORNAMENTS = re.compile(r"[\s*_(]{0,6}")
_NAME = re.compile(r"[a-zA-Z]|\\[a-z]{2,8}")


def extract_final(
    text: str, style: AnswerStyle, boxes: Boxes = Boxes.last, decimal_mark: DecimalMark = DecimalMark.point
) -> str | None:
    r"""The final answer as written, `None` when there is none: silence.

    In order of trust: `\boxed{}`, the last `####` (GSM8K), `<answer>`, a last line `A: …`, the last `answer: …` or
    `answer is …`; then for `number` the number the response ends on, for `math` the last formula, unless a number
    stands in a later sentence. A mark counts only when an answer follows it at once: neither the heading "#### Step 1:
    add" nor "the answer is as follows" is one. A mark followed by "no answer" or the like is silence. Only the last
    `TAIL` characters are read.
    """
    tail = _tail(text)
    is_marked, final = _explicit(tail, style, boxes, decimal_mark, is_cut=False)
    if is_marked:
        return final
    tail = spelled(tail, decimal_mark)
    return _closing_answer(tail) if style is AnswerStyle.math else closing_number(tail)


def extract_marked(
    text: str, style: AnswerStyle, boxes: Boxes = Boxes.last, decimal_mark: DecimalMark = DecimalMark.point
) -> str | None:
    """Like `extract_final`, but only an explicitly marked answer counts: for text that was cut off."""
    return _explicit(_tail(text), style, boxes, decimal_mark, is_cut=True)[1]


def _tail(text: str) -> str:
    said = without_thoughts(text)[-TAIL:]
    if not said.isascii():
        said = said.encode("utf-8", "replace").decode()  # A lone surrogate could not be written to a file later.
    return with_plain_signs(said)


def _explicit(
    tail: str, style: AnswerStyle, boxes: Boxes, decimal_mark: DecimalMark, is_cut: bool
) -> tuple[bool, str | None]:
    """Whether a mark settles the matter, and the answer behind it; `None` behind a mark is explicit silence."""
    if box := boxed(tail, boxes):
        box = spelled(box, decimal_mark)
        if _SILENCE.fullmatch(box):
            return True, None
        if final := _inside_box(box, style):
            return True, final
    for found in marked(tail):
        behind = replace(found, text=spelled(found.text, decimal_mark))
        if _SILENCE.fullmatch(behind.text.partition("\n")[0]):
            return True, None
        if alone := _PLAIN_NUMBER.match(behind.text):
            return True, alone[1]
        read = _leading_answer if style is AnswerStyle.math else _leading_number
        if final := read(behind, is_cut):
            return True, final
    return False, None


def _inside_box(box: str, style: AnswerStyle) -> str | None:
    """The answer in a box: as it is, but without words around a number."""
    if style is not AnswerStyle.math:
        if as_number(box) is not None:
            return box
        text = plain(box)
        number = principal_number(text)
        return leading_number(text) or (amount(number) if number else None)
    if NUMBER.match(box) and is_prose(box) and as_number(box) is None:
        text = plain(box)
        number = NUMBER.match(text)
        return amount(number) if number and says_what_it_counts(text[number.end() :]) else box
    only = said_of(box) if box.startswith(("\\math", "\\text")) else None
    return only if only and as_number(only) is not None else box  # \mathbf{12}


def _leading_number(behind: Marked, is_cut: bool) -> str | None:
    return leading_number(behind.text) or (None if is_cut else _stated_number(behind))


def _stated_number(behind: Marked) -> str | None:
    """The number of a whole sentence behind a mark: "Answer: In 3 days he will have 12 apples."."""
    sentence, rest = _first_sentence(behind.text)
    number = principal_number(sentence)
    if number is None:
        return None
    return amount(number) if _is_last(behind, rest) or _STATES.match(sentence[: number.start()]) else None


def _first_sentence(text: str) -> tuple[str, str]:
    """A text up to its first full stop or line end, and what follows."""
    end = _STOP.search(text)
    return (text[: end.start()], text[end.end() :]) if end else (text, "")


def _is_last(behind: Marked, rest: str) -> bool:
    """Whether the response says nothing more in which another number could be the answer."""
    return behind.ends and not re.search(r"\d", rest)


def _leading_answer(behind: Marked, is_cut: bool) -> str | None:
    """The formula, the formulas, the number or the few words that `behind` starts with."""
    text = _MONEY_FIRST.sub("", behind.text, count=1)
    if listed := _leading_formulas(text):
        return listed
    end = _SENTENCE_END.search(text)
    sentence, rest = (text[: end.start()], text[end.start() :]) if end else (text, "")
    sentence = sentence.lstrip(" *_`$\"'“").rstrip(" *_`$,(\"'”").rstrip(".")
    if "}" in sentence and "{" not in sentence:
        sentence = sentence.rstrip("} ")  # '{"answer": 42}'
    if not sentence or len(sentence) > LONGEST or (is_cut and not rest and _ENDS_OPEN.search(sentence)):
        return None
    if (glossed := _GLOSS.sub("", sentence)) != sentence and as_number(glossed) is not None:
        return glossed
    if (bracketed := _BRACKETED.fullmatch(sentence)) and as_number(bracketed[1]) is not None:
        return bracketed[1]
    is_computation = "=" in sentence and (rest.startswith(";") or _COMPUTATION.fullmatch(sentence) is not None)
    if not is_computation and as_number(sentence) is not None:
        return sentence
    if number := NUMBER.match(sentence):
        after = sentence[number.end() :]
        if not after:
            return amount(number)  # 10^3
        is_read = is_computation or rest.startswith(";") or says_what_it_counts(after)
        if is_read and (final := _leading_number(behind, is_cut)):
            return final
        if is_whole_answer(after):
            return _first_of_equals(sentence)
    return sentence if _is_answer(sentence, rest) else _said_answer(behind, is_cut)


def _first_of_equals(sentence: str) -> str:
    """Of "1/10 or 0.1" the first."""
    parts = sentence.split(" or ")
    values = {as_number(part) for part in parts}
    return parts[0] if len(values) == 1 and None not in values else sentence


def _is_answer(sentence: str, rest: str) -> bool:
    """Whether the beginning of what a mark marks is an answer as it is: a formula, or a few words.

    Words are one ("Monday") when nothing but a reason follows; words around a number or a colon introduce one.
    """
    is_alone = not rest.strip(" .!*\n") or (_REASON.match(rest) is not None and not _NO_ANSWER.match(sentence))
    if is_alone and len(sentence.split()) <= 5 and re.fullmatch(r"\d[^:=]*|[^\d:=]*", sentence):
        return True
    if is_prose(spoken(sentence)) or _SAID.match(sentence) or re.search(CURRENCY, sentence):
        return False
    _, is_equation, side = sentence.rpartition("=")
    value = NUMBER.match(side.lstrip()) if is_equation else None
    return not (value and says_what_it_counts(side.lstrip()[value.end() :]))  # "x = 1300/1.25 = 1040 sq ft"


def _said_answer(behind: Marked, is_cut: bool) -> str | None:
    """The answer that a sentence behind a mark states: "Answer: the interval $[0, 1)$."."""
    if not is_cut and ("$" in behind.text or "\\" in behind.text):
        sentence, rest = _first_sentence(behind.text)
        if formulas(sentence) and _is_last(behind, rest):
            return _closing_answer(sentence)
    return _leading_number(behind, is_cut)


def _leading_formulas(text: str) -> str | None:
    """The formula that a text starts with, several in a row as a list, or the words that a formula holds."""
    ornaments = _ORNAMENTS.match(text)
    start = ornaments.end() if ornaments else 0
    row: list[str] = []
    end = start
    for formula in formulas(text, start):
        between = text[end : formula.start]
        final = said_of(formula.inner)
        if final is None or not (_NEXT_FORMULA.fullmatch(between) if row else not between):
            break
        row.append(final.rstrip(" ,;."))
        end = formula.end
    return ", ".join(row) or None


def _closing_answer(tail: str) -> str | None:
    """The last formula; or a number that stands in a later sentence or clause, or beside a mere name."""
    found = next((formula for formula in reversed(formulas(tail)) if _may_be_final(tail, formula)), None)
    if found is None:
        return closing_number(tail)
    rest = tail[found.end :]
    is_condition = rest.startswith(",") and _SUBORDINATE.match(_sentence_before(tail, found)) is not None
    if is_condition or _NAME.fullmatch(found.inner):  # "Since $3x = 12$, …", "with $n$ people …"
        later = rest
    else:
        clause = _NEXT_CLAUSE.search(rest)
        later = rest[clause.end() :] if clause else ""
    return number_outside_remarks(later) or said_of(found.inner)


def _may_be_final(tail: str, formula: Formula) -> bool:
    """Whether a response may end on it: it says something, and not in a remark."""
    return said_of(formula.inner) is not None and not REMARK.match(_sentence_before(tail, formula))


def _sentence_before(tail: str, formula: Formula) -> str:
    """What comes before it in its sentence."""
    before = tail[max(0, formula.start - 300) : formula.start]
    stops = [stop.end() for stop in _STOP.finditer(before)]
    return before[stops[-1] if stops else 0 :]
