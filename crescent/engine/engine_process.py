"""One engine as a child process: started, waited for, stopped."""

import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from crescent.config import EngineKind, ModelConfig, ServingConfig, TrainConfig
from crescent.engine.client import PLAIN_SAMPLING, PLAIN_SAMPLING_OF_VLLM, EngineDied
from crescent.engine.connection import Connection
from crescent.engine.failure import explain_failure
from crescent.engine.placement import Seat
from crescent.engine.vllm_command import runs_on_cpu, vllm_command, vllm_environment
from crescent.errors import CrescentError, Missing, TryAgain
from launch import ChildProcess, Launch

BY_SIGNAL = 128
"""Exit codes above it stand for a signal: 128 plus its number."""


@dataclass(frozen=True)
class Setup:
    """What all replicas of a run have in common."""

    serving: ServingConfig
    model: ModelConfig
    train: TrainConfig
    launch: Launch
    name: str
    """Name of the run, under which complete weights are served unless they are a base beside adapters."""
    key: str


class EngineProcess:
    """An engine on a port of its own, which stays the same when it is started again: clients know it."""

    def __init__(self, setup: Setup, seat: Seat, log: Path, say: Callable[[str], None]) -> None:
        self.setup = setup
        self.seat = seat
        self.log = log
        self.say = say
        self._port = reserve_port()
        self.connection = Connection(f"http://127.0.0.1:{self._port.getsockname()[1]}/v1", setup.key)
        self._child: ChildProcess | None = None
        self._log_begin = 0
        """Size of the log, in bytes, before the process was started."""
        self._asked_to_stop = threading.Event()
        """Set while it must not run, so that a start in another thread gives up."""

    @property
    def runs(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self, weights: str, name: str) -> None:
        """Start the engine with complete weights under a name, and wait until it answers.

        Raises:
            Missing: it ended instead; the message says why.
            TryAgain: it took too long, or was stopped meanwhile.
        """
        self._end()
        self._give_up_if_stopped()
        began = time.monotonic()
        self.say(f"the engine starts; its log is {self.log}")
        setup, port = self.setup, self._port.getsockname()[1]
        if setup.serving.engine is EngineKind.vllm:
            lora, on_cpu = setup.train.lora, runs_on_cpu()
            command = vllm_command(setup.serving, setup.model, lora, weights, name, port, on_cpu)
        else:
            command = [sys.executable, "-P", "-m", "crescent.engine.fakes", "serve", weights, str(port), name]
        self._log_begin = self.log.stat().st_size if self.log.exists() else 0
        environment = vllm_environment(setup.serving, setup.key, self.seat.gpus, self.seat.cores)
        self._child = setup.launch.start(command, self.log, environment)
        self._wait_until_it_answers(name)
        self.say(f"the engine answers after {time.monotonic() - began:.0f} s")

    def stop(self) -> None:
        """Stop the engine and all its processes; it is not started again before `permit`."""
        self._asked_to_stop.set()
        self._end()

    def permit(self) -> None:
        """Let it be started (again)."""
        self._asked_to_stop.clear()

    def failure(self) -> str:
        """What the log says about errors since the process was started, and its last lines."""
        return explain_failure(self.log, self._log_begin)

    def completes(self, model: str) -> bool:
        """Whether a request gets a completion: a server can list its models with a dead engine behind it."""
        asked = {"model": model, "prompt": "1", "max_tokens": 1, "temperature": 0}
        body = {**asked, **PLAIN_SAMPLING, **PLAIN_SAMPLING_OF_VLLM}
        try:
            self.connection.post("/v1/completions", body)
        except CrescentError:
            return False
        return True

    def _wait_until_it_answers(self, model: str) -> None:
        deadline = time.monotonic() + self.setup.serving.start_timeout_s
        while time.monotonic() < deadline:
            self._give_up_if_stopped()
            code = None if self._child is None else self._child.poll()
            if code is not None:
                self._end()
                if BY_SIGNAL < code < BY_SIGNAL + signal.NSIG:
                    name = signal.strsignal(code - BY_SIGNAL)
                    raise EngineDied(f"the engine was ended by a signal while it started ({name}): {self.failure()}")
                raise Missing(f"the engine failed to start (exit code {code}): {self.failure()}")
            if self.completes(model):
                return
            time.sleep(0.2)
        self._end()
        limit = f"serving.start_timeout_s={self.setup.serving.start_timeout_s:g}"
        late = f"the engine gave no completion within {limit}; raise that if it was still loading"
        raise TryAgain(f"{late}\n{self.failure()}")

    def _give_up_if_stopped(self) -> None:
        if self._asked_to_stop.is_set():
            self._end()
            raise TryAgain(f"the engine was stopped while it started; its log is {self.log}")

    def _end(self) -> None:
        child = self._child
        if child is not None:
            child.stop()
            self._child = None


def reserve_port() -> socket.socket:
    """A socket that keeps a free port of loopback for us. A server that reuses addresses, as all of ours do, can still
    listen there (https://man7.org/linux/man-pages/man7/socket.7.html, SO_REUSEADDR)."""
    port = socket.socket()
    port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    port.bind(("127.0.0.1", 0))
    return port
