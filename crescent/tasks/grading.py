"""Decide whether two final answers are the same, with algebra where sight is not enough.

Formulas, sets and intervals are compared by math-verify in a process that may be killed: a response is hostile text,
and one endless simplification must not stall a round.
"""

import importlib.util
import logging
import multiprocessing
import os
import re
import resource
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import lru_cache
from typing import Any
from weakref import WeakSet

from pebble import ProcessExpired, ProcessPool

from crescent.errors import Missing, TryAgain
from crescent.machine.processes import die_with_parent
from crescent.tasks.equivalence import as_number, normal, same_at_sight

_MEMORY_BYTES = 2 * 2**30
_START_S = 120.0
# Refused before sympy computes them: powers of powers, huge exponents, factorials and numbers; and "1 2", which
# math-verify takes for 1 + 2.
_TOO_MUCH = re.compile(r".{301}|\d{31}|\d \d|\^[\s{(]*-?\d{5}|\^[\s{(]*[\d.]+[\s})]*\^|\d{4}\s*!|__", re.DOTALL)

Compare = Callable[[str, str], bool]


def same_formula(a: str, b: str) -> bool:
    """Whether math-verify finds two formulas equal. Only ever called in a process that may be killed."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse, verify
    from sympy import Rational

    # Not `units`: it takes 5m for 5.
    plain = NormalizationConfig(basic_latex=True, malformed_operators=True, nits=True, boxed="all", units=False)
    latex = [LatexExtractionConfig(normalization_config=plain)]

    def read(text: str) -> list[Any]:
        # A number goes in exactly; as a decimal it would be rounded to six places, and pi equal 3.141593.
        if (number := as_number(text)) is not None:
            return [Rational(number.numerator, number.denominator)]
        # Without math-verify's timeouts: SIGALRM does not stop a long operation inside sympy, the kill does.
        return list(parse(f"${text}$", latex, parsing_timeout=None))

    left, right = read(a), read(b)
    # `verify` is not symmetric (see its docstring); two answers of a vote are on equal footing.
    return any(verify(*pair, timeout_seconds=None) for pair in ((left, right), (right, left)))


def _enter_worker(parent: int) -> None:
    """Bind the worker to its parent, limit its memory, and import what is slow before any timeout runs."""
    if sys.platform == "linux":
        die_with_parent()
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    if os.getppid() != parent:  # it died before the lines above
        os._exit(1)
    logging.disable(logging.CRITICAL)  # math-verify warns that its timeouts are off
    import math_verify  # noqa: F401


def _timed(compare: Compare, a: str, b: str) -> tuple[bool | None, float]:
    """The verdict, `None` when there is none, and the CPU seconds it took."""
    started = time.process_time()
    try:
        verdict = compare(a, b)
    except Exception:  # on hostile text sympy fails in every way there is: that is undecided, not an error of ours
        return None, time.process_time() - started
    return verdict, time.process_time() - started


class Grader:
    """Decides whether final answers are the same. A context manager, safe to call from several threads at once.

    What numbers and spelling decide costs nothing; for the rest worker processes with math-verify are started.
    """

    undecided: int
    """Comparisons that timed out, crashed, were refused as too large or out of budget: they count as different."""

    def __init__(self, timeout_s: float, compare: Compare = same_formula, workers: int = 2) -> None:
        """`timeout_s` is for one symbolic comparison; `compare` is a module-level function that does it."""
        self.timeout_s = timeout_s
        self.undecided = 0
        self._compare = compare
        self._workers = workers
        self._remembered = lru_cache(maxsize=50_000)(self._ask)
        self._lock = threading.Lock()
        # No more jobs than workers: a queue would let one question's hostile answers delay another's.
        self._slots = threading.BoundedSemaphore(workers)
        # A worker dies with the *thread* that started it (man 2 prctl), so the caller's thread must not be that one.
        self._starter = ThreadPoolExecutor(1, "grader")
        self._pool: Any = None
        self._jobs: WeakSet[Any] = WeakSet()
        self._closed = False

    def __enter__(self) -> "Grader":
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers. A comparison under way in another thread counts as undecided."""
        with self._lock:
            self._closed = True
            pool = self._pool
        for job in tuple(self._jobs):
            job.cancel()  # pebble would leave its waiters waiting
        if pool is not None:
            self._drop(pool)
        self._starter.shutdown()

    def same(self, a: str, b: str) -> bool:
        """Whether two final answers mean the same; undecided means no."""
        at_sight = same_at_sight(a, b)
        return self._same_by_algebra(a, b)[0] if at_sight is None else at_sight

    def classes(self, finals: Sequence[str | None]) -> tuple[int, ...]:
        """Equivalence class of each final answer, numbered by first appearance; -1 for `None`.

        Each is compared with the first of each class. The algebra of one call may take 4 x `timeout_s`, counted in CPU
        seconds of the workers because a busy machine must not change a vote; after that, it counts as undecided.
        """
        budget_s = 4 * self.timeout_s
        firsts: list[str] = []
        classes: list[int] = []
        for final in finals:
            if final is None:
                classes.append(-1)
                continue
            at_sight = [same_at_sight(first, final) for first in firsts]
            found = at_sight.index(True) if True in at_sight else len(firsts)
            for number in [number for number, same in enumerate(at_sight) if same is None and found == len(firsts)]:
                if budget_s <= 0:
                    self._count_undecided()
                    continue
                same, cost_s = self._same_by_algebra(firsts[number], final)
                budget_s -= cost_s
                if same:
                    found = number
                    break
            if found == len(firsts):
                firsts.append(final)
            classes.append(found)
        return tuple(classes)

    def _same_by_algebra(self, a: str, b: str) -> tuple[bool, float]:
        """The verdict and what it cost when it was found, in seconds: a remembered one is charged like a new one."""
        first, second = sorted((normal(a), normal(b)))
        verdict, cost_s = self._remembered(first, second)
        return verdict is True, cost_s

    def _count_undecided(self) -> None:
        with self._lock:
            self.undecided += 1

    def _ask(self, a: str, b: str) -> tuple[bool | None, float]:
        if any(_TOO_MUCH.search(text) or not text.isprintable() for text in (a, b)):
            self._count_undecided()
            return None, 0.0
        with self._slots:
            verdict, cost_s = self._ask_worker(a, b)
        if verdict is None:
            self._count_undecided()
        return verdict, cost_s

    def _ask_worker(self, a: str, b: str) -> tuple[bool | None, float]:
        for _ in range(2):
            pool = self._running_pool()
            try:
                job = self._starter.submit(
                    pool.schedule, _timed, (self._compare, a, b), timeout=self.timeout_s
                ).result()
                self._jobs.add(job)
                verdict: tuple[bool | None, float] = job.result(self.timeout_s + _START_S)
                return verdict
            except (TimeoutError, ProcessExpired, CancelledError):
                return None, self.timeout_s
            except RuntimeError:  # pebble gives a pool up when a worker dies between two tasks
                self._drop(pool)
        raise TryAgain("the processes that compare formulas die as they start; is there memory for them?")

    def _running_pool(self) -> Any:
        with self._lock:
            if self._closed:
                raise RuntimeError("this Grader is closed: compare inside its `with` block")
            if self._pool is None:
                if importlib.util.find_spec("math_verify") is None:
                    raise Missing("comparing formulas needs math-verify: pip install 'math-verify[antlr4_9_3]'")
                self._pool = ProcessPool(
                    max_workers=self._workers,
                    max_tasks=1000,  # sympy's caches grow towards the memory limit
                    initializer=_enter_worker,
                    initargs=(os.getpid(),),
                    context=multiprocessing.get_context("spawn"),
                )
            return self._pool

    def _drop(self, pool: Any) -> None:
        with self._lock:
            self._pool = None if self._pool is pool else self._pool
        pool.stop()
        pool.join()
