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
from crescent.engine.vllm_command import CPU_CORES, runs_on_cpu, vllm_command, vllm_environment
from crescent.errors import CrescentError, Missing, TryAgain
from launch import HOST, PORT, ChildProcess, Launch, ServerLaunch

BY_SIGNAL = 128
"""Exit codes above it stand for a signal: 128 plus its number."""


class NoRoom(TryAgain):
    """No machine has room for the engine now."""


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
        self._must_not_wait = threading.Event()
        """Set while a start in another thread must not wait for a machine with room."""

    @property
    def runs(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self, weights: str, name: str) -> None:
        """Start the engine with complete weights under a name, and wait until it answers.

        Raises:
            Missing: it ended instead; the message says why.
            NoRoom: no machine has room for it.
            TryAgain: it took too long, or was stopped meanwhile.
        """
        self._end()
        self._give_up_if_stopped()
        began = time.monotonic()
        self.say(f"the engine starts; its log is {self.log}")
        self._log_begin = self.log.stat().st_size if self.log.exists() else 0
        environment = vllm_environment(self.setup.serving, self.setup.key, self.seat.gpus, self.seat.cores)
        port = self._port.getsockname()[1]
        if self.seat.launch is None:
            self._child = self.setup.launch.start(self._command(weights, name, str(port)), self.log, environment)
        else:
            environment.pop(CPU_CORES, None)  # those of this machine
            self._find_room(self.seat.launch, self._command(weights, name, PORT, HOST), environment, port)
        self._wait_until_it_answers(name)
        self.say(f"the engine answers after {time.monotonic() - began:.0f} s")

    def hurry(self, must_not_wait: bool) -> None:
        """Whether a start gives up at once if no machine has room."""
        (self._must_not_wait.set if must_not_wait else self._must_not_wait.clear)()

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

    def _command(self, weights: str, name: str, port: str, host: str = "127.0.0.1") -> list[str]:
        setup = self.setup
        if setup.serving.engine is EngineKind.vllm:
            lora, on_cpu = setup.train.lora, runs_on_cpu()
            return vllm_command(setup.serving, setup.model, lora, weights, name, port, on_cpu, host)
        return [sys.executable, "-P", "-m", "crescent.engine.fakes", "serve", weights, port, name, host]

    def _find_room(self, launch: ServerLaunch, command: list[str], environment: dict[str, str], port: int) -> None:
        """Start the engine on a machine that has room.

        Raises:
            NoRoom: none has, for as long as the launch waits.
        """
        deadline = time.monotonic() + launch.room_s
        child = self._child = launch.start_server(command, self.log, environment, port)
        while not child.is_placed():
            self._give_up_if_stopped()
            if self._must_not_wait.is_set() or time.monotonic() > deadline:
                self._end()
                raise NoRoom(f"no machine has had room for the engine for {launch.room_s:g} s; its log is {self.log}")
            time.sleep(0.2)

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
