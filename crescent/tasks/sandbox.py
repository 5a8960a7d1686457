"""Run untrusted programs: with limits on time and memory, and without access to anything outside.

A program can compute and report. It cannot open, write or delete a file, see the environment, use the network, start or
signal a process, or outlive the supervisor: the kernel refuses that (`crescent.tasks.sandbox_server`), whatever Python
code it consists of. Where the kernel cannot enforce this, no program is run.

A program's report is not proof. A program passes no test by what it returns, prints or how it exits; but one that
searches the interpreter, which it shares with the tests, for the secret of its report could forge the report. So a
report may cost a vote or an item, and nothing else.
"""

import json
import os
import queue
import secrets
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from crescent.errors import Missing, TryAgain
from crescent.tasks.sandbox_server import ENDED, KILLED, OUT_OF_MEMORY, TIMED_OUT, UNPROTECTED

LONGEST_PROGRAM = 50_000
"""Characters of the longest program that is run."""
WALL_FACTOR, WALL_S = 4.0, 5.0
"""A waiting program uses no CPU: it is killed after `WALL_FACTOR` x its CPU seconds + `WALL_S` seconds on the clock."""
START_S = 60.0
"""Time limit for the start of a fork server, in seconds."""
NEEDED = "task=code runs programs under seccomp"

Status = Literal["ok", "error", "timeout", "memory", "killed"]
ENDINGS: dict[bytes, Status] = {TIMED_OUT: "timeout", OUT_OF_MEMORY: "memory", KILLED: "killed"}


@dataclass(frozen=True)
class Outcome:
    """How one program ended, and what it returned."""

    status: Status
    """`error`: no program, no function in it, or its top level raised. `killed`: crashed, or reported too much."""
    outputs: tuple[str, ...] = ()
    """If `ok`: the canonical return value of each call, or `!` and the name of the exception it raised."""

    @property
    def decided(self) -> bool:
        """Whether the program ended by itself, and was not stopped by a limit or a crash."""
        return self.status in ("ok", "error")


class Report(msgspec.Struct):
    """What the process of a program writes at its end."""

    status: Literal["ok", "error"]
    outputs: tuple[str, ...] = ()


