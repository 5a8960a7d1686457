"""`crescent rm`: remove runs, and say before what cannot be made again.

A run that is at work, or that others stand on, is refused. The folder is renamed before anything in it is deleted, so
that what an interruption leaves never passes for the run.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout

from crescent import __version__
from crescent.errors import BadConfig, RunLocked
from crescent.judging.wording import first_few
from crescent.machine.disk import file_lock
from crescent.machine.inert_text import visible
from crescent.reading.finished import is_run, runs_below
from crescent.reading.listing import size_of
from crescent.reading.rounds import is_complete, read_status
from crescent.reading.verification import stages_of
from crescent.run_folder.declaration import read_declarations
from crescent.run_folder.lock import ALIVE, only_supervisor
from crescent.run_folder.manifest import Unreadable, inspect, manifests_of, reused_from
from crescent.run_folder.places import CONFIG, SET_ASIDE, read_config
from crescent.run_folder.remade import duration
from crescent.show.run_list import size

OURS = (
    *("base", "teacher", "round-*", SET_ASIDE, "jobs", "logs", "wandb", "trackio", "benchmarks"),
    *(CONFIG, "metrics.jsonl", "environment.jsonl", "study.jsonl", "ended.json", "supervisor.json", "report.html"),
    *(".lock", ".children", "train.yaml", "*.new", ".*.draft"),
)
"""Patterns of what Crescent itself writes at the top of a run folder."""
NAMED = 4
"""Files, stages or runs that a line names before it only counts them."""

Ask = Callable[[str], str]
"""Shows a question and returns what the person typed."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Removal:
    """A run that may be removed."""

    run: Path
    bytes: int
    stages: int
    seconds: float
    """Time that its stages took."""
    lost: tuple[str, ...]
    """What cannot be made again, a line each."""

    @property
    def lines(self) -> list[str]:
        """What a person is told before it is removed."""
        again = f"{self.stages} stages that took {duration(self.seconds)}"
        what = f"its command makes {again} again (sampled texts may differ)" if self.stages else "nothing is finished"
        return [f"{self.run}: {size(self.bytes)}; {what}", *(f"  LOST FOR GOOD: {line}" for line in self.lost)]


def remove_runs(runs: Sequence[Path], is_agreed: bool, ask: Ask | None, say: Say) -> None:
    """Say what is lost with the runs, ask, and remove them. Nothing is removed unless all of them may be.

    Args:
        is_agreed: Whether the person agreed beforehand (`--yes`).
        ask: `None` if nobody can be asked.

    Raises:
        BadConfig: a folder is no run of ours, other runs stand on one, or nobody agreed.
        RunLocked: a run is at work.
    """
    found = [examine(run, runs) for run in runs]
    for removal in found:
        for line in removal.lines:
            say(visible(line))
    if not is_agreed:
        names = " ".join(str(run) for run in runs)
        if ask is None:
            raise BadConfig(
                f"nothing was removed, because nobody can be asked here; to do it: crescent rm {names} --yes"
            )
        is_lost = any(removal.lost for removal in found)
        wanted = ("yes",) if is_lost else ("y", "yes")
        question = "remove it for good? type yes: " if is_lost else "remove it? [y/N] "
        if ask(question if len(runs) == 1 else question.replace("it", f"these {len(runs)} runs")).strip() not in wanted:
            say("nothing was removed")
            return
    for removal in found:
        remove(removal.run)
        say(f"{removal.run}: removed, {size(removal.bytes)}")


def examine(run: Path, together: Sequence[Path] = ()) -> Removal:
    """What would be removed with a run.

    Args:
        together: Runs that are removed with it, which therefore do not count as standing on it.

    Raises:
        BadConfig: it is no run of ours, or others stand on it.
        RunLocked: it is at work.
    """
    if run.is_symlink():
        raise BadConfig(f"{run}: is a link to {run.resolve()}; name that folder, and remove the link with rm")
    manifests = manifests_of(run)
    if not manifests and "name" not in (read_config(run).get("run") or {}):
        raise BadConfig(
            f"{run}: has no finished stage and no {CONFIG} of a run, so it may be something else; use rm -r"
        )
    refuse_if_at_work(run)
    if users := users_of(run, together):
        raise BadConfig(
            f"{run}: other runs stand on it ({first_few(users, NAMED)}); remove those first, or all in one command"
        )
    seconds = sum(float(manifest.get("seconds", 0)) for manifest in manifests.values())
    return Removal(run, size_of(run), len(manifests), seconds, tuple(lost_with(run, manifests)))


def remove(run: Path) -> None:
    """Delete a run folder, if nobody works in it.

    Raises:
        RunLocked: somebody does.
    """
    with only_supervisor(run):
        doomed = run.with_name(f".{run.name}.removed")
        shutil.rmtree(doomed, ignore_errors=True)
        run.rename(doomed)
        shutil.rmtree(doomed)


