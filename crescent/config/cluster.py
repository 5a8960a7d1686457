"""Settings of a cluster: of a job that a scheduler starts, and of processes on the nodes of a Ray cluster."""

import re
from dataclasses import dataclass, field
from typing import Any

from crescent.config.checks import require

TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<hours>\d+):(?P<minutes>\d{2}):(?P<seconds>\d{2})")
RESERVED = ("array", "error", "job-name", "open-mode", "output", "requeue", "signal", "time")
"""Options of sbatch that Crescent sets itself."""


def minutes_of(time: str) -> int:
    """Minutes of a time limit like `12:00:00` or `2-00:00:00`, rounded up.

    Raises:
        BadConfig: it is written in another way.
    """
    found = TIME.fullmatch(time)
    rule = "write [days-]hours:minutes:seconds"
    fix = "e.g. '12:00:00' or '2-00:00:00', in quotes in a file: YAML takes 12:00:00 without them for the number 43200"
    require(found is not None, "launch.slurm.time", time, rule, fix)
    assert found is not None
    days, hours, minutes, seconds = (int(found[part] or 0) for part in ("days", "hours", "minutes", "seconds"))
    return (days * 24 + hours) * 60 + minutes + (seconds > 0)


@dataclass
class SlurmConfig:
    """A job of a SLURM cluster (https://slurm.schedmd.com/sbatch.html) in which the whole run works."""

    partition: str | None = None
    """Partition, one of `sinfo`'s; null: the cluster's default."""
    account: str | None = None
    """Account that is charged; null: the user's default."""
    time: str = "4:00:00"
    """Time limit of one attempt as [days-]hours:minutes:seconds. A run that reaches it goes on in the next attempt."""
    nodes: int = 1
    """Number of nodes. The loop and the engine work on the first; the trainer on all of them with `launch.nodes`."""
    gpus: int | None = None
    """Number of GPUs on each node; null: none is asked for."""
    cpus: int | None = None
    """Number of CPU cores on each node; null: the cluster's default, often 1."""
    memory_gib: int | None = None
    """Main memory on each node in GiB; null: the cluster's default."""
    sbatch: dict[str, Any] = field(default_factory=dict)
    """Further options of sbatch by their long names, e.g. `{qos: high, constraint: h100, exclusive: true}`."""
    setup: list[str] = field(default_factory=list)
    """Lines of shell that the job runs first, e.g. `[module load cuda]`."""
    container: list[str] = field(default_factory=list)
    """Command in front of `python` that starts it in a container, e.g. `[apptainer, exec, --nv, image.sif]`. The
    image has Crescent, and sees the run folder under the same path. Empty: this environment, on a shared disk."""
    python: str = "python3"
    """Name of Python in the container."""
    signal_s: int = 120
    """Seconds before the time limit at which the run is asked to end; SLURM may ask up to 60 earlier."""
    max_timeouts: int = 20
    """Largest number of attempts after the first that a reached time limit may cost."""
    max_retries: int = 3
    """Largest number of attempts after a temporary failure (exit code 75) that is no time limit and no preemption."""

    def __post_init__(self) -> None:
        limit = minutes_of(self.time)
        rule = "must be longer than launch.slurm.signal_s"
        require(
            limit * 60 > self.signal_s > 0, "launch.slurm.time", self.time, f"{rule}={self.signal_s}, a time above 0"
        )
        for name in ("nodes", "gpus", "cpus", "memory_gib"):
            count = getattr(self, name)
            require(count is None or count >= 1, f"launch.slurm.{name}", count, "must be at least 1, or null for none")
        for name in ("max_timeouts", "max_retries"):
            require(getattr(self, name) >= 0, f"launch.slurm.{name}", getattr(self, name), "must not be negative")
        for option, value in self.sbatch.items():
            key = f"launch.slurm.sbatch.{option}"
            named = re.fullmatch(r"[a-z][a-z0-9-]*", option) is not None
            require(named, key, value, "must be a long option of sbatch without its dashes", "e.g. {qos: high}")
            require(option not in RESERVED, key, value, "Crescent sets this option itself", "leave it out")
            plain = value is True or (isinstance(value, str | int | float) and value is not False)
            rule = "must be true for an option without a value, or its value"
            require(plain and "\n" not in str(value), key, value, rule, "leave out an option that is not wanted")
        container = all(self.container)
        require(
            container, "launch.slurm.container", self.container, "must be words of a command", "leave out empty ones"
        )


@dataclass
class RayConfig:
    """A Ray cluster (https://docs.ray.io/en/latest/cluster/getting-started.html), on whose nodes the engine's replicas
    and the trainer work. The loop stays where the command was given."""

    address: str | None = None
    """Address of a running cluster to which this machine belongs: `auto`, or host:port of its head node. Null: a new
    cluster of this machine alone, for the time of the run."""
    token: bool = True
    """Whether the cluster asks for a token (RAY_AUTH_MODE=token). A cluster without one obeys everybody who reaches
    it."""
    replica_cpus: float = 1.0
    """Number of CPU cores that each replica reserves, beside `serving.tensor_parallel` GPUs."""
    trainer_gpus: int | None = None
    """Number of GPUs of one node that the trainer reserves. Null: as many as `train.accelerate` has processes, one if
    that is auto, none on a CPU."""
    trainer_cpus: float = 1.0
    """Number of CPU cores that the trainer reserves."""
    room_s: float = 120.0
    """Longest wait for nodes with room, in seconds. A replica without room then joins the others later; a run that has
    no room at all ends with exit code 75."""
    max_lost: int = 3
    """Largest number of times that one training is started again because its node was lost."""

    def __post_init__(self) -> None:
        address = self.address
        form = address is None or address == "auto" or re.fullmatch(r"[\w.-]+:\d{1,5}", address) is not None
        rule = "must be null, auto, or host:port of the cluster's head node"
        fix = "e.g. 10.0.0.1:6379; ray://… is for programs outside of the cluster, and this one must be on a node of it"
        require(form, "launch.ray.address", address, rule, fix)
        for name in ("replica_cpus", "trainer_cpus"):
            require(getattr(self, name) > 0, f"launch.ray.{name}", getattr(self, name), "must be above 0")
        for name in ("trainer_gpus", "max_lost"):
            count = getattr(self, name)
            require(count is None or count >= 0, f"launch.ray.{name}", count, "must not be negative")
        require(self.room_s > 0, "launch.ray.room_s", self.room_s, "must be positive")
