"""Starts a command as a job of a SLURM cluster, through submitit; `launch.in_job` is what the job does."""

import importlib.util
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.in_job import PYTHON, TRY_AGAIN, InJob

ASK_S = 60.0
"""Longest wait for an answer of SLURM, in seconds. Its commands try again by themselves for some of them."""
SURE_S = 3.0
"""Seconds for which a job must have ended: while it is requeued, SLURM shows an ended job for a moment."""
COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol")
LIVE = (
    *("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESIZING"),
    *("SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED", "SUSPENDED", "RESV_DEL_HOLD"),
)
"""States of a job that may still work (https://slurm.schedmd.com/squeue.html#SECTION_JOB-STATE-CODES)."""
CODES = {
    **dict.fromkeys(("TIMEOUT", "CANCELLED", "NODE_FAIL", "DEADLINE", "BOOT_FAIL", "PREEMPTED"), TRY_AGAIN),
    "OUT_OF_MEMORY": 128 + signal.SIGKILL,
}
"""Exit code of a job that ended in this state without a result; of all others it is 1."""
UNFULFILLABLE = (
    *("PartitionTimeLimit", "PartitionNodeLimit", "BadConstraints", "InvalidAccount", "InvalidQOS"),
    *("AccountNotAllowed", "QOSNotAllowed"),
)
"""Reasons for which a job waits for ever, unless somebody changes the job or the cluster. Others pass: PartitionConfig
stands there for a moment, too, while no node has reported."""


class Refused(Exception):
    """SLURM does not take the job, in its own words."""


class NotInstalled(Exception):
    """A program or a package is missing; the message says which, and where to get it."""


@dataclass(frozen=True)
class JobState:
    """What SLURM says about a job."""

    name: str
    """Its state, e.g. PENDING; empty if SLURM has forgotten the job."""
    reason: str = ""
    """Why it waits, or why it ended."""
    nodes: str = ""

    @property
    def live(self) -> bool:
        return self.name in LIVE

    @property
    def unfulfillable(self) -> bool:
        """Whether the job waits for something that will not happen."""
        return self.name == "PENDING" and self.reason in UNFULFILLABLE


def ask_state(job: str) -> JobState | None:
    """State of a job; `None` if SLURM does not answer now."""
    command = ["squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T|%r|%N"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ASK_S)
    except subprocess.TimeoutExpired:
        return None
    if asked.returncode != 0:
        return JobState("") if "Invalid job id" in asked.stderr else None
    lines = asked.stdout.splitlines()
    return JobState(*lines[0].split("|")) if lines else JobState("")


@dataclass
class SlurmJob:
    """A job of a command."""

    id: str
    folder: Path
    """Folder of submitit's files."""
    state: JobState | None = None
    """What SLURM said last; `None` if it did not answer."""
    why: str = ""
    """A line about the end of a job that has no exit code of its own."""
    ended_at: float | None = field(default=None, repr=False)
    """When the job was first seen ended, by `time.monotonic`."""

    def poll(self) -> int | None:
        code = self.result()
        if code is not None:
            return code
        self.state = ask_state(self.id)
        if self.state is None or self.state.live:
            self.ended_at = None
            return None
        if self.ended_at is None:
            self.ended_at = time.monotonic()
        if time.monotonic() - self.ended_at < SURE_S:
            return None
        name = self.state.name or "forgotten by SLURM"
        self.why = f"{name}{f', {self.state.reason}' if self.state.reason not in ('', 'None') else ''}"
        return CODES.get(self.state.name, 1)

    def result(self) -> int | None:
        """Exit code of the command; `None` if it has not ended."""
        from submitit.core.utils import pickle_load

        path = self.folder / f"{self.id}_0_result.pkl"
        if not path.exists():
            return None
        outcome, value = pickle_load(path)
        if outcome == "success":
            return int(value)
        last = str(value).strip().splitlines()[-1]
        self.why = last.partition(": ")[2] or last
        return TRY_AGAIN if "timed-out too many times" in last else 1

    def stop(self) -> int:
        subprocess.run(["scancel", self.id], check=False, timeout=ASK_S)
        while (code := self.poll()) is None:
            time.sleep(1)
        return code


