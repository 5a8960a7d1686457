"""Running out of memory, explained."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from crescent.config import TrainConfig, Tuning
from crescent.errors import Missing
from train.launched import smaller_micro_batch, world_size


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
    # Nothing that leaves the result as it is remains within one GPU.
    if cfg.tuning is Tuning.full and "offload" not in (cfg.accelerate or ""):
        return (
            "try train.accelerate=zero3_offload: weights and optimizer states in the machine's own memory, slower, "
            "same results; or train.tuning=lora"
        )
    split = any(kind in (cfg.accelerate or "") for kind in ("zero3", "fsdp"))
    if cfg.tuning is Tuning.lora and not split:
        return (
            "try train.tuning=qlora: a frozen model of four bits, other results; or, on several GPUs, "
            "train.accelerate=zero3, same results"
        )
    return f"try train.max_length={cfg.max_length // 2}: longer pairs are left out, and counted"
