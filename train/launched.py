"""What the launcher decided: processes, ranks, and how a batch is divided among them."""

import os

from crescent.config import TrainConfig
from crescent.errors import BadConfig


def accumulation(train: TrainConfig, processes: int) -> int:
    """Micro batches per optimizer step and process, so that `train.batch` is the same however many processes there are.

    Raises:
        BadConfig: the batch cannot be shared out evenly.
    """
    at_once = train.micro_batch * processes
    if train.batch % at_once:
        raise BadConfig(
            f"train.batch={train.batch}: cannot be split into micro batches of {train.micro_batch} on {processes} "
            f"processes ({at_once} at once); use train.micro_batch={smaller_micro_batch(train, processes)} or "
            f"train.batch={-(-train.batch // at_once) * at_once}"
        )
    return train.batch // at_once


def smaller_micro_batch(train: TrainConfig, processes: int) -> int:
    """The largest micro batch below the present one that divides the batch among the processes; 1 if there is none."""
    fits = (size for size in range(train.micro_batch - 1, 0, -1) if train.batch % (size * processes) == 0)
    return next(fits, 1)


def world_size() -> int:
    """Processes that train together; set by torchrun and `accelerate launch`."""
    return int(os.environ.get("WORLD_SIZE", 1))


def deepspeed_launched() -> bool:
    """Whether `accelerate launch` started us with a configuration of DeepSpeed's."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true"


def fsdp_launched() -> bool:
    """Whether `accelerate launch` started us with a configuration of FSDP's."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def local_rank() -> int:
    """Which of the processes on this machine we are; set by torchrun and `accelerate launch`."""
    return int(os.environ.get("LOCAL_RANK", 0))


def use_one_gpu() -> None:
    """Show a single process one GPU: with several, transformers would reach for DataParallel, which TRL refuses."""
    if "WORLD_SIZE" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
