r"""Numbers as people and models write them: where they stand in a text, and which of them a short text gives.

No quantifier is open (++ is possessive, the others are counted), so every scan is linear, whatever the text.
"""

import re

from crescent.tasks.equivalence import LONGEST, is_prose

_PLAIN = r"(?:(?:[1-9]\d{0,2}(?:[,\u2009]\d{3}){1,7}+(?![,\u2009]?\d)|\d++)(?:\.\d++)?|\.\d++)"
_POWER = r"(?:[eE][-+]?\d++|\s?(?:×|x|\*|\\times|\\cdot)\s?10\s?\^\s?\{?-?\d++\}?|\^(?:\d{1,2}(?![\d.])|\{\d{1,2}\}))"
_PART = rf"(?:\{{\s?-?{_PLAIN}\s?\}}|\d)"
_FRAC = rf"\\[dt]?frac\s?{_PART}\s?{_PART}"
CURRENCY = r"(?:\\?[$€£¥₹₩¢₽₱₺₫₴₦฿₪])"
# A minus after a digit, letter or closing bracket is a dash or a subtraction: "pages 5-7" ends in 7, "x = -5" in -5. A
# digit after a letter, `^` or `_` belongs to a name, an exponent or an index: "m^2" holds no number.
NUMBER = re.compile(
    rf"(?:(?<![\w)\]}}%])[-+])?{CURRENCY}?(?<![\w^])(?<!\d\.)(?<![\^_][-({{])"
    rf"(?:(?:\d++\s?)?{_FRAC}|\d++\ (?:and\ )?\d++/\d++|{_PLAIN}(?:{_POWER}|\s?/\s?{_PLAIN})?)",
    re.ASCII,
)
_FRACTION = re.compile(r"\\[dt]?frac\s?(?:\{\s?([^{}]*?)\s?\}|(\d))\s?(?:\{\s?([^{}]*?)\s?\}|(\d))")
_POWER_OF_INTEGER = re.compile(r"([-+]?)(\d{1,4})\^\{?(\d{1,2})\}?")
# Codes and letters of a currency, written before its amount: "USD 0.50", "Rs. 500", "US$5".
MONEY_CODE = (
    r"(?:\b(?:USD|EUR|GBP|INR|CAD|AUD|NZD|JPY|CNY|RMB|CHF|MXN|SGD|HKD)|\bRs\.?|\b(?:US|CA|AU|NZ|HK|[ACRS])(?=\$))"
)
# Ornaments around a number, and the name or the words that an equation gives a value to.
_OPENING = re.compile(
    rf"(?:[\s*({{$\"'“_`~≈]|\\[(\[]|\\(?:text|mathbf|textbf|mathrm|displaystyle)\b|{MONEY_CODE}\s?)*+", re.IGNORECASE
)
_NAMED = re.compile(r"(?:[a-zA-Z][\w'’.()-]{0,20}+ ?){1,8}+=\s?")
# Between a number and the next of a computation: units, then an operator, then maybe brackets and a currency.
_CONTINUES = re.compile(
    rf"[)\]}}*!]{{0,3}}(?:\(-?\d|(?:\s?(?!x\s?[\d($])[a-zA-Z%°.]++(?:/[a-zA-Z]++)?){{0,4}}?[\s)\]}}]*+"
    rf"(?:=|(?:[-+*/x×÷·^:]|\\times|\\cdot|\\div)\s*+[(\[{{\s]*+-?{CURRENCY}?(?:\d|\.\d|\\[dt]?frac|\Z)))"
    rf"|\s?\\?%\sof\s{CURRENCY}?\d[\d.,]*\s?="
)
# "60 minutes are in an hour, so 300/60 = 5": the number behind the mark begins a sentence that comes to another.
_SENTENCE = re.compile(
    r"[^=(,.\n]{0,40}\b(?:is|are|was|were|has|have|had|will|would|can|gets?|gives?|makes?|costs?|takes?)\b[^(\n]{0,300}="
)
_CLAUSE = re.compile(r",\s++[a-zA-Z]")
_SIGN_WORD = re.compile(r"\b(?:minus|negative)\s(?=[$€£]?\d)", re.IGNORECASE)
_GROUPED = re.compile(r"[-+]?[1-9]\d{0,2}(?: \d{3}){1,7}(?! ?\d|-)")
# What may follow the number on the left of "60 minutes = 1 hour"; a dozen is twelve.
_UNIT_ALONE = re.compile(r"(?:[\s*]|\b(?!dozen)[a-zA-Z]{2,}){0,6}")
# Behind a full stop: it is not that of "Mr." or "sq.".
NOT_ABBREVIATED = (
    r"(?<!\bmr\.)(?<!\bmrs\.)(?<!\bms\.)(?<!\bdr\.)(?<!\bst\.)(?<!\bsq\.)(?<!\bvs\.)(?<!\be\.g\.)(?<!\bi\.e\.)"
    r"(?<!\bapprox\.)"
)
_END_OF_LINE = re.compile(
    rf"\n|[.?!]{NOT_ABBREVIATED}(?=\s|\Z)(?!\s?=)|,?\s\(?(?=(?:because|since|so|which|where|as)\s)", re.IGNORECASE
)

