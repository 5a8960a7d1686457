r"""Tell which final answers are the same at sight: by exact numbers, equal words and equal spelling.

Rules to know. A percent sign is a unit like `km` and `$`: "25%" equals "25" and differs from "0.25". Letting it equal
both would make 25 equal 0.25, and a vote would depend on the order of its answers. No number is rounded: 1/3 differs
from 0.333 and equals 0.333…. "2 dozen" is 24. A unit is dropped; what says more than a unit is not: "5 pm", "5 miles
north", "3 fewer", "5 squared", "101 in binary". What numbers, words and spelling leave open, `crescent.tasks.grading`
decides.
"""

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from crescent.tasks.spelling import SPELLING as SPELLING
from crescent.tasks.spelling import clean, without_text

LONGEST = 500
"""Characters of the longest final answer. What is longer is none."""

_FUNCTIONS = "(?:arc|a)?(?:sin|cos|tan|cot|sec|csc)h?|log|ln|lg|exp|sqrt|min|max|gcd|lcm"
_FUNCTION = rf"\\(?:begin|end)\{{[a-z]*\}}|\\[a-zA-Z]+|(?<![a-zA-Z])(?:{_FUNCTIONS})(?![a-zA-Z])"
_BARE_FUNCTION = re.compile(rf"(?<![\\a-zA-Z])(?:{_FUNCTIONS}|pi|theta|infinity|infty)(?![a-zA-Z])")
_LEFT_SIDE = re.compile(r"(?:[a-zA-Z]|\\[a-z]+)(?:_\{?\w+\}?|\([a-z]\))?|[^a-zA-Z]+")
_SCALES = {"dozen": 12, "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SCALES |= {"lakh": 10**5, "crore": 10**7}
_COUNTS = "zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|half|halves"
_PARTS = "thirds?|fourths?|fifths?|sixths?|sevenths?|eighths?|ninths?|tenths?|hundredths?|thousandths?"
_WAYS = "north|south|east|west|(?:north|south)-?(?:east|west)|down|downward|downwards|below|backward|backwards"
_LESS = "less|fewer|shorter|younger|slower|smaller|lower|earlier|early|before|decrease|decreased|loss|deficit|negative"
_TIMES = r"am|pm|bc|bce|ad|ce|noon|midnight|in the (?:morning|afternoon|evening)|at night"
_MATHEMATICS = r"plus|minus|over|mod|modulo|pi|sqrt|infinity|base|binary|octal|hexadecimal|odd|even|undefined|remainder"
_MATHEMATICS += r"|(?:arc)?(?:sin|cos|tan)|cot|csc|log|ln|exp"
# Words that say more than in what something is counted.
_NO_UNIT = re.compile(
    rf"^ ?(?:squared|cubed|factorial|times (?:as|more)? ?than)\b|\b(?:(?:{'|'.join(_SCALES)})s?|{_COUNTS}|{_PARTS}"
    rf"|{_WAYS}|{_LESS}|{_TIMES}|{_MATHEMATICS}|and|or|not|than|if|when|where)\b",
    re.IGNORECASE,
)
_SHORT_UNIT = r"[kcm]m|[km]g|lbs?|oz|ft|in|yd|mi|mph|kph|hrs?|ms|[mc]l|[kmg]b|kwh?|usd|eur|gbp|cad|aud|inr|rs|sq"
_POWER = r"(?:\^ ?\{?-?\d\}?|(?<=[a-z])[23](?![\w.]))"
# "5km" and "5 m" are lengths; "5m" and "5 x" are products.
_UNIT = re.compile(
    rf"(?: ?(?:{_SHORT_UNIT})(?![a-z])\.?| ?/ ?(?:[a-z]{{3,}}|{_SHORT_UNIT})(?![a-z])| [mghsl](?![a-z])"
    rf"|(?:st|nd|rd|th)\b|[ -][a-z][a-z&]{{2,}}\.?| of (?:the|all|an?|his|her|their) [a-z]{{3,}}){_POWER}?"
    rf"(?:(?: ?[/*] ?| per |[ -]+)(?:[a-z]{{2,}}|[mghsla](?![a-z]))\.?{_POWER}?){{0,6}}",
    re.IGNORECASE,
)
_TEXT_TAIL = re.compile(r"\\text\s*\{(?:[^{}]|\{[^{}]*\})*\}(?:\^\s*\{?\d\}?)?$")
_WORD_TAIL = re.compile(r"(?<= )[a-zA-Z]{2,}(?:[ /-]+[a-zA-Z]+\.?){0,5}(?:\^\s*\{?\d\}?)?$")
_SURE_UNIT = re.compile(
    rf"(?:(?:square|cubic|sq|cu) )?(?:{_SHORT_UNIT}|dollars?|cents?|percent|degrees?|radians?|units?|points?|hours?"
    r"|minutes?|seconds?|(?:kilo|centi|milli)?(?:meters?|metres?|grams?|lit(?:er|re)s?)|inch(?:es)?|feet|foot|yards?"
    r"|miles?|pounds?)(?:\^ ?\{?\d\}?)?",
    re.IGNORECASE,
)
_OPENING = ("{", "(", "[", r"\{", r"\begin")
_CLOSING = ("}", ")", "]", r"\}", r"\end")
_CURRENCY = re.compile(r"^(?:usd|us|eur|gbp|cad|aud|inr|rs\.?|rupees|dollars?) ?(?=[-.\d])", re.IGNORECASE)
_SCALE = re.compile(rf" ?({'|'.join(_SCALES)})s?\b", re.IGNORECASE)

_AMOUNT = r"(?:(?:[1-9]\d{0,2}(?:,\d{3}){1,160}+|[1-9]\d{0,2}(?: \d{3}){1,120}+(?! ?\d)|\d++)(?:\.\d*+)?|\.\d++)"
_FRACTION = re.compile(rf"([-+]?) ?(?:(\d++) )?({_AMOUNT}) ?/ ?(-?{_AMOUNT})", re.ASCII)
_TEN_TO = r"(?:e| ?(?:x|\*) ?10 ?\^ ?\{? ?)([-+]?\d{1,3}+)(?!\d) ?\}?"
_DECIMAL = re.compile(rf"([-+]?) ?({_AMOUNT})(?:{_TEN_TO})?", re.ASCII | re.IGNORECASE)
_INTEGER_POWER = re.compile(r"([-+]?) ?(\d{1,9}) ?\^ ?(?:\{ ?(\d{1,3}) ?\}|(\d{1,3}))(?!\d)", re.ASCII)
_PERIODIC = re.compile(
    r"([-+]?) ?(\d*)\.(\d*)(?: ?\\(?:overline|bar|dot) ?(?:\{(\d+)\}|(\d))|\((\d+)\)| ?\\ldots)", re.ASCII
)
_BARE_NUMBER = re.compile(r"(-?)\$?(\d++|[1-9]\d{0,2}+(?:,\d{3})++)(?:\.(\d++))?", re.ASCII)
_LATEX_FRACTION = re.compile(r" ?\\frac ?(?:\{([^{}]*)\}|(\d)) ?(?:\{([^{}]*)\}|(\d))")


@lru_cache(maxsize=8192)
def as_number(text: str) -> Fraction | None:
    r"""Exact value of a final answer that is one number, else `None`. Never goes through a float.

    Reads signs, decimals, "1,234", "1 234", fractions, `\frac`, mixed numbers, periodic decimals, powers of an integer
    and of ten (up to three digits of exponent); "million", "dozen" and the like multiply. Currency, percent signs and
    units are ignored, as the graders of GSM8K and MATH do. "1,23" is no number: it may be a list.
    """
    if len(text) > LONGEST:
        return None
    if bare := _BARE_NUMBER.fullmatch(text):
        return _decimal(bare[2] + "." + (bare[3] or ""), is_negative=bare[1] == "-")
    written = without_text(_right_side(clean(text))).replace(" ^", "^")
    if not any(character.isdigit() for character in written):
        return None
    # The sign before \frac belongs to the whole, so a mixed number needs no case of its own.
    written = _LATEX_FRACTION.sub(lambda part: f" {part[1] or part[2]}/{part[3] or part[4]}", written)
    written = _CURRENCY.sub("", " ".join(written.replace(r"\degree", " ").split()))
    found = _value(written)
    if found is None:
        return None
    value, unit = found
    if scale := _SCALE.match(unit):
        value *= _SCALES[scale[1].lower()]
        unit = unit[scale.end() :]
    return value if not unit or _is_unit(unit) else None


def _value(written: str) -> tuple[Fraction, str] | None:
    """The number a text starts with, and what follows it."""
    if "." in written and (match := _PERIODIC.match(written)):
        periodic = _periodic(match)
        if periodic is None:
            return None
        value = periodic
    elif "/" in written and (match := _FRACTION.match(written)):
        whole, above, below = (Fraction(re.sub("[, ]", "", part or "0")) for part in match.groups()[1:])
        if below == 0 or (match[2] and not 0 <= above < below):
            return None
        value = whole + above / below
    elif "^" in written and (match := _INTEGER_POWER.match(written)):
        value = Fraction(int(match[2]) ** int(match[3] or match[4]))
    elif match := _DECIMAL.match(written):
        value = _decimal(match[2])
        value = value * Fraction(10) ** int(match[3]) if match[3] else value
    else:
        return None
    return (-value if match[1] == "-" else value), written[match.end() :]


def _decimal(written: str, is_negative: bool = False) -> Fraction:
    """Of digits, with commas or spaces between thousands and with or without a point; faster than `Fraction` reads."""
    whole, _, part = written.replace(",", "").replace(" ", "").partition(".")
    value = int(whole + part)
    return (
        Fraction(-value if is_negative else value, 10 ** len(part))
        if part
        else Fraction(-value if is_negative else value)
    )


def _periodic(match: re.Match[str]) -> Fraction | None:
    r"""Absolute value of `0.1\overline{6}`, `0.(3)` and `0.333…`; `None` when the digits before `…` do not repeat."""
    _, whole, start, *marked = match.groups()
    period = next((digits for digits in marked if digits), "")
    if not period:
        # The shortest period that stands there twice: 0.1666… and 0.142857142857…
        found = re.search(r"(\d+?)\1+$", start)
        if found is None:
            return None
        start, period = start[: found.start()], found[1]
    tail = Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(start))
    return Fraction(f"{whole or 0}.{start or 0}") + tail


