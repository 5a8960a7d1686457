r"""Tell which final answers are the same at sight: by exact numbers and equal spelling.

Two rules to know. A percent sign is a unit like `km` and `$`: "25%" equals "25" and differs from "0.25". Letting it
equal both would make 25 equal 0.25, and a vote would depend on the order of its answers. No number is rounded: 1/3
differs from 0.333. What numbers and spelling leave open, `crescent.tasks.grading` decides.
"""

import re
from fractions import Fraction

LONGEST = 500
"""Characters of the longest final answer. What is longer is none."""

# One spelling per sign; all spaces that group digits become the thin one, so that "see 1 234" keeps its two numbers.
SPELLING = str.maketrans({"−": "-", "–": "-", "\u00a0": "\u2009", "\u202f": "\u2009"})
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
    text = text.lstrip(" \n*_`").rstrip(" \n*_`.,;:").translate(SPELLING)
    text = re.sub(r"(?<!\\)\\[$%!()\[\]]|\\(?:left|right|displaystyle)(?![a-zA-Z])|\^ ?\{?\\circ\}?", "", text)
    text = re.sub(r"(?<!\\)\\[,;: ]|~|\s+", " ", text).translate(_LATEX).replace("**", "^").replace("{,}", ",")
    text = re.sub(r"\\frac ?(\d) ?(\d)", r"\\frac{\1}{\2}", re.sub(r"\\[dt]frac", r"\\frac", text))
    unit = re.search(rf"(?<=[^\s]) ?{_TEXT}(?:\^\{{?\d\}}?)?\W*$", text)
    if unit and not re.search(_NO_UNIT, unit[1]):
        text = text[: unit.start()]
    text = re.sub(_TEXT, r" \1 ", text).strip(" ").rstrip(".,;: ")
    enumerated = re.sub(r" ?,? ?\b(?:and|or)\b ?", ", ", text)
    text = text if is_prose(enumerated) else enumerated
    sides = [side.strip() for side in text.split("=")]
    solutions = re.findall(r"(?:^|,) ?([a-zA-Z]) ?=([^,=]+)", text)
    if len({unknown for unknown, _ in solutions}) == 1 and len(solutions) == text.count(",") + 1 == text.count("="):
        text = ", ".join(value for _, value in solutions)  # x = 1 or x = 2 means 1, 2
    elif len(sides) == 2 or (len(sides) > 2 and "," not in text):
        # 3*4 = 12 means 12; x^2 + y^2 = 1, x >= 1 and x = 1, y = 2 mean themselves.
        is_result = sides[-1] and sides[0][-1:] not in tuple("<>!:") and _LEFT_SIDE.fullmatch(sides[0])
        text = sides[-1] if is_result else text
    text = " ".join(text.split())
    return text.casefold() if is_prose(text) else re.sub(_BARE_FUNCTION, r"\\\g<0>", text)


def is_prose(text: str) -> bool:
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
    if not a or not b or is_prose(a) or is_prose(b):
        return False
    # Math-verify takes (0, 1) for {0, 1}, which is {1, 0}, and yet (0, 1) differs from (1, 0).
    lists = {_brackets(text) for text, number in ((a, number_a), (b, number_b)) if number is None} - {None}
    return False if (has_number and lists) or len(lists) == 2 else None
