"""The part that all trainers share: a trainer that is ready to start, and its common arguments."""

import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from crescent.config import TrainConfig, TrainJob
from train.launched import accumulation, deepspeed_launched, fsdp_launched, world_size
from train.start import stored_dtype


@dataclass(frozen=True)
class Prepared:
    """A TRL trainer that is ready to start."""

    trainer: Any
    texts: list[list[int]]
    """Token ids of some of its sequences, in the order of the pairs. The proof uses the first `PROOF_TEXTS` of them."""
    counts: dict[str, float]
    """Numbers of pairs used and left out: `rows`, `too_long`, `tokens`, …; they go into metrics.json."""


def common_arguments(job: TrainJob, rows: int, base: Path) -> dict[str, Any]:
    """Arguments that the TRL configurations of all trainers have in common, for this number of rows.

    Create the configuration before the model: it makes ZeRO-3 split the weights among processes while they are read.
    """
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
        # DeepSpeed and FSDP find the device themselves, and `use_cpu` would switch them off.
        "use_cpu": not gpu and not deepspeed_launched() and not fsdp_launched(),
        "ddp_backend": "gloo" if not gpu and "RANK" in os.environ else None,
        "bf16": gpu and stored_dtype(job, base) == torch.bfloat16,
        "save_strategy": "steps",
        "save_steps": cfg.save_steps,
        "save_total_limit": 2,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # a NaN that is filtered out looks like a small loss
        "report_to": "none",
        "disable_tqdm": not sys.stderr.isatty(),
    }


def warmup_steps(cfg: TrainConfig, rows: int) -> int:
    """Number of steps during which the learning rate rises, rounded down.

    transformers would round up. The first of these steps has a learning rate of zero, so a short run would lose a step.
    """
    steps = cfg.max_steps if cfg.max_steps > 0 else math.ceil(cfg.epochs * math.ceil(rows / cfg.batch))
    return int(cfg.warmup * steps)
