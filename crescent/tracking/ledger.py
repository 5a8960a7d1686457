"""Who was told what, in the run folder's `wandb/`. A lost ledger costs time and nothing else."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from crescent.config import TrackingConfig, Wandb
from crescent.machine.disk import write_whole
from crescent.records import digest
from crescent.run_folder.metrics import metric_lines, read_metrics

OFFLINE = "offline"


MODES = {"disabled": Wandb.disabled, "offline": Wandb.offline, "dryrun": Wandb.offline}
"""By `WANDB_MODE`, as job scripts on machines without a network set it."""


def mode_of(tracking: TrackingConfig) -> Wandb:
    """What `tracking.wandb` asks for, as far as `WANDB_MODE` allows it."""
    allowed = MODES.get(os.environ.get("WANDB_MODE", ""), Wandb.online)
    return min(tracking.wandb, allowed, key=[Wandb.disabled, Wandb.offline, Wandb.online].index)


def destination(tracking: TrackingConfig) -> str:
    """Stands for where W&B runs go: files in the run folder, or a project of a server."""
    if mode_of(tracking) is not Wandb.online:
        return OFFLINE
    server = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").rstrip("/")
    return f"{server} {tracking.entity or ''}/{tracking.project}"


def trackio_place(tracking: TrackingConfig) -> str:
    """Stands for where trackio keeps runs: a project of a folder on this machine."""
    return f"trackio {os.environ.get('TRACKIO_DIR', '')}/{tracking.project}"


def destinations(tracking: TrackingConfig) -> list[str]:
    """Everywhere that is told."""
    wandb = [destination(tracking)] if mode_of(tracking) is not Wandb.disabled else []
    return wandb + ([trackio_place(tracking)] if tracking.trackio else [])


class Ledger:
    """One run folder's. Read when it is opened; only one process writes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "wandb"
        self._logged = self.folder / "logged.jsonl"
        self._told = self.folder / "told.json"
        self.lines: list[dict[str, Any]] = list(takewhile(bool, metric_lines(self._logged)))
        """All lines that `metrics.jsonl` ever had, in the order W&B is told them: the rows of the loop's W&B run."""

    def identity(self) -> str:
        """Of this run folder, for ids in W&B: made from where it first lay, and kept when it is moved."""
        return self._kept("identity", lambda: digest("run", str(self.root.resolve())))

    def loop_id(self) -> str:
        """Of the loop's W&B run: the id that the agent of a W&B sweep wants it to have, or one of our own."""
        swept = os.environ.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else None
        return self._kept("loop-id", lambda: swept or digest("loop", self.identity()))

    def add(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Append those that are not there. Before W&B hears of them: their places are its steps."""
        known = {json.dumps(line, sort_keys=True) for line in self.lines}
        new = [dict(line) for line in lines if json.dumps(line, sort_keys=True) not in known]
        if new:
            self.folder.mkdir(exist_ok=True)
            self.lines += new
            write_whole(self._logged, "".join(json.dumps(line) + "\n" for line in self.lines).encode())

    def rows(self, where: str, run: str) -> int:
        """How many rows of a W&B run have arrived for certain; -1 when it was never told to its end."""
        found: int = self._read().get(where, {}).get("rows", {}).get(run, -1)
        return found

    def arrived(self, where: str, run: str, rows: int) -> None:
        told = self._read()
        told.setdefault(where, {}).setdefault("rows", {})[run] = rows
        self._write(told)

    def alerted(self, where: str) -> list[str]:
        """The stages that people were alerted about."""
        found: list[str] = self._read().get(where, {}).get("alerts", [])
        return found

    def alert(self, where: str, stage: str) -> None:
        told = self._read()
        told.setdefault(where, {}).setdefault("alerts", []).append(stage)
        self._write(told)

    def behind(self, where: str) -> bool:
        """Whether the loop's W&B run was not told of all that stands in `metrics.jsonl`."""
        self.add(read_metrics(self.root))
        return len(self.lines) > self.rows(where, self.loop_id())

    def view(self, where: str) -> str | None:
        """Address of the view that was made of a project."""
        found: str | None = self._read().get(where, {}).get("view")
        return found

    def viewed(self, where: str, address: str) -> None:
        told = self._read()
        told.setdefault(where, {})["view"] = address
        self._write(told)

    def _kept(self, name: str, make: Callable[[], str]) -> str:
        path = self.folder / name
        if not path.exists():
            self.folder.mkdir(exist_ok=True)
            write_whole(path, make().encode())
        return path.read_text().strip()

    def _read(self) -> dict[str, Any]:
        try:
            found: object = json.loads(self._told.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, told: Mapping[str, Any]) -> None:
        self.folder.mkdir(exist_ok=True)
        write_whole(self._told, json.dumps(told, indent=1).encode())
