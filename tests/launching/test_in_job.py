"""What a job does with its command, without a cluster: a program stands for SLURM's `scontrol` and takes notes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("submitit")
JOB = """
import sys
from pathlib import Path
from launch.in_job import PYTHON, InJob
folder = Path(sys.argv[1])
job = InJob([PYTHON, "-c", sys.argv[2]], folder / "log", {}, grace_s=20, retries=folder / "retries", max_retries=2)
print("returned", job(), flush=True)
"""


def start(folder: Path, program: str, restarts: int = 0) -> subprocess.Popen[str]:
    commands = folder / "bin"
    commands.mkdir(exist_ok=True)
    (commands / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\n')
    (commands / "scontrol").chmod(0o755)
    own = {"PATH": f"{commands}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": str(restarts)}
    command = [sys.executable, "-c", JOB, str(folder), program]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **own})


def ended(folder: Path, program: str, restarts: int = 0) -> tuple[int, str]:
    """Exit code and output of an attempt."""
    job = start(folder, program, restarts)
    output, _ = job.communicate(timeout=100)
    return job.returncode, output.strip()


def test_a_temporary_failure_is_tried_again_a_bounded_number_of_times(tmp_path: Path) -> None:
    again = [ended(tmp_path, "raise SystemExit(75)", attempt) for attempt in range(3)]
    assert again == [(75, ""), (75, ""), (75, "returned 75")], "without a result, the job is not over"
    assert (tmp_path / "asked").read_text() == "requeue 7\nrequeue 7\n"


def test_a_lasting_failure_ends_the_job_with_its_exit_code(tmp_path: Path) -> None:
    assert ended(tmp_path, "print('too few pairs'); raise SystemExit(65)") == (65, "returned 65")
    assert (tmp_path / "log").read_text() == "too few pairs\n"
    assert not (tmp_path / "asked").exists()


def test_a_folder_in_use_is_tried_again_only_after_a_restart(tmp_path: Path) -> None:
    assert ended(tmp_path, "raise SystemExit(4)") == (4, "returned 4"), "another run is at work there"
    assert ended(tmp_path, "raise SystemExit(4)", restarts=1) == (75, ""), "the lost node's processes may be ending"


def test_a_job_that_slurm_ends_lets_its_command_end_in_order_and_leaves_no_result(tmp_path: Path) -> None:
    orderly = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('saved', flush=True), exit(75)))\n"
        "print('works', flush=True)\n"
        "time.sleep(60)\n"
    )
    job = start(tmp_path, orderly)
    deadline = time.monotonic() + 60
    while not (tmp_path / "log").exists() or "works" not in (tmp_path / "log").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    output, _ = job.communicate(timeout=60)
    assert (job.returncode, output) == (75, "")
    assert (tmp_path / "log").read_text() == "works\nsaved\n"
    assert not (tmp_path / "asked").exists(), "SLURM has decided already whether the job starts again"
