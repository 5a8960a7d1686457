"""Starts child processes on this machine."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

POLL_S = 0.1
UNLOCKABLE = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""Errors of `flock` on file systems without locks (https://man7.org/linux/man-pages/man2/flock.2.html)."""


@dataclass(frozen=True)
class LocalChild:
    """A child process behind its guard (`launch.guard`)."""

    guard: subprocess.Popen[bytes]
    grace_s: float

    def poll(self) -> int | None:
        code = self.guard.poll()
        return 128 - code if code is not None and code < 0 else code

    def stop(self) -> int:
        if self.guard.poll() is None:
            self.guard.send_signal(signal.SIGTERM)
        return self.guard.wait()


@dataclass(frozen=True)
class LocalLaunch:
    """Starts each command under `launch.guard`, so that no process outlives the supervisor."""

    grace_s: float = 45.0
    """Time between asking a child to end and killing it, in seconds; torch's elastic agent gives its ranks 30."""
    alive: Path | None = None
    """Path of a file, in a folder that exists, that stays locked (shared) while any child is alive; see
    `wait_for_earlier_children`."""

    def start(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> LocalChild:
        log.parent.mkdir(parents=True, exist_ok=True)
        guarded = [sys.executable, "-P", "-m", "launch.guard", str(os.getpid()), str(self.grace_s), *command]
        with ExitStack() as open_files:
            output = open_files.enter_context(log.open("ab"))
            locked = []
            if self.alive is not None:
                locked.append(open_files.enter_context(self.alive.open("a+b")))
                flock(locked[0], fcntl.LOCK_SH)
            # The lock belongs to the open file, not to this process: it lasts until the guard closes its copy, too.
            guard = subprocess.Popen(
                guarded,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
                pass_fds=[file.fileno() for file in locked],
            )
        return LocalChild(guard, self.grace_s)


def wait_for_earlier_children(alive: Path, say: Callable[[str], None], limit_s: float) -> bool:
    """Wait until every child that was started with this `alive` file has ended.

    Children of a killed supervisor may still be writing.

    Args:
        say: Called once, with a line for a person, if there is anything to wait for.

    Returns:
        Whether all ended within `limit_s` seconds. On a file system without flock this is unknown, and taken for true.
    """
    deadline = time.monotonic() + limit_s
    said = False
    with alive.open("a+b") as file:  # closing it releases the lock
        while not flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
            if not said:
                say("waiting for an earlier run's processes to end")
                said = True
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
    return True


def flock(file: IO[bytes], how: int) -> bool:
    """Lock a file; returns `False` if another process's lock prevents it.

    A file system without flock has no locks, as filelock assumes, too.
    """
    try:
        fcntl.flock(file, how)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        if error.errno not in UNLOCKABLE:
            raise
    return True
