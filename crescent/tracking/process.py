"""The separate process that reports to W&B, as the loop sees it: notified without waiting, ended in bounded time.

W&B's library has threads, sockets, a service process and exit handlers that wait for a server. In a separate process,
none of them can stop or slow down the loop, and the process can be killed.
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
"""Exit code if W&B lacks something; the process has printed what."""
NO_LOGIN = 77
"""Exit code if no account is logged in."""
GRACE_S = 1.0
"""Seconds between asking the process to end and killing it; it had `tracking.wait_s` to end by itself."""


class TrackingProcess:
    """Runs `python -m crescent.tracking` under `launch.guard`, so that no process of it survives this one."""

    def __init__(self, job: TrackingJob, say: Callable[[str], None]) -> None:
        """Start it. A thread calls `say` with each line of its output.

        Raises:
            OSError: the job file cannot be written, or the process cannot be started.
        """
        self.job = job
        root = Path(job.root)
        job_file = root / "jobs" / "tracking.yaml"
        write_job(job_file, job)
        guard = [sys.executable, "-P", "-m", "launch.guard", str(os.getpid()), str(GRACE_S)]
        command = [sys.executable, "-P", "-m", "crescent.tracking", str(job_file)]
        with (root / ALIVE).open("a+b") as alive:
            # If this process is killed, the next attempt waits for its end (`launch.local.wait_for_earlier_children`).
            flock(alive, fcntl.LOCK_SH)
            self._process = subprocess.Popen(
                [*guard, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C ends this process only, which then reports the end of the run
                env={**os.environ, "PYTHONSAFEPATH": "1"},
                pass_fds=[alive.fileno()],
            )
        assert self._process.stdin is not None
        # If it does not read, the notification is lost and nothing blocks: it uploads everything at its end anyway.
        os.set_blocking(self._process.stdin.fileno(), False)
        self._listener = threading.Thread(target=self._listen, args=(say,), daemon=True)
        self._listener.start()

    def notify(self) -> None:
        """Tell the process that a stage was finished; never waits."""
        self._write("finished\n")

    def close(self, exit_code: int) -> int:
        """Send the run's exit code, wait at most `tracking.wait_s`, then kill it. Returns the exit code of the
        process."""
        self._write(f"{exit_code}\n")
        with suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        problem = f"W&B did not receive everything within {self.job.tracking.wait_s:g} s"
        try:
            code = self._process.wait(self.job.tracking.wait_s)
            problem = f"the process that reports to W&B ended with exit code {code}"
        except subprocess.TimeoutExpired:
            self._process.terminate()
            code = self._process.wait()
        if code not in (0, INCOMPLETE, NO_LOGIN):
            print(f"{problem}; upload it later: crescent sync {self.job.root}", file=sys.stderr, flush=True)
        self._listener.join(GRACE_S)
        return code

    def _write(self, line: str) -> None:
        with suppress(OSError):  # it has ended, and printed why, or its input is full
            assert self._process.stdin is not None
            os.write(self._process.stdin.fileno(), line.encode())

    def _listen(self, say: Callable[[str], None]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            say(line.decode(errors="replace").rstrip("\n"))
