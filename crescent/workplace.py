"""What all stages of one run share: its settings, its folder, its engine, and how its processes are started."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from crescent.config import Config, write_job
from crescent.engine.server import Server
from crescent.machine.processes import pass_on, run_child
from crescent.models.embedders import Embed, open_embedder
from crescent.records import Checkpoint, Done, Round
from crescent.run_folder.once import Once, StageObserver
from crescent.run_folder.stage_settings import stage_settings
from launch import Launch


class Observer(StageObserver, Protocol):
    """Who is told how a stage goes on."""

    def progress(self, stage: str, done: int, total: int, note: str = "") -> None: ...

    def round_done(self, finished: Round) -> None: ...


class Workplace:
    """One run."""

    def __init__(self, cfg: Config, once: Once, server: Server, launch: Launch, observer: Observer) -> None:
        self.cfg = cfg
        self.once = once
        self.server = server
        self.launch = launch
        self.observer = observer
        self.root = once.root.resolve()
        self.models: dict[str, Checkpoint] = {}
        """What training and asking start from, as `crescent.groundwork.find_models` found it: `base`, and `teacher`
        where another model teaches it."""

    @property
    def base_model(self) -> Checkpoint:
        """The model that learns, as it was before the first round."""
        return self.models["base"]

    @property
    def asking_model(self) -> Checkpoint:
        """The model that asks and answers in the first round: a student's teacher, or the base."""
        return self.models.get("teacher", self.base_model)

    def place_of(self, checkpoint: Checkpoint) -> str:
        """Where the stages about a checkpoint lie: `base`, `teacher` or `round-3`."""
        if checkpoint.round:
            return f"round-{checkpoint.round}"
        return next(name for name, model in self.models.items() if model == checkpoint)

    def do(self, stage: str, kind: str, work: Callable[[Path], Mapping[str, float]], inputs: Mapping[str, str]) -> Done:
        """The stage's folder; `work` fills it unless it is finished."""
        return self.once(stage, work, stage_settings(self.cfg, kind), inputs)

    def embedder(self) -> AbstractContextManager[Embed]:
        """Texts to vectors, for as long as the context lasts."""
        return open_embedder(self.cfg.diversify, self.asking_model.weights)

    def run_child(
        self, stage: str, command: Sequence[str], job: object, folder: Path, environment: Mapping[str, str]
    ) -> None:
        """Run a stage's process on its job file, with its log and its progress."""
        name = stage.replace("/", "-")
        job_file, log = self.root / "jobs" / f"{name}.yaml", self.root / "logs" / f"{name}.log"
        write_job(job_file, job)
        progress = folder / "progress.jsonl"
        run_child(
            self.launch,
            [*command, str(job_file)],
            log,
            {"TOKENIZERS_PARALLELISM": "false", **environment},
            watch=lambda: pass_on(progress, lambda done, total, note: self.observer.progress(stage, done, total, note)),
            note=folder / "stopped.json",
        )
        if progress.exists():
            shutil.move(progress, log.with_suffix(".progress.jsonl"))


def numbers(path: Path) -> dict[str, float]:
    """The numbers of a flat JSON file; whatever else is in it is left out."""
    found: dict[str, float] = json.loads(path.read_text())
    return {name: value for name, value in found.items() if isinstance(value, int | float)}
