"""Settings that the launcher decided: processes, ranks, and how a batch is divided among them."""

import os

from crescent.config import TrainConfig
from crescent.errors import BadConfig


def accumulation(cfg: TrainConfig, processes: int) -> int:
    """Number of micro batches per optimizer step and process. With it, a step holds `train.batch` sequences on any
    number of processes.

    Raises:
        BadConfig: the batch cannot be divided evenly.
    """
    micro_batch = micro_batch_of(cfg)
    at_once = micro_batch * processes
    if cfg.batch % at_once:
        raise BadConfig(
            f"train.batch={cfg.batch}: cannot be split into micro batches of {micro_batch} on {processes} "
            f"processes ({at_once} at once); use train.micro_batch={smaller_micro_batch(cfg, processes)} or "
            f"train.batch={-(-cfg.batch // at_once) * at_once}"
        )
    return cfg.batch // at_once


def micro_batch_of(cfg: TrainConfig) -> int:
    """`train.micro_batch` as a number.

    Raises:
        BadConfig: it is `auto`, which only the loop can replace: it knows the machine and the engine beside.
    """
    if isinstance(cfg.micro_batch, str) or isinstance(cfg.gradient_checkpointing, str):
        name = "micro_batch" if isinstance(cfg.micro_batch, str) else "gradient_checkpointing"
        raise BadConfig(f"train.{name}=auto: a job states what the loop chose; write a number, or true or false")
    return cfg.micro_batch


def smaller_micro_batch(cfg: TrainConfig, processes: int) -> int:
    """The largest micro batch below the present one that divides the batch among the processes; 1 if none does."""
    fits = (size for size in range(micro_batch_of(cfg) - 1, 0, -1) if cfg.batch % (size * processes) == 0)
    return next(fits, 1)


def world_size() -> int:
    """Number of processes that train together; set by torchrun and `accelerate launch`."""
    return int(os.environ.get("WORLD_SIZE", 1))


def rank() -> int:
    """Number of this process among all that train together, from 0; set by torchrun and `accelerate launch`."""
    return int(os.environ.get("RANK", 0))


def local_rank() -> int:
    """Number of this process among those on this machine, from 0; set by torchrun and `accelerate launch`."""
    return int(os.environ.get("LOCAL_RANK", 0))


def deepspeed_launched() -> bool:
    """Whether `accelerate launch` started this process with a DeepSpeed configuration."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true"


def fsdp_launched() -> bool:
    """Whether `accelerate launch` started this process with an FSDP configuration."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def use_one_gpu() -> None:
    """Show one GPU to a single process: with several, transformers would use DataParallel, which TRL refuses."""
    if "WORLD_SIZE" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
