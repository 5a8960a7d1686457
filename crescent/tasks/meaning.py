r"""What a final answer that is a formula means: a key that is equal for equal answers.

A list is a set (`1, 2` and `\{2, 1\}`), what stands in other brackets is ordered. Conditions on one variable are sets
of real numbers, so that `x > 3`, `3 < x` and `(3, \infty)` are one answer. `x = 5` is 5. Clock times and ratios are
kept apart from fractions, numbers of another base from decimal ones. Comparing keys is an equivalence; answers with an
integral, a limit or the like may be equal beyond it, which `crescent.tasks.algebra` decides.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from crescent.tasks.equivalence import as_number, compact
from crescent.tasks.evaluation import names_in
from crescent.tasks.formulas import Tree, parse
from crescent.tasks.probing import Probe
from crescent.tasks.realsets import End, Key, Pieces, complement, intersection, interval, point, union
from crescent.tasks.relations import LINE, end, equation, inequality, infinity, unequal, value_key
from crescent.tasks.tokens import Token, TooLarge, Unreadable, closing_of, outside, spell, split, tokens_of
from crescent.tasks.values import Number, constant


@dataclass(frozen=True)
class Meaning:
    """An answer or a part of one."""

    key: Key
    shape: str = "value"
    value: Number | None = None
    """The number, if it is a constant."""
    pieces: Pieces | None = None
    """The set of real numbers it is, or that satisfy it."""
    variable: str | None = None
    """Of a condition: what it is about; of an equation: what it was solved for."""
    is_equation: bool = False
    assigned: tuple[str, Key] | None = None
    """A name that stands alone on one side, and the key of what it is said to be."""
    several: tuple["Meaning", ...] = ()
    """Alternatives: 1 \\pm 2 is a list of two."""


_ALGEBRAIC = re.compile(r"\\(?:(?:int|sum|prod|lim|det|begin\{[pbvB]?matrix\})|frac ?\{? ?(?:d|\\partial))(?![a-zA-Z])")
_BASED = re.compile(r"\s*([0-9][0-9A-Fa-f]*) ?_ ?(?:\{ ?(\d{1,2}) ?\}|(\d{1,2}))\s*", re.ASCII)
_TIME = re.compile(r"\s*\d{1,2} ?: ?\d\d(?: ?: ?\d\d)?\s*", re.ASCII)
_MODULO = re.compile(r"(?:[a-z] ?\\equiv ?)?(-?\d+) ?\\pmod\{(\d+)\}", re.ASCII)
_RELATIONS = ("=", "<", ">", r"\le", r"\ge", r"\ne", r"\in")
_UNKNOWN_RELATIONS = (r"\equiv", r"\to", r"\notin", r"\subset", r"\subseteq", r"\sim", r"\cong", r"\parallel", r"\perp")
_MATRICES = ("matrix", "pmatrix", "bmatrix", "Bmatrix", "smallmatrix", "array")
_BRACKETS = {"(": ")", "[": "]", r"\{": r"\}", r"\langle": r"\rangle"}


def is_algebraic(text: str) -> bool:
    """Whether there is something in it that sympy computes and we do not."""
    return _ALGEBRAIC.search(text) is not None


def spelled(text: str) -> Meaning:
    return Meaning(("spelled", compact(text)), "spelled")


def _grouped(key: Key, parts: Sequence[Meaning]) -> Meaning:
    return Meaning(key, f"{key[0]} {len(parts)}")


class Reader:
    """Reads one answer, from the outside in: alternatives, lists, relations, brackets, formulas."""

    def __init__(self, text: str, probe: Probe) -> None:
        self.text = text
        self.probe = probe

    def answer(self) -> Meaning:
        if (congruent := _MODULO.fullmatch(self.text)) and int(congruent[2]):
            return Meaning(("modulo", int(congruent[1]) % int(congruent[2]), int(congruent[2])), "modulo")
        tokens = tokens_of(self.text)
        if not tokens:
            raise Unreadable("nothing")
        return self.alternatives(tokens)

    def alternatives(self, tokens: list[Token]) -> Meaning:
        parts = [self.enumeration(part) for part in split(tokens, ("or",))]
        return parts[0] if len(parts) == 1 else self.listed(parts, is_or=True)

    def enumeration(self, tokens: list[Token]) -> Meaning:
        parts = [part for part in split(tokens, (",", ";", "and")) if part]
        if not parts:
            raise Unreadable("nothing")
        if len(parts) == 1:
            return self.element(parts[0])
        return self.listed([self.element(part) for part in parts], is_or=False)

    def listed(self, parts: list[Meaning], is_or: bool) -> Meaning:
        """Of several conditions what they say together, of several values their set."""
        names = {part.variable for part in parts if part.variable is not None}
        conditions = all(part.variable is not None for part in parts)
        if conditions and len(names) == 1 and all(part.pieces is not None for part in parts):
            sets = [part.pieces or () for part in parts]
            both = sets[0]
            for pieces in sets[1:]:
                both = intersection(both, pieces)
            # "x < 0, x > 1" can only mean "or"; so do several equations.
            if is_or or not both or all(part.is_equation for part in parts):
                both = union(piece for pieces in sets for piece in pieces)
            return replace(self.real_set(both), variable=names.pop())
        assigned = dict(part.assigned for part in parts if part.assigned is not None)
        if not is_or and len(assigned) == len(parts):
            return self.assignments(assigned, parts)
        flat = [inner for part in parts for inner in (part.several or (part,))]
        if len(names) == 1 and all(part.shape == "value" for part in flat):
            return self.set_of(flat, repeats=True)  # x = 1, 2
        if any(part.is_equation or part.shape == "condition" for part in flat) and not is_or:
            return _grouped(("all", *sorted({_named(part) for part in flat}, key=repr)), flat)
        return self.set_of(flat, repeats=True)

    def assignments(self, assigned: dict[str, Key], parts: Sequence[Meaning]) -> Meaning:
        """`x = 1, y = 2` is the point (1, 2) where the alphabet says which comes first."""
        names = sorted(assigned)
        if "".join(names) in "abcdefghijklmnopqrstuvwxyz":
            return _grouped(("group", "(", ")", *(assigned[name] for name in names)), parts)
        return _grouped(("assigned", *((name, assigned[name]) for name in names)), parts)

    def set_of(self, parts: Sequence[Meaning], repeats: bool) -> Meaning:
        """A set of values. A list without braces keeps what it repeats."""
        keys = sorted((part.key for part in parts), key=repr)
        if not repeats:
            keys = [key for index, key in enumerate(keys) if index == 0 or key != keys[index - 1]]
        ends = [None if part.value is None else end(part.value) for part in parts]
        pieces = None if None in ends else union(point(found) for found in ends if found is not None)
        if len(keys) == 1:
            return replace(parts[0], pieces=pieces)
        return Meaning(("set", *keys), f"set {len(keys)}", pieces=pieces)

    def real_set(self, pieces: Pieces) -> Meaning:
        """A set of reals; a single interval has the key of a pair in brackets, and points have that of a list."""
        if len(pieces) == 1 and not pieces[0].is_point:
            low, high, opens, closes = pieces[0]
            key: Key = ("group", "(" if opens else "[", ")" if closes else "]", low.key, high.key)
            return Meaning(key, "group 2", pieces=pieces)
        if all(piece.is_point for piece in pieces):
            keys = sorted((piece.low.key for piece in pieces), key=repr)
            return Meaning(keys[0] if len(keys) == 1 else ("set", *keys), f"set {len(keys)}", pieces=pieces)
        return Meaning(
            ("pieces", *((p.low.key, p.high.key, p.opens, p.closes) for p in pieces)), "pieces", pieces=pieces
        )

    def element(self, tokens: list[Token]) -> Meaning:
        """One answer, without commas outside of brackets."""
        while tokens and tokens[0].text == "{" and closing_of(tokens, 0) == len(tokens) - 1:
            inner = tokens[1:-1]
            if len(split(inner, (",",))) > 1 or len(split(inner, ("|", ":"))) == 2:  # {1, 2} for \{1, 2\}
                return self.braces(inner)
            tokens = inner
        if not tokens:
            raise Unreadable("nothing")
        is_set = tokens[0].text == r"\{" and closing_of(tokens, 0) == len(tokens) - 1
        if not is_set and any(token.text in (r"\pm", r"\mp") for token in tokens):
            signs = ({r"\pm": "+", r"\mp": "-"}, {r"\pm": "-", r"\mp": "+"})
            swapped = ([t._replace(text=sign.get(t.text, t.text)) for t in tokens] for sign in signs)
            parts = [self.element(part) for part in swapped]
            names = {part.variable for part in parts}
            together = self.set_of(parts, repeats=False)
            variable = names.pop() if len(names) == 1 else None
            is_equation = parts[0].is_equation
            return replace(together, variable=variable, is_equation=is_equation, assigned=None, several=tuple(parts))
        try:
            return self.relation(tokens) or self.without_relation(tokens)
        except TooLarge:
            raise
        except Unreadable:
            written = self.text[tokens[0].start : tokens[-1].end]
            self.probe.work.is_settled = self.probe.work.is_settled and not is_algebraic(written)
            return spelled(written)

    # --- relations

    def relation(self, tokens: list[Token]) -> Meaning | None:
        signs = [token.text for token in outside(tokens) if token.text in _RELATIONS + _UNKNOWN_RELATIONS]
        if not signs:
            return None
        sides = split(tokens, _RELATIONS + _UNKNOWN_RELATIONS)
        if not all(sides) or any(sign in _UNKNOWN_RELATIONS for sign in signs):
            raise Unreadable("a relation that we do not know")
        if signs == [r"\in"]:
            return replace(self.alternatives(sides[1]), variable=spell(sides[0]))
        if all(sign == "=" for sign in signs):
            return self.equal(sides)
        if signs == [r"\ne"]:
            found = unequal(self.tree(sides[0]), self.tree(sides[1]), self.probe)
            if found is None:
                raise Unreadable("not a single number")
            return replace(self.real_set(found[0]), variable=found[1], shape="condition")
        if "=" in signs or r"\ne" in signs or r"\in" in signs:
            raise Unreadable("a chain of different relations")
        return self.ordered(sides, signs)

    def equal(self, sides: list[list[Token]]) -> Meaning:
        if len(sides) > 2:
            return self.chain(sides)
        left, right = sides
        if not _letters(left) and not _letters(right):
            return self.element(right)  # 3*4 = 12 means 12
        if _is_call(right) and not _is_name(left):
            left, right = right, left
        if _is_call(left):  # f(x) = 2x + 1 defines what y = 2x + 1 does
            value = self.element(right)
            return replace(value, variable=spell(left), assigned=(spell(left), value.key), is_equation=True)
        try:
            trees = self.tree(left), self.tree(right)
        except Unreadable:
            return self.said_of(left, right)
        key, number, name = equation(*trees, self.probe)
        alone = next((index for index in (0, 1) if trees[index][0] == "name"), None)
        assigned = None if alone is None else (trees[alone][1], value_key(trees[1 - alone], self.probe)[0])
        found = None if number is None else end(number)
        pieces = None if found is None else (point(found),)
        shape = "value" if name else "equation"
        return Meaning(key, shape, number, pieces, name, is_equation=True, assigned=assigned)

    def chain(self, sides: list[list[Token]]) -> Meaning:
        """`x = 2 + 3 = 5` means 5; `a = b = c` says that all are equal, in any order."""
        if not _letters(sides[-1]):
            return self.equal([sides[0], sides[-1]]) if len(sides[0]) == 1 else self.element(sides[-1])
        keys = sorted((self.element(side).key for side in sides), key=repr)
        return Meaning(("all equal", *keys), "equation", is_equation=True)

    def said_of(self, left: list[Token], right: list[Token]) -> Meaning:
        """`S = \\{1, 2\\}` and `(x, y) = (1, 2)`: the right side, if the left is a name or names."""
        if _is_name(right) and not _is_name(left):
            left, right = right, left
        names = _tuple_of_names(left)
        if not _is_name(left) and not names:
            raise Unreadable("an equation between what is no formula")
        value = self.element(right)
        parts = value.key[3:] if value.key[:3] == ("group", "(", ")") else ()
        if names and len(names) == len(parts) and "".join(sorted(names)) in "abcdefghijklmnopqrstuvwxyz":
            ordered = [part for _, part in sorted(zip(names, parts, strict=True))]
            value = replace(value, key=("group", "(", ")", *ordered))
        return replace(value, variable=spell(left), assigned=(spell(left), value.key), is_equation=True)

    def ordered(self, sides: list[list[Token]], signs: Sequence[str]) -> Meaning:
        trees = [self.tree(side) for side in sides]
        found = []
        for left, sign, right in zip(trees, signs, trees[1:], strict=False):
            small, large = (right, left) if sign in (">", r"\ge") else (left, right)
            if names_in(small) or names_in(large):
                found.append(inequality(small, large, sign in "<>", self.probe))
        if not found:
            raise Unreadable("an inequality between numbers")
        names = {name for _, _, name in found}
        if None not in names and len(names) == 1:
            pieces: Pieces = (LINE,)
            for _, ray, _ in found:
                pieces = intersection(pieces, ray or ())
            return replace(self.real_set(pieces), variable=names.pop(), shape="condition")
        keys = [key if ray is None else ("ray", name, _pieces_key(ray)) for key, ray, name in found]
        return Meaning(keys[0] if len(keys) == 1 else ("all", *sorted(set(keys), key=repr)), "condition")

    # --- everything else

    def without_relation(self, tokens: list[Token]) -> Meaning:
        for signs, combine in _SET_SIGNS:
            parts = split(tokens, signs)
            if len(parts) > 1:
                return self.combined([self.element(part) for part in parts], combine)
        opening = tokens[0].text
        if opening in _BRACKETS and closing_of(tokens, 0) == len(tokens) - 1:
            found = self.bracketed(tokens)
            if found is not None:
                return found
        written = self.text[tokens[0].start : tokens[-1].end]
        if based := _BASED.fullmatch(written):
            return self.based(based)
        if len(parts := split(tokens, (":",))) > 1:
            return self.ratio(parts, written)
        if tokens[0].kind == "environment":
            return self.matrix(tokens)
        if (infinite := _end_of(tokens)) is not None:
            return Meaning(infinite.key)
        if (number := as_number(written)) is not None:  # 1 1/2, or 5 cm in a list
            return Meaning(("value", constant(number)), value=number)
        if written.replace(" ", "") in (r"\emptyset", r"\{\}"):
            return self.real_set(())
        if written.replace(" ", "") == r"\mathbb{R}":
            return self.real_set((LINE,))
        key, value = value_key(parse(tokens, self.text), self.probe)
        return Meaning(key, value=value)

    def tree(self, tokens: list[Token]) -> Tree:
        if not tokens or any(token.text in (r"\cup", r"\cap", r"\setminus", ":") for token in outside(tokens)):
            raise Unreadable("no number")
        number = as_number(self.text[tokens[0].start : tokens[-1].end])
        return parse(tokens, self.text) if number is None else ("number", number)

    def combined(self, parts: Sequence[Meaning], combine: Callable[[Pieces, Pieces], Pieces]) -> Meaning:
        if any(part.pieces is None for part in parts):
            raise Unreadable("sets that are no sets of numbers")
        pieces = parts[0].pieces or ()
        for part in parts[1:]:
            pieces = combine(pieces, part.pieces or ())
        return self.real_set(pieces)

    def bracketed(self, tokens: list[Token]) -> Meaning | None:
        """A set, a point, an interval or a vector; `None` for brackets around one formula."""
        opening, closing, inner = tokens[0].text, tokens[-1].text, tokens[1:-1]
        if not inner and opening != r"\{":
            raise Unreadable("empty brackets")
        if opening == r"\{":
            return self.braces(inner)
        parts = split(inner, (",", ";"))
        if len(parts) == 1:
            has_relation = any(token.text in _RELATIONS or token.kind == "word" for token in inner)
            is_matrix = inner[0].kind == "environment" and closing_of(inner, 0) == len(inner) - 1
            return self.alternatives(inner) if has_relation or is_matrix else None
        ends = [_end_of(part) for part in parts]
        meanings = [
            self.element(part) if found is None else Meaning(found.key) for part, found in zip(parts, ends, strict=True)
        ]
        brackets = {r"\langle": "<", r"\rangle": ">"}
        keys = tuple(meaning.key for meaning in meanings)
        if (
            opening == "["
            and all(key[:3] == ("group", "[", "]") for key in keys)
            and len({len(key) for key in keys}) == 1
        ):
            return Meaning(("matrix", len(keys), *(cell for key in keys for cell in key[3:])), f"matrix {len(keys)}")
        pieces: Pieces | None = None
        if len(parts) == 2 and opening in "([":
            ends = [
                found or (None if m.value is None else end(m.value)) for found, m in zip(ends, meanings, strict=True)
            ]
            pieces = _interval(ends[0], ends[1], opening == "(", closing == ")")
            if pieces:
                return self.real_set(pieces)
        return Meaning(
            ("group", brackets.get(opening, opening), brackets.get(closing, closing), *keys), f"group {len(keys)}"
        )

    def braces(self, inner: list[Token]) -> Meaning:
        if not inner:
            return self.real_set(())
        if len(described := split(inner, ("|", ":"))) == 2 and any(t.text in _RELATIONS for t in described[1]):
            condition = self.alternatives(described[1])
            name = spell(split(described[0], (r"\in",))[0])
            return condition if condition.variable == name else Meaning(("where", name, condition.key), "set")
        parts = [self.element(part) for part in split(inner, (",", ";")) if part]
        return self.set_of([inner for part in parts for inner in (part.several or (part,))], repeats=False)

    def based(self, based: re.Match[str]) -> Meaning:
        digits, base = based[1].lower().lstrip("0") or "0", int(based[2] or based[3])
        if not 2 <= base <= 36 or any(int(digit, 36) >= base for digit in digits):
            raise Unreadable("digits that the base does not have")
        if base == 10:
            return Meaning(("value", ("exact", int(digits), 1)), value=Fraction(int(digits)))
        return Meaning(("based", digits, base))

    def ratio(self, parts: list[list[Token]], written: str) -> Meaning:
        """`2:4` is `1:2`; a time of day is not reduced."""
        if _TIME.fullmatch(written):
            return Meaning(("time", *(int(part) for part in written.split(":"))), "time")
        trees = [self.tree(part) for part in parts]
        if trees[0] != ("number", Fraction(0)):
            trees = [("div", tree, trees[0]) for tree in trees]
        keys = [value_key(tree, self.probe)[0] for tree in trees]
        return Meaning(("ratio", *keys), f"ratio {len(keys)}")

    def matrix(self, tokens: list[Token]) -> Meaning:
        name = tokens[0].text[7:-1]
        if name not in _MATRICES or closing_of(tokens, 0) != len(tokens) - 1:
            raise Unreadable("no matrix")
        rows = [row for row in split(tokens[1:-1], (r"\\",)) if row]
        cells = [[self.element(cell) for cell in split(row, ("&",))] for row in rows]
        if len({len(row) for row in cells}) != 1:
            raise Unreadable("a matrix with rows of different lengths")
        return Meaning(("matrix", len(rows), *(cell.key for row in cells for cell in row)), f"matrix {len(rows)}")


_SET_SIGNS: tuple[tuple[tuple[str, ...], Callable[[Pieces, Pieces], Pieces]], ...] = (
    ((r"\cup",), lambda left, right: union((*left, *right))),
    ((r"\setminus", r"\backslash"), lambda left, right: intersection(left, complement(right, LINE))),
    ((r"\cap",), intersection),
)


def _letters(tokens: Sequence[Token]) -> bool:
    return any(token.kind == "letter" and token.text not in "ei" for token in tokens)


def _is_name(tokens: Sequence[Token]) -> bool:
    return re.fullmatch(r"(?:[a-zA-Z]|\\[a-zA-Z]+(?:\{[a-zA-Z]+\})?)(?:_(?:\w|\{\w+\}))?'*", spell(tokens)) is not None


def _is_call(tokens: Sequence[Token]) -> bool:
    return re.fullmatch(r"[fghFGHPQ](?:_\w|\^\{-1\})?'*\(\w+\)", spell(tokens)) is not None


def _tuple_of_names(tokens: Sequence[Token]) -> list[str]:
    written = re.fullmatch(r"\(([a-zA-Z](?:,[a-zA-Z])+)\)", spell(tokens))
    return written[1].split(",") if written else []


def _named(meaning: Meaning) -> Key:
    return ("of", meaning.variable or "", meaning.key)


def _pieces_key(pieces: Pieces) -> Key:
    return tuple((piece.low.key, piece.high.key, piece.opens, piece.closes) for piece in pieces)


def _end_of(tokens: Sequence[Token]) -> End | None:
    """Infinity, with its sign."""
    written = spell(tokens)
    if written in (r"\infty", r"+\infty", r"\infinity", r"+\infinity"):
        return infinity(1)
    return infinity(-1) if written in (r"-\infty", r"-\infinity") else None


def _interval(low: End | None, high: End | None, opens: bool, closes: bool) -> Pieces | None:
    if low is None or high is None or low.key == high.key:
        return None
    return interval(low, high, opens or low.key == infinity(-1).key, closes or high.key == infinity(1).key) or None
