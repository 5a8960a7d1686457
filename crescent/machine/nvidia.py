"""What nvidia-smi says about the GPUs now, and what the installed torch asks of their driver; loads nothing heavy."""

import importlib.util
import itertools
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

DEVICES = (Path("/dev/nvidiactl"), Path("/dev/dxg"), Path("/dev/kfd"))
"""Device files of GPUs: NVIDIA's, its in WSL, AMD's. A container can have them without nvidia-smi."""
LEAST_DRIVER = {12: 525, 13: 580}
"""Oldest driver by major version of CUDA, on Linux
(https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html)."""
QUERY = "index,name,memory.total,memory.free,driver_version,compute_cap"
ANSWERS_WITHIN_S = 20.0


@dataclass(frozen=True)
class GpuStatus:
    """A GPU as nvidia-smi describes it; `None` is what it does not say (`[N/A]`, e.g. memory shared with the CPU)."""

    index: int
    name: str
    memory_gib: float | None
    free_gib: float | None
    driver: str | None
    capability: str | None


@dataclass(frozen=True)
class Answer:
    """What nvidia-smi answered."""

    gpus: tuple[GpuStatus, ...] = ()
    problem: str | None = None
    """Why it lists no GPU."""


def ask_nvidia_smi() -> Answer:
    """GPUs of this machine, used or not, or why there are none."""
    if shutil.which("nvidia-smi") is None:
        return Answer(problem="nvidia-smi is not installed")
    try:
        ended = subprocess.run(
            ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=ANSWERS_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Answer(problem=f"nvidia-smi: {error}")
    if ended.returncode != 0:
        said = " ".join((ended.stdout + ended.stderr).split())
        return Answer(problem=f"nvidia-smi ended with {ended.returncode}: {said[:300] or 'no message'}")
    found = tuple(status for line in ended.stdout.splitlines() if (status := read_status(line)) is not None)
    return Answer(found, None if found else "nvidia-smi lists no GPU")


def visible_gpus() -> list[str]:
    """GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them: what it says, or else all of nvidia-smi."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return [str(gpu.index) for gpu in ask_nvidia_smi().gpus]
    found = [name.strip() for name in named.split(",")]
    # CUDA ignores everything from the first name that is none (https://docs.nvidia.com/cuda/cuda-programming-guide).
    return list(itertools.takewhile(lambda name: name not in ("", "-1", "NoDevFiles"), found))


def read_status(line: str) -> GpuStatus | None:
    """One line of nvidia-smi's answer to `QUERY`; `None` if it is none."""
    fields = [field.strip() for field in line.split(",")]
    if len(fields) < 6 or not fields[0].isdigit():
        return None
    # A name may contain a comma; the other fields do not.
    index, *name, total, free, driver, capability = fields
    return GpuStatus(int(index), ", ".join(name), gib(total), gib(free), known(driver), known(capability))


def known(field: str) -> str | None:
    return None if not field or field.startswith("[") else field


def gib(mebibytes: str) -> float | None:
    return float(mebibytes) / 1024 if re.fullmatch(r"\d+(\.\d+)?", mebibytes) else None


def torch_cuda() -> str | None:
    """CUDA version that the installed torch was built for; `None` for another build, or without torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    version = Path(spec.origin).with_name("version.py")
    found = re.search(r"^cuda\b[^=]*=\s*'([\d.]+)'", version.read_text(), re.MULTILINE) if version.exists() else None
    return found[1] if found else None


def driver_problem(driver: str | None, cuda: str | None) -> str | None:
    """Why a driver cannot run a CUDA version, or `None` if it can, or if nothing is known."""
    if driver is None or cuda is None or not re.match(r"\d+", driver):
        return None
    least = LEAST_DRIVER.get(int(cuda.split(".")[0]))
    if least is None or int(driver.split(".")[0]) >= least:
        return None
    return f"driver {driver} is too old for CUDA {cuda}, which needs {least} or newer"


def has_gpu() -> bool:
    """Whether this machine seems to have a GPU, with a working nvidia-smi or without."""
    return bool(ask_nvidia_smi().gpus) or any(path.exists() for path in DEVICES)
