"""Reports what happens in a run: console, `metrics.jsonl`, report, W&B and trackio.

A tracker that fails is switched off with one line. It never stops a run, and the time it may take is limited.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from crescent.config import TrackingConfig, TrackingJob
from crescent.records import Round
from crescent.run_folder.ended import FILE as ENDED
from crescent.run_folder.manifest import reused_from
from crescent.run_folder.metrics import MetricsFile
from crescent.run_folder.once import Metrics
from crescent.run_folder.places import METRICS, REPORT
from crescent.show.console import open_console
from crescent.show.forecast import Forecast
from crescent.tracking.ledger import UploadLedger, destinations
from crescent.tracking.process import TrackingProcess


class RunObserver:
    """The observer of a run (`crescent.workplace.Observer`): passes everything on."""

    def __init__(self, root: Path, tracking: TrackingConfig, run_name: str, rounds: int = 1) -> None:
        self.root = root
        self.forecast = Forecast(rounds, tracking.hourly_rate)
        self.metrics_file = MetricsFile(root / METRICS)
        self.report = ReportFile(root, tracking.hourly_rate)
        self.console = open_console(tracking.console, self.forecast)
        self.wandb = WandbTracker(TrackingJob(str(root), run_name, tracking), self.console.log)

    def started(self, stage: str, resumed: bool) -> None:
        self.console.started(stage, resumed)
        self.wandb.start()

    def progress(self, stage: str, done: int, total: int, note: str = "") -> None:
        """`done` of `total` units of the stage are done; `note` describes the progress in a few words."""
        self.console.progress(stage, done, total, note)

    def finished(self, stage: str, metrics: Metrics, seconds: float, fresh: bool) -> None:
        self.metrics_file.record(stage, metrics, seconds, replace=fresh)
        self.forecast.finished(stage, seconds, here=fresh or reused_from(self.root / stage) is None)
        self.wandb.notify()
        self.console.finished(stage, seconds, fresh)

    def reused(self, stage: str, metrics: Metrics, seconds: float, run: str) -> None:
        self.metrics_file.record(stage, metrics, seconds, replace=True)
        self.forecast.finished(stage, seconds, here=False)
        self.wandb.start()
        self.wandb.notify()
        self.console.reused(stage, run)

    def not_reused(self, stage: str, why: str) -> None:
        self.console.log(f"{stage}: {why}")

    def noticed(self, stage: str, what: str) -> None:
        self.console.log(f"{stage}: {what}")

    def round_done(self, finished: Round) -> None:
        self.console.round_done(finished)
        if self.report.update():
            self.console.log(f"so far: {self.report.costs}")

    def say(self, line: str) -> None:
        self.console.log(line)

    def close(self, exit_code: int) -> None:
        self.console.close()
        self.report.update()
        self.wandb.close(exit_code)


class ReportFile:
    """`report.html`, written after each round and at the end of the run, whether it succeeds or fails."""

    def __init__(self, root: Path, rate: float | None) -> None:
        self.root = root
        self.rate = rate
        """Price of a machine-hour."""
        self.costs = ""
        """What the run cost until the report was written last, as a text."""

    def update(self) -> bool:
        """Write it again if a stage was finished, or the run failed, since it was written. Returns whether it was."""
        from crescent.report import write_report
        from crescent.report.costs import costs_so_far

        metrics, page = self.root / METRICS, self.root / REPORT
        sources = [path.stat().st_mtime_ns for path in (metrics, self.root / ENDED) if path.exists()]
        try:
            if metrics.exists() and not (page.exists() and page.stat().st_mtime_ns > max(sources)):
                write_report([self.root], page, self.rate)
                self.costs = costs_so_far(self.root, self.rate)
                return True
        except Exception as error:  # the run is complete without its report
            cause = f"{type(error).__name__}: {error}"
            print(f"no report ({cause}); to try again: crescent report {self.root}", file=sys.stderr, flush=True)
        return False


class WandbTracker:
    """Reports to W&B through a separate process.

    The process starts with the first stage that has work to do. So a finished run costs nothing, and a missing login
    shows at once.
    """

    def __init__(self, job: TrackingJob, say: Callable[[str], None]) -> None:
        self.job = job
        self.say = say
        self._process: TrackingProcess | None = None
        self._off = not destinations(job.tracking)

    @property
    def started(self) -> bool:
        """Whether the process was started."""
        return self._process is not None

    def start(self) -> None:
        """Start the process, unless it is running."""
        if self._off or self._process is not None:
            return
        try:
            self._process = TrackingProcess(self.job, self.say)
        except OSError as error:
            self._switch_off(error)

    def notify(self) -> None:
        """Report that `metrics.jsonl` has a new line."""
        if self._process is not None:
            self._process.notify()

    def close(self, exit_code: int) -> None:
        """Upload the rest, including what a killed process left; takes at most `tracking.wait_s`."""
        if self._off:
            return
        try:
            ledger = UploadLedger(Path(self.job.root))
            if self._process is None and any(ledger.is_behind(where) for where in destinations(self.job.tracking)):
                self.start()
            if self._process is not None:
                self._process.close(exit_code)
        except OSError as error:
            self._switch_off(error)

    def _switch_off(self, error: OSError) -> None:
        self._off = True
        print(f"W&B is switched off for this run ({error}); metrics.jsonl has everything", file=sys.stderr, flush=True)
