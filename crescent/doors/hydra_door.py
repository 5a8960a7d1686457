"""The door: Hydra composes the config, one run folder is locked, and the loop runs behind it on plain dataclasses."""

import difflib
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import hydra
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
from crescent.doors.opening import Loop, execute
from crescent.doors.sweep import SWEPT, show_sweep, sweep_name
from crescent.errors import BadConfig, CrescentError, known_cause, run_to_exit_code

C = TypeVar("C", bound=Config)

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
            folders = [its.run.folder for its in points]
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


def given_keys() -> list[str]:
    """The keys and groups that the command line itself sets or deletes (`~key`)."""
    return [override.partition("=")[0].lstrip("+") for override in HydraConfig.get().overrides.task]


def is_given(key: str) -> bool:
    """Whether the command line itself sets the key, and not an experiment or an option of a group."""
    return key in given_keys()


def read_config(composed: DictConfig) -> Config:
    """The composed config as checked dataclasses; in a sweep the run's name says what varies."""
    cfg = OmegaConf.to_object(composed)
    assert isinstance(cfg, Config)
    if HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN:
        group = cfg.tracking.group or cfg.run.name
        named = replace(cfg.run, name=sweep_name(cfg.run.name, HydraConfig.get().overrides.task, Path(cfg.run.root)))
        cfg = replace(cfg, run=named, tracking=replace(cfg.tracking, group=group))
    return cfg


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
