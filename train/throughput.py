"""Speed of training: tokens per second, share of padding, and model FLOPs utilisation (MFU).

MFU follows PaLM (arXiv 2204.02311, appendix B): the operations that the model needs per token, times tokens per second,
divided by the device's peak rate. Recomputation, sampling and the forward pass of a reference model do not count: the
model itself does not need them.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Cost:
    """Floating-point operations for training on one token."""

    weights: float
    """Operations in the weight matrices. Per element: 2 forward, 2 for the gradient of the input, and 2 for the
    gradient of the weight itself, if it is trained. That is 6 N per token when all N weights are trained, and about 4 N
    with adapters on frozen weights."""
    attention: float
    """Operations in attention per token of the sequence that the token belongs to: 12 * layers * heads * size of a
    head. As in the paper, causal attention is not counted as half."""


def training_cost(model: Any) -> Cost | None:
    """Cost counted from the model's linear layers; `None` if it keeps matrices elsewhere (mixtures of experts)."""
    weights = 0
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            # `weight.numel()` would be wrong: it differs for quantised and sharded weights.
            weights += (6 if module.weight.requires_grad else 4) * module.in_features * module.out_features
        elif not isinstance(module, torch.nn.Embedding) and any(
            weight.dim() > 1 for weight in module.parameters(False)
        ):
            return None
    config = model.config.get_text_config()
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Cost(weights, 12 * config.num_hidden_layers * config.num_attention_heads * head)


# Peak rates in TFLOP/s as published by the vendors: bfloat16 and float16 on matrix units without sparsity, then plain
# float32. Names as returned by `torch.cuda.get_device_name`; a longer name stands before the name it contains.
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
    """Peak rate of a GPU of that name, in floating-point operations per second, in half precision or in float32; `None`
    for a GPU that is not in the table."""
    for name, in_half, in_single in _PEAKS:
        if re.search(rf"\b{name}\b", device):
            return 1e12 * (in_half if half else in_single)
    return None


@dataclass(frozen=True)
class Work:
    """Work of one step, or the sum over several steps."""

    seconds: float = 0.0
    tokens: int = 0
    """Number of tokens without padding, over all processes."""
    slots: int | None = 0
    """Number of tokens with padding; `None` if the trainer does not count them."""
    squares: int | None = 0
    """Sum of the squared lengths of all sequences, which attention's cost grows with; `None` as above."""

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.seconds + other.seconds,
            self.tokens + other.tokens,
            None if self.slots is None or other.slots is None else self.slots + other.slots,
            None if self.squares is None or other.squares is None else self.squares + other.squares,
        )


@dataclass(frozen=True)
class Speedometer:
    """Converts work into rates on this machine."""

    cost: Cost | None
    peak: float | None
    """Peak rate of all devices together, in floating-point operations per second; `None` if unknown, as for CPUs."""

    def rates(self, work: Work) -> dict[str, float | None]:
        """`tokens_per_second`; `padding`, the share of computed tokens that are padding; `mfu` in [0, 1], without
        attention's part if the trainer does not count lengths. A rate that is unknown is `None`."""
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
    """Speedometer for a model that `processes` processes train, each on a device like this process's. `half`: with
    mixed precision."""
    peak = None
    if torch.cuda.is_available():
        half = half or model.dtype != torch.float32
        peak = peak_flops(torch.cuda.get_device_name(), half)
    return Speedometer(training_cost(model), None if peak is None else processes * peak)


def rates_text(rates: dict[str, float | None]) -> str:
    """Known rates as text: `152 tokens/s  padding 4%  MFU 41%`."""
    words = [f"{rates['tokens_per_second']:.0f} tokens/s"]
    words += [f"{name} {100 * share:.0f}%" for name in ("padding", "mfu") if (share := rates[name]) is not None]
    return "  ".join(words).replace("mfu", "MFU")
