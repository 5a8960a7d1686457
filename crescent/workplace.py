"""What all stages of one run share: settings, folder, engine, and the way child processes are started."""

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from omegaconf import OmegaConf

from crescent.config import AUTO, Config, TrainConfig, Trainer, Tuning, write_job
from crescent.engine.server import Server
from crescent.errors import BadConfig
from crescent.machine.nvidia import ask_nvidia_smi, visible_gpus
from crescent.machine.processes import report_progress, run_child
from crescent.models.embedders import Embed, open_embedder
from crescent.models.estimates import model_parameters
from crescent.models.micro_batch import Processes, find_fit, is_auto
from crescent.records import (
    Checkpoint,
    Done,
    Round,
)
from crescent.run_folder.once import Once, StageObserver
from crescent.run_folder.stage_settings import stage_settings
from launch import Launch


class Observer(StageObserver, Protocol):
    """Receives the progress of stages and rounds, and lines for a person."""

    def progress(self, stage: str, done: int, total: int, note: str = "") -> None: ...

    def round_done(self, finished: Round) -> None: ...

    def say(self, line: str) -> None: ...


@dataclass(frozen=True)
class TrainerPlace:
    """Where the trainer works, if not on this machine."""

    launch: Launch
    gpus: tuple[str, ...] = ()
    """Numbers of the GPUs that it gets there."""


class Workplace:
    """One run."""

    def __init__(
        self,
        cfg: Config,
        once: Once,
        server: Server,
        launch: Launch,
        observer: Observer,
        trainer_place: TrainerPlace | None = None,
    ) -> None:
        self.cfg = cfg
        self.once = once
        self.server = server
        self.launch = launch
        self.observer = observer
        self.trainer_place = trainer_place
        self.root = once.root.resolve()
        self.models: dict[str, Checkpoint] = {}
        """Models that were not trained here, by role: `base` and, with `train.student`, `teacher`. Filled by
        `crescent.groundwork.find_models`."""

    @property
    def base_model(self) -> Checkpoint:
        """The model that learns, before its first round."""
        return self.models["base"]

    @property
    def asking_model(self) -> Checkpoint:
        """The model that asks and answers in the first round: the teacher of a student, or the base."""
        return self.models.get("teacher", self.base_model)

    def place_of(self, checkpoint: Checkpoint) -> str:
        """Folder of the stages about a checkpoint: `base`, `teacher` or e.g. `round-3`."""
        if checkpoint.round:
            return f"round-{checkpoint.round}"
        return next(name for name, model in self.models.items() if model == checkpoint)

    def do(self, stage: str, kind: str, work: Callable[[Path], Mapping[str, float]], inputs: Mapping[str, str]) -> Done:
        """Run a stage once: `work` fills the stage's folder unless it is finished already."""
        return self.once(stage, work, stage_settings(self.cfg, kind), inputs)

    def notice(self, stage: str, what: str) -> None:
        """Show a line about a stage, if there is any."""
        if what:
            self.observer.say(f"{stage}: {what}")

    def embedder(self, gpu_is_idle: bool = False) -> AbstractContextManager[Embed]:
        """The function that turns texts into vectors, open as long as the context lasts.

        Args:
            gpu_is_idle: Whether the engine does not run yet, so that `diversify.device=auto` may take its GPU.
        """
        return open_embedder(self.cfg.diversify, self.asking_model.weights, gpu_is_idle)

    def run_child(
        self,
        stage: str,
        command: Sequence[str],
        job: object,
        folder: Path,
        environment: Mapping[str, str],
        launch: Launch | None = None,
    ) -> None:
        """Write the job file and run a stage's process on it; its log and progress lie in the run folder.

        Args:
            launch: Starts the process; `None`: on this machine.
        """
        name = stage.replace("/", "-")
        job_file, log = self.root / "jobs" / f"{name}.yaml", self.root / "logs" / f"{name}.log"
        write_job(job_file, job)
        progress = folder / "progress.jsonl"
        run_child(
            launch or self.launch,
            [*command, str(job_file)],
            log,
            {"TOKENIZERS_PARALLELISM": "false", **environment},
            watch=lambda: report_progress(progress, partial(self.observer.progress, stage)),
            note=folder / "stopped.json",
        )
        if progress.exists():
            shutil.move(progress, log.with_suffix(".progress.jsonl"))


def numbers(path: Path) -> dict[str, float]:
    """Numbers of a flat JSON file; other values are left out."""
    found: dict[str, float] = json.loads(path.read_text())
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


