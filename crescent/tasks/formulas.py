r"""Parse one formula, without relations, lists and brackets that mean a point or an interval, into a tree.

A tree is a tuple: its first element names the node, the others are numbers, names or trees. It is what a textbook means
by the text, where sympy's LaTeX readers differ or refuse: `\mathrm{e}` and `e` are Euler's number, `i` the imaginary
unit, `\log` has base 10, `f(x)` is a function's value and `x(x+1)` a product, `2\frac12` is 5/2, `\sin 30^\circ` is
1/2, `x^{10}` and `x^10` are one power.
"""

import re
from fractions import Fraction
from typing import Any

from crescent.tasks.equivalence import as_number
from crescent.tasks.tokens import CLOSING, MATCHING, OPENING, Token, Unreadable, closing_of

Tree = tuple[Any, ...]


_FUNCTIONS = set("sin cos tan cot sec csc sinh cosh tanh arcsin arccos arctan asin acos atan ln log exp".split())  # noqa: SIM905
_TRIGONOMETRIC = {"sin", "cos", "tan", "cot", "sec", "csc"}
_INVERSE = {"sin": "arcsin", "cos": "arccos", "tan": "arctan"}
_LISTS = {"max", "min", "gcd", "lcm"}
_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega"
)
_GREEK += " Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell hbar"
_NAMES = {f"\\{name}" for name in _GREEK.split()}
_ACCENTS = {"\\" + name for name in ("overline", "bar", "hat", "vec", "tilde", "widehat", "overrightarrow")}
_ACCENTS |= {"\\" + name for name in ("mathbf", "mathcal", "mathbb", "boldsymbol")}
_FUNCTION_LETTERS = frozenset("fghFGHPQ")
"""In front of a bracket. Of these, only f and g are functions of a sum: h(a + b) is a product."""
_BIG = {r"\sum": "sum", r"\prod": "prod", r"\int": "int", r"\lim": "lim"}
_DEPTH = 60


def parse(tokens: list[Token], text: str) -> Tree:
    """The tree of a whole formula.

    Raises:
        Unreadable: it is none, or has parts that we do not know.
    """
    parser = _Parser(tokens, text)
    tree = parser.expression()
    if parser.here is not None:
        raise Unreadable(parser.here.text)
    return tree


