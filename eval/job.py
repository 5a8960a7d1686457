"""`python -P -m eval [--items | --reliability | --harness TOKENIZER] JOB.yaml`: do the job of one file of a run."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from crescent.config import EvalJob, ReliabilityJob, read_job
from crescent.machine.program import run_to_exit_code
from eval import evaluate


def main(arguments: Sequence[str]) -> int:
    """Do the job and show its result. Returns the exit code; the reason for any but 0 is on stderr."""
    parser = argparse.ArgumentParser(prog="python -P -m eval", description="Evaluate a served checkpoint.")
    parser.add_argument(
        "job", type=Path, help="YAML file of crescent.config.EvalJob (or ReliabilityJob); the loop writes it"
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--items", action="store_true", help="only list all benchmark items; no engine is asked")
    only.add_argument("--reliability", action="store_true", help="vote on dev items instead, beside their labels")
    only.add_argument("--harness", metavar="TOKENIZER", help="run eval.harness.tasks of lm-eval instead")
    given = parser.parse_args(arguments)
    if given.harness:
        from eval import harness

        return harness.main([str(given.job), "--tokenizer", given.harness])
    if given.reliability:
        return run_to_exit_code(lambda: _measure_reliability(given.job))
    if given.items:
        return run_to_exit_code(lambda: evaluate.write_items(read_job(given.job, EvalJob), Console()))
    return run_to_exit_code(lambda: evaluate.show(evaluate.run(read_job(given.job, EvalJob)), Console()))


def _measure_reliability(job: Path) -> None:
    from crescent.show.reliability import show_tables
    from eval import labelled_votes

    show_tables(labelled_votes.run(read_job(job, ReliabilityJob)), Console())
