"""Fused kernels of liger-kernel (arXiv 2410.10989), written in Triton for GPUs."""

import importlib
import sys
from importlib.util import find_spec
from typing import Any

import torch
from transformers.integrations.liger import apply_liger_kernel

from crescent.errors import BadConfig, Missing


def check_liger() -> None:
    """Refuse `train.liger` where it cannot work, before anything is loaded.

    Raises:
        BadConfig: torch finds no GPU.
        Missing: the package is not installed.
    """
    if not torch.cuda.is_available():
        raise BadConfig("train.liger=true: its kernels run on GPUs only, and torch finds none; use train.liger=false")
    if find_spec("liger_kernel") is None:
        raise Missing("train.liger=true: liger-kernel is not installed; pip install liger-kernel, or train.liger=false")


def apply_liger(model: Any) -> None:
    """Replace the norms and MLPs of this loaded model by fused ones.

    The trainer's loss stays: TRL has its own fused loss that skips the prompt.

    Raises:
        BadConfig: liger-kernel does not know this type of model; it would do nothing, without an error.
    """
    known = importlib.import_module("liger_kernel.transformers.monkey_patch").MODEL_TYPE_TO_APPLY_LIGER_FN
    if model.config.model_type not in known:
        raise BadConfig(
            f"train.liger=true: liger-kernel has no kernels for models of type {model.config.model_type}; use "
            "train.liger=false"
        )
    architecture = vars(sys.modules[type(model).__module__])
    before = dict(architecture)
    # liger-kernel can replace rotary embeddings only for all models of the process at once, so they stay.
    apply_liger_kernel(model, {"rope": False, "cross_entropy": False, "fused_linear_cross_entropy": False})
    # It also replaces the classes. Restored here, because models loaded later, perhaps on a CPU, must be ordinary ones.
    architecture.update(before)
