"""`python -m eval KEY=VALUE…` evaluates any model (see `--help`); `python -P -m eval job.yaml` does a run's job."""

import sys

from crescent.machine.program import run_to_exit_code


def enter() -> None:
    """Ends the process with the exit code."""
    from eval.standalone import main  # takes seconds, in which a signal may already arrive

    main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(run_to_exit_code(enter))
