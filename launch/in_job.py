"""What a job of a cluster does on its first node: run a command to its end, or stop it in order and leave the rest to
the job's next attempt.

submitit (https://github.com/facebookincubator/submitit/blob/main/docs/checkpointing.md) loads an `InJob` there and
calls it. At the time limit it calls `checkpoint`, requeues the job and ends it.
"""

import atexit
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from launch.local import LocalChild, LocalLaunch

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

POLL_S = 0.2
PYTHON = "{python}"
"""Stands for the Python that runs the job: with a shared environment, but another one than the submitting command's."""
TRY_AGAIN = 75
"""Exit code of a command that goes on where it stopped when it is started again (EX_TEMPFAIL of sysexits.h)."""
LOCKED = 4
"""Exit code of a run whose folder is in use: after a node was lost, its processes may still be ending."""
REQUEUE_S = 60.0
_running: list[LocalChild] = []
"""The child of this process's `InJob`. Not a field: a job is pickled while its child runs."""


@dataclass
class InJob:
    """A command that works in a job."""

    command: list[str]
    """Command; `PYTHON` in first place stands for the Python that runs this."""
    log: Path
    """File that the command's output is appended to."""
    environment: dict[str, str] = field(default_factory=dict)
    grace_s: float = 45.0
    """Time between asking the command to end and killing it, in seconds."""
    retries: Path | None = None
    """File with one character for each retry so far."""
    max_retries: int = 0

    def __call__(self) -> int:
        """Run the command; returns its exit code.

        Raises:
            SystemExit: the command was stopped, or failed for a while; what follows is the scheduler's business. The
                job has no result yet.
        """
        asked: list[int] = []
        # SLURM sends it before it preempts, cancels or drains. Whether the job starts again is decided already.
        signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))
        command = [sys.executable, *self.command[1:]] if self.command[0] == PYTHON else self.command
        child = LocalLaunch(self.grace_s).start(command, self.log, self.environment)
        _running[:] = [child]
        while (code := child.poll()) is None and not asked:
            time.sleep(POLL_S)
        if asked:
            child.stop()
            raise SystemExit(TRY_AGAIN)
        assert code is not None
        restarted = int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0
        if (code == TRY_AGAIN or (code == LOCKED and restarted)) and self.may_retry():
            requeue(os.environ["SLURM_JOB_ID"])
            raise SystemExit(TRY_AGAIN)
        if code != 0:
            atexit.register(os._exit, code)  # after the result is written: SLURM and its dependencies see the code, too
        return code

    def checkpoint(self) -> "DelayedSubmission":
        """Stop the command; returns what the next attempt does."""
        from submitit.helpers import DelayedSubmission

        for child in _running:
            child.stop()
        return DelayedSubmission(self)

    def may_retry(self) -> bool:
        """Whether a temporary failure may start another attempt; counts it."""
        if self.retries is None:
            return False
        with self.retries.open("a+b") as count:
            if count.tell() >= self.max_retries:
                return False
            count.write(b".")
        return True


def requeue(job: str) -> None:
    """Let SLURM start the job again."""
    subprocess.run(["scontrol", "requeue", job], check=True, timeout=REQUEUE_S)
