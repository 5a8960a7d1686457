"""Which checkpoint to go on from.

transformers writes checkpoints file by file and takes the highest number for the last one, whole or not.
"""

import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

from crescent.errors import Missing
from crescent.model_folder import read_tensor_header

SENTINEL = "checkpoint-is-incomplete.txt"
"""Left by transformers while it saves on a signal (trainer_jit_checkpoint.py); nothing there reads it."""


def newest_complete(folder: Path) -> Path | None:
    """The complete checkpoint with the most steps below `folder`, if any."""
    whole = [found for found in numbered(folder) if is_complete(found)]
    return max(whole, key=step_of, default=None)


def remove_incomplete(folder: Path) -> None:
    """Delete what a killed trainer left half-written, so that it does not count among the checkpoints to keep."""
    for found in numbered(folder):
        if not is_complete(found):
            shutil.rmtree(found)


def numbered(folder: Path) -> list[Path]:
    return [found for found in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", found.name)]


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def is_complete(checkpoint: Path) -> bool:
    """Whether training can go on from it exactly: adapter, optimizer, scheduler, random state and trainer state."""
    if (checkpoint / SENTINEL).exists():
        return False
    try:
        read_tensor_header(checkpoint / "adapter_model.safetensors")
        state = read_state(checkpoint)
    except (OSError, ValueError, Missing):
        return False
    sharded_optimizer = any(checkpoint.glob(f"global_step{step_of(checkpoint)}/*"))  # DeepSpeed
    return (
        state.get("global_step") == step_of(checkpoint)
        and (sharded_optimizer or is_whole_archive(checkpoint / "optimizer.pt"))
        and is_whole_archive(checkpoint / "scheduler.pt")
        and any(checkpoint.glob("rng_state*.pth"))
        and all(is_whole_archive(path) for path in checkpoint.glob("rng_state*.pth"))
    )


def is_whole_archive(path: Path) -> bool:
    """Whether a file written by `torch.save`, which is a zip archive, is there to its end and undamaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def read_state(checkpoint: Path) -> dict[str, Any]:
    """transformers' `TrainerState`: `global_step`, `max_steps`, `log_history`, …"""
    state: dict[str, Any] = json.loads((checkpoint / "trainer_state.json").read_text())
    return state