def _is_unit(text: str) -> bool:
    if text.startswith((" (", "(")) and text.endswith(")"):  # 12 (apples)
        text = " " + text.strip(" ()")
    return _UNIT.fullmatch(text) is not None and _NO_UNIT.search(text) is None


def _right_side(text: str) -> str:
    """What `x = 5`, `3*4 = 12` or `total = 5` comes to: the right side. Any other text is returned as given; clean."""
    if "=" not in text:
        return text
    sides = [side.strip() for side in split_outside(text, "=")]
    is_list = len(sides) > 2 and re.search(r",|\band\b|\bor\b", text)
    if len(sides) < 2 or not sides[-1] or is_list or sides[0][-1:] in tuple("<>!:"):
        return text
    left = without_text(sides[0])
    return sides[-1] if _LEFT_SIDE.fullmatch(left) or _is_label(left) else text


def split_outside(text: str, separator: str) -> list[str]:
    r"""Split at a character, but not inside braces or brackets: `\sum_{k=1}^{n} k = 5` has two sides."""
    parts, depth, start = [], 0, 0
    for token in re.finditer(r"\\[a-zA-Z]+|\\.|.", text, re.DOTALL):
        if token[0] in _OPENING:
            depth += 1
        elif token[0] in _CLOSING:
            depth -= 1
        elif token[0] == separator and depth <= 0:
            parts.append(text[start : token.start()])
            start = token.end()
    return [*parts, text[start:]]


