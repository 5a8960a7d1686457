"""A real SLURM on this machine for the time of some tests: its own munge key, one slurmctld, several slurmd.

Nothing of the system's SLURM is touched: configuration, sockets, state and logs lie in a temporary folder, the ports
are free ones, and no cgroup or systemd is used. Needs root, as Debian's munged and slurmd do for other users' jobs.

python tests/launching/slurm_cluster.py    starts one, prints its SLURM_CONF, and stops it at Ctrl-C
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from launch.local import LocalChild, LocalLaunch

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "sinfo", "scancel")
PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
NODES = ("n1", "n2")
"""Nodes that see the whole file system."""
APART = "n3"
"""A node whose `private` folder is another one than everybody else's."""
GPUS = 2
"""GPUs that each node of `NODES` claims to have."""
CONFIGURATION = """
ClusterName=crescent
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmdSpoolDir={folder}/%n
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
MailProg=/bin/true
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=10
ReturnToService=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
GresTypes=gpu
NodeName={nodes} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports} CPUs=4 RealMemory=4000 Gres=gpu:{gpus}
NodeName={apart} NodeHostname={host} NodeAddr=127.0.0.1 Port={apart_port} CPUs=4 RealMemory=4000
PartitionName=usual Nodes={nodes} Default=YES MaxTime=1:00:00 PriorityTier=1
PartitionName=urgent Nodes={nodes} PriorityTier=10 PreemptMode=off
PartitionName=apart Nodes={apart} MaxTime=1:00:00
"""


class CannotStart(Exception):
    """This machine cannot run a SLURM; the message says why."""


@dataclass
class SlurmCluster:
    """A running SLURM."""

    folder: Path
    """Configuration, state and logs."""
    processes: dict[str, LocalChild] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment with what the commands of SLURM need."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SUBMITIT"))}
        return {**inherited, "PATH": PATH, "SLURM_CONF": str(self.folder / "slurm.conf")}

    @property
    def private(self) -> Path:
        """A folder that `APART` does not share with the others."""
        return self.folder / "private"

    def ask(self, *command: str) -> str:
        """Output of a command of SLURM."""
        asked = subprocess.run(command, capture_output=True, text=True, env=self.environment, check=False, timeout=60)
        assert asked.returncode == 0, f"{' '.join(command)}: {asked.stderr}"
        return asked.stdout.strip()

    def state(self, job: str) -> str:
        """State of a job, e.g. RUNNING."""
        return self.ask("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T")

    def detail(self, job: str, name: str) -> str:
        """A value from `scontrol show job`, e.g. Restarts."""
        words = self.ask("scontrol", "show", "job", job).split()
        return next(word.partition("=")[2] for word in words if word.startswith(f"{name}="))

    def start(self, name: str, command: list[str]) -> None:
        """Start a daemon whose jobs end with it, and which ends with this process."""
        self.processes[name] = LocalLaunch(grace_s=5).start(command, self.folder / f"{name}.output", self.environment)

    def stop(self) -> None:
        """End all processes; those that came last first."""
        for process in reversed(self.processes.values()):
            process.stop()


def wait_for(condition: Callable[[], object], what: str, limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not in {limit_s:.0f} s: {what}"
        time.sleep(0.2)


def free_ports(count: int) -> list[int]:
    """Ports in a row that nobody listens at."""
    for first in range(26_800, 60_000, count):
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return list(range(first, first + count))
    raise CannotStart("no free ports")


def launched(cluster: SlurmCluster) -> None:
    """Start a SLURM of `NODES` and `APART`."""
    folder = cluster.folder
    for name in ("munge", "state", "private", "elsewhere", *NODES, APART):
        (folder / name).mkdir()
    folder.chmod(0o711)
    (folder / "munge").chmod(0o711)  # munged refuses a socket that not everybody can reach
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    host = socket.gethostname().partition(".")[0]
    ports = free_ports(4)
    values: Mapping[str, object] = {
        "host": host,
        "port": ports[0],
        "folder": folder,
        "nodes": "n[1-2]",
        "ports": f"[{ports[1]}-{ports[2]}]",
        "gpus": GPUS,
        "apart": APART,
        "apart_port": ports[3],
    }
    (folder / "slurm.conf").write_text(CONFIGURATION.format_map(values))
    for number in range(GPUS):
        (folder / f"gpu{number}").touch()
    (folder / "gres.conf").write_text(f"NodeName=n[1-2] Name=gpu File={folder}/gpu[0-{GPUS - 1}]\n")
    munge = {"--key-file": "key", "--socket": "socket", "--pid-file": "pid", "--log-file": "log", "--seed-file": "seed"}
    options = [f"{option}={folder}/munge/{name}" for option, name in munge.items()]
    cluster.start("munged", ["munged", "--foreground", *options])
    wait_for((folder / "munge/socket").exists, "munged's socket", limit_s=20)
    cluster.start("slurmctld", ["slurmctld", "-D", "-i"])
    for node in NODES:
        cluster.start(node, ["slurmd", "-D", "-N", node])
    hidden = f"mount --bind {folder}/elsewhere {folder}/private && exec slurmd -D -N {APART}"
    cluster.start(APART, ["unshare", "--mount", "sh", "-c", hidden])
    ready = len(NODES) + 1
    wait_for(
        lambda: responds(cluster) and cluster.ask("sinfo", "-h", "-N", "-o", "%N %T").count("idle") >= ready,
        "nodes are idle",
    )


def responds(cluster: SlurmCluster) -> bool:
    """Whether slurmctld answers."""
    asked = subprocess.run(["scontrol", "ping"], capture_output=True, text=True, env=cluster.environment, check=False)
    return " is UP" in asked.stdout


def why_not() -> str | None:
    """Why no SLURM can be started here; `None` if nothing is known to be in the way."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if absent:
        return f"{', '.join(absent)} not found: apt-get install slurm-wlm munge"
    if os.geteuid() != 0:
        return "slurmctld and slurmd of several nodes on one host are started as root"
    return None


@contextmanager
def slurm_cluster() -> Iterator[SlurmCluster]:
    """A SLURM that ends with the block.

    Raises:
        CannotStart: this machine cannot run one.
    """
    reason = why_not()
    if reason is not None:
        raise CannotStart(reason)
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    cluster = SlurmCluster(folder)
    try:
        try:
            launched(cluster)
        except AssertionError as error:
            logs = [path for path in folder.iterdir() if path.suffix in (".output", ".log")]
            ends = "\n".join(f"{path.name}: {path.read_text(errors='replace')[-1500:]}" for path in sorted(logs))
            raise CannotStart(f"{error}\n{ends}") from error
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    with slurm_cluster() as running:
        print(f"export SLURM_CONF={running.folder}/slurm.conf", flush=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print("stopping")
