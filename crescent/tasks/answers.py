r"""Find the final answer of a response.

A plain space groups digits only right behind a mark ("#### 1 200"): elsewhere nothing tells "it costs 1 200 euros" from
"he got in week 1 200 euros", so the first is misread as 200. Which final answers are the same is decided in
`crescent.tasks.equivalence` and `crescent.tasks.grading`.
"""

import re
from collections.abc import Iterator

from crescent.config import AnswerStyle
from crescent.tasks.equivalence import LONGEST, SPELLING, as_number, is_prose

TAIL = 20_000
"""Characters at the end of a response that are looked at: a final answer stands at the end."""

# Possessive quantifiers (++) and counted ones keep every scan linear, whatever the text.
_PLAIN = r"(?:(?:[1-9]\d{0,2}(?:[,\u2009]\d{3}){1,7}+(?![,\u2009]?\d)|\d++)(?:\.\d++)?|\.\d++)"
_POWER = r"(?:[eE][-+]?\d++|\s?(?:×|x|\*|\\times|\\cdot)\s?10\s?\^\s?\{?-?\d++\}?)"
_FRAC = rf"\\[dt]?frac\s?\{{\s?-?{_PLAIN}\s?\}}\s?\{{\s?-?{_PLAIN}\s?\}}"
_CURRENCY = r"(?:\\?[$€£¥₹₩])"
# A minus after a digit, letter or closing bracket is a dash or a subtraction: "pages 5-7" ends in 7, "x = -5" in -5. A
# digit after a letter, `^` or `_` belongs to a name, an exponent or an index: "m^2" holds no number.
_NUMBER = re.compile(
    rf"(?:(?<![\w)\]}}%])[-+])?{_CURRENCY}?(?<![\w^])(?<!\d\.)(?<![\^_][-({{])"
    rf"(?:(?:\d++\s?)?{_FRAC}|\d++\ \d++/\d++|{_PLAIN}(?:{_POWER}|\s?/\s?{_PLAIN})?)",
    re.ASCII,
)
_OPERATOR = re.compile(r"\s*([-+*/×÷=]|\\times|\\cdot|\\div)\s*")
_BRACES = re.compile(r"\\boxed\s*+\{|\\.|[{}]", re.DOTALL)
_HASHES = re.compile(r"####(?!#)")
_ANSWER = re.compile(r"\banswer(?:\s(?:to|of|for)\s[^.:\n]{1,80}?)?[\s*_`]{0,4}(?:\bis\b|:|=)", re.IGNORECASE)
# What may stand between a mark and its answer, new lines included: "#### Answer:\n\n**12**".
_LEAD = re.compile(
    r"(?:[\s*_`:=≈~]|\b(?:the|final|answer|is|therefore|thus|about|approximately|exactly|equal to|only)\b)*+",
    re.IGNORECASE,
)
_OPENING = re.compile(r"(?:[\s*({$]|\\[(\[])*+(?:[a-zA-Z]\w{0,20}+\s?=\s?)?")
_STEP = re.compile(r"\(?\d{1,2}[.):][ \t]+\S")
_SENTENCE_END = re.compile(r"\n|[.;?](?=[\s*]|$)|,?\s\(?(?=(?:because|since|so|which|where|as)\s)")
# "12 (twelve)": words that say a number again. A factor, "12 (x + y)", has signs or single letters.
_GLOSS = re.compile(r"\s\((?!mod\b)[a-zA-Z][a-zA-Z ,'-]{2,80}\)\Z")
_REASON = re.compile(r"\W*(?:because|since|as)\s")
_SILENCE = re.compile(
    r"(?:\\text\{)?(?:no (?:final )?answer\b.*|none|n/a|nan|null|unknown|not (?:available|given|known)|\?+"
    r"|none of (?:the|these|those) (?:\w{1,20} ){0,2}(?:above|given|listed|provided|options?|choices?|answers?)\b.*"
    r"|i (?:do not|don't) know.*|(?:it )?can(?:not|'t| not) be (?:determined|answered).*)[\s.*}]*",
    re.IGNORECASE,
)
_FORMULA = re.compile(
    r"(?<!\\)\$\$([^$]{1,500})\$\$|(?<!\\)\$([^$\n]{1,500})\$|\\\((.{1,500}?)\\\)|\\\[(.{1,500}?)\\\]", re.DOTALL
)


def extract_final(text: str, style: AnswerStyle) -> str | None:
    r"""The final answer as written, `None` when there is none: silence.

    In order of trust: the last `\boxed{}`, `####` (GSM8K), `answer: …` or `answer is …`; then for `number` the last
    number, for `math` the last formula, else the last number. A mark counts only when an answer follows it at once:
    neither the heading "#### Step 1: add" nor "the answer is as follows" is one. A mark followed by "no answer" or the
    like is silence. Only the last `TAIL` characters are read.
    """
    tail = _tail(text)
    is_marked, final = _explicit(tail, style)
    if is_marked:
        return final
    if style is AnswerStyle.math:
        formulas = [_inner(match) for match in _FORMULA.finditer(tail)]
        if formulas := [formula for formula in formulas if formula and not is_prose(formula)]:
            return formulas[-1]
    return _last_number(tail)


