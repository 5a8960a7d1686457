"""Speed benchmarks of Crescent's own parts: python -m benchmarks NAME [--help]

Benchmarks of models are something else: they are in eval/benchmarks, and `python -m eval` runs them.
"""

import importlib
import sys

from crescent.machine.program import run_to_exit_code

COMMANDS = {
    "client": "CPU time of one completion in the process that asks, compared with plain aiohttp (a minute)",
    "grading": "speed of comparing final answers, compared with math-verify (a minute)",
    "dedup": "speed of self-deduplication, compared with pairwise Python and FAISS",
    "synthesis": "CPU time and memory that a round of synthesis takes beside the engine (a minute)",
    "waiting": "speed of an engine on a CPU by how its threads wait, alone and beside busy processes (ten minutes)",
    "scaling": "no benchmark: prints the tables of docs/scaling.md from the results of `stream` and `size`",
    "size": "time, memory and disk of a round's files and comparisons, by number of questions (minutes)",
    "stream": "share of several engines' capacity that a synthesis uses, simulated in virtual time (minutes)",
    "training": "speed of training, compared with two TRL scripts (ten minutes)",
    "votes": "cost of adaptive voting, compared with asking all K, on recorded answers",
    "ablations": "effect of each default on yield, cost and labels, on recorded sums whose truth is known",
    "contamination": "precision and recall of the quarantine, on planted benchmark items (minutes)",
    "intervals": "how often a study is wrong when nothing changed, by kind of interval (simulated, minutes)",
    "proof": "how often the proof of the served weights errs (simulated, a minute)",
    "baits": "yield and cost of each bait prompt on a served model (minutes)",
    "record": "no benchmark: records a real synthesis for the tests and for `votes` and `ablations` (minutes)",
}
"""One line about each module of this package that is a command. Each has `main(arguments)`."""


def main() -> None:
    name, *arguments = sys.argv[1:] or [""]
    if name not in COMMANDS:
        print(__doc__, *(f"  {command:<14} {line}" for command, line in COMMANDS.items()), sep="\n")
        sys.exit(2 if name else 0)
    importlib.import_module(f"benchmarks.{name}").main(arguments)


if __name__ == "__main__":
    sys.exit(run_to_exit_code(main))
