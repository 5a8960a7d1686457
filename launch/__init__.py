"""Starts child processes. Imports nothing else of ours, so that a stage runs the same on every kind of machine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol


class ChildProcess(Protocol):
    """A child process that was started."""

    def poll(self) -> int | None:
        """Exit code; `None` while the child runs; 128 plus the signal's number if a signal ended it."""

    def stop(self) -> int:
        """Ask the child to end, kill it and everything it started after the grace period, and return the exit code."""


class Launch(Protocol):
    """Starts child processes."""

    def start(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> ChildProcess:
        """Start `command`. Its output is appended to `log`; `environment` is added to this process's own."""
