"""The page of all settings, made from the config dataclasses: names, types, units, defaults and docstrings."""

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

ROOT = Path(__file__).parent.parent.parent
MARK = "<!-- settings -->"
UNITS = {"_s": "seconds", "_mib": "MiB", "_gib": "GiB", "_b": "billions"}
"""Unit of a number, by the end of the setting's name."""
LONGEST_DEFAULT = 60


@dataclass(frozen=True)
class Setting:
    """One setting."""

    key: str
    kind: str
    default: str
    """As YAML; empty where a value has to be given."""
    text: str
    choices: tuple[tuple[str, str], ...]
    """Each value with its docstring."""


def settings() -> str:
    """All settings as Markdown: a heading for each group, a definition for each setting."""
    from crescent.config import Config

    defaults = composed_defaults()
    lines: list[str] = []
    for group in fields(Config):
        kind = plain_kind(get_type_hints(Config)[group.name])
        if not is_dataclass(kind):
            lines += ["", *definition(setting(Config, group.name, "", defaults))]
            continue
        lines += ["", f"## {group.name}", "", first_paragraph(kind), ""]
        options = sorted(path.stem for path in (ROOT / "conf" / group.name).glob("*.yaml"))
        if options:
            chosen = ", ".join(f"`{group.name}={option}`" for option in options)
            lines += [f"Ready-made: {chosen} (`conf/{group.name}/`).", ""]
        for found in settings_of(kind, f"{group.name}.", defaults):
            lines += definition(found)
    return "\n".join(lines)


def settings_of(kind: Any, prefix: str, defaults: dict[str, Any]) -> Iterator[Setting]:
    """The settings of a dataclass, and of those inside it; `NAME` stands for a key that the user chooses."""
    hints = get_type_hints(kind)
    for found in fields(kind):
        inner = plain_kind(hints[found.name])
        if is_dataclass(inner):
            yield from settings_of(inner, f"{prefix}{found.name}.", defaults)
        elif get_origin(inner) is dict and is_dataclass(get_args(inner)[1]):
            yield setting(kind, found.name, prefix, defaults)
            yield from settings_of(get_args(inner)[1], f"{prefix}{found.name}.NAME.", defaults)
        else:
            yield setting(kind, found.name, prefix, defaults)


def setting(kind: Any, name: str, prefix: str, defaults: dict[str, Any]) -> Setting:
    """One field of a dataclass as a setting."""
    hint = get_type_hints(kind)[name]
    declared = next(found for found in fields(kind) if found.name == name)
    default = defaults.get(prefix + name, declared_default(declared))
    inner = plain_kind(hint)
    is_choice = isinstance(inner, type) and issubclass(inner, Enum)
    choices = tuple((member.name, field_docs(inner).get(member.name, "")) for member in inner) if is_choice else ()
    text = field_docs(kind).get(name) or (first_paragraph(inner) if is_choice else "")
    return Setting(prefix + name, kind_name(hint, name), written(default), text, choices)


def definition(found: Setting) -> list[str]:
    """A setting as an entry of a definition list, with an anchor of its name."""
    first = f"{found.kind}{f', default `{found.default}`' if found.default else ''}"
    lines = [f'<a id="{found.key}"></a>`{found.key}`', "", f":   <small>{first}</small>", ""]
    lines += [f"    {escaped(found.text)}", ""] if found.text else []
    lines += [f"    - `{value}`{f': {escaped(text)}' if text else ''}" for value, text in found.choices]
    return [*lines, ""]


def escaped(text: str) -> str:
    """A docstring as Markdown on one line: angle brackets of a docstring are no HTML."""
    pieces = " ".join(text.split()).split("`")
    return "`".join(piece if inside % 2 else piece.replace("<", "&lt;") for inside, piece in enumerate(pieces))


def written(value: Any) -> str:
    """A default as YAML would say it; long texts and lists only by their beginning."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case Enum():
            return str(value.value)
        case dict():
            return ", ".join(value) or "none"
        case _ if value is REQUIRED:
            return ""
        case "":
            return "''"
    text = " ".join(str(value).split()).replace("`", "'")
    return text if len(text) <= LONGEST_DEFAULT else f"{text[:LONGEST_DEFAULT]}…"


REQUIRED = object()


def declared_default(declared: Any) -> Any:
    from dataclasses import MISSING

    if declared.default is not MISSING:
        return declared.default
    return declared.default_factory() if declared.default_factory is not MISSING else REQUIRED


def plain_kind(hint: Any) -> Any:
    """A type without `None`."""
    if get_origin(hint) in (Union, UnionType):
        rest = [part for part in get_args(hint) if part is not NoneType]
        return rest[0] if len(rest) == 1 else hint
    return hint


def kind_name(hint: Any, name: str) -> str:
    """A type in words, with the unit that the name ends in."""
    inner = plain_kind(hint)
    if isinstance(inner, type) and issubclass(inner, Enum):
        words = "one of the values below"
    elif get_origin(inner) is list:
        words = f"list of {getattr(get_args(inner)[0], '__name__', 'values')}"
    elif get_origin(inner) is dict:
        words = "by name"
    else:
        words = getattr(inner, "__name__", str(inner))
    unit = next((unit for ending, unit in UNITS.items() if name.endswith(ending)), None)
    optional = ", or null" if inner is not hint else ""
    return f"{words}{f', in {unit}' if unit else ''}{optional}"


def first_paragraph(kind: Any) -> str:
    return escaped((kind.__doc__ or "").split("\n\n")[0])


@cache
def field_docs(kind: Any) -> dict[str, str]:
    """The string literal under each field of a class."""
    tree = ast.parse(inspect.getsource(inspect.getmodule(kind) or kind))
    body = next(node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == kind.__name__)
    found = {}
    for before, after in pairwise(body):
        target = before.target if isinstance(before, ast.AnnAssign) else getattr(before, "targets", [None])[0]
        is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if isinstance(target, ast.Name) and is_text:
            found[target.id] = inspect.cleandoc(str(after.value.value))  # type: ignore[attr-defined]
    return found


@cache
def composed_defaults() -> dict[str, Any]:
    """The value of every setting without an experiment, by its dotted key: conf/config.yaml over the dataclasses."""
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    from crescent.config import Config

    ConfigStore.instance().store(name="schema", node=OmegaConf.structured(Config))
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed: Any = OmegaConf.to_container(compose("config"), resolve=True, enum_to_str=True)
    found: dict[str, Any] = {}

    def collect(values: dict[str, Any], prefix: str) -> None:
        for key, value in values.items():
            found[prefix + key] = value
            if isinstance(value, dict):
                collect(value, f"{prefix}{key}.")

    collect(composed, "")
    return found
