"""The model that training starts from."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from crescent.config import Dtype, TrainJob
from crescent.errors import BadConfig


def load_start(job: TrainJob, base: Path) -> Any:
    """The model to train: the base with a new adapter, or with the parent's. Call `set_seed` before: a new adapter
    starts from random numbers."""
    model = AutoModelForCausalLM.from_pretrained(
        base,
        dtype=job.model.dtype.value,
        trust_remote_code=False,
        use_safetensors=True,
        local_files_only=True,
    )
    return start_model(model, job)


def stored_dtype(job: TrainJob, base: Path) -> torch.dtype:
    """The type in which trained weights are written down and served: `model.dtype`, or the base's own for `auto`."""
    if job.model.dtype is not Dtype.auto:
        return getattr(torch, job.model.dtype.value)
    return AutoConfig.from_pretrained(base, trust_remote_code=False).dtype or torch.float32


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