def normal(text: str) -> str:
    r"""One spelling for answers that differ in markdown, spacing, units and LaTeX dressing only.

    After `strip_string` of the MATH benchmark (github.com/hendrycks/math, math_equivalence.py): `\left`, `\!`, degrees,
    percent and currency go, `\frac12` gets braces, trailing `\text{units}` and a leading `x =` are dropped.
    """
    text = _without_unit(clean(text).replace(r"\degree", ""), _TEXT_TAIL)
    text = re.sub(r"\\frac ?(\d) ?(\d)", r"\\frac{\1}{\2}", without_text(text))
    text = _enumerated(text)
    solutions = re.findall(r"(?:^|,) ?([a-zA-Z]) ?=([^,=]+)", text)
    if len({unknown for unknown, _ in solutions}) == 1 and len(solutions) == text.count(",") + 1 == text.count("="):
        text = ", ".join(value for _, value in solutions)  # x = 1 or x = 2 means 1, 2
    text = " ".join(_right_side(text).split())
    return text.casefold() if is_prose(text) else _BARE_FUNCTION.sub(r"\\\g<0>", text)


def _enumerated(text: str) -> str:
    """Commas for `and` and `or` between formulas; among other words they stay."""
    enumerated = re.sub(r" ?,? ?(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z]) ?", ", ", text)
    return text if is_prose(enumerated) else enumerated


