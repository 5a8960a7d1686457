"""What a run would do and cost (`mode=plan`), and whether it can be done here, without starting anything heavy."""

import difflib
import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil
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
)
from crescent.doors.preflight import check_evaluation
from crescent.errors import BadConfig, CrescentError, Missing
from crescent.groundwork import other_runs, replay_instructions
from crescent.judging.comparison import minimum_detectable_gain
from crescent.machine.environment import gpus
from crescent.models.embedders import find_minilm
from crescent.models.estimates import BYTES, GIB, disk_gib, model_parameters, trainer_gib
from crescent.run_folder.once import Foresight, Once
from crescent.run_folder.stage_settings import planned_stages, stage_settings
from crescent.workplace import trainer_command

ENGINE_OVERHEAD_GIB = 2.3
"""Of vLLM's CPU build beside weights and cache, on the quickstart's model: its three processes take 3.8 GiB."""
TRAINER_OVERHEAD_GIB = 2.0
"""Libraries and activations of a small micro batch; long sequences need more."""


@dataclass(frozen=True)
class Expected:
    """Requests of one kind in one round, and the most tokens they can generate."""

    what: str
    least: int
    most: int
    tokens_each: int


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
    for line in [*once_lines(cfg), *verdict_lines(cfg), *machine_lines(cfg, root)]:
        console.print(line, soft_wrap=True)


def check_machine(cfg: Config) -> None:
    """What a run would otherwise find out after hours: missing packages, a misspelt stage, a disk that is too small.

    Raises:
        Missing: something has to be installed, or room to be made.
        BadConfig: a name in the config means nothing.
    """
    check_evaluation(cfg)
    if cfg.train.trainer is not Trainer.fake:
        wanted = ["torch", "transformers", "trl", "peft", *(["accelerate"] if cfg.train.accelerate else [])]
        absent = [name for name in wanted if importlib.util.find_spec(name) is None]
        if absent:
            install = "`make install` on a CPU, `pip install -e '.[gpu]'` on a GPU node"
            raise Missing(f"train.trainer={cfg.train.trainer.value} needs {', '.join(absent)}: {install}")
    trainer_command(cfg)
    if cfg.diversify.embedder is Embedder.minilm:
        find_minilm()
    if cfg.diversify.embedder is Embedder.self and importlib.util.find_spec("transformers") is None:
        raise Missing("diversify.embedder=self needs transformers and torch; diversify.embedder=lexical needs nothing")
    other_runs(cfg)
    stages = [stage for stage, _ in planned_stages(cfg)]
    if cfg.run.redo is not None and cfg.run.redo not in stages:
        near = difflib.get_close_matches(cfg.run.redo, stages, n=1) or stages[:2]
        raise BadConfig(f"run.redo={cfg.run.redo}: there is no such stage; did you mean {near[0]}?")
    needed, free = disk_gib(cfg), free_gib(cfg.run.folder)
    if needed is not None and needed > free:
        room = f"{needed:.1f} GiB for {cfg.run.rounds} rounds, {free:.1f} GiB free"
        raise Missing(f"run.root={cfg.run.root}: {room}; make room, or name another disk with run.root")


