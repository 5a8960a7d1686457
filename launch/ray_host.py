"""What a node of a Ray cluster does for the loop: run one command, or say what it sees of the run folder.

Ray creates a `Host` in a process of its own on a node. The command runs under `launch.guard`, which ends it and all it
started when that process is gone: with the driver, or at a word of the driver.
"""

import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from launch import HOST, PORT
from launch.in_job import PYTHON
from launch.local import LocalChild, LocalLaunch

POLL_S = 0.2


class NotShared(Exception):
    """The node does not see the run folder; the message says what it sees."""


@dataclass(frozen=True)
class Token:
    """A file with a random word, by which a node shows that it sees the run folder."""

    path: Path
    word: str

    def check(self) -> None:
        """Raises `NotShared` unless this machine reads the same word."""
        try:
            found = self.path.read_text()
        except OSError as error:
            raise NotShared(f"{type(error).__name__}: {error}") from error
        if found != self.word:
            raise NotShared(f"{self.path} is another file there")


@dataclass(frozen=True)
class Work:
    """A command for a node."""

    command: Sequence[str]
    """Words; `PYTHON` in first place stands for the node's own Python, `HOST` and `PORT` for where a server listens."""
    log: Path
    """File in the run folder that the output is appended to."""
    environment: Mapping[str, str]
    grace_s: float
    token: Token
    alive: Path | None = None
    """File that stays locked while the command is alive (`launch.local.LocalLaunch`)."""
    folder: str = ""
    """Working directory, if the node has it."""


class Host:
    """One command on this node. Ray calls the methods from several threads."""

    def __init__(self) -> None:
        self._child: LocalChild | None = None
        self._port: socket.socket | None = None

    def begin(self, work: Work) -> tuple[str, int]:
        """Start the command; returns the address and the port that it was told to listen at.

        Raises:
            NotShared: this node does not see the run folder.
        """
        work.token.check()
        with suppress(OSError):
            os.chdir(work.folder)
        address, port = self._reserve()
        known = {HOST: address, PORT: str(port)}
        command = [known.get(word, word) for word in work.command]
        if command[0] == PYTHON:
            command[0] = sys.executable
        self._child = LocalLaunch(work.grace_s, work.alive).start(command, work.log, work.environment)
        return address, port

    def wait(self) -> int:
        """Exit code of the command, when it has ended."""
        assert self._child is not None, "begin comes first"
        while (code := self._child.poll()) is None:
            time.sleep(POLL_S)
        return code

    def stop(self) -> int:
        """Ask the command to end, kill what is left after the grace period, and return the exit code."""
        assert self._child is not None, "begin comes first"
        self._child.stop()
        return self.wait()

    def _reserve(self) -> tuple[str, int]:
        """This node's address and a free port of it, kept for us: a server that reuses addresses can still listen."""
        import ray

        address: str = ray.util.get_node_ip_address()
        self._port = socket.socket()
        self._port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._port.bind((address, 0))
        return address, self._port.getsockname()[1]


def look(token: Token) -> str:
    """What is wrong with the run folder as this node sees it; empty if nothing is."""
    try:
        token.check()
    except NotShared as error:
        return str(error)
    return ""
