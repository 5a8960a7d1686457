"""The only file that imports wandb: opens the W&B runs of a run folder and tells them what they were not told."""

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
from crescent.tracking.ledger import OFFLINE, Ledger, destination, mode_of
from crescent.tracking.pictures import Alert, Artifact, Picture, Row, RunFolder
from crescent.tracking.samples import Table
from crescent.tracking.view import make_view

SUPERSEDED = "superseded"
"""Folder below `wandb/` for offline runs that were told anew, in one piece: `wandb sync` is not to find both."""

LOGIN = re.compile(r"\bAPI key\b|returned error 401\b")
"""In what its library says where nobody is logged in, or with a key that the server does not know."""


def patience(wait_s: float) -> dict[str, str]:
    """Seconds that a silent server may cost, where the environment does not say otherwise.

    Error reporting goes to the same server and has no limit of its own: 15 s more when it is silent, and its complaints
    on the error stream.
    """
    return {
        "WANDB_INIT_TIMEOUT": "30",
        "WANDB_LOGIN_TIMEOUT": "30",
        "WANDB_HTTP_TIMEOUT": "10",
        "WANDB_FINISH_TIMEOUT": str(max(1, round(wait_s / 2))),
        "WANDB_FINISH_TIMEOUT_RAISES": "true",
        "WANDB_ERROR_REPORTING": "false",
    }


