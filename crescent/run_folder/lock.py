"""One supervisor per run folder, and whether one is at work."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from crescent.errors import RunLocked

HOLDER = "supervisor.json"
"""Name of the file that says which process works in the run folder; a killed process leaves it behind."""
ALIVE = ".children"
"""Name of the file that stays locked while any process of the run lives."""


@contextmanager
def only_supervisor(root: Path) -> Iterator[None]:
    """Hold the run folder; a second supervisor is told who holds it.

    Raises:
        RunLocked: another process works in this folder.
    """
    holder = root / HOLDER
    lock = FileLock(root / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        try:
            its: dict[str, Any] = json.loads(holder.read_text())
        except (OSError, ValueError):
            its = {}
        raise RunLocked(
            f"{root} is worked on by process {its.get('pid', '?')} on {its.get('host', '?')}; wait for it, end it, or "
            "give this run another name (run.name=…)"
        ) from None
    try:
        holder.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "command": sys.argv}))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def is_running(root: Path) -> bool:
    """Whether another process on this machine works on the run.

    Not when it is this one: what a run writes about itself is read when it is over.
    """
    try:
        its = json.loads((root / HOLDER).read_text())
        began = psutil.Process(its["pid"]).create_time()
        syncing = its["command"][1:2] == ["sync"]
        # A process that began later has only got the number of the one that was killed.
        its_own = began <= (root / HOLDER).stat().st_mtime + 1
        return its["host"] == socket.gethostname() and its["pid"] != os.getpid() and its_own and not syncing
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return False
