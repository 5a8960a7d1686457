"""Checks of what an evaluation needs, before anything is served."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from crescent.config import Child, Config, Dtype, EngineKind, EvalJob, Source, WhileTraining, write_job
from crescent.config.standalone import EvaluationConfig
from crescent.engine.outside import check_endpoint
from crescent.engine.vllm_command import check_engine_installed, runs_on_cpu
from crescent.errors import BadConfig, CrescentError, Missing
from crescent.groundwork import own_data
from crescent.machine.processes import ERRORS
from crescent.models.model_folder import check_model_folder, is_hub_id
from crescent.models.packaged_model import PACKAGED, find_gguf, packaged_folder
from crescent.run_folder.manifest import verified_manifest
from crescent.run_folder.stage_settings import completed, stage_settings
from crescent.synthesis.seeds import read_seeds
from crescent.tasks import open_task


def check_models(cfg: Config) -> None:
    """Refuse a model that cannot be asked and trained: of a folder everything is checked, of a hub id only its name,
    until its small files are downloaded.

    Raises:
        Missing, BadConfig: as `check_model_folder`.
    """
    if cfg.serving.engine is EngineKind.fake:
        return
    for path in filter(None, (cfg.model.path, cfg.train.student)):
        if path.startswith(PACKAGED):
            check_packaged(path)
        elif not is_hub_id(path):
            check_model_folder(Path(path).expanduser())


def check_packaged(path: str) -> None:
    """Refuse a packaged model that is neither unpacked already nor can be."""
    if packaged_folder(path.removeprefix(PACKAGED)).is_dir():
        return
    find_gguf()
    if importlib.util.find_spec("gguf") is None:
        raise Missing(f"model.path={path}: the package gguf, which unpacks it, is missing; pip install 'gguf>=0.17'")


def check_adapters(cfg: Config, on_cpu: bool) -> None:
    """Refuse adapters in float32 on a GPU: vLLM's kernels take half precision only (vllm/lora/ops/triton_ops).

    Raises:
        BadConfig: this engine would stop at an assertion.
    """
    ours = cfg.serving.engine is EngineKind.vllm and not cfg.serving.urls and not on_cpu
    if ours and cfg.serving.child is Child.adapter and cfg.model.dtype is Dtype.float32:
        raise BadConfig(
            "model.dtype=float32: on a GPU, vLLM serves adapters in half precision only; use model.dtype=bfloat16, or "
            "serving.child=reload"
        )


def check_sleep(cfg: Config, on_cpu: bool) -> None:
    """Refuse to let an engine sleep that cannot.

    Raises:
        BadConfig: it runs on a CPU, or is not ours.
    """
    asked = cfg.serving.while_training is WhileTraining.sleep
    if asked and (cfg.serving.urls or (on_cpu and cfg.serving.engine is EngineKind.vllm)):
        who = (
            "endpoints of serving.urls are not ours to put to sleep"
            if cfg.serving.urls
            else "vLLM sleeps on a GPU only"
        )
        raise BadConfig(f"serving.while_training=sleep: {who}; use auto")


def loaded_rank(cfg: Config) -> int | None:
    """Rank of the adapters that the server has to load; `None` if it serves what it has."""
    if isinstance(cfg, EvaluationConfig) and cfg.adapter is None:
        return None
    return cfg.train.lora.rank


def check_evaluation(cfg: Config) -> None:
    """Check what would otherwise fail after the engine was started: no engine, no sandbox for programs, a file of
    questions of which none can be used, no lm-eval, no task of that name.

    lm-eval itself checks the task names, in its own environment, until a harness stage with them is finished.

    Raises:
        Missing: something must be installed, or a file is not there.
        BadConfig: lm-eval has no such task.
        DataSaysNo: no row of a file has a question and an answer that can be compared.
    """
    own_data(cfg)
    check_own_files(cfg)
    if not isinstance(cfg, EvaluationConfig):
        read_seeds(cfg.bait)
    if not cfg.serving.urls:
        check_engine_installed(cfg.serving.engine)
    key = os.environ.get("CRESCENT_API_KEY", "none")
    for url in cfg.serving.urls:
        check_endpoint(url, key, cfg.model.context, loaded_rank(cfg), cfg.run.folder)
    check_adapters(cfg, runs_on_cpu())
    check_sleep(cfg, runs_on_cpu())
    with open_task(cfg.task, cfg.consensus.grading_timeout_s):
        pass
    config = cfg.eval.harness
    if not config.tasks:
        return
    if (shutil.which(config.python) if config.python else importlib.util.find_spec("lm_eval")) is None:
        raise Missing(
            f"eval.harness.tasks need lm-eval, which eval.harness.python={config.python} does not have; "
            "pip install 'lm-eval[api]==0.4.13' in a separate environment and set eval.harness.python to its python"
        )
    done = verified_manifest(cfg.run.folder / "base/harness")
    settings = stage_settings(cfg, "harness")
    if done is not None and completed(done["made_from"]["settings"], settings) == settings:
        return
    ask_evaluation(cfg, "eval.harness", "--check")


def check_own_files(cfg: Config) -> None:
    """Let the evaluation read the JSONL files of one's own, until a run has listed their items.

    Raises:
        Missing, BadConfig, DataSaysNo: as the evaluation says.
    """
    has_own = any(benchmark.source is Source.jsonl for benchmark in cfg.eval.benchmarks.values())
    if has_own and verified_manifest(cfg.run.folder / "base/benchmarks") is None:
        ask_evaluation(cfg, "eval.benchmarks", "--check")


def ask_evaluation(cfg: Config, module: str, option: str) -> str:
    """Let the evaluation check its job before anything is served, in a process of its own.

    Returns:
        The items that it listed, one JSON object a line; empty if it lists none.

    Raises:
        CrescentError: what it refuses, as its process says.
    """
    with tempfile.TemporaryDirectory(prefix="crescent-check-") as made:
        folder = Path(made)
        write_job(folder / "job.yaml", EvalJob(cfg.eval, cfg.task, urls=[], model="", output=made))
        command = [sys.executable, "-P", "-m", module, option, str(folder / "job.yaml")]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode != 0:
            raise ERRORS.get(ended.returncode, CrescentError)(ended.stderr.strip().removeprefix("error: "))
        items = folder / "items.jsonl"
        return items.read_text() if items.is_file() else ""
