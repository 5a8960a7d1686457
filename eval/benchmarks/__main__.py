"""`python -P -m eval.benchmarks --check JOB.yaml`: whether the files of one's own that a job names can be asked.

It reads them as the evaluation does, and nothing that would have to be downloaded or generated: a plan waits for it.
"""

import sys
from pathlib import Path

from crescent.config import EvalConfig, EvalJob, Source, read_job
from crescent.machine.program import run_to_exit_code
from eval.benchmarks import check_apart, usable


def check_own(config: EvalConfig) -> None:
    """Refuse JSONL files of one's own without a usable item, or with a question in a dev and in a test set.

    Raises:
        Missing, BadConfig, DataSaysNo: as `eval.benchmarks.load` and `eval.benchmarks.check_apart`.
    """
    own = {name: each for name, each in config.benchmarks.items() if each.source is Source.jsonl}
    check_apart(own, [item for name, each in own.items() for item in usable(name, each, config.data).items])


if __name__ == "__main__":
    sys.exit(run_to_exit_code(lambda: check_own(read_job(Path(sys.argv[-1]), EvalJob).eval)))
