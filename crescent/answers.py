r"""Find the final answer of a response, and decide whether two final answers are the same.

Numbers are compared exactly and without sympy. The rest (formulas, sets, intervals) is compared by math-verify in a
process that may be killed: a response is hostile text, and one endless simplification must not stall a round.

Two rules to know. A percent sign is a unit like `km` and `$`: "25%" equals "25" and differs from "0.25". Letting it
equal both would make 25 equal 0.25, and a vote would depend on the order of its answers. And no number is rounded: 1/3
differs from 0.333.
"""

import ctypes
import importlib.util
import logging
import multiprocessing
import os
import re
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from fractions import Fraction
from typing import Any

from pebble import ProcessExpired, ProcessPool

from crescent.config import AnswerStyle
from crescent.errors import Missing, TryAgain

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
_REASON = re.compile(r"\W*(?:because|since|as)\s")
_SILENCE = re.compile(
    r"(?:\\text\{)?(?:no (?:final )?answer\b.*|none|n/a|nan|null|unknown|not (?:available|given|known)|\?+"
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
    # A lone surrogate could not be written to a file later.
    tail = text[-TAIL:].encode("utf-8", "replace").decode().translate(_SPELLING)
    if boxed := _last_boxed(tail):
        if _SILENCE.fullmatch(boxed):
            return None
        if style is AnswerStyle.math or as_number(boxed) is not None:
            return boxed
        if final := _leading_number(boxed) or _last_number(boxed):
            return final
    for after in _marked(tail):
        if _SILENCE.fullmatch(after.partition("\n")[0]):
            return None
        if final := _leading_number(after) if style is AnswerStyle.number else _leading_answer(after):
            return final
    if style is AnswerStyle.math:
        formulas = [next(filter(None, match.groups())).strip() for match in _FORMULA.finditer(tail)]
        if formulas := [formula for formula in formulas if formula and not _is_prose(formula)]:
            return formulas[-1]
    return _last_number(tail)


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
    opening = _OPENING.match(text)
    side = [_NUMBER.match(text, opening.end() if opening else 0)]
    while side[-1] and (operator := _OPERATOR.match(text, side[-1].end())):
        following = _NUMBER.match(text, operator.end())
        if following is None or (operator[1] == "=" and len(side) == 1):
            break
        side = [following] if operator[1] == "=" else [*side, following]
    return _amount(side[0]) if side[0] and len(side) == 1 else None


def _leading_answer(text: str) -> str | None:
    """The formula, number or few words `text` starts with."""
    formula = _FORMULA.match(text)
    if formula and (inner := next(filter(None, formula.groups())).strip()) and not _is_prose(inner):
        return inner
    end = _SENTENCE_END.search(text)
    sentence, rest = (text[: end.start()], text[end.start() :]) if end else (text, "")
    sentence = sentence.strip(" *_`$,(")
    if not sentence or len(sentence) > LONGEST:
        return None
    # Words are an answer ("Monday", "not prime") when nothing but a reason follows; else they introduce something.
    is_last = not rest.strip(" .*\n") or _REASON.match(rest)
    if as_number(sentence) is not None or not _is_prose(sentence) or (is_last and len(sentence.split()) <= 5):
        return sentence
    return _leading_number(text)


def _last_number(text: str) -> str | None:
    found = [match for match in _NUMBER.finditer(text) if len(match[0]) <= LONGEST]
    return _amount(found[-1]) if found else None


def _amount(number: re.Match[str]) -> str:
    return re.sub(_CURRENCY, "", number[0])


_LATEX = str.maketrans(
    {"π": r"\pi ", "√": r"\sqrt ", "∞": r"\infty ", "×": r"\times ", "·": r"\cdot ", "÷": r"\div ", "≤": r"\le "}
    | {"≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "²": "^2", "³": "^3", "\u2009": " "}
    | dict.fromkeys("$%°€£¥₹₩`")
)
_TEXT = r"\\(?:text|textbf|mathrm|mbox)\s?\{([^{}]*)\}"
_FUNCTION = (
    r"\\(?:begin|end)\{[a-z]*\}|\\[a-zA-Z]+|\b(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?\b|\b(?:log|ln|exp|sqrt|min|max)\b"
)
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
    written = re.sub(r" ?\\frac ?\{([^{}]*)\} ?\{([^{}]*)\}", r" \1/\2", _normal(text)).strip()
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


def _normal(text: str) -> str:
    r"""One spelling for answers that differ in markdown, spacing, units and LaTeX dressing only.

    After `strip_string` of the MATH benchmark (github.com/hendrycks/math, math_equivalence.py): `\left`, `\!`, degrees,
    percent and currency go, `\frac12` gets braces, trailing `\text{units}` and a leading `x =` are dropped.
    """
    text = text.strip(" \n*_`").translate(_SPELLING)
    text = re.sub(r"(?<!\\)\\[$%!()\[\]]|\\(?:left|right|displaystyle)(?![a-zA-Z])|\^ ?\{?\\circ\}?", "", text)
    text = re.sub(r"(?<!\\)\\[,;: ]|~|\s+", " ", text).translate(_LATEX).replace("**", "^").replace("{,}", ",")
    text = re.sub(r"\\frac ?(\d) ?(\d)", r"\\frac{\1}{\2}", re.sub(r"\\[dt]frac", r"\\frac", text))
    unit = re.search(rf"(?<=[^\s]) ?{_TEXT}(?:\^\{{?\d\}}?)?\W*$", text)
    if unit and not re.search(_NO_UNIT, unit[1]):
        text = text[: unit.start()]
    text = re.sub(_TEXT, r" \1 ", text).strip(" ").rstrip(".,;: ")
    sides = text.split("=")
    if len(sides) == 2 or (len(sides) > 2 and "," not in text):
        left, right = sides[0].strip(), sides[-1].strip()
        # 3*4 = 12 and x = 12 mean 12; x^2 + y^2 = 1, x >= 1 and x = 1, y = 2 mean themselves.
        text = right if right and left[-1:] not in tuple("<>!:") and _LEFT_SIDE.fullmatch(left) else text
    enumerated = re.sub(r" ?,? ?\b(?:and|or)\b ?", ", ", text)
    text = " ".join((text if _is_prose(enumerated) else enumerated).split())
    return text.casefold() if _is_prose(text) else re.sub(r"(?<!\\)\bpi\b", r"\\pi", text)


def _is_prose(text: str) -> bool:
    """Whether there are words in it. Sympy would read them as products, and "silent" equals "listen"."""
    return re.search(r"[^\W\d_]{3,}", re.sub(_FUNCTION, " ", text)) is not None


def _brackets(text: str) -> str | None:
    """The kind of bracket around a flat list, `None` for anything else. "1, 2" is a set like {1, 2}."""
    match = _LIST.fullmatch(text)
    return None if match is None else (match[1] + match[2]).replace("\\", "") or "{}"


# A list with at least one comma; braces inside it belong to commands such as \frac.
_LIST = re.compile(r"(\\\{|[(\[]?)(?=[^,]*,)(?:[^()\[\]{}\\]|\\[a-zA-Z]++|\{[^{}]*\})*+(\\\}|[)\]]?)")
_TOO_MUCH = re.compile(r"\d{31}|\^[\s{(]*-?\d{5}|\^[\s{(]*[\d.]+[\s})]*\^|\d{4}\s*!|__")
_SHOWN_TO_SYMPY = 300
_MEMORY_BYTES = 2 * 2**30
_START_S = 120.0
_REMEMBERED = 50_000
_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>

Compare = Callable[[str, str], bool]


def same_formula(a: str, b: str) -> bool:
    """Whether math-verify finds two formulas equal. Only ever called in a process that may be killed."""
    from math_verify import LatexExtractionConfig, parse, verify
    from sympy import Rational

    def read(text: str) -> list[Any]:
        # As an exact number: math-verify would round a decimal, and then pi equals 3.141593.
        if (number := as_number(text)) is not None:
            return [Rational(number.numerator, number.denominator)]
        # Plain expressions stay unread because math-verify takes any digits in a text for one. Its timeouts are off
        # (None): they work by SIGALRM, which does not stop a long operation inside sympy; a kill does.
        found: list[Any] = parse(f"${text}$", [LatexExtractionConfig()], parsing_timeout=None)
        return found

    left, right = read(a), read(b)
    # `verify` treats gold and prediction differently (see its docstring); two answers are on equal footing.
    return any(verify(*pair, timeout_seconds=None) for pair in ((left, right), (right, left)))


def _enter_worker(parent: int) -> None:
    """Bind the worker to its parent, limit its memory, and import what is slow outside of any timeout."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)
    logging.disable(logging.CRITICAL)  # math-verify warns about its disabled timeouts
    import math_verify  # noqa: F401


def _timed(compare: Compare, a: str, b: str) -> tuple[bool | None, float]:
    """The verdict, `None` when there is none, and the CPU seconds it took."""
    started = time.process_time()
    try:
        verdict: bool | None = compare(a, b)
    except Exception:  # sympy fails in every way on hostile text; reported as undecided, never taken for "equal"
        verdict = None
    return verdict, time.process_time() - started


class Grader:
    """Decides whether final answers are the same. A context manager; may be called from several threads at once.

    What numbers and spelling decide costs nothing. Only for the rest, worker processes and math-verify are started.
    """

    undecided: int
    """Pairs that count as different because comparing them timed out, crashed, or was refused as too large."""

    def __init__(self, timeout_s: float, compare: Compare = same_formula, workers: int = 2) -> None:
        """`timeout_s` is for one symbolic comparison. `compare` must be importable by a new process."""
        self.timeout_s = timeout_s
        self.undecided = 0
        self._compare = compare
        self._workers = workers
        self._lock = threading.Lock()
        # One task per worker: a queue in the pool would let one question's hostile answers time out another's.
        self._slots = threading.BoundedSemaphore(workers)
        self._jobs: set[Any] = set()
        self._closed = False
        self._pool: Any = None
        self._owner: ThreadPoolExecutor | None = None
        self._known: dict[tuple[str, str], tuple[bool, float]] = {}

    def __enter__(self) -> "Grader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers. A comparison under way in another thread is cancelled there."""
        with self._lock:
            self._closed = True
            pool, owner = self._pool, self._owner
        for job in tuple(self._jobs):
            job.cancel()
        if pool is not None:
            self._drop(pool)
        if owner is not None:
            owner.shutdown()

    def same(self, a: str, b: str) -> bool:
        """Whether two final answers mean the same. Undecidable means no."""
        return self._same(a, b, [float("inf")])

    def classes(self, finals: Sequence[str | None]) -> tuple[int, ...]:
        """Equivalence class of each final answer, numbered by first appearance; -1 for `None`.

        Each is compared with the first of each class. Symbolic comparison of one call may take 4 x `timeout_s` of the
        workers' CPU time in all; when that is spent, what is left to compare counts as different. Waiting for a worker
        is free: a busy machine must not change a vote.
        """
        budget = [4 * self.timeout_s]
        firsts: list[str] = []
        numbers: list[int] = []
        for final in finals:
            if final is None:
                numbers.append(-1)
                continue
            # A free comparison may find the class before a costly one has to.
            quick = (i for i, first in enumerate(firsts) if _same_at_sight(first, final))
            slow = (i for i, first in enumerate(firsts) if self._same(first, final, budget))
            number = next(quick, None)
            number = next(slow, len(firsts)) if number is None else number
            if number == len(firsts):
                firsts.append(final)
            numbers.append(number)
        return tuple(numbers)

    def _same(self, a: str, b: str, budget: list[float]) -> bool:
        at_sight = _same_at_sight(a, b)
        if at_sight is not None:
            return at_sight
        first, second = sorted((_normal(a), _normal(b)))
        known = self._known.get((first, second))
        if known is None and budget[0] > 0:
            verdict, cost = (None, 0.0) if _is_too_much(first) or _is_too_much(second) else self._ask(first, second)
            known = verdict is True, cost
            with self._lock:
                self.undecided += verdict is None
                if len(self._known) >= _REMEMBERED:
                    self._known.pop(next(iter(self._known)))
                self._known[first, second] = known
        elif known is None or budget[0] <= 0:
            with self._lock:
                self.undecided += 1
            return False
        # Charged for remembered pairs too: the outcome must not depend on what was asked before.
        budget[0] -= known[1]
        return known[0]

    def _ask(self, a: str, b: str) -> tuple[bool | None, float]:
        """The verdict of a worker, `None` when it had to be killed or crashed, and its cost in seconds."""
        if importlib.util.find_spec("math_verify") is None:
            raise Missing("math-verify compares formulas and is not installed: pip install 'math-verify[antlr4_9_3]'")
        with self._slots:
            for _ in range(2):
                pool, owner = self._running()
                try:
                    job = owner.submit(
                        pool.schedule, _timed, args=(self._compare, a, b), timeout=self.timeout_s
                    ).result()
                except RuntimeError:
                    self._drop(pool)
                    continue
                self._jobs.add(job)
                try:
                    verdict: tuple[bool | None, float] = job.result(timeout=self.timeout_s + _START_S)
                    return verdict
                except (TimeoutError, ProcessExpired):
                    job.cancel()
                    return None, self.timeout_s
                except BrokenProcessPool:
                    self._drop(pool)
                finally:
                    self._jobs.discard(job)
        raise TryAgain("the workers that compare formulas die as they start; is there memory for two more processes?")

    def _running(self) -> tuple[Any, ThreadPoolExecutor]:
        with self._lock:
            if self._closed:
                raise RuntimeError("this Grader is closed; compare inside its `with` block")
            if self._pool is None:
                # PR_SET_PDEATHSIG fires when the *thread* that made the process ends (man 2 prctl), so a thread that
                # lives as long as the pool makes the first workers. Pebble's own thread makes the later ones.
                self._owner = self._owner or ThreadPoolExecutor(1, "grader")
                self._pool = ProcessPool(
                    max_workers=self._workers,
                    max_tasks=1000,  # sympy's caches grow towards the memory limit
                    initializer=_enter_worker,
                    initargs=(os.getpid(),),
                    context=multiprocessing.get_context("spawn"),
                )
            assert self._owner is not None
            return self._pool, self._owner

    def _drop(self, pool: Any) -> None:
        """Forget a pool that broke: pebble gives it up for good when a worker dies between two tasks."""
        with self._lock:
            if self._pool is pool:
                self._pool = None
        pool.stop()
        pool.join()


def _same_at_sight(a: str, b: str) -> bool | None:
    """What spelling and exact numbers decide; `None` when it takes algebra."""
    if a == b:
        return True
    if max(len(a), len(b)) > LONGEST:
        return False
    number_a, number_b, a, b = as_number(a), as_number(b), _normal(a), _normal(b)
    if number_a is not None and number_b is not None:
        return number_a == number_b
    if a.replace(" ", "") == b.replace(" ", "") and number_a is number_b:
        return True
    list_a, list_b = _brackets(a), _brackets(b)
    if not a or not b or _is_prose(a) or _is_prose(b):
        return False
    # Math-verify takes (0,1) for {0,1}, and as {0,1} = {1,0}, three answers would be equal in two ways and not a third.
    if (
        (list_a and list_b and list_a != list_b)
        or (number_a is not None and list_b)
        or (number_b is not None and list_a)
    ):
        return False
    return None


def _is_too_much(text: str) -> bool:
    return len(text) > _SHOWN_TO_SYMPY or not text.isprintable() or _TOO_MUCH.search(text) is not None
