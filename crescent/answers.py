r"""Find the final answer of a response, and tell what is the same at sight: exact numbers and equal spelling.

Three rules to know. A percent sign is a unit like `km` and `$`: "25%" equals "25" and differs from "0.25". Letting it
equal both would make 25 equal 0.25, and a vote would depend on the order of its answers. No number is rounded: 1/3
differs from 0.333. And a plain space groups digits only right behind a mark ("#### 1 200"): elsewhere nothing tells "it
costs 1 200 euros" from "he got in week 1 200 euros", so the first is misread as 200. What numbers and spelling leave
open, `crescent.grading` decides.
"""

import re
from collections.abc import Iterator
from fractions import Fraction

from crescent.config import AnswerStyle

TAIL = 20_000
"""Characters at the end of a response that are looked at: a final answer stands at the end."""
LONGEST = 500
"""Characters of the longest final answer. What is longer is none."""

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
# One spelling per sign; all spaces that group digits become the thin one, so that "see 1 234" keeps its two numbers.
_SPELLING = str.maketrans({"−": "-", "–": "-", "\u00a0": "\u2009", "\u202f": "\u2009"})


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
        if formulas := [formula for formula in formulas if formula and not _is_prose(formula)]:
            return formulas[-1]
    return _last_number(tail)


def extract_marked(text: str, style: AnswerStyle) -> str | None:
    """Like `extract_final`, but only an explicitly marked answer counts: for text that was cut off."""
    return _explicit(_tail(text), style)[1]


def _tail(text: str) -> str:
    # A lone surrogate could not be written to a file later.
    return text[-TAIL:].encode("utf-8", "replace").decode().translate(_SPELLING)


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
    if formula and _inner(formula) and not _is_prose(_inner(formula)):
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
    if is_answer or as_number(sentence) is not None or not _is_prose(sentence):
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


