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
    return torch_built_for().get("cuda")


def is_cpu_torch() -> bool:
    """Whether torch is installed, and was built for no accelerator."""
    return importlib.util.find_spec("torch") is not None and not torch_built_for()


def torch_built_for() -> dict[str, str]:
    """Version of the accelerator's software by its name (`cuda`, `hip`, `xpu`), as torch/version.py states it."""
    spec = importlib.util.find_spec("torch")
    version = Path(spec.origin).with_name("version.py") if spec is not None and spec.origin is not None else None
    if version is None or not version.exists():
        return {}
    return dict(re.findall(r"^(cuda|hip|xpu)\b[^=]*=\s*'([^']+)'", version.read_text(), re.MULTILINE))


def driver_problem(driver: str | None, cuda: str | None) -> str | None:
    """Why a driver cannot run a CUDA version, or `None` if it can, or if nothing is known."""
    if driver is None or cuda is None or not re.match(r"\d+", driver):
        return None
    least = LEAST_DRIVER.get(int(cuda.split(".")[0]))
    if least is None or int(driver.split(".")[0]) >= least:
        return None
    return f"driver {driver} is too old for CUDA {cuda}, which needs {least} or newer"


def gpu_problem() -> str | None:
    """Why torch would compute on the CPU here; `None` if it seems to find a GPU, with nvidia-smi or without."""
    answer = ask_nvidia_smi()
    if not answer.gpus and not any(path.exists() for path in DEVICES):
        return f"no GPU is here: {answer.problem}"
    if "CUDA_VISIBLE_DEVICES" in os.environ and not visible_gpus():
        return f"CUDA_VISIBLE_DEVICES={os.environ['CUDA_VISIBLE_DEVICES']} names no GPU"
    if is_cpu_torch():
        return "the installed torch is built for CPUs: pip install -e '.[gpu]'"
    return driver_problem(answer.gpus[0].driver, torch_cuda()) if answer.gpus else None