@dataclass(frozen=True)
class SlurmLaunch:
    """Starts each command as a job of its own. The job works on its first node; it may start steps on all of them."""

    folder: Path
    """Absolute path of the folder for submitit's files, on a disk that the nodes share."""
    name: str
    minutes: int
    """Time limit of one attempt."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of submitit's SlurmExecutor: partition, nodes, gpus_per_node, setup, …"""
    sbatch: Mapping[str, Any] = field(default_factory=dict)
    """Further options of sbatch."""
    container: Sequence[str] = ()
    """Command that starts `python` in a container."""
    python: str = "python3"
    grace_s: float = 45.0
    max_timeouts: int = 20
    max_retries: int = 3

    def start(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> SlurmJob:
        """As `Launch.start`.

        Raises:
            Refused: SLURM says no.
            NotInstalled: this machine has no SLURM, or no submitit.
        """
        check_installed()
        from submitit.core.utils import FailedJobError

        self.folder.mkdir(parents=True, exist_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        self._try_out()
        try:
            job = self._executor().submit(self._work(command, log, environment))
        except FailedJobError as error:
            raise Refused(own_words(str(error))) from error
        return SlurmJob(job.job_id, self.folder)

    def script(self) -> str:
        """The script that `start` gives to sbatch.

        Raises:
            NotInstalled: submitit is missing.
        """
        check_submitit()
        executor = self._executor()
        text: str = executor._make_submission_file_text(executor._submitit_command_str, "")
        return text

    def _work(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> InJob:
        words = list(command)
        if words[0] == sys.executable:
            words = [*self.container, self.python, *words[1:]] if self.container else [PYTHON, *words[1:]]
        elif self.container:
            words = [*self.container, *words]
        retries = self.folder / f"{log.stem}.retries"
        retries.unlink(missing_ok=True)
        return InJob(words, log, dict(environment), self.grace_s, retries, self.max_retries)

    def _executor(self) -> Any:
        """Submitit's executor for these resources."""
        from submitit import SlurmExecutor

        # Without this, it refuses to write the script on a machine that has no SLURM.
        anywhere = type("SlurmExecutor", (SlurmExecutor,), {"affinity": classmethod(lambda _: 2)})
        executor = anywhere(self.folder, max_num_timeout=self.max_timeouts)
        cpus = self.parameters.get("cpus_per_task")
        executor.update_parameters(
            job_name=self.name,
            time=self.minutes,
            ntasks_per_node=1,
            wckey=None,
            stderr_to_stdout=True,
            # One loop, whatever the number of nodes. Since SLURM 22.05, srun does not take over --cpus-per-task.
            srun_args=["--nodes=1", "--ntasks=1", *([f"--cpus-per-task={cpus}"] if cpus else [])],
            additional_parameters={"requeue": True, **self.sbatch},
            **self.parameters,
        )
        return executor

    def _try_out(self) -> None:
        """Ask SLURM whether the job could ever start.

        Raises:
            Refused: it could not.
        """
        trial = self.folder / "trial.sh"
        trial.write_text(self.script())
        try:
            asked = subprocess.run(
                ["sbatch", "--test-only", str(trial)], capture_output=True, text=True, check=False, timeout=ASK_S
            )
        except subprocess.TimeoutExpired as error:
            raise Refused(f"SLURM has not answered in {ASK_S:.0f} s") from error
        finally:
            trial.unlink()
        if asked.returncode != 0:
            raise Refused(own_words(asked.stderr))


def own_words(output: str) -> str:
    """What SLURM says, without the names of its programs."""
    lines = [line.strip() for line in output.splitlines()]
    for prefix in ("sbatch:", "error:", "allocation failure:", "Batch job submission failed:"):
        lines = [line.removeprefix(prefix).strip() for line in lines]
    return "; ".join(line for line in lines if line)


def check_submitit() -> None:
    """Raises `NotInstalled` if submitit is missing."""
    if importlib.util.find_spec("submitit") is None:
        raise NotInstalled("submitit is not installed: pip install -e '.[slurm]', or pip install submitit")


def check_installed() -> None:
    """Raises `NotInstalled` if a command of SLURM, or submitit, is missing."""
    absent = [name for name in COMMANDS if shutil.which(name) is None]
    if absent:
        raise NotInstalled(f"{', '.join(absent)} not found: jobs are submitted on a machine of the SLURM cluster")
    check_submitit()