def trainer_command(cfg: Config, gpus: Sequence[str] | None = None) -> list[str]:
    """Command that starts the trainer; the job file is its last argument.

    Args:
        gpus: GPUs that this process may use; `None`: those of this machine.

    Raises:
        BadConfig: `train.accelerate` names no configuration.
    """
    if cfg.train.trainer is Trainer.fake:
        return [sys.executable, "-P", "-m", "crescent.engine.fakes", "train"]
    found = visible_gpus() if gpus is None and cfg.train.accelerate == AUTO else gpus or ()
    name = layout_name(cfg.train, found)
    if name is None:
        return [sys.executable, "-P", "-m", "train"]
    count = ["--num_processes", str(auto_processes(cfg.train, found))] if cfg.train.accelerate == AUTO else []
    launched = ["--config_file", str(find_layout(name).absolute()), *count, "-m", "train"]
    if cfg.launch.nodes:
        return [*cfg.launch.nodes, sys.executable, "-P", "-m", "launch.node", *launched]
    return [sys.executable, "-P", "-m", "accelerate.commands.launch", *launched]


def layout_name(train: TrainConfig, gpus: Sequence[str]) -> str | None:
    """`train.accelerate` with a file in place of `auto`. Weights that all learn are split among several GPUs (ZeRO-3);
    of a model with adapters each GPU has a copy (DDP)."""
    if train.accelerate != AUTO:
        return train.accelerate
    if auto_processes(train, gpus) == 1:
        return None
    return "zero3" if train.tuning is Tuning.full else "eight_gpus"


def auto_processes(train: TrainConfig, gpus: Sequence[str]) -> int:
    """Number of processes of `train.accelerate=auto`: one for each GPU, as far as `train.batch` can be divided among
    them."""
    each = train.micro_batch if isinstance(train.micro_batch, int) else 1
    fitting = (count for count in range(len(gpus), 1, -1) if train.batch % (each * count) == 0)
    return next(fitting, 1)


def sized(cfg: Config, gpus: Sequence[str]) -> tuple[TrainConfig, str]:
    """`train` with the file for `accelerate launch` and with numbers in place of `auto`; and how they were found, if
    any was.

    Args:
        gpus: GPUs that this process may use.
    """
    name = layout_name(cfg.train, gpus)
    if not is_auto(cfg):
        return replace(cfg.train, accelerate=name), ""
    processes, used = processes_of(name), gpus
    if cfg.train.accelerate == AUTO:
        processes = replace(processes, number=auto_processes(cfg.train, gpus))
    if not cfg.launch.nodes:
        used = gpus[: processes.number]
    known = {str(gpu.index): gpu.memory_gib for gpu in ask_nvidia_smi().gpus} if used else {}
    sizes = [known.get(gpu) for gpu in used]
    smallest = min((size for size in sizes if size is not None), default=None) if None not in sizes else None
    fit = find_fit(cfg, model_parameters(cfg), processes, smallest, bool(used) and name != "cpu")
    way = "with" if fit.gradient_checkpointing else "without"
    why = f"train.micro_batch={fit.micro_batch} {way} gradient checkpointing ({fit.why}; reckoned)"
    train = replace(cfg.train, micro_batch=fit.micro_batch, gradient_checkpointing=fit.gradient_checkpointing)
    return replace(train, accelerate=name), why


def processes_of(name: str | None) -> Processes:
    """The processes that a file for `accelerate launch` asks for."""
    if name is None:
        return Processes()
    layout: Any = OmegaConf.load(find_layout(name))
    zero = layout.get("deepspeed_config") or {}
    stage = int(zero.get("zero_stage") or (3 if layout.get("fsdp_config") else 0))
    offloaded = zero.get("offload_optimizer_device") not in (None, "none")
    return Processes(int(layout.get("num_processes") or 1), stage, offloaded)


def find_layout(name: str) -> Path:
    """File of a configuration for `accelerate launch`: one of train/accelerate, or a path.

    Raises:
        BadConfig: there is none.
    """
    package = importlib.util.find_spec("train")
    assert package is not None
    assert package.submodule_search_locations is not None
    named = Path(package.submodule_search_locations[0]) / "accelerate" / f"{name}.yaml"
    config = named if named.exists() else Path(name)
    if not config.exists():
        raise BadConfig(f"train.accelerate={name}: neither {named} nor a file of that path exists")
    return config
