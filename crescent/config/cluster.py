"""Settings of a job that a scheduler starts."""

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
