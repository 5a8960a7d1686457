"""Who is told what happens: the console, `metrics.jsonl`, W&B.

A tracker that fails is switched off with one line; it never stops a run, and what it may cost has a limit.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from crescent.config import TrackingConfig, TrackingJob
from crescent.records import Round
from crescent.run_folder.ended import FILE as ENDED
from crescent.run_folder.metrics import MetricsFile
from crescent.run_folder.once import Metrics
from crescent.run_folder.places import METRICS, REPORT
from crescent.show.console import open_console
from crescent.tracking.ledger import Ledger, destinations
from crescent.tracking.process import TrackingProcess


class Observer:
    """Everything the loop tells goes through here."""

    def __init__(self, root: Path, tracking: TrackingConfig, run_name: str) -> None:
        self.metrics_file = MetricsFile(root / METRICS)
        self.report = ReportFile(root, tracking.hourly_rate)
        self.console = open_console(tracking.console)
        self.wandb = WandbTracker(TrackingJob(str(root), run_name, tracking), self.console.say)

    def started(self, stage: str, resumed: bool) -> None:
        self.console.started(stage, resumed)
        self.wandb.start()

    def progress(self, stage: str, done: int, total: int, note: str = "") -> None:
        """`done` of `total` units of the stage; `note` says in a few words how it goes."""
        self.console.progress(stage, done, total, note)

    def finished(self, stage: str, metrics: Metrics, seconds: float, fresh: bool) -> None:
        self.metrics_file.record(stage, metrics, seconds, replace=fresh)
        self.wandb.news()
        self.console.finished(stage, seconds, fresh)

    def round_done(self, finished: Round) -> None:
        self.console.round_done(finished)
        self.report.update()

    def say(self, line: str) -> None:
        self.console.say(line)

    def close(self, exit_code: int) -> None:
        self.console.close()
        self.report.update()
        self.wandb.close(exit_code)


class ReportFile:
    """`report.html`: after each round, and when the run ends, however it ends."""

    def __init__(self, root: Path, rate: float | None) -> None:
        self.root = root
        self.rate = rate
        """Money per machine-hour."""

    def update(self) -> None:
        """Write it anew, unless nothing was finished since it was written, and nothing failed."""
        from crescent.report import write_report

        metrics, page = self.root / METRICS, self.root / REPORT
        told = [its.stat().st_mtime_ns for its in (metrics, self.root / ENDED) if its.exists()]
        try:
            if metrics.exists() and not (page.exists() and page.stat().st_mtime_ns > max(told)):
                write_report([self.root], page, self.rate)
        except Exception as error:  # what came of the run is whole without its picture
            cause = f"{type(error).__name__}: {error}"
            print(f"no report ({cause}); crescent report {self.root} tries again", file=sys.stderr, flush=True)


class WandbTracker:
    """W&B, told by a process of its own.

    Started when the first stage starts work, so that a finished run costs nothing and a missing login shows at once.
    """

    def __init__(self, job: TrackingJob, say: Callable[[str], None]) -> None:
        self.job = job
        self.say = say
        self._process: TrackingProcess | None = None
        self._off = not destinations(job.tracking)

    @property
    def started(self) -> bool:
        """Whether W&B is told by this run."""
        return self._process is not None

    def start(self) -> None:
        """Start the process, unless it was started."""
        if self._off or self._process is not None:
            return
        try:
            self._process = TrackingProcess(self.job, self.say)
        except OSError as error:
            self._give_up(error)

    def news(self) -> None:
        """A stage stands in `metrics.jsonl`."""
        if self._process is not None:
            self._process.news()

    def close(self, exit_code: int) -> None:
        """Let W&B take the rest, also what a process that was killed could not tell it; not longer than it may cost."""
        if self._off:
            return
        try:
            ledger = Ledger(Path(self.job.root))
            if self._process is None and any(ledger.behind(where) for where in destinations(self.job.tracking)):
                self.start()
            if self._process is not None:
                self._process.close(exit_code)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._off = True
        print(f"W&B is switched off for this run ({error}); metrics.jsonl has everything", file=sys.stderr, flush=True)
