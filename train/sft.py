"""Supervised fine-tuning of a LoRA adapter on the winners (TRL's SFTTrainer). The only file that imports trl.

Interrupted and started again, a job trains exactly what it would have trained undisturbed: rows are drawn in the order
of the seed, and a checkpoint holds optimizer, schedule and random state.
"""

import json
import math
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import msgspec
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, set_seed
from trl import SFTConfig, SFTTrainer

from crescent.config import TrainConfig, TrainJob
from crescent.errors import BadConfig, Missing, TryAgain
from crescent.failpoint import failpoint
from crescent.model_folder import sync
from crescent.records import Pair, Proof
from train.checkpoints import newest_complete, read_state, remove_incomplete
from train.child import log_probabilities, write_adapter, write_weights
from train.dataset import Rows, to_rows
from train.job import accumulation, smaller_micro_batch, world_size
from train.order import ByLengthInBatch
from train.watch import Watch, signals_noted

PROOF_TEXTS = 4
PROOF_TOKENS = 128


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
    rows = to_rows(pairs, tokenizer, job.train.max_length)
    with signals_noted() as signals, memory_explained(job.train):
        trainer = make_trainer(job, rows, base, tokenizer)
        trainer.add_callback(Watch(output, trainer.accelerator, signals))
        texts = [ids[:PROOF_TOKENS] for ids in trainer.train_dataset["input_ids"][:PROOF_TEXTS]]
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
    counts = {"rows": len(rows.kept), "too_long": rows.too_long, "trainable_parameters": trainable}
    metrics = {**summary(trainer, last), **counts, "settings": settings}
    write_whole(output / "metrics.json", json.dumps(metrics, indent=1).encode())
    failpoint("train.metrics")
    shutil.rmtree(checkpoints)


class LengthAwareTrainer(SFTTrainer):  # type: ignore[misc]  # TRL has no types
    """TRL's trainer with our order of rows."""

    def _get_train_sampler(self, train_dataset: Any = None) -> ByLengthInBatch:
        args = self.args
        lengths = [len(ids) for ids in self.train_dataset["input_ids"]]
        batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        steps_an_epoch = math.ceil(len(lengths) / batch)
        return ByLengthInBatch(lengths, batch, args.seed, lambda: self.state.global_step // steps_an_epoch)


def make_trainer(job: TrainJob, rows: Rows, base: Path, tokenizer: Any) -> Any:
    """TRL's trainer around the model to train: the base with a new adapter, or with the parent's."""
    quiet = not sys.stderr.isatty()
    if quiet:
        datasets.disable_progress_bars()
    cfg = job.train
    set_seed(job.seed)  # the adapter starts from random numbers
    model = AutoModelForCausalLM.from_pretrained(
        base,
        dtype=job.model.dtype.value,
        trust_remote_code=False,
        use_safetensors=True,
        local_files_only=True,
    )
    dtype = model.dtype
    model = start_model(model, job)
    trainer = LengthAwareTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(rows.kept),
        args=SFTConfig(
            output_dir=str(Path(job.output) / "checkpoints"),
            seed=job.seed,
            learning_rate=cfg.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=warmup_steps(cfg, len(rows.kept)),
            num_train_epochs=cfg.epochs,
            max_steps=cfg.max_steps,
            per_device_train_batch_size=cfg.micro_batch,
            gradient_accumulation_steps=accumulation(cfg, world_size()),
            gradient_checkpointing=cfg.gradient_checkpointing,
            max_length=None,  # nothing is cut: what is too long was left out
            completion_only_loss=True,
            packing=False,  # rows would see each other without a variable-length attention kernel
            use_cpu=not torch.cuda.is_available(),
            bf16=torch.cuda.is_available() and dtype == torch.bfloat16,
            save_strategy="steps",
            save_steps=cfg.save_steps,
            save_total_limit=2,
            logging_steps=1,
            logging_nan_inf_filter=False,  # a filtered NaN looks like a small loss
            include_num_input_tokens_seen="non_padding",
            report_to="none",
            disable_tqdm=quiet,
        ),
    )
    trainer.remove_callback(PrinterCallback)
    zero = trainer.args.deepspeed_plugin
    if trainer.is_fsdp_enabled or (zero is not None and zero.zero_stage == 3):
        raise BadConfig(
            f"train.accelerate={cfg.accelerate}: shards the base over the GPUs, and merging and proving need it whole; "
            "use train.accelerate=eight_gpus or DeepSpeed ZeRO-2"
        )
    return trainer


def warmup_steps(cfg: TrainConfig, rows: int) -> int:
    """Steps in which the learning rate rises, rounded down.

    transformers would round up, and the first of these steps has a rate of zero: in a short run a step lost.
    """
    steps = cfg.max_steps if cfg.max_steps > 0 else math.ceil(cfg.epochs * math.ceil(rows / cfg.batch))
    return int(cfg.warmup * steps)


def start_model(model: Any, job: TrainJob) -> Any:
    """The model with the adapter that training starts from."""
    if job.parent is not None:
        return PeftModel.from_pretrained(model, job.parent, is_trainable=True)
    lora = job.train.lora
    linear = {name.rpartition(".")[2] for name, its in model.named_modules() if isinstance(its, torch.nn.Linear)}
    linear -= {"lm_head"}  # TRL reads its weight directly, past any adapter
    targets: str | list[str] = lora.targets
    if lora.targets != "all-linear":
        targets = [name.strip() for name in lora.targets.split(",")]
        unknown = sorted(set(targets) - linear)
        if unknown:
            raise BadConfig(
                f"train.lora.targets={lora.targets}: no linear layer is called {', '.join(unknown)}; this model has "
                f"{', '.join(sorted(linear))}, or use all-linear"
            )
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, task_type="CAUSAL_LM"
    )
    return get_peft_model(model, config)


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


def summary(trainer: Any, last: Path) -> dict[str, float]:
    """Losses per completion token, and what one pass over the rows and the whole training came to in tokens."""
    state = read_state(last)
    losses = [entry["loss"] for entry in state["log_history"] if "loss" in entry]
    labels = trainer.train_dataset["labels"]
    return {
        "steps": state["global_step"],
        "loss_first": losses[0],
        "loss_last": losses[-1],
        "loss_mean": round(sum(losses) / len(losses), 6),
        "tokens": sum(map(len, labels)),
        "completion_tokens": sum(label != -100 for row in labels for label in row),
        "tokens_seen": state["num_input_tokens_seen"],
    }


@contextmanager
def memory_explained(cfg: TrainConfig) -> Iterator[None]:
    """Turn running out of memory into advice that leaves the result as it would have been. Nothing is changed silently.

    Its exit code is 69, something is missing: no retry of the same command could help.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        short = isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
        if not short:
            raise
        cause = str(error).strip().splitlines()[0] if str(error) else "out of memory"
        raise Missing(f"memory: {cause[:300]}; {less_memory(cfg, world_size())}") from error


def less_memory(cfg: TrainConfig, processes: int) -> str:
    """The override to try next."""
    if cfg.micro_batch > 1:
        smaller = smaller_micro_batch(cfg, processes)
        return f"try train.micro_batch={smaller} (now {cfg.micro_batch}): train.batch={cfg.batch} and results stay"
    if not cfg.gradient_checkpointing:
        return "try train.gradient_checkpointing=true: a third slower, same results"
    return f"try train.max_length={cfg.max_length // 2}: longer pairs are left out, and counted"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is never half there."""
    staged = path.with_name(f"{path.name}.new")
    staged.write_bytes(content)
    sync(staged)
    staged.rename(path)
    sync(path.parent)
