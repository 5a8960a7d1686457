"""Errors that name the value, the rule and the fix, each with an exit code that a scheduler can act on."""

import errno
import re
from collections.abc import Iterator


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


RUN_AGAIN = "then run the same command again"
FULL = f"what is finished is safe: make room (or make it writable), {RUN_AGAIN}"
BROKEN = f"the disk, mount or device failed, and what is finished is safe: look into dmesg and the mount, {RUN_AGAIN}"
NETWORK = f"the network or the process at the other end failed: check it, {RUN_AGAIN}"
FORBIDDEN = f"this user may not do that: change owner or mode of the file (ls -l), or use another folder, {RUN_AGAIN}"
TEMPORARY = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EROFS: FULL,
    errno.EIO: BROKEN,
    errno.ESTALE: BROKEN,
    errno.ENOTCONN: BROKEN,
    errno.ETIMEDOUT: BROKEN,
    errno.ENODEV: BROKEN,
    errno.ENXIO: BROKEN,
    errno.EBUSY: f"something else uses it: wait for that, {RUN_AGAIN}",
    errno.EAGAIN: f"the limit of processes or threads is reached (ulimit -u): end others or raise it, {RUN_AGAIN}",
    errno.ENFILE: f"the machine has too many open files: end other programs or raise fs.file-max, {RUN_AGAIN}",
    errno.ENOLCK: f"the file system gives no locks now: check its lock service (nfslock), {RUN_AGAIN}",
    errno.EADDRINUSE: f"another process took the port: {RUN_AGAIN}",
    **dict.fromkeys((errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE), NETWORK),
    **dict.fromkeys((errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH, errno.EHOSTDOWN), NETWORK),
}
"""Fix of each error of the operating system that may be gone the next time, by its number."""
LASTING = {
    errno.EMFILE: f"this process may not open more files: raise the limit (ulimit -n 65536), {RUN_AGAIN}",
    errno.ENOMEM: f"the memory is used up: end other programs, or lower serving.memory_share or the batch, {RUN_AGAIN}",
    errno.EFBIG: f"files may not become that large: raise the limit (ulimit -f) or move run.root, {RUN_AGAIN}",
    errno.EACCES: FORBIDDEN,
    errno.EPERM: FORBIDDEN,
}
"""Fix of each error of the operating system that stays until somebody changes the machine, by its number."""
WORDS = {
    "PytorchStreamWriter failed": errno.ENOSPC,
    "inline_container.cc": errno.ENOSPC,
    "can't start new thread": errno.EAGAIN,
    "DefaultCPUAllocator: can't allocate memory": errno.ENOMEM,
}
"""Number of the error behind words of libraries that report no number: torch while it saves, Python's threads."""
NUMBER = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]")
"""Matches the number in messages of libraries written in Rust (safetensors, tokenizers) and of Python."""


def known_failure(error: BaseException) -> CrescentError | None:
    """The known cause behind `error`, itself or in a group of errors from several tasks: a signal, a `CrescentError`,
    or an error of the machine (disk, memory, limits, rights, network); else `None`."""
    leaves = list(_leaves(error))
    interrupted = next((leaf for leaf in leaves if isinstance(leaf, KeyboardInterrupt)), None)
    if interrupted is not None:
        return TryAgain(f"interrupted by {interrupted or 'SIGINT'}; to resume, run the same command again")
    own = known_cause(error)
    if own is not None:
        return own
    return next((failure for leaf in leaves if (failure := machine_failure(leaf)) is not None), None)


def machine_failure(error: BaseException) -> CrescentError | None:
    """The machine's error that `error` is, or was raised from, with its fix; else `None`.

    Returns:
        `TryAgain` for what may be gone the next time, `Missing` for what stays until somebody changes the machine.
    """
    if isinstance(error, MemoryError):
        return Missing(f"out of memory ({error or 'MemoryError'}); {LASTING[errno.ENOMEM]}")
    number = _error_number(error)
    if number in TEMPORARY or number in LASTING:
        where = getattr(error, "filename", None) or ("the run folder" if TEMPORARY.get(number) is FULL else None)
        cause = getattr(error, "strerror", None) or str(error).strip().splitlines()[0][:300]
        problem = f"{where}: {cause}" if where else cause
        if number in TEMPORARY:
            return TryAgain(f"{problem}; {TEMPORARY[number]}")
        return Missing(f"{problem}; {LASTING[number]}")
    return None if error.__cause__ is None else machine_failure(error.__cause__)


def _error_number(error: BaseException) -> int:
    """Number of the operating system's error; 0 if it is none."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if isinstance(error, AssertionError | ArithmeticError | LookupError | NameError | TypeError):
        return 0  # a bug, whatever its text quotes
    text = str(error)
    found = NUMBER.search(text)
    if found is not None:
        return int(found[1] or found[2])
    return next((number for words, number in WORDS.items() if words in text), 0)


def known_cause(error: BaseException) -> CrescentError | None:
    """The `CrescentError` that `error` is, or the first one in a group of errors from several tasks; else `None`."""
    return next((leaf for leaf in _leaves(error) if isinstance(leaf, CrescentError)), None)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The error, or the errors in a group of groups."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
