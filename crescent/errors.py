"""Errors that name the value, the rule and the way out, each with the exit code a scheduler can act on."""

import errno
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class CrescentError(Exception):
    """A failure with a known cause. Its message is shown to the user as it is, without a traceback."""

    exit_code = 1


class BadConfig(CrescentError):
    """A setting that can never work. Found before anything heavy is imported."""

    exit_code = 2


class SettingsChanged(CrescentError):
    """A finished stage was made with other settings than the ones given now."""

    exit_code = 3


class RunLocked(CrescentError):
    """Another supervisor works in this run folder."""

    exit_code = 4


class DataSaysNo(CrescentError):
    """Everything worked, and the data still does not allow to go on (empty round, collapse, non-finite loss)."""

    exit_code = 65


class Missing(CrescentError):
    """Something that has to be installed, downloaded or mounted is not there."""

    exit_code = 69


class TryAgain(CrescentError):
    """Interrupted or temporarily impossible: the same command continues where this one stopped."""

    exit_code = 75


class Interrupted(KeyboardInterrupt):
    """A signal asked us to end. Not an `Exception`, so that nothing on the way up mistakes it for a failure."""


def run_to_exit_code(main: Callable[[], None]) -> int:
    """Run a program and turn how it ended into an exit code, with a one-line cause on the error stream.

    Known failures and a full disk are explained; anything else is a bug of ours and keeps its traceback.
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
    """`asyncio.run` for programs that signals end by `Interrupted`: the task that happened to run then keeps it, and
    nobody is to be told that it was never asked for it."""

    import asyncio

    def complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), Interrupted):
            loop.default_exception_handler(context)

    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(complain)
        return runner.run(main)


def known_failure(error: BaseException) -> CrescentError | None:
    """What ended a program, where it is no bug: a failure of ours, a signal, or a disk that takes no more."""
    if isinstance(error, KeyboardInterrupt):
        return TryAgain(f"interrupted by {error or 'SIGINT'}; run the same command again to go on")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        cause = f"{error.filename or 'the run folder'}: {error.strerror}; what is finished is safe: make room (or make "
        return TryAgain(cause + "it writable), then run the same command again")
    return known_cause(error)


def known_cause(error: BaseException) -> CrescentError | None:
    """The failure of ours that `error` is, or the first one in a group of several tasks' failures."""
    if isinstance(error, CrescentError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((known for its in error.exceptions if (known := known_cause(its)) is not None), None)
    return None
