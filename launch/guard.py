"""Runs a command and never leaves anything of it behind: `python -P -m launch.guard PARENT GRACE_S COMMAND…`.

Between the supervisor and each child stands this small process. It ends the child's whole process group when it is
asked to (SIGTERM), when the supervisor has died (even of SIGKILL, which nobody can catch), and when the child itself
has ended but its own children have not.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

POLL_S = 0.1


def group_is_alive(group: int) -> bool:
    """Whether any process of the group is left (a zombie nobody waited for counts)."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def run(command: Sequence[str], parent: int, grace_s: float) -> int:
    """Run `command` in a process group of its own until it ends, we are asked to end it, or `parent` is gone."""
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, lambda received, _frame: asked.append(received))
    child = subprocess.Popen(command, start_new_session=True)
    while child.poll() is None and not asked and os.getppid() == parent:
        time.sleep(POLL_S)
    deadline = time.monotonic() + grace_s
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    while (child.poll() is None or group_is_alive(child.pid)) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    code = child.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(run(sys.argv[3:], int(sys.argv[1]), float(sys.argv[2])))
