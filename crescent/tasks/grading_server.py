"""The process that reads and compares formulas for `crescent.tasks.grading`. It may be killed at any time."""

import importlib
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from crescent.machine.processes import die_with_parent

MEMORY_BYTES = 2 * 2**30
READY = "ready"


def spawn_main() -> None:
    """Answer until nobody asks any more.

    A question is the name of a function, its arguments, and the CPU seconds it may take. The answer is whether it
    returned (`None` when there is no such function), what, and the CPU seconds it took. When the limit is reached the
    kernel ends this process (SIGPROF).
    """
    descriptor, parent = map(int, sys.argv[1:])
    if sys.platform == "linux":
        die_with_parent()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    if os.getppid() != parent:  # it died before the lines above
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is the parent's business
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    with Connection(descriptor) as connection:
        importlib.import_module("crescent.tasks.readings")
        connection.send(READY)
        while True:
            try:
                name, arguments, limit_s = connection.recv()
            except EOFError:
                return
            try:
                function = _resolve(name)
            except (ImportError, AttributeError) as error:
                connection.send((None, f"{type(error).__name__}: {error}", 0.0))
                continue
            connection.send(_answer(function, arguments, limit_s))


def _resolve(name: str) -> Callable[..., Any]:
    """The function, its module imported: that takes a second for sympy, and is nobody's fault."""
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]


def _answer(function: Callable[..., Any], arguments: tuple[str, ...], limit_s: float) -> tuple[bool, Any, float]:
    started = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, limit_s)
    try:
        result = function(*arguments)
    except Exception:  # on hostile text sympy fails in every way there is: that is undecided, not an error of ours
        return False, None, time.process_time() - started
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return True, result, time.process_time() - started
