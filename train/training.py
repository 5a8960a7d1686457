"""One job, whatever its trainer: made ready, trained to its last step, written down and proven.

Interrupted and started again, a job trains exactly what it would have trained undisturbed: rows are drawn in the order
of the seed, and a checkpoint holds optimizer, schedule and random state.
"""

import json
import math
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import msgspec
import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoTokenizer, PrinterCallback

from crescent.config import TrainConfig, Trainer, TrainJob
from crescent.errors import TryAgain
from crescent.failpoint import failpoint
from crescent.model_folder import sync
from crescent.records import Pair, Proof
from train.checkpoints import newest_complete, read_state, remove_incomplete
from train.child import log_probabilities, write_adapter, write_weights
from train.job import accumulation, deepspeed_launched, world_size
from train.memory import memory_explained
from train.start import stored_dtype
from train.watch import Watch, signals_noted

PROOF_TEXTS = 4
PROOF_TOKENS = 128


@dataclass(frozen=True)
class Prepared:
    """A trainer of TRL's that is ready to start."""

    trainer: Any
    texts: list[list[int]]
    """Some of its sequences as token ids, in the order of the pairs: `PROOF_TEXTS` of them are the proof's."""
    counts: dict[str, float]
    """What became of the pairs: `rows`, `too_long`, `tokens`, …; goes into metrics.json."""


def train(job: TrainJob, pairs: Sequence[Pair], base: Path, settings: str) -> None:
    """Train and write everything `train.job` promises.

    Raises:
        DataSaysNo: no pair is short enough, or the loss or a gradient is not finite.
        Missing: memory ran out.
        TryAgain: a signal asked us to end; the step under way was finished and saved.
    """
    output = Path(job.output)
    checkpoints = output / "checkpoints"
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    with signals_noted() as signals, memory_explained(job.train):
        ready = prepare(job, pairs, base, tokenizer)
        trainer = ready.trainer
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(Watch(output, trainer.accelerator, signals))
        texts = [ids[:PROOF_TOKENS] for ids in ready.texts[:PROOF_TEXTS]]
        main = trainer.is_world_process_zero()
        parent = log_probabilities(trainer.model, texts) if main else ()
        last = reach_last_step(trainer, checkpoints)
    if not main:
        return

    model = trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False)
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    write_adapter(last, output / "adapter")
    failpoint("train.adapter")
    if job.merge:
        model = model.merge_and_unload()
        write_weights(model, base, output / "weights")
        failpoint("train.weights")
    proof = Proof(tuple(map(tuple, texts)), child=log_probabilities(model, texts), parent=parent)
    write_whole(output / "proof.json", msgspec.json.encode(proof))
    failpoint("train.proof")
    metrics = {**summary(last), **ready.counts, "trainable_parameters": trainable, "settings": settings}
    write_whole(output / "metrics.json", json.dumps(metrics, indent=1).encode())
    failpoint("train.metrics")
    shutil.rmtree(checkpoints)


def prepare(job: TrainJob, pairs: Sequence[Pair], base: Path, tokenizer: Any) -> Prepared:
    """The trainer that `train.trainer` names, with its model, its rows and its settings."""
    match job.train.trainer:
        case Trainer.sft:
            from train.sft import prepare_sft

            return prepare_sft(job, pairs, base, tokenizer)
        case Trainer.dpo:
            from train.preference import prepare_dpo

            return prepare_dpo(job, pairs, base, tokenizer)
        case Trainer.grpo:
            from train.reinforcement import prepare_grpo

            return prepare_grpo(job, pairs, base, tokenizer)
        case Trainer.fake:
            raise AssertionError("refused at the door")


def common_arguments(job: TrainJob, rows: int, base: Path) -> dict[str, Any]:
    """What TRL's configurations of all trainers are given, for so many rows. Make the configuration before the model:
    by it, ZeRO-3 splits the weights among the processes while they are read."""
    cfg = job.train
    gpu = torch.cuda.is_available()
    return {
        "output_dir": str(Path(job.output) / "checkpoints"),
        "seed": job.seed,
        "learning_rate": cfg.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": warmup_steps(cfg, rows),
        "num_train_epochs": cfg.epochs,
        "max_steps": cfg.max_steps,
        "per_device_train_batch_size": cfg.micro_batch,
        "gradient_accumulation_steps": accumulation(cfg, world_size()),
        "gradient_checkpointing": cfg.gradient_checkpointing,
        "use_cpu": not gpu and not deepspeed_launched(),  # DeepSpeed finds out by itself, and is refused with this
        "bf16": gpu and stored_dtype(job, base) == torch.bfloat16,
        "save_strategy": "steps",
        "save_steps": cfg.save_steps,
        "save_total_limit": 2,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # a filtered NaN looks like a small loss
        "report_to": "none",
        "disable_tqdm": not sys.stderr.isatty(),
    }


def warmup_steps(cfg: TrainConfig, rows: int) -> int:
    """Steps in which the learning rate rises, rounded down.

    transformers would round up, and the first of these steps has a rate of zero: in a short run a step lost.
    """
    steps = cfg.max_steps if cfg.max_steps > 0 else math.ceil(cfg.epochs * math.ceil(rows / cfg.batch))
    return int(cfg.warmup * steps)


def reach_last_step(trainer: Any, checkpoints: Path) -> Path:
    """Train on from the newest complete checkpoint to the last step, and return its checkpoint.

    Raises:
        TryAgain: a signal came before.
    """
    if trainer.is_world_process_zero():
        remove_incomplete(checkpoints)
    trainer.accelerator.wait_for_everyone()
    found = newest_complete(checkpoints)
    if found is not None and is_last(found):
        # transformers would make one more step
        set_peft_model_state_dict(trainer.model, load_file(found / "adapter_model.safetensors"))
        return found
    if found is not None:
        print(f"going on from {found}", flush=True)
    began, first = time.monotonic(), read_state(found)["global_step"] if found else 0
    trainer.train(resume_from_checkpoint=str(found) if found else None)
    trainer.accelerator.wait_for_everyone()
    last = newest_complete(checkpoints)
    if last is None or not is_last(last):
        raise TryAgain(f"asked to end; saved as {last}: run the same command again to go on from there")
    seconds, steps = time.monotonic() - began, trainer.state.global_step - first
    print(f"{steps} steps in {seconds:.1f} s, {seconds / steps:.2f} s a step", flush=True)
    return last


def is_last(checkpoint: Path) -> bool:
    state = read_state(checkpoint)
    return bool(state["global_step"] >= state["max_steps"])


def summary(last: Path) -> dict[str, float]:
    """Losses, and what the whole training came to in tokens."""
    state = read_state(last)
    losses = [entry["loss"] for entry in state["log_history"] if "loss" in entry]
    return {
        "steps": state["global_step"],
        "loss_first": losses[0],
        "loss_last": losses[-1],
        "loss_mean": round(sum(losses) / len(losses), 6),
        "tokens_seen": state["num_input_tokens_seen"],
    }


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is never half there."""
    staged = path.with_name(f"{path.name}.new")
    staged.write_bytes(content)
    sync(staged)
    staged.rename(path)
    sync(path.parent)
