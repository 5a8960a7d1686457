"""Runs a command and never leaves anything of it behind: `python -P -m launch.guard PARENT GRACE_S COMMAND…`.

Between the supervisor and each child stands this small process. It ends the child and all its descendants when it is
asked to (SIGTERM), when the supervisor has died (even of SIGKILL, which nobody can catch), and when the child itself
has ended but something it started has not. On Linux that holds for descendants in sessions of their own too (torch's
elastic agent gives every rank one), and the child does not outlive a guard that was killed.
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
"""Seconds that descendants get to end in when their child has ended without being asked to."""
KILLED_WITHIN_S = 60.0
"""Seconds that killed processes get to be gone: freeing GPU memory takes a while, with a broken driver for ever."""
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def run(command: Sequence[str], parent: int, grace_s: float) -> int:
    """Run `command` in a session of its own until it ends, we are asked to end it, or `parent` is gone."""
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, lambda received, _frame: asked.append(received))
    adopt_orphans()
    child = subprocess.Popen(command, start_new_session=True, preexec_fn=dying_with(os.getpid()))
    while child.poll() is None and not asked and os.getppid() == parent:
        bury_orphans(child)
        time.sleep(POLL_S)
    end(child, grace_s if child.poll() is None else min(grace_s, LEFTOVERS_S))
    code = child.wait()
    return code if code >= 0 else 128 - code


def end(child: subprocess.Popen[bytes], grace_s: float) -> None:
    """Ask the child's group to end, then what is left when the child has; kill everything after `grace_s`."""
    deadline = time.monotonic() + grace_s
    signal_group(child, signal.SIGTERM)
    # While a launcher lives it tells its ranks itself: hearing it twice, they might not finish what they write.
    while child.poll() is None and time.monotonic() < deadline:
        bury_orphans(child)
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
    """The child and all it started, as far as they run; off Linux, those that lost their parent are missing."""
    child.poll()
    bury_orphans(child)
    found: list[psutil.Process] = psutil.Process().children(recursive=True)
    return found


def signal_group(child: subprocess.Popen[bytes], number: int) -> bool:
    """Whether anybody was left in the child's group to be signalled; 0 only asks."""
    try:
        os.killpg(child.pid, number)
    except (ProcessLookupError, PermissionError):  # macOS forbids it where only a zombie is left
        return False
    return True


def adopt_orphans() -> None:
    """Make descendants that lose their parent our children, whatever their group or session (on Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def bury_orphans(child: subprocess.Popen[bytes]) -> None:
    """Wait for adopted orphans that have ended. The child's exit code stays for `child.wait()`."""
    if sys.platform == "linux":
        with contextlib.suppress(ChildProcessError):
            peek = os.WEXITED | os.WNOHANG | os.WNOWAIT
            while (ended := os.waitid(os.P_ALL, 0, peek)) is not None and ended.si_pid != child.pid:
                os.waitpid(ended.si_pid, 0)


def dying_with(guard: int) -> Callable[[], None] | None:
    """For `preexec_fn`: have the kernel kill the child when its guard is gone (on Linux only)."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def arrange() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:  # gone before we had arranged it
            os.kill(os.getpid(), signal.SIGKILL)

    return arrange


if __name__ == "__main__":
    sys.exit(run(sys.argv[3:], int(sys.argv[1]), float(sys.argv[2])))
