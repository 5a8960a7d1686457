"""Starts commands on the nodes of a Ray cluster (https://docs.ray.io/en/latest/ray-core/walkthrough.html).

Each command has an actor (`launch.ray_host.Host`) that holds the GPUs and CPU cores it asked for, runs it, and ends it
when this process is gone. `launch.ray_cluster` finds the cluster; this module is used inside of it.
"""

import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.in_job import PYTHON, TRY_AGAIN
from launch.ray_host import Host, Token, Work
from launch.relay import Relay

KILLED = 128 + 9
"""Exit code of a command whose node or actor was lost."""
STOPPED = 128 + 15
"""Exit code of a command that was stopped before it began."""
BESIDE_GRACE_S = 90.0
"""Seconds after the grace period in which a node must have ended a command: guards take up to 65 for freeing a GPU."""
PASSED_ON = ("CRESCENT_", "HF_", "HUGGING_FACE_", "NCCL_", "TRANSFORMERS_", "VLLM_")
"""Beginnings of the names of those variables of this process that commands on nodes get, too."""
THREADS = 4
"""Calls that an actor works on at once: one waits for the end of the command while another stops it."""


@dataclass
class RayChild:
    """A command on a node, or one that waits for a node with room."""

    launch: "RayLaunch"
    work: Work
    port: int | None
    """Port of loopback at which the command's server answers; `None` for a command that serves nothing."""
    restarts_left: int = 0
    _lock: Any = field(default_factory=threading.RLock, repr=False)
    _relay: Relay | None = None
    _code: int | None = None
    _ended: Any = None
    """Reference to the exit code; `None` before the command began."""

    def __post_init__(self) -> None:
        self._create()

    def is_placed(self) -> bool:
        return self.poll() is not None or self._ended is not None

    def poll(self) -> int | None:
        """As `ChildProcess.poll`. If a node cannot start the command, the code is 1 and the log says why."""
        with self._lock:
            if self._code is None:
                self._look()
            return self._code

    def stop(self) -> int:
        from ray.exceptions import GetTimeoutError, RayError

        with self._lock:
            if self._code is None:
                self._code = STOPPED
                if self._ended is not None:
                    import ray

                    limit = self.work.grace_s + BESIDE_GRACE_S
                    try:
                        self._code = int(ray.get(self._host.stop.remote(), timeout=limit))
                    except (RayError, GetTimeoutError):
                        self._code = KILLED
            self._release()
            return self._code

    def _create(self) -> None:
        import ray

        self._since = time.monotonic()
        self._ended = None
        self._host = (
            ray.remote(Host)
            .options(
                num_cpus=self.launch.cpus,
                num_gpus=self.launch.gpus,
                max_restarts=0,
                max_concurrency=THREADS,
                scheduling_strategy="SPREAD",
                # The guard ends what the command started, in order; Ray would kill the guard, and only that.
                runtime_env={"env_vars": {"RAY_kill_child_processes_on_worker_exit": "false"}},
            )
            .remote()
        )
        self._begun = self._host.begin.remote(self.work)

    def _look(self) -> None:
        """Find out what became of the command."""
        from ray.exceptions import ActorUnavailableError, RayActorError, RayTaskError

        try:
            if self._ended is None and self._is_ready(self._begun):
                self._begin()
            elif self._ended is None and time.monotonic() - self._since > self.launch.room_s and self.port is None:
                self._note(f"no node had {self.launch.wanted} free within launch.ray.room_s={self.launch.room_s:g}")
                self._end(TRY_AGAIN)
            if self._ended is not None and self._is_ready(self._ended):
                import ray

                self._end(int(ray.get(self._ended)))
        except ActorUnavailableError:  # for the moment: ask again
            if self._ended is not None:
                self._ended = self._host.wait.remote()
            else:
                self._lose()
        except RayActorError:
            self._lose()
        except RayTaskError as error:
            self._note(f"the node cannot start it: {error.cause!r}; is run.root on a disk that all nodes share?")
            self._end(1)

    def _begin(self) -> None:
        import ray

        host, port = ray.get(self._begun)
        if self.port is not None:
            self._relay = Relay(self.port, host, port)
        self._ended = self._host.wait.remote()

    def _lose(self) -> None:
        """The actor is gone, with its node or alone, and the command with it."""
        self._release()
        if self.restarts_left > 0:
            self.restarts_left -= 1
            self._note("its node was lost; it is started again where there is room")
            self._create()
        else:
            self._note("its node, or the process of Ray that guarded it, was lost")
            self._code = KILLED if self.port is not None else TRY_AGAIN

    def _end(self, code: int) -> None:
        self._code = code
        self._release()

    def _release(self) -> None:
        """Give the node's resources back. A guard that is left ends its command first."""
        import ray

        if self._relay is not None:
            self._relay.close()
            self._relay = None
        if ray.is_initialized():
            ray.kill(self._host)

    def _note(self, line: str) -> None:
        """Append a line to the log, which is what people are shown of a failure."""
        self.work.log.parent.mkdir(parents=True, exist_ok=True)
        with self.work.log.open("a") as log:
            log.write(f"launch.ray: {line}\n")

    def _is_ready(self, reference: Any) -> bool:
        import ray

        return bool(ray.wait([reference], timeout=0)[0])


@dataclass(frozen=True)
class RayLaunch:
    """Starts each command where these resources are free. Used while this process is connected to a cluster."""

    token: Token
    """File in the run folder."""
    cpus: float = 1.0
    """CPU cores that are reserved for a command."""
    gpus: int = 0
    grace_s: float = 45.0
    alive: Path | None = None
    room_s: float = 120.0
    restarts: int = 0
    """Number of times that a command which serves nothing is started again after its node was lost."""

    @property
    def wanted(self) -> str:
        """The resources in words."""
        gpus = f"{self.gpus} GPU{'s' if self.gpus != 1 else ''} and " if self.gpus else ""
        return f"{gpus}{self.cpus:g} CPU{'s' if self.cpus != 1 else ''}"

    def start(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> RayChild:
        """As `Launch.start`; of this process's environment a node gets the variables of `PASSED_ON`."""
        return RayChild(self, self._work(command, log, environment), None, self.restarts)

    def start_server(self, command: Sequence[str], log: Path, environment: Mapping[str, str], port: int) -> RayChild:
        """As `ServerLaunch.start_server`."""
        return RayChild(self, self._work(command, log, environment), port)

    def _work(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Work:
        words = [PYTHON, *command[1:]] if command[0] == sys.executable else list(command)
        own = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
        return Work(words, log, {**own, **environment}, self.grace_s, self.token, self.alive, os.getcwd())
