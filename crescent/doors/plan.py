"""What a run would do and cost (`mode=plan`), and whether this machine can run it; starts nothing heavy."""

import difflib
import importlib.util
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from crescent.config import (
    Config,
    Embedder,
    EngineKind,
    Gate,
    Recheck,
    Split,
    Trainer,
    Tuning,
    WhileTraining,
    samples_of,
)
from crescent.doors.gpu_plan import gpu_lines
from crescent.doors.on_ray import ray_lines
from crescent.doors.planned_cost import cost_lines
from crescent.doors.preflight import check_evaluation, check_models
from crescent.doors.reusable import reusable_runs
from crescent.engine.placement import seats_here
from crescent.errors import BadConfig, CrescentError, Missing
from crescent.groundwork import other_runs, replay_instructions
from crescent.judging.comparison import minimum_detectable_gain
from crescent.machine.environment import gpus
from crescent.machine.memory import available_gib
from crescent.models.embedders import find_minilm
from crescent.models.estimates import BYTES, GIB, disk_gib, model_parameters, trainer_gib
from crescent.models.on_cpu import refuse_days_on_cpu
from crescent.models.while_training import ENGINE_GIB, LIBRARIES_GIB, while_training
from crescent.run_folder.once import Foresight, Once
from crescent.run_folder.places import read_config
from crescent.run_folder.stage_settings import planned_stages, stage_settings
from crescent.selection.arms import CAUTIONS
from crescent.workplace import trainer_command


@dataclass(frozen=True)
class Expected:
    """Requests of one kind in one round, and the tokens that they generate at most."""

    what: str
    least: int
    most: int
    tokens_each: int
    within: bool = False
    """Whether another kind counts these requests, too."""


def show_plan(cfg: Config) -> None:
    """Print the plan."""
    console = Console(width=None if Console().is_terminal else 120, highlight=False, markup=False)
    root = cfg.run.folder
    console.print(f"run folder  {root}{'' if root.exists() else ' (new)'}")
    console.print(stages_table(cfg, root))
    console.print(requests_table(cfg))
    try:
        check_machine(cfg)
    except CrescentError as error:
        console.print(f"cannot run here: {error}")
    about_run = [*arm_lines(cfg), *once_lines(cfg), *verdict_lines(cfg), *cost_lines(cfg, most_generated(cfg))]
    placed = gpu_lines(cfg) if cfg.launch.ray is None else ray_lines(cfg)
    for line in [*about_run, *placed, *machine_lines(cfg, root)]:
        console.print(line, soft_wrap=True)


def check_machine(cfg: Config) -> None:
    """Check what would otherwise fail after hours: missing packages, a misspelt stage, a disk that is too small.

    Raises:
        Missing: something must be installed, or disk space freed.
        BadConfig: a name in the config is unknown.
    """
    check_models(cfg)
    check_evaluation(cfg)
    if cfg.train.trainer is not Trainer.fake:
        needed = ["torch", "transformers", "trl", "peft", *(["accelerate"] if cfg.train.accelerate else [])]
        absent = [name for name in needed if importlib.util.find_spec(name) is None]
        if absent:
            install = "`make install` on a CPU, `pip install -e '.[gpu]'` on a GPU node"
            raise Missing(f"train.trainer={cfg.train.trainer.value} needs {', '.join(absent)}: {install}")
    refuse_days_on_cpu(cfg)
    if cfg.launch.ray is None:
        seats_here(cfg.serving)
    trainer_command(cfg)
    if cfg.diversify.embedder is Embedder.minilm:
        find_minilm()
    if cfg.diversify.embedder is Embedder.self and importlib.util.find_spec("transformers") is None:
        raise Missing(
            "diversify.embedder=self: needs transformers and torch; use diversify.embedder=lexical, which needs nothing"
        )
    other_runs(cfg)
    reusable_runs(cfg)
    stages = [stage for stage, _ in planned_stages(cfg)]
    if cfg.run.redo is not None and cfg.run.redo not in stages:
        near = difflib.get_close_matches(cfg.run.redo, stages, n=1) or stages[:2]
        raise BadConfig(f"run.redo={cfg.run.redo}: no such stage; did you mean {near[0]}?")
    required, free = disk_gib(cfg), free_gib(cfg.run.folder)
    if required is not None and required > free:
        space = f"needs {required:.1f} GiB for {cfg.run.rounds} rounds, {free:.1f} GiB are free"
        raise Missing(f"run.root={cfg.run.root}: {space}; free space, or set run.root to a folder on another disk")