# Behind a number: units, so that the number alone is the answer …
_UNIT_FOLLOWS = re.compile(
    rf"""\s?(?:°|\^\{{?\\circ\}}?|\\degree)?\s?[CFK]\b     # -10°F
    | \^?\{{?\s?(?:st|nd|rd|th)\b                         # 6th, 6^{{th}}
    | \s?/\s?[a-zA-Z]{{2,}}                               # $25,000/year
    | \s?[gLlhsm]\b(?!\s?[\^_*/+=(-])                   # 2600g
    | \s[A-Z][A-Za-z]{{0,20}}(?:[&'’][A-Za-z]|\b(?=\s|\Z)(?<=[A-Za-z]{{2}}))  # 762 M&Ms, 3 TVs
    | \s(?:of|to|at|on|by|sq|cu|c|p|sec)\b
    | \s?\((?:[a-zA-Z.\ ]{{2,20}}|[gLlhsm])(?:\)|\Z)     # 12 (cm)
    | ["'”’](?=\s|\Z)                                    # 67" tall
    | \s?\\?%\s(?:of|off|more|less)\b
    | {CURRENCY}\s[a-zA-Z]{{2}}                           # 97$ on a shirt
    | \s(?:[$€£]\d|\d{{1,9}}[\ -][a-z]{{2}})               # 2 $10 bills, 12 8-ounce glasses
    | \s\([^()]{{0,80}}\d\s?[-+*/x×÷]\s?[$€£]?\d[^()]{{0,80}}\)  # 80.00 (60 + 20)
    """,
    re.VERBOSE,
)
_WORD_FOLLOWS = re.compile(r"[\s,(–-]{1,3}(?:an?\s)?[a-zA-Z](?:[a-zA-Z]|-[a-zA-Z]{2})|[a-zA-Z]{3}")
_UNIT = (
    r"(?:hours?|hrs?|h|minutes?|mins?|seconds?|secs?|days?|weeks?|months?|years?|feet|foot|ft|inch(?:es)?|pounds?|lbs?"
    r"|ounces?|oz|dollars?|cents?|kg|g|km|m|cm|gallons?|quarts?|pints?|degrees?)\.?"
)
_COUNTED = r"(?:\s?(?!(?:in|for|at|per|of|over|after|on|by|with|and|or)\b)[a-z]{1,20}\b\.?)"
# … or what changes its meaning, so that the answer is all of it: times, ratios, ranges, lists, amounts in two units.
_MEANS_MORE = re.compile(
    rf"""\s?:\s?\d | \s?[ap]\.?m\b
    | \s?(?:to|:|-|out\sof|in)\s(?:{NUMBER.pattern})(?:\s(?:chance|odds)|\s*\Z)
    | \s?(?:to|-)\s?(?:{NUMBER.pattern})\s[a-z]+\Z
    | \s(?:dozens?|score|gross)\b | \s\(?(?:mod|modulo|choose)\s
    | \s(?:more|less|fewer|greater|older|younger)\sthan\s[a-zA-Z]\b
    | \sor\s(?:more|less|fewer|higher|greater|above|below)\b
    | \s(?:if|when|for|where)\s[$\\]{{0,2}}[a-zA-Z]\s?(?:[=<>≤≥\\]|is\b)
    | \s?{_UNIT}(?:(?:,\s?|\s)(?:and\s)?(?:{NUMBER.pattern})\s?{_UNIT}){{1,2}}\Z
    | {_COUNTED}{{0,2}}(?:(?:,\s?|,?\s(?:and|or)\s)(?:{NUMBER.pattern}){_COUNTED}{{0,2}}){{1,8}}\Z
    """,
    re.VERBOSE | re.ASCII,
)
# "36 inches or 3 feet": the same again in another unit.
_RESTATED = re.compile(rf"\s?([a-z]{{1,20}})\.?,?\s(?:or|i\.e\.)\s(?:{NUMBER.pattern})\s(?!\1\b)[a-z]{{1,20}}\.?")


