"""What was uploaded where, recorded in the run folder's `wandb/`. Losing it costs time, and gives curves that were
streamed a second W&B run."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from itertools import takewhile
from pathlib import Path
from secrets import token_hex
from typing import Any

from crescent.config import TrackingConfig, Wandb
from crescent.machine.disk import write_whole
from crescent.records import digest
from crescent.run_folder.metrics import metric_lines, read_metrics

OFFLINE = "offline"
"""Destination of W&B runs that are files in the run folder."""
MODES = {"disabled": Wandb.disabled, "offline": Wandb.offline, "dryrun": Wandb.offline}
"""Values of `WANDB_MODE`, which job scripts set on machines without a network."""


def mode_of(tracking: TrackingConfig) -> Wandb:
    """The value of `tracking.wandb`, as far as `WANDB_MODE` allows it."""
    allowed = MODES.get(os.environ.get("WANDB_MODE", ""), Wandb.online)
    return min(tracking.wandb, allowed, key=[Wandb.disabled, Wandb.offline, Wandb.online].index)


def destination(tracking: TrackingConfig) -> str:
    """Name in the ledger for where W&B runs go: files in the run folder, or a project of a server."""
    if mode_of(tracking) is not Wandb.online:
        return OFFLINE
    server = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").rstrip("/")
    return f"{server} {tracking.entity or ''}/{tracking.project}"


def trackio_destination(tracking: TrackingConfig) -> str:
    """Name in the ledger for where trackio keeps runs: a project of a folder on this machine."""
    return f"trackio {os.environ.get('TRACKIO_DIR', '')}/{tracking.project}"


def destinations(tracking: TrackingConfig) -> list[str]:
    """Every destination of a run."""
    wandb = [destination(tracking)] if mode_of(tracking) is not Wandb.disabled else []
    return wandb + ([trackio_destination(tracking)] if tracking.trackio else [])


class UploadLedger:
    """The ledger of one run folder. It is read when opened; only one process may write it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "wandb"
        self._logged = self.folder / "logged.jsonl"
        self._uploaded = self.folder / "told.json"
        self.lines: list[dict[str, Any]] = list(takewhile(bool, metric_lines(self._logged)))
        """All lines that `metrics.jsonl` ever had, in the order of upload: the rows of the loop's W&B run."""

    def identity(self) -> str:
        """Identity of this run folder, for ids in W&B: made from its first location, and kept when it is moved."""
        return self._kept("identity", lambda: digest("run", str(self.root.resolve())))

    def loop_id(self) -> str:
        """Id of the loop's W&B run: the one that the agent of a W&B sweep demands, or else our own."""
        swept = os.environ.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else None
        return self._kept("loop-id", lambda: swept or digest("loop", self.identity()))

    def live_id(self, stage: str) -> str:
        """Id of the W&B run of a stage under way, which the stage keeps when it is finished."""
        return self._kept(self._live(stage), lambda: digest("live", self.identity(), stage, token_hex(8)))

    def stage_id(self, stage: str, made: str) -> str:
        """Id of a finished stage's W&B run: that under which it was streamed, or one made from the stage's digest."""
        own = digest("stage", self.identity(), stage, made)
        streamed, live = self.folder / f"streamed-{own}", self.folder / self._live(stage)
        if live.exists():
            live.replace(streamed)
        return streamed.read_text().strip() if streamed.exists() else own

    def add(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Append new lines. This must precede their upload: their positions are the steps in W&B."""
        known = {json.dumps(line, sort_keys=True) for line in self.lines}
        new = [dict(line) for line in lines if json.dumps(line, sort_keys=True) not in known]
        if new:
            self.folder.mkdir(exist_ok=True)
            self.lines += new
            write_whole(self._logged, "".join(json.dumps(line) + "\n" for line in self.lines).encode())

    def rows(self, where: str, run: str) -> int:
        """Number of rows of a W&B run that have certainly arrived; -1 if it was never uploaded to its end."""
        found: int = self._read().get(where, {}).get("rows", {}).get(run, -1)
        return found

    def record_rows(self, where: str, run: str, rows: int) -> None:
        """Record that this many rows of a W&B run have arrived; -1: not all of the run."""
        uploaded = self._read()
        uploaded.setdefault(where, {}).setdefault("rows", {})[run] = rows
        self._write(uploaded)

    def alerts(self, where: str) -> list[str]:
        """Stages for which an alert was sent."""
        found: list[str] = self._read().get(where, {}).get("alerts", [])
        return found

    def record_alert(self, where: str, stage: str) -> None:
        uploaded = self._read()
        uploaded.setdefault(where, {}).setdefault("alerts", []).append(stage)
        self._write(uploaded)

    def is_behind(self, where: str) -> bool:
        """Whether `metrics.jsonl` has lines that are missing from the loop's W&B run."""
        self.add(read_metrics(self.root))
        return len(self.lines) > self.rows(where, self.loop_id())

    def view_address(self, where: str) -> str | None:
        """Address of the view "rounds" that was created in a project."""
        found: str | None = self._read().get(where, {}).get("view")
        return found

    def record_view(self, where: str, address: str) -> None:
        uploaded = self._read()
        uploaded.setdefault(where, {})["view"] = address
        self._write(uploaded)

    @staticmethod
    def _live(stage: str) -> str:
        return f"live-{stage.replace('/', '-')}"

    def _kept(self, name: str, make: Callable[[], str]) -> str:
        path = self.folder / name
        if not path.exists():
            self.folder.mkdir(exist_ok=True)
            write_whole(path, make().encode())
        return path.read_text().strip()

    def _read(self) -> dict[str, Any]:
        try:
            found: object = json.loads(self._uploaded.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, uploaded: Mapping[str, Any]) -> None:
        self.folder.mkdir(exist_ok=True)
        write_whole(self._uploaded, json.dumps(uploaded, indent=1).encode())
