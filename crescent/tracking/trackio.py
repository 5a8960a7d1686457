"""The only file that imports trackio: keeps the rows of a run folder in its database on this machine.

Each row has an id made from the run folder, and trackio keeps one row of each id: telling it again changes nothing.
"""

from collections.abc import Callable, Sequence

from crescent.config import TrackingJob
from crescent.run_folder.metrics import read_metrics
from crescent.tracking.ledger import Ledger, trackio_place
from crescent.tracking.pictures import Picture, Row, RunFolder
from crescent.tracking.samples import Table
from crescent.tracking.wandb import cause


class Trackio:
    """Tells trackio of one run folder: the loop's rows and the trainer's curves, without tables and artifacts."""

    def __init__(self, job: TrackingJob, ledger: Ledger, warn: Callable[[str], None]) -> None:
        self.job = job
        self.ledger = ledger
        self.place = trackio_place(job.tracking)
        self._warn = warn
        self._warned = ""

    def tell(self) -> None:
        """Tell what trackio was not told; what fails is tried again at the next news."""
        if not self.job.tracking.trackio:
            return
        folder = RunFolder(self.job, self.ledger)
        try:
            self.ledger.add(read_metrics(folder.root))
            for stage, identity in folder.stages():
                new = stage.endswith("/train") and self.ledger.rows(self.place, identity) < 0
                if new and (its := folder.stage(stage, identity)) is not None:
                    self._keep(its.picture, its.rows, 0)
            # Last: with the loop's rows, trackio has everything.
            told = max(0, self.ledger.rows(self.place, self.ledger.loop_id()))
            self._keep(folder.loop(), [folder.loop_row(line) for line in self.ledger.lines[told:]], told)
        except Exception as error:
            remedy = "pip install trackio" if isinstance(error, ImportError) else f"later: crescent sync {folder.root}"
            line = f"trackio was not told of this run ({cause(error)}); {remedy}"
            if line != self._warned:
                self._warned = line
                self._warn(line)

    def _keep(self, picture: Picture, rows: Sequence[Row], first: int) -> None:
        """Rows of a run, of which the first is its row `first`.

        Written as trackio's own runs do it: to its database, or to its inbox where that lies on a network's file
        system. `trackio.init` would ask a server who is logged in, and give each row an id of its own.
        """
        from trackio import fragments, utils

        axis = next(iter(picture.axes.values()))
        records = []
        for number, row in enumerate(rows, start=first):
            entry = {
                "project": self.job.tracking.project,
                "run": picture.name,
                "run_id": picture.id,
                "config": {**picture.config, "_Group": picture.group} if number == first else None,
                "metrics": {name: its for name, its in row.items() if not isinstance(its, Table)},
                "step": row[axis],
                "log_id": f"{picture.id}-{number}",
            }
            records.append(fragments.metric_record(entry))
        if utils.get_storage_mode() == "jsonl":
            fragments.FragmentWriter().write_local(records)
        else:
            fragments.import_records(records)
        self.ledger.arrived(self.place, picture.id, first + len(rows))