class Sandbox:
    """A context manager whose methods may be called from several threads at once.

    Each of the `workers` is a fork server that runs one program at a time, in a fresh process with hashes and `random`
    seeded, so that a program returns the same values every time.
    """

    def __init__(self, timeout_s: float, memory_mib: int, workers: int = 2) -> None:
        """Limits of one program: CPU seconds for all its calls together, and its address space in MiB."""
        self.timeout_s = timeout_s
        self.memory_mib = memory_mib
        self._servers = [ForkServer() for _ in range(workers)]
        self._free: queue.SimpleQueue[ForkServer] = queue.SimpleQueue()
        self._opened = False
        self._closed = threading.Event()

    def __enter__(self) -> "Sandbox":
        """Raises `Missing` where programs cannot be confined: before a round rather than in the middle of it."""
        self._opened = True
        try:
            for server in self._servers:
                server.start()
                self._free.put(server)
            self.parses("def probe(): pass")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End everything. A program under way in another thread counts as killed."""
        self._closed.set()
        for server in self._servers:
            server.kill()

    def run(self, program: str, calls: Sequence[str]) -> Outcome:
        """Call the program's function `solve`, or its last function if none has that name, once for each of `calls`.

        Args:
            calls: One tuple of arguments for each call, in Python's notation: `([1, 2], 3)`. Literals only.
        """
        return self._ask(program, {"calls": list(calls)})

    def test(self, program: str, tests: str) -> Outcome:
        """Run the tests, usually asserts, after the program in its namespace; `ok` when they run to their end."""
        return self._ask(program, {"tests": tests})

    def parses(self, program: str) -> bool:
        """Whether the text is Python and defines a function. It is only parsed, which alone can crash a process."""
        return self._ask(program, {}).status == "ok"

    def _ask(self, program: str, what: Mapping[str, Any]) -> Outcome:
        if len(program) > LONGEST_PROGRAM:
            return Outcome("error")
        nonce = secrets.token_hex(16)
        wall_s = WALL_FACTOR * self.timeout_s + WALL_S
        limits = {"cpu_s": self.timeout_s, "wall_s": wall_s, "memory_mib": self.memory_mib}
        # Not by msgspec, which refuses the lone surrogates that a model may write.
        request = json.dumps({"program": program, "nonce": nonce, **limits, **what}).encode()
        answer = self._answer(request, wall_s + START_S)
        ending, written = answer[:1], answer[1:]
        if ending == UNPROTECTED:
            raise Missing(f"{NEEDED}, and this kernel or container refuses to load a filter; allow seccomp in it")
        if ending == ENDED:
            return read_report(written, nonce, len(what.get("calls", ())))
        return Outcome(ENDINGS[ending])

    def _answer(self, request: bytes, limit_s: float) -> bytes:
        if not self._opened:
            raise RuntimeError("this Sandbox is not open; run programs inside its `with` block")
        server = self._free.get()
        try:
            for _ in range(2):
                answer = server.ask(request, limit_s)
                if answer is not None:
                    return answer
                if self._closed.is_set():
                    return KILLED
                server.kill()  # it was ended or stopped from outside
                server.start()
                if self._closed.is_set():
                    server.kill()
                    return KILLED
        except BaseException:
            server.kill()  # a late answer would be taken for the answer to the next request
            raise
        finally:
            self._free.put(server)
        raise TryAgain(
            "the processes that run programs are being killed from outside, probably for lack of memory; free some and "
            "run the same command again"
        )


class ForkServer:
    """The supervisor's side of one `crescent.tasks.sandbox_server`, for one thread at a time; any may call `kill`."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._using = threading.Lock()

    def start(self) -> None:
        """Raises `Missing` where programs cannot be confined."""
        if sys.platform != "linux":
            raise Missing(f"{NEEDED}, which only Linux has; run this task on Linux")
        # Only those variables that the interpreter may need to find its libraries.
        environment = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
        environment |= {"PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-s", "-P", "-m", "crescent.tasks.sandbox_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches the supervisor only; and the whole group can be killed
        )
        with self._using:
            complaint = receive(self._process, START_S)
        if complaint is None:
            raise TryAgain(
                "the process that runs programs ended at its start, probably for lack of memory; free some and run the "
                "same command again"
            )
        if complaint:
            fix = "pip install pyseccomp" if b"NotFound" in complaint else "apt install libseccomp2"
            raise Missing(f"{NEEDED} ({complaint.decode(errors='replace')}): {fix}")

    def ask(self, request: bytes, limit_s: float) -> bytes | None:
        """The server's answer; `None` when it has died or has not answered within `limit_s` seconds."""
        with self._using:
            process = self._process
            if process is None or process.stdin is None:
                return None
            try:
                process.stdin.write(struct.pack("!I", len(request)))
                view = memoryview(request)
                while view:
                    view = view[process.stdin.write(view) or 0 :]
            except BrokenPipeError:
                return None
            return receive(process, limit_s)

    def kill(self) -> None:
        """End the server and the program it runs. A thread that waits in `ask` gets `None`."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        with self._using:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process = None


def receive(process: subprocess.Popen[bytes], limit_s: float) -> bytes | None:
    """One frame; `None` when the process ends or `limit_s` seconds have passed."""
    assert process.stdout is not None
    descriptor, deadline, received = process.stdout.fileno(), time.monotonic() + limit_s, b""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while len(received) < 4 or len(received) < 4 + struct.unpack("!I", received[:4])[0]:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not poll.poll(1000 * left_s):
            return None
        chunk = os.read(descriptor, 65536)
        if not chunk:
            return None
        received += chunk
    return received[4:]


def read_report(written: bytes, nonce: str, calls: int) -> Outcome:
    """The outcome in what a program's process wrote; `error` for anything but a report on this number of calls."""
    if not secrets.compare_digest(written[: len(nonce)], nonce.encode()):
        return Outcome("error")
    try:
        report = msgspec.json.decode(written[len(nonce) :], type=Report)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Outcome("error")
    whole = report.status == "ok" and len(report.outputs) == calls
    return Outcome("ok", report.outputs) if whole else Outcome("error")
