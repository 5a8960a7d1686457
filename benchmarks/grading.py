"""Comparing final answers, beside math-verify on the same pairs: `python -m benchmarks grading`. A minute."""

import argparse
import importlib.metadata
import logging
import time
from collections.abc import Callable, Sequence
from itertools import combinations
from random import Random

import psutil

from benchmarks import save
from benchmarks.tables import Row, show
from crescent.tasks.grading import Grader

TURN = 10
"""Pairs that one side compares before the other does: load falls on both alike."""

Same = Callable[[str, str], bool]
Pair = tuple[str, str]


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks grading", description=__doc__)
    parser.add_argument("--pairs", type=int, default=300, help="pairs of formulas of each kind")
    options = parser.parse_args(arguments)
    rows = [
        compared("pairs that share no answer", independent_pairs(options.pairs)),
        compared("all pairs of votes on 8 answers", vote_pairs(options.pairs)),
        numbers(20_000),
    ]
    show("Comparisons per CPU second; the CPU time of worker processes counts", rows)
    print(f"saved: {save('grading', {'math_verify': importlib.metadata.version('math-verify'), 'rows': rows})}")


def compared(name: str, pairs: Sequence[Pair]) -> Row:
    """Both sides on the same pairs, taking turns."""
    ours_s = theirs_s = 0.0
    verdicts: list[tuple[bool, bool]] = []
    math_verify = _math_verify()
    with Grader(timeout_s=5.0) as grader:
        assert grader.same("x + 1", "1 + x"), "starts the workers"
        for start in range(0, len(pairs), TURN):
            turn = pairs[start : start + TURN]
            before = _cpu_s()
            ours = [grader.same(a, b) for a, b in turn]
            between = _cpu_s()
            theirs = [math_verify(a, b) for a, b in turn]
            ours_s, theirs_s = ours_s + between - before, theirs_s + _cpu_s() - between
            verdicts += zip(ours, theirs, strict=True)
    return {
        "what": name,
        "pairs": len(pairs),
        "ours": round(len(pairs) / ours_s),
        "math-verify": round(len(pairs) / theirs_s),
        "ratio": round(theirs_s / ours_s, 1),
        "same, ours": sum(ours for ours, _ in verdicts),
        "same, math-verify": sum(theirs for _, theirs in verdicts),
        "undecided": grader.undecided,
    }


def numbers(many: int) -> Row:
    """Numbers in mixed spellings, all of them new; math-verify on the first hundred pairs."""
    random = Random(0)
    pairs = [
        (spelled(random, value), spelled(random, value + random.randint(0, 1))) for value in range(1000, 1000 + many)
    ]
    with Grader(timeout_s=5.0) as grader:
        before = _cpu_s()
        same = sum(grader.same(a, b) for a, b in pairs)
        ours_s = _cpu_s() - before
    few, math_verify = pairs[:100], _math_verify()
    before = _cpu_s()
    theirs = sum(math_verify(a, b) for a, b in few)
    theirs_s = _cpu_s() - before
    return {
        "what": "numbers",
        "pairs": many,
        "ours": round(many / ours_s),
        "math-verify": round(len(few) / theirs_s),
        "ratio": round(theirs_s / len(few) / (ours_s / many), 1),
        "same, ours": same,
        "same, math-verify": f"{theirs} of {len(few)}",
        "undecided": 0,
    }


def spelled(random: Random, value: int) -> str:
    return random.choice(
        [
            f"{value}",
            f"{value:,}",
            f"${value}",
            f"{value}.0",
            f"{value} apples",
            f"x = {value}",
            rf"\frac{{{2 * value}}}{{2}}",
        ]
    )


def independent_pairs(many: int) -> list[Pair]:
    """Half of them equal."""
    random = Random(0)
    pairs: list[Pair] = []
    for index in range(many):
        spellings = formula(random, index)
        others = spellings if index % 2 else formula(random, index)
        pairs.append((spellings[0], others[1]))
    return pairs


def vote_pairs(many: int) -> list[Pair]:
    """Of eight answers in a vote: five spellings of one formula, three others."""
    random = Random(1)
    pairs: list[Pair] = []
    while len(pairs) < many:
        common = formula(random, len(pairs))
        answers = [*common, *common, *common][:5] + [formula(random, len(pairs) + other)[0] for other in range(3)]
        pairs += combinations(dict.fromkeys(answers), 2)
    return pairs[:many]


def formula(random: Random, kind: int) -> tuple[str, ...]:
    """Spellings of one answer of a kind, with drawn numbers."""
    a, b, c = (random.randint(2, 60) for _ in range(3))
    kinds = (
        (rf"\frac{{{a}\sqrt{{{b}}}}}{{{c}}}", rf"{a}\sqrt{{{b}}}/{c}", rf"\frac{{{a}}}{{{c}}}\sqrt{{{b}}}"),
        (f"(x+{a})(x+{b})", f"x^2+{a + b}x+{a * b}", f"x^2 + {b}x + {a}x + {a * b}"),
        (f"({a}, {b}.5)", rf"\left({a}, \frac{{{2 * b + 1}}}{{2}}\right)", rf"({a},{b}\frac12)"),
        (rf"\{{{a}, {a + b}\}}", f"{a + b}, {a}", f"x = {a} or x = {a + b}"),
        (f"y = {a}x + {b}", f"{a}x - y + {b} = 0", f"y={b}+{a}x"),
        (rf"\left[-{a}, {b}\right)", rf"-{a} \le x < {b}", f"[-{a},{b})"),
        (rf"{a}\pi + {b}", rf"{b} + {a}\pi", rf"{a}(\pi + \frac{{{b}}}{{{a}}})"),
        (rf"\begin{{pmatrix}} {a} \\ {b} \end{{pmatrix}}", rf"\begin{{bmatrix}}{a}\\{b}\end{{bmatrix}}"),
        (f"{a} + {b}i", f"{b}i+{a}", rf"{a} + {b}\cdot i"),
        (rf"{a}\sin^2 x + {a}\cos^2 x + {b}x", f"{a} + {b}x", f"{b}x+{a}"),
    )
    return kinds[kind % len(kinds)]


def _math_verify() -> Same:
    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)  # it warns that its timeouts are off

    def same(a: str, b: str) -> bool:
        return bool(
            verify(parse(f"${a}$", parsing_timeout=None), parse(f"${b}$", parsing_timeout=None), timeout_seconds=None)
        )

    same("x + 1", "1 + x")  # imports
    return same


def _cpu_s() -> float:
    """CPU seconds of this process and the ones it started."""
    times = [child.cpu_times() for child in psutil.Process().children()]
    return time.process_time() + float(sum(found.user + found.system for found in times))
