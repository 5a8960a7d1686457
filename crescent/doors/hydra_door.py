"""Entry from the command line: Hydra composes the config; below this file there are only plain dataclasses."""

import difflib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import hydra
from hydra._internal.utils import get_args_parser  # has no public name
from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from crescent import __version__
from crescent.config import Config, Console, Mode, minutes_of
from crescent.config.standalone import EvaluationConfig
from crescent.config.unknown_settings import no_such_setting, unknown_settings
from crescent.config.warm_start import WarmStartConfig
from crescent.doors.flags import check_own_yaml, groups_for, settings_first, with_root
from crescent.doors.opening import Loop, execute, read_objective
from crescent.doors.reusable import sweep_runs
from crescent.doors.run_name import named_after_model
from crescent.doors.scheduled import is_scheduled, show_script, submit
from crescent.doors.sweep import SWEPT, conclude_sweep, sweep_name
from crescent.doors.sweep_points import RECORDS, Point, open_records, read_points, run_point
from crescent.doors.unknown_flags import refuse_flags
from crescent.errors import BadConfig, CrescentError, known_cause
from crescent.machine.program import run_to_exit_code
from crescent.machine.secrets import HIDDEN

C = TypeVar("C", bound=Config)

READER_S = 10.0
"""Longest wait of a run for the reader of its output, in seconds; its files have everything."""

ADDED = re.compile(r"\+{1,2}eval\.benchmarks\.(?P<name>[A-Za-z0-9][\w-]*)[.=]")
"""An override that adds a benchmark, or a setting of an added one."""
MODULES = {"config": "crescent.loop", "evaluate": "eval", "warm_start": "crescent.warm_start"}
"""Module that `python -m` runs for each root config."""
SCHEMAS = {"schema": Config, "evaluation_schema": EvaluationConfig, "warm_start_schema": WarmStartConfig}
SCHEMA_OF = {"config": Config, "evaluate": EvaluationConfig, "warm_start": WarmStartConfig}
"""Dataclass that declares the settings of each primary config of `conf/`."""
PROMPTS = "bait.prompts"


def declare(arguments: Sequence[str]) -> list[str]:
    """Store the schemas of all settings, with the benchmarks that the command line adds; returns its arguments.

    OmegaConf adds nothing to a dict of dataclasses from a command line, only from a file. So an added benchmark is part
    of the schema, and `+eval.benchmarks.mine.items=9` becomes `++…`, which sets what is there. So does
    `bait.prompts={…}`: the prompts that it leaves out are dropped after composing (`replace_prompts`).
    """
    added: dict[str, dict[str, object]] = {
        found["name"]: {} for argument in arguments if (found := ADDED.match(argument))
    }
    stored = ConfigStore.instance().load("schema.yaml").node.eval.benchmarks
    if set(stored) != set(added):
        _store(added)
    forced = [bool(ADDED.match(argument)) or argument.startswith(f"{PROMPTS}={{") for argument in arguments]
    return [f"++{given.lstrip('+')}" if force else given for given, force in zip(arguments, forced, strict=True)]


def _store(added: dict[str, dict[str, object]]) -> None:
    for name, schema in SCHEMAS.items():
        node = OmegaConf.merge(OmegaConf.structured(schema), {"eval": {"benchmarks": added}})
        ConfigStore.instance().store(name=name, node=node)


_store({})


def hydra_door(loop: Loop) -> None:
    """Compose the command line into a config and run it, or print its plan; ends the process with the exit code."""

    def enter(cfg: Config) -> float | None:
        if cfg.mode is Mode.plan:
            from crescent.doors.plan import show_plan

            show_plan(cfg)
            return None
        return execute(cfg, loop)

    through_hydra("config", as_config, enter)