_LATEX = str.maketrans(
    {"π": r"\pi ", "√": r"\sqrt ", "∞": r"\infty ", "×": r"\times ", "·": r"\cdot ", "÷": r"\div ", "≤": r"\le "}
    | {"≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "²": "^2", "³": "^3", "\u2009": " "}
    | dict.fromkeys("$%°€£¥₹₩`")
)
_TEXT = r"\\(?:text|textbf|mathrm|mbox)\s?\{([^{}]*)\}"
_FUNCTION = (
    r"\\(?:begin|end)\{[a-z]*\}|\\[a-zA-Z]+|\b(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?\b|\b(?:log|ln|exp|sqrt|min|max)\b"
)
_BARE_FUNCTION = r"(?<![\\a-zA-Z])(?:(?:arc)?(?:sin|cos|tan)|cot|sec|csc|log|ln|exp|pi)(?![a-zA-Z])"
_LEFT_SIDE = re.compile(r"(?:[a-zA-Z]|\\[a-z]+)(?:_\{?\w+\}?|\([a-z]\))?|[a-zA-Z ]{3,}|[^a-zA-Z]+")
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_NO_UNIT = rf"\b(?:{'|'.join(_SCALES)}|and|or|plus|minus|times|over|mod|pi|sqrt|infinity)\b"
# "5km" and "5 m" are lengths; "5m" and "5 x" are products.
_UNIT = re.compile(
    r"(?: ?(?:[kcm]m|[km]g|lbs?|oz|ft|in|yd|mi|mph|kph|hrs?|ms|[mc]l|[kmg]b|kwh?|usd|eur|am|pm)(?![a-z])"
    r"| [mghsl](?![a-z])|[ -][a-z]{3,})(?:\^\{?-?\d\}?)?(?:[ /-]+[a-z]+(?:\^\{?-?\d\}?)?){0,5}",
    re.IGNORECASE,
)
_AMOUNT = r"(?:(?:[1-9]\d{0,2}(?:,\d{3}){1,160}+|[1-9]\d{0,2}(?: \d{3}){1,120}+(?! ?\d)|\d++)(?:\.\d*+)?|\.\d++)"
_FRACTION = re.compile(rf"([-+]?) ?(?:(\d++) )?({_AMOUNT}) ?/ ?(-?{_AMOUNT})", re.ASCII)
_TEN_TO = r"(?:e| ?(?:\\times|\\cdot|x|\*) ?10 ?\^ ?\{?)([-+]?\d{1,3}+)(?!\d)\}?"
_DECIMAL = re.compile(rf"([-+]?) ?({_AMOUNT})(?:{_TEN_TO})?", re.ASCII | re.IGNORECASE)


def as_number(text: str) -> Fraction | None:
    r"""Exact value of a final answer that is one number, else `None`. Never goes through a float.

    Reads signs, decimals, "1,234", "1 234", fractions, `\frac`, mixed numbers and powers of ten (up to three digits of
    exponent); "million" and the like multiply. Currency, percent signs and units are ignored, as the graders of GSM8K
    and MATH do. "1,23" is no number: it may be a list.
    """
    if len(text) > LONGEST:
        return None
    # The sign before \frac belongs to the whole, so a mixed number needs no case of its own.
    written = re.sub(r" ?\\frac ?\{([^{}]*)\} ?\{([^{}]*)\}", r" \1/\2", normal(text)).strip()
    if match := _FRACTION.match(written):
        whole, above, below = (Fraction(re.sub("[, ]", "", part or "0")) for part in match.groups()[1:])
        if below == 0 or (match[2] and not 0 <= above < below):
            return None
        value = whole + above / below
    elif match := _DECIMAL.match(written):
        value = Fraction(re.sub("[, ]", "", match[2])) * Fraction(10) ** int(match[3] or 0)
    else:
        return None
    unit = written[match.end() :]
    if scale := re.match(rf" ?({'|'.join(_SCALES)})\b", unit):
        value *= _SCALES[scale[1]]
        unit = unit[scale.end() :]
    if unit and (not _UNIT.fullmatch(unit) or re.search(_NO_UNIT, unit)):
        return None
    return -value if match[1] == "-" else value


def normal(text: str) -> str:
    r"""One spelling for answers that differ in markdown, spacing, units and LaTeX dressing only.

    After `strip_string` of the MATH benchmark (github.com/hendrycks/math, math_equivalence.py): `\left`, `\!`, degrees,
    percent and currency go, `\frac12` gets braces, trailing `\text{units}` and a leading `x =` are dropped.
    """
    text = text.lstrip(" \n*_`").rstrip(" \n*_`.,;:").translate(_SPELLING)
    text = re.sub(r"(?<!\\)\\[$%!()\[\]]|\\(?:left|right|displaystyle)(?![a-zA-Z])|\^ ?\{?\\circ\}?", "", text)
    text = re.sub(r"(?<!\\)\\[,;: ]|~|\s+", " ", text).translate(_LATEX).replace("**", "^").replace("{,}", ",")
    text = re.sub(r"\\frac ?(\d) ?(\d)", r"\\frac{\1}{\2}", re.sub(r"\\[dt]frac", r"\\frac", text))
    unit = re.search(rf"(?<=[^\s]) ?{_TEXT}(?:\^\{{?\d\}}?)?\W*$", text)
    if unit and not re.search(_NO_UNIT, unit[1]):
        text = text[: unit.start()]
    text = re.sub(_TEXT, r" \1 ", text).strip(" ").rstrip(".,;: ")
    enumerated = re.sub(r" ?,? ?\b(?:and|or)\b ?", ", ", text)
    text = text if _is_prose(enumerated) else enumerated
    sides = [side.strip() for side in text.split("=")]
    solutions = re.findall(r"(?:^|,) ?([a-zA-Z]) ?=([^,=]+)", text)
    if len({unknown for unknown, _ in solutions}) == 1 and len(solutions) == text.count(",") + 1 == text.count("="):
        text = ", ".join(value for _, value in solutions)  # x = 1 or x = 2 means 1, 2
    elif len(sides) == 2 or (len(sides) > 2 and "," not in text):
        # 3*4 = 12 means 12; x^2 + y^2 = 1, x >= 1 and x = 1, y = 2 mean themselves.
        is_result = sides[-1] and sides[0][-1:] not in tuple("<>!:") and _LEFT_SIDE.fullmatch(sides[0])
        text = sides[-1] if is_result else text
    text = " ".join(text.split())
    return text.casefold() if _is_prose(text) else re.sub(_BARE_FUNCTION, r"\\\g<0>", text)


def _is_prose(text: str) -> bool:
    """Whether there are words in it. Sympy would read them as products, and "silent" equals "listen"."""
    return re.search(r"[^\W\d_]{3,}", re.sub(_FUNCTION, " ", text)) is not None


# A list with at least one comma; the braces inside belong to commands such as \frac.
_LIST = re.compile(r"(\\\{|[(\[]?)(?=[^,]*,)(?:[^()\[\]{}\\]|\\[a-zA-Z]++|\{[^{}]*\})*+(\\\}|[)\]]?)")


def _brackets(text: str) -> str | None:
    """The brackets around a flat list, `None` for anything else. "1, 2" is the set {1, 2}."""
    match = _LIST.fullmatch(text)
    return None if match is None else (match[1] + match[2]).replace("\\", "") or "{}"


def same_at_sight(a: str, b: str) -> bool | None:
    """What exact numbers and spelling decide; `None` when it takes algebra."""
    if a == b:
        return True
    if max(len(a), len(b)) > LONGEST:
        return False
    number_a, number_b, a, b = as_number(a), as_number(b), normal(a), normal(b)
    if number_a is not None and number_b is not None:
        return number_a == number_b
    has_number = number_a is not None or number_b is not None
    if not has_number and a.replace(" ", "") == b.replace(" ", ""):
        return True
    if not a or not b or _is_prose(a) or _is_prose(b):
        return False
    # Math-verify takes (0, 1) for {0, 1}, which is {1, 0}, and yet (0, 1) differs from (1, 0).
    lists = {_brackets(text) for text, number in ((a, number_a), (b, number_b)) if number is None} - {None}
    return False if (has_number and lists) or len(lists) == 2 else None
