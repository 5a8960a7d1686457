"""Child processes on this machine."""

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


@dataclass(frozen=True)
class LocalChild:
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
    """Starts each command under `launch.guard`, so that nothing survives the supervisor."""

    grace_s: float = 45.0
    """Seconds between asking a child to end and ending it; torch's elastic agent allows its ranks 30."""
    alive: Path | None = None
    """A file that stays locked (shared) while any child lives, for `wait_for_earlier_children`. Its folder exists."""

    def start(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> LocalChild:
        log.parent.mkdir(parents=True, exist_ok=True)
        guarded = [sys.executable, "-P", "-m", "launch.guard", str(os.getpid()), str(self.grace_s), *command]
        with ExitStack() as ours:
            output = ours.enter_context(log.open("ab"))
            locked = []
            if self.alive is not None:
                locked.append(ours.enter_context(self.alive.open("a+b")))
                flock(locked[0], fcntl.LOCK_SH)
            # The lock belongs to the open file, not to us: it lasts until the guard's copy of it is closed too.
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


def wait_for_earlier_children(alive: Path, tell: Callable[[str], None], limit_s: float) -> bool:
    """Wait until no child started with this `alive` file is left: a killed supervisor's may still be writing.

    Returns:
        Whether that came true within `limit_s`. On a file system without flock nobody can know, and it does at once.
    """
    deadline = time.monotonic() + limit_s
    told = False
    with alive.open("a+b") as file:  # closing it releases the lock
        while not flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
            if not told:
                tell("waiting for an earlier run's processes to end")
                told = True
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
    return True


def flock(file: IO[bytes], how: int) -> bool:
    """Whether nobody else's lock was in the way. A file system without flock (as filelock sees it) has none."""
    try:
        fcntl.flock(file, how)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        if error.errno != errno.ENOSYS:
            raise
    return True
