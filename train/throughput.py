"""How fast training is: tokens per second, padding, and the share of a GPU's arithmetic that the model's own needs.

Model FLOPs utilisation after PaLM (arXiv 2204.02311, appendix B): the operations a token needs, times tokens per
second, over what the device could do. Recomputation, sampling and a reference model's forward pass are no needs of the
model's, and count for nothing.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Cost:
    """Floating-point operations for training on one token."""

    weights: float
    """A weight matrix takes 2 per element forward, 2 for the gradient of its input and, only if it is trained, 2 for
    its own: 6 N per token for all weights, about 4 N with adapters on frozen ones."""
    attention: float
    """For each token of the sequence it stands in: 12 * layers * heads * size of a head. Nothing is halved for being
    causal, as in the paper."""


def training_cost(model: Any) -> Cost | None:
    """Counted from a model's linear layers; `None` for one that keeps matrices elsewhere (mixtures of experts)."""
    weights = 0
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            # not `weight.numel()`: quantised and sharded weights have another
            weights += (6 if module.weight.requires_grad else 4) * module.in_features * module.out_features
        elif not isinstance(module, torch.nn.Embedding) and any(its.dim() > 1 for its in module.parameters(False)):
            return None
    config = model.config.get_text_config()
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Cost(weights, 12 * config.num_hidden_layers * config.num_attention_heads * head)


# The vendors' peak rates in TFLOP/s: bfloat16 and float16 on matrix units without sparsity, and plain float32. Names as
# `torch.cuda.get_device_name` has them; a longer name before the one it contains.
_PEAKS = (
    ("B200", 2250, 75),  # https://www.nvidia.com/en-us/data-center/hgx/
    ("H200 NVL", 835, 60),  # https://www.nvidia.com/en-us/data-center/h200/
    ("H200", 989, 67),  # https://www.nvidia.com/en-us/data-center/h200/
    ("H100 NVL", 835, 60),  # https://www.nvidia.com/en-us/data-center/h100/
    ("H100 PCIe", 756, 51),  # https://www.nvidia.com/en-us/data-center/h100/
    ("H100", 989, 67),  # https://www.nvidia.com/en-us/data-center/h100/
    ("A100", 312, 19.5),  # https://www.nvidia.com/en-us/data-center/a100/
    ("L40S", 362, 91.6),  # https://www.nvidia.com/en-us/data-center/l40s/
    ("L4", 121, 30.3),  # https://www.nvidia.com/en-us/data-center/l4/
    ("A10", 125, 31.2),  # https://www.nvidia.com/en-us/data-center/products/a10-gpu/
    ("MI300X", 1307, 163.4),  # https://www.amd.com/en/products/accelerators/instinct/mi300/mi300x.html
)


def peak_flops(device: str, half: bool) -> float | None:
    """Floating-point operations per second that a GPU of that name promises, in half precision or in float32; `None` if
    it is not known here."""
    for name, in_half, in_single in _PEAKS:
        if re.search(rf"\b{name}\b", device):
            return 1e12 * (in_half if half else in_single)
    return None


@dataclass(frozen=True)
class Work:
    """What was computed: of one step, or the sum of several."""

    seconds: float = 0.0
    tokens: int = 0
    """Without padding, over all processes."""
    slots: int | None = 0
    """Tokens with padding; `None` where the trainer does not count them."""
    squares: int | None = 0
    """Sum of the squared lengths of all sequences: each token times the tokens it stands with. `None` as above."""

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.seconds + other.seconds,
            self.tokens + other.tokens,
            None if self.slots is None or other.slots is None else self.slots + other.slots,
            None if self.squares is None or other.squares is None else self.squares + other.squares,
        )


@dataclass(frozen=True)
class Speedometer:
    """Turns work into rates on this machine."""

    cost: Cost | None
    peak: float | None
    """Floating-point operations per second of all devices; `None` where they are unknown, as for CPUs."""

    def rates(self, work: Work) -> dict[str, float | None]:
        """`tokens_per_second`; `padding`, the share of the computed tokens that are padding; `mfu` in [0, 1], without
        the attention's part where lengths are not counted. `None` for what is unknown."""
        padding = 1 - work.tokens / work.slots if work.slots else None
        mfu = None
        if self.cost is not None and self.peak is not None:
            needed = work.tokens * self.cost.weights + (work.squares or 0) * self.cost.attention
            mfu = needed / work.seconds / self.peak
        return {
            "tokens_per_second": round(work.tokens / work.seconds, 2),
            "padding": None if padding is None else round(padding, 4),
            "mfu": None if mfu is None else round(mfu, 4),
        }


def speedometer(model: Any, processes: int, half: bool) -> Speedometer:
    """For a model that so many processes train, each on a device like this one; `half`: with mixed precision."""
    peak = None
    if torch.cuda.is_available():
        half = half or model.dtype != torch.float32
        peak = peak_flops(torch.cuda.get_device_name(), half)
    return Speedometer(training_cost(model), None if peak is None else processes * peak)


def spoken(rates: dict[str, float | None]) -> str:
    """`152 tokens/s  padding 4 %  MFU 41 %`: what is known of them."""
    words = [f"{rates['tokens_per_second']:.0f} tokens/s"]
    words += [f"{name} {100 * share:.0f} %" for name in ("padding", "mfu") if (share := rates[name]) is not None]
    return "  ".join(words).replace("mfu", "MFU")
