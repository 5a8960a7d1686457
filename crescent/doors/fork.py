"""`crescent fork`: another run that starts from finished stages of a run, linked file by file."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import yaml

from crescent.errors import BadConfig, DataSaysNo
from crescent.machine.disk import write_whole
from crescent.reading.verification import stages_of
from crescent.run_folder.lock import only_supervisor
from crescent.run_folder.manifest import inspect
from crescent.run_folder.places import CONFIG, read_config
from crescent.run_folder.reuse import fork_stage

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""What `run.name` may be."""
ORDER = ("others", "synthesis", "replay", "pairs", "train", "eval", "harness", "verdict")
"""Stages of a round in the order they are made; `base` and `teacher` come before all rounds."""


def fork_run(run: Path, name: str, before: str | None, say: Callable[[str], None]) -> Path:
    """Make a run folder beside `run` that has its stages before `before`; returns the folder.

    Verdicts are not taken: they name the checkpoints of their run, and are made again in seconds.

    Args:
        before: First round or stage that the new run makes itself, e.g. `round-2` or `round-2/train`; `None` takes
            every finished stage.

    Raises:
        BadConfig: the name cannot be a run's, or is taken, or the run has no such round.
        DataSaysNo: a stage is damaged.
        RunLocked: the run is at work.
    """
    if not NAME.fullmatch(name):
        raise BadConfig(f"{name!r}: cannot be the name of a run: it must match {NAME.pattern}, e.g. {run.name}-b")
    target = run.parent / name
    if target.exists():
        raise BadConfig(f"{target}: exists already; choose another name")
    if before is not None and not re.fullmatch(rf"round-[1-9]\d*(/({'|'.join(ORDER)}))?", before):
        raise BadConfig(f"--from {before}: name the first round or stage to make anew, e.g. round-2 or round-2/train")
    stages = [stage for stage in finished_stages(run) if before is None or is_before(stage, before)]
    wanted = [stage for stage in stages if not stage.endswith("/verdict")]
    if not wanted:
        raise BadConfig(f"{run}: has no finished stage before {before or 'its end'}; start the new run without a fork")
    try:
        with only_supervisor(run):
            for stage in wanted:
                _take(run, stage, target)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)  # only names of files that the run still has
        raise
    settings = read_config(run)
    settings["run"] = {**settings.get("run", {}), "name": name, "redo": None}
    write_whole(target / CONFIG, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).encode())
    say(f"{target}  starts from {len(wanted)} stages of {run}: {', '.join(wanted)}")
    say(f"run the command of {run.name} with run.name={name} and what you change; {_hint(before)}")
    return target


def finished_stages(run: Path) -> list[str]:
    """The stages that have a manifest, in the order they were made."""
    return sorted(stages_of(run), key=place)


def place(stage: str) -> tuple[int, int]:
    """Where a stage stands among all stages: its round, and its position in it."""
    where, _, kind = stage.partition("/")
    number = int(where.removeprefix("round-")) if where.startswith("round-") else 0
    return number, ORDER.index(kind) if kind in ORDER else 0


def is_before(stage: str, limit: str) -> bool:
    """Whether a stage is made before a round or a stage."""
    number, kind = place(stage)
    first = place(limit)
    return number < first[0] or ("/" in limit and number == first[0] and kind < first[1])


def _take(run: Path, stage: str, target: Path) -> None:
    found = inspect(run / stage)
    if found.manifest is None:
        raise DataSaysNo(f"{run}/{stage}: {found.damage}, so it is not forked; `crescent repair {run}` first")
    if (problem := fork_stage(run, stage, target / stage)) is not None:
        raise DataSaysNo(f"{run}/{stage}: is not forked, because {problem}")


def _hint(before: str | None) -> str:
    return (
        f"what was made before {before or 'now'} stays as it is, whatever bait.*, consensus.*, pairs.* and train.* say"
    )
