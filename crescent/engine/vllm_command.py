"""How vLLM's server is started: command line and environment. Knows vLLM, imports none of it."""

import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Sequence

from crescent.config import Child, EngineKind, LoraConfig, ModelConfig, ServingConfig, WhileTraining
from crescent.engine.key import STARTS_SHUT, RequireKey
from crescent.errors import Missing

CPU_CORES = "VLLM_CPU_OMP_THREADS_BIND"
"""Variable with the CPU cores that vLLM's CPU build works on."""


def vllm_command(
    serving: ServingConfig,
    model: ModelConfig,
    lora: LoraConfig,
    weights: str,
    name: str,
    port: int | str,
    on_cpu: bool,
    host: str = "127.0.0.1",
) -> list[str]:
    """Command that serves `weights` at an address under `name`; `on_cpu` says whether it is for vLLM's CPU build."""
    options: dict[str, object] = {
        "model": weights,
        "served-model-name": name,
        "host": host,
        "port": port,
        "dtype": model.dtype.value,
        "max-model-len": model.context,
        # Only the config sets how text is sampled, not the model's own generation_config.json.
        "generation-config": "vllm",
        "gpu-memory-utilization": serving.memory_share,
        "tensor-parallel-size": serving.tensor_parallel,
        "max-num-seqs": serving.concurrency,
        "middleware": f"{RequireKey.__module__}.{RequireKey.__name__}",
    }
    if model.revision:
        options["revision"] = model.revision
    if serving.child is Child.adapter:
        options["max-lora-rank"] = max(8, 1 << (lora.rank - 1).bit_length())
    if on_cpu:
        # The CPU build (0.32) has no `vllm serve`: that asks for the version of a distribution called vllm.
        command = [sys.executable, "-P", "-m", "vllm.entrypoints.launchers.api_server.entry"]
        # A prompt prefilled in chunks crashes the CPU build (0.32) when its request has a seed: "CPU Generator does
        # not use offset". Without chunks a batch must hold the longest prompt; a larger one only costs memory.
        options["max-num-batched-tokens"] = max(2048, model.context)
    else:
        command = [sys.executable, "-P", "-m", "vllm.entrypoints.cli.main", "serve", str(options.pop("model"))]
        # `vllm serve` starts as many API servers as data-parallel ranks, and several cannot load adapters while they
        # run.
        options["api-server-count"] = 1
    for option, value in options.items():
        command += [f"--{option}", str(value)]
    command += ["--enable-lora"] if serving.child is Child.adapter else []
    command += ["--enable-sleep-mode"] if sleeps(serving) and not on_cpu else []
    command += ["--enforce-eager"] if serving.eager else []
    command += ["--no-enable-chunked-prefill"] if on_cpu else []
    return [*command, "--disable-uvicorn-access-log", *serving.arguments]


def vllm_environment(
    serving: ServingConfig, key: str, gpus: Sequence[str] = (), cores: Sequence[int] = ()
) -> dict[str, str]:
    """Environment variables of the server. They win over those of this process.

    Args:
        gpus: GPUs that it may use, if not all.
        cores: CPU cores that it may use, if not all.
    """
    environment = {
        "VLLM_API_KEY": key,
        STARTS_SHUT: "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # Whatever the user's terminal likes: causes and likely fixes are looked for at the beginnings of its lines.
        "VLLM_LOGGING_COLOR": "0",
        # Its warm-up compiles with nvcc, which pip installs put on no path. Requests with a seed, as all of ours, never
        # use it (vllm/v1/sample/ops/topk_topp_sampler.py).
        "VLLM_USE_FLASHINFER_SAMPLER": "0",
        # The front end in Rust runs no Python middleware: it would answer without our key.
        "VLLM_USE_RUST_FRONTEND": "0",
    }
    if serving.child is Child.adapter:
        environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
    # Endpoints that reload weights and that let the engine sleep; the key protects them, too.
    if serving.child is Child.reload or sleeps(serving):
        environment["VLLM_SERVER_DEV_MODE"] = "1"
    if runs_on_cpu():
        environment["VLLM_CPU_KVCACHE_SPACE"] = str(serving.cpu_cache_gib)
        # The automatic binding leaves one core of a small machine unused.
        bound = ",".join(map(str, cores or sorted(os.sched_getaffinity(0))))
        asked = None if cores else os.environ.get(CPU_CORES)
        environment[CPU_CORES] = asked or bound
    if gpus:
        # The numbers of nvidia-smi; CUDA counts the fastest GPU first.
        environment |= {"CUDA_VISIBLE_DEVICES": ",".join(gpus)}
        environment |= {} if "CUDA_VISIBLE_DEVICES" in os.environ else {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return environment


def sleeps(serving: ServingConfig) -> bool:
    """Whether the engine sleeps while the trainer works."""
    return serving.while_training is WhileTraining.sleep


def runs_on_cpu() -> bool:
    """Whether the installed vLLM is its CPU build."""
    try:
        importlib.metadata.distribution("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def check_engine_installed(kind: EngineKind) -> None:
    """Raise `Missing` with the command that installs it, unless the engine can be started."""
    if kind is EngineKind.vllm and importlib.util.find_spec("vllm") is None:
        raise Missing(
            "serving.engine=vllm: vLLM is not installed; run `make install` on a CPU, `pip install -e '.[gpu]'` on a "
            "GPU node, or use a running endpoint: serving.urls=[http://host:8000/v1]"
        )
