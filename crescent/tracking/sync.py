"""`crescent sync`: creates or completes the W&B runs of a run folder from its own files."""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from crescent.config import Artifacts, TrackingConfig, TrackingJob, Wandb
from crescent.errors import BadConfig, Missing, TryAgain
from crescent.reading.finished import RunReader
from crescent.reading.rounds import has_rounds_to_come, read_status
from crescent.run_folder.lock import ALIVE, only_supervisor
from crescent.run_folder.manifest import MANIFEST
from crescent.run_folder.metrics import MetricsFile, round_of
from crescent.run_folder.places import METRICS, read_config
from crescent.tracking.contents import RunContents
from crescent.tracking.ledger import UploadLedger, destination, destinations
from crescent.tracking.process import NO_LOGIN, TrackingProcess
from launch.local import wait_for_earlier_children

STAGE = re.compile(r"(base|teacher|round-\d+)/[a-z]+")
KINDS = ("benchmarks", "synthesis", "pairs", "train", "eval", "harness", "reliability", "others", "replay", "verdict")
"""Second parts of stage names, in the order in which the base and each round make them."""


def sync(
    root: Path,
    project: str | None,
    entity: str | None,
    wait_s: float,
    view: bool,
    say: Callable[[str], None],
) -> None:
    """Upload what W&B is missing of a run, whether or not it was tracked before. If nothing is missing, W&B is not
    contacted.

    If the run's settings have `tracking.trackio`, trackio is completed, too. `WANDB_MODE=offline` writes files for
    `wandb sync`. No alerts are sent.

    Args:
        project: Project to use instead of the run's own (`tracking.project`).
        entity: Owner to use instead of the run's own.
        wait_s: Longest time for everything, in seconds.
        view: Whether to create the view "rounds" of the project, too.
        say: Shows a line to the user.

    Raises:
        Missing: no stage of the run is finished, or no account is logged in.
        BadConfig: `WANDB_MODE` is neither `online` nor `offline`, or the project's name is not allowed in W&B.
        RunLocked: the run is still running.
        TryAgain: W&B still lacks something.
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
        raise Missing(f"{root}: no stage is finished, so there is nothing to upload; run the loop first")
    with only_supervisor(root):
        complete_metrics(root)
        if is_uploaded(job) and not view:
            say(f"W&B has everything of {root} ({place(job)}){unfinished(root)}")
            return
        if not wait_for_earlier_children(root / ALIVE, say, wait_s):
            raise TryAgain(f"{root}: processes of an earlier run are still running; try again in a minute")
        code = TrackingProcess(job, say).close(0)
    if code == NO_LOGIN:
        raise Missing(f"{root}: W&B needs a login; run `wandb login`, or set WANDB_API_KEY")
    if code != 0:
        problem = "W&B still lacks something; try again, nothing is uploaded twice"
        raise TryAgain(f"{root}: {problem}{unfinished(root)}")
    say(f"W&B has everything of {root} ({place(job)}){unfinished(root)}")


def unfinished(root: Path) -> str:
    """Status of a run that is not complete, to add to a message; else empty."""
    status = read_status(root)
    return f"; the run: {status}" if has_rounds_to_come(status) else ""


def finished_stages(root: Path) -> list[str]:
    """Stages that have a manifest, in the order in which a run makes them."""
    found = [manifest.parent.relative_to(root).as_posix() for manifest in root.glob(f"*/*/{MANIFEST}")]

    def order(stage: str) -> tuple[int, int, int, str]:
        kind = stage.split("/")[1]
        return round_of(stage), stage.startswith("teacher/"), KINDS.index(kind) if kind in KINDS else 0, kind

    return sorted((stage for stage in found if STAGE.fullmatch(stage)), key=order)


def complete_metrics(root: Path) -> None:
    """Add the missing lines of finished stages to `metrics.jsonl`, from their manifests."""
    metrics, run = MetricsFile(root / METRICS), RunReader(root)
    for stage in finished_stages(root):
        if stage not in metrics.lines and (manifest := run.stage(stage)) is not None:
            metrics.record(stage, manifest["metrics"], manifest["seconds"], replace=False)


def tracking_of(settings: dict[str, Any], project: str | None = None, entity: str | None = None) -> TrackingConfig:
    """The tracking settings of a run, with the W&B mode that the environment sets."""
    mode = os.environ.get("WANDB_MODE", "online")
    if mode not in ("online", "offline"):
        raise BadConfig(f"WANDB_MODE={mode}: crescent sync needs online or offline; unset it to upload")
    recorded: dict[str, Any] = settings.get("tracking") or {}
    return TrackingConfig(
        wandb=Wandb(mode),
        project=project or str(recorded.get("project") or TrackingConfig.project),
        entity=entity or recorded.get("entity"),
        group=recorded.get("group"),
        tags=[str(tag) for tag in recorded.get("tags") or ()],
        artifacts=Artifacts(recorded.get("artifacts") or TrackingConfig.artifacts.value),
        trackio=bool(recorded.get("trackio")),
    )


def is_uploaded(job: TrackingJob) -> bool:
    """Whether everything has arrived at all destinations of the job."""
    ledger, where = UploadLedger(Path(job.root)), destination(job.tracking)
    if any(ledger.is_behind(each) for each in destinations(job.tracking)):
        return False
    return all(ledger.rows(where, identity) >= 0 for _, identity in RunContents(job, ledger).stages())


def place(job: TrackingJob) -> str:
    """Where W&B runs go, for a message."""
    if job.tracking.wandb is Wandb.offline:
        return f"offline; upload with: wandb sync {job.root}/wandb/offline-run-*"
    return f"project {job.tracking.project}"
