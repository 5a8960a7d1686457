"""`crescent sync`: makes the W&B runs of a run folder from its own files, or completes them."""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from crescent.config import Artifacts, TrackingConfig, TrackingJob, Wandb
from crescent.errors import BadConfig, Missing, TryAgain
from crescent.reading.finished import Run
from crescent.reading.rounds import ALONE, read_status
from crescent.run_folder.lock import ALIVE, only_supervisor
from crescent.run_folder.manifest import MANIFEST
from crescent.run_folder.metrics import MetricsFile, round_of
from crescent.run_folder.places import METRICS, read_config
from crescent.tracking.ledger import Ledger, destination, destinations
from crescent.tracking.pictures import RunFolder
from crescent.tracking.process import NO_LOGIN, TrackingProcess
from launch.local import wait_for_earlier_children

STAGE = re.compile(r"(base|teacher|round-\d+)/[a-z]+")
KINDS = ("benchmarks", "synthesis", "pairs", "train", "eval", "harness", "reliability", "others", "replay", "verdict")
"""The second parts of stages' names, in the order in which a round, and the base, make them."""


def sync(
    root: Path,
    project: str | None,
    entity: str | None,
    wait_s: float,
    view: bool,
    say: Callable[[str], None],
) -> None:
    """Tell W&B what it was not told of a run, tracked before or not; with nothing to tell it is not asked.

    With `tracking.trackio` in the run's settings, trackio too. `WANDB_MODE=offline` makes files that `wandb sync`
    uploads. No alerts are sent.

    Args:
        project: In place of the run's own (`tracking.project`), as is `entity`.
        wait_s: Seconds that all of it may take.
        view: Also make the view "rounds" of the project.

    Raises:
        Missing: no stage of the run is finished, or nobody is logged in.
        BadConfig: `WANDB_MODE` is neither `online` nor `offline`, or W&B has no projects of such a name.
        RunLocked: the run goes on.
        TryAgain: W&B lacks something still.
    """
    settings = read_config(root)
    named: dict[str, Any] = settings.get("run") or {}
    job = TrackingJob(
        root=str(root),
        name=str(named.get("name") or root.resolve().name),
        tracking=replace(tracking_of(settings, project, entity), wait_s=wait_s),
        live=False,
        view=view,
    )
    if not finished_stages(root):
        raise Missing(f"{root}: no stage is finished, so there is nothing to tell")
    with only_supervisor(root):
        complete_metrics(root)
        if is_told(job) and not view:
            say(f"W&B has everything of {root} ({place(job)}){unfinished(root)}")
            return
        if not wait_for_earlier_children(root / ALIVE, say, wait_s):
            raise TryAgain(f"{root}: processes of an earlier run are still alive; try again in a minute")
        code = TrackingProcess(job, say).close(0)
    if code == NO_LOGIN:
        raise Missing(f"{root}: W&B takes nothing without a login: `wandb login`, or the key in WANDB_API_KEY")
    if code != 0:
        still = f"W&B does not have everything yet; what was told is not told again{unfinished(root)}"
        raise TryAgain(f"{root}: {still}")
    say(f"W&B has everything of {root} ({place(job)}){unfinished(root)}")


def unfinished(root: Path) -> str:
    """That everything of a run is not a whole run, where it is not."""
    status = read_status(root)
    whole = status.startswith(("finished", "stopped", ALONE)) or status.endswith("not known")
    return "" if whole else f"; the run: {status}"


def finished_stages(root: Path) -> list[str]:
    """The stages that have a manifest, in the order in which a run makes them."""
    found = [its.parent.relative_to(root).as_posix() for its in root.glob(f"*/*/{MANIFEST}")]

    def place(stage: str) -> tuple[int, int, int, str]:
        kind = stage.split("/")[1]
        return round_of(stage), stage.startswith("teacher/"), KINDS.index(kind) if kind in KINDS else 0, kind

    return sorted((its for its in found if STAGE.fullmatch(its)), key=place)


def complete_metrics(root: Path) -> None:
    """Give each finished stage that `metrics.jsonl` lacks its line: what the manifest says of it."""
    metrics, run = MetricsFile(root / METRICS), Run(root)
    for stage in finished_stages(root):
        if stage not in metrics.lines and (manifest := run.stage(stage)) is not None:
            metrics.record(stage, manifest["metrics"], manifest["seconds"], replace=False)


def tracking_of(settings: dict[str, Any], project: str | None = None, entity: str | None = None) -> TrackingConfig:
    """How a run was tracked, or would have been, but to where the environment says."""
    mode = os.environ.get("WANDB_MODE", "online")
    if mode not in ("online", "offline"):
        raise BadConfig(f"WANDB_MODE={mode}: crescent sync knows online and offline; unset it to upload")
    its: dict[str, Any] = settings.get("tracking") or {}
    return TrackingConfig(
        wandb=Wandb(mode),
        project=project or str(its.get("project") or TrackingConfig.project),
        entity=entity or its.get("entity"),
        group=its.get("group"),
        artifacts=Artifacts(its.get("artifacts") or TrackingConfig.artifacts.value),
        trackio=bool(its.get("trackio")),
    )


def is_told(job: TrackingJob) -> bool:
    """Whether everything has arrived where the job wants it."""
    ledger, where = Ledger(Path(job.root)), destination(job.tracking)
    if any(ledger.behind(its) for its in destinations(job.tracking)):
        return False
    return all(ledger.rows(where, identity) >= 0 for _, identity in RunFolder(job, ledger).stages())


def place(job: TrackingJob) -> str:
    """Where W&B runs go, for people."""
    if job.tracking.wandb is Wandb.offline:
        return f"offline; upload with: wandb sync {job.root}/wandb/offline-run-*"
    return f"project {job.tracking.project}"
