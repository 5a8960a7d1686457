"""The end of a job, the same for every kind of training: write the child, then prove it from its files.

One process does this from the last checkpoint alone, after the trainer is gone: it needs whole weights, and a sharded
trainer has none. A job that is killed here and started again writes the same bytes.
"""

import gc
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from peft import PeftModel
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from crescent.config import TrainJob, Tuning
from crescent.machine.disk import write_whole
from crescent.machine.failpoint import failpoint
from crescent.models.model_folder import read_tensor_header
from crescent.records import Proof
from train.card import model_card
from train.checkpoints import read_state, trained_files
from train.child import LogProbabilities, log_probabilities, write_adapter, write_weights
from train.launched import local_rank
from train.start import load, load_started, stored_dtype
from train.watch import kept_values


def export(job: TrainJob, base: Path, last: Path, texts: Sequence[Sequence[int]], facts: dict[str, Any]) -> None:
    """Write adapter, weights, proof and metrics from the last checkpoint, then delete the checkpoints.

    `facts` go into metrics.json beside the losses.
    """
    output = Path(job.output)
    metrics = {**summary(last), **facts}
    card = model_card(job, base, metrics)
    adapter, weights = output / "adapter", output / "weights"
    if job.train.tuning is not Tuning.full:
        write_adapter(last, adapter, card)
        failpoint("train.adapter")
    if job.train.tuning is Tuning.full or job.merge:
        if not weights.exists():
            write_weights(load_trained(job, base, last), base, weights, card)
        failpoint("train.weights")
    child = prove(load_child(job, base), texts)
    parent = prove(load_started(job, base), texts)
    write_whole(output / "proof.json", msgspec.json.encode(Proof(tuple(map(tuple, texts)), child, parent)))
    failpoint("train.proof")
    write_whole(output / "metrics.json", json.dumps(metrics, indent=1).encode())
    failpoint("train.metrics")
    shutil.rmtree(last.parent)


def load_trained(job: TrainJob, base: Path, last: Path) -> Any:
    """The trained model with complete weights, in the data type it is served in, from the last checkpoint."""
    dtype = stored_dtype(job, base)
    if job.train.tuning is Tuning.full:
        return load(last, dtype)
    return PeftModel.from_pretrained(load(base, dtype), last).merge_and_unload()


def load_child(job: TrainJob, base: Path) -> Any:
    """The child, loaded from the files that a server will read."""
    output, dtype = Path(job.output), stored_dtype(job, base)
    if (output / "weights").exists():
        return load(output / "weights", dtype)
    return PeftModel.from_pretrained(load(base, dtype), output / "adapter")


def prove(model: Any, texts: Sequence[Sequence[int]]) -> LogProbabilities:
    """Log-probabilities of the texts under a model, computed on the GPU if the model fits. The caller must keep no
    reference to `model`: its memory is needed for the next one."""
    size = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    if torch.cuda.is_available():
        device = torch.device("cuda", local_rank())
        torch.cuda.empty_cache()  # memory that torch keeps in its cache does not count as free
        if torch.cuda.mem_get_info(device)[0] > 1.2 * size:
            model = model.to(device)
    return log_probabilities(model, texts)


def release_memory() -> None:
    """Free the memory of a trainer that nothing refers to any more, and leave the process group."""
    unset_hf_deepspeed_config()  # otherwise the next model that is loaded is split among the processes
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def summary(last: Path) -> dict[str, Any]:
    """Losses and other logged values of all steps, tokens seen, and the number of trained parameters."""
    state = read_state(last)
    steps = [entry for entry in state["log_history"] if "loss" in entry]
    losses = [entry["loss"] for entry in steps]
    others = {name: [kept_values(entry)[name] for entry in steps] for name in kept_values(steps[-1])}
    tensors = [tensor for file in trained_files(last) for tensor in read_tensor_header(file).values()]
    return {
        "steps": state["global_step"],
        "loss_first": losses[0],
        "loss_last": losses[-1],
        "loss_mean": mean(losses),
        **{f"{name}_first": values[0] for name, values in others.items()},
        **{f"{name}_last": values[-1] for name, values in others.items()},
        **{f"{name}_mean": mean(values) for name, values in others.items()},
        "tokens_seen": state["num_input_tokens_seen"],
        "trainable_parameters": sum(math.prod(tensor["shape"]) for tensor in tensors),
    }


def mean(numbers: Sequence[float]) -> float:
    """Arithmetic mean, rounded to six decimals."""
    return round(sum(numbers) / len(numbers), 6)
