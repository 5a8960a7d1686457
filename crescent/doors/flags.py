"""What a command line says before Hydra reads it: where more config groups lie, and `--root`."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from crescent.errors import BadConfig

DIRECTORY = ("--config-dir", "-cd")
"""Flags of Hydra with a folder that is laid out like `conf/`."""
ROOT = "--root"


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
                raise BadConfig(f"{flag}: a folder must follow, e.g. {flag} runs")
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
