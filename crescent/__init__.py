"""Crescent: a language model teaches itself for N rounds, and every round has to prove that it helped.

loop.py        READ FIRST: run() and run_round(); stages.py makes the six calls of a round, each done once
synthesis/     a round's questions and votes: bait → extraction → self-deduplication → consensus
tasks/         what counts as a final answer, and which answers are the same: maths, multiple choice, code
selection/     which votes become training pairs          judging/   whether the child is better than its parent
engine/        the vLLM server and its client             models/    model folders, embedders, size estimates
run_folder/    stages, manifests, locks on the disk       machine/   processes, files, secrets of this machine
reading/       a run, read back → show/ (terminal), report/ (HTML), tracking/ (W&B, trackio); observe.py
doors/         from a command to a run: Hydra, plan, sweep; commands.py is the console script
config/ records.py errors.py                              what everything else stands on
Beside it: train/ (a child process with TRL), eval/ (a child process with benchmarks), launch/ (starts them)
"""

__version__ = "0.1.0"
