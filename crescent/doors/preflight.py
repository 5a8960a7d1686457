"""Checks of what an evaluation needs, before anything is served."""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from crescent.config import Config, EvalJob, write_job
from crescent.engine.vllm_command import check_engine_installed
from crescent.errors import CrescentError, Missing
from crescent.machine.processes import ERRORS
from crescent.run_folder.manifest import verified_manifest
from crescent.run_folder.stage_settings import completed, stage_settings
from crescent.tasks import open_task


def check_evaluation(cfg: Config) -> None:
    """Check what would otherwise fail after the engine was started: no engine, no sandbox for programs, no lm-eval,
    no task of that name.

    lm-eval itself checks the task names, in its own environment, until a harness stage with them is finished.

    Raises:
        Missing: something must be installed.
        BadConfig: lm-eval has no such task.
    """
    if not cfg.serving.urls:
        check_engine_installed(cfg.serving.engine)
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
    folder = Path(tempfile.mkdtemp(prefix="crescent-tasks-"))
    write_job(folder / "job.yaml", EvalJob(cfg.eval, cfg.task, urls=[], model="", output=str(folder)))
    command = [sys.executable, "-P", "-m", "eval.harness", "--check", str(folder / "job.yaml")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise ERRORS.get(ended.returncode, CrescentError)(ended.stderr.strip().removeprefix("error: "))
    shutil.rmtree(folder)
