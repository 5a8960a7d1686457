"""The loop. READ FIRST.

    python -m crescent.loop +experiment=qwen7b

A model invents questions, answers each several times, and learns from what most of its answers agree on. A child that
is better than its parent becomes the next parent; any other child is not. Every stage runs once: running the same
command again resumes the run where it stopped.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from crescent.machine.program import run_to_exit_code
from crescent.records import Evaluation, Round

if TYPE_CHECKING:
    from crescent.stages import Stages


def run(rounds: int, stages: "Stages") -> list[Round]:
    """Teach the model for `rounds` rounds, or until a verdict says stop; returns the finished rounds."""
    best = stages.evaluate(stages.base())
    stages.calibrate(stages.teacher(best).checkpoint)
    past: list[Round] = []
    for number in range(1, rounds + 1):
        finished = run_round(number, best, past, stages)
        past.append(finished)
        if finished.verdict.action == "accept":
            best = finished.child
        if finished.verdict.action == "stop":
            break
    return past


def run_round(number: int, parent: Evaluation, past: Sequence[Round], stages: "Stages") -> Round:
    """The parent invents questions and votes on its own answers; a child learns from the winners and is judged."""
    teacher = stages.teacher(parent)
    votes = stages.synthesise(number, teacher.checkpoint, past)
    pairs = stages.select(number, votes, past)
    child = stages.train(number, pairs, parent.checkpoint)
    scored = stages.evaluate(child)
    verdict = stages.judge(scored, parent, votes, past)
    return stages.conclude(Round(number, teacher, votes, pairs, parent, scored, verdict))


def main() -> None:
    """Run the loop with the settings of the command line; ends the process with the exit code."""

    def enter() -> None:
        from crescent.doors.hydra_door import hydra_door  # takes seconds, in which a signal may already arrive

        hydra_door(run)

    sys.exit(run_to_exit_code(enter))


if __name__ == "__main__":
    main()
