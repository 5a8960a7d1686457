"""Settings of a job: what sbatch would get, and what is refused before it is asked."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from crescent.config import SlurmConfig, minutes_of
from crescent.errors import BadConfig
from launch.slurm import JobState, own_words

SMOKE = (sys.executable, "-P", "-m", "crescent.loop", "+experiment=smoke", "launch=slurm")


def smoke(folder: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    """A run on a machine without SLURM."""
    return subprocess.run(
        [*SMOKE, f"run.root={folder}", *settings],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": str(folder)},
        check=False,
        timeout=250,
    )


def test_a_machine_without_slurm_is_named_as_such(tmp_path: Path) -> None:
    ended = smoke(tmp_path)
    assert ended.returncode == 69
    assert "launch=slurm: sbatch, srun, squeue, scancel, scontrol not found" in ended.stderr
    assert not any(tmp_path.iterdir()), "nothing is left behind"


def test_the_plan_shows_the_script_that_sbatch_would_get(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    resources = ("partition=gpus", "account=me", "time=2-00:00:00", "nodes=2", "gpus=8", "cpus=64", "memory_gib=512")
    others = (
        "+launch.slurm.sbatch.qos=high",
        "+launch.slurm.sbatch.exclusive=true",
        "launch.slurm.setup=[module load cuda]",
    )
    planned = smoke(tmp_path, "mode=plan", *(f"launch.slurm.{setting}" for setting in resources), *others)
    assert planned.returncode == 0, planned.stderr
    options = set(re.findall(r"#SBATCH --(\S+)", planned.stdout))
    assert options >= {"partition=gpus", "account=me", "time=2880", "nodes=2", "gpus-per-node=8", "cpus-per-task=64"}
    assert options >= {"mem=512G", "qos=high", "exclusive", "requeue", "signal=USR2@120", "open-mode=append"}
    assert planned.stdout.index("\nmodule load cuda\n") < planned.stdout.index("\nsrun ")
    assert "srun --unbuffered" in planned.stdout
    assert "--nodes=1 --ntasks=1 --cpus-per-task=64" in planned.stdout, "one loop, on the first node"
    assert not any(tmp_path.iterdir()), "a plan makes nothing"


@pytest.mark.parametrize(
    ("time", "minutes"), [("0:30:00", 30), ("12:00:00", 720), ("2-00:00:00", 2880), ("1-01:00:01", 1501)]
)
def test_time_limits_are_read_as_slurm_reads_them(time: str, minutes: int) -> None:
    assert minutes_of(time) == minutes


@pytest.mark.parametrize("time", ["90", "43200", "12h", "1:00", "1-12", "12:60", "-1:00:00", ""])
def test_a_time_limit_that_could_mean_something_else_is_refused(time: str) -> None:
    with pytest.raises(BadConfig, match=r"launch.slurm.time=.*write \[days-\]hours:minutes:seconds"):
        SlurmConfig(time=time)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"time": "0:01:00"}, "launch.slurm.time=0:01:00: must be longer than launch.slurm.signal_s=120"),
        ({"gpus": 0}, "launch.slurm.gpus=0: must be at least 1"),
        ({"max_timeouts": -1}, "launch.slurm.max_timeouts=-1: must not be negative"),
        ({"sbatch": {"--qos": "high"}}, "launch.slurm.sbatch.--qos=high: must be a long option of sbatch without"),
        ({"sbatch": {"time": "9:00:00"}}, "launch.slurm.sbatch.time=9:00:00: Crescent sets this option itself"),
        ({"sbatch": {"exclusive": False}}, "launch.slurm.sbatch.exclusive=False: must be true for an option without"),
        ({"sbatch": {"comment": "a\nrm"}}, "launch.slurm.sbatch.comment=a\nrm: must be true for an option without"),
        ({"container": ["apptainer", ""]}, "must be words of a command"),
    ],
)
def test_a_setting_that_can_never_work_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(BadConfig, match=re.escape(words)):
        SlurmConfig(**settings)


def test_slurms_own_words_lose_the_names_of_its_programs() -> None:
    output = "sbatch: error: invalid partition specified: x\nsbatch: error: Batch job submission failed: Invalid name\n"
    assert own_words(output) == "invalid partition specified: x; Invalid name"


def test_a_job_waits_for_ever_only_for_what_nobody_can_give() -> None:
    assert JobState("PENDING", "PartitionTimeLimit").unfulfillable
    assert not JobState("PENDING", "Resources").unfulfillable
    assert not JobState("RUNNING", "PartitionTimeLimit").unfulfillable
