"""Runs a command and never leaves a process of it behind: `python -P -m launch.guard PARENT GRACE_S COMMAND…`.

This small process stands between the supervisor and each child. It ends the child and all its descendants when it
receives SIGTERM, when the supervisor has died (even of SIGKILL, which no process can catch), and when the child has
ended but something it started has not. On Linux this includes descendants in sessions of their own (torch's elastic
agent gives one to every rank), and the child does not outlive a guard that was killed.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import psutil

POLL_S = 0.1
LEFTOVERS_S = 5.0
"""Grace period of descendants when the child has ended by itself, in seconds."""
KILLED_WITHIN_S = 60.0
"""Time limit for killed processes to disappear, in seconds: freeing GPU memory takes a while, and never ends with a
broken driver."""
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def run(command: Sequence[str], parent: int, grace_s: float) -> int:
    """Run `command` in a session of its own until it ends, a signal asks this process to end it, or `parent` is gone.

    Returns:
        Exit code of the command; 128 plus the signal's number if a signal ended it.
    """
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, lambda received, _frame: asked.append(received))
    adopt_orphans()
    child = subprocess.Popen(command, start_new_session=True, preexec_fn=dies_with(os.getpid()))
    while child.poll() is None and not asked and os.getppid() == parent:
        reap_orphans(child)
        time.sleep(POLL_S)
    end(child, grace_s if child.poll() is None else min(grace_s, LEFTOVERS_S))
    code = child.wait()
    return code if code >= 0 else 128 - code


def end(child: subprocess.Popen[bytes], grace_s: float) -> None:
    """Ask the child's process group to end, then what is left of it; kill everything after `grace_s`."""
    deadline = time.monotonic() + grace_s
    signal_group(child, signal.SIGTERM)
    # A launcher asks its ranks itself while it is alive. Asked twice, they might not finish what they are writing.
    while child.poll() is None and time.monotonic() < deadline:
        reap_orphans(child)
        time.sleep(POLL_S)
    for process in descendants(child):
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) != child.pid:
                process.terminate()
    while (descendants(child) or signal_group(child, 0)) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    give_up = time.monotonic() + KILLED_WITHIN_S
    while (left := descendants(child)) or signal_group(child, 0):
        if time.monotonic() > give_up:
            print(f"not ended by SIGKILL in {KILLED_WITHIN_S:.0f} s: {left}", file=sys.stderr)
            break
        signal_group(child, signal.SIGKILL)
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(POLL_S)


def descendants(child: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Running processes among the child and all it started; other systems than Linux miss those without a parent."""
    child.poll()
    reap_orphans(child)
    found: list[psutil.Process] = psutil.Process().children(recursive=True)
    return found


def signal_group(child: subprocess.Popen[bytes], number: int) -> bool:
    """Send a signal to the child's process group (0 sends none); returns whether a process was left in it."""
    try:
        os.killpg(child.pid, number)
    except (ProcessLookupError, PermissionError):  # macOS forbids it if only a zombie is left
        return False
    return True


def adopt_orphans() -> None:
    """Become the parent of descendants that lose theirs, whatever their group or session (on Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def reap_orphans(child: subprocess.Popen[bytes]) -> None:
    """Remove ended orphans from the process table. The child's exit code stays available to `child.wait()`."""
    if sys.platform == "linux":
        with contextlib.suppress(ChildProcessError):
            peek = os.WEXITED | os.WNOHANG | os.WNOWAIT
            while (ended := os.waitid(os.P_ALL, 0, peek)) is not None and ended.si_pid != child.pid:
                os.waitpid(ended.si_pid, 0)


def dies_with(guard: int) -> Callable[[], None] | None:
    """A `preexec_fn` after which the kernel kills the child when its guard ends (on Linux; elsewhere `None`)."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def arrange() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:  # the guard ended before the line above
            os.kill(os.getpid(), signal.SIGKILL)

    return arrange


if __name__ == "__main__":
    sys.exit(run(sys.argv[3:], int(sys.argv[1]), float(sys.argv[2])))
