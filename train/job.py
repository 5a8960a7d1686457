"""Entry point of the trainer: it reads and checks a job within a second, before torch is imported.

A finished job is left alone. An interrupted job resumes from its newest complete checkpoint. Contents of `job.output`:

    adapter/        the LoRA adapter, unless all weights are trained
    weights/        complete weights: base and adapter merged, when `job.merge`; always when all weights are trained
    proof.json      `crescent.records.Proof`
    metrics.json    written last, so it shows that the rest is complete. No timings: equal jobs leave equal folders
    progress.jsonl  one line per step
    checkpoints/    only while the job trains
    stopped.json    exit code and reason of a failed attempt, because `accelerate launch` turns every exit code into 1
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
from crescent.errors import BadConfig, DataSaysNo, Missing, SettingsChanged, known_failure
from crescent.machine.disk import write_whole
from crescent.machine.processes import die_with_parent
from crescent.machine.program import run_to_exit_code
from crescent.machine.secrets import censored
from crescent.models.model_folder import ADAPTER, find_model, read_json, weight_files
from crescent.models.packaged_model import PACKAGED, packaged_model
from crescent.records import Pair, digest, read_lines
from crescent.run_folder.stage_settings import training_settings
from train.compiled import remove_abandoned_locks
from train.launched import accumulation, deepspeed_launched, fsdp_launched, rank, use_one_gpu, world_size
from train.parent import check_fit, check_kind

CHAT_TEMPLATE = "chat_template.jinja"
TOKENIZER_CONFIG = "tokenizer_config.json"


def main(arguments: Sequence[str]) -> int:
    """Train and return the exit code. When it is not 0, the reason is on stderr."""
    parser = argparse.ArgumentParser(prog="python -P -m train", description="Train the child of one round.")
    parser.add_argument("job", type=Path, help="YAML file of crescent.config.TrainJob; the loop writes one")
    path = parser.parse_args(arguments).job
    die_with_parent()  # torch's launcher puts each rank into a session of its own, where our guard cannot see it
    return run_to_exit_code(lambda: attempt(read_job(path, TrainJob)))


def attempt(job: TrainJob) -> None:
    """Run the job. If it fails or is interrupted, write `stopped.json`."""
    output = Path(job.output)
    output.mkdir(parents=True, exist_ok=True)
    note = output / "stopped.json"
    if rank() == 0:
        note.unlink(missing_ok=True)
    try:
        run(job)
    except (Exception, KeyboardInterrupt) as error:
        known = known_failure(error)
        if known is not None:
            # Only the first process to stop knows why; the others stop because it did. The disk may be what failed.
            with contextlib.suppress(OSError), note.open("x") as file:
                json.dump({"exit_code": known.exit_code, "reason": censored(str(known))}, file)
        raise


def run(job: TrainJob) -> None:
    """Check everything that can be checked cheaply, then train."""
    if job.train.trainer is Trainer.fake:
        raise BadConfig("train.trainer=fake: this is the real trainer; use train.trainer=sft")
    accumulation(job.train, world_size())  # raises if the batch cannot be divided
    output = Path(job.output)
    if not Path(job.pairs).is_file():
        raise Missing(f"pairs={job.pairs}: no such file; the loop writes this file before it trains")
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
        raise DataSaysNo(f"pairs={job.pairs}: the file is empty, so there is nothing to learn from")
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # TRL sends telemetry for every trainer it creates
    base = find_base(job.model)
    if job.chat_template is not None:
        base = with_chat_template(base, job.chat_template, output / "checkpoints" / "base")
    if job.parent is not None:
        check_fit(Path(job.parent), job.train, base)
    use_one_gpu()
    if deepspeed_launched():
        remove_abandoned_locks()

    from train.training import train_child

    train_child(job, pairs, base, settings)


def find_base(model: ModelConfig) -> Path:
    """Checked folder of the base model: unpacked from its package, downloaded, or given."""
    if model.path.startswith(PACKAGED):
        return packaged_model(model.path.removeprefix(PACKAGED))
    return find_model(model)


def with_chat_template(model: Path, template: str, folder: Path) -> Path:
    """A folder with links to a model's files and a chat template of its own, for one process as for several."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in model.iterdir():
        if file.is_file() and file.name not in (CHAT_TEMPLATE, TOKENIZER_CONFIG):
            with contextlib.suppress(FileExistsError):
                (folder / file.name).symlink_to(file.resolve())
    settings = read_json(model / TOKENIZER_CONFIG)
    settings.pop("chat_template", None)  # older models keep it there
    write_whole(folder / TOKENIZER_CONFIG, json.dumps(settings, indent=2).encode(), shared=True)
    write_whole(folder / CHAT_TEMPLATE, template.encode(), shared=True)
    return folder


def check_quantisation(cfg: TrainConfig) -> None:
    """Refuse four-bit training where it cannot work, before anything is loaded."""
    if cfg.tuning is not Tuning.qlora:
        return
    if importlib.util.find_spec("bitsandbytes") is None:
        raise Missing(
            "train.tuning=qlora: needs bitsandbytes, which is not installed: pip install 'bitsandbytes>=0.46.1'; "
            "or use train.tuning=lora"
        )
    if os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3" or fsdp_launched():
        raise BadConfig(
            f"train.accelerate={cfg.accelerate}: splits weights among processes, and four-bit weights cannot be split; "
            "use train.accelerate=eight_gpus or zero2, or train.tuning=lora"
        )


def job_digest(job: TrainJob) -> str:
    """Digest of everything that the result depends on."""
    files = [Path(job.pairs)]
    if job.parent is not None:
        adapter = Path(job.parent) / ADAPTER
        files += [adapter] if adapter.is_file() else weight_files(Path(job.parent))
    contents = []
    for path in files:
        with path.open("rb") as file:
            contents.append(hashlib.file_digest(file, "sha256").hexdigest())
    # Of all trainers, only GRPO reads final answers itself.
    task = [as_settings(job.task)] if job.train.trainer is Trainer.grpo else []
    template = [job.chat_template] if job.chat_template is not None else []
    return digest(as_settings(job.model), training_settings(job.train), contents, job.seed, job.merge, *task, *template)


def refuse_changed(before: object, now: str, output: Path) -> None:
    """Refuse to continue in a folder that was written with other settings."""
    if before != now:
        raise SettingsChanged(
            f"output={output}: holds the results of another job (other settings, pairs or parent); use another folder, "
            "or delete this one"
        )