def extract_marked(text: str, style: AnswerStyle) -> str | None:
    """Like `extract_final`, but only an explicitly marked answer counts: for text that was cut off."""
    return _explicit(_tail(text), style)[1]


def _tail(text: str) -> str:
    # A lone surrogate could not be written to a file later.
    return text[-TAIL:].encode("utf-8", "replace").decode().translate(SPELLING)


def _explicit(tail: str, style: AnswerStyle) -> tuple[bool, str | None]:
    """Whether a mark settles the matter, and the answer behind it; `None` behind a mark is explicit silence."""
    if boxed := _last_boxed(tail):
        if _SILENCE.fullmatch(boxed):
            return True, None
        if style is AnswerStyle.math or as_number(boxed) is not None:
            return True, boxed
        if final := _leading_number(boxed) or _last_number(boxed):
            return True, final
    for after in _marked(tail):
        if _SILENCE.fullmatch(after.partition("\n")[0]):
            return True, None
        if final := _leading_number(after) if style is AnswerStyle.number else _leading_answer(after):
            return True, final
    return False, None


def _last_boxed(text: str) -> str | None:
    """What stands in the last box that is closed and not empty, found in one pass whatever the nesting."""
    starts: list[tuple[int, bool]] = []
    last = (-1, "")
    for token in _BRACES.finditer(text):
        if token[0].endswith("{") and token[0] != r"\{":
            starts.append((token.end(), token[0] != "{"))
        elif token[0] == "}" and starts:
            start, is_box = starts.pop()
            content = text[start : token.start()] if is_box and token.start() - start <= LONGEST else ""
            last = max(last, (start, content.strip(" \n*$"))) if content.strip(" \n*$") else last
    return last[1] or None


def _marked(text: str) -> Iterator[str]:
    """What follows each mark, the most trusted first; 20 of a kind are enough for any honest response."""
    for mark in (_HASHES, _ANSWER):
        for match in reversed([*mark.finditer(text)][-20:]):
            after = text[match.end() : match.end() + 2 * LONGEST]
            lead = _LEAD.match(after)
            assert lead is not None  # it also matches nothing
            after = after[lead.end() :]
            is_first_step = _STEP.match(after) and (mark is _HASHES or "\n" in lead[0])  # of a list: "#### 1. Add"
            if after and not is_first_step:
                yield after


def _leading_number(text: str) -> str | None:
    """The number `text` starts with; of a computation ("3*4 = 12") the result."""
    text = re.sub(r"^\W*[1-9]\d{0,2}(?: \d{3}){1,7}(?! ?\d)", lambda match: match[0].replace(" ", "\u2009"), text)
    opening = _OPENING.match(text)
    number = _NUMBER.match(text, opening.end() if opening else 0)
    numbers_on_side = 1
    while number and (operator := _OPERATOR.match(text, number.end())):
        following = _NUMBER.match(text, operator.end())
        if following is None or (operator[1] == "=" and numbers_on_side == 1):
            break
        number, numbers_on_side = following, 1 if operator[1] == "=" else numbers_on_side + 1
    return _amount(number) if number and numbers_on_side == 1 else None


def _leading_answer(text: str) -> str | None:
    """The formula, number or few words `text` starts with."""
    formula = _FORMULA.match(text)
    if formula and _inner(formula) and not is_prose(_inner(formula)):
        return _inner(formula)
    end = _SENTENCE_END.search(text)
    sentence, rest = (text[: end.start()], text[end.start() :]) if end else (text, "")
    sentence = sentence.lstrip(" *_`$").rstrip(" *_`$,(")
    if not sentence or len(sentence) > LONGEST:
        return None
    if (glossed := _GLOSS.sub("", sentence)) != sentence and as_number(glossed) is not None:
        return glossed
    # Words are an answer ("Monday", "2 hours and 30 minutes") when nothing but a reason follows; words around a number
    # or a colon introduce one.
    is_last = not rest.strip(" .*\n") or _REASON.match(rest)
    is_answer = is_last and len(sentence.split()) <= 5 and re.fullmatch(r"\d[^:=]*|[^\d:=]*", sentence)
    if is_answer or as_number(sentence) is not None or not is_prose(sentence):
        return sentence
    return _leading_number(text)


def _last_number(text: str) -> str | None:
    """The last one, unless its digits run on for ever."""
    found = [match for match in _NUMBER.finditer(text) if len(match[0]) <= LONGEST]
    return _amount(found[-1]) if found else None


def _amount(number: re.Match[str]) -> str:
    return re.sub(_CURRENCY, "", number[0]).replace("\u2009", " ")


def _inner(formula: re.Match[str]) -> str:
    return next(str(inner) for inner in formula.groups() if inner).strip()
