"""`python -m train.warm_start`: teach a model from labelled problems how to ask and how to answer, before a study.

The child of this training is the base of a study's runs (`model.path=runs/NAME/weights`). Half of its rows answer a
problem with nothing but the reference answer, the other half answer a bait prompt with a problem. Problems that the
benchmarks of `eval` ask are left out, whatever the order of their terms. What a run gains afterwards it learns without
labels; what it starts from needed these.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import cycle

from omegaconf import DictConfig, OmegaConf

from crescent.config import TrainJob, as_settings
from crescent.config.checks import fill
from crescent.config.warm_start import WarmStartConfig
from crescent.doors.hydra_door import through_hydra
from crescent.errors import DataSaysNo
from crescent.machine.disk import write_whole
from crescent.machine.program import run_to_exit_code
from crescent.records import Item, Pair, digest, write_lines
from crescent.tasks.computation import same_computation

LABELLED = "labelled"
"""Name of the benchmark that the labelled problems come from, in messages."""


def main() -> None:
    """Train, or say that it is done; ends the process with the exit code."""
    through_hydra("warm_start", as_warm_start, warm_start)


def as_warm_start(composed: DictConfig) -> WarmStartConfig:
    """The composed config as checked dataclasses."""
    cfg = OmegaConf.to_object(composed)
    assert isinstance(cfg, WarmStartConfig)
    return cfg


def warm_start(cfg: WarmStartConfig) -> None:
    """Write `pairs.jsonl`, `items.json` and the trained weights into the run folder.

    Raises:
        DataSaysNo: every labelled problem is a benchmark item.
    """
    from train.job import attempt

    output = cfg.run.folder
    output.mkdir(parents=True, exist_ok=True)
    items = unasked(cfg)
    write_lines(output / "pairs.jsonl", list(pairs_of(items, cfg)))
    write_whole(output / "items.json", json.dumps([asdict(item) for item in items], indent=1).encode())
    labels = {"labelled problems": str(len(items)), "source": digest(as_settings(cfg.labelled))}
    job = TrainJob(
        model=cfg.model,
        train=replace(cfg.train, student=None),
        pairs=str((output / "pairs.jsonl").resolve()),
        output=str(output.resolve()),
        seed=cfg.run.seed,
        merge=True,
        task=cfg.task,
        lineage=labels,
    )
    print(f"{len(items)} labelled problems, {2 * len(items)} training pairs; {output}", flush=True)
    attempt(job)
    print(f"use it as base: model.path={output / 'weights'}")


def unasked(cfg: WarmStartConfig) -> list[Item]:
    """The labelled problems that no benchmark asks, in any order of their terms."""
    from eval.benchmarks import load

    asked = [item for name, benchmark in cfg.eval.benchmarks.items() for item in load(name, benchmark, cfg.eval.data)]
    texts = {item.question for item in asked}
    computations = {computation for item in asked if (computation := same_computation(item.question)) is not None}
    found = [
        item
        for item in load(LABELLED, cfg.labelled, cfg.eval.data)
        if item.question not in texts and same_computation(item.question) not in computations
    ]
    if not found:
        raise DataSaysNo("labelled: every problem is an item of a benchmark in eval; use another seed or more items")
    return found


def pairs_of(items: Sequence[Item], cfg: WarmStartConfig) -> Iterator[Pair]:
    """A pair that answers each problem, and one that asks for it, with the bait prompts in turn."""
    prompts = cycle(cfg.bait.prompts.values())
    for item in items:
        answer = fill(cfg.task.answer_prompt, item.question)
        yield Pair(digest("answer", item.id), item.id, 0, answer, item.target, item.target, 1.0)
        if cfg.bait.prompts:
            yield Pair(digest("ask", item.id), item.id, 0, next(prompts), item.question, "", 1.0)


if __name__ == "__main__":
    sys.exit(run_to_exit_code(main))
