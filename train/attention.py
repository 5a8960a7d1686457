"""Check that the model's attention exists, and that it keeps sequences laid end to end apart.

transformers has many implementations of attention, and anybody can add another. `position_ids` show where each sequence
of a row begins. Some implementations then keep the sequences apart and some do not. Nothing else would reveal that a
child learnt from neighbouring sequences, so it is tried on the model that is about to be trained.
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
"""Number of sequences that are tried."""
TOKENS = 64
"""Number of tokens of each sequence that is tried: enough to differ, and quick on any machine."""


@contextmanager
def attention_explained(attention: str | None) -> Iterator[None]:
    """Turn errors that transformers raises for an attention it cannot load into our errors.

    Raises:
        Missing: the package of that attention is not installed.
        BadConfig: transformers knows no attention of that name.
    """
    try:
        yield
    except (ImportError, ValueError) as error:
        message = str(error).strip().splitlines()[0]
        if attention is None or (isinstance(error, ValueError) and "attn_implementation" not in message):
            raise
        if isinstance(error, ImportError):
            how = f"{INSTALL} (on a GPU), or " if attention == FLASH else ""
            raise Missing(f"train.attention={attention}: {message}; {how}use train.attention=null") from error
        raise BadConfig(f"train.attention={attention}: {message}") from error


@dataclass(frozen=True)
class Leak:
    """How much sequences laid end to end see of the sequences before them."""

    share: float
    """Mean difference of the logits from those of each sequence alone, divided by the same difference for all sequences
    read as one text: 0 if they are kept apart, about 1 if they are read as one text."""
    largest: float
    """Largest difference of a single logit."""


def find_leak(model: Any, sequences: Sequence[Sequence[int]], collate: Callable[[list[Any]], dict[str, Any]]) -> Leak:
    """Compare each sequence alone with the same sequences laid end to end by `collate`, the trainer's own collator.

    The first sequence is not compared: attention looks back only, and nothing stands before it.
    """
    batch = collate([{"input_ids": ids} for ids in sequences])
    end_to_end = {name: value for name, value in batch.items() if name != "labels"}
    training = model.training
    model.eval()
    try:
        alone = torch.cat([_logits(model, input_ids=torch.tensor([ids])) for ids in sequences[1:]])
        together = _logits(model, **end_to_end)[-len(alone) :]
        one_text = _logits(model, input_ids=end_to_end["input_ids"])[-len(alone) :]
    finally:
        model.train(training)
    difference = (together - alone).abs()
    return Leak(float(difference.mean() / (one_text - alone).abs().mean()), float(difference.max()))


def _logits(model: Any, **inputs: Any) -> torch.Tensor:
    """Logits of one row: (tokens, vocabulary), in float32."""
    on_device = {
        name: value.to(model.device) if isinstance(value, torch.Tensor) else value for name, value in inputs.items()
    }
    with torch.no_grad():
        logits: torch.Tensor = model(**on_device, use_cache=False).logits[0].float()
    return logits


def refuse_leaks(
    model: Any, tokens: Sequence[Sequence[int]], collate: Callable[[list[Any]], dict[str, Any]], batching: Batching
) -> None:
    """Try the model's attention on a few of the sequences that it will be trained on.

    Raises:
        BadConfig: the model's attention lets them see each other.
    """
    tried = [list(ids[:TOKENS]) for ids in islice(cycle(tokens), SEQUENCES)]
    leak = find_leak(model, tried, collate)
    half = model.dtype != torch.float32 or torch.is_autocast_enabled(model.device.type)
    # Rounding in float32, with a precision of 2**-24, was measured as 1e-6; half precision has 2**-8.
    if leak.share <= (0.1 if half else 1e-3):
        return
    attention = model.config._attn_implementation
    raise BadConfig(
        f"train.batching={batching.value}: with attention {attention!r} this model does not keep sequences apart: laid "
        f"end to end, their logits differ by up to {leak.largest:.3g} from those of each sequence alone, "
        f"{100 * leak.share:.0f}% of the difference that reading them as one text makes; use train.batching=padded, or "
        f"train.attention={FLASH} ({INSTALL}, on a GPU)"
    )
