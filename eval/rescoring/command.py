"""`python -m eval rescore=RUN`: scores made again from what is stored, old beside new. Starts no engine.

A run is read by its own settings, of which the command line may change the reading: `task.*`, `styles` (by benchmark)
and `consensus.grading_timeout_s`. A file of outputs is read by `task.answer_style`, or where that is not given by what
its reference answers are.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from crescent.config import BenchmarkConfig, TaskConfig
from crescent.config.standalone import EvaluationConfig
from crescent.errors import BadConfig, Missing

if TYPE_CHECKING:
    from rich.console import Console

READ = ("rescore", "task", "styles", "run.root", "consensus.grading_timeout_s")
"""What is read of the command line, keys below these included."""


def rescore(cfg: EvaluationConfig, given: Sequence[str]) -> None:
    """Read and score everything that `cfg.rescore` names again; show it, and write it beside what was read.

    Args:
        given: Keys and groups that the command line sets.

    Raises:
        BadConfig: the command line sets what rescoring does not read, or a file is in no known format.
        Missing: nothing is there, or no texts are stored.
    """
    for key in given:
        if not any(key == name or key.startswith(f"{name}.") for name in READ):
            rule = "a run is rescored by its own settings; only how answers are read may be changed"
            raise BadConfig(f"{key}: {rule} (task.*, +styles.BENCHMARK=STYLE, {READ[-1]})")
    folders, files = find_sources(cfg.rescore, Path(cfg.run.root))
    if folders and not {"task", "task.answer_style"}.isdisjoint(given):
        rule = "each benchmark of a run has a style of its own"
        raise BadConfig(f"task.answer_style={cfg.task.answer_style.value}: {rule}; give +styles.BENCHMARK=STYLE")
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False, markup=False, emoji=False)
    for folder in folders:
        rescore_folder(folder, cfg, given, console)
    for file in files:
        rescore_file(file, cfg, given, console)


def find_sources(named: object, runs: Path) -> tuple[list[Path], list[Path]]:
    """Run folders and files, in the order given, each once.

    Args:
        named: A path, a pattern such as `runs/a-*`, the name of a run in `runs`, a folder of runs, or a list of these.

    Raises:
        Missing: one of them names nothing that can be rescored.
    """
    from crescent.reading.finished import is_run, runs_below
    from eval.rescoring.outputs import SUFFIX

    folders, files = dict[Path, None](), dict[Path, None]()
    for name in map(str, named if isinstance(named, list) else [named]):
        path = Path(name)
        if re.search(r"[*?[]", name) and not path.exists():
            root = Path(path.anchor)
            found = sorted(root.glob(str(path.relative_to(root))))
        elif not path.exists() and is_run(runs / path):
            found = [runs / path]
        else:
            found = [path]
        there = False
        for match in found:
            below = [match] if is_run(match) else sorted(runs_below(match))
            folders |= dict.fromkeys(below)
            if is_file := match.is_file() and not match.name.endswith(SUFFIX):
                files[match] = None
            there = there or bool(below) or is_file
        if not there:
            rule = "is neither a run, a folder of runs nor a JSONL file" if path.exists() else "there is nothing there"
            near = ", ".join(str(run) for run in runs_below(runs)[:6])
            raise Missing(f"rescore={name}: {rule}" + (f"; runs: {near}" if near else "; e.g. rescore=runs/NAME"))
    return list(folders), list(files)


def rescore_folder(root: Path, cfg: EvaluationConfig, given: Sequence[str], console: "Console") -> None:
    from eval.rescoring.runs import rescore_run, write_rescored
    from eval.rescoring.tables import show_run

    def change_task(task: TaskConfig) -> TaskConfig:
        return changed_task(task, cfg.task, given)

    def change_styles(benchmarks: dict[str, BenchmarkConfig]) -> dict[str, BenchmarkConfig]:
        if unknown := sorted(cfg.styles.keys() - benchmarks.keys()):
            raise BadConfig(f"styles.{unknown[0]}: {root} has no such benchmark; it has {', '.join(benchmarks)}")
        return {
            name: replace(benchmark, style=cfg.styles.get(name, benchmark.style))
            for name, benchmark in benchmarks.items()
        }

    with console.status(f"reads {root}") as status:

        def report(place: str, responses: int) -> None:
            status.update(f"reads {root}: {responses:,} responses of {place}")

        found = rescore_run(root, cfg.consensus.grading_timeout_s, change_task, change_styles, report)
    show_run(found, console)
    folder = write_rescored(found)
    console.print(f"{'changed readings':<17}{folder / 'changes.jsonl'}", soft_wrap=True)
    console.print(f"{'scores':<17}{folder / 'scores.json'}", soft_wrap=True)


def changed_task(task: TaskConfig, wanted: TaskConfig, given: Sequence[str]) -> TaskConfig:
    """The task with the settings that the command line sets."""
    keys = [key.removeprefix("task.") for key in given if key.startswith("task.")]
    return replace(task, **{key: getattr(wanted, key) for key in keys})


def rescore_file(path: Path, cfg: EvaluationConfig, given: Sequence[str], console: "Console") -> None:
    from eval.rescoring.outputs import guess_style, read_outputs, score_outputs, write_readings
    from eval.rescoring.tables import show_outputs

    outputs = read_outputs(path)
    chosen = "task" in given or "task.answer_style" in given
    style = cfg.task.answer_style if chosen else guess_style([output for model in outputs.values() for output in model])
    task = cfg.task if chosen else replace(cfg.task, answer_style=style, inputs_prompt=None)
    scored = score_outputs(outputs, task, cfg.consensus.grading_timeout_s)
    why = "" if chosen else ", as its reference answers are; task.answer_style=… reads otherwise"
    console.print(f"{path}: read as {style.value}{why}", soft_wrap=True)
    show_outputs(scored, console)
    console.print(f"readings  {write_readings(path, scored, outputs)}", soft_wrap=True)
