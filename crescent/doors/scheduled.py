"""A run that works in a job of a cluster: submit the command line as it is, show the job's log, end as the job does."""

import codecs
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from crescent.config import Config, minutes_of
from crescent.errors import BadConfig, CrescentError, Missing, TryAgain
from crescent.machine.disk import write_whole
from crescent.machine.processes import ENDED_BY_SIGNAL, ERRORS
from launch.slurm import NotInstalled, Refused, SlurmJob, SlurmLaunch, ask_state

FOLDER = "slurm"
"""Folder of the job's own files in a run folder."""
JOB = "job.json"
"""Name of the file with the number of the job that was submitted last."""
LOG = "logs/slurm.log"
"""Output of all attempts of all jobs of a run."""
LONGEST_POLL_S = 20.0
FIRST_LOOK_S = 2.0
"""Seconds after which SLURM has said why a job waits, if it will wait for ever."""
UNREACHABLE_S = 600.0
"""Longest time without an answer of SLURM, in seconds."""
HINTS = (
    ("partition name", "launch.slurm.partition", "`sinfo` lists the partitions"),
    ("invalid partition", "launch.slurm.partition", "`sinfo` lists the partitions"),
    ("account", "launch.slurm.account", "`sacctmgr show associations user=$USER` lists yours"),
    ("time limit", "launch.slurm.time", "`sinfo` lists the limit of each partition"),
    ("PartitionTimeLimit", "launch.slurm.time", "`sinfo` lists the limit of each partition"),
    ("qos", "launch.slurm.sbatch.qos", "`sacctmgr show qos` lists them"),
    ("feature", "launch.slurm.sbatch.constraint", "`sinfo -o '%P %f'` lists the features of nodes"),
)
RESOURCES = "`sinfo -o '%P %D %c %m %G'` lists nodes, cores, MB and GPUs of each partition"
TEMPORARY = (
    "unable to contact",
    "socket timed out",
    "connection refused",
    "not answered",
    "communication",
    "try again",
)
"""Parts of SLURM's words that do not mean this job, in lower case."""


def is_scheduled(cfg: Config) -> bool:
    """Whether the run works in a job, and this process is not in it yet."""
    return cfg.launch.slurm is not None and os.environ.get("SUBMITIT_EXECUTOR") != "slurm"


def launch_of(cfg: Config) -> SlurmLaunch:
    """How the job of a run is started."""
    slurm = cfg.launch.slurm
    assert slurm is not None
    chosen = {
        "partition": slurm.partition,
        "account": slurm.account,
        "gpus_per_node": slurm.gpus,
        "cpus_per_task": slurm.cpus,
        "mem": None if slurm.memory_gib is None else f"{slurm.memory_gib}G",
        "setup": slurm.setup or None,
    }
    return SlurmLaunch(
        folder=(cfg.run.folder / FOLDER).absolute(),
        name=cfg.run.name,
        minutes=minutes_of(slurm.time),
        parameters={
            "nodes": slurm.nodes,
            "signal_delay_s": slurm.signal_s,
            **{name: value for name, value in chosen.items() if value is not None},
        },
        sbatch=slurm.sbatch,
        container=slurm.container,
        python=slurm.python,
        grace_s=cfg.launch.grace_s,
        max_timeouts=slurm.max_timeouts,
        max_retries=slurm.max_retries,
    )


def show_script(cfg: Config, command: Sequence[str]) -> None:
    """Print the script that sbatch would get, and the command that the job runs."""
    launch = launch_of(cfg)
    with translated(cfg):
        words = [word for word in command[1:] if not word.startswith("mode=")]
        print(f"\nThe job runs: python {shlex.join(words)}\nThe script that sbatch would get:\n\n{launch.script()}")


def submit(cfg: Config, command: Sequence[str]) -> None:
    """Submit the command as a job, or find the run's job that is waiting or working; with `launch.wait`, show its log
    until it ends.

    Raises:
        BadConfig: SLURM refuses the job, or it would wait for ever.
        Missing: this machine has no SLURM.
        TryAgain: SLURM does not answer; the job was cancelled, or stopped too often at its time limit.
        CrescentError: the job ended as the error's exit code says.
    """
    log = (cfg.run.folder / LOG).absolute()
    shown = log.stat().st_size if log.exists() else 0
    with translated(cfg):
        job = known_job(cfg)
        if job is None:
            with left_as_found(cfg.run.folder):
                job = launch_of(cfg).start(command, log, {})
            write_whole(job.folder / JOB, json.dumps({"job": job.id}).encode())
            print(f"submitted job {job.id}; its log: {log}", flush=True)
        else:
            print(f"job {job.id} of this run is {state_line(job)}; its log: {log}", flush=True)
        if not cfg.launch.wait:
            time.sleep(FIRST_LOOK_S)
            job.state = ask_state(job.id)
            check_fulfillable(job)
            return
    try:
        code = follow(job, log, shown)
    except KeyboardInterrupt:
        print(f"job {job.id} goes on; the same command shows it again, scancel {job.id} ends it", file=sys.stderr)
        raise
    if code != 0:
        raise failure(job, code, log, shown)


