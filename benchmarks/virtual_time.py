"""An asyncio event loop in virtual time: hours of waiting take no time, and equal programs run equally."""

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class Stuck(RuntimeError):
    """Every task waits for something that no timer and no task will bring."""


class _Clock(selectors.SelectSelector):
    """Stands still as long as anything can run, and then jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise Stuck("all tasks wait, and no timer is set")
            self.now_s += max(0.0, timeout)
        return ready


class VirtualTime(asyncio.SelectorEventLoop):
    """The loop; give it to `asyncio.Runner(loop_factory=VirtualTime)`.

    There are no threads: what is sent to one runs at once, because the clock could not know when a thread is ready.
    The time that it would have taken is whatever it states with `spend`.
    """

    def __init__(self) -> None:
        self._clock = _Clock()
        self._spent_s = 0.0
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now_s

    def spend(self, seconds: float) -> None:
        """Called by a function in a thread: it takes this much longer."""
        self._spent_s += seconds

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Arguments], T], *args: *Arguments
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.create_future()
        self._spent_s = 0.0
        try:
            result = func(*args)
        except Exception as error:
            self._later(self._spent_s, future, future.set_exception, error)
        else:
            self._later(self._spent_s, future, future.set_result, result)
        return future

    def _later(
        self, seconds: float, future: asyncio.Future[Any], finish: Callable[[Any], None], outcome: object
    ) -> None:
        if not seconds:
            finish(outcome)
            return
        # Nobody may wait for it any longer by then.
        self.call_later(seconds, lambda: None if future.done() else finish(outcome))
