"""One supervisor (the process of the loop) per run folder, and whether one is running."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
from filelock import Timeout

from crescent.errors import RunLocked
from crescent.machine.disk import file_lock

HOLDER = "supervisor.json"
"""Name of the file that says which process works in the run folder; a killed process leaves it behind."""
LOCK = ".lock"
"""Name of the file that the supervisor locks."""
ALIVE = ".children"
"""Name of the file that stays locked while any child process of the run is alive."""


@contextmanager
def only_supervisor(root: Path) -> Iterator[None]:
    """Lock the run folder.

    Raises:
        RunLocked: another process works in this folder; the message names it.
    """
    holder = root / HOLDER
    with ExitStack() as stack:
        try:
            locked = stack.enter_context(file_lock(root / LOCK, timeout_s=0))
        except Timeout:
            raise _locked(root) from None
        if not locked and is_running(root):
            raise _locked(root)
        holder.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "command": sys.argv}))
        stack.callback(holder.unlink, missing_ok=True)
        yield


def _locked(root: Path) -> RunLocked:
    """The error that names the process which holds the lock."""
    try:
        supervisor: dict[str, Any] = json.loads((root / HOLDER).read_text())
    except (OSError, ValueError):
        supervisor = {}
    return RunLocked(
        f"{root} is in use by process {supervisor.get('pid', '?')} on {supervisor.get('host', '?')}; wait for it, "
        "end it, or give this run another name (run.name=…)"
    )


def is_running(root: Path) -> bool:
    """Whether another process on this machine is running the loop in this folder.

    This process does not count: a run reads its own folder only when its work is over. `crescent sync` does not either.
    """
    try:
        supervisor = json.loads((root / HOLDER).read_text())
        started = psutil.Process(supervisor["pid"]).create_time()
        syncing = supervisor["command"][1:2] == ["sync"]
        # A process that started after the file was written has reused the pid of a killed supervisor.
        same_process = started <= (root / HOLDER).stat().st_mtime + 1
        here = supervisor["host"] == socket.gethostname()
        return here and supervisor["pid"] != os.getpid() and same_process and not syncing
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return False