def _without_unit(text: str, tail: re.Pattern[str]) -> str:
    r"""Drop a trailing `\text{ cm}^2` or `square units`; the text is clean. What may be more than a unit stays."""
    found = tail.search(text)
    if found is None:
        return text
    unit, head = without_text(found[0]).replace(" ^", "^"), text[: found.start()].rstrip()
    if not re.search(r"[\w)\]}]$", head) or is_prose(without_text(head)):
        return text
    # After an unknown only what is surely a unit goes: "n even" is not n.
    is_constant = re.search(r"\d|\\pi", head) and not re.search(r"[a-df-zA-Z]", re.sub(r"\\[a-zA-Z]+", "", head))
    is_unit = unit in "mghslLNJWVK" if len(unit) == 1 else _is_unit(f" {unit}")
    return head if (is_constant and is_unit) or _SURE_UNIT.fullmatch(unit) else text


def is_prose(text: str) -> bool:
    """Whether there are words in it. Sympy would read them as products, and "silent" equals "listen"."""
    return re.search(r"[^\W\d_]{3,}", re.sub(_FUNCTION, " ", text)) is not None


class Sight(NamedTuple):
    """What numbers, words and spelling tell about a final answer."""

    kind: str
    """`number`, `words`, `formula`, or `unread` for what is empty or too long."""
    value: Fraction | str
    """The exact number; words in one spelling; a formula without unit, ready for `crescent.tasks.meaning`."""


_CLOCK = re.compile(r"(\d{1,2})(?::(\d\d))? ?([ap])\.? ?m\.?", re.IGNORECASE | re.ASCII)
_OUT_OF = re.compile(r"(\d+(?:\.\d+)?|\d+/\d+) ?(in|of|out of|by|at) ?(\d+(?:\.\d+)?)\b.*", re.ASCII)
_TO = re.compile(r"([-\d./]+) to ([-\d./]+)(?: to ([-\d./]+))?", re.ASCII)
_BASE = re.compile(r"\(?([0-9A-Fa-f]+)\)? ?\(?(?:_ ?\{? ?|in base |base )(two|three|eight|\d+) ?[)}]*", re.ASCII)
_JOINED_FUNCTION = re.compile(r"(?<![a-zA-Z\\])(sin|cos|tan|ln|log)x(?![a-zA-Z])")
_OUTWARD = re.compile(r"([\[\]])([^\[\]]+[,;][^\[\]]+)([\[\]])")
"""`]0, 1[` for (0, 1)."""
_BASES = {"two": "2", "three": "3", "eight": "8"}
_ALPHABET = "abcdefghijklmnopqrstuvwxyz"
_SAID = {"all real numbers": r"\mathbb{R}", "all reals": r"\mathbb{R}", "real numbers": r"\mathbb{R}"}
_SAID |= {
    "set of all real numbers": r"\mathbb{R}",
    "set of real numbers": r"\mathbb{R}",
    "any real number": r"\mathbb{R}",
}
_SAID |= {"empty set": r"\emptyset", "no solution": r"\emptyset", "no solutions": r"\emptyset"}