def numbers(text: str) -> list[re.Match[str]]:
    """All numbers of a text but those whose digits run on for ever."""
    return [found for found in NUMBER.finditer(text) if len(found[0]) <= LONGEST]


def amount(number: re.Match[str]) -> str:
    """A number as `crescent.tasks.equivalence` reads it: without currency, powers of integers worked out."""
    text = _FRACTION.sub(r"\\frac{\1\2}{\3\4}", number[0]) if "frac" in number[0] else number[0]
    text = re.sub(CURRENCY, "", text).replace("\u2009", " ").replace(" and ", " ")
    if "^" in text and (power := _POWER_OF_INTEGER.fullmatch(text)):
        return f"{power[1]}{int(power[2]) ** int(power[3])}"
    return text


def leading_number(text: str) -> str | None:
    """The number that a text starts with; of a computation ("3*4 = 12 apples", "cost = 12") the result.

    A plain space groups digits here, "1 200": at the start of an answer there is nothing else it could tell apart.
    """
    end = _END_OF_LINE.search(text, 1)
    line = _SIGN_WORD.sub("-", text[: end.start()] if end else text)
    while named := _NAMED.match(line):
        line = line[named.end() :]
    start = _start(line)
    if grouped := _GROUPED.match(line, start):
        line = line[:start] + grouped[0].replace(" ", "\u2009") + line[grouped.end() :]
    number = NUMBER.match(line, start)
    if number is None:
        return None
    if _CONTINUES.match(line, number.end()):
        clause = line[: comma.start()] if (comma := _CLAUSE.search(line)) else line
        return _result(clause if "=" in clause else line)
    rest = line[number.end() :] + (text[end.start() :] if end else "")
    return None if _SENTENCE.match(rest) else amount(number)


def _result(computation: str) -> str | None:
    """What a computation comes to: 12 in "3*4 = 12" and in "12 = 3*4", nothing in "3*4"."""
    left, *others = re.split(r"(?<![<>!:])=", computation)
    if not others:
        return None
    number = NUMBER.match(left, _start(left))
    if number and "/" not in number[0] and _UNIT_ALONE.fullmatch(left, number.end()):
        return amount(number)
    right = others[-1]
    number = NUMBER.match(right, _start(right))
    return amount(number) if number and not _CONTINUES.match(right, number.end()) else None


def _start(text: str) -> int:
    opening = _OPENING.match(text)
    return opening.end() if opening else 0


def says_what_it_counts(rest: str) -> bool:
    """Whether what follows a number only says what it counts or measures: " miles in 7 hours", "th place"."""
    if is_whole_answer(rest):
        return False
    return _UNIT_FOLLOWS.match(rest) is not None or (_WORD_FOLLOWS.match(rest) is not None and is_prose(rest))


def is_whole_answer(rest: str) -> bool:
    """Whether what follows a number makes another answer of it: ":30", " to 4", " dozen", ", 46, and 82"."""
    more = _MEANS_MORE.match(rest)
    return more is not None and not _RESTATED.fullmatch(rest)