def through_hydra(config_name: str, read: Callable[[DictConfig], C], enter: Callable[[C], float | None]) -> None:
    """Compose `conf/<config_name>.yaml` with the command line, convert it by `read` and call `enter` with the result.

    A sweep does so for each of its runs, gives its sweeper what `enter` returns, and compares the runs at the end. Ends
    the process with the exit code.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # otherwise Hydra ends the process itself, always with 1
    os.environ.pop(RECORDS, None)  # those of a sweep whose run started this process

    OmegaConf.register_new_resolver("minutes_of", minutes_of, replace=True)  # for conf/hydra/launcher
    OmegaConf.register_new_resolver("typed", as_typed, replace=True)  # for the help in conf/config.yaml
    schema = SCHEMA_OF[config_name]
    failures: list[CrescentError] = []

    def checked(composed: DictConfig) -> C:
        refuse_unknown(composed, schema)
        replace_prompts(composed, HydraConfig.get().overrides.task)
        return read(composed)

    def enter_here_or_in_job(cfg: C) -> float | None:
        is_planned = cfg.mode is Mode.plan
        if not is_scheduled(cfg):
            return enter(cfg)
        if is_planned:
            enter(cfg)
        (show_script if is_planned else submit)(
            cfg, [sys.executable, "-P", "-m", MODULES[config_name], *job_arguments(cfg)]
        )
        is_over = cfg.launch.wait and not is_planned
        return read_objective(cfg) if config_name == "config" and is_over else None

    def enter_run(composed: DictConfig) -> float | None:
        """One run, or one point of a sweep, whose sweeper gets what is returned."""
        if HydraConfig.get().mode is RunMode.MULTIRUN:
            return enter_point(composed, schema, checked, enter_here_or_in_job)
        try:
            enter_here_or_in_job(checked(composed))
        except (CrescentError, BaseExceptionGroup) as error:
            known = known_cause(error)
            if known is None:
                raise
            failures.append(known)  # Hydra would print a second message about it
        return None

    def main() -> None:
        if "--version" in sys.argv[1:]:
            print(f"crescent {__version__}")
            return
        check_own_yaml(sys.argv[1:])
        sys.argv[1:] = settings_first(declare(with_root(sys.argv[1:])))
        refuse_unknown_flags(sys.argv[1:], schema)
        refuse_overrides(sys.argv[1:], schema)
        ended_early = ""
        try:
            hydra.main(version_base="1.3", config_path="pkg://conf", config_name=config_name)(enter_run)()
        except (HydraException, OmegaConfBaseException) as error:
            raise refusal(error, schema) from error
        except Exception as error:
            # A launcher whose process died, or a sweeper that got no number: failed points say more about it.
            if not any(point.exit_code for point in read_points()):
                raise
            ended_early = f"{type(error).__name__}: {error}"
        if failures:
            raise failures[0]
        conclude_sweep(read_points(), ended_early)

    sys.exit(run_to_exit_code(main, READER_S))


def as_typed(arguments: str) -> str:
    """A line of the help, up to what it explains: the command by which this process was started, with arguments."""
    command = "python -m crescent.loop" if Path(sys.argv[0]).name == "loop.py" else "crescent"
    return f"{command} {arguments}".ljust(57)


def job_arguments(cfg: Config) -> list[str]:
    """The command line of a run's job: this process's, or that of this run of a sweep."""
    if HydraConfig.get().mode is not RunMode.MULTIRUN:
        return sys.argv[1:]
    reused = ",".join(json.dumps(run) for run in cfg.run.reuse)
    group = "null" if cfg.tracking.group is None else json.dumps(cfg.tracking.group)
    own = ["hydra.mode=RUN", f"run.name={cfg.run.name}", f"run.reuse=[{reused}]", f"tracking.group={group}"]
    return [*HydraConfig.get().overrides.task, *own]


def enter_point(
    composed: DictConfig, schema: type, read: Callable[[DictConfig], C], enter: Callable[[C], float | None]
) -> float | None:
    """One point of a sweep, in whatever process its launcher runs it."""
    job = HydraConfig.get()

    def start(record: Callable[[Point], None]) -> float | None:
        try:
            cfg = read(composed)
        except (HydraException, OmegaConfBaseException) as error:
            raise refusal(error, schema) from error
        if cfg.mode is Mode.run:
            group, rate = cfg.tracking.group, cfg.tracking.hourly_rate
            named = replace(point, name=cfg.run.name, folder=str(cfg.run.folder))
            record(replace(named, group=group, hourly_rate=rate))
        return enter(cfg)

    swept = os.environ.get(SWEPT, "").split()
    varied = [override for override in job.overrides.task if override.partition("=")[0].lstrip("+") in swept]
    point = Point(int(job.job.num), " ".join(varied) or "this run")
    return run_point(point, start)


class SweptKeys(Callback):
    """Puts into the environment what the runs of a sweep cannot know, because Hydra gives each only its own values: the
    keys that vary, for their names, and the folder of their records."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Called by Hydra before the first run."""
        open_records(Path(config.hydra.sweep.dir))
        slurm = OmegaConf.select(config, "launch.slurm")
        if slurm is not None and config.hydra.runtime.choices.get("hydra/launcher") == "slurm_array":
            with read_write(config):  # an interpolation of a list or a dict is refused in conf/hydra/launcher
                config.hydra.launcher.setup = slurm.setup
                config.hydra.launcher.additional_parameters = {"requeue": True, **slurm.sbatch}
        # Hydra's own sweeper and Optuna's have `params`; Ax has them elsewhere, each with a range of its own form.
        params = OmegaConf.select(config, "hydra.sweeper.params") or {}
        ranged = OmegaConf.select(config, "hydra.sweeper.ax_config.params") or {}
        given = [*(f"{key}={values}" for key, values in params.items()), *config.hydra.overrides.task]
        parsed = OverridesParser.create().parse_overrides(given)
        swept = [override.key_or_group for override in parsed if override.is_sweep_override()]
        os.environ[SWEPT] = " ".join([*map(str, ranged), *swept])


