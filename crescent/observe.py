"""Who is told what happens: the console, `metrics.jsonl`, W&B. The only file that imports wandb.

A tracker that fails is switched off with one line; it never stops a run, and what it may cost has a limit.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from crescent.config import TrackingConfig, Wandb
from crescent.console import open_console
from crescent.once import Metrics
from crescent.records import Round, digest

PATIENCE = {
    "WANDB_INIT_TIMEOUT": "30",
    "WANDB_LOGIN_TIMEOUT": "30",
    "WANDB_FINISH_TIMEOUT": "60",
    "WANDB_FINISH_TIMEOUT_RAISES": "true",
    "WANDB_ERROR_REPORTING": "false",
}
"""Seconds that a silent server may cost, where the environment does not say otherwise. Error reporting goes to the same
server and has no limit of its own: 15 s more when it is silent, and its complaints on the error stream."""


class Observer:
    """Everything the loop tells goes through here."""

    def __init__(self, root: Path, tracking: TrackingConfig, run_name: str, settings: Mapping[str, Any]) -> None:
        self.metrics_file = MetricsFile(root / "metrics.jsonl")
        self.console = open_console(tracking.console)
        self.wandb = WandbTracker(root, tracking, run_name, settings, self.console.say)

    def started(self, stage: str, resumed: bool) -> None:
        self.console.started(stage, resumed)
        self.wandb.start()

    def progress(self, stage: str, done: int, total: int, note: str = "") -> None:
        """`done` of `total` units of the stage; `note` says in a few words how it goes."""
        self.console.progress(stage, done, total, note)

    def finished(self, stage: str, metrics: Metrics, seconds: float, fresh: bool) -> None:
        self.metrics_file.record(stage, metrics, seconds, replace=fresh)
        self.wandb.tell(self.metrics_file.lines.values())
        self.console.finished(stage, seconds, fresh)

    def round_done(self, finished: Round) -> None:
        self.console.round_done(finished)

    def say(self, line: str) -> None:
        self.console.say(line)

    def close(self, exit_code: int) -> None:
        self.console.close()
        self.wandb.close(exit_code)


class MetricsFile:
    """One line a finished stage, each stage once, whatever is interrupted and repeated."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[str, dict[str, Any]] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:
                    break
                self.lines[entry["stage"]] = entry

    def record(self, stage: str, metrics: Metrics, seconds: float, replace: bool) -> bool:
        """Write the stage down; returns whether it was not there before."""
        line = {"stage": stage, "round": round_of(stage), "seconds": seconds, **metrics}
        if self.lines.get(stage) == line and not replace:
            return False
        self.lines[stage] = line
        staged = self.path.with_suffix(".new")
        staged.write_text("".join(json.dumps(line) + "\n" for line in self.lines.values()))
        staged.replace(self.path)
        return True


def round_of(stage: str) -> int:
    """`round-3/train` → 3, `base/eval` → 0."""
    first = stage.split("/")[0]
    return int(first.removeprefix("round-")) if first.startswith("round-") else 0


class WandbTracker:
    """One W&B run for the whole loop, its metrics on a round axis.

    Started when the first stage starts work, so that a finished run costs nothing and a missing login shows at once.
    Online that cannot be had becomes offline.
    """

    def __init__(
        self,
        root: Path,
        tracking: TrackingConfig,
        run_name: str,
        settings: Mapping[str, Any],
        say: Callable[[str], None],
    ) -> None:
        self.root = root
        self.tracking = tracking
        self.run_name = run_name
        self.settings = settings
        self.say = say
        self._folder = root / "wandb"
        self._logged = self._folder / "logged.jsonl"
        """The lines of `metrics.jsonl` that W&B was told, by this process or by those before it."""
        self._told = set(self._logged.read_text(errors="replace").splitlines()) if self._logged.is_file() else set()
        self._run: Any = None
        self._off = tracking.wandb is Wandb.disabled

    def start(self) -> None:
        """Open the run, unless it is open."""
        if self._off or self._run is not None:
            return
        try:
            self._run = self._open()
        except Exception as error:
            self._give_up(error)

    def tell(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Log those of the lines that W&B was not told, also by a process that was killed before it could."""
        for line in lines:
            text = json.dumps(line)
            if self._off or text in self._told:
                continue
            self.start()
            if self._run is not None:
                self._log(line, text)

    def close(self, exit_code: int) -> None:
        if self._run is None or self._off:
            return
        try:
            self._run.finish(exit_code=exit_code)
        except TimeoutError:
            warn(f"W&B did not take everything in time; upload it later: wandb sync {Path(self._run.dir).parent}")
        except Exception as error:
            self._give_up(error)

    def _log(self, line: Mapping[str, Any], text: str) -> None:
        kind = line["stage"].split("/")[-1]
        values = {f"round/{kind}/{name}": its for name, its in line.items() if name not in ("stage", "round")}
        try:
            self._run.log({"round": line["round"], **values})
            with self._logged.open("a") as file:
                file.write(text + "\n")
            self._told.add(text)
        except Exception as error:
            self._give_up(error)

    def _open(self) -> Any:
        self._folder.mkdir(exist_ok=True)
        for name in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR", "WANDB_CACHE_DIR"):
            os.environ.setdefault(name, str(self._folder))
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        import wandb

        if self.tracking.wandb is Wandb.online:
            try:
                run = self._init("online")
                self.say(f"W&B: {run.url}")
                return run
            except Exception as error:
                # The service keeps the run's id after a failed start. It may exit(1) for its own troubles: not ours.
                with suppress(Exception, SystemExit):
                    wandb.teardown()
                warn(
                    f"W&B cannot be used online ({cause(error)}); this run is tracked offline, upload it later: "
                    f"wandb sync {self._folder}/offline-run-*"
                )
        return self._init("offline")

    def _init(self, mode: Literal["online", "offline"]) -> Any:
        import wandb

        # Silent for the whole process, not only for the run: without a login, init would otherwise ask for one on the
        # terminal and wait for ever (wandb/errors/term.py, can_use_terminput).
        wandb.setup(wandb.Settings(silent=True))
        run = wandb.init(
            project=self.tracking.project,
            entity=self.tracking.entity,
            group=self.tracking.group,
            name=self.run_name,
            job_type="loop",
            id=digest("loop", self.tracking.project, str(self.root.resolve())),
            resume="allow",
            mode=mode,
            dir=str(self.root),
            config=dict(self.settings),
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )
        run.define_metric("round")
        run.define_metric("round/*", step_metric="round")
        return run

    def _give_up(self, error: Exception) -> None:
        self._off = True
        warn(f"W&B is switched off for this run ({cause(error)}); metrics.jsonl has everything")


def cause(error: Exception) -> str:
    """An error on one line, not longer than one can read."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def warn(line: str) -> None:
    """To people, whatever the console shows."""
    print(line, file=sys.stderr, flush=True)
