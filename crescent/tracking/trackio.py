"""The only file that imports trackio: records the rows of a run folder in trackio's database on this machine.

Each row has an id made from the run folder, and trackio keeps one row per id: recording a row again changes nothing.
"""

from collections.abc import Callable, Sequence

from crescent.config import TrackingJob
from crescent.run_folder.metrics import read_metrics
from crescent.tracking.contents import Row, RunContents, WandbRun
from crescent.tracking.ledger import UploadLedger, trackio_destination
from crescent.tracking.samples import Table
from crescent.tracking.wandb import cause


class TrackioReporter:
    """Records one run folder in trackio: the loop's rows and the trainer's curves, without tables and artifacts."""

    def __init__(self, job: TrackingJob, ledger: UploadLedger, warn: Callable[[str], None]) -> None:
        self.job = job
        self.ledger = ledger
        self.destination = trackio_destination(job.tracking)
        self._warn = warn
        self._warned = ""
        self._streamed: dict[str, int] = {}
        """Number of rows recorded of training under way, by the id of its run."""

    def upload(self) -> None:
        """Record what trackio is missing. After a failure, the next call tries again."""
        if not self.job.tracking.trackio:
            return
        contents = RunContents(self.job, self.ledger)
        try:
            self.ledger.add(read_metrics(contents.root))
            for stage, identity in contents.stages():
                new = stage.endswith("/train") and self.ledger.rows(self.destination, identity) < 0
                if new and (stage_run := contents.stage(stage, identity)) is not None:
                    self._record(stage_run.run, stage_run.rows, 0)
            # Last, because the loop's rows mean that trackio has everything.
            recorded = max(0, self.ledger.rows(self.destination, self.ledger.loop_id()))
            self._record(contents.loop(), [contents.loop_row(line) for line in self.ledger.lines[recorded:]], recorded)
        except Exception as error:
            self._explain(error)

    def stream(self) -> None:
        """Record the new steps of the training under way."""
        if not self.job.tracking.trackio:
            return
        try:
            for run, rows in RunContents(self.job, self.ledger).under_way():
                sent = self._streamed.get(run.id, 0)
                if len(rows) > sent:
                    self._write(run, rows[sent:], sent)
                    self._streamed[run.id] = len(rows)
        except Exception as error:
            self._explain(error)

    def _explain(self, error: Exception) -> None:
        sync = f"try again later: crescent sync {self.job.root}"
        fix = "pip install trackio" if isinstance(error, ImportError) else sync
        line = f"this run was not recorded in trackio ({cause(error)}); {fix}"
        if line != self._warned:
            self._warned = line
            self._warn(line)

    def _record(self, run: WandbRun, rows: Sequence[Row], first: int) -> None:
        """Record rows of a run for good; `first` is the number of the first one."""
        self._write(run, rows, first)
        self.ledger.record_rows(self.destination, run.id, first + len(rows))

    def _write(self, run: WandbRun, rows: Sequence[Row], first: int) -> None:
        """Give rows to trackio.

        Rows are written as trackio's own runs write them: to its database, or to its inbox if that is on a network file
        system. `trackio.init` would ask a server who is logged in, and give each row a new id.
        """
        from trackio import fragments, utils

        axis = next(iter(run.axes.values()))
        records = []
        for number, row in enumerate(rows, start=first):
            entry = {
                "project": self.job.tracking.project,
                "run": run.name,
                "run_id": run.id,
                "config": {**run.config, "_Group": run.group} if number == first else None,
                "metrics": {name: value for name, value in row.items() if not isinstance(value, Table)},
                "step": row[axis],
                "log_id": f"{run.id}-{number}",
            }
            records.append(fragments.metric_record(entry))
        if utils.get_storage_mode() == "jsonl":
            fragments.FragmentWriter().write_local(records)
        else:
            fragments.import_records(records)
