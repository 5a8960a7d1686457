"""Settings that do not exist: the keys of a config that no dataclass declares, and what was probably meant.

OmegaConf refuses most of them by itself, but adds what begins with `+` to whatever is there.
"""

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import is_dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from crescent.config.checks import Choice

NAMED = 3
"""Keys that an error suggests."""


def unknown_settings(settings: Mapping[Any, Any], schema: type, prefix: str = "") -> Iterator[str]:
    """Dotted keys of plain nested settings that the dataclass does not declare; nothing below them is looked at.

    Dicts that may hold anything (`eval.benchmarks.<name>.options`, names of bait prompts) stay open.
    """
    kinds = get_type_hints(schema)
    for name, value in settings.items():
        key = f"{prefix}{name}"
        if name in kinds:
            yield from _unknown_below(value, kinds[name], key)
        else:
            yield key


def _unknown_below(value: object, kind: Any, key: str) -> Iterator[str]:
    for part in _parts(kind):
        if isinstance(value, Mapping) and isinstance(part, type) and is_dataclass(part):
            yield from unknown_settings(value, part, f"{key}.")
        elif isinstance(value, Mapping) and get_origin(part) is dict:
            for name, entry in value.items():
                yield from _unknown_below(entry, get_args(part)[1], f"{key}.{name}")
        elif isinstance(value, list | tuple) and get_origin(part) is list:
            for number, entry in enumerate(value):
                yield from _unknown_below(entry, get_args(part)[0], f"{key}[{number}]")


def _parts(kind: Any) -> tuple[Any, ...]:
    """The types that a type stands for: `X | None` is two."""
    return get_args(kind) if get_origin(kind) in (UnionType, Union) else (kind,)


def no_such_setting(key: str, schema: type, groups: Collection[str] = (), prefix: str = "") -> str:
    """A line that refuses a key and names the nearest right ones.

    Args:
        groups: Names of groups of `conf/`, which are chosen by `GROUP=OPTION` and need not be settings themselves.
        prefix: What every key of `schema` begins with.
    """
    near = [f"{prefix}{name}" for name in nearest(key, schema, groups)]
    meant = f"did you mean {' or '.join(near)}?" if near else "see conf/ and crescent/config/ for the settings"
    return f"{prefix}{key}: no such setting; {meant}"


def nearest(key: str, schema: type, groups: Collection[str] = ()) -> list[str]:
    """The settings, or groups, that a wrong key was probably meant for, the nearest first; groups that no setting is
    named after come with the `+` that chooses an option of them."""
    known = keys_of(schema)
    if "." not in key and key in groups and key not in known:
        return [f"+{key}=…"]
    right, wrong, rest = _split(key, schema)
    beside = {name.removeprefix(right) for name in known if name.startswith(right) and "." not in name[len(right) :]}
    beside |= set(_names_below(right, schema)) | (set() if right else set(groups))
    found = [f"{right}{name}{rest}" for name in difflib.get_close_matches(wrong, sorted(beside), NAMED, 0.7)]
    found = [name if name in known else name.removesuffix(rest) for name in found] if rest else found
    if not found:
        last = key.rpartition(".")[2]
        found = [name for name in known if name.rpartition(".")[2] == last][:NAMED]
    found = found or difflib.get_close_matches(key, known, NAMED, 0.6)
    return [f"+{name}=…" if name in groups and name not in known else name for name in found]


def keys_of(schema: Any, prefix: str = "") -> list[str]:
    """All dotted keys that a dataclass declares; what a dict may hold is not among them."""
    found = []
    for name, kind in get_type_hints(schema).items():
        found.append(f"{prefix}{name}")
        for part in _parts(kind):
            if is_dataclass(part) and not issubclass(part, Choice):  # type: ignore[arg-type]
                found += keys_of(part, f"{prefix}{name}.")
    return found


def _split(key: str, schema: Any) -> tuple[str, str, str]:
    """A wrong key in three: what is right of it, the first wrong name, and what follows."""
    names = key.split(".")
    kinds: tuple[Any, ...] = (schema,)
    for place, name in enumerate(names):
        below = [kind for part in kinds for kind in _below(part, name)]
        if not below:
            right, rest = names[:place], names[place + 1 :]
            return "".join(f"{part}." for part in right), name, "".join(f".{part}" for part in rest)
        kinds = tuple(part for kind in below for part in _parts(kind))
    return "", key, ""


def _below(kind: Any, name: str) -> list[Any]:
    """The type of what is called `name` in a dataclass or in a dict."""
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return [hints[name]] if name in hints else []
    return [get_args(kind)[1]] if get_origin(kind) is dict else []


def _names_below(prefix: str, schema: Any) -> list[str]:
    """Names that are declared below a right prefix, also where it leads through a dict."""
    kinds: tuple[Any, ...] = (schema,)
    for name in filter(None, prefix.split(".")):
        kinds = tuple(part for kind in kinds for below in _below(kind, name) for part in _parts(below))
    return [name for kind in kinds if is_dataclass(kind) for name in get_type_hints(kind)]