def refuse_if_at_work(run: Path) -> None:
    """Refuse a run whose loop, or a child process of it, is alive.

    Raises:
        RunLocked: one is.
    """
    with only_supervisor(run):
        pass
    if not (run / ALIVE).exists():
        return
    try:
        with file_lock(run / ALIVE, timeout_s=0):
            pass
    except Timeout:
        raise RunLocked(f"{run}: a child process of it is alive; wait until it ends, or end it") from None


def users_of(run: Path, together: Sequence[Path] = ()) -> list[str]:
    """Other runs beside it that hold its stages, or name it in their settings: `runs/b (round-1/synthesis)`."""
    own, excused = run.resolve(), {folder.resolve() for folder in together}
    found = []
    for other in runs_below(run.parent):
        if other.resolve() == own or other.resolve() in excused:
            continue
        stages = [stage for stage in stages_of(other) if _is_same(reused_from(other / stage), run)]
        named = [key for key, path in _named_folders(read_config(other)) if _is_within(path, run)]
        if named and is_complete(read_status(other)):
            # What these name was taken over when it was needed; a run of a sweep names all its siblings.
            named = [key for key in named if key not in ("run.reuse", "diversify.runs")]
        reasons = stages or named
        if reasons:
            found.append(f"{other}: {first_few(reasons, NAMED)}")
    return found


def _named_folders(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Settings that may name another run, or a model in it."""
    for group, name in (("model", "path"), ("train", "student"), ("run", "reuse"), ("diversify", "runs")):
        value = (settings.get(group) or {}).get(name)
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, str):
                yield f"{group}.{name}", path
    if isinstance(settings.get("adapter"), str):
        yield "adapter", settings["adapter"]


def _is_same(named: str | None, run: Path) -> bool:
    return named is not None and run.resolve() in (Path(named).resolve(), (run.parent / Path(named).name).resolve())


def _is_within(named: str, run: Path) -> bool:
    """Whether a path, or the bare name of a run, leads to the run or into it."""
    places = [Path(named).expanduser(), run.parent / named]
    return any(place.resolve().is_relative_to(run.resolve()) for place in places)


def lost_with(run: Path, manifests: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What the run's command would not make again."""
    settings = read_config(run)
    if foreign := foreign_files(run):
        yield f"{first_few(foreign, NAMED)}: not written by Crescent"
    if (run / SET_ASIDE).is_dir():
        yield f"{SET_ASIDE}/: stages of earlier attempts"
    for declared in read_declarations(run):
        yield f"the record that study {declared.study} was declared at {declared.at}, before what it claims was run"
    versions = {str(manifest["made_from"].get("version")) for manifest in manifests.values()} - {__version__}
    if versions:
        yield f"stages that version {', '.join(sorted(versions))} made; this is {__version__}"
    for stage in manifests:
        maker = reused_from(run / stage)
        if maker is not None and not is_run(Path(maker)) and not is_run(run.parent / Path(maker).name):
            yield f"{stage}: was made by {maker}, which is gone"
    if urls := (settings.get("serving") or {}).get("urls"):
        yield f"what {', '.join(map(str, urls))} answered; a server of others may serve another model by now"
    yield from _gone(settings)
    if (settings.get("tracking") or {}).get("wandb") == "offline" and (run / "wandb").is_dir():
        yield f"wandb/: files of offline W&B runs, unless they were uploaded (crescent sync {run})"


def _gone(settings: Mapping[str, Any]) -> Iterator[str]:
    """Files and folders that the run was made from and that are not there any more."""
    benchmarks = (settings.get("eval") or {}).get("benchmarks") or {}
    named = {f"eval.benchmarks.{name}.path": each.get("path") for name, each in benchmarks.items()}
    named |= {
        "model.path": (settings.get("model") or {}).get("path"),
        "bait.seeds": (settings.get("bait") or {}).get("seeds"),
    }
    for key, path in named.items():
        is_local = isinstance(path, str) and (path.startswith((".", "/", "~")) or path.endswith((".jsonl", ".gz")))
        if is_local and not Path(str(path)).expanduser().exists():
            yield f"everything that was made from {key}={path}, which is not there any more"


def foreign_files(run: Path) -> list[str]:
    """Files and folders in a run folder that Crescent did not write."""
    from fnmatch import fnmatch

    found = [path.name for path in sorted(run.iterdir()) if not any(fnmatch(path.name, ours) for ours in OURS)]
    for stage in stages_of(run):
        try:
            found += [f"{stage}/{name}" for name in inspect(run / stage).strangers]
        except Unreadable:
            continue
    return found
