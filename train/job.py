"""The trainer's door: a job is read and checked in a second, before torch is imported.

A finished job is recognised and left alone, an interrupted one goes on from its newest complete checkpoint. Written
into `job.output`:

    adapter/        the LoRA adapter, unless all weights are trained
    weights/        complete weights: base and adapter merged, when `job.merge`; always when all weights are trained
    proof.json      `crescent.records.Proof`
    metrics.json    last: it says that all the rest is there. No timings, so that equal jobs give equal folders
    progress.jsonl  one line a step
    checkpoints/    while it trains
    stopped.json    exit code and reason of an attempt that failed, because `accelerate launch` turns every code into 1
"""

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from crescent.config import ModelConfig, TrainConfig, Trainer, TrainJob, Tuning, as_settings, read_job
from crescent.errors import BadConfig, CrescentError, DataSaysNo, Missing, SettingsChanged, TryAgain, run_to_exit_code
from crescent.machine.disk import write_whole
from crescent.machine.processes import die_with_parent
from crescent.models.model_folder import find_model, weight_files
from crescent.models.packaged_model import PACKAGED, packaged_model
from crescent.records import Pair, digest, read_lines
from crescent.run_folder.stage_settings import training_settings
from train.launched import accumulation, fsdp_launched, use_one_gpu, world_size
from train.parent import check_fit, check_kind


def main(arguments: Sequence[str]) -> int:
    """Train, and return the exit code; the reason is on stderr when it is not 0."""
    parser = argparse.ArgumentParser(prog="python -P -m train", description="Train one round's child.")
    parser.add_argument("job", type=Path, help="YAML file of crescent.config.TrainJob; the loop writes one")
    path = parser.parse_args(arguments).job
    die_with_parent()  # ranks that torch's launcher started are in sessions of their own, out of our guard's sight
    return run_to_exit_code(lambda: attempt(read_job(path, TrainJob)))


def attempt(job: TrainJob) -> None:
    """Run the job and leave a note behind when it stops."""
    output = Path(job.output)
    output.mkdir(parents=True, exist_ok=True)
    note = output / "stopped.json"
    if int(os.environ.get("RANK", 0)) == 0:
        note.unlink(missing_ok=True)
    try:
        run(job)
    except (CrescentError, KeyboardInterrupt) as error:
        code = error.exit_code if isinstance(error, CrescentError) else TryAgain.exit_code
        with contextlib.suppress(FileExistsError), note.open("x") as file:  # the first process to stop knows why
            json.dump({"exit_code": code, "reason": str(error)}, file)
        raise


def run(job: TrainJob) -> None:
    """Check everything that can be checked cheaply, then train."""
    if job.train.trainer is Trainer.fake:
        raise BadConfig("train.trainer=fake: this is the real one; use train.trainer=sft")
    accumulation(job.train, world_size())
    output = Path(job.output)
    if not Path(job.pairs).is_file():
        raise Missing(f"pairs={job.pairs}: no such file; the loop writes it before it trains")
    if job.parent is not None:
        check_kind(Path(job.parent), job.train.tuning)
    settings = job_digest(job)
    if (output / "metrics.json").exists():
        refuse_changed(json.loads((output / "metrics.json").read_text()).get("settings"), settings, output)
        shutil.rmtree(output / "checkpoints", ignore_errors=True)
        print(f"{output}: already trained, nothing to do")
        return
    key = output / "checkpoints" / "settings"
    if key.exists():
        refuse_changed(key.read_text(), settings, output)
    else:
        key.parent.mkdir(exist_ok=True)
        write_whole(key, settings.encode(), shared=True)  # other processes of this job write it now, too

    check_quantisation(job.train)
    pairs = read_lines(Path(job.pairs), Pair)
    if not pairs:
        raise DataSaysNo(f"pairs={job.pairs}: the file is empty, there is nothing to learn from")
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # TRL reports every trainer that is made
    base = find_base(job.model)
    if job.parent is not None:
        check_fit(Path(job.parent), job.train, base)
    use_one_gpu()

    from train.training import train

    train(job, pairs, base, settings)


def find_base(model: ModelConfig) -> Path:
    """The base model's folder: made from its package, downloaded or given; checked."""
    if model.path.startswith(PACKAGED):
        return packaged_model(model.path.removeprefix(PACKAGED))
    return find_model(model)


def check_quantisation(train: TrainConfig) -> None:
    """Refuse four bits where they cannot be had, before anything is loaded."""
    if train.tuning is not Tuning.qlora:
        return
    if importlib.util.find_spec("bitsandbytes") is None:
        raise Missing(
            "train.tuning=qlora: needs bitsandbytes, which is not installed: pip install 'bitsandbytes>=0.46.1'; "
            "or use train.tuning=lora"
        )
    if os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3" or fsdp_launched():
        raise BadConfig(
            f"train.accelerate={train.accelerate}: splits weights among processes, and four-bit ones cannot be split; "
            "use train.accelerate=eight_gpus or zero2, or train.tuning=lora"
        )


def job_digest(job: TrainJob) -> str:
    """Stands for everything the result depends on."""
    train = training_settings(job.train)
    files = [Path(job.pairs)]
    if job.parent is not None:
        adapter = Path(job.parent) / "adapter_model.safetensors"
        files += [adapter] if adapter.is_file() else weight_files(Path(job.parent))
    contents = []
    for path in files:
        with path.open("rb") as file:
            contents.append(hashlib.file_digest(file, "sha256").hexdigest())
    read = [as_settings(job.task)] if job.train.trainer is Trainer.grpo else []
    return digest(as_settings(job.model), train, contents, job.seed, job.merge, *read)


def refuse_changed(before: object, now: str, output: Path) -> None:
    if before != now:
        raise SettingsChanged(
            f"output={output}: holds another job's results (other settings, pairs or parent); give another folder, or "
            "delete this one"
        )
