"""How a process of ours starts and ends, whatever reads its output, sends it signals, or started it."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from crescent.errors import CrescentError, DataSaysNo, Interrupted, Missing, TryAgain, known_failure
from crescent.machine.surroundings import RANKS, leave_foreign_ranks, temporary_home

PYTHON = [sys.executable, "-P", "-c"]
PRINTS = """
import sys
from crescent.machine.program import run_to_exit_code
def main():
    for number in range(2000):
        print("… line", number)
    print("… error line", file=sys.stderr)
    open(sys.argv[1], "w").write("done")
sys.exit(run_to_exit_code(main, patience_s=0.2))
"""


@pytest.mark.parametrize(
    "how",
    [
        "| head -n 1",
        "> /dev/full",
        "2> /dev/full",
        "> /dev/full 2>&1",
        ">&-",
        "2>&-",
        "<&- >&- 2>&-",
        "| true",
        "| sleep 30 & wait_for_file",
    ],
)
def test_nothing_that_reads_our_output_stops_a_program(how: str, tmp_path: Path) -> None:
    done = tmp_path / "done"
    program = tmp_path / "prints.py"
    program.write_text(PRINTS)
    shell = f"({sys.executable} -P {program} {done}; echo $? > {tmp_path}/code)"
    if how.endswith("wait_for_file"):
        line = (
            f"{shell} | sleep 30 & reader=$!; for i in $(seq 600); do test -s {tmp_path}/code && break; sleep 0.1; done"
        )
        line += "; kill $reader"
    else:
        line = f"{shell} {how}"
    subprocess.run(["bash", "-c", line], check=False, timeout=100, capture_output=True)
    assert done.read_text() == "done"
    assert (tmp_path / "code").read_text() == "0\n"


def test_a_closed_output_is_never_taken_by_a_file_of_ours(tmp_path: Path) -> None:
    program = """
import os, sys
from crescent.machine.program import run_to_exit_code
def main():
    file = open(sys.argv[1], "w")
    os.write(1, b"a library prints")
    os.write(2, b"a library complains")
sys.exit(run_to_exit_code(main))
"""
    line = f'{sys.executable} -P -c "$1" {tmp_path}/file <&- >&- 2>&-'
    assert subprocess.run(["bash", "-c", line, "bash", program], check=False).returncode == 0
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_character_that_the_locale_lacks_is_escaped(encoding: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [*PYTHON, PRINTS, str(tmp_path / "done")]
    ended = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert b"\\u2026 line 1999" in ended.stdout


def test_files_are_utf8_in_an_ascii_locale_here_and_in_child_processes(tmp_path: Path) -> None:
    program = """
import pathlib, subprocess, sys
from crescent.machine.program import run_to_exit_code
def main():
    path = pathlib.Path(sys.argv[1])
    path.write_text(chr(0x2026) + " " + chr(0xe9))
    read = "import pathlib, sys; sys.exit(pathlib.Path(sys.argv[1]).read_text() != chr(0x2026) + ' ' + chr(0xe9))"
    subprocess.run([sys.executable, "-c", read, str(path)], check=True)
sys.exit(run_to_exit_code(main))
"""
    environment = {**os.environ, "LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [*PYTHON, program, str(tmp_path / "file")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "file").read_bytes() == "… é".encode()


def test_a_pager_that_reads_slowly_gets_everything_from_a_command(tmp_path: Path) -> None:
    program = PRINTS.replace(", patience_s=0.2", "")
    line = f'{sys.executable} -P -c "$1" {tmp_path}/done | (sleep 3; cat)'
    ended = subprocess.run(["bash", "-c", line, "bash", program], capture_output=True, text=True, check=False)
    assert ended.stdout.splitlines()[-1] == "… line 1999"


LAST_WORDS = "error: interrupted by SIGTERM; to resume, run the same command again"
SLEEPS = """
import sys, time
from crescent.machine.program import run_to_exit_code
def main():
    print("ready", flush=True)
    time.sleep(60)
