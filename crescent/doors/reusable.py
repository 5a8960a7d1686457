"""The runs whose finished stages a run may take over: those that `run.reuse` names, and those of the same sweep."""

import re
from pathlib import Path

from crescent.config import Config
from crescent.errors import BadConfig
from crescent.reading.finished import is_run, runs_below
from crescent.run_folder.places import read_config

SUGGESTED = 4
"""Runs that an error names."""


def reusable_runs(cfg: Config) -> list[Path]:
    """The folders of `run.reuse`, without those that read other benchmark data.

    Raises:
        BadConfig: a name is no run folder.
    """
    return [run for run in named_runs(cfg) if has_same_data(run, cfg)]


def named_runs(cfg: Config) -> list[Path]:
    """The folders of `run.reuse`, each once, without the run's own.

    Raises:
        BadConfig: a name is no run folder.
    """
    folders = [find_run(name, Path(cfg.run.root)) for name in cfg.run.reuse]
    by_place = {folder.resolve(): folder for folder in reversed(folders)}
    own = cfg.run.folder.resolve()
    return [folder for folder in folders if by_place[folder.resolve()] is folder and folder.resolve() != own]


def has_same_data(run: Path, cfg: Config) -> bool:
    """Whether a run read its benchmarks from the same place (`eval.data`), which no stage has among its settings."""
    return (read_config(run).get("eval") or {}).get("data") == cfg.eval.data


def find_run(name: str, root: Path) -> Path:
    """A run by its folder, or by its name in `root`.

    Raises:
        BadConfig: there is no such run.
    """
    here, below = Path(name).expanduser(), root / name
    if found := next((folder for folder in (here, below) if is_run(folder)), None):
        return found
    known = [str(run) for run in runs_below(root)[:SUGGESTED]]
    fix = f"runs there: {', '.join(known)}" if known else f"{root} has no run in it"
    raise BadConfig(f"run.reuse={name}: neither {here} nor {below} is a run folder; {fix}")


def sweep_runs(name: str, root: Path, own: str) -> list[Path]:
    """The runs of a sweep that lie in `root`, by name: `crescent.doors.sweep.sweep_name` ends them with a digest.

    Args:
        name: `run.name` of the sweep.
        own: Name of the run that asks, which is left out.
    """
    named = re.compile(rf"{re.escape(name)}-(?:.+-)?[0-9a-f]{{6}}")
    folders = sorted(folder for folder in root.glob(f"{name}-*") if named.fullmatch(folder.name))
    return [folder for folder in folders if folder.name != own and is_run(folder)]
