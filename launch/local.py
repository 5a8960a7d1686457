"""Child processes on this machine."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LocalChild:
    guard: subprocess.Popen[bytes]
    grace_s: float

    def poll(self) -> int | None:
        return self.guard.poll()

    def stop(self) -> int:
        if self.guard.poll() is None:
            self.guard.send_signal(signal.SIGTERM)
        return self.guard.wait()


@dataclass(frozen=True)
class LocalLaunch:
    """Starts each command under `launch.guard`, so that nothing survives the supervisor."""

    grace_s: float = 20.0
    """Seconds between asking a child to end and ending it."""

    def start(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> LocalChild:
        log.parent.mkdir(parents=True, exist_ok=True)
        guarded = [sys.executable, "-P", "-m", "launch.guard", str(os.getpid()), str(self.grace_s), *command]
        with log.open("ab") as output:
            guard = subprocess.Popen(
                guarded,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        return LocalChild(guard, self.grace_s)
