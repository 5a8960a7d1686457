"""Where child processes run. Imports nothing of ours, so that a stage runs the same on every kind of machine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol


class ChildProcess(Protocol):
    """A started stage."""

    def poll(self) -> int | None:
        """Exit code, or `None` while it runs. A child that a signal ended has 128 plus the signal's number."""

    def stop(self) -> int:
        """Ask it to end, end it and everything it started after the grace period, and return the exit code."""


class Launch(Protocol):
    """Starts stages."""

    def start(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> ChildProcess:
        """Start `command`, its output appended to `log`, with `environment` added to this process's own."""
