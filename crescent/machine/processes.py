"""Child processes: run to the end, with progress reported and exit codes turned back into our errors."""

import ctypes
import json
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from crescent.errors import BadConfig, CrescentError, DataSaysNo, Missing, RunLocked, SettingsChanged, TryAgain
from crescent.machine.program import ENDING
from launch import Launch

POLL_S = 0.2
ERRORS = {kind.exit_code: kind for kind in (BadConfig, SettingsChanged, RunLocked, DataSaysNo, Missing, TryAgain)}
ENDED_BY_SIGNAL = {
    128 + signal.SIGKILL: (Missing, "killed, most often because memory ran out"),
    128 + signal.SIGBUS: (TryAgain, "a file could not be read or written any more; is a disk or /dev/shm full?"),
    128 + signal.SIGXCPU: (Missing, "its limit of processor time is reached (ulimit -t)"),
    128 + signal.SIGXFSZ: (Missing, "its limit of file size is reached (ulimit -f)"),
    **{128 + number: (TryAgain, f"somebody sent it {number.name}") for number in ENDING},
}
"""Error and likely cause for the exit codes of children that a signal ended."""
PR_SET_PDEATHSIG = 1


def run_child(
    launch: Launch,
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str],
    watch: Callable[[], None] = lambda: None,
    note: Path | None = None,
) -> None:
    """Run a child process to its end and call `watch` five times a second. An interruption of this process ends it too.

    Args:
        log: File that the child's output is appended to.
        environment: Variables added to this process's own.
        note: File in which the child writes `exit_code` and `reason` when it fails: a launcher in between may lose the
            exit code.

    Raises:
        CrescentError: The child failed. The class follows from its exit code; the message is its reason, or the end of
            its log.
    """
    # Does for interpreters that a launcher starts what -P does for one: a stray train.py must not be imported.
    child = launch.start(command, log, {"PYTHONSAFEPATH": "1", **environment})
    try:
        while (code := child.poll()) is None:
            watch()
            time.sleep(POLL_S)
    finally:
        child.stop()
    if code != 0 and note is not None and note.exists():
        stopped = json.loads(note.read_text())
        raise ERRORS.get(stopped["exit_code"], CrescentError)(f"{log.stem}: {stopped['reason']}\nwhole log: {log}")
    if code != 0:
        kind, why = ENDED_BY_SIGNAL.get(code, (ERRORS.get(code, CrescentError), ""))
        because = f" ({why})" if why else ""
        raise kind(f"{log.stem} ended with exit code {code}{because}\n{last_lines(log)}\nwhole log: {log}")


def report_progress(progress: Path, report: Callable[[int, int, str], None]) -> None:
    """Report the last line of a child's progress file: `done`, `total`, and its other known numbers as one text."""
    with suppress(OSError, ValueError, IndexError):  # the file is missing, or its last line is half written
        last = json.loads(progress.read_text().splitlines()[-1])
        done, total = last.pop("done"), last.pop("total")
        known = {name.replace("_", " "): value for name, value in last.items() if value is not None}
        report(done, total, "  ".join(f"{name} {value:.4g}" for name, value in known.items()))


def last_lines(log: Path, lines: int = 12) -> str:
    """The last lines of a log; of progress bars that overwrite themselves only the last state."""
    if not log.exists():
        return f"({log} does not exist)"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 20_000))
        text = file.read().decode("utf-8", "replace")
    return "\n".join(line.rsplit("\r", 1)[-1] for line in text.split("\n")[-lines - 1 :]).strip()


def die_with_parent() -> None:
    """Let the kernel kill this process when the thread that started it ends (on Linux; elsewhere nothing happens)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
