"""Run a training job in a process of its own, and read what it left in its output folder."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from crescent.config import TrainJob, write_job
from crescent.records import Proof
from train.job import attempt


def trained(job: TrainJob) -> Path:
    """Run the job in this process, and return its output folder."""
    attempt(job)
    return Path(job.output)


def run_apart(job: TrainJob, *launcher: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the job in a process of its own, started by `python -m launcher`."""
    path = Path(job.output).with_suffix(".yaml")
    write_job(path, job)
    command = [sys.executable, "-P", "-m", *(launcher or ("train",)), str(path)]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=240)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file below a folder, by relative path; empty for folders. The file that holds the speed of each
    step is left out."""
    paths = sorted(path for path in folder.rglob("*") if path.name != "progress.jsonl")
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in paths
    }


def progress(output: Path) -> list[dict[str, Any]]:
    """Lines of progress.jsonl, one per step."""
    return [json.loads(line) for line in (output / "progress.jsonl").read_text().splitlines()]


def steps_reported(output: Path) -> list[int]:
    return [line["done"] for line in progress(output)]


def losses(output: Path) -> list[float]:
    return [line["loss"] for line in progress(output)]


def metrics(output: Path) -> dict[str, Any]:
    return dict(json.loads((output / "metrics.json").read_text()))


def read_proof(output: Path) -> Proof:
    return msgspec.json.decode((output / "proof.json").read_bytes(), type=Proof)


def adapter_of(output: Path) -> dict[str, Any]:
    """Tensors of the trained adapter, by name."""
    from safetensors.torch import load_file

    return dict(load_file(output / "adapter" / "adapter_model.safetensors"))


def weights_in(folder: Path) -> dict[str, Any]:
    """Tensors of complete weights, by name."""
    from safetensors.torch import load_file

    return dict(load_file(folder / "model.safetensors"))
