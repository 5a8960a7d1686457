"""Decide which final answers are the same: sameness that is symmetric, transitive, and the same in any order.

Numbers, words and spelling are compared at sight. Formulas get a key that is equal for equal answers
(`crescent.tasks.meaning`); where keys leave it open, math-verify compares pairs (`crescent.tasks.algebra`). Both happen
in processes that may be killed: a response is hostile text, and one endless simplification must not stall a round.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

from crescent.tasks.equivalence import compact, same_at_sight, sight
from crescent.tasks.grading_workers import Outcome, Workers

_READ = "crescent.tasks.readings:read_formula"
_COMPARE = "crescent.tasks.algebra:same_formula"
_REMEMBERED = 50_000

Compare = Callable[[str, str], bool]


class _Answer(NamedTuple):
    """Answers that are one at sight."""

    kind: str
    text: str
    """What is sent to a process; one spelling of the answer."""

    @property
    def takes_algebra(self) -> bool:
        return self.kind in ("number", "formula")


Pair = tuple[_Answer, _Answer]


class Grader:
    """Decides whether final answers are the same. A context manager, safe to call from several threads at once.

    What numbers, words and spelling decide costs nothing; for the rest worker processes are started.
    """

    undecided: int
    """Pairs that ran out of time twice, crashed, were too large or out of budget: they count as different."""

    def __init__(self, timeout_s: float, compare: Compare | None = None, workers: int = 2) -> None:
        """`timeout_s` limits the CPU seconds of one comparison of two formulas; `compare`, a module-level function,
        replaces the reading and the algebra of formulas."""
        self.timeout_s = timeout_s
        self.undecided = 0
        self._compare = _COMPARE if compare is None else f"{compare.__module__}:{compare.__qualname__}"
        if self._compare.startswith("__main__:"):
            raise ValueError(f"compare={self._compare[9:]}: another process has to find it; define it in a module")
        self._reads = compare is None
        self._workers = Workers(workers)
        self._ask = lru_cache(maxsize=_REMEMBERED)(self._workers.ask)
        self._count_once = lru_cache(maxsize=_REMEMBERED)(self._count_undecided)
        self._lock = threading.Lock()

    def __enter__(self) -> "Grader":
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers. A comparison under way in another thread counts as undecided."""
        self._workers.close()

    def same(self, a: str, b: str) -> bool:
        """Whether two final answers mean the same; undecided means no."""
        at_sight = same_at_sight(a, b)
        if at_sight is not None:
            return at_sight
        first, second = self.classes((a, b))
        return first == second

    def classes(self, finals: Sequence[str | None]) -> tuple[int, ...]:
        """Equivalence class of each final answer, numbered by first appearance; -1 for `None`.

        Two answers are in one class when a chain of equal ones links them. What is compared, and in which order,
        depends on the answers and not on their order. All comparisons of one call may take 4 x `timeout_s`, counted in
        CPU seconds of the workers because a busy machine must not change a vote; after that, they are undecided.
        """
        answers = {final: _at_sight(final) for final in dict.fromkeys(finals) if final is not None}
        classes = _Classes(answers.values())
        algebraic = sorted({answer for answer in answers.values() if answer.takes_algebra}, key=_cheapest)
        if len(algebraic) > 1 and algebraic[-1].kind == "formula":
            if self._workers.is_closed:
                raise RuntimeError("this Grader is closed: compare inside its `with` block")
            self._merge(algebraic, classes)
        numbers: dict[_Answer, int] = {}
        return tuple(
            -1 if final is None else numbers.setdefault(classes.first_of(answers[final]), len(numbers))
            for final in finals
        )

    def _merge(self, answers: Sequence[_Answer], classes: "_Classes") -> None:
        """Join those that mean the same: by their keys, then pair by pair where keys do not decide."""
        budget_s = 4 * self.timeout_s
        if self._reads:
            pairs, budget_s = self._join_by_key(answers, classes, budget_s)
        else:
            pairs = list(combinations(answers, 2))
        # What ran out of time is asked again once, after all others. An answer that has run out of time with several
        # others has to wait, too: it costs itself a class, but not them.
        for limit_s, patience in ((self.timeout_s / 4, 3), (self.timeout_s, 2)):
            pairs, budget_s = self._join_by_pairs(pairs, classes, limit_s, patience, budget_s)
        for a, b in pairs:
            if not classes.are_joined(a, b):
                self._count_once(a, b)

    def _join_by_key(
        self, answers: Sequence[_Answer], classes: "_Classes", budget_s: float
    ) -> tuple[list[Pair], float]:
        """Join answers with equal keys. Returns the pairs that are still open, and what is left of the budget.

        Of the answers with one key the cheapest stands for all.
        """
        from crescent.tasks.readings import Reading, may_be_equal, number_key  # imports mpmath

        readings: dict[_Answer, Reading] = {}
        unread = list(answers)
        for limit_s in (self.timeout_s / 4, self.timeout_s):
            late = []
            for answer in unread:
                if answer.kind == "number":
                    readings[answer] = Reading(number_key(answer.text), True, "value")
                    continue
                outcome = self._ask(_READ, (answer.text,), limit_s) if budget_s > 0 else Outcome(None, 0.0, True)
                budget_s -= outcome.cost_s
                if outcome.result is not None:
                    readings[answer] = outcome.result
                elif outcome.is_worth_another:
                    late.append(answer)
            unread = late
        firsts: dict[str, _Answer] = {}
        for answer in answers:
            if answer in readings:
                classes.join(firsts.setdefault(readings[answer].key, answer), answer)
        for unread_answer in (answer for answer in answers if answer not in readings):
            for other in answers:
                if other != unread_answer:
                    self._count_once(*sorted((unread_answer, other)))
        left = [
            answer for answer in answers if firsts.get(readings[answer].key if answer in readings else "") == answer
        ]
        unsettled = {answer for answer in left if not readings[answer].is_settled}
        pairs = ((a, b) for a, b in combinations(left, 2) if a in unsettled or b in unsettled) if unsettled else ()
        return [(a, b) for a, b in pairs if may_be_equal(readings[a], readings[b])], budget_s

    def _join_by_pairs(
        self, pairs: Sequence[Pair], classes: "_Classes", limit_s: float, patience: int, budget_s: float
    ) -> tuple[list[Pair], float]:
        """Compare pairs, those first whose answers have not run out of time. Returns the pairs without a verdict."""
        waiting, without = list(pairs), []
        late: Counter[_Answer] = Counter()
        while waiting:
            waiting.sort(key=lambda pair: late[pair[0]] + late[pair[1]])  # stable: else in their order
            a, b = waiting.pop(0)
            if classes.are_joined(a, b):
                continue
            if budget_s <= 0 or max(late[a], late[b]) >= patience:
                without.append((a, b))
                continue
            outcome = self._ask(self._compare, tuple(sorted((a.text, b.text))), limit_s)
            budget_s -= outcome.cost_s
            if outcome.result:
                classes.join(a, b)
            elif outcome.is_worth_another:
                late.update((a, b))
                without.append((a, b))
            elif outcome.result is None:
                self._count_once(a, b)
        return without, budget_s

    def _count_undecided(self, a: _Answer, b: _Answer) -> None:
        with self._lock:
            self.undecided += 1


def _at_sight(final: str) -> _Answer:
    seen = sight(final)
    return _Answer(seen.kind, compact(str(seen.value)) if seen.kind == "formula" else str(seen.value))


def _cheapest(answer: _Answer) -> tuple[bool, int, str]:
    return (answer.kind == "formula", len(answer.text), answer.text)


class _Classes:
    """Answers and which of them are joined, directly or by a chain."""

    def __init__(self, answers: Iterable[_Answer]) -> None:
        self._next = {answer: answer for answer in answers}

    def first_of(self, answer: _Answer) -> _Answer:
        while self._next[answer] != answer:
            answer = self._next[answer]
        return answer

    def join(self, a: _Answer, b: _Answer) -> None:
        self._next[self.first_of(b)] = self.first_of(a)

    def are_joined(self, a: _Answer, b: _Answer) -> bool:
        return self.first_of(a) == self.first_of(b)
