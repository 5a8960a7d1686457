"""The value of a question that asks for one plain computation and nothing else: `truth("What is 2 + 3?")` is 5."""

import re
from dataclasses import dataclass
from fractions import Fraction

_NUMBER = r"\d{1,6}(?:\.\d{1,4})?"
_SIGN = r"[-+*/−–×÷xX]|plus|minus|times|multiplied by|divided by"
_CHAIN = re.compile(rf"(?<![\d.\w)-]){_NUMBER}(?:\s?(?:{_SIGN})\s?{_NUMBER})+(?![\d\w(^])")
_OF = re.compile(rf"\b(sum|product) of ({_NUMBER}) and ({_NUMBER})(?!\d)")
_LABEL = re.compile(r"^\s*\d{1,2}[.)]\s")
_SIGNS = {"−": "-", "–": "-", "×": "*", "x": "*", "X": "*", "÷": "/"}
_SIGNS |= {"plus": "+", "minus": "-", "times": "*", "multiplied by": "*", "divided by": "/"}
# A sentence with one of these asks for something else than the value of the sum in it, or for nothing yet.
_DOUBT = re.compile(
    r"\d|[=%^()\[\]]|\b(?:how many|how much can|if|equals?|half|twice|double|itself|answer|remainder)\b", re.I
)


@dataclass(frozen=True)
class Sum:
    """A computation that a question asks for."""

    written: str
    """Computation in one spelling: `2+3`."""
    value: Fraction


@dataclass(frozen=True)
class Computation:
    """What two questions share that ask for the same: terms and factors in any order, others in theirs."""

    operator: str
    """Operator, or all of them in their order if they differ."""
    operands: tuple[str, ...]


def same_computation(question: str) -> Computation | None:
    """The computation a question asks for, equal for equal ones; `None` as `truth`."""
    known = truth(question)
    if known is None:
        return None
    numbers = [str(Fraction(number)) for number in re.findall(r"[\d.]+", known.written)]
    operators = re.findall(r"[-+*/]", known.written)
    kind = operators[0] if len(set(operators)) == 1 else "".join(operators)
    return Computation(kind, tuple(sorted(numbers, key=Fraction) if kind in ("+", "*") else numbers))


def truth(question: str) -> Sum | None:
    """The only computation in a question; `None` if it has none or several, or asks for anything else.

    Multiplication and division come before addition and subtraction; division by zero has no value.
    """
    text = _LABEL.sub("", question)
    found = [*_CHAIN.finditer(text), *_OF.finditer(text)]
    if len(found) != 1 or _DOUBT.search(text[: found[0].start()] + text[found[0].end() :]):
        return None
    written = found[0][0]
    if found[0].re is _OF:
        written = f"{found[0][2]}{'+' if found[0][1] == 'sum' else '*'}{found[0][3]}"
    for spelling, sign in _SIGNS.items():
        written = written.replace(spelling, sign)
    written = "".join(written.split())
    value = _value(written)
    return None if value is None else Sum(written, value)


def _value(written: str) -> Fraction | None:
    """Exact value of a computation; `None` if it divides by zero."""
    total = Fraction(0)
    for term in re.findall(r"[-+]?[^-+]+", written):
        first, *rest = re.split(r"([*/])", term)
        product = Fraction(first)
        for sign, number in zip(rest[::2], rest[1::2], strict=True):
            if sign == "/" and Fraction(number) == 0:
                return None
            product = product * Fraction(number) if sign == "*" else product / Fraction(number)
        total += product
    return total
