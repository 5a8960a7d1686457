"""The only file that imports wandb: opens the W&B runs of a run folder and uploads what they are missing."""

import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from crescent.config import TrackingJob, Wandb
from crescent.run_folder.manifest import damage
from crescent.run_folder.metrics import read_metrics
from crescent.tracking.contents import Alert, Artifact, Row, RunContents, WandbRun
from crescent.tracking.ledger import OFFLINE, UploadLedger, destination, mode_of
from crescent.tracking.samples import Table
from crescent.tracking.view import make_view

SUPERSEDED = "superseded"
"""Folder in `wandb/` for offline runs that were written again: `wandb sync` must not find both versions."""

LOGIN = re.compile(r"\bAPI key\b|returned error 401\b")
"""Substring of wandb's message if no account is logged in, or if the server does not know the key."""


def patience(wait_s: float) -> dict[str, str]:
    """Environment variables that limit the wait for a silent server, in seconds.

    wandb's error reporting uses the same server without a limit: it would take 15 s more if the server is silent, and
    print errors to the error stream.
    """
    return {
        "WANDB_INIT_TIMEOUT": "30",
        "WANDB_LOGIN_TIMEOUT": "30",
        "WANDB_HTTP_TIMEOUT": "10",
        "WANDB_FINISH_TIMEOUT": str(max(1, round(wait_s / 2))),
        "WANDB_FINISH_TIMEOUT_RAISES": "true",
        "WANDB_ERROR_REPORTING": "false",
    }


