"""Write the child: its adapter, its merged weights, and the log-probabilities by which a server's weights are
recognised."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from crescent.errors import DataSaysNo
from crescent.machine.disk import whole_folder
from crescent.models.model_folder import ADAPTER, ADAPTER_CONFIG, INDEX, read_json

LogProbabilities = tuple[tuple[float | None, ...], ...]
BESIDE_WEIGHTS = {".json", ".jinja", ".model", ".txt"}
"""Suffixes of the base's files that belong to complete weights: tokenizer, chat template, settings."""


def write_adapter(checkpoint: Path, folder: Path, card: str) -> None:
    """Copy the adapter from the last checkpoint."""
    if folder.exists():
        return
    with whole_folder(folder) as draft:
        shutil.copyfile(checkpoint / ADAPTER, draft / ADAPTER)
        config = read_json(checkpoint / ADAPTER_CONFIG)
        if isinstance(config["target_modules"], list):
            config["target_modules"].sort()  # peft writes a set, whose order changes
        (draft / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        (draft / "README.md").write_text(card)


def write_weights(trained: Any, base: Path, folder: Path, card: str) -> None:
    """Write complete weights with copies of the files beside the base's weights, so that only the weights differ from
    the parent's."""
    with whole_folder(folder) as draft:
        trained.save_pretrained(draft)
        for path in base.iterdir():
            beside = path.suffix in BESIDE_WEIGHTS or path.name.startswith(("LICENSE", "LICENCE", "NOTICE"))
            if path.is_file() and beside and path.name != INDEX:
                shutil.copyfile(path, draft / path.name)
        config = read_json(draft / "config.json")
        config.pop("torch_dtype", None)
        config["dtype"] = str(trained.dtype).removeprefix("torch.")
        (draft / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        (draft / "README.md").write_text(card)


def log_probabilities(model: Any, texts: Sequence[Sequence[int]]) -> LogProbabilities:
    """Log-probability of each token given those before it; `None` for the first token of a text.

    Raises:
        DataSaysNo: a log-probability is not finite, because a weight is too large.
    """
    model.eval()
    by_text: list[tuple[float | None, ...]] = []
    for text in texts:
        ids = torch.tensor([text], device=model.device)
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
        chosen = logits.log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
        if not chosen.isfinite().all():
            raise DataSaysNo("the trained weights give probabilities that are not finite; lower train.learning_rate")
        by_text.append((None, *(round(value, 6) for value in chosen.tolist())))
    return tuple(by_text)
