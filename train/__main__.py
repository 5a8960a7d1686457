"""`python -P -m train job.yaml`: train the child of one round on its pairs."""

import sys

from crescent.machine.program import run_to_exit_code


def enter() -> None:
    """Ends the process with the exit code."""
    from train.job import main  # takes seconds, in which a signal may already arrive

    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(run_to_exit_code(enter))
