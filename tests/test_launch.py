"""Children end when they are asked to, when they are not, and when whoever asked is gone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from launch.local import LocalLaunch

FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(sys.argv[1], "w").write(f"{os.getpid()} {child.pid}")
time.sleep(600)
"""
STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").write("1")
time.sleep(600)
"""


def wait_for(condition: Callable[[], object], limit_s: float = 20) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def family(note: Path) -> list[int]:
    wait_for(lambda: note.exists() and len(note.read_text().split()) == 2)
    return [int(pid) for pid in note.read_text().split()]


def test_exit_code_output_and_environment_come_through(tmp_path: Path) -> None:
    program = "import os, sys; print(os.environ['GREETING']); print('oops', file=sys.stderr); sys.exit(65)"
    child = LocalLaunch().start([sys.executable, "-c", program], tmp_path / "log", {"GREETING": "hello"})
    wait_for(lambda: child.poll() is not None)
    assert child.poll() == 65
    assert sorted((tmp_path / "log").read_text().split()) == ["hello", "oops"]


def test_stop_ends_the_child_and_everything_it_started(tmp_path: Path) -> None:
    child = LocalLaunch(grace_s=5).start([sys.executable, "-c", FAMILY, str(tmp_path / "pids")], tmp_path / "log", {})
    pids = family(tmp_path / "pids")
    assert child.stop() == 128 + signal.SIGTERM
    assert all(gone(pid) for pid in pids)


def test_a_child_that_will_not_end_is_ended_after_the_grace_period(tmp_path: Path) -> None:
    child = LocalLaunch(grace_s=0.3).start([sys.executable, "-c", STUBBORN, str(tmp_path / "up")], tmp_path / "log", {})
    wait_for((tmp_path / "up").exists)
    assert child.stop() == 128 + signal.SIGKILL


def test_grandchildren_do_not_outlive_a_child_that_ends_by_itself(tmp_path: Path) -> None:
    program = FAMILY.rsplit("time.sleep(600)", 1)[0]
    child = LocalLaunch(grace_s=1).start([sys.executable, "-c", program, str(tmp_path / "pids")], tmp_path / "log", {})
    _, grandchild = family(tmp_path / "pids")
    wait_for(lambda: child.poll() is not None)
    assert child.poll() == 0
    assert gone(grandchild)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_the_supervisor_is_killed(how: signal.Signals, tmp_path: Path) -> None:
    supervisor = (
        "import sys, time; from pathlib import Path; from launch.local import LocalLaunch; "
        f"LocalLaunch(grace_s=1).start([sys.executable, '-c', {FAMILY!r}, sys.argv[1]], Path(sys.argv[2]), {{}}); "
        "time.sleep(600)"
    )
    running = subprocess.Popen([sys.executable, "-P", "-c", supervisor, str(tmp_path / "pids"), str(tmp_path / "log")])
    pids = family(tmp_path / "pids")
    os.kill(running.pid, how)
    running.wait()
    wait_for(lambda: all(gone(pid) for pid in pids), limit_s=10)
