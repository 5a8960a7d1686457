"""Errors that name the value, the rule and the fix, each with an exit code that a scheduler can act on."""

import errno
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class CrescentError(Exception):
    """A failure with a known cause. The message is shown to the user as it is, without a traceback."""

    exit_code = 1


class BadConfig(CrescentError):
    """A setting that can never work. Found before anything heavy is imported."""

    exit_code = 2


class SettingsChanged(CrescentError):
    """A finished stage was made with settings that differ from the present ones."""

    exit_code = 3


class RunLocked(CrescentError):
    """Another supervisor works in this run folder."""

    exit_code = 4


class DataSaysNo(CrescentError):
    """Everything worked, but the data is unusable (empty round, collapse, non-finite loss)."""

    exit_code = 65


class Missing(CrescentError):
    """Something that must be installed, downloaded or mounted is missing."""

    exit_code = 69


class TryAgain(CrescentError):
    """Interrupted or temporarily impossible: the same command continues where this one stopped."""

    exit_code = 75


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end. Not an `Exception`, so that no caller mistakes it for a failure."""


def run_to_exit_code(main: Callable[[], None]) -> int:
    """Run a program and turn how it ended into an exit code, with a one-line cause on the error stream.

    Known failures and a full disk are explained; anything else is a bug of Crescent and keeps its traceback.
    """

    def interrupt(number: int, _frame: object) -> None:
        raise Interrupted(signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, interrupt)
    try:
        main()
    except (Exception, KeyboardInterrupt) as error:
        known = known_failure(error)
        if known is None:
            raise
        print(f"error: {known}", file=sys.stderr, flush=True)
        return known.exit_code
    return 0


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


def known_failure(error: BaseException) -> CrescentError | None:
    """The known cause behind `error`: a `CrescentError`, a signal, or a disk that is full or read-only; else `None`."""
    if isinstance(error, KeyboardInterrupt):
        return TryAgain(f"interrupted by {error or 'SIGINT'}; to resume, run the same command again")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        cause = f"{error.filename or 'the run folder'}: {error.strerror}; what is finished is safe: make room (or make "
        return TryAgain(cause + "it writable), then run the same command again")
    return known_cause(error)


def known_cause(error: BaseException) -> CrescentError | None:
    """The `CrescentError` that `error` is, or the first one in a group of errors from several tasks; else `None`."""
    if isinstance(error, CrescentError):
        return error
    if isinstance(error, BaseExceptionGroup):
        causes = (known_cause(inner) for inner in error.exceptions)
        return next((cause for cause in causes if cause is not None), None)
    return None
