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

from launch.local import LocalLaunch, wait_for_earlier_children

FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(sys.argv[1], "w").write(f"{os.getpid()} {child.pid}")
time.sleep(600)
"""
# As torch's elastic agent does: the rank gets a session of its own, and its launcher alone tells it to end.
LAUNCHER_AND_RANK = """
import os, signal, subprocess, sys, time
rank = subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1] + ".rank"], start_new_session=True)
signal.signal(signal.SIGTERM, lambda *_: (rank.send_signal(signal.SIGUSR1), rank.wait(), sys.exit(7)))
while not os.path.exists(sys.argv[1] + ".rank"):
    time.sleep(0.02)
open(sys.argv[1], "w").write(f"{os.getpid()} {rank.pid}")
"""
STUBBORN_RANK = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
open(sys.argv[1], "w").write("1")
time.sleep(600)
"""
ORDERLY_RANK = """
import signal, sys, time
asked = []
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda received, _: asked.append(signal.Signals(received).name))
open(sys.argv[1], "w").write("")
while "SIGUSR1" not in asked:
    time.sleep(0.02)
time.sleep(0.5)
open(sys.argv[1], "w").write(" ".join(asked))
"""
STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").write("1")
time.sleep(600)
"""
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="subreapers and PR_SET_PDEATHSIG are Linux's")


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


@on_linux
def test_a_rank_in_a_session_of_its_own_is_ended_after_the_grace_period(tmp_path: Path) -> None:
    program = [sys.executable, "-c", LAUNCHER_AND_RANK + "time.sleep(600)", str(tmp_path / "pids"), STUBBORN_RANK]
    child = LocalLaunch(grace_s=1).start(program, tmp_path / "log", {})
    pids = family(tmp_path / "pids")
    assert child.stop() == 128 + signal.SIGKILL
    assert all(gone(pid) for pid in pids)


@on_linux
def test_a_rank_in_a_session_of_its_own_does_not_outlive_its_launcher(tmp_path: Path) -> None:
    program = [sys.executable, "-c", LAUNCHER_AND_RANK + "sys.exit(3)", str(tmp_path / "pids"), STUBBORN_RANK]
    child = LocalLaunch(grace_s=1).start(program, tmp_path / "log", {})
    _, rank = family(tmp_path / "pids")
    wait_for(lambda: child.poll() is not None)
    assert child.poll() == 3
    assert gone(rank)


def test_a_rank_hears_of_the_end_from_its_launcher_alone_and_has_time_for_it(tmp_path: Path) -> None:
    program = [sys.executable, "-c", LAUNCHER_AND_RANK + "time.sleep(600)", str(tmp_path / "pids"), ORDERLY_RANK]
    child = LocalLaunch(grace_s=20).start(program, tmp_path / "log", {})
    family(tmp_path / "pids")
    assert child.stop() == 7
    assert (tmp_path / "pids.rank").read_text() == "SIGUSR1"


@on_linux
def test_an_orphan_that_ends_while_the_child_runs_does_not_stay_a_zombie(tmp_path: Path) -> None:
    # The middle process ends at once; the orphan writes down who its new parent is, and ends when it may.
    orphan = (
        "import os, sys, time\n"
        "while os.getppid() == int(sys.argv[2]): time.sleep(0.02)\n"
        "open(sys.argv[1], 'w').write(f'{os.getppid()} {os.getpid()}')"
    )
    middle = (
        "import os, subprocess, sys; "
        f"subprocess.Popen([sys.executable, '-c', {orphan!r}, sys.argv[1], str(os.getpid())])"
    )
    program = (
        "import subprocess, sys, time; "
        f"subprocess.run([sys.executable, '-c', {middle!r}, sys.argv[1]]); time.sleep(600)"
    )
    child = LocalLaunch(grace_s=1).start([sys.executable, "-c", program, str(tmp_path / "pids")], tmp_path / "log", {})
    parent, pid = family(tmp_path / "pids")
    assert parent == child.guard.pid
    wait_for(lambda: not psutil.pid_exists(pid))
    assert child.poll() is None
    assert child.stop() == 128 + signal.SIGTERM


@on_linux
def test_a_child_does_not_outlive_a_guard_that_is_killed(tmp_path: Path) -> None:
    child = LocalLaunch(grace_s=1).start([sys.executable, "-c", FAMILY, str(tmp_path / "pids")], tmp_path / "log", {})
    pid, grandchild = family(tmp_path / "pids")
    child.guard.kill()
    child.guard.wait()
    try:
        wait_for(lambda: gone(pid), limit_s=5)
    finally:
        os.kill(grandchild, signal.SIGKILL)  # the guard that would have done it is gone


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


def test_a_new_run_waits_for_the_children_of_a_killed_supervisor(tmp_path: Path) -> None:
    supervisor = (
        "import sys, time; from pathlib import Path; from launch.local import LocalLaunch; "
        f"launch = LocalLaunch(3, Path(sys.argv[1])); command = [sys.executable, '-c', {STUBBORN!r}]; "
        "[launch.start([*command, sys.argv[2] + name], Path(sys.argv[2] + '.log'), {}) for name in 'ab']; "
        "time.sleep(600)"
    )
    alive, note = tmp_path / "alive", str(tmp_path / "up")
    running = subprocess.Popen([sys.executable, "-P", "-c", supervisor, str(alive), note])
    wait_for(lambda: Path(note + "a").exists() and Path(note + "b").exists())
    guards = psutil.Process(running.pid).children()
    started = [child for guard in guards for child in guard.children()]
    assert len(started) == 2
    running.kill()
    running.wait()
    said: list[str] = []
    assert not wait_for_earlier_children(alive, said.append, limit_s=0.3)
    assert said == ["waiting for an earlier run's processes to end"]
    assert wait_for_earlier_children(alive, said.append, limit_s=20)
    assert all(gone(child.pid) for child in started)
    assert len(said) == 2


def test_a_new_run_does_not_wait_where_every_child_has_ended(tmp_path: Path) -> None:
    said: list[str] = []
    alive = tmp_path / "alive"
    assert wait_for_earlier_children(alive, said.append, limit_s=0)
    child = LocalLaunch(alive=alive).start([sys.executable, "-c", ""], tmp_path / "log", {})
    wait_for(lambda: child.poll() is not None)
    assert wait_for_earlier_children(alive, said.append, limit_s=0)
    assert said == []


def test_the_lock_is_the_guards_and_not_its_childs(tmp_path: Path) -> None:
    program = (
        "import os, sys; lock = os.stat(sys.argv[1]).st_ino\n"
        "for number in range(256):\n"
        "    try: print('leaked' if os.fstat(number).st_ino == lock else 'other')\n"
        "    except OSError: pass"
    )
    alive = tmp_path / "alive"
    command = [sys.executable, "-c", program, str(alive)]
    child = LocalLaunch(alive=alive).start(command, tmp_path / "log", {})
    wait_for(lambda: child.poll() is not None)
    assert child.poll() == 0
    assert set((tmp_path / "log").read_text().split()) == {"other"}
