"""The stages of a round, bound to one run folder: each runs once, and hands on records and folders.

What a stage computes is written elsewhere, without paths; here stands what it reads, what it writes and what it is a
function of.
"""

import asyncio
import hashlib
import importlib.util
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from crescent import verdict
from crescent.client import Client, Endpoint, EngineDied
from crescent.config import (
    Child,
    Config,
    DataPolicy,
    EngineKind,
    EvalJob,
    Split,
    Start,
    Trainer,
    TrainJob,
    as_settings,
    write_job,
)
from crescent.diversify import Memory, open_embedder
from crescent.errors import BadConfig, TryAgain
from crescent.journal import Journal, Journaled
from crescent.model_folder import find_model
from crescent.once import SCRATCH, Once, StageObserver
from crescent.packaged_model import PACKAGED, packaged_folder
from crescent.pairs import select
from crescent.processes import pass_on, run_child
from crescent.records import (
    Checkpoint,
    Done,
    Evaluation,
    Pair,
    Proof,
    Response,
    Round,
    Score,
    Verdict,
    Vote,
    digest,
    read_lines,
    write_lines,
)
from crescent.serving import Server
from crescent.synthesis import BLOCK, Progress, Synthesis, SynthesisConfig, synthesise
from crescent.tasks import open_task
from launch import Launch


class Observer(StageObserver, Protocol):
    """Who is told how a stage goes on."""

    def progress(self, stage: str, done: int, total: int, note: str = "") -> None: ...

    def round_done(self, finished: Round) -> None: ...


