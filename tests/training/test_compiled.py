"""A killed process must not keep every later job waiting for an operator that nobody compiles any more."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from train import compiled
from train.compiled import remove_abandoned_locks, wait_for

LOADS = """
import sys
from torch.utils.cpp_extension import load
print(load("one", [sys.argv[1]]).one())
"""
"""Program that compiles an operator, as DeepSpeed does."""


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lock of an operator, as torch makes it."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    path = tmp_path / "py311_cpu" / "shm_comm" / "lock"
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def age(lock: Path, seconds: float) -> None:
    then = time.time() - seconds
    for path in (lock, lock.parent):
        os.utime(path, (then, then))


def test_a_lock_that_a_killed_process_left_is_removed(lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    age(lock, 200)
    remove_abandoned_locks()
    assert not lock.exists()
    assert f"{lock}: removed, a process that compiled shm_comm was killed" in capsys.readouterr().out


def test_a_lock_that_a_living_process_holds_is_left_however_old(lock: Path) -> None:
    age(lock, 10_000)
    with lock.open():
        remove_abandoned_locks()
        assert lock.exists()


def test_a_young_lock_may_be_another_machines_and_is_waited_for(
    lock: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compiled, "POLL_S", 0.01)
    released = threading.Timer(0.3, lock.unlink)
    released.start()
    wait_for(lock)
    assert not released.is_alive()
    assert "another machine compiles shm_comm, or a process that did was killed" in capsys.readouterr().out


def test_without_compiled_operators_there_is_nothing_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "none"))
    remove_abandoned_locks()
    assert not (tmp_path / "none").exists()


def test_a_lock_that_is_released_while_it_is_looked_at_is_gone(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "is_open", lambda path: path.unlink() is not None)
    wait_for(lock)
    assert not lock.exists()


def test_a_folder_without_locks_is_left_as_it_is(lock: Path) -> None:
    lock.unlink()
    before = sorted(lock.parents[2].rglob("*"))
    remove_abandoned_locks()
    assert sorted(lock.parents[2].rglob("*")) == before


@pytest.mark.real
def test_after_a_kill_in_torchs_compiler_the_next_process_compiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "built"))
    source = tmp_path / "one.cpp"
    source.write_text('#include <pybind11/pybind11.h>\nPYBIND11_MODULE(one, m) { m.def("one", [] { return 1; }); }\n')
    command = [sys.executable, "-P", "-c", LOADS, str(source)]
    lock = tmp_path / "built" / "one" / "lock"
    with subprocess.Popen(command) as killed:
        while not lock.exists():
            assert killed.poll() is None
            time.sleep(0.01)
        killed.kill()
    assert lock.exists(), "what every later process would wait for"
    age(lock, 200)
    remove_abandoned_locks()
    ran = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ran.stdout.split() == ["1"], ran.stderr
