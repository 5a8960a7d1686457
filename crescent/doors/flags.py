"""What a command line says before Hydra reads it: where more config groups lie, and `--root`."""

import codecs
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from crescent.errors import BadConfig, Missing

DIRECTORY = ("--config-dir", "-cd")
"""Flags of Hydra with a folder that is laid out like `conf/`."""
ROOT = "--root"
WITH_VALUE = (*DIRECTORY, "--config-path", "-cp", "--config-name", "-cn", "--package", "-p", "--cfg", "-c")
"""Flags of Hydra that always take the next argument."""


def groups_for(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Names of the groups that `GROUP=OPTION` can choose from: those of `conf/` and of `--config-dir`.

    Returns:
        The names, and whether there may be others (`hydra.searchpath`).
    """
    package = importlib.util.find_spec("conf")
    assert package is not None
    folders = [Path(folder) for folder in package.submodule_search_locations or ()]
    folders += [Path(value) for flag in DIRECTORY for value in flag_values(arguments, flag)[0]]
    found = {path.name for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_dir()}
    elsewhere = any(argument.lstrip("+").startswith("hydra.searchpath=") for argument in arguments)
    return sorted(found - {"__pycache__"}), elsewhere


def flag_values(arguments: Sequence[str], flag: str) -> tuple[list[str], list[str]]:
    """The values of a flag, as `FLAG VALUE` or `FLAG=VALUE`, and the arguments without them.

    Raises:
        BadConfig: the flag is the last argument.
    """
    values, others = [], []
    left = iter(arguments)
    for argument in left:
        if argument == flag:
            value = next(left, None)
            if value is None:
                raise BadConfig(f"{flag}: a folder must follow, e.g. {flag} {'runs' if flag == ROOT else 'my-conf'}")
            values.append(value)
        elif argument.startswith(f"{flag}="):
            values.append(argument.partition("=")[2])
        else:
            others.append(argument)
    return values, others


def with_root(arguments: Sequence[str]) -> list[str]:
    """Arguments for Hydra: `--root FOLDER` becomes an override of `run.root`."""
    values, others = flag_values(arguments, ROOT)
    quoted = [value.replace("\\", "\\\\").replace("'", "\\'") for value in values[-1:]]
    return [*others, *(f"run.root='{value}'" for value in quoted)]


def settings_first(arguments: Sequence[str]) -> list[str]:
    """The same arguments with the settings before the flags: Hydra's parser takes settings from one place only."""
    settings: list[str] = []
    flags: list[str] = []
    left = iter(arguments)
    for argument in left:
        is_setting = not argument.startswith("-") and ("=" in argument or argument.startswith("~"))
        (settings if is_setting else flags).append(argument)
        if argument in WITH_VALUE:
            flags += [value for value in [next(left, None)] if value is not None]
    return [*settings, *flags]


def check_own_yaml(arguments: Sequence[str]) -> None:
    """Refuse YAML in `--config-dir` that Hydra could not read, with file and line, before Hydra stumbles over it.

    Raises:
        Missing: there is no such folder.
        BadConfig: a file is no YAML mapping in UTF-8.
    """
    for flag in DIRECTORY:
        for folder in map(Path, flag_values(arguments, flag)[0]):
            if not folder.is_dir():
                raise Missing(f"{flag} {folder}: no such folder in {Path.cwd()}; it is laid out like conf/")
            for path in sorted(folder.rglob("*.yaml")):
                _check_yaml(path)


def _check_yaml(path: Path) -> None:
    import yaml

    from crescent.machine.text_files import MARKS, read_text

    start = path.read_bytes()[:4]
    if mark := next((name for mark, name in MARKS if start.startswith(mark)), None):
        kind = "a byte-order mark" if start.startswith(codecs.BOM_UTF8) else f"the mark of {mark}"
        raise BadConfig(f"{path}: line 1: begins with {kind}; save the file as UTF-8 without one")
    try:
        found = yaml.compose(read_text(path), Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark_at = getattr(error, "problem_mark", None)
        line = f": line {mark_at.line + 1}" if mark_at is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise BadConfig(f"{path}{line}: is no YAML ({problem}); quote the value, or correct the line") from error
    if found is not None and not isinstance(found, yaml.MappingNode):
        raise BadConfig(f"{path}: line 1: holds no settings; write `key: value` lines")
