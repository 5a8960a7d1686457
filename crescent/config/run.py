"""Where a run lives, how it is told of, how its processes end."""

import re
from dataclasses import dataclass

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

    def __post_init__(self) -> None:
        require(self.grace_s >= 0, "launch.grace_s", self.grace_s, "must not be negative")


class Wandb(Choice):
    online = "online"
    offline = "offline"
    disabled = "disabled"


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
    group: str | None = None
    """Runs of one sweep share a group."""
    console: Console = Console.auto
