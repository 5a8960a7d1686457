"""File systems without locks, or on which folders cannot be synced. The C library is made to fail as theirs does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

WORKS = """
import sys
from pathlib import Path
from crescent.machine.disk import file_lock, whole_folder, write_whole
from crescent.run_folder.lock import only_supervisor
from launch.local import LocalLaunch, wait_for_earlier_children
root = Path(sys.argv[1])
with only_supervisor(root):
    assert wait_for_earlier_children(root / "alive", print, limit_s=0)
    launched = LocalLaunch(1.0, root / "alive").start(["true"], root / "log", {})
    with file_lock(root / "lock") as locked, whole_folder(root / "folder") as draft:
        (draft / "file").write_text("content")
    for _ in range(3):
        write_whole(root / "file", b"content")
    launched.stop()
print("locked" if locked else "not locked")
"""


def work(library: Path, folder: Path, **failures: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LD_PRELOAD": str(library), **failures}
    command = [sys.executable, "-P", "-c", WORKS, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize("number", ["37", "95", "22"])
def test_without_locks_a_run_goes_on_with_one_warning(number: str, faulty_libc: Path, tmp_path: Path) -> None:
    ended = work(faulty_libc, tmp_path, FAIL_FLOCK=number)
    assert (ended.returncode, ended.stdout) == (0, "not locked\n"), ended.stderr
    assert ended.stderr.count("warning") == 1
    assert "no locks" in ended.stderr


@pytest.mark.parametrize("number", ["22", "95", "9"])
def test_without_synced_folders_a_run_goes_on_with_one_warning(number: str, faulty_libc: Path, tmp_path: Path) -> None:
    ended = work(faulty_libc, tmp_path, FAIL_FOLDER_SYNC=number)
    assert (ended.returncode, ended.stdout) == (0, "locked\n"), ended.stderr
    assert ended.stderr.count("warning") == 1
    assert "cannot say when folders are on the disk" in ended.stderr
    assert (tmp_path / "folder" / "file").read_text() == "content"


def test_an_error_of_the_disk_while_a_folder_is_synced_is_no_oddity(faulty_libc: Path, tmp_path: Path) -> None:
    ended = work(faulty_libc, tmp_path, FAIL_FOLDER_SYNC="5")
    assert ended.returncode != 0
    assert "Input/output error" in ended.stderr


def test_without_locks_a_second_supervisor_on_this_machine_is_still_noticed(faulty_libc: Path, tmp_path: Path) -> None:
    second = "from crescent.run_folder.lock import only_supervisor as o\nfrom pathlib import Path\nimport sys\n"
    second += "with o(Path(sys.argv[1])): print('inside')"
    first = f"{second}; import time; sys.stdout.flush(); time.sleep(60)"
    environment = {**os.environ, "LD_PRELOAD": str(faulty_libc), "FAIL_FLOCK": "37"}
    command = [sys.executable, "-P", "-c"]
    with subprocess.Popen([*command, first, tmp_path], stdout=subprocess.PIPE, text=True, env=environment) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "inside\n"
        ended = subprocess.run(
            [*command, second, tmp_path], capture_output=True, text=True, check=False, env=environment
        )
        holder.kill()
    assert "RunLocked" in ended.stderr
    assert str(holder.pid) in ended.stderr