def free_gib(root: Path) -> float:
    """Free disk space in GiB where the run folder is, or would be."""
    existing = next(path for path in (root, *root.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free / GIB


def stages_table(cfg: Config, root: Path) -> Table:
    table = Table("stage", "finished", "why", title="stages", title_justify="left")
    donors = [run for run in reusable_runs(cfg) if same_models(read_config(run), cfg)]
    once = Once(root, _Silent(), reuse=donors, versions=cfg.run.versions)
    redoing = False
    for stage, kind in planned_stages(cfg):
        redoing = redoing or stage == cfg.run.redo
        expected = once.foresee(stage, stage_settings(cfg, kind))
        if redoing and (expected.hit or expected.reused):
            why = f"set aside by run.redo={cfg.run.redo}" if expected.hit else "not made yet"
            expected = Foresight(False, why)
        table.add_row(stage, "yes" if expected.hit else "no", expected.why)
    return table


def same_models(settings: Mapping[str, Any], cfg: Config) -> bool:
    """Whether a run with these settings was started from the same models, as far as their names say."""
    model, train = settings.get("model") or {}, settings.get("train") or {}
    theirs = (model.get("path"), model.get("revision"), train.get("student"))
    return theirs == (cfg.model.path, cfg.model.revision, cfg.train.student)


def expected_requests(cfg: Config) -> list[Expected]:
    """Requests to the engine in one round."""
    asked, samples = cfg.bait.questions, cfg.consensus.samples
    first = samples // 2 + 1 if cfg.consensus.adaptive else samples
    rewrites = asked if cfg.diversify.recheck is Recheck.never else asked * cfg.diversify.max_rewrites
    unlimited = [name for name, benchmark in cfg.eval.benchmarks.items() if benchmark.items is None]
    known = known_items(cfg)
    inputs = [Expected("inputs of programs", 0, asked, cfg.consensus.max_tokens)] if cfg.task.inputs_prompt else []
    return [
        *inputs,
        Expected("questions", asked, asked, cfg.bait.max_tokens),
        Expected("rewrites", 0, rewrites, cfg.bait.max_tokens),
        Expected("answers", 0, asked * samples, cfg.consensus.max_tokens),
        Expected(
            f"answers, if every question is kept and every vote ends early (K={samples})",
            asked * first,
            asked * first,
            cfg.consensus.max_tokens,
            within=True,
        ),
        Expected(
            "benchmark items" + (f", and all of {', '.join(unlimited)}" if unlimited else ""),
            known,
            known,
            cfg.eval.max_tokens,
        ),
    ]


def most_generated(cfg: Config) -> int:
    """Tokens that the engine writes at most in all rounds, and on the base's benchmark items before them.

    Benchmarks without a limit of items, lm-eval's tasks and what a run asks once besides are not counted.
    """
    each_round = sum(kind.most * kind.tokens_each for kind in expected_requests(cfg) if not kind.within)
    return cfg.run.rounds * each_round + known_items(cfg) * cfg.eval.max_tokens


def known_items(cfg: Config) -> int:
    """Requests for the benchmarks with a limit of items."""
    return sum((benchmark.items or 0) * samples_of(benchmark, cfg.eval) for benchmark in cfg.eval.benchmarks.values())


def arm_lines(cfg: Config) -> list[str]:
    """What to know about the control arm, if anything."""
    labels = cfg.pairs.labels
    return [f"pairs       pairs.labels={labels.value} {CAUTIONS[labels]}"] if labels in CAUTIONS else []


def once_lines(cfg: Config) -> list[str]:
    """Requests besides the rounds."""
    lines = ["once        plus one benchmark pass on the base"]
    bait = cfg.bait
    if (bait.topics and not bait.topic_list) or (bait.difficulties and not bait.difficulty_list):
        lines.append("once        up to 16 requests for lists of topics and difficulties")
    if bait.seeds is not None:
        lines.append(
            f"seeds       {bait.seeds}: shown to the model, which rewrites or evolves them (not the paper's way)"
        )
    if cfg.eval.harness.tasks:
        lines.append(f"each time   lm-eval: {', '.join(cfg.eval.harness.tasks)}")
    if cfg.eval.reliability:
        dev = [benchmark for benchmark in cfg.eval.benchmarks.values() if benchmark.split is Split.dev]
        lines.append(
            f"once        eval.reliability: up to {cfg.eval.reliability:,} items of {len(dev)} dev benchmarks, "
            f"{cfg.consensus.samples} answers each"
        )
    if cfg.pairs.replay.share:
        count = replay_instructions(cfg)
        lines.append(f"once        pairs.replay: {count:,} general instructions and their answers")
    return lines


def requests_table(cfg: Config) -> Table:
    table = Table(
        title=f"requests per round ({cfg.run.rounds} round{'s' if cfg.run.rounds > 1 else ''})", title_justify="left"
    )
    for column in ("kind", "requests", "tokens, at most"):
        table.add_column(column, justify="left" if column == "kind" else "right")
    for expected in expected_requests(cfg):
        exact = expected.least == expected.most
        count = f"{expected.most:,}" if exact else f"{expected.least:,} to {expected.most:,}"
        table.add_row(expected.what, count, f"{expected.most * expected.tokens_each:,}")
    return table


def verdict_lines(cfg: Config) -> list[str]:
    """The smallest gain that the deciding benchmarks can detect."""
    benchmarks = cfg.eval.benchmarks.items()
    dev = {name: benchmark for name, benchmark in benchmarks if benchmark.split is Split.dev}
    deciding = {name: benchmark.items for name, benchmark in dev.items() if not benchmark.guard}
    if not deciding or None in deciding.values() or cfg.verdict.gate in (Gate.label_free, Gate.off):
        unlimited = [f"eval.benchmarks.{name}.items" for name, count in deciding.items() if count is None]
        fix = f"; set {' and '.join(unlimited)} to be told the gain that can be detected" if unlimited else ""
        return [f"verdict     gate={cfg.verdict.gate.value}; decided on {', '.join(deciding) or 'nothing'}{fix}"]
    items = sum(count for count in deciding.values() if count is not None)
    gain = minimum_detectable_gain(items, cfg.verdict.alpha)
    where = f"gate={cfg.verdict.gate.value} on {items} items of {', '.join(deciding)}"
    if math.isinf(gain):
        return [f"verdict     {where}: too few to detect any gain; raise eval.benchmarks.<name>.items"]
    lines = [
        f"verdict     {where}: can detect a "
        f"{100 * gain:.1f}-point gain (80% power, α = {cfg.verdict.alpha:g}, assuming 20% of items change)"
    ]
    if cfg.verdict.gate is Gate.significant and gain > 0.1:
        lines.append("            this is large: raise eval.benchmarks.<name>.items, or expect few accepted children")
    return lines


def machine_lines(cfg: Config, root: Path) -> list[str]:
    """Disk space and memory, needed and available."""
    parameters = model_parameters(cfg)
    if parameters is None:
        return [
            "machine     model.parameters_b is not known; set it to see the disk space and memory that the run needs"
        ]
    weights = parameters * BYTES[cfg.model.dtype] / GIB
    disk, free = disk_gib(cfg) or 0.0, free_gib(root)
    lines = [f"disk        {disk:.1f} GiB for {cfg.run.rounds} rounds, {free:.1f} GiB free: {_fits(disk, free)}"]
    found = gpus()
    if found and found[0].memory_gib is None:
        lines.append(f"GPU memory  {found[0].name}: its driver does not say how much memory it has")
        return lines
    if found and found[0].memory_gib is not None:
        space = found[0].memory_gib * cfg.serving.memory_share * cfg.serving.tensor_parallel
        lines.append(
            f"GPU memory  {weights:.1f} GiB of weights in {space:.1f} GiB for the engine: {_fits(weights * 1.1, space)}"
        )
        shared = " (ZeRO and FSDP spread them over the GPUs)" if cfg.train.tuning is Tuning.full else ""
        held = trainer_gib(cfg, parameters)
        lines.append(
            f"            the trainer needs {held:.1f} GiB for weights and optimizer state{shared}, and more for "
            "activations: if memory runs out, lower train.micro_batch or set train.gradient_checkpointing=true"
        )
        lines.append(f"            while it works, the engine does this: {while_training(cfg).value} (reckoned)")
        return lines
    engine = weights + cfg.serving.cpu_cache_gib + ENGINE_GIB
    trainer = weights + trainer_gib(cfg, parameters) + LIBRARIES_GIB
    peak = engine + trainer if while_training(cfg) is WhileTraining.keep else max(engine, trainer)
    free_memory = available_gib()
    lines.append(f"memory      about {peak:.1f} GiB (no GPU), {free_memory:.1f} GiB free: {_fits(peak, free_memory)}")
    if cfg.serving.engine is EngineKind.vllm and not cfg.serving.urls and parameters > 1e9:
        lines.append("            a model of this size needs a GPU, and nvidia-smi finds none on this machine")
    return lines


def _fits(needed: float, available: float) -> str:
    return "fits" if needed <= available else "DOES NOT FIT"


class _Silent:
    """An observer that reports nothing."""

    def started(self, stage: str, resumed: bool) -> None: ...

    def finished(self, stage: str, metrics: object, seconds: float, fresh: bool) -> None: ...

    def reused(self, stage: str, metrics: object, seconds: float, run: str) -> None: ...

    def not_reused(self, stage: str, why: str) -> None: ...

    def noticed(self, stage: str, what: str) -> None: ...