class _Parser:
    def __init__(self, tokens: list[Token], text: str) -> None:
        self.tokens = tokens
        self.text = text
        self.position = 0
        self.depth = 0
        self.in_angle = False
        """Whether a degree sign means pi/180: inside the argument of a trigonometric function."""
        self.bars = 0
        """How many absolute values are open."""

    @property
    def here(self) -> Token | None:
        return self.tokens[self.position] if self.position < len(self.tokens) else None

    def sees(self, *texts: str) -> bool:
        return self.here is not None and self.here.text in texts

    def take(self, *texts: str) -> Token:
        token = self.here
        if token is None or (texts and token.text not in texts):
            raise Unreadable(f"{token.text if token else 'the end'} where {' or '.join(texts) or 'more'} is expected")
        self.position += 1
        return token

    def skip(self, text: str) -> bool:
        if self.sees(text):
            self.position += 1
            return True
        return False

    def expression(self) -> Tree:
        self.depth += 1
        if self.depth > _DEPTH:
            raise Unreadable("nested too deeply")
        tree = self.term()
        while self.sees("+", "-"):
            sign = self.take().text
            right = self.term()
            tree = ("add", tree, right if sign == "+" else ("neg", right))
        self.depth -= 1
        return tree

    def term(self) -> Tree:
        tree = self.signed()
        while True:
            if self.skip("*"):
                tree = ("mul", tree, self.signed())
            elif self.skip("/"):
                tree = ("div", tree, self.signed())
            elif self.starts_factor():
                tree = ("mul", tree, self.power())
            else:
                return tree

    def signed(self) -> Tree:
        if self.skip("-"):
            return ("neg", self.signed())
        if self.skip("+"):
            return self.signed()
        return self.power()

    def starts_factor(self) -> bool:
        token = self.here
        if token is None or token.kind in ("word", "environment"):
            return False
        if token.kind == "number":
            if self.tokens[self.position - 1].kind in ("number", "letter"):
                raise Unreadable("a number behind a number or a letter")  # x2 may be x_2 or x^2, 3 R 2 no product
            return True
        if token.text == "|":
            return self.bars == 0
        known = token.text in (r"\frac", r"\sqrt", r"\binom", r"\pi", r"\infty") or token.text in _NAMES | _ACCENTS
        is_function = token.text[1:] in _FUNCTIONS | _LISTS or token.text in _BIG
        return token.kind == "letter" or token.text in OPENING or known or is_function

    def power(self) -> Tree:
        tree = self.mixed_number() or self.primary()
        while True:
            if self.skip("^"):
                tree = ("pow", tree, self.exponent())
            elif self.skip("!"):
                if self.sees("!"):
                    raise Unreadable("a double factorial")
                tree = ("factorial", tree)
            elif self.skip(r"\degree"):
                tree = ("mul", tree, ("degree",)) if self.in_angle else tree
            else:
                return tree

    def exponent(self) -> Tree:
        if self.skip("-"):
            return ("neg", self.exponent())
        if self.sees("{"):
            return self.group()
        tree = self.primary()
        return ("pow", tree, self.exponent()) if self.skip("^") else tree

    def group(self) -> Tree:
        """What stands in braces or brackets, or else one token."""
        if self.here is not None and self.here.text in MATCHING:
            closing = MATCHING[self.take().text]
            bars, self.bars = self.bars, 0
            tree = self.expression()
            self.bars = bars
            self.take(closing)
            return tree
        token = self.take()
        if token.kind == "number" and len(token.text) > 1 and token.text.isdigit():
            # \frac12 and \sqrt12: a command takes one digit, but a square root is never written so.
            raise Unreadable("several digits where one is meant")
        self.position -= 1
        return self.primary()

    def argument(self) -> Tree:
        """Of `\\frac` and `\\binom`: a group, or one digit of a number."""
        token = self.here
        if token is not None and token.kind == "number" and len(token.text) > 1:
            first = token._replace(text=token.text[0], end=token.start + 1)
            rest = token._replace(text=token.text[1:], start=token.start + 1)
            self.tokens = [*self.tokens[: self.position], first, rest, *self.tokens[self.position + 1 :]]
            return self.primary()
        return self.group()

    def primary(self) -> Tree:
        token = self.take()
        if token.kind == "number":
            return self.number(token)
        if token.kind == "letter":
            return self.name(token.text)
        match token.text:
            case "(" | "[" | "{":
                self.position -= 1
                return self.group()
            case r"\lfloor" | r"\lceil":
                self.position -= 1
                return ("floor" if token.text == r"\lfloor" else "ceil", self.group())
            case "|":
                self.bars += 1
                tree = self.expression()
                self.bars -= 1
                self.take("|")
                return ("abs", tree)
            case r"\frac":
                return self.fraction()
            case r"\binom":
                above = self.argument()
                return ("binomial", above, self.argument())
            case r"\sqrt":
                return self.root()
            case r"\pi":
                return ("pi",)
        if token.text in _BIG:
            return self.big(_BIG[token.text])
        if token.text[1:] in _FUNCTIONS:
            return self.function(token.text[1:])
        if token.text[1:] in _LISTS:
            return self.list_function(token.text[1:])
        if token.text in _ACCENTS:
            return self.name(token.text + " " + self.spelled())
        if token.text in _NAMES:
            return self.name(token.text)
        raise Unreadable(token.text)

    def number(self, token: Token) -> Tree:
        value = as_number(token.text)
        if value is None:
            raise Unreadable(token.text)
        if self.sees("_"):
            raise Unreadable("a number with an index")
        return ("number", value)

    def mixed_number(self) -> Tree | None:
        r"""`2\frac{1}{2}`; `2\frac{3}{2}` and `2\frac{x}{3}` are products."""
        whole = self.here
        if (
            whole is None
            or not whole.text.isdigit()
            or [t.text for t in self.tokens[self.position + 1 :][:1]] != [r"\frac"]
        ):
            return None
        parts = re.match(r"\\frac ?(?:\{ ?(\d+) ?\}|(\d)) ?(?:\{ ?(\d+) ?\}|(\d))", self.text[whole.end :].lstrip())
        if parts is None:
            return None
        above, below = int(parts[1] or parts[2]), int(parts[3] or parts[4])
        if not 0 < above < below:
            return None
        self.take()
        fraction = self.primary()
        return ("add", ("number", Fraction(whole.text)), fraction)

    def fraction(self) -> Tree:
        start = self.here
        above = self.argument()
        below = self.argument()
        written = self.text[start.start : self.tokens[self.position - 1].end] if start else ""
        if re.match(r"\{ ?(?:d|\\partial) ?(?:\^ ?\{?\d\}? ?)?[a-zA-Z]? ?\} ?\{ ?(?:d|\\partial) ?[a-zA-Z]", written):
            raise Unreadable("a derivative")
        return ("div", above, below)

    def root(self) -> Tree:
        degree: Tree = ("number", Fraction(2))
        if self.skip("["):
            degree = self.expression()
            self.take("]")
        token = self.here
        is_number = token is not None and token.kind == "number"
        return ("root", self.number(self.take()) if is_number else self.group(), degree)

    def name(self, name: str) -> Tree:
        """A variable with its index and primes, the value of a function, or a constant."""
        if self.skip("_"):
            name += "_" + self.spelled()
        while self.skip("'"):
            name += "'"
        if name[0] in _FUNCTION_LETTERS and self.sees("(") and (name[0] in "fg" or not self.sums_up()):
            self.take("(")
            arguments = [self.expression()]
            while self.skip(","):
                arguments.append(self.expression())
            self.take(")")
            return ("value", name, *arguments)
        return ("name", name)

    def sums_up(self) -> bool:
        """Whether there is a sum in the brackets that open here."""
        end = closing_of(self.tokens, self.position)
        return any(token.text in "+-" for token in self.tokens[self.position + 2 : end])

    def spelled(self) -> str:
        """The next group or token as text: an index, or what stands under an accent."""
        if not self.skip("{"):
            return self.take().text
        parts: list[str] = []
        depth = 1
        while True:
            token = self.take()
            depth += {"{": 1, "}": -1}.get(token.text, 0)
            if depth == 0:
                return "".join(parts)
            parts.append(token.text)

    def function(self, name: str) -> Tree:
        base: Tree | None = None
        exponent: Tree | None = None
        if name == "log" and self.skip("_"):
            base = self.argument()
        if self.skip("^"):
            exponent = self.exponent()
            if name in _INVERSE and exponent == ("neg", ("number", Fraction(1))):
                name, exponent = _INVERSE[name], None
        was_in_angle, self.in_angle = self.in_angle, name in _TRIGONOMETRIC or self.in_angle
        argument = self.function_argument()
        self.in_angle = was_in_angle
        name = {"asin": "arcsin", "acos": "arccos", "atan": "arctan"}.get(name, name)
        tree: Tree = (name, argument) if base is None else ("div", ("ln", argument), ("ln", base))
        return tree if exponent is None else ("pow", tree, exponent)

    def function_argument(self) -> Tree:
        """`(…)`, or everything up to the next sum or function: `\\sin 2x \\cos x` is a product of two."""
        if self.sees("(", "{"):
            return self.group()
        tree = self.signed()
        while True:
            if self.here is not None and self.here.text[1:] in _FUNCTIONS:
                return tree
            if self.skip("/"):
                tree = ("div", tree, self.signed())
            elif self.skip("*"):
                if self.here is not None and self.here.text[1:] in _FUNCTIONS:
                    self.position -= 1
                    return tree
                tree = ("mul", tree, self.signed())
            elif self.starts_factor() and not self.sees("("):
                tree = ("mul", tree, self.power())
            else:
                return tree

    def list_function(self, name: str) -> Tree:
        opening = self.take("(", r"\{", "{").text
        arguments = [self.expression()]
        while self.skip(","):
            arguments.append(self.expression())
        self.take(MATCHING[opening])
        return (name, *arguments)

    def big(self, kind: str) -> Tree:
        r"""`\sum`, `\prod`, `\int` and `\lim` with what stands below, above and behind: ("big", kind, variable, …)."""
        below: list[Token] = []
        above: Tree | None = None
        for _ in range(2):
            if self.skip("_"):
                below = self.slice()
            elif self.skip("^"):
                above = self.argument()
        if kind == "int":
            end = self.differential()
            body = _Parser(self.tokens[self.position : end], self.text).whole(("number", Fraction(1)))
            variable = self.tokens[end + 1].text
            self.position = end + 2
            low = _Parser(below, self.text).whole() if below else None
            return ("big", kind, variable, low, above, body)
        arrow = r"\to" if kind == "lim" else "="
        if len(below) < 3 or below[1].text != arrow:
            raise Unreadable("bounds that are no range")
        low = _Parser(below[2:], self.text).whole()
        return ("big", kind, below[0].text, low, above, self.term())

    def whole(self, nothing: Tree | None = None) -> Tree:
        if not self.tokens and nothing is not None:
            return nothing
        tree = self.expression()
        if self.here is not None:
            raise Unreadable(self.here.text)
        return tree

    def slice(self) -> list[Token]:
        """The tokens of the next group, or the next token."""
        if not self.skip("{"):
            return [self.take()]
        start, depth = self.position, 1
        while depth:
            depth += {"{": 1, "}": -1}.get(self.take().text, 0)
        return self.tokens[start : self.position - 1]

    def differential(self) -> int:
        """Where the `d` of the `dx` that ends an integral stands."""
        depth = 0
        for index in range(self.position, len(self.tokens) - 1):
            token, following = self.tokens[index], self.tokens[index + 1]
            depth += (token.text in OPENING) - (token.text in CLOSING)
            if depth < 0:
                break
            if depth == 0 and token.text == "d" and (following.kind == "letter" or following.text in _NAMES):
                return index
        raise Unreadable("an integral without dx")
