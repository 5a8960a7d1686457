"""Entry from the command line: Hydra composes the config; below this file there are only plain dataclasses."""

import difflib
import os
import re
import sys
from collections.abc import Callable, Sequence
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
from crescent.config.warm_start import WarmStartConfig
from crescent.doors.opening import Loop, execute
from crescent.doors.reusable import sweep_runs
from crescent.doors.run_name import named_after_model
from crescent.doors.sweep import SWEPT, show_sweep, sweep_name
from crescent.errors import BadConfig, CrescentError, known_cause
from crescent.machine.inert_text import visible_lines
from crescent.machine.program import run_to_exit_code
from crescent.machine.secrets import HIDDEN, censored

C = TypeVar("C", bound=Config)

READER_S = 10.0
"""Longest wait of a run for the reader of its output, in seconds; its files have everything."""

ADDED = re.compile(r"\+{1,2}eval\.benchmarks\.(?P<name>[A-Za-z0-9][\w-]*)[.=]")
"""An override that adds a benchmark, or a setting of an added one."""
SCHEMAS = {"schema": Config, "evaluation_schema": EvaluationConfig, "warm_start_schema": WarmStartConfig}


def declare(arguments: Sequence[str]) -> list[str]:
    """Store the schemas of all settings, with the benchmarks that the command line adds; returns its arguments.

    OmegaConf adds nothing to a dict of dataclasses from a command line, only from a file. So an added benchmark is part
    of the schema, and `+eval.benchmarks.mine.items=9` becomes `++…`, which sets what is there.
    """
    added: dict[str, dict[str, object]] = {
        found["name"]: {} for argument in arguments if (found := ADDED.match(argument))
    }
    for name, schema in SCHEMAS.items():
        node = OmegaConf.merge(OmegaConf.structured(schema), {"eval": {"benchmarks": added}})
        ConfigStore.instance().store(name=name, node=node)
    return [f"++{argument.lstrip('+')}" if ADDED.match(argument) else argument for argument in arguments]


declare([])


def hydra_door(loop: Loop) -> None:
    """Compose the command line into a config and run it, or print its plan; ends the process with the exit code."""

    def enter(cfg: Config) -> None:
        if cfg.mode is Mode.plan:
            from crescent.doors.plan import show_plan

            show_plan(cfg)
        else:
            execute(cfg, loop)

    through_hydra("config", as_config, enter)


def through_hydra(config_name: str, read: Callable[[DictConfig], C], enter: Callable[[C], None]) -> None:
    """Compose `conf/<config_name>.yaml` with the command line, convert it by `read` and call `enter` with the result.

    A sweep does so for each of its runs and compares them at the end. Ends the process with the exit code.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # otherwise Hydra ends the process itself, always with 1

    sys.argv[1:] = declare(sys.argv[1:])
    failures: list[CrescentError] = []
    points: list[C] = []

    def enter_point(composed: DictConfig) -> None:
        """One run. In a sweep, the other runs still start after one has failed."""
        name = "this run"
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
                print(
                    visible_lines(censored(f"{name} failed ({known.exit_code}): {known}")), file=sys.stderr, flush=True
                )

    def main() -> None:
        try:
            hydra.main(version_base="1.3", config_path="pkg://conf", config_name=config_name)(enter_point)()
        except (HydraException, OmegaConfBaseException) as error:
            # It quotes the command line, where a password may stand with any characters in it.
            raise BadConfig(re.sub(r"://[^\n]*@", f"://{HIDDEN}@", explain(error))) from error
        if points:
            tracking = points[0].tracking
            show_sweep([cfg.run.folder for cfg in points], tracking.group, tracking.hourly_rate)
        if failures:
            raise failures[0]

    sys.exit(run_to_exit_code(main, READER_S))


class SweptKeys(Callback):
    """Puts the keys that a sweep varies into the environment, for the names of its runs: Hydra gives each run only its
    own values."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Called by Hydra before the first run."""
        params, overrides = config.hydra.sweeper.params or {}, config.hydra.overrides.task
        given = [*(f"{key}={values}" for key, values in params.items()), *overrides]
        parsed = OverridesParser.create().parse_overrides(given)
        os.environ[SWEPT] = " ".join(override.key_or_group for override in parsed if override.is_sweep_override())


def given_keys() -> list[str]:
    """The keys and groups that the command line itself sets or deletes (`~key`)."""
    return [override.partition("=")[0].lstrip("+") for override in HydraConfig.get().overrides.task]


def is_given(key: str) -> bool:
    """Whether the command line itself sets the key, rather than an experiment or an option of a group."""
    return key in given_keys()


def as_config(composed: DictConfig) -> Config:
    """The composed config as checked dataclasses.

    The run is named after the model that the command line names, if any. In a sweep, it is also named after the
    settings that vary, and reuses stages of the other runs of the sweep.
    """
    cfg = OmegaConf.to_object(composed)
    assert isinstance(cfg, Config)
    if HydraConfig.initialized():
        cfg = named_after_model(cfg, given_keys(), os.environ.get(SWEPT, "").split())
    if HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN:
        group = cfg.tracking.group or cfg.run.name
        root = Path(cfg.run.root)
        name = sweep_name(cfg.run.name, HydraConfig.get().overrides.task, root)
        siblings = map(str, sweep_runs(cfg.run.name, root, own=name))
        named = replace(cfg.run, name=name, reuse=[*cfg.run.reuse, *siblings])
        cfg = replace(cfg, run=named, tracking=replace(cfg.tracking, group=group))
    return cfg


def explain(error: Exception) -> str:
    """Cause of an error of Hydra or OmegaConf, and what the user probably meant."""
    causes = [error]
    while causes[-1].__cause__ is not None and isinstance(causes[-1].__cause__, Exception):
        causes.append(causes[-1].__cause__)
    text = str(error)
    key = next((full_key for cause in causes if (full_key := getattr(cause, "full_key", None))), None)
    misspelt = re.search(r"Could not override '([^']+)'", text)
    if misspelt and "not in" in " ".join(map(str, causes)):
        wrong = misspelt.group(1)
        near = difflib.get_close_matches(wrong, all_keys(as_settings(EvaluationConfig)), n=3, cutoff=0.6)
        meant = f"did you mean {' or '.join(near)}?" if near else "see conf/ and crescent/config/ for the settings"
        return f"{wrong}: no such setting; {meant}"
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
