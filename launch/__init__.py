"""Starts processes, here or elsewhere. Imports nothing else of ours, so that a stage runs the same on every machine.

Everything that is started speaks one small protocol: `launch.local` starts a child on this machine, `launch.slurm` a
job on a cluster, `launch.ray` a child on a node of a cluster. The output is always appended to a file, and the
exit code says how it ended.
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


HOST, PORT = "{host}", "{port}"
"""Words of a server's command that stand for the address and the port that it listens at, wherever it is started."""


class PlacedChild(ChildProcess, Protocol):
    """A process that was started where there is room."""

    def is_placed(self) -> bool:
        """Whether a place was found for it; until then it waits for one, and `poll` says `None`."""


class ServerLaunch(Protocol):
    """Starts servers on machines that it chooses."""

    @property
    def room_s(self) -> float:
        """Longest time that a server may wait for a place, in seconds."""

    def start_server(self, command: Sequence[str], log: Path, environment: Mapping[str, str], port: int) -> PlacedChild:
        """Start `command`, with `HOST` and `PORT` in it replaced, and make it answer at `port` of this machine's
        loopback while it lives."""
