"""Crescent: a language model teaches itself for N rounds, and every round has to prove that it helped.

loop.py        READ FIRST: run() and run_round(); stages.py makes the six calls of a round, each done once
synthesis/     a round's questions and votes: bait → extraction → self-deduplication → consensus
tasks/         what counts as a final answer, and which answers are the same: maths, multiple choice, code
selection/     which votes become training pairs          judging/   whether the child is better than its parent
engine/        the vLLM server and its client             models/    model folders, embedders, size estimates
run_folder/    stages, manifests, locks on the disk       machine/   processes, files, secrets of this machine
reading/       a run, read back → show/ (terminal), report/ (HTML), tracking/ (W&B, trackio); observe.py
doors/         from a command to a run: Hydra, plan, sweep; commands.py is the console script
library.py     the public functions, imported from here: `from crescent import vote, judge`
config/ records.py errors.py                              what everything else stands on
Beside it: train/ (a child process with TRL), eval/ (a child process with benchmarks), launch/ (starts them)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crescent.errors import CrescentError as CrescentError
    from crescent.library import deduplicate as deduplicate
    from crescent.library import final_answer as final_answer
    from crescent.library import judge as judge
    from crescent.library import read_pairs as read_pairs
    from crescent.library import read_run as read_run
    from crescent.library import read_votes as read_votes
    from crescent.library import same_answer as same_answer
    from crescent.library import vote as vote
    from crescent.reading.rounds import RunSummary as RunSummary
    from crescent.records import Pair as Pair
    from crescent.records import Verdict as Verdict
    from crescent.records import Vote as Vote
    from crescent.synthesis.diversify import Decision as Decision

__version__ = "0.1.0"

_HOMES = {
    "CrescentError": "crescent.errors",
    "Decision": "crescent.synthesis.diversify",
    "Pair": "crescent.records",
    "RunSummary": "crescent.reading.rounds",
    "Verdict": "crescent.records",
    "Vote": "crescent.records",
    "deduplicate": "crescent.library",
    "final_answer": "crescent.library",
    "judge": "crescent.library",
    "read_pairs": "crescent.library",
    "read_run": "crescent.library",
    "read_votes": "crescent.library",
    "same_answer": "crescent.library",
    "vote": "crescent.library",
}
"""Module of each public name. They are imported when they are asked for: every child process imports this file."""

__all__ = [
    "CrescentError",
    "Decision",
    "Pair",
    "RunSummary",
    "Verdict",
    "Vote",
    "__version__",
    "deduplicate",
    "final_answer",
    "judge",
    "read_pairs",
    "read_run",
    "read_votes",
    "same_answer",
    "vote",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'crescent' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
