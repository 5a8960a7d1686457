"""Run one job with any trainer: prepare it, train to the last step, write the child and prove it.

A job that is interrupted and started again trains exactly what it would have trained undisturbed: the seed fixes the
order of rows, and a checkpoint holds optimizer, schedule and random state.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from accelerate.utils import broadcast_object_list
from transformers import AutoConfig, AutoTokenizer, PrinterCallback, TrainerCallback

from crescent.config import Trainer, TrainJob
from crescent.errors import BadConfig, TryAgain
from crescent.machine.failpoint import failpoint
from crescent.records import Pair
from train.checkpoints import (
    Layout,
    newest_complete,
    read_state,
    refuse_other_layout,
    remove_incomplete,
    write_layout,
)
from train.export import export, release_memory
from train.launched import fsdp_launched
from train.memory import memory_explained
from train.trainers.prepared import Prepared
from train.watch import Watch, signals_collected

PROOF_TEXTS = 4
"""Number of texts in a proof."""
PROOF_TOKENS = 128
"""Number of tokens that a proof takes of each text."""


@dataclass(frozen=True)
class Trained:
    """Result of a trainer that reached its last step."""

    last: Path
    """Checkpoint of that step."""
    texts: list[list[int]]
    """Token ids of the texts that the proof is computed on."""
    counts: dict[str, float]
    """Numbers of pairs used and left out, for metrics.json."""
    is_main: bool
    """Whether this process is the one that writes the child."""


def train_child(job: TrainJob, pairs: Sequence[Pair], base: Path, settings: str) -> None:
    """Train and write every file that `train.job` lists.

    Raises:
        BadConfig: the tokenizer belongs to another model; the checkpoints were made by another layout of processes.
        DataSaysNo: no pair is short enough, or the loss or a gradient is not finite.
        Missing: memory ran out.
        TryAgain: a signal asked the process to stop; the current step was finished and saved.
    """
    with memory_explained(job.train):
        done = reach_last_checkpoint(job, pairs, base)
        release_memory()
        if done.is_main:
            export(job, base, done.last, done.texts, {**done.counts, "settings": settings})


def reach_last_checkpoint(job: TrainJob, pairs: Sequence[Pair], base: Path) -> Trained:
    """Create the trainer, train to the last step, and drop every reference to the trainer."""
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    refuse_foreign_tokenizer(tokenizer, pairs, base)
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    with signals_collected() as signals:
        ready = prepare(job, pairs, base, tokenizer)
        trainer = ready.trainer
        if fsdp_launched() and not trainer.is_fsdp_enabled:
            raise BadConfig(
                f"train.accelerate={job.train.accelerate}: accelerate runs FSDP on GPUs only, and this machine has "
                "none; use train.accelerate=zero3 or two_cpus"
            )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(Watch(Path(job.output), trainer.accelerator, signals))
        trainer.add_callback(MarkComplete(trainer.accelerator, layout_of(trainer)))
        last = reach_last_step(trainer, job)
    texts = [ids[:PROOF_TOKENS] for ids in ready.texts[:PROOF_TEXTS]]
    return Trained(last, texts, ready.counts, trainer.is_world_process_zero())


def refuse_foreign_tokenizer(tokenizer: Any, pairs: Sequence[Pair], base: Path) -> None:
    """Refuse a tokenizer with tokens that have no row in the model's embedding: it belongs to another model.

    Only tokens that occur in the texts count, because some models ship tokens that no text contains (images).
    """
    rows = AutoConfig.from_pretrained(base, trust_remote_code=False).get_text_config().vocab_size
    if len(tokenizer) <= rows:
        return
    texts = [pair.prompt + pair.completion for pair in pairs]
    used = max((max(ids) for ids in tokenizer([*texts, *tokenizer.all_special_tokens])["input_ids"] if ids), default=0)
    if used >= rows:
        raise BadConfig(
            f"model.path={base}: its tokenizer makes token {used} ({tokenizer.convert_ids_to_tokens(used)}) and its "
            f"embedding has {rows} rows; put the tokenizer that these weights were trained with into this folder"
        )


def prepare(job: TrainJob, pairs: Sequence[Pair], base: Path, tokenizer: Any) -> Prepared:
    """Create the trainer that `train.trainer` names, with its model, rows and settings."""
    match job.train.trainer:
        case Trainer.sft:
            from train.trainers.sft import prepare_sft

            return prepare_sft(job, pairs, base, tokenizer)
        case Trainer.dpo:
            from train.trainers.dpo import prepare_dpo

            return prepare_dpo(job, pairs, base, tokenizer)
        case Trainer.grpo:
            from train.trainers.grpo import prepare_grpo

            return prepare_grpo(job, pairs, base, tokenizer)
        case Trainer.fake:
            raise AssertionError("train.job refuses it")


def reach_last_step(trainer: Any, job: TrainJob) -> Path:
    """Train from the newest complete checkpoint to the last step, and return the checkpoint of that step.

    Raises:
        BadConfig: the checkpoint was made by another layout of processes.
        TryAgain: a signal asked the process to stop before the last step.
    """
    checkpoints = Path(job.output) / "checkpoints"
    if trainer.is_world_process_zero():
        remove_incomplete(checkpoints)
    newest = newest_for_all(trainer, checkpoints)
    if newest is not None and is_last(newest):
        return newest  # transformers would make one more step
    if newest is not None:
        refuse_other_layout(newest, layout_of(trainer), job.train.accelerate)
        print(f"resuming from {newest}", flush=True)
    began, first = time.monotonic(), read_state(newest)["global_step"] if newest else 0
    trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    last = newest_for_all(trainer, checkpoints)
    if last is None or not is_last(last):
        raise TryAgain(f"asked to stop; saved as {last}: run the same command again to resume from there")
    seconds, steps = time.monotonic() - began, trainer.state.global_step - first
    print(f"{steps} steps in {seconds:.1f} s, {seconds / steps:.2f} s per step", flush=True)
    return last


def newest_for_all(trainer: Any, checkpoints: Path) -> Path | None:
    """The newest complete checkpoint. Only the main process searches, because that reads whole checkpoints; the others
    get its result."""
    trainer.accelerator.wait_for_everyone()
    found = [newest_complete(checkpoints) if trainer.is_world_process_zero() else None]
    broadcast_object_list(found)
    return found[0]


class MarkComplete(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Marks each checkpoint as complete when all processes have written their part."""

    def __init__(self, accelerator: Any, layout: Layout) -> None:
        self.accelerator = accelerator
        self.layout = layout

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.accelerator.wait_for_everyone()
        failpoint("train.saving")
        if state.is_world_process_zero:
            write_layout(Path(args.output_dir) / f"checkpoint-{state.global_step}", self.layout)


def layout_of(trainer: Any) -> Layout:
    """File layout of this trainer's checkpoints."""
    if trainer.is_deepspeed_enabled:
        return Layout(trainer.args.world_size, f"zero{trainer.args.deepspeed_plugin.zero_stage}")
    return Layout(trainer.args.world_size, "fsdp" if trainer.is_fsdp_enabled else "whole")


def is_last(checkpoint: Path) -> bool:
    """Whether a checkpoint was saved after the last step of its training."""
    state = read_state(checkpoint)
    return bool(state["global_step"] >= state["max_steps"])
