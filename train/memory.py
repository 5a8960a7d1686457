"""Explain that memory ran out, and name the setting to change."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from crescent.config import TrainConfig, Tuning
from crescent.errors import Missing
from train.launched import micro_batch_of, smaller_micro_batch, world_size


@contextmanager
def memory_explained(cfg: TrainConfig) -> Iterator[None]:
    """Turn an out-of-memory error into advice that leaves the result unchanged. No setting is changed silently.

    The error is `Missing` (exit code 69), because repeating the same command cannot help.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
        if not out_of_memory:
            raise
        cause = str(error).strip().splitlines()[0] if str(error) else "out of memory"
        raise Missing(f"memory: {cause[:300]}; {less_memory(cfg, world_size())}") from error


def less_memory(cfg: TrainConfig, processes: int) -> str:
    """The override to try next, as text: first those that leave the result unchanged, then the others."""
    if micro_batch_of(cfg) > 1:
        smaller = smaller_micro_batch(cfg, processes)
        return f"try train.micro_batch={smaller} (now {cfg.micro_batch}): same train.batch={cfg.batch}, same results"
    if not cfg.gradient_checkpointing:
        return "try train.gradient_checkpointing=true: a third slower, same results"
    # On one GPU, no other setting saves memory without changing the result.
    if cfg.tuning is Tuning.full and "offload" not in (cfg.accelerate or ""):
        return (
            "try train.accelerate=zero3_offload: keeps weights and optimizer states in the machine's main memory, "
            "slower, same results; or train.tuning=lora"
        )
    split = any(kind in (cfg.accelerate or "") for kind in ("zero3", "fsdp"))
    if cfg.tuning is Tuning.lora and not split:
        return (
            "try train.tuning=qlora: the frozen model in four bits, different results; or, on several GPUs, "
            "train.accelerate=zero3, same results"
        )
    return f"try train.max_length={cfg.max_length // 2}: longer pairs are left out and counted"
