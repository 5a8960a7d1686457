"""`python -P -m crescent.tracking job.yaml`: tells W&B and trackio of a run folder, in a process of its own.

Each line on its input says that there is news; a number says that the run has ended, with that exit code. What people
should read comes out on its output. With no input it tells what there is, and ends.
"""

import sys
from pathlib import Path

from crescent.config import TrackingJob, Wandb, read_job
from crescent.tracking.ledger import mode_of
from crescent.tracking.process import INCOMPLETE, NO_LOGIN
from crescent.tracking.trackio import Trackio
from crescent.tracking.wandb import Client, cause, warn


def main(job_file: Path) -> int:
    """Returns 0, `INCOMPLETE` or `NO_LOGIN`."""
    job = read_job(job_file, TrackingJob)
    client = Client(job, say=lambda line: print(line, flush=True), warn=warn)
    # Numbers from 0 to 255; an input that ends without one is that of a supervisor that was killed.
    exit_code = 1
    trackio = Trackio(job, client.ledger, warn)
    trackio.tell()
    if (mode_of(job.tracking) is not Wandb.disabled and client.start()) or job.tracking.trackio:
        client.tell()
        for line in sys.stdin:
            if line.strip().isdecimal():
                exit_code = int(line)
                break
            trackio.tell()
            client.tell()
        trackio.tell()
        client.tell()
        if job.view:
            client.view()
        client.close(exit_code)
    return NO_LOGIN if client.unknown_here else INCOMPLETE if client.incomplete else 0


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1])))
    except Exception as error:
        warn(f"W&B is switched off for this run ({cause(error)}); metrics.jsonl has everything")
        sys.exit(INCOMPLETE)
