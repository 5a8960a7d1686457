"""Find the checkpoint that training resumes from.

transformers writes a checkpoint file by file and resumes from the highest number, complete or not.
"""

import json
import re
import shutil
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crescent.errors import BadConfig, CrescentError
from crescent.machine.disk import write_whole
from crescent.models.model_folder import ADAPTER, read_tensor_header, weight_files

SENTINEL = "checkpoint-is-incomplete.txt"
"""File that transformers leaves while it saves on a signal (trainer_jit_checkpoint.py) and never reads."""
SAVED = "saved.json"
"""File that holds a checkpoint's `Layout`. It is written last, so it also marks the checkpoint as complete."""


@dataclass(frozen=True)
class Layout:
    """How a checkpoint is divided into files."""

    processes: int
    """Number of processes that saved it."""
    kind: str
    """`whole`: any number of processes can resume from it; `fsdp`: the same, under FSDP; `zero2`, `zero3`: optimizer
    states are split among the processes that saved them."""


def newest_complete(folder: Path) -> Path | None:
    """The complete checkpoint with the most steps below `folder`, if any."""
    newest_first = sorted(checkpoints_in(folder), key=step_of, reverse=True)
    return next((checkpoint for checkpoint in newest_first if is_complete(checkpoint)), None)


def remove_incomplete(folder: Path) -> None:
    """Delete checkpoints that a killed trainer left half written, so that they do not count among those to keep."""
    for checkpoint in checkpoints_in(folder):
        if not is_complete(checkpoint):
            shutil.rmtree(checkpoint)


def checkpoints_in(folder: Path) -> list[Path]:
    """All checkpoints directly below `folder`, complete or not, in no particular order."""
    return [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def is_complete(checkpoint: Path) -> bool:
    """Whether training can resume from it exactly: weights, optimizer, scheduler, random states and trainer state."""
    if (checkpoint / SENTINEL).exists():
        return False
    try:
        layout, state = read_layout(checkpoint), read_state(checkpoint)
        for file in trained_files(checkpoint):
            read_tensor_header(file)
        if layout.kind.startswith("zero") and (checkpoint / "latest").read_text() != shard_folder(checkpoint).name:
            return False  # DeepSpeed reads the name of its shards' folder from `latest`
    except (OSError, ValueError, TypeError, CrescentError):
        return False
    random_states = list(checkpoint.glob("rng_state*.pth"))
    return (
        state.get("global_step") == step_of(checkpoint)
        and len(random_states) == layout.processes
        and all(map(is_whole_archive, [*random_states, *archives(checkpoint, layout)]))
    )


def archives(checkpoint: Path, layout: Layout) -> list[Path]:
    """Files that training resumes from besides weights and random states."""
    if layout.kind == "whole":
        return [checkpoint / "optimizer.pt", checkpoint / "scheduler.pt"]
    if layout.kind == "fsdp":
        return [checkpoint / name for name in ("optimizer.bin", "scheduler.pt", "pytorch_model_fsdp.bin")]
    folder = shard_folder(checkpoint)
    ranks = range(layout.processes)
    if layout.kind == "zero3":
        models = [f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt" for rank in ranks]
    else:
        models = ["mp_rank_00_model_states.pt"]
    # DeepSpeed puts `bf16_` in front of some of these names, so they are found by pattern. Each one that is absent is
    # listed under a name that does not exist, which makes the checkpoint incomplete.
    optimizers = sorted(folder.glob("*zero_pp_rank_*_mp_rank_00_optim_states.pt"))
    absent = [folder / "optim_states.pt"] * (layout.processes - len(optimizers))
    return [checkpoint / "scheduler.pt", *(folder / name for name in models), *optimizers, *absent]


def shard_folder(checkpoint: Path) -> Path:
    """Folder in which DeepSpeed keeps the states that it splits among processes."""
    return checkpoint / f"global_step{step_of(checkpoint)}"


def trained_files(checkpoint: Path) -> list[Path]:
    """Safetensors files of the trained weights: an adapter, or complete weights."""
    adapter = checkpoint / ADAPTER
    return [adapter] if adapter.exists() else weight_files(checkpoint)


def refuse_other_layout(checkpoint: Path, now: Layout, accelerate: str | None) -> None:
    """Refuse to resume from a checkpoint whose files this kind of training cannot read. Nothing is overwritten.

    Raises:
        BadConfig: another kind of training saved it, or it is split among another number of processes.
    """
    saved = read_layout(checkpoint)
    split = saved.kind.startswith("zero") and saved.processes != now.processes
    if saved.kind == now.kind and not split:
        return
    raise BadConfig(
        f"train.accelerate={accelerate or 'null'}: trains as {now.kind} in {now.processes} processes, and {checkpoint} "
        f"was saved as {saved.kind} in {saved.processes}; resume with that, or delete {checkpoint.parent} to start over"
    )


def write_layout(checkpoint: Path, layout: Layout) -> None:
    """Mark the checkpoint as complete."""
    write_whole(checkpoint / SAVED, json.dumps(asdict(layout)).encode())


def read_layout(checkpoint: Path) -> Layout:
    return Layout(**json.loads((checkpoint / SAVED).read_text()))


def is_whole_archive(path: Path) -> bool:
    """Whether a file written by `torch.save`, a zip archive, is complete and undamaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Fields of transformers' `TrainerState`: `global_step`, `max_steps`, `log_history`, …"""
    state: dict[str, Any] = json.loads((checkpoint / "trainer_state.json").read_text())
    return state
