"""Which checkpoint to go on from.

transformers writes checkpoints file by file and takes the highest number for the last one, whole or not.
"""

import json
import re
import shutil
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crescent.errors import BadConfig, CrescentError
from crescent.models.model_folder import read_tensor_header, weight_files

SENTINEL = "checkpoint-is-incomplete.txt"
"""Left by transformers while it saves on a signal (trainer_jit_checkpoint.py); nothing there reads it."""
ADAPTER = "adapter_model.safetensors"
SAVED = "saved.json"


@dataclass(frozen=True)
class Layout:
    """How a checkpoint lies in its files. `SAVED` holds it: written last, after every process has written its part."""

    processes: int
    kind: str
    """`whole`: any number of processes can go on from it; `fsdp`: likewise, under FSDP; `zero2`, `zero3`: optimizer
    states are split among the processes that saved them."""


def newest_complete(folder: Path) -> Path | None:
    """The complete checkpoint with the most steps below `folder`, if any."""
    newest_first = sorted(numbered(folder), key=step_of, reverse=True)
    return next((found for found in newest_first if is_complete(found)), None)


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
    """Whether training can go on from it exactly: weights, optimizer, scheduler, random states and trainer state."""
    if (checkpoint / SENTINEL).exists():
        return False
    try:
        layout, state = read_layout(checkpoint), read_state(checkpoint)
        for file in trained_files(checkpoint):
            read_tensor_header(file)
        if layout.kind.startswith("zero") and (checkpoint / "latest").read_text() != shards(checkpoint).name:
            return False  # DeepSpeed looks there for its shards
    except (OSError, ValueError, TypeError, CrescentError):
        return False
    random_states = list(checkpoint.glob("rng_state*.pth"))
    return (
        state.get("global_step") == step_of(checkpoint)
        and len(random_states) == layout.processes
        and all(map(is_whole_archive, [*random_states, *archives(checkpoint, layout)]))
    )


def archives(checkpoint: Path, layout: Layout) -> list[Path]:
    """The files besides weights and random states that training goes on from."""
    if layout.kind == "whole":
        return [checkpoint / "optimizer.pt", checkpoint / "scheduler.pt"]
    if layout.kind == "fsdp":
        return [checkpoint / name for name in ("optimizer.bin", "scheduler.pt", "pytorch_model_fsdp.bin")]
    folder = shards(checkpoint)
    ranks = range(layout.processes)
    if layout.kind == "zero3":
        models = [f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt" for rank in ranks]
    else:
        models = ["mp_rank_00_model_states.pt"]
    optimizers = sorted(folder.glob("*zero_pp_rank_*_mp_rank_00_optim_states.pt"))  # `bf16_` may stand before
    absent = [folder / "optim_states.pt"] * (layout.processes - len(optimizers))
    return [checkpoint / "scheduler.pt", *(folder / name for name in models), *optimizers, *absent]


def shards(checkpoint: Path) -> Path:
    """Where DeepSpeed keeps what it split among the processes."""
    return checkpoint / f"global_step{step_of(checkpoint)}"


def trained_files(checkpoint: Path) -> list[Path]:
    """The safetensors files of what was trained: an adapter, or complete weights."""
    adapter = checkpoint / ADAPTER
    return [adapter] if adapter.exists() else weight_files(checkpoint)


def refuse_other_layout(checkpoint: Path, now: Layout, accelerate: str | None) -> None:
    """Refuse to go on from a checkpoint whose files this way of training cannot read. Nothing is overwritten.

    Raises:
        BadConfig: it was saved by another kind of training, or is split among another number of processes.
    """
    saved = read_layout(checkpoint)
    split = saved.kind.startswith("zero") and saved.processes != now.processes
    if saved.kind == now.kind and not split:
        return
    raise BadConfig(
        f"train.accelerate={accelerate or 'null'}: trains as {now.kind} in {now.processes} processes, and {checkpoint} "
        f"was saved as {saved.kind} in {saved.processes}; go on with that, or delete {checkpoint.parent} to begin again"
    )


def write_layout(checkpoint: Path, layout: Layout) -> None:
    """Declare the checkpoint complete."""
    (checkpoint / SAVED).write_text(json.dumps(asdict(layout)))


def read_layout(checkpoint: Path) -> Layout:
    return Layout(**json.loads((checkpoint / SAVED).read_text()))


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
