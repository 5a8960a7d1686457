"""Speed benchmarks: what the parts of the loop cost and yield. `python -m benchmarks` lists them, in a checkout.

Benchmarks of models are something else; they are in eval/benchmarks.
"""

import json
import os
import platform
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import psutil

from crescent.machine.disk import write_whole

RESULTS = Path(__file__).parent / "results"


def save(name: str, results: dict[str, Any]) -> Path:
    """Write `benchmarks/results/<name>.json`: the results, with the command, commit, day and machine that gave them."""
    origin = {
        "command": "python -m benchmarks " + " ".join([name, *sys.argv[2:]]),
        "commit": _commit(),
        "date": date.today().isoformat(),
        "machine": machine(),
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    write_whole(path, (json.dumps({**origin, "results": results}, indent=1, ensure_ascii=False) + "\n").encode())
    return path


def machine() -> dict[str, Any]:
    """Processor, number of its cores that this process may use, and memory in GiB."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    memory_gib = round(psutil.virtual_memory().total / 2**30, 1)
    return {"cpu": model or platform.processor(), "cores": cores, "memory_gib": memory_gib}


def _commit() -> str:
    """Commit of the checkout, with `+` when tracked files differ from it."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--abbrev=8", "--exclude=*"],
        cwd=RESULTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"