class Stages:
    """Everything a round is made of."""

    def __init__(self, cfg: Config, once: Once, server: Server, launch: Launch, observer: Observer) -> None:
        self.cfg = cfg
        self.once = once
        self.server = server
        self.launch = launch
        self.observer = observer
        self.root = once.root.resolve()

    def base(self) -> Checkpoint:
        """The model the run starts from, on this machine or on the hub."""
        path = self.cfg.model.path
        identity = digest(path)
        if self.cfg.serving.engine is EngineKind.vllm:
            packaged = path.startswith(PACKAGED)
            folder = self._packaged_model(path.removeprefix(PACKAGED)) if packaged else find_model(self.cfg.model)
            path, identity = str(folder.resolve()), folder_digest(folder)
        checkpoint = Checkpoint(f"{self.cfg.run.name}-base", 0, identity, weights=path)
        self.server.base = checkpoint
        return checkpoint

    def synthesise(self, number: int, parent: Checkpoint, past: Sequence[Round]) -> Done:
        """The parent's own questions, self-deduplicated, each with its vote."""
        cfg = self.cfg
        stage = f"round-{number}/synthesis"
        inputs = {"parent": parent.digest, **{f"round-{its.number}": its.votes.digest for its in past}}
        reads = SynthesisConfig(cfg.task, cfg.bait, cfg.diversify, cfg.consensus, cfg.run.seed, number)

        def work(folder: Path) -> Mapping[str, float]:
            found = self.server.ask(parent, lambda endpoint: self._synthesise(endpoint, folder, reads, past, stage))
            write_lines(folder / "votes.jsonl", found.votes)
            write_lines(folder / "rejected.jsonl", found.rejected)
            np.save(folder / "vectors.npy", found.vectors)
            return found.metrics

        return self.once(stage, work, stage_settings(cfg, "synthesis"), inputs)

    def select(self, number: int, votes: Done, past: Sequence[Round]) -> Done:
        """The pairs to train on: this round's, and those of earlier rounds when data accumulates."""
        cfg = self.cfg
        kept = list(past) if cfg.pairs.policy is DataPolicy.accumulate else []
        inputs = {"votes": votes.digest, **{f"round-{its.number}": its.pairs.digest for its in kept}}

        def work(folder: Path) -> Mapping[str, float]:
            new = select(read_lines(votes.folder / "votes.jsonl", Vote), cfg.task, cfg.consensus, cfg.pairs)
            old = [pair for its in kept for pair in read_lines(its.pairs.folder / "new.jsonl", Pair)]
            write_lines(folder / "new.jsonl", new)
            write_lines(folder / "pairs.jsonl", [*old, *new])
            agreement = sum(pair.agreement for pair in new) / len(new)
            return {"pairs": len(new), "replayed": len(old), "agreement": round(agreement, 6)}

        return self.once(f"round-{number}/pairs", work, stage_settings(cfg, "pairs"), inputs)

    def train(self, number: int, pairs: Done, parent: Checkpoint) -> Checkpoint:
        """The child: trained in a process of its own, from the base or from the parent."""
        cfg = self.cfg
        stage = f"round-{number}/train"
        assert self.server.base is not None
        start = parent if cfg.train.start is Start.parent else self.server.base
        inputs = {"pairs": pairs.digest, "start": start.digest}

        def work(folder: Path) -> Mapping[str, float]:
            assert self.server.base is not None
            assert self.server.base.weights is not None
            job = TrainJob(
                model=replace(cfg.model, path=self.server.base.weights, parameters_b=None),
                train=cfg.train,
                pairs=str((pairs.folder / "pairs.jsonl").resolve()),
                output=str(folder.resolve()),
                seed=cfg.run.seed,
                parent=start.adapter,
                merge=cfg.serving.child is not Child.adapter,
            )
            self.server.pause()
            self._run_child(stage, trainer_command(cfg), job, folder, {})
            metrics: dict[str, float] = json.loads((folder / "metrics.json").read_text())
            return {name: value for name, value in metrics.items() if isinstance(value, int | float)}

        done = self.once(stage, work, stage_settings(cfg, "train"), inputs)
        folder = done.folder.resolve()
        return Checkpoint(
            name=f"{cfg.run.name}-r{number:02d}-{done.digest[:8]}",
            round=number,
            digest=done.digest,
            adapter=str(folder / "adapter"),
            weights=str(folder / "weights") if (folder / "weights").exists() else None,
            proof=msgspec.json.decode((folder / "proof.json").read_bytes(), type=Proof),
        )

    def evaluate(self, checkpoint: Checkpoint) -> Evaluation:
        """The checkpoint's answers to all benchmarks, and its scores."""
        cfg = self.cfg
        stage = f"round-{checkpoint.round}/eval" if checkpoint.round else "base/eval"

        def ask(endpoint: Endpoint, folder: Path) -> None:
            job = EvalJob(
                eval=cfg.eval,
                task=cfg.task,
                urls=list(endpoint.urls),
                model=endpoint.model,
                output=str(folder.resolve()),
                concurrency=cfg.serving.concurrency,
                request_timeout_s=cfg.serving.request_timeout_s,
                seed=cfg.run.seed,
                grading_timeout_s=cfg.consensus.grading_timeout_s,
            )
            command = [sys.executable, "-P", "-m", "eval"]
            try:
                self._run_child(stage, command, job, folder, {"CRESCENT_API_KEY": endpoint.key})
            except TryAgain as error:
                raise EngineDied(str(error)) from error

        def work(folder: Path) -> Mapping[str, float]:
            self.server.ask(checkpoint, lambda endpoint: ask(endpoint, folder))
            metrics: dict[str, float] = {}
            for score in read_scores(folder):
                metrics |= {
                    f"{score.benchmark}/accuracy": score.accuracy,
                    f"{score.benchmark}/unparsed": score.unparsed,
                }
            return metrics

        done = self.once(stage, work, stage_settings(cfg, "eval"), {"checkpoint": checkpoint.digest})
        return Evaluation(checkpoint, read_scores(done.folder), done)

    def judge(self, child: Evaluation, parent: Evaluation, past: Sequence[Round]) -> Verdict:
        """Accept, roll back or stop, by the dev benchmarks alone."""
        cfg = self.cfg
        deciding = {name for name, benchmark in cfg.eval.benchmarks.items() if benchmark.split is Split.dev}
        rejected_before = len(list(takewhile(lambda its: its.verdict.action != "accept", reversed(past))))

        def work(folder: Path) -> Mapping[str, float]:
            found = verdict.judge(
                child.checkpoint,
                parent.checkpoint,
                read_lines(child.done.folder / "responses.jsonl", Response),
                read_lines(parent.done.folder / "responses.jsonl", Response),
                cfg.verdict,
                deciding,
                cfg.run.seed,
            )
            write_lines(folder / "verdict.json", [found])
            accepted = float(found.action == "accept")
            return {"accepted": accepted, "difference": found.difference, "p_value": found.p_value}

        inputs = {"child": child.done.digest, "parent": parent.done.digest}
        done = self.once(f"round-{child.checkpoint.round}/verdict", work, stage_settings(cfg, "verdict"), inputs)
        found = read_lines(done.folder / "verdict.json", Verdict)[0]
        return verdict.with_patience(found, rejected_before, cfg.verdict.patience)

    def announce(self, finished: Round) -> Round:
        """Tell the observer that a round is over."""
        self.observer.round_done(finished)
        return finished

    def _synthesise(
        self, endpoint: Endpoint, folder: Path, reads: SynthesisConfig, past: Sequence[Round], stage: str
    ) -> Synthesis:
        cfg = self.cfg.serving
        memory = remember(past)

        def watch(its: Progress) -> None:
            agreed = f"  {its.agreed} agreed" if its.voted else ""
            note = f"{its.questions} questions, {its.voted} voted{agreed}, {its.unusable} unusable, {its.tokens} tokens"
            self.observer.progress(stage, its.asked + its.voted, its.candidates + its.questions, note)

        async def stream() -> Synthesis:
            timeout_s, many = cfg.request_timeout_s, cfg.concurrency
            async with Client(endpoint.urls, endpoint.model, endpoint.key, many, timeout_s) as client:
                engine = Journaled(client, journal)
                return await synthesise(engine, embed, task, reads, memory, watch, ahead=max(many, BLOCK))

        with (
            Journal(folder / SCRATCH / "journal.jsonl") as journal,
            open_embedder(self.cfg.diversify) as embed,
            open_task(self.cfg.task, self.cfg.consensus.grading_timeout_s) as task,
        ):
            try:
                return asyncio.run(stream())
            except BaseExceptionGroup as group:
                died, others = group.split(EngineDied)
                if died is None or others is not None:
                    raise
                raise EngineDied(f"while asking for {stage}: {leaf(died)}") from group

    def _run_child(
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

    def _packaged_model(self, name: str) -> Path:
        """The converted model; the conversion needs torch and so runs in a child."""
        folder = packaged_folder(name)
        if not folder.is_dir():
            self.observer.started("base/model", resumed=False)
            log = self.root / "logs" / "packaged-model.log"
            run_child(self.launch, [sys.executable, "-P", "-m", "crescent.packaged_model", name], log, {})
        return folder


def planned_stages(cfg: Config) -> list[tuple[str, str]]:
    """Names of all stages in order, each with its kind."""
    rounds = range(1, cfg.run.rounds + 1)
    kinds = ("synthesis", "pairs", "train", "eval", "verdict")
    return [("base/eval", "eval"), *((f"round-{number}/{kind}", kind) for number in rounds for kind in kinds)]


def stage_settings(cfg: Config, stage: str) -> dict[str, Any]:
    """The settings a stage's result depends on. What is not here (`tracking`, `launch`, …) never invalidates it."""
    seed, model = cfg.run.seed, {"dtype": cfg.model.dtype.value, "context": cfg.model.context}
    match stage:
        case "synthesis":
            parts = {name: as_settings(getattr(cfg, name)) for name in ("task", "bait", "diversify", "consensus")}
            return {"model": model, "seed": seed, **parts}
        case "pairs":
            agreement = {"min_agreement": cfg.consensus.min_agreement}
            return {"task": as_settings(cfg.task), "consensus": agreement, "pairs": as_settings(cfg.pairs)}
        case "train":
            train = as_settings(cfg.train)
            # How the work is laid out on the machine may change between attempts: the batch stays the same.
            for layout in ("accelerate", "micro_batch", "save_steps", "gradient_checkpointing"):
                del train[layout]
            merged = cfg.serving.child is not Child.adapter
            return {"model": model, "seed": seed, "train": train, "serving": {"merged": merged}}
        case "eval":
            evaluation = as_settings(cfg.eval)
            del evaluation["data"]
            return {"model": model, "seed": seed, "task": as_settings(cfg.task), "eval": evaluation}
        case "verdict":
            judging = as_settings(cfg.verdict)
            # Patience says how long the loop goes on, not what a comparison shows: a stopped run may be given more.
            del judging["patience"]
            return {"seed": seed, "verdict": judging}
    raise ValueError(f"no stage {stage!r}")


def trainer_command(cfg: Config) -> list[str]:
    """How the trainer is started; the job file comes after."""
    if cfg.train.trainer is Trainer.fake:
        return [sys.executable, "-P", "-m", "crescent.fakes", "train"]
    if cfg.train.accelerate is None:
        return [sys.executable, "-P", "-m", "train"]
    package = importlib.util.find_spec("train")
    assert package is not None
    assert package.submodule_search_locations is not None
    named = Path(package.submodule_search_locations[0]) / "accelerate" / f"{cfg.train.accelerate}.yaml"
    config = named if named.exists() else Path(cfg.train.accelerate)
    if not config.exists():
        raise BadConfig(f"train.accelerate={cfg.train.accelerate}: neither {named} nor a file of that path exists")
    return [sys.executable, "-P", "-m", "accelerate.commands.launch", "--config_file", str(config), "-m", "train"]


def remember(past: Sequence[Round]) -> Memory:
    """The questions of all earlier rounds, with their vectors."""
    memory = Memory()
    for its in past:
        vectors = np.load(its.votes.folder / "vectors.npy")
        votes = read_lines(its.votes.folder / "votes.jsonl", Vote)
        for decided, vector in zip(votes, vectors, strict=True):
            memory.add(decided.question, vector)
    return memory


def read_scores(folder: Path) -> tuple[Score, ...]:
    return msgspec.json.decode((folder / "scores.json").read_bytes(), type=tuple[Score, ...])


def folder_digest(folder: Path) -> str:
    """Digest of a model folder: small files whole, of each large one its size, beginning and end."""
    edge = 1 << 20
    parts = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        size = path.stat().st_size
        hashed = hashlib.sha256()
        with path.open("rb") as file:
            hashed.update(file.read(edge))
            if size > edge:
                file.seek(max(edge, size - edge))
                hashed.update(file.read(edge))
        parts.append((path.relative_to(folder).as_posix(), size, hashed.hexdigest()))
    return digest(parts)


def leaf(group: BaseException) -> BaseException:
    return leaf(group.exceptions[0]) if isinstance(group, BaseExceptionGroup) else group
