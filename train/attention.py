"""Which attention computes, and whether it keeps sequences that lie end to end apart.

transformers has many attentions and lets anybody add one. Told by `position_ids` where a sequence begins, some keep
sequences of one row apart and some do not, which shows in nothing but a child that learnt from its neighbours. So it is
tried, on the very model that is about to be trained.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import torch

from crescent.config import Batching
from crescent.errors import BadConfig, Missing

FLASH = "flash_attention_2"
INSTALL = "pip install flash-attn --no-build-isolation"
SEQUENCES = 3
TOKENS = 64
"""Of each sequence that is tried: enough to differ, and quickly computed on any machine."""


@contextmanager
def attention_explained(attention: str | None) -> Iterator[None]:
    """Turn what transformers raises for an attention that it cannot load into our errors.

    Raises:
        Missing: its package is not installed.
        BadConfig: transformers knows no attention of that name.
    """
    try:
        yield
    except (ImportError, ValueError) as error:
        said = str(error).strip().splitlines()[0]
        if attention is None or (isinstance(error, ValueError) and "attn_implementation" not in said):
            raise
        if isinstance(error, ImportError):
            how = f"{INSTALL} (on a GPU), or " if attention == FLASH else ""
            raise Missing(f"train.attention={attention}: {said}; {how}use train.attention=null") from error
        raise BadConfig(f"train.attention={attention}: {said}") from error


@dataclass(frozen=True)
class Leak:
    """What sequences that lie end to end see of those before them."""

    share: float
    """0 when they are kept apart, about 1 when they read each other as one text: mean difference of the logits from
    those of the sequences alone, divided by the one that reading them as one text makes."""
    largest: float
    """Largest difference of a logit."""


def find_leak(model: Any, sequences: Sequence[Sequence[int]], collate: Callable[[list[Any]], dict[str, Any]]) -> Leak:
    """Compare sequences alone with the same ones laid end to end by `collate`, the trainer's own collator.

    The first sequence is left out: attention looks back only, and it has nothing before it.
    """
    laid = {
        name: value for name, value in collate([{"input_ids": ids} for ids in sequences]).items() if name != "labels"
    }
    training = model.training
    model.eval()
    try:
        alone = torch.cat([_logits(model, input_ids=torch.tensor([ids])) for ids in sequences[1:]])
        together = _logits(model, **laid)[-len(alone) :]
        one_text = _logits(model, input_ids=laid["input_ids"])[-len(alone) :]
    finally:
        model.train(training)
    apart = (together - alone).abs()
    return Leak(float(apart.mean() / (one_text - alone).abs().mean()), float(apart.max()))


def _logits(model: Any, **inputs: Any) -> torch.Tensor:
    """Of one row: (tokens, vocabulary), in float32."""
    there = {name: its.to(model.device) if isinstance(its, torch.Tensor) else its for name, its in inputs.items()}
    with torch.no_grad():
        found: torch.Tensor = model(**there, use_cache=False).logits[0].float()
    return found


def refuse_leaks(
    model: Any, tokens: Sequence[Sequence[int]], collate: Callable[[list[Any]], dict[str, Any]], batching: Batching
) -> None:
    """Try a few of the sequences to be trained on.

    Raises:
        BadConfig: the model's attention lets them see each other.
    """
    tried = [list(ids[:TOKENS]) for ids in islice(cycle(tokens), SEQUENCES)]
    leak = find_leak(model, tried, collate)
    half = model.dtype != torch.float32 or torch.is_autocast_enabled(model.device.type)
    # float32 was measured to round by 1e-6; half precision has 2**-8 where that has 2**-24.
    if leak.share <= (0.1 if half else 1e-3):
        return
    attention = model.config._attn_implementation
    raise BadConfig(
        f"train.batching={batching.value}: with attention {attention!r} this model's sequences see each other: laid "
        f"end to end their logits differ by up to {leak.largest:.3g} from those of the sequences alone, "
        f"{100 * leak.share:.0f} % of what reading them as one text makes; use train.batching=padded, or "
        f"train.attention={FLASH} ({INSTALL}, on a GPU)"
    )