class WandbReporter:
    """Reports one run folder to W&B. Errors of W&B never leave it; they become lines for the user."""

    def __init__(self, job: TrackingJob, say: Callable[[str], None], warn: Callable[[str], None]) -> None:
        self.job = job
        self.say = say
        self.root = Path(job.root)
        self.ledger = UploadLedger(self.root)
        self.incomplete = False
        """Whether W&B lacks something."""
        self.needs_login = False
        """Whether the reason is that no account is logged in."""
        self._warn = warn
        self._warned: set[str] = set()
        self._online = mode_of(job.tracking) is Wandb.online
        self._sweep: str | None = None
        self._loop: Any = None
        self._sent = 0
        """Number of rows that the loop's W&B run has."""
        self._streams: dict[str, tuple[Any, int]] = {}
        """Open W&B runs of training under way by their ids, each with its number of rows."""
        self._unstreamed: set[str] = set()
        """Ids of W&B runs that could not be streamed."""
        self._tried: set[str] = set()
        """Ids of stages' W&B runs that this process has uploaded; if one failed, only the next process tries again."""

    @property
    def where(self) -> str:
        """Name in the ledger for where W&B runs go now."""
        return destination(self.job.tracking) if self._online else OFFLINE

    def start(self) -> bool:
        """Open the loop's W&B run, online if possible, else offline. Returns whether it is open."""
        folder = self.root / "wandb"
        try:
            folder.mkdir(exist_ok=True)
            for name in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR", "WANDB_CACHE_DIR"):
                os.environ.setdefault(name, str(folder))
            for name, value in patience(self.job.tracking.wait_s).items():
                os.environ.setdefault(name, value)
            loop = RunContents(self.job, self.ledger).loop()
            self._sweep, parameters = leave_sweep()
            loop = replace(loop, config={**loop.config, **parameters})
            import wandb

            # Silent for the whole process, not only for its runs: without a login, init would otherwise ask for one on
            # the terminal and wait for ever (wandb/errors/term.py, can_use_terminput).
            wandb.setup(wandb.Settings(silent=True))
            self._loop = self._open_loop(loop)
        except Exception as error:
            self.needs_login = bool(LOGIN.search(str(error)))
            off = "W&B is switched off for this run" if self.job.live else "nothing was uploaded to W&B"
            self._fail(f"{off} ({cause(error)}); metrics.jsonl has everything")
            return False
        self._sent = self._loop.starting_step
        return True

    def upload(self) -> None:
        """Upload what W&B is missing of the run folder as it is now."""
        if self._loop is None:
            return
        contents = RunContents(self.job, self.ledger)
        try:
            self._complete_config(contents.loop())
            self.ledger.add(read_metrics(self.root))
            for line in self.ledger.lines[self._sent :]:
                self._log(self._loop, contents.loop_row(line))
                self._sent += 1
                if self.job.live and (alert := contents.alert(line)) is not None:
                    self._alert(alert)
        except Exception as error:
            self._loop = None
            self._fail(f"W&B is switched off for this run ({cause(error)}); metrics.jsonl has everything")
            return
        for stage, identity in contents.stages():
            streamed = identity in self._streams
            if (streamed or identity not in self._tried) and self.ledger.rows(self.where, identity) < 0:
                self._tried.add(identity)
                self._upload_stage(contents, stage, identity)

    def stream(self) -> None:
        """Upload the steps of the training under way that W&B does not have yet. After a failure, its curve is uploaded
        when the stage is finished."""
        if self._loop is None:
            return
        contents = RunContents(self.job, self.ledger)
        with suppress(Exception):  # the next upload tries again, and says what is wrong
            self._complete_config(contents.loop())
        for described, rows in contents.under_way():
            if described.id in self._unstreamed:
                continue
            try:
                if described.id not in self._streams:
                    opened = self._init(described)
                    self._streams[described.id] = (opened, opened.starting_step)
                run, sent = self._streams[described.id]
                for row in rows[sent:]:
                    self._log(run, row)
                self._streams[described.id] = (run, max(sent, len(rows)))
            except Exception as error:
                self._unstreamed.add(described.id)
                self._streams.pop(described.id, None)
                self._warn(f"W&B gets the curve of {described.name} when it is finished, not before ({cause(error)})")

    def _complete_config(self, loop: WandbRun) -> None:
        """The settings are in the run folder only once the run has work to do, which may be after it was opened."""
        known = self._loop.config.keys()
        missing = {name: value for name, value in loop.config.items() if name not in known}
        if missing:
            self._loop.config.update(missing, allow_val_change=True)
            self._loop.tags = tuple(dict.fromkeys([*(self._loop.tags or ()), *loop.tags]))

    def save_view(self) -> None:
        """Create or update the view "rounds" of the project, if the package for views is installed."""
        if not self._online or self._loop is None:
            self.say('the view "rounds" was not created: this needs W&B online')
            return
        try:
            benchmarks, known = RunContents(self.job, self.ledger).benchmarks(), self.ledger.view_address(self.where)
            address = make_view(self._loop.entity, self._loop.project, benchmarks, known)
            self.ledger.record_view(self.where, address)
            self.say(f'view "rounds": {address}')
        except Exception as error:
            self._fail(f'the view "rounds" was not created ({cause(error)})')

    def close(self, exit_code: int) -> None:
        """Wait until W&B has everything, at most `tracking.wait_s`."""
        if self._loop is None:
            return
        for identity, (run, _) in self._streams.items():
            self._finish(run, identity, -1, exit_code)
        self._finish(self._loop, self.ledger.loop_id(), self._sent, exit_code)

    def _open_loop(self, loop: WandbRun) -> Any:
        import wandb

        if self._online:
            try:
                run = self._init(loop, self.job.live, self._sweep)
                self.say(f"W&B: {run.url}")
                return run
            except Exception as error:
                # The service keeps the run's id after a failed start. It may call exit(1), which must not end us.
                with suppress(Exception, SystemExit):
                    wandb.teardown()
                if not self.job.live:
                    raise
                self._online = False
                self._fail(
                    f"W&B cannot be used online ({cause(error)}); this run is tracked offline, upload it later: "
                    f"crescent sync {self.root}"
                )
        return self._init(loop, self.job.live, self._sweep)

    def _init(self, described: WandbRun, load: bool = False, sweep: str | None = None) -> Any:
        """Open a W&B run; `load`: record the machine's load, too; `sweep`: W&B sweep that the run belongs to."""
        import wandb

        if not self._online:
            # Offline, W&B always starts at step 0, so the whole run is written again.
            self._supersede(described.id)
        run = wandb.init(
            project=self.job.tracking.project,
            entity=self.job.tracking.entity,
            group=described.group,
            name=described.name,
            job_type=described.job_type,
            id=described.id,
            resume="allow",
            reinit="create_new",
            mode="online" if self._online else "offline",
            dir=str(self.root),
            config=dict(described.config),
            tags=list(described.tags) or None,
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=not load, sweep_id=sweep),
        )
        for pattern, axis in described.axes.items():
            run.define_metric(axis)
            run.define_metric(pattern, step_metric=axis)
        return run

    def _upload_stage(self, contents: RunContents, stage: str, identity: str) -> None:
        try:
            found = contents.stage(stage, identity)
            if found is None:
                self._fail(f"{stage}: {damage(self.root / stage)}, so it is not uploaded to W&B")
                return
            run, sent = self._streams.pop(identity, (None, 0))
            if run is None:
                run = self._init(found.run)
                sent = run.starting_step
            else:
                run.config.update(dict(found.run.config), allow_val_change=True)
            for row in found.rows[sent:]:
                self._log(run, row)
            run.summary.update(dict(found.summary))
            complete = self._link_artifacts(run, found.uses, found.makes)
        except Exception as error:
            self._fail(f"{stage} was not uploaded to W&B ({cause(error)}); upload it later: crescent sync {self.root}")
            return
        self._finish(run, identity, len(found.rows) if complete else -1, 0)

    def _log(self, run: Any, row: Row) -> None:
        """Log one row; W&B numbers the rows. If a table fails, the numbers are logged without it."""
        import wandb

        tables = {name: value for name, value in row.items() if isinstance(value, Table)}
        rest = {name: value for name, value in row.items() if name not in tables}
        made: Mapping[str, Any] = {}
        try:
            # A new object each time: W&B ignores changes to an object that it was given before.
            made = {
                name: wandb.Table(columns=list(table.columns), data=table.cells, allow_mixed_types=True)
                for name, table in tables.items()
            }
            run.log({**rest, **made})
        except Exception as error:
            if not tables:
                raise
            self._fail(f"W&B did not accept tables ({cause(error)}); they are in the run folder")
            run.log(rest)

    def _link_artifacts(self, run: Any, uses: tuple[str, ...], makes: tuple[Artifact, ...]) -> bool:
        """Declare the artifacts that a run used and log those that it made. Returns whether all of that worked.

        Offline, used artifacts cannot be declared; metadata and config name them.
        """
        import wandb

        complete = True

        try:
            for name in uses if self._online else ():
                run.use_artifact(name)
        except Exception as error:
            self._fail(f"W&B did not accept the lineage ({cause(error)}); it is in each run's config: made_from")
            complete = False
        try:
            for made in makes:
                artifact = wandb.Artifact(made.name, type=made.type, metadata=dict(made.metadata))
                for name, text in made.texts.items():
                    with artifact.new_file(name) as file:
                        file.write(text)
                for name, path in made.files.items():
                    artifact.add_file(str(path), name=name, policy="immutable")
                for name, path in made.references.items():
                    # Not read: weights are large, and the metadata has their digests.
                    artifact.add_reference(path.resolve().as_uri(), name=name, checksum=False)
                run.log_artifact(artifact, aliases=list(made.aliases))
        except Exception as error:
            self._fail(f"W&B did not accept artifacts ({cause(error)}); they are in the run folder")
            complete = False
        return complete

    def _alert(self, alert: Alert) -> None:
        # Offline, the whole run is written again each time, with its alerts.
        if self._online and alert.stage in self.ledger.alerts(self.where):
            return
        try:
            self._loop.alert(title=alert.title, text=alert.text, level="WARN")
            self.ledger.record_alert(self.where, alert.stage)
        except Exception as error:
            self._fail(f"W&B did not accept an alert ({cause(error)})")

    def _finish(self, run: Any, identity: str, rows: int, exit_code: int) -> None:
        try:
            run.finish(exit_code=exit_code)
            self.ledger.record_rows(self.where, identity, rows)
            if self._online:
                self._supersede(identity)
        except TimeoutError:
            self._fail(f"W&B did not receive everything in time; upload it later: crescent sync {self.root}")
        except Exception as error:
            self._fail(f"W&B: {cause(error)}; upload it later: crescent sync {self.root}")

    def _supersede(self, identity: str) -> None:
        """Move offline runs with this id aside: their contents are written again."""
        for earlier in (self.root / "wandb").glob(f"offline-run-*-{identity}"):
            target = self.root / "wandb" / SUPERSEDED / earlier.name
            target.parent.mkdir(exist_ok=True)
            if target.exists():
                shutil.rmtree(target)
            shutil.move(earlier, target)

    def _fail(self, line: str) -> None:
        """Show a line once, and remember that W&B lacks something."""
        self.incomplete = True
        if line not in self._warned:
            self._warned.add(line)
            self._warn(line)


def leave_sweep() -> tuple[str | None, dict[str, Any]]:
    """Id of the W&B sweep that this process belongs to, and the sweep's parameters for this run. W&B reads those from a
    run's config to choose the next parameters.

    The environment then no longer names the sweep, so that only the loop's W&B run belongs to it: otherwise W&B would
    give every run of this process the id that the sweep's agent demands.
    """
    for name in ("WANDB_RUN_ID", "WANDB_RUN_GROUP", "WANDB_NAME", "WANDB_RESUME"):
        os.environ.pop(name, None)
    file = os.environ.pop("WANDB_SWEEP_PARAM_PATH", None)
    given = yaml.safe_load(Path(file).read_text()) if file else {}
    parameters = {name: entry["value"] for name, entry in given.items() if name != "wandb_version"}
    return os.environ.pop("WANDB_SWEEP_ID", None), parameters


def cause(error: Exception) -> str:
    """An error as one line of readable length."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def warn(line: str) -> None:
    """Show a line on the error stream, whatever `tracking.console` says."""
    print(line, file=sys.stderr, flush=True)
