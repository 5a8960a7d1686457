"""How a process of ours starts and ends: its surroundings, its signals, its exit code."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from crescent.errors import Interrupted, known_failure
from crescent.machine.inert_text import visible_lines
from crescent.machine.proxies import keep_loopback_direct
from crescent.machine.secrets import censored
from crescent.machine.streams import open_closed_descriptors, steady_streams
from crescent.machine.surroundings import ensure_home, leave_foreign_ranks, leave_working_folder, write_utf8

T = TypeVar("T")

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)
"""Signals that ask a process of ours to end."""


def run_to_exit_code(main: Callable[[], None], patience_s: float | None = None) -> int:
    """Run a program and turn how it ended into an exit code, with a one-line cause on the error stream.

    Known failures and errors of the machine are explained; anything else is a bug of Crescent and keeps its traceback.
    Import what takes time inside `main`: a signal that arrives before this call ends the process without a word.

    Args:
        patience_s: Longest wait for a reader of our output, as in `steady_streams`.
    """
    ready_process(patience_s)
    ended = False

    def interrupt(number: int, _frame: object) -> None:
        if not ended:  # afterwards only the exit code is left to return
            raise Interrupted(signal.Signals(number).name)

    answer_signals(interrupt)
    try:
        try:
            main()
        finally:
            ended = True
    except (Exception, KeyboardInterrupt) as error:
        known = known_failure(error)
        if known is None:
            raise
        print(visible_lines(censored(f"error: {known}")), file=sys.stderr, flush=True)
        return known.exit_code
    return 0


def ready_process(patience_s: float | None = None) -> None:
    """Make this process independent of what reads its output and of who started it. A second call changes nothing."""
    open_closed_descriptors()
    steady_streams(patience_s)
    write_utf8(os.environ)
    leave_working_folder()
    keep_loopback_direct(os.environ)
    leave_foreign_ranks(os.environ)
    ensure_home(os.environ)


def answer_signals(handler: Callable[[int, object], None]) -> None:
    """Call `handler` for every signal of `ENDING`, except a SIGHUP that is ignored because of `nohup`."""
    for number in ENDING:
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore signals of `ENDING` in the block: for short work after the first of them, which a second one, such as
    Ctrl-C pressed twice, must not cut off."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread answers signals
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    answer_signals(lambda *_: None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` for programs that a signal ends with `Interrupted`.

    The task that runs when the signal arrives keeps the exception; asyncio must not warn that nobody retrieved it.
    """

    import asyncio

    def report_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), Interrupted):
            loop.default_exception_handler(context)

    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(report_error)
        return runner.run(main)
