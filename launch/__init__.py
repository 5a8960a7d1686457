"""Starts processes, here or elsewhere. Imports nothing else of ours, so that a stage runs the same on every machine.

Everything that is started speaks one small protocol: `launch.local` starts a child on this machine, `launch.slurm` a
job on a cluster. In both cases the output is appended to a file, and the exit code says how it ended.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol


class ChildProcess(Protocol):
    """A process that was started."""

    def poll(self) -> int | None:
        """Exit code; `None` while the process runs; 128 plus the signal's number if a signal ended it."""

    def stop(self) -> int:
        """Ask the process to end, kill it and everything it started after the grace period, and return the exit
        code."""


class Launch(Protocol):
    """Starts processes."""

    def start(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> ChildProcess:
        """Start `command`. Its output is appended to `log`; `environment` is added to this process's own."""
