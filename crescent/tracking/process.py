"""The process that tells W&B, as the loop sees it: told without waiting, ended in bounded time, and never missed.

W&B's library keeps threads, sockets, a service of its own and exit handlers that wait for a server. In a process apart,
none of that can stop or slow the loop, and whatever is left of it can be killed.
"""

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from crescent.config import TrackingJob, write_job
from crescent.run_folder.lock import ALIVE
from launch.local import flock

INCOMPLETE = 70
"""Its exit code when W&B lacks something; what it was is said."""
NO_LOGIN = 77
"""Its exit code when W&B knows nobody here."""
GRACE_S = 1.0
"""Seconds between asking the process to end and ending it; its own end was waited for before."""


class TrackingProcess:
    """Runs `python -m crescent.tracking` below `launch.guard`, so that nothing of it survives us."""

    def __init__(self, job: TrackingJob, say: Callable[[str], None]) -> None:
        """Start it; `say` is given its lines, from a thread.

        Raises:
            OSError: the job file cannot be written, or the process not be started.
        """
        self.job = job
        root = Path(job.root)
        job_file = root / "jobs" / "tracking.yaml"
        write_job(job_file, job)
        guard = [sys.executable, "-P", "-m", "launch.guard", str(os.getpid()), str(GRACE_S)]
        command = [sys.executable, "-P", "-m", "crescent.tracking", str(job_file)]
        with (root / ALIVE).open("a+b") as alive:
            # Should we be killed, the next attempt waits until it is gone (`launch.local.wait_for_earlier_children`).
            flock(alive, fcntl.LOCK_SH)
            self._process = subprocess.Popen(
                [*guard, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for us: it is told the run's end like any other
                env={**os.environ, "PYTHONSAFEPATH": "1"},
                pass_fds=[alive.fileno()],
            )
        assert self._process.stdin is not None
        # Should it not listen, the news is lost and not we: it looks at everything at its end, and so does a sync.
        os.set_blocking(self._process.stdin.fileno(), False)
        self._listener = threading.Thread(target=self._listen, args=(say,), daemon=True)
        self._listener.start()

    def news(self) -> None:
        """Something was finished."""
        self._write("news\n")

    def close(self, exit_code: int) -> int:
        """Tell it that the run has ended, wait `tracking.wait_s` at most, and end it. Returns its exit code."""
        self._write(f"{exit_code}\n")
        with suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        what = f"W&B did not take everything in {self.job.tracking.wait_s:g} s"
        try:
            code = self._process.wait(self.job.tracking.wait_s)
            what = f"the process that tells W&B ended with exit code {code}"
        except subprocess.TimeoutExpired:
            self._process.terminate()
            code = self._process.wait()
        if code not in (0, INCOMPLETE, NO_LOGIN):
            print(f"{what}; upload it later: crescent sync {self.job.root}", file=sys.stderr, flush=True)
        self._listener.join(GRACE_S)
        return code

    def _write(self, line: str) -> None:
        with suppress(OSError):  # it has ended, and said why, or does not listen
            assert self._process.stdin is not None
            os.write(self._process.stdin.fileno(), line.encode())

    def _listen(self, say: Callable[[str], None]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            say(line.decode(errors="replace").rstrip("\n"))
