"""The door: Hydra composes the config, one run folder is locked, and the loop runs behind it on plain dataclasses."""

import difflib
import json
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import hydra
from filelock import FileLock, Timeout
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from crescent.config import Config, Mode, as_settings
from crescent.config.standalone import EvaluationConfig
from crescent.doors.sweep import SWEPT, show_sweep, sweep_name
from crescent.errors import BadConfig, CrescentError, RunLocked, TryAgain, known_cause, known_failure, run_to_exit_code
from crescent.records import Round

if TYPE_CHECKING:
    from crescent.stages import Stages

Loop = Callable[[int, "Stages"], list[Round]]
C = TypeVar("C", bound=Config)
KILL_S = 65.0
"""Seconds a killed process may need to give its GPU memory back, and a little more."""

ConfigStore.instance().store(name="schema", node=Config)
ConfigStore.instance().store(name="evaluation_schema", node=EvaluationConfig)


def hydra_door(loop: Loop) -> None:
    """Compose the command line into a config and run (or plan) it; ends the process with the exit code."""

    def enter(cfg: Config) -> None:
        if cfg.mode is Mode.plan:
            from crescent.doors.plan import show_plan

            show_plan(cfg)
        else:
            execute(cfg, loop)

    through_hydra("config", read_config, enter)


def through_hydra(config_name: str, read: Callable[[DictConfig], C], enter: Callable[[C], None]) -> None:
    """Compose `conf/<config_name>.yaml` with the command line, `read` it and `enter` with what it says.

    Done for each point of a sweep, which ends with how they compare; ends the process with the exit code.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra would end the process itself, always with 1

    failures: list[CrescentError] = []
    points: list[C] = []

    def enter_one(composed: DictConfig) -> None:
        """One run. A failed point of a sweep does not keep the others from running."""
        name = "this point"
        try:
            cfg = read(composed)
            name = cfg.run.name
            if HydraConfig.get().mode is RunMode.MULTIRUN and cfg.mode is Mode.run:
                points.append(cfg)
            enter(cfg)
        except (CrescentError, BaseExceptionGroup) as error:
            known = known_cause(error)
            if known is None:
                raise
            failures.append(known)
            if HydraConfig.get().mode is RunMode.MULTIRUN:
                print(f"{name} failed ({known.exit_code}): {known}", file=sys.stderr, flush=True)

    def main() -> None:
        try:
            hydra.main(version_base="1.3", config_path="pkg://conf", config_name=config_name)(enter_one)()
        except (HydraException, OmegaConfBaseException) as error:
            raise BadConfig(explain(error)) from error
        if points:
            its = points[0]
            folders = [Path(its.run.root) / its.run.name for its in points]
            show_sweep(folders, its.tracking.group, its.tracking.hourly_rate)
        if failures:
            raise failures[0]

    sys.exit(run_to_exit_code(main))


class SweptKeys(Callback):
    """Leaves in the environment what a sweep varies, for its runs' names: each run is told its own values alone."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Called by Hydra before the first run."""
        its = config.hydra
        given = [*(f"{key}={values}" for key, values in (its.sweeper.params or {}).items()), *its.overrides.task]
        parsed = OverridesParser.create().parse_overrides(given)
        os.environ[SWEPT] = " ".join(one.key_or_group for one in parsed if one.is_sweep_override())


def is_given(key: str) -> bool:
    """Whether the command line itself sets the key, and not an experiment or an option of a group."""
    return any(its.lstrip("+").startswith(f"{key}=") for its in HydraConfig.get().overrides.task)


def read_config(composed: DictConfig) -> Config:
    """The composed config as checked dataclasses; in a sweep the run's name says what varies."""
    cfg = OmegaConf.to_object(composed)
    assert isinstance(cfg, Config)
    if HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN:
        group = cfg.tracking.group or cfg.run.name
        named = replace(cfg.run, name=sweep_name(cfg.run.name, HydraConfig.get().overrides.task, Path(cfg.run.root)))
        cfg = replace(cfg, run=named, tracking=replace(cfg.tracking, group=group))
    return cfg


