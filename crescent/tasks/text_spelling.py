"""One spelling for what differs in look only, before it is read."""

import re

from crescent.config import DecimalMark
from crescent.tasks.equivalence import SPELLING

_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_BOLD_DIGITS = {0x1D7CE + index: str(index % 10) for index in range(50)}  # 𝟏𝟐, 𝟙𝟚, 𝟣𝟤, 𝟭𝟮, 𝟷𝟸
_MINUS = dict.fromkeys(map(ord, "‐‑‒﹣－"), "-")
_NO_WIDTH = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))
_SPACES = {0x3000: " ", 0x2002: " ", 0x2003: " ", 0x2007: "\u2009", 0x2008: "\u2009", 0x200A: "\u2009"}
_SIGNS = (
    SPELLING
    | _FULL_WIDTH
    | _BOLD_DIGITS
    | _MINUS
    | _NO_WIDTH
    | _SPACES
    | {0x2044: "/", 0x2215: "/", 0x3002: ".", 0x3001: ","}
)
_VULGAR = {
    "½": "1/2",
    "⅓": "1/3",
    "⅔": "2/3",
    "¼": "1/4",
    "¾": "3/4",
    "⅕": "1/5",
    "⅖": "2/5",
    "⅗": "3/5",
    "⅘": "4/5",
    "⅙": "1/6",
    "⅚": "5/6",
    "⅐": "1/7",
    "⅛": "1/8",
    "⅜": "3/8",
    "⅝": "5/8",
    "⅞": "7/8",
    "⅑": "1/9",
    "⅒": "1/10",
}
_VULGAR_FRACTION = re.compile(rf"(\d?)([{''.join(_VULGAR)}])")
_DIGITS_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,20}")
_GROUP = re.compile(r"(?:,\\!\s?|\{,\}\s?|\\!|\\,|['’])(?=\d{3}(?!\d))")
_TWO_DIGITS = re.compile(r",\d\d,\d")  # "1,00,000", as it is grouped in India
_INDIAN = re.compile(r"(?<![\d,.])[1-9]\d?(?:,\d\d){1,5},\d{3}(?![,\d])")
# GSM8K's calculator: what the engine's tool computed, and usually its result once more behind.
_CALCULATION = re.compile(r"<<[^<>\n]{0,200}?=\s?(-?[\d.,/]{1,40})>>(\s?[$€£]?-?[\d.])?|<<[^<>\n]{0,200}>>")
_DRAWING = re.compile(r"\[asy\].*?(?:\[/asy\]|\Z)", re.DOTALL)  # programs that draw, in MATH's solutions
_CENTS = re.compile(r"\b(\d[\d,]{0,12}) dollars?,? and (\d\d?) cents\b")
_COMMA_DECIMAL = re.compile(r"(?<![\d.,])(\d{1,3}(?:\.\d{3}){1,6}|\d++)(,\d++)?(?![\d,]|\.\d)")


def with_plain_signs(text: str) -> str:
    """The text with one sign for each of those that differ in look only: `１２％`, `−5`, `½`, `10³`."""
    if text.isascii():
        return text
    text = text.translate(_SIGNS)
    text = _VULGAR_FRACTION.sub(lambda sign: (sign[1] + " " if sign[1] else "") + _VULGAR[sign[2]], text)
    return _RAISED.sub(lambda digits: "^{" + digits[0].translate(_DIGITS_RAISED) + "}", text)


def spelled(text: str, decimal_mark: DecimalMark) -> str:
    r"""The text with its numbers in one spelling: `32,\! 349`, `1'200`, `<<3*4=12>>12`.

    With `DecimalMark.comma`, "1.234,5" becomes "1234.5".
    """
    if _GROUP.search(text):
        text = _GROUP.sub(_with_comma, text)
    if "[asy]" in text:
        text = _DRAWING.sub("", text)
    if " cents" in text:
        text = _CENTS.sub(lambda money: f"{money[1]}.{int(money[2]):02} dollars", text)
    if "<<" in text:
        text = _CALCULATION.sub(_without_calculation, text)
    if _TWO_DIGITS.search(text):
        text = _INDIAN.sub(lambda number: number[0].replace(",", ""), text)
    if decimal_mark is DecimalMark.comma:
        text = _COMMA_DECIMAL.sub(lambda number: number[1].replace(".", "") + (number[2] or "").replace(",", "."), text)
    return text


def _with_comma(group: re.Match[str]) -> str:
    return "," if group.string[max(0, group.start() - 1)].isdecimal() else group[0]


def _without_calculation(note: re.Match[str]) -> str:
    """The result is kept where nothing says it again."""
    return note[2] or note[1] or ""