def refuse_unknown_flags(arguments: Sequence[str], schema: type) -> None:
    """Refuse flags that Hydra does not have.

    Raises:
        BadConfig: as `refuse_flags`.
    """
    refuse_flags(arguments, get_args_parser(), schema, groups_for(arguments)[0])


def refuse_overrides(arguments: Sequence[str], schema: type) -> None:
    """Refuse an override of a setting that does not exist, before anything is composed or a sweep starts its runs.

    Raises:
        BadConfig: there is one; the message names the nearest right setting.
    """
    groups, may_be_others = groups_for(arguments)
    for override in _parsed([argument for argument in arguments if not argument.startswith(("-", "~"))]):
        names = override.key_or_group.split(".")
        value = None if override.is_sweep_override() else override.value()
        is_group = "/" in override.key_or_group or (len(names) == 1 and (names[0] in groups or may_be_others))
        if is_group and not isinstance(value, dict):
            continue
        if names[0] == "hydra":
            _refuse(_nested(".".join(names[1:]), value), HydraConf, (), "hydra.")
        else:
            _refuse(_nested(override.key_or_group, value), schema, groups)


def refuse_unknown(composed: DictConfig, schema: type) -> None:
    """Refuse settings that do not exist, however they came in: OmegaConf adds what begins with `+` to anything.

    Raises:
        BadConfig: there are some; the message names the nearest right ones.
    """
    _refuse(OmegaConf.to_container(composed, resolve=False), schema, groups_for(())[0])


def _nested(key: str, value: Any) -> Any:
    """`a.b`, 1 → `{"a": {"b": 1}}`."""
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def _refuse(settings: Any, schema: type, groups: Sequence[str], prefix: str = "") -> None:
    unknown = list(unknown_settings(settings, schema)) if isinstance(settings, dict) else []
    if unknown:
        raise BadConfig("; ".join(no_such_setting(key, schema, groups, prefix) for key in unknown))


