"""How many parameters a model has, without loading it: from its weights, from what the hub's cache knows of it, from
its configuration, or from the size in its name.
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from crescent.config import ModelConfig
from crescent.errors import CrescentError
from crescent.models.model_folder import INDEX, cached_snapshot, count_parameters, is_hub_id
from crescent.models.trainable import read_json

PUBLISHED = {
    "packaged:smollm2": 134_515_008,
    "Qwen/Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "google/gemma-2-2b-it": 2_614_341_888,
    "meta-llama/Llama-3.2-3B-Instruct": 3_212_749_824,
    "meta-llama/Meta-Llama-3-8B-Instruct": 8_030_261_248,
}
"""Parameters of the models that conf/ names, as their model cards on the hub count them."""
IN_NAME = re.compile(r"(?<![A-Za-z0-9.])(?:(\d{1,3})x)?(\d{1,4}(?:\.\d{1,3})?)([bm])(?![a-z0-9])", re.IGNORECASE)
"""A size in the name of a model: `7B`, `0.5b`, `135M`, `8x7B`. Of a mixture of experts, also the part that works
(`30B-A3B`), which the lookbehind leaves out."""
UNITS = {"b": 1e9, "m": 1e6}


@cache
def measure(path: str, revision: str | None = None) -> float | None:
    """Number of parameters of the model that `model.path` names; `None` if nothing says it. Asks no network."""
    if path in PUBLISHED:
        return float(PUBLISHED[path])
    folder = Path(path).expanduser()
    if folder.is_dir():
        return of_folder(folder)
    if is_hub_id(path):
        cached = cached_snapshot(ModelConfig(path=path, revision=revision))
        found = None if cached is None else of_folder(cached)
        return found or of_name(path.rpartition("/")[2])
    return None


def of_folder(folder: Path) -> float | None:
    """Number of parameters of the model in a folder, whose weights may not be there yet; tied ones count once."""
    try:
        return float(count_parameters(folder))
    except (CrescentError, OSError):
        pass  # not all weights are here; what is, may still say how large they are
    try:
        if (folder / INDEX).is_file():
            stated = read_json(folder / INDEX).get("metadata", {}).get("total_parameters")
            if isinstance(stated, int | float):
                return float(stated)
        return of_config(read_json(folder / "config.json"))
    except (CrescentError, OSError, AttributeError):
        return None


def of_config(config: Mapping[str, Any]) -> float | None:
    """Number of parameters of a Llama-like decoder with this `config.json`; `None` if it is described otherwise.

    Attention, gated MLP (or all experts of a mixture) and embeddings; norms and biases are left out, below 0.1 %.
    """
    text = config.get("text_config")
    settings = {**config, **(text if isinstance(text, dict) else {})}
    try:
        width, layers, vocabulary = (int(settings[name]) for name in ("hidden_size", "num_hidden_layers", "vocab_size"))
        heads, inner = int(settings["num_attention_heads"]), int(settings["intermediate_size"])
        keys = int(settings.get("num_key_value_heads") or heads)
        head = int(settings.get("head_dim") or width // heads)
        experts = int(settings.get("num_local_experts") or settings.get("num_experts") or 1)
        expert = int(settings.get("moe_intermediate_size") or inner)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    attention = 2 * width * head * (heads + keys)
    mlp = 3 * width * (expert * experts if experts > 1 else inner)
    embeddings = vocabulary * width * (1 if settings.get("tie_word_embeddings") else 2)
    return float(layers * (attention + mlp) + embeddings)


def of_name(name: str) -> float | None:
    """Number of parameters that the name of a model states; `None` if it states none."""
    sizes = [float(size) * float(times or 1) * UNITS[unit.lower()] for times, size, unit in IN_NAME.findall(name)]
    return max(sizes, default=None)
