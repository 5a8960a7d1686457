"""`python -P -m crescent.tracking job.yaml`: reports a run folder to W&B and trackio, in a separate process.

Each line on standard input means that something was finished; a number means that the run has ended with that exit
code. Lines for the user go to standard output. If standard input is empty, everything is uploaded once. Between
the lines, the training under way is streamed.
"""

import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path

from crescent.config import TrackingJob, Wandb, read_job
from crescent.tracking.ledger import mode_of
from crescent.tracking.process import INCOMPLETE, NO_LOGIN
from crescent.tracking.trackio import TrackioReporter
from crescent.tracking.wandb import WandbReporter, cause, warn


def main(job_file: Path) -> int:
    """Returns 0, `INCOMPLETE` or `NO_LOGIN`."""
    job = read_job(job_file, TrackingJob)
    wandb = WandbReporter(job, say=lambda line: print(line, flush=True), warn=warn)
    # From 0 to 255. If the input ends without a number, the supervisor was killed.
    exit_code = 1
    trackio = TrackioReporter(job, wandb.ledger, warn)
    trackio.upload()
    if (mode_of(job.tracking) is not Wandb.disabled and wandb.start()) or job.tracking.trackio:
        wandb.upload()
        for line in notifications(job.tracking.stream_s):
            if line is None:
                trackio.stream()
                wandb.stream()
                continue
            if line.strip().isdigit():
                exit_code = int(line)
                break
            trackio.upload()
            wandb.upload()
        trackio.upload()
        wandb.upload()
        if job.view:
            wandb.save_view()
        wandb.close(exit_code)
    return NO_LOGIN if wandb.needs_login else INCOMPLETE if wandb.incomplete else 0


def notifications(patience_s: float) -> Iterator[bytes | None]:
    """The lines on standard input, and `None` whenever `patience_s` seconds have passed without one."""
    unread = b""
    while True:
        ready, _, _ = select.select([sys.stdin], [], [], patience_s)
        if not ready:
            yield None
            continue
        chunk = os.read(sys.stdin.fileno(), 1 << 16)
        if not chunk:
            return
        *lines, unread = (unread + chunk).split(b"\n")
        yield from lines


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1])))
    except Exception as error:
        warn(f"W&B is switched off for this run ({cause(error)}); metrics.jsonl has everything")
        sys.exit(INCOMPLETE)