def execute(cfg: Config, loop: Loop) -> None:
    """Run the loop in its folder and show what came of it."""
    from crescent.doors.plan import check_machine
    from crescent.show.console import show_outcome

    check_machine(cfg)
    with open_run(cfg) as stages:
        rounds = loop(cfg.run.rounds, stages)
    show_outcome(cfg, Path(cfg.run.root) / cfg.run.name, rounds)


@contextmanager
def open_run(cfg: Config) -> Iterator["Stages"]:
    """A run's stages in its folder: locked, observed, its engine ended whatever happens.

    Raises:
        RunLocked: another process works in this folder.
        TryAgain: processes of an earlier attempt are still alive.
    """
    from crescent.engine.server import Server
    from crescent.machine.environment import write_down
    from crescent.observe import Observer
    from crescent.run_folder.ended import forget_end, write_end
    from crescent.run_folder.once import Once
    from crescent.stages import Stages
    from launch.local import LocalLaunch, wait_for_earlier_children

    root = Path(cfg.run.root) / cfg.run.name
    root.mkdir(parents=True, exist_ok=True)
    with only_supervisor(root):
        observer = Observer(root, cfg.tracking, cfg.run.name)
        alive = root / ".children"
        launch = LocalLaunch(cfg.launch.grace_s, alive)
        server = Server(cfg.serving, cfg.model, cfg.train, launch, cfg.run.name, root / "logs/server.log", observer.say)

        def write_config() -> None:
            """Not before there is work: a refused run leaves the config of the finished one in place."""
            OmegaConf.save(OmegaConf.structured(cfg), root / "config.yaml")
            write_down(root)
            forget_end(root)

        once = Once(root, observer, cfg.run.redo, write_config)
        code = 0
        try:
            if not wait_for_earlier_children(alive, observer.say, cfg.launch.grace_s + KILL_S):
                raise TryAgain(f"{root}: processes of an earlier run are still writing into it; try again in a minute")
            yield Stages(cfg, once, server, launch, observer)
            once.finish()
            forget_end(root)
        except BaseException as error:
            known = known_failure(error)
            code = known.exit_code if known is not None else 1
            if once.begun:  # a refused run leaves what is said of the one before
                write_end(root, error, once.making)
            raise
        finally:
            server.stop()
            observer.close(code)


@contextmanager
def only_supervisor(root: Path) -> Iterator[None]:
    """Hold the run folder; a second supervisor is told who holds it.

    Raises:
        RunLocked: another process works in this folder.
    """
    holder = root / "supervisor.json"
    lock = FileLock(root / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        try:
            its: dict[str, Any] = json.loads(holder.read_text())
        except (OSError, ValueError):
            its = {}
        raise RunLocked(
            f"{root} is worked on by process {its.get('pid', '?')} on {its.get('host', '?')}; wait for it, end it, or "
            "give this run another name (run.name=…)"
        ) from None
    try:
        holder.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "command": sys.argv}))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def explain(error: Exception) -> str:
    """Hydra's or OmegaConf's complaint as a cause, and what was probably meant."""
    causes = [error]
    while causes[-1].__cause__ is not None and isinstance(causes[-1].__cause__, Exception):
        causes.append(causes[-1].__cause__)
    text = str(error)
    key = next((its for cause in causes if (its := getattr(cause, "full_key", None))), None)
    misspelt = re.search(r"Could not override '([^']+)'", text)
    if misspelt and "not in" in " ".join(map(str, causes)):
        wrong = misspelt.group(1)
        near = difflib.get_close_matches(wrong, all_keys(as_settings(EvaluationConfig)), n=3, cutoff=0.6)
        meant = f"did you mean {' or '.join(near)}?" if near else "the keys are in conf/ and crescent/config/"
        return f"{wrong}: there is no such setting; {meant}"
    if key is not None:
        first = str(causes[-1]).splitlines()[0]
        return f"{key}: {first}"
    return text.strip()


def all_keys(settings: Any, prefix: str = "") -> list[str]:
    """All dotted keys of nested settings."""
    if not isinstance(settings, dict):
        return []
    found = []
    for name, value in settings.items():
        found += [f"{prefix}{name}", *all_keys(value, f"{prefix}{name}.")]
    return found
