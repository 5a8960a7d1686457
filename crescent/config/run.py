"""Settings of the run folder, of tracking, and of how processes end."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from crescent.config.checks import Choice, require
from crescent.config.cluster import RayConfig, SlurmConfig
from crescent.config.earlier import earlier_runs


class Mode(Choice):
    run = "run"
    plan = "plan"


class Keep(Choice):
    """Which rounds keep their complete weights on the disk. Adapters, data and scores are always kept."""

    all = "all"
    """Weights of every round."""
    best = "best"
    """Weights of the best checkpoint so far. The others can be merged again from base and adapter; after full
    fine-tuning, only by training again."""


@dataclass
class RunConfig:
    """Where the run folder is, and how many rounds the run has."""

    name: str = "crescent"
    """Name of the folder in `root`, and in W&B: lower-case letters, digits, `.`, `_`, `-`; at most 64 characters."""
    root: str = "runs"
    """Folder that holds run folders."""
    rounds: int = 3
    """Largest number of rounds; `verdict.patience` can end the run earlier."""
    seed: int = 0
    """Seed of the run. Every request, sample and shuffle gets a hash of this seed and of its purpose."""
    keep: Keep = Keep.all
    redo: str | None = None
    """Name of a finished stage, e.g. `round-2/train`: set it and all later stages aside and make them again."""
    reuse: list[str] = field(default_factory=list)
    """Folders of other runs, or their names in `root`, whose finished stages are taken over (linked, not made again) if
    they were made from the same settings and inputs. Runs of a sweep always reuse each other's. Runs with another
    `eval.data` are left out; that the files in it have changed is not noticed, as when a run resumes."""

    versions: list[str] = field(default_factory=list)
    """Other versions of Crescent whose finished stages in this run folder are taken as found, e.g. `[0.1.0]`. A stage
    of any other version is refused, with what changed since."""

    @property
    def folder(self) -> Path:
        """Path of the run folder."""
        return Path(self.root) / self.name

    def __post_init__(self) -> None:
        named = re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", self.name) is not None
        require(named, "run.name", repr(self.name), "must match [a-z0-9][a-z0-9._-]{0,63}", "e.g. run.name=qwen7b-a")
        require(self.rounds >= 1, "run.rounds", self.rounds, "must be at least 1")
        require(self.seed >= 0, "run.seed", self.seed, "must not be negative")


@dataclass
class LaunchConfig:
    """How child processes are started and ended. Does not affect results."""

    grace_s: float = 45.0
    """Seconds between asking a child process to end and killing it; torch's launcher gives its own workers 30."""
    nodes: list[str] = field(default_factory=list)
    """Command in front of the trainer's that starts it on each of several nodes, e.g. `[srun, "--nodes=2",
    "--ntasks-per-node=1"]`. Needs a `train.accelerate` file with `num_machines` and `main_process_ip`, and a run folder
    that all nodes see under the same path. Empty: this machine only."""
    slurm: SlurmConfig | None = None
    """The job in which the run works (`launch=slurm`, see docs/clusters.md); null: it works in this process."""
    ray: RayConfig | None = field(default=None, metadata=earlier_runs(None))
    """The cluster on which replicas and trainer work (`launch=ray`, see docs/clusters.md); null: this machine."""
    wait: bool = True
    """Whether the command that submits a job shows its log and ends as it does; else it ends at once."""

    def __post_init__(self) -> None:
        require(self.grace_s >= 0, "launch.grace_s", self.grace_s, "must not be negative")
        rule, fix = "places the trainer in a job of SLURM", "with launch=ray, the trainer works on one node"
        require(self.ray is None or not self.nodes, "launch.nodes", self.nodes, rule, fix)


class Wandb(Choice):
    online = "online"
    offline = "offline"
    disabled = "disabled"


class Artifacts(Choice):
    """How much of pairs, models and scores is kept in W&B, with their lineage."""

    none = "none"
    reference = "reference"
    """Pairs and scores are uploaded. Weights, and files above 16 MiB, stay where they are: W&B gets their paths, sizes
    and digests."""
    upload = "upload"
    """Everything is uploaded; of a model its adapter, or its weights if it has none."""


class Console(Choice):
    auto = "auto"
    """A live view on a terminal, plain lines elsewhere."""
    plain = "plain"
    quiet = "quiet"
    """Only the final table and errors."""


@dataclass
class TrackingConfig:
    """Where the run is reported: console, W&B, trackio. Does not affect results."""

    wandb: Wandb = Wandb.disabled
    project: str = "crescent"
    """W&B or trackio project in which the run appears."""
    entity: str | None = None
    """User or team that owns the project; null: the account's default."""
    group: str | None = None
    """Group of the loop's W&B run and its stages' W&B runs; null: the run's name. Runs of a sweep share a group."""
    tags: list[str] = field(default_factory=list)
    """Tags of the loop's W&B run, beside those that it always has: name of the model, kind of trainer."""
    artifacts: Artifacts = Artifacts.reference
    wait_s: float = 60.0
    """Longest wait for W&B at the end of a run, in seconds; `crescent sync` uploads what is missing."""
    stream_s: float = 15.0
    """Seconds between two uploads of the training under way, so that its curve grows while it runs."""
    trackio: bool = False
    """Whether to keep the loop's rows and the training curves in trackio on this machine, with or without W&B."""
    console: Console = Console.auto
    hourly_rate: float | None = None
    """Price of a machine-hour in any currency, for the costs in the report."""

    def __post_init__(self) -> None:
        fits = len(self.project) <= 128 and not set(self.project) & set(r"/\#?%:")
        rule = "a W&B project has at most 128 characters, without / \\ # ? % :"
        require(fits, "tracking.project", repr(self.project), rule, "crescent sync takes --project NAME")
        require(self.wait_s >= 0, "tracking.wait_s", self.wait_s, "must not be negative")
        require(self.stream_s > 0, "tracking.stream_s", self.stream_s, "must be above 0")
        long = next((tag for tag in self.tags if not 1 <= len(tag) <= 64), None)
        require(long is None, "tracking.tags", repr(long), "a tag of W&B has 1 to 64 characters")
        free = self.hourly_rate is None or self.hourly_rate >= 0
        require(free, "tracking.hourly_rate", self.hourly_rate, "must not be negative")


@dataclass
class TrackingJob:
    """Everything that `python -m crescent.tracking job.yaml` needs to report a run folder."""

    root: str
    """Path of the run folder."""
    name: str
    """Name of the run in W&B."""
    tracking: TrackingConfig
    live: bool = True
    """Whether the run is reported while it runs: with alerts and the machine's load, and offline if W&B cannot be
    reached. Otherwise `crescent sync` reports it afterwards."""
    view: bool = False
    """Whether to create the view "rounds" of the project, too."""