class Client:
    """Tells W&B of one run folder. Nothing that W&B does comes out of it but lines for people."""

    def __init__(self, job: TrackingJob, say: Callable[[str], None], warn: Callable[[str], None]) -> None:
        self.job = job
        self.say = say
        self.root = Path(job.root)
        self.ledger = Ledger(self.root)
        self.incomplete = False
        """Whether W&B lacks something."""
        self.unknown_here = False
        """Whether that is for want of a login."""
        self._warn = warn
        self._warned: set[str] = set()
        self._online = mode_of(job.tracking) is Wandb.online
        self._sweep: str | None = None
        self._loop: Any = None
        self._told = 0
        """Rows of the loop's W&B run that it has."""
        self._tried: set[str] = set()
        """Ids of stages' W&B runs that were told: should one fail, the next process tries again."""

    @property
    def where(self) -> str:
        """The ledger's name for where W&B runs go now."""
        return destination(self.job.tracking) if self._online else OFFLINE

    def start(self) -> bool:
        """Open the loop's W&B run: online, or offline where that cannot be had. Returns whether it is open."""
        folder = self.root / "wandb"
        try:
            folder.mkdir(exist_ok=True)
            for name in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR", "WANDB_CACHE_DIR"):
                os.environ.setdefault(name, str(folder))
            for name, value in patience(self.job.tracking.wait_s).items():
                os.environ.setdefault(name, value)
            picture = RunFolder(self.job, self.ledger).loop()
            self._sweep, parameters = leave_sweep()
            picture = replace(picture, config={**picture.config, **parameters})
            import wandb

            # Silent for the whole process, not only for its runs: without a login, init would otherwise ask for one on
            # the terminal and wait for ever (wandb/errors/term.py, can_use_terminput).
            wandb.setup(wandb.Settings(silent=True))
            self._loop = self._open_loop(picture)
        except Exception as error:
            self.unknown_here = bool(LOGIN.search(str(error)))
            off = "is switched off for this run" if self.job.live else "cannot be told"
            self._fail(f"W&B {off} ({cause(error)}); metrics.jsonl has everything")
            return False
        self._told = self._loop.starting_step
        return True

    def tell(self) -> None:
        """Tell W&B what it was not told of the run folder as it is now."""
        if self._loop is None:
            return
        folder = RunFolder(self.job, self.ledger)
        try:
            self.ledger.add(read_metrics(self.root))
            for line in self.ledger.lines[self._told :]:
                self._log(self._loop, folder.loop_row(line))
                self._told += 1
                if self.job.live and (alert := folder.alert(line)) is not None:
                    self._alert(alert)
        except Exception as error:
            self._loop = None
            self._fail(f"W&B is switched off for this run ({cause(error)}); metrics.jsonl has everything")
            return
        for stage, identity in folder.stages():
            if identity not in self._tried and self.ledger.rows(self.where, identity) < 0:
                self._tried.add(identity)
                self._tell_stage(folder, stage, identity)

    def view(self) -> None:
        """Make the view "rounds" of the project, where the package that makes views is installed."""
        if not self._online or self._loop is None:
            self.say('no view "rounds" was made: that needs W&B online')
            return
        try:
            benchmarks, known = RunFolder(self.job, self.ledger).scores(), self.ledger.view(self.where)
            made = make_view(self._loop.entity, self._loop.project, benchmarks, known)
            self.ledger.viewed(self.where, made)
            self.say(f'view "rounds": {made}')
        except Exception as error:
            self._fail(f'no view "rounds" was made ({cause(error)})')

    def close(self, exit_code: int) -> None:
        """Wait, for as long as `tracking.wait_s` says, until W&B has everything."""
        if self._loop is None:
            return
        self._finish(self._loop, self.ledger.loop_id(), self._told, exit_code)

    def _open_loop(self, picture: Picture) -> Any:
        import wandb

        if self._online:
            try:
                run = self._init(picture, self.job.live, self._sweep)
                self.say(f"W&B: {run.url}")
                return run
            except Exception as error:
                # The service keeps the run's id after a failed start. It may exit(1) for its own troubles: not ours.
                with suppress(Exception, SystemExit):
                    wandb.teardown()
                if not self.job.live:
                    raise
                self._online = False
                self._fail(
                    f"W&B cannot be used online ({cause(error)}); this run is tracked offline, upload it later: "
                    f"crescent sync {self.root}"
                )
        return self._init(picture, self.job.live, self._sweep)

    def _init(self, picture: Picture, load: bool = False, sweep: str | None = None) -> Any:
        """Open a W&B run; `load`: with the load of this machine; `sweep`: as a point of this W&B sweep."""
        import wandb

        if not self._online:
            # W&B starts at step 0 offline, whatever was told before: the run is told anew, in one piece.
            self._supersede(picture.id)
        run = wandb.init(
            project=self.job.tracking.project,
            entity=self.job.tracking.entity,
            group=picture.group,
            name=picture.name,
            job_type=picture.job_type,
            id=picture.id,
            resume="allow",
            reinit="create_new",
            mode="online" if self._online else "offline",
            dir=str(self.root),
            config=dict(picture.config),
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=not load, sweep_id=sweep),
        )
        for glob, axis in picture.axes.items():
            run.define_metric(axis)
            run.define_metric(glob, step_metric=axis)
        return run

    def _tell_stage(self, folder: RunFolder, stage: str, identity: str) -> None:
        try:
            its = folder.stage(stage, identity)
            if its is None:
                self._fail(f"{stage}: {damage(self.root / stage)}, so W&B is not told of it")
                return
            run = self._init(its.picture)
            for row in its.rows[run.starting_step :]:
                self._log(run, row)
            run.summary.update(dict(its.summary))
            exchanged = self._exchange(run, its.uses, its.makes)
        except Exception as error:
            self._fail(f"W&B was not told of {stage} ({cause(error)}); later: crescent sync {self.root}")
            return
        self._finish(run, identity, len(its.rows) if exchanged else -1, 0)

    def _log(self, run: Any, row: Row) -> None:
        """One row. W&B numbers them; a table that cannot be made does not keep the numbers from being told."""
        import wandb

        tables = {name: its for name, its in row.items() if isinstance(its, Table)}
        rest = {name: its for name, its in row.items() if name not in tables}
        made: Mapping[str, Any] = {}
        try:
            # A new object each time: W&B does not look at one again that it was given before.
            made = {
                name: wandb.Table(
                    columns=list(its.columns), data=[list(cells) for cells in its.rows], allow_mixed_types=True
                )
                for name, its in tables.items()
            }
            run.log({**rest, **made})
        except Exception as error:
            if not tables:
                raise
            self._fail(f"W&B does not take tables ({cause(error)}); they are in the run folder")
            run.log(rest)

    def _exchange(self, run: Any, uses: tuple[str, ...], makes: tuple[Artifact, ...]) -> bool:
        """Artifacts that go in and come out; returns whether all of them did.

        Offline none can go in: what did is in the metadata and the config.
        """
        import wandb

        exchanged = True

        try:
            for name in uses if self._online else ():
                run.use_artifact(name)
        except Exception as error:
            self._fail(
                f"W&B does not know what was made of what ({cause(error)}); each run's config says it: made_from"
            )
            exchanged = False
        try:
            for its in makes:
                artifact = wandb.Artifact(its.name, type=its.type, metadata=dict(its.metadata))
                for name, text in its.texts.items():
                    with artifact.new_file(name) as file:
                        file.write(text)
                for name, path in its.files.items():
                    artifact.add_file(str(path), name=name, policy="immutable")
                for name, path in its.references.items():
                    # Not read: weights are large, and their digests stand in the metadata.
                    artifact.add_reference(path.resolve().as_uri(), name=name, checksum=False)
                run.log_artifact(artifact, aliases=list(its.aliases))
        except Exception as error:
            self._fail(f"W&B does not take artifacts ({cause(error)}); they are in the run folder")
            exchanged = False
        return exchanged

    def _alert(self, alert: Alert) -> None:
        # Offline the whole run is told anew each time, alerts included.
        if self._online and alert.stage in self.ledger.alerted(self.where):
            return
        try:
            self._loop.alert(title=alert.title, text=alert.text, level="WARN")
            self.ledger.alert(self.where, alert.stage)
        except Exception as error:
            self._fail(f"W&B does not take alerts ({cause(error)})")

    def _finish(self, run: Any, identity: str, rows: int, exit_code: int) -> None:
        try:
            run.finish(exit_code=exit_code)
            self.ledger.arrived(self.where, identity, rows)
            if self._online:
                self._supersede(identity)
        except TimeoutError:
            self._fail(f"W&B did not take everything in time; upload it later: crescent sync {self.root}")
        except Exception as error:
            self._fail(f"W&B: {cause(error)}; upload it later: crescent sync {self.root}")

    def _supersede(self, identity: str) -> None:
        """Put offline runs with this id aside: what they hold is told anew."""
        for earlier in (self.root / "wandb").glob(f"offline-run-*-{identity}"):
            target = self.root / "wandb" / SUPERSEDED / earlier.name
            target.parent.mkdir(exist_ok=True)
            if target.exists():
                shutil.rmtree(target)
            shutil.move(earlier, target)

    def _fail(self, line: str) -> None:
        """Say it once."""
        self.incomplete = True
        if line not in self._warned:
            self._warned.add(line)
            self._warn(line)


def leave_sweep() -> tuple[str | None, dict[str, Any]]:
    """The W&B sweep that this process is a point of, and the point's parameters by the sweep's names for them, as W&B
    looks for them in a run's config to choose the next point.

    From here on, only the loop's W&B run is a point: W&B would give every run of the process the id that the sweep's
    agent has for one.
    """
    for name in ("WANDB_RUN_ID", "WANDB_RUN_GROUP", "WANDB_NAME", "WANDB_RESUME"):
        os.environ.pop(name, None)
    file = os.environ.pop("WANDB_SWEEP_PARAM_PATH", None)
    told = yaml.safe_load(Path(file).read_text()) if file else {}
    parameters = {name: its["value"] for name, its in told.items() if name != "wandb_version"}
    return os.environ.pop("WANDB_SWEEP_ID", None), parameters


def cause(error: Exception) -> str:
    """An error on one line, not longer than one can read."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def warn(line: str) -> None:
    """To people, whatever the console shows."""
    print(line, file=sys.stderr, flush=True)