def known_job(cfg: Config) -> SlurmJob | None:
    """The job of this run that was submitted earlier, if it is waiting or working."""
    folder = (cfg.run.folder / FOLDER).absolute()
    try:
        job = SlurmJob(str(json.loads((folder / JOB).read_text())["job"]), folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if job.result() is not None:
        return None
    job.state = ask_state(job.id)
    if job.state is None:
        raise Refused(f"SLURM has not answered about job {job.id}, which this run submitted earlier")
    return job if job.state.live else None


def follow(job: SlurmJob, log: Path, shown: int) -> int:
    """Print what the job appends to its log, from byte `shown` on, and changes of its state; returns its exit code."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    began = answered = asked = time.monotonic()
    last, code = "", None
    while True:
        if log.exists():
            with log.open("rb") as file:
                file.seek(shown)
                news = file.read()
            shown += len(news)
            print(decoder.decode(news), end="", flush=True)
        if code is not None:
            return code
        now = time.monotonic()
        if now >= asked:
            asked = now + min(LONGEST_POLL_S, 1 + (now - began) / 30)
            code = job.poll()
            if job.state is not None or code is not None:
                answered = now
            elif now - answered > UNREACHABLE_S:
                raise TryAgain(f"SLURM has not answered for {UNREACHABLE_S:.0f} s; the same command shows job {job.id}")
            check_fulfillable(job)
            if code is None and state_line(job) != last:
                last = state_line(job)
                print(f"job {job.id}: {last}", flush=True)
        if code is None:
            time.sleep(0.5)


def state_line(job: SlurmJob) -> str:
    """A job's state for a person."""
    if job.state is None:
        return "unknown, because SLURM does not answer"
    about = job.state.nodes or (job.state.reason if job.state.reason != "None" else "")
    return f"{job.state.name.lower() or 'unknown'}{f' ({about})' if about else ''}"


def check_fulfillable(job: SlurmJob) -> None:
    """Cancel a job that would wait for ever.

    Raises:
        BadConfig: it would.
    """
    if job.state is not None and job.state.unfulfillable:
        reason = job.state.reason
        job.stop()
        raise explained(f"job {job.id} would wait for ever: {reason}")


def failure(job: SlurmJob, code: int, log: Path, shown: int) -> CrescentError:
    """The error for a job that ended with this exit code."""
    kind, _ = ENDED_BY_SIGNAL.get(code, (ERRORS.get(code, CrescentError), ""))
    about = f"job {job.id} ended with exit code {code}" if not job.why else f"job {job.id} ended: {job.why}"
    if job.why and (not log.exists() or log.stat().st_size == shown):
        return Missing(
            f"{about}, before it wrote a word to {log}: do the nodes see this folder under the same path, and this "
            f"Python ({sys.executable})? Set run.root to a folder on a disk that all nodes share; "
            f"`scontrol show job {job.id}` and {job.folder} say more"
        )
    again = "; what is finished is safe: the same command goes on" if kind is TryAgain else ""
    if "timed-out" in job.why:
        again += "; raise launch.slurm.time or launch.slurm.max_timeouts"
    return kind(f"{about}{again}; whole log: {log}")


@contextmanager
def translated(cfg: Config) -> Iterator[None]:
    """Turn what the launcher says into errors of ours."""
    try:
        yield
    except NotInstalled as error:
        raise Missing(f"launch=slurm: {error}; launch=local runs on this machine") from error
    except Refused as error:
        raise explained(str(error), cfg) from error


def explained(words: str, cfg: Config | None = None) -> CrescentError:
    """The error for what SLURM says, with the setting that it is about."""
    lower = words.lower()
    if any(part in lower for part in TEMPORARY):
        return TryAgain(f"SLURM: {words}; is its controller up (scontrol ping)? Run the same command again")
    for part, key, fix in HINTS:
        if part.lower() in lower:
            return BadConfig(f"{key}{value_of(cfg, key)}: SLURM says: {words}; {fix}")
    slurm = cfg.launch.slurm if cfg is not None else None
    names = ("nodes", "gpus", "cpus", "memory_gib")
    chosen = [f"{name}={value}" for name in names if (value := getattr(slurm, name, None)) is not None]
    return BadConfig(f"launch.slurm ({', '.join(chosen)}): SLURM says: {words}; {RESOURCES}")


def value_of(cfg: Config | None, key: str) -> str:
    """`=VALUE` of a setting of the job, for an error."""
    name = key.removeprefix("launch.slurm.")
    slurm = cfg.launch.slurm if cfg is not None else None
    if slurm is None:
        return ""
    value = slurm.sbatch.get(name.partition(".")[2]) if name.startswith("sbatch.") else getattr(slurm, name)
    return f"={value}"


@contextmanager
def left_as_found(root: Path) -> Iterator[None]:
    """If the block raises, remove the empty folders that it made in a run folder."""
    before = {path for path in (root, root / FOLDER, (root / LOG).parent) if path.exists()}
    try:
        yield
    except BaseException:
        submission = root / FOLDER
        if submission not in before and submission.exists():
            for path in submission.iterdir():
                path.unlink()
        for path in (submission, (root / LOG).parent, root):
            if path not in before and path.exists() and not any(path.iterdir()):
                path.rmdir()
        raise