def free_gib(root: Path) -> float:
    """Free disk where the run folder is, or would be."""
    existing = next(path for path in (root, *root.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free / GIB


def stages_table(cfg: Config, root: Path) -> Table:
    table = Table("stage", "finished", "why", title="stages", title_justify="left")
    once = Once(root, _Silent())
    redoing = False
    for stage, kind in planned_stages(cfg):
        redoing = redoing or stage == cfg.run.redo
        seen = once.foresee(stage, stage_settings(cfg, kind))
        if redoing and seen.hit:
            seen = Foresight(False, f"set aside by run.redo={cfg.run.redo}")
        table.add_row(stage, "yes" if seen.hit else "no", seen.why)
    return table


def expected_requests(cfg: Config) -> list[Expected]:
    """What a round asks of the engine."""
    asked, samples = cfg.bait.questions, cfg.consensus.samples
    first = samples // 2 + 1 if cfg.consensus.adaptive else samples
    rewrites = asked if cfg.diversify.recheck is Recheck.never else asked * cfg.diversify.max_rewrites
    items = [benchmark.items for benchmark in cfg.eval.benchmarks.values()]
    known = sum(count for count in items if count is not None)
    inputs = [Expected("inputs of programs", 0, asked, cfg.consensus.max_tokens)] if cfg.task.inputs_prompt else []
    return [
        *inputs,
        Expected("questions", asked, asked, cfg.bait.max_tokens),
        Expected("rewrites", 0, rewrites, cfg.bait.max_tokens),
        Expected("answers", 0, asked * samples, cfg.consensus.max_tokens),
        Expected(
            f"answers, if every question is kept and K={samples} settles early",
            asked * first,
            asked * first,
            cfg.consensus.max_tokens,
        ),
        Expected(
            "benchmark items" + (" (and all of those without a limit)" if None in items else ""),
            known * cfg.eval.samples,
            known * cfg.eval.samples,
            cfg.eval.max_tokens,
        ),
    ]


def once_lines(cfg: Config) -> list[str]:
    """What is asked once a run, beside the rounds."""
    lines = ["once        the base answers all benchmarks, too"]
    if cfg.bait.topics or cfg.bait.difficulties:
        lines.append("once        up to 16 requests for lists of topics and difficulties")
    if cfg.eval.harness.tasks:
        lines.append(f"every time  lm-eval: {', '.join(cfg.eval.harness.tasks)}")
    if cfg.eval.reliability:
        dev = [its for its in cfg.eval.benchmarks.values() if its.split is Split.dev]
        lines.append(
            f"once        eval.reliability: up to {cfg.eval.reliability:,} items of {len(dev)} dev benchmarks, "
            f"{cfg.consensus.samples} answers each"
        )
    if cfg.pairs.replay.share:
        count = replay_instructions(cfg)
        lines.append(f"once        pairs.replay: {count:,} general instructions and their answers")
    return lines


def requests_table(cfg: Config) -> Table:
    table = Table(title=f"requests of each of {cfg.run.rounds} rounds", title_justify="left")
    for column in ("what", "requests", "tokens, at most"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for its in expected_requests(cfg):
        count = f"{its.most:,}" if its.least == its.most else f"{its.least:,} to {its.most:,}"
        table.add_row(its.what, count, f"{its.most * its.tokens_each:,}")
    return table


def verdict_lines(cfg: Config) -> list[str]:
    """What the deciding benchmarks can show."""
    benchmarks = cfg.eval.benchmarks.items()
    deciding = {name: its.items for name, its in benchmarks if its.split is Split.dev and not its.guard}
    if not deciding or None in deciding.values() or cfg.verdict.gate in (Gate.label_free, Gate.off):
        return [f"verdict     gate={cfg.verdict.gate.value}; decided on {', '.join(deciding) or 'nothing'}"]
    items = sum(count for count in deciding.values() if count is not None)
    gain = minimum_detectable_gain(items, cfg.verdict.alpha)
    lines = [
        f"verdict     gate={cfg.verdict.gate.value} on {items} items of {', '.join(deciding)}: a gain of "
        f"{100 * gain:.1f} points is found with 80 % power at p <= {cfg.verdict.alpha:g} "
        "(if a fifth of the items change)"
    ]
    if cfg.verdict.gate is Gate.significant and gain > 0.1:
        lines.append(
            "            that is a lot: raise eval.benchmarks.<name>.items, or expect few children to be accepted"
        )
    return lines


def machine_lines(cfg: Config, root: Path) -> list[str]:
    """Disk and memory: what is needed and what is there."""
    parameters = model_parameters(cfg)
    if parameters is None:
        return ["machine     model.parameters_b is not known: set it to see disk and memory"]
    weights = parameters * BYTES[cfg.model.dtype] / GIB
    disk, free = disk_gib(cfg) or 0.0, free_gib(root)
    lines = [f"disk        {disk:.1f} GiB for {cfg.run.rounds} rounds, {free:.1f} GiB free: {_fits(disk, free)}"]
    there = gpus()
    if there:
        room = there[0].memory_gib * cfg.serving.memory_share * cfg.serving.tensor_parallel
        lines.append(
            f"GPU         {weights:.1f} GiB of weights in {room:.1f} GiB for the engine: {_fits(weights * 1.1, room)}"
        )
        shared = "; ZeRO and FSDP share them out over the GPUs" if cfg.train.tuning is Tuning.full else ""
        held = trainer_gib(cfg, parameters)
        lines.append(
            f"            the trainer holds {held:.1f} GiB of weights and optimizer state{shared}, "
            "and activations on top: if memory runs out, lower train.micro_batch or set "
            "train.gradient_checkpointing=true"
        )
        return lines
    engine = weights + cfg.serving.cpu_cache_gib + ENGINE_OVERHEAD_GIB
    trainer = weights + trainer_gib(cfg, parameters) + TRAINER_OVERHEAD_GIB
    both = engine + trainer if cfg.serving.while_training is WhileTraining.keep else max(engine, trainer)
    have = psutil.virtual_memory().available / GIB
    lines.append(f"memory      about {both:.1f} GiB (no GPU seen), {have:.1f} GiB available: {_fits(both, have)}")
    if cfg.serving.engine is EngineKind.vllm and not cfg.serving.urls and parameters > 1e9:
        lines.append("            a model of this size wants a GPU: this machine shows none (nvidia-smi)")
    return lines


def _fits(needed: float, there: float) -> str:
    return "fits" if needed <= there else "DOES NOT FIT"


class _Silent:
    def started(self, stage: str, resumed: bool) -> None: ...

    def finished(self, stage: str, metrics: object, seconds: float, fresh: bool) -> None: ...
