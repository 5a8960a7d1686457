"""`python -m crescent.warm_start`: teach a model from labelled problems how to ask and how to answer, before a study.

The child of this training is the base of a study's runs (`model.path=runs/NAME/weights`). Half of its rows answer a
problem with nothing but the reference answer, the other half answer a bait prompt with a problem. Problems that the
benchmarks of `eval` ask are left out, whatever the order of their terms. What a run gains afterwards it learns without
labels; what it starts from needed these.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from crescent.config import EvalJob, TrainJob, as_settings, write_job
from crescent.config.checks import fill
from crescent.config.warm_start import WarmStartConfig
from crescent.doors.hydra_door import through_hydra
from crescent.errors import DataSaysNo
from crescent.records import Item, Pair, digest, read_lines, write_lines
from crescent.run_folder.places import LABELLED
from crescent.tasks.computation import same_computation

SOURCE = "labelled"
"""Name of the benchmark that the labelled problems come from."""


def main() -> None:
    """Train, or say that it is done; ends the process with the exit code."""
    through_hydra("warm_start", as_warm_start, warm_start)


def as_warm_start(composed: DictConfig) -> WarmStartConfig:
    """The composed config as checked dataclasses."""
    cfg = OmegaConf.to_object(composed)
    assert isinstance(cfg, WarmStartConfig)
    return cfg


def warm_start(cfg: WarmStartConfig) -> None:
    """Write `labelled.jsonl`, `pairs.jsonl` and the trained weights into the run folder.

    Raises:
        DataSaysNo: every labelled problem is a benchmark item.
    """
    output = cfg.run.folder
    items = labelled_items(cfg)
    pairs = list(pairs_of(items, cfg))
    write_lines(output / LABELLED, items)
    write_lines(output / "pairs.jsonl", pairs)
    labels = {"labelled problems": str(len(items)), "digest of their source": digest(as_settings(cfg.labelled))}
    job = TrainJob(
        model=cfg.model,
        train=replace(cfg.train, student=None),
        pairs=str((output / "pairs.jsonl").resolve()),
        output=str(output.resolve()),
        seed=cfg.run.seed,
        merge=True,
        task=cfg.task,
        lineage=labels,
        chat_template=cfg.chat_template,
    )
    print(f"{len(items)} labelled problems, {len(pairs)} training pairs: {output}", flush=True)
    do_job(["train"], job, output / "train.yaml")
    print(f"use it as base: model.path={output / 'weights'}")


def labelled_items(cfg: WarmStartConfig) -> list[Item]:
    """The labelled problems that no benchmark asks, in any order of their terms."""
    listing = cfg.run.folder / "benchmarks"
    benchmarks = {**cfg.eval.benchmarks, SOURCE: cfg.labelled}
    job = EvalJob(replace(cfg.eval, benchmarks=benchmarks), cfg.task, [], "none", str(listing.resolve()))
    do_job(["eval", "--items"], job, listing / "items.yaml")
    listed = read_lines(listing / "items.jsonl", Item)
    asked = [item for item in listed if item.benchmark != SOURCE]
    texts = {item.question for item in asked}
    computations = {computation for item in asked if (computation := same_computation(item.question)) is not None}
    found = [
        item
        for item in listed
        if item.benchmark == SOURCE
        and item.question not in texts
        and same_computation(item.question) not in computations
    ]
    if not found:
        raise DataSaysNo("labelled: every problem is an item of a benchmark in eval; use another seed or more items")
    # Of a benchmark with a fixed set of problems all are listed, chosen or not.
    ranked = sorted(found, key=lambda item: digest(cfg.labelled.seed, item.id))[: cfg.labelled.items]
    return [item for item in found if item in ranked]


def pairs_of(items: Sequence[Item], cfg: WarmStartConfig) -> Iterator[Pair]:
    """A pair that answers each problem, and one that asks for it, with the bait prompts in turn."""
    prompts = cycle(cfg.bait.prompts.values())
    for item in items:
        answer = fill(cfg.task.answer_prompt, item.question)
        yield Pair(digest("answer", item.id), item.id, 0, answer, item.target, item.target, 1.0)
        if cfg.bait.prompts:
            yield Pair(digest("ask", item.id), item.id, 0, next(prompts), item.question, "", 1.0)


def do_job(module: Sequence[str], job: EvalJob | TrainJob, file: Path) -> None:
    """Run a job in a process of its own, as a run does; if it fails, end this one with its exit code."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_job(file, job)
    ended = subprocess.run([sys.executable, "-P", "-m", *module, str(file)], check=False)
    if ended.returncode:
        sys.exit(ended.returncode)


if __name__ == "__main__":
    main()
