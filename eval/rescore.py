"""`python -m eval rescore=RUN`: scores made again from what is stored, old beside new. Starts no engine.

A run is read by its own settings, of which the command line may change the reading: `task.*`, `styles` (by benchmark)
and `consensus.grading_timeout_s`. A file of outputs is read by `task.answer_style`, or where that is not given by what
its reference answers are.
"""

import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from crescent.config import BenchmarkConfig, TaskConfig
from crescent.config.standalone import EvaluationConfig
from crescent.errors import BadConfig, Missing

if TYPE_CHECKING:
    from rich.console import Console

    from crescent.records import Comparison, Score
    from eval.outputs import ScoredOutputs
    from eval.stored import RescoredRun

READ = ("rescore", "task", "styles", "run.root", "consensus.grading_timeout_s")
"""What is read of the command line, keys below these included."""
NOTHING = "–"


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
    from eval.outputs import SUFFIX

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
            rule = (
                "is no run folder, no folder of runs and no JSONL file" if path.exists() else "there is nothing there"
            )
            near = ", ".join(str(run) for run in runs_below(runs)[:6])
            raise Missing(f"rescore={name}: {rule}" + (f"; runs: {near}" if near else "; e.g. rescore=runs/NAME"))
    return list(folders), list(files)


def rescore_folder(root: Path, cfg: EvaluationConfig, given: Sequence[str], console: "Console") -> None:
    from eval.stored import rescore_run, write_rescored

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


def show_run(found: "RescoredRun", console: "Console") -> None:
    """Scores old → new, what the verdicts rest on, and what changed in all."""
    from rich.table import Table

    console.print(f"{found.root}: scores from its stored responses, old → new", soft_wrap=True)
    table = Table("checkpoint", "benchmark", "read as")
    voted = any(row.old.samples > 1 for row in found.scores)
    for column in ("accuracy", "change", *(["maj@k"] if voted else []), "unparsed", "strict", "flexible", "changed"):
        table.add_column(column, justify="right")
    changed = Counter((change.place, change.benchmark) for change in found.changes)
    for row in found.scores:
        old, new = row.old, row.new
        table.add_row(
            row.place,
            row.benchmark,
            row.style,
            step(percent(old.accuracy), percent(new.accuracy)),
            points(new.accuracy - old.accuracy),
            *([step(percent(old.majority), percent(new.majority))] if voted else []),
            step(str(old.unparsed), str(new.unparsed)),
            step(share(old, old.strict), share(new, new.strict)),
            step(share(old, old.flexible), share(new, new.flexible)),
            str(changed[row.place, row.benchmark]),
        )
    console.print(table)
    if found.evidence:
        show_evidence(found, console)
    right = sum(change.new_correct and not change.old_correct for change in found.changes)
    wrong = sum(change.old_correct and not change.new_correct for change in found.changes)
    total = sum(row.old.total for row in found.scores)
    console.print(
        f"{len(found.changes):,} of {total:,} responses are read otherwise: {right:,} wrong → right, "
        f"{wrong:,} right → wrong, {len(found.changes) - right - wrong:,} with another final answer only",
        soft_wrap=True,
    )
    for note in found.notes:
        console.print(f"note: {note}", soft_wrap=True)


def show_evidence(found: "RescoredRun", console: "Console") -> None:
    """Child against parent on the deciding benchmarks. The verdicts themselves are not made again."""
    from rich.table import Table

    table = Table("round", "against", "verdict was")
    for column in ("items", "changed", "gained", "lost", "difference", "p"):
        table.add_column(column, justify="right")
    for row in found.evidence:
        table.add_row(
            str(row.round),
            row.parent,
            row.action,
            str(row.items),
            str(row.changed),
            step(str(row.old.gained), str(row.new.gained)),
            step(str(row.old.lost), str(row.new.lost)),
            step(gain(row.old), gain(row.new)),
            step(p_value(row.old.p_value), p_value(row.new.p_value)),
        )
    console.print(table)
    for row in (row for row in found.evidence if row.flips):
        console.print(
            f"round {row.round}: the comparison that its verdict rests on changed sides "
            f"({gain(row.old)}, p {p_value(row.old.p_value)} → {gain(row.new)}, p {p_value(row.new.p_value)}; "
            f"α = {row.alpha:g}). The stored verdict stays as it is",
            soft_wrap=True,
        )


def rescore_file(path: Path, cfg: EvaluationConfig, given: Sequence[str], console: "Console") -> None:
    from eval.outputs import guess_style, read_outputs, score_outputs, write_readings

    outputs = read_outputs(path)
    chosen = "task" in given or "task.answer_style" in given
    style = cfg.task.answer_style if chosen else guess_style([output for model in outputs.values() for output in model])
    task = cfg.task if chosen else replace(cfg.task, answer_style=style, inputs_prompt=None)
    scored = score_outputs(outputs, task, cfg.consensus.grading_timeout_s)
    why = "" if chosen else ", as its reference answers are; task.answer_style=… reads otherwise"
    console.print(f"{path}: read as {style.value}{why}", soft_wrap=True)
    show_outputs(scored, console)
    console.print(f"readings  {write_readings(path, scored, outputs)}", soft_wrap=True)


def show_outputs(scored: Sequence["ScoredOutputs"], console: "Console") -> None:
    """Each model's scores, and how often they agree with published verdicts."""
    from rich.table import Table

    table = Table("model")
    samples = max(found.score.samples for found in scored)
    voted = [f"maj@{samples}", f"pass@{samples}"] if samples > 1 else []
    for column in ("accuracy", "95% interval", *voted, "strict", "flexible", "unparsed", "items"):
        table.add_column(column, justify="right")
    for found in scored:
        result = found.score
        table.add_row(
            found.model or NOTHING,
            percent(result.accuracy),
            f"{percent(result.low)} – {percent(result.high)}",
            *([percent(result.majority), percent(result.pass_at.get(str(samples)))] if voted else []),
            share(result, result.strict),
            share(result, result.flexible),
            str(result.unparsed),
            str(result.total // result.samples),
        )
    console.print(table)
    if not any(found.agreements for found in scored):
        return
    table = Table("model", "published verdict", "ours")
    for column in ("published", "agreement", "right for us alone", "right for them alone"):
        table.add_column(column, justify="right")
    for found in scored:
        for row in found.agreements:
            table.add_row(
                found.model or NOTHING,
                row.label,
                row.rule,
                percent((row.both + row.theirs) / row.total),
                percent((row.both + row.neither) / row.total),
                str(row.ours),
                str(row.theirs),
            )
    console.print(table)


def step(old: str, new: str) -> str:
    """What was and what is, once where nothing changed."""
    return new if old == new else f"{old} → {new}"


def percent(part: float | None) -> str:
    return NOTHING if part is None else f"{100 * part:.1f}%"


def share(score: "Score", count: int | None) -> str:
    return percent(None if count is None else count / score.total)


def points(difference: float) -> str:
    return f"{100 * difference:+.1f}" if difference else NOTHING


def gain(result: "Comparison") -> str:
    return f"{100 * result.difference:+.1f} [{100 * result.low:+.1f}, {100 * result.high:+.1f}]"


def p_value(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"
