"""`python -m eval rescore=RUN`: score stored responses again and show old beside new. No engine starts.

A run is read with its own settings; the command line can change how answers are read: `task.*`, `styles` (by benchmark)
and `consensus.grading_timeout_s`. A file of outputs is read in the style `task.answer_style`, which by default follows
from its reference answers.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from crescent.config.standalone import EvaluationConfig
from crescent.errors import BadConfig, Missing

if TYPE_CHECKING:
    from rich.console import Console

READ = ("rescore", "task", "styles", "run.root", "consensus.grading_timeout_s")
"""Keys and groups that the command line may set, with all keys below them."""


def rescore(cfg: EvaluationConfig, given: Sequence[str]) -> None:
    """Score everything that `cfg.rescore` names; show the results and write them beside what was read.

    Args:
        given: Keys and groups that the command line sets.

    Raises:
        BadConfig: the command line sets something that rescoring does not read, or the format of a file is unknown.
        Missing: there is no such run or file, or it has no texts.
    """
    for key in given:
        if not any(key == name or key.startswith(f"{name}.") for name in READ):
            rule = "a run is rescored with its own settings; only how answers are read can be changed"
            raise BadConfig(f"{key}: {rule} (task.*, +styles.BENCHMARK=STYLE, {READ[-1]})")
    folders, files = find_sources(cfg.rescore, Path(cfg.run.root))
    if folders and not {"task", "task.answer_style"}.isdisjoint(given):
        rule = "each benchmark of a run has its own style"
        raise BadConfig(f"task.answer_style={cfg.task.answer_style.value}: {rule}; use +styles.BENCHMARK=STYLE")
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False, markup=False, emoji=False)
    for folder in folders:
        rescore_folder(folder, cfg, given, console)
    for file in files:
        rescore_file(file, cfg, given, console)


def find_sources(named: object, runs: Path) -> tuple[list[Path], list[Path]]:
    """Run folders and files, in the order given, each once.

    Args:
        named: Path, pattern such as `runs/a-*`, name of a run in `runs`, folder of runs, or a list of these.

    Raises:
        Missing: one of them matches nothing that can be rescored.
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
            rule = "is not a run, a folder of runs or a JSONL file" if path.exists() else "there is no such run or file"
            near = ", ".join(str(run) for run in runs_below(runs)[:6])
            raise Missing(f"rescore={name}: {rule}" + (f"; runs: {near}" if near else "; e.g. rescore=runs/NAME"))
    return list(folders), list(files)


def rescore_folder(root: Path, cfg: EvaluationConfig, given: Sequence[str], console: "Console") -> None:
    """Rescore one run, show the result and write it into the run's folder. Raises as `rescore`."""
    from eval.rescoring.runs import rescore_run, write_rescored
    from eval.rescoring.tables import show_run

    keys = [key.removeprefix("task.") for key in given if key.startswith("task.")]
    task_changes = {key: getattr(cfg.task, key) for key in keys}
    with console.status(f"reading {root}") as status:

        def report(place: str, responses: int) -> None:
            status.update(f"reading {root}: {responses:,} responses of {place}")

        found = rescore_run(root, cfg.consensus.grading_timeout_s, task_changes, cfg.styles, report)
    show_run(found, console)
    folder = write_rescored(found)
    console.print(f"{'changed readings':<17}{folder / 'changes.jsonl'}", soft_wrap=True)
    console.print(f"{'scores':<17}{folder / 'scores.json'}", soft_wrap=True)


def rescore_file(path: Path, cfg: EvaluationConfig, given: Sequence[str], console: "Console") -> None:
    """Score one file of outputs, show the result and write the readings beside it. Raises as `rescore`."""
    from eval.rescoring.outputs import guess_style, read_outputs, score_outputs, write_readings
    from eval.rescoring.tables import show_outputs

    outputs = read_outputs(path)
    chosen = "task" in given or "task.answer_style" in given
    style = cfg.task.answer_style if chosen else guess_style([output for model in outputs.values() for output in model])
    task = cfg.task if chosen else replace(cfg.task, answer_style=style, inputs_prompt=None)
    scored = score_outputs(outputs, task, cfg.consensus.grading_timeout_s)
    why = "" if chosen else ", like its reference answers (task.answer_style=… for another style)"
    console.print(f"{path}: answers read as {style.value}{why}", soft_wrap=True)
    show_outputs(scored, console)
    console.print(f"readings  {write_readings(path, scored, outputs)}", soft_wrap=True)
