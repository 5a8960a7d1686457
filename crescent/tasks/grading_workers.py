"""Processes that may be killed, and what they were asked: limits count their CPU time, so that load changes nothing."""

import os
import queue
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import psutil

from crescent.errors import Missing, TryAgain

_MOST_ANSWERS = 5000
"""Of one process: sympy's caches grow towards the memory limit."""
_IDLE_FACTOR = 10
"""A process that sleeps, which no comparison of ours does, is ended after so many times its CPU limit."""
_START_IDLE_S = 120.0
_LOOK_S = 0.5
_START = "from crescent.tasks.grading_server import spawn_main; spawn_main()"


@dataclass(frozen=True)
class Outcome:
    """What came of a question."""

    result: Any
    """`None` when there is no answer: it failed, was killed, or ran out of time."""
    cost_s: float
    """CPU seconds."""
    is_worth_another: bool = False
    """Whether it ran out of time or its process died: the same question may be answered the next time."""


class Workers:
    """A few processes; safe to ask from several threads at once. They start with the first question."""

    def __init__(self, number: int) -> None:
        self._workers = [_Worker() for _ in range(number)]
        # The last one used comes first: it has parsed the same formulas. No queue inside a process: one question's
        # hostile answers must not delay another's.
        self._free: queue.LifoQueue[_Worker] = queue.LifoQueue()
        # A worker dies with the *thread* that started it (man 2 prctl), so the caller's thread must not be that one.
        self._starter = ThreadPoolExecutor(1, "grader")
        self._lock = threading.Lock()
        self._is_running = False
        self.is_closed = False

    def close(self) -> None:
        """End the processes. A question under way in another thread has no answer."""
        with self._lock:
            self.is_closed = True
        self._starter.shutdown()
        for worker in self._workers:
            worker.kill()

    def ask(self, name: str, arguments: tuple[str, ...], limit_s: float) -> Outcome:
        """Call a module-level function, `module:name`, with at most `limit_s` CPU seconds.

        Raises:
            TryAgain: processes die before they can be asked.
        Missing: a process cannot import the function or what it needs.
        """
        self._start()
        worker = self._free.get()
        try:
            for _ in range(3):
                if not worker.is_alive() and not self._restart(worker):
                    break
                outcome = worker.ask(name, arguments, limit_s)
                if outcome is not None:
                    return outcome
            if self.is_closed:
                return Outcome(None, limit_s)
        finally:
            self._free.put(worker)
        raise TryAgain("the processes that compare formulas die as they start; is there memory for them?")

    def _start(self) -> None:
        with self._lock:
            if self._is_running or self.is_closed:
                return
            for worker in self._workers:
                self._starter.submit(worker.start).result()
                self._free.put(worker)
            self._is_running = True

    def _restart(self, worker: "_Worker") -> bool:
        with self._lock:
            if self.is_closed:
                return False
            self._starter.submit(worker.start).result()
            return True


class _Worker:
    """One process, for one thread at a time; only `kill` is for any."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._is_ready = False
        self._answers = 0

    def start(self) -> None:
        self.kill()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-s", "-P", "-W", "ignore", "-c", _START, str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                # What we can import, they can; sympy's order of terms must not change from one process to the next.
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "0"},
            )
        self._connection = Connection(ours.detach())
        self._is_ready = False
        self._answers = 0

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None and self._answers < _MOST_ANSWERS

    def kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()

    def ask(self, name: str, arguments: tuple[str, ...], limit_s: float) -> Outcome | None:
        """The answer; `None` from a process that died before it was asked."""
        assert self._process is not None
        assert self._connection is not None
        try:
            if not self._is_ready:
                if not self._hears(_START_IDLE_S):
                    return None
                self._connection.recv()
                self._is_ready = True
            self._connection.send((name, arguments, limit_s))
        except (EOFError, OSError):
            self.kill()
            return None
        self._answers += 1
        try:
            if not self._hears(_IDLE_FACTOR * limit_s):
                return Outcome(None, limit_s, is_worth_another=True)
            is_answer, result, cost_s = self._connection.recv()
        except (EOFError, OSError):
            self.kill()
            return Outcome(None, limit_s, is_worth_another=True)
        if is_answer is None:
            raise Missing(f"comparing formulas needs {name}: {result}; pip install 'math-verify[antlr4_9_3]'")
        return Outcome(result if is_answer else None, cost_s)

    def _hears(self, idle_s: float) -> bool:
        """Wait for a message, or the end of the process. False when it slept for `idle_s` seconds, and is killed."""
        assert self._process is not None
        assert self._connection is not None
        look_s, slept_s = min(_LOOK_S, idle_s / 4), 0.0
        if self._connection.poll(look_s):
            return True
        looked, used_s = time.monotonic(), self._used_s()
        while not self._connection.poll(look_s):
            was, looked = looked, time.monotonic()
            before_s, used_s = used_s, self._used_s()
            if self._sleeps():
                slept_s += looked - was - (used_s - before_s)
            if slept_s >= idle_s:
                self.kill()
                return False
        return True

    def _used_s(self) -> float:
        assert self._process is not None
        with suppress(psutil.NoSuchProcess):
            times = psutil.Process(self._process.pid).cpu_times()
            return float(times.user + times.system)
        return 0.0

    def _sleeps(self) -> bool:
        """Not while it waits for a CPU, or is stopped."""
        assert self._process is not None
        with suppress(psutil.NoSuchProcess):
            return bool(psutil.Process(self._process.pid).status() == psutil.STATUS_SLEEPING)
        return False