sys.exit(run_to_exit_code(main))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR2])
def test_a_signal_ends_a_program_with_75_and_one_line(number: signal.Signals) -> None:
    usual = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)"  # the tests themselves may run under nohup
    with subprocess.Popen(
        [*PYTHON, usual + SLEEPS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        program.send_signal(number)
        _, said = program.communicate(timeout=60)
    assert program.returncode == 75
    assert said == f"error: interrupted by {number.name}; to resume, run the same command again\n"


def test_nohup_is_respected() -> None:
    nohup = ["bash", "-c", 'trap "" HUP; exec "$@"', "bash"]
    with subprocess.Popen([*nohup, *PYTHON, SLEEPS], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        program.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert program.poll() is None
        program.send_signal(signal.SIGTERM)
        assert program.wait(60) == 75


@pytest.mark.parametrize("module", ["crescent.loop", "eval", "train"])
def test_a_signal_during_the_imports_ends_a_program_with_75(module: str, tmp_path: Path) -> None:
    """The module that the program imports first sends the signal."""
    slow = {"crescent.loop": "hydra", "eval": "hydra", "train": "omegaconf"}[module]
    (tmp_path / f"{slow}.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(9)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-P", "-m", module, "+experiment=smoke"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd="/")
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (75, LAST_WORDS)


def test_a_second_signal_while_the_first_is_reported_changes_nothing() -> None:
    program = """
import os, signal, sys
from crescent.machine.program import run_to_exit_code, undisturbed
def main():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        with undisturbed():
            os.kill(os.getpid(), signal.SIGINT)
            print("recorded", flush=True)
class Slow:
    def write(self, text):
        os.kill(os.getpid(), signal.SIGINT)
        sys.__stderr__.write(text)
    def flush(self):
        os.kill(os.getpid(), signal.SIGTERM)
def all():
    sys.stderr = Slow()
    main()
sys.exit(run_to_exit_code(all))
"""
    ended = subprocess.run([*PYTHON, program], capture_output=True, text=True, check=False)
    assert ended.returncode == 75
    assert ended.stdout == "recorded\n"
    assert ended.stderr == "error: interrupted by SIGINT; to resume, run the same command again\n"


def test_modules_in_the_working_folder_are_not_taken_for_ours(tmp_path: Path) -> None:
    for path in ("launch.py", "hydra_plugins.py", "conf/__init__.py", "msgspec.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text('open("executed", "a").write(__file__)\nraise SystemExit(7)\n')
    (tmp_path / "msgspec.py").unlink()
    for before in ("", f"{tmp_path}:"):
        environment = {**os.environ, "PYTHONPATH": before}
        command = [sys.executable, "-m", "crescent.loop", "+experiment=smoke", "mode=plan"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
        assert ended.returncode == 0, ended.stderr
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("value", ["3", ""])
def test_ranks_of_a_cluster_are_forgotten_unless_torch_launched_us(value: str) -> None:
    cluster = dict.fromkeys((*RANKS, "SLURM_NODEID", "NODE_RANK"), value)
    leave_foreign_ranks(cluster)
    assert cluster == {"SLURM_NODEID": value, "NODE_RANK": value}
    ours = {"RANK": "1", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none"}
    kept = dict(ours)
    leave_foreign_ranks(kept)
    assert kept == ours


@pytest.mark.skipif(os.getuid() != 0, reason="only root may run a program as an unknown user")
def test_a_user_without_home_and_name_gets_a_folder_for_caches() -> None:
    program = """
import getpass, os, sys
from crescent.machine.cache import cache_folder
from crescent.machine.program import run_to_exit_code
os.setgid(54321)
os.setuid(54321)
def main():
    cache_folder().mkdir(parents=True, exist_ok=True)
    print(getpass.getuser(), cache_folder())
sys.exit(run_to_exit_code(main))
"""
    temporary = Path(tempfile.mkdtemp(prefix="crescent-test-"))
    temporary.chmod(0o777)
    try:
        for home in ({}, {"HOME": "/"}):
            environment = {"PATH": os.environ["PATH"], "TMPDIR": str(temporary), **home}
            ended = subprocess.run([*PYTHON, program], capture_output=True, text=True, check=False, env=environment)
            assert ended.returncode == 0, ended.stderr
            user, cache = ended.stdout.split()
            assert user == "user54321"
            assert Path(cache).is_relative_to(temporary)
            assert (temporary / "crescent-54321").stat().st_mode & 0o777 == 0o700
    finally:
        shutil.rmtree(temporary)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to somebody else")
def test_a_cache_that_somebody_else_planted_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    planted = tmp_path / f"crescent-{os.getuid()}"
    planted.mkdir(mode=0o777)
    os.chown(planted, 54321, 54321)
    assert temporary_home() != planted
    planted.rmdir()
    assert temporary_home() == planted == temporary_home()


MACHINE = {
    TryAgain: ("EIO", "ESTALE", "ENOTCONN", "ETIMEDOUT", "EAGAIN", "ENFILE", "ENOSPC", "EDQUOT", "EROFS", "ENOLCK"),
    Missing: ("EMFILE", "ENOMEM", "EFBIG", "EACCES", "EPERM"),
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in MACHINE.items() for name in names])
def test_an_error_of_the_machine_is_explained_with_a_fix(kind: type[CrescentError], name: str) -> None:
    number = getattr(errno, name)
    error = OSError(number, os.strerror(number), "/data/runs/a/file")
    wrapped = RuntimeError("the save failed")
    wrapped.__cause__ = error
    rust = RuntimeError(f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})")
    for raised in (error, wrapped, ExceptionGroup("tasks", [ExceptionGroup("inner", [error])]), rust):
        found = known_failure(raised)
        assert type(found) is kind
        assert os.strerror(number) in str(found)
        assert "run the same command again" in str(found)
        assert "\n" not in str(found)
    assert "/data/runs/a/file" in str(known_failure(error))


def test_memory_and_torchs_disk_errors_are_the_machines() -> None:
    assert type(known_failure(MemoryError())) is Missing
    assert type(known_failure(RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos"))) is TryAgain
    assert type(known_failure(RuntimeError("can't start new thread"))) is TryAgain


def test_a_bug_stays_a_bug() -> None:
    for error in (KeyError("x"), ValueError("[Errno 2]"), TypeError("(os error 28)"), FileNotFoundError(2, "no", "x")):
        assert known_failure(error) is None
    assert known_failure(ExceptionGroup("tasks", [KeyError("x")])) is None


def test_an_interruption_and_our_own_error_come_before_the_machines() -> None:
    disk, ours = OSError(errno.EIO, "I/O error"), DataSaysNo("no question")
    assert known_failure(ExceptionGroup("tasks", [disk, ours])) is ours
    both = BaseExceptionGroup("tasks", [disk, ours, Interrupted("SIGTERM")])
    assert "SIGTERM" in str(known_failure(both))


def test_a_trainer_records_an_error_of_the_machine_for_the_supervisor(tmp_path: Path) -> None:
    from crescent.config import ModelConfig, TrainConfig, TrainJob
    from train.job import attempt

    unreadable = "/proc/self/mem"  # reading its first byte is an I/O error
    with pytest.raises(OSError, match="Input/output error"):
        attempt(TrainJob(ModelConfig(path="m"), TrainConfig(), pairs=unreadable, output=str(tmp_path)))
    stopped = json.loads((tmp_path / "stopped.json").read_text())
    assert stopped["exit_code"] == 75
    assert "Input/output error" in stopped["reason"]
