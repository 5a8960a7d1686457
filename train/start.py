"""The model that training starts from."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, GenerationConfig
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from crescent.config import Dtype, Start, TrainJob, Tuning
from crescent.errors import BadConfig
from train.attention import attention_explained
from train.launched import deepspeed_launched, local_rank
from train.liger import apply_liger, check_liger


def load_start(job: TrainJob, base: Path) -> Any:
    """The model to train: with all its weights, or with an adapter on frozen weights. Call `set_seed` before, because
    a new adapter starts from random numbers."""
    cfg = job.train
    extra: dict[str, Any] = {"attention": cfg.attention, "liger": cfg.liger}
    match cfg.tuning:
        case Tuning.lora:
            return start_model(load(base, stored_dtype(job, base), **extra), job)
        case Tuning.qlora:
            return start_model(load_quantised(job, base, **extra), job)
        case Tuning.full:
            # bfloat16 has 8 bits of precision: an update of 1e-5 to a weight of 0.01 is rounded away. Weights in
            # float32 keep it, and matrices are still multiplied in bfloat16 (autocast). DeepSpeed keeps such a float32
            # copy itself.
            dtype = stored_dtype(job, base) if deepspeed_launched() else torch.float32
            return load_between(job, base, dtype, **extra)


def load_started(job: TrainJob, base: Path) -> Any:
    """The model that training started from, as a server would hold it: complete, in `model.dtype`, not quantised."""
    dtype = stored_dtype(job, base)
    if job.train.tuning is Tuning.full:
        return load_between(job, base, dtype)
    model = load(base, dtype)
    return model if job.parent is None else with_parent(model, job)


def load(folder: Path, dtype: torch.dtype, attention: str | None = None, liger: bool = False, **extra: Any) -> Any:
    """Load the complete weights in a folder."""
    if liger:
        check_liger()
    with attention_explained(attention):
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=attention,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            **extra,
        )
    make_savable(model)
    if liger:
        apply_liger(model)
    return model


def make_savable(model: Any) -> None:
    """Replace sampling settings that transformers loads and then refuses to save, after hours of training (a
    `temperature` without `do_sample`). `train.child.write_weights` copies the base's own file as it is."""
    settings = model.generation_config
    try:
        settings.validate(strict=True)
    except ValueError:
        ids = {name: getattr(settings, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        model.generation_config = GenerationConfig(**ids)


def load_quantised(job: TrainJob, base: Path, **extra: Any) -> Any:
    """Load the base in four bits, ready for an adapter
    (https://huggingface.co/docs/peft/developer_guides/quantization)."""
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=stored_dtype(job, base),
    )
    device = {"": local_rank()} if torch.cuda.is_available() else {"": "cpu"}
    model = load(base, stored_dtype(job, base), quantization_config=four_bits, device_map=device, **extra)
    return prepare_model_for_kbit_training(model, use_gradient_checkpointing=job.train.gradient_checkpointing)


def load_between(job: TrainJob, base: Path, dtype: torch.dtype, **extra: Any) -> Any:
    """Load base + alpha * (parent - base), weight by weight; the base if the job has no parent."""
    alpha = share_of_parent(job)
    if job.parent is None or alpha == 1:
        return load(Path(job.parent or base), dtype, **extra)
    model, parent = load(base, dtype, **extra), load(Path(job.parent), dtype)
    for weight, towards in zip(model.parameters(), parent.parameters(), strict=True):
        with torch.no_grad(), gathered(weight, towards):
            weight.copy_(torch.lerp(weight.float(), towards.float(), alpha))
    return model


def gathered(*weights: torch.nn.Parameter) -> Any:
    """Context in which weights that ZeRO-3 split among the processes are whole; changes by the first process are
    kept."""
    if not is_deepspeed_zero3_enabled():
        return nullcontext()
    import deepspeed  # type: ignore[import-untyped]

    return deepspeed.zero.GatheredParameters(weights, modifier_rank=0)


def share_of_parent(job: TrainJob) -> float:
    """Position between base (0) and parent (1) from which training starts, in (0, 1]."""
    return job.train.alpha if job.train.start is Start.merge else 1.0


def stored_dtype(job: TrainJob, base: Path) -> torch.dtype:
    """Data type in which trained weights are written and served: `model.dtype`, or the base's own type for `auto`."""
    if job.model.dtype is not Dtype.auto:
        return getattr(torch, job.model.dtype.value)
    return AutoConfig.from_pretrained(base, trust_remote_code=False).dtype or torch.float32


def start_model(model: Any, job: TrainJob) -> Any:
    """The model with an adapter to train: the parent's, or a new one."""
    if job.parent is not None:
        return with_parent(model, job, is_trainable=True, **adapter_dtype(model))
    lora = job.train.lora
    linear = {name.rpartition(".")[2] for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)}
    linear -= {"lm_head"}  # TRL reads this layer's weight directly, so an adapter on it would have no effect
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
    return get_peft_model(model, config, **adapter_dtype(model))


def with_parent(model: Any, job: TrainJob, **extra: Any) -> Any:
    """The model with the parent's adapter; for `train.start=merge`, the adapter scaled by `train.alpha`."""
    adapted = PeftModel.from_pretrained(model, job.parent, **extra)
    alpha = share_of_parent(job)
    if alpha < 1:
        # An adapter adds scaling * B @ A to a weight. That is linear in B, whatever the scaling.
        for name, weight in adapted.named_parameters():
            if ".lora_B." in name:
                weight.data.mul_(alpha)
    return adapted


def adapter_dtype(model: Any) -> dict[str, bool]:
    """Arguments that give an adapter its model's data type under ZeRO-3, which cannot gather tensors of two types
    together (https://github.com/deepspeedai/DeepSpeed/issues/8072; TRL does the same for adapters that it creates)."""
    split = is_deepspeed_zero3_enabled() and not getattr(model, "is_loaded_in_4bit", False)
    return {"autocast_adapter_dtype": False} if split else {}