def _parsed(arguments: Sequence[str]) -> Iterator[Override]:
    """The arguments that are overrides; Hydra itself refuses the others, with the place of the mistake."""
    parser = OverridesParser.create()
    for argument in arguments:
        try:
            yield parser.parse_override(argument)
        except HydraException:
            continue


def replace_prompts(composed: DictConfig, overrides: Sequence[str]) -> None:
    """`bait.prompts={…}` on the command line replaces the bait prompts; `+bait.prompts.NAME=…` adds to them.

    Args:
        overrides: Those of the command line, after `declare`; of a sweep those of this run.
    """
    given = [override for override in _parsed(overrides) if override.key_or_group.startswith(PROMPTS)]
    if any(override.key_or_group == PROMPTS and override.is_force_add() for override in given):
        named = {override.key_or_group.removeprefix(f"{PROMPTS}.") for override in given if not override.is_delete()}
        values = [override.value() for override in given]
        named |= {str(name) for value in values if isinstance(value, dict) for name in value}
        composed.bait.prompts = {name: text for name, text in composed.bait.prompts.items() if name in named}


def refusal(error: Exception, schema: type) -> BadConfig:
    """Error of Hydra or OmegaConf as ours. It quotes the command line, in which a password may hold any character."""
    return BadConfig(re.sub(r"://[^\n]*@", f"://{HIDDEN}@", explain(error, schema)))


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
        tracking = replace(cfg.tracking, group=group)
        if tracking.console is Console.auto and not HydraConfig.get().launcher._target_.endswith(".BasicLauncher"):
            tracking = replace(tracking, console=Console.plain)  # several live views would draw over each other
        cfg = replace(cfg, run=named, tracking=tracking)
    return cfg


def explain(error: Exception, schema: type = EvaluationConfig) -> str:
    """Cause of an error of Hydra or OmegaConf, and what the user probably meant."""
    causes = [error]
    while causes[-1].__cause__ is not None and isinstance(causes[-1].__cause__, Exception):
        causes.append(causes[-1].__cause__)
    text, last = str(error), str(causes[-1])
    key = next((full_key for cause in causes if (full_key := getattr(cause, "full_key", None))), None)
    file = re.match(r"In '([^']+)': ConfigKeyError", text)
    if file and (found := re.search(r"full_key: (\S+)", text)):
        return f"conf file {file[1]}: {no_such_setting(found[1], schema, groups_for(())[0])}"
    if isinstance(error, MissingConfigException):
        named, options = Path(str(error.missing_cfg_file)).name, sorted(error.options or [])
        near = difflib.get_close_matches(named, options, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        return f"{error.missing_cfg_file}: no such file of settings; {meant}There are: {', '.join(options) or 'none'}"
    if wrong := re.match(r"In '([^']+)': \w+ raised[^\n]*\n([^\n]+)", text):
        if "Cannot merge" in wrong[2]:
            return f"conf file {wrong[1]}: has a list where `key: value` lines belong, or the other way round"
        at = re.search(r"full_key: (\S+)", text)
        return f"conf file {wrong[1]}: {f'{at[1]}: ' if at else ''}{wrong[2]}; docs/settings.md has each setting's type"
    if key is not None and "is not in struct" in last:
        name = str(key).rpartition(".")[2]
        return f"{key}: there is no {name} yet; to add it, write +{key}=… (with a + in front)"
    if key is not None and re.match(r"Key '[^']*' not in", last):
        return no_such_setting(key, schema, groups_for(())[0])
    if key is not None:
        return f"{key}: {last.splitlines()[0]}"
    if group := re.search(r"To append to your default list use \+((\w+)=\S+)", text):
        return f"{group[2]}: is no part of the settings yet; to add it, write +{group[1]} (with a + in front)"
    if deleted := re.match(r"Could not delete from config\. '([^']+)' does not exist", text):
        is_declared = not list(unknown_settings(_nested(deleted[1], None), schema))
        return f"~{deleted[1]}: there is none" if is_declared else f"~{no_such_setting(deleted[1], schema)}"
    return text.strip()
