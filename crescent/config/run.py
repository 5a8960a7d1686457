"""Where a run lives, how it is told of, how its processes end."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from crescent.config.checks import Choice, require


class Mode(Choice):
    run = "run"
    plan = "plan"


class Keep(Choice):
    """Which rounds' complete weights stay on the disk. Adapters, data and scores always do."""

    all = "all"
    """Every round's."""
    best = "best"
    """Those of the best checkpoint so far. Of the others, merged weights can be made again from the adapter; where all
    weights are trained, only by training again."""


@dataclass
class RunConfig:
    """Where the run lives and how long it goes on."""

    name: str = "crescent"
    """Folder below `root` and name in W&B: lower-case letters, digits, `.`, `_`, `-`; at most 64 characters."""
    root: str = "runs"
    """Folder that holds run folders."""
    rounds: int = 3
    """Rounds at most; patience (`verdict.patience`) can end the run earlier."""
    seed: int = 0
    """The one seed. Each request's, sample's and shuffle's seed is a hash of it and of what it is for."""
    keep: Keep = Keep.all
    redo: str | None = None
    """Name of a finished stage, e.g. `round-2/train`: set it and all later stages aside and make them again."""

    @property
    def folder(self) -> Path:
        """Path of the run folder."""
        return Path(self.root) / self.name

    def __post_init__(self) -> None:
        named = re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", self.name) is not None
        require(named, "run.name", repr(self.name), "must match [a-z0-9][a-z0-9._-]{0,63}", "e.g. run.name=qwen7b-a")
        require(self.rounds >= 1, "run.rounds", self.rounds, "at least one round")
        require(self.seed >= 0, "run.seed", self.seed, "a seed is not negative")


@dataclass
class LaunchConfig:
    """How child processes on this machine are ended. Never touches results."""

    grace_s: float = 45.0
    """Seconds between asking a child to end and ending it; torch's launcher allows its own workers 30."""
    nodes: list[str] = field(default_factory=list)
    """What starts a command on each of several nodes, put before the trainer's: e.g. `[srun, "--nodes=2",
    "--ntasks-per-node=1"]`. Needs a `train.accelerate` file with `num_machines` and `main_process_ip`, and a run folder
    that all nodes see under the same path. Empty: this machine alone."""

    def __post_init__(self) -> None:
        require(self.grace_s >= 0, "launch.grace_s", self.grace_s, "must not be negative")


class Wandb(Choice):
    online = "online"
    offline = "offline"
    disabled = "disabled"


class Artifacts(Choice):
    """What of the pairs, models and scores is kept in W&B, with who made what of what."""

    none = "none"
    reference = "reference"
    """Pairs and scores are uploaded; weights, and files of more than 16 MiB, stay where they are: their paths, sizes
    and digests are kept."""
    upload = "upload"
    """All of it: of a model its adapter, or its weights where it has none."""


class Console(Choice):
    auto = "auto"
    """A live view on a terminal, plain lines elsewhere."""
    plain = "plain"
    quiet = "quiet"
    """Nothing but the final table and errors."""


@dataclass
class TrackingConfig:
    """Who is told. Never touches results."""

    wandb: Wandb = Wandb.disabled
    project: str = "crescent"
    entity: str | None = None
    """User or team that owns the project; the account's default when null."""
    group: str | None = None
    """Group of the loop's W&B run and of those of its stages; the run's name when null. Runs of one sweep share one."""
    artifacts: Artifacts = Artifacts.reference
    wait_s: float = 60.0
    """Seconds that the end of a run waits at most for W&B to take the rest; `crescent sync` uploads what it did not."""
    trackio: bool = False
    """Also keep the loop's rows and the training curves in trackio on this machine, with or without W&B."""
    console: Console = Console.auto
    hourly_rate: float | None = None
    """What an hour of this machine costs, in any currency, for the report's ledger."""

    def __post_init__(self) -> None:
        fits = len(self.project) <= 128 and not set(self.project) & set(r"/\#?%:")
        rule = "W&B's projects have names of at most 128 characters and without / \\ # ? % :"
        require(fits, "tracking.project", repr(self.project), rule, "crescent sync takes --project NAME")
        require(self.wait_s >= 0, "tracking.wait_s", self.wait_s, "must not be negative")
        free = self.hourly_rate is None or self.hourly_rate >= 0
        require(free, "tracking.hourly_rate", self.hourly_rate, "must not be negative")


@dataclass
class TrackingJob:
    """Everything `python -m crescent.tracking job.yaml` needs: what W&B is told of a run folder."""

    root: str
    """The run folder."""
    name: str
    """Of the run, in W&B."""
    tracking: TrackingConfig
    live: bool = True
    """Told while the run goes on: with alerts and the machine's load, and offline should W&B not be had. Otherwise
    afterwards, by `crescent sync`."""
    view: bool = False
    """Also make the view "rounds" of the project."""
