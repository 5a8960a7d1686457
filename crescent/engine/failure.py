"""Why an engine ended: the first error in its log, and what mends it.

vLLM's server, its engine core and its workers are processes that write into one log. When a worker fails, the core says
so at length, and the server says "See root cause above": the cause can stand hundreds of lines before the end.
"""

import re
from pathlib import Path

from crescent.machine.processes import last_lines

PREFIX = re.compile(r"^\((?P<process>[\w-]+) pid=\d+\)\s?")
"""Name of the process in front of a line (vllm/logging_utils)."""
LEVEL = re.compile(r"^(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]*\]\s?")
INNER = re.compile(r"EngineCore|Worker|VllmWorker")
"""Processes behind the server, of which each says the cause before the server hears of it."""
EXCEPTION = re.compile(r"^(?:\w+\.)*(?:[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Expired|NotFound)|Killed)\b")
ERROR_LINE = re.compile(r"\b(?:fatal )?error: ", re.IGNORECASE)
"""An error of a compiler or of a command line."""
SEARCHED = 8_000_000
"""Bytes at the end of a log that are searched."""

FIXES = {
    "Python.h": "A kernel could not be compiled: install Python's headers, e.g. apt install python3-dev.",
    "Failed to find C compiler": "A kernel could not be compiled: install a C compiler, e.g. apt install gcc.",
    "Could not find nvcc": "A kernel could not be compiled: install the CUDA toolkit (nvcc), or leave out what "
    "needs it: see serving.arguments and the VLLM_ variables of your environment.",
    "driver on your system is too old": "Update the NVIDIA driver (CUDA 13 needs 580 or newer), or install the wheels "
    "for CUDA 12: see docs/gpu.md.",
    "driver version is insufficient": "Update the NVIDIA driver (CUDA 13 needs 580 or newer), or install the wheels "
    "for CUDA 12: see docs/gpu.md.",
    "no kernel image is available": "This torch has no kernels for this GPU: install a build for its compute "
    "capability.",
    "Failed to infer device type": "This vLLM needs a GPU and finds none: check nvidia-smi and CUDA_VISIBLE_DEVICES.",
    "No CUDA GPUs are available": "vLLM finds no GPU: check nvidia-smi and CUDA_VISIBLE_DEVICES.",
    "libcuda.so": "The NVIDIA driver is not installed: check nvidia-smi.",
    "unrecognized arguments": "Check serving.arguments against `vllm serve --help=all`.",
    "No module named": "A package is missing: `make install` (CPU) or `pip install -e '.[gpu]'`.",
    "address already in use": "Another process took the port: run the same command again.",
    "No space left on device": "The disk is full: free space (also in /dev/shm and the cache folders).",
    "Too many open files": "The limit of open files is too low: ulimit -n 65535.",
    "less than desired GPU memory": "The GPU is too full: lower serving.memory_share, or free the GPU.",
    "out of memory": "The GPU is too full: lower serving.memory_share or model.context, or free the GPU.",
    "KV cache": "The key-value cache does not fit: lower model.context, or raise serving.cpu_cache_gib on a CPU.",
    "cache blocks": "The key-value cache does not fit: lower model.context, or raise serving.cpu_cache_gib on a CPU.",
    "max_model_len": "The model's own context is shorter: lower model.context.",
    "gated repo": "The model is gated: accept its licence on the hub, and set HF_TOKEN.",
    "is not a valid model identifier": "Check model.path, and HF_TOKEN if the model is gated.",
    "Killed": "The machine ran out of memory: lower serving.cpu_cache_gib or use a smaller model.",
}
"""Fixes by words in an error, the more specific ones first."""


def explain_failure(log: Path, since: int) -> str:
    """Cause, fix, and the log's last lines; `since` is the size of the log, in bytes, before the engine was started."""
    lines = errors_in(log, since)
    cause = find_cause(lines)
    fix = find_fix(cause, lines)
    known = [sentence for sentence in (cause, fix) if sentence]
    return "\n".join([*known, f"the last lines of {log}:", last_lines(log)])


def errors_in(log: Path, since: int) -> list[tuple[str, str]]:
    """Process and text of each line that an engine wrote, except what it logged as information or warning."""
    if not log.exists():
        return []
    with log.open("rb") as file:
        file.seek(max(since, log.stat().st_size - SEARCHED))
        text = file.read().decode("utf-8", "replace")
    found = []
    for line in text.splitlines():
        prefix = PREFIX.match(line)
        rest = line[prefix.end() :] if prefix else line
        level = LEVEL.match(rest)
        if level is None or level["level"] in ("ERROR", "CRITICAL"):
            found.append((prefix["process"] if prefix else "", rest[level.end() :] if level else rest))
    return found


def find_cause(lines: list[tuple[str, str]]) -> str | None:
    """The first error of an engine core or a worker, or else of any process."""
    inner = [text for process, text in lines if INNER.match(process)]
    for texts in (inner, [text for _, text in lines]):
        for pattern in (EXCEPTION, ERROR_LINE):
            for text in texts:
                if pattern.search(text):
                    return text.strip()[:1000]
    return None


def find_fix(cause: str | None, lines: list[tuple[str, str]]) -> str | None:
    """The fix of a known problem in the cause, or else in any line."""
    for text in (cause or "", "\n".join(text for _, text in lines)):
        for words, fix in FIXES.items():
            if words.lower() in text.lower():
                return fix
    return None