@lru_cache(maxsize=8192)
def sight(text: str) -> Sight:
    """Read a final answer as far as numbers, words and spelling go; cheap, and safe with any text."""
    if len(text) > LONGEST:
        return Sight("unread", text)
    if (number := as_number(text)) is not None:
        return Sight("number", number)
    written = _JOINED_FUNCTION.sub(r"\1 x", _without_label(clean(text)))
    written = without_text(_without_unit(_without_unit(written, _TEXT_TAIL), _WORD_TAIL))
    if not written:
        return Sight("unread", text)
    if (plain := as_number(written)) is not None:
        return Sight("number", plain)
    if based := _BASE.fullmatch(written):
        written = f"{based[1]}_{{{_BASES.get(based[2], based[2])}}}"
    elif ratio := _TO.fullmatch(written):
        written = ":".join(part for part in ratio.groups() if part)
    elif clock := _CLOCK.fullmatch(written):
        return Sight("words", f"{int(clock[1])}:{clock[2] or '00'} {clock[3].lower()}m")
    elif part := _OUT_OF.fullmatch(written):
        return Sight("words", " ".join(part[0].replace(" out of ", " in ").split()).casefold())
    elif half_open := _OUTWARD.fullmatch(written):
        written = ("(" if half_open[1] == "]" else "[") + half_open[2] + (")" if half_open[3] == "[" else "]")
    elif written.casefold() in ("no", "up") or _has_words(_enumerated(written)):
        words = _words(written)
        return Sight("formula", _SAID[words]) if words in _SAID else Sight("words", words)
    return Sight("formula", _BARE_FUNCTION.sub(r"\\\g<0>", _join_thousands(written)))


def same_at_sight(a: str, b: str) -> bool | None:
    """What exact numbers, words and spelling decide; `None` when it takes algebra."""
    if a == b:
        return True
    if max(len(a), len(b)) > LONGEST:
        return False
    left, right = sight(a), sight(b)
    if left.kind == right.kind == "formula":
        return True if compact(str(left.value)) == compact(str(right.value)) else None
    if left.kind == right.kind:
        return left.value == right.value
    return None if {left.kind, right.kind} == {"number", "formula"} else False


def compact(formula: str) -> str:
    """Without the spaces that separate nothing: "1 2" is not "12"."""
    return re.sub(r"(?<![a-zA-Z0-9]) | (?![a-zA-Z0-9])", "", formula)


def _without_label(text: str) -> str:
    """Drop `Area =` and the like, whose left side is words."""
    sides = split_outside(text, "=") if "=" in text else []
    return sides[1].strip() if len(sides) == 2 and _is_label(without_text(sides[0])) else text


def _is_label(text: str) -> bool:
    return re.fullmatch(r"[a-zA-Z -]+", text) is not None and _has_words(text)


def _has_words(text: str) -> bool:
    """Like `is_prose`, but `2abc` and `xyz` are products."""
    runs = re.findall(r"[^\W\d_]{3,}", re.sub(_FUNCTION, " ", text))
    return any(run not in _ALPHABET for run in runs)


def _words(text: str) -> str:
    text = re.sub(r"\\ldots\b|[\"“”{}]|\\(?![a-zA-Z])", " ", text.casefold())
    text = re.sub(r"(?<=[a-z])-(?=[a-z])", " ", " ".join(text.split()).strip(".,;:!?' "))
    return re.sub(r" ?, ?(?:and )?| and ", ", ", re.sub(r"^(?:the|an?) (?=[a-z]{3})", "", text))


def _join_thousands(text: str) -> str:
    """`1,234x` becomes `1234x`; inside brackets a comma separates."""

    def joined(match: re.Match[str]) -> str:
        before = re.findall(r"[(\[{]|[)\]}]", text[: match.start()])
        return match[0].replace(",", "") if sum(1 if b in "([{" else -1 for b in before) <= 0 else match[0]

    return re.sub(r"(?<![\d,.])[1-9]\d{0,2}(?:,\d{3})+(?![\d,]| *,\d)", joined, text)
