"""What a stage was made from (version, settings, inputs), and what differs between two of the same name."""

from collections.abc import Mapping
from typing import Any

from crescent.config import Config
from crescent.run_folder.stage_settings import completed

ABSENT = "(not there)"


def as_of_now(made_from: Mapping[str, Any], settings: Mapping[str, Any], schema: type = Config) -> dict[str, Any]:
    """What a finished stage was made from, with settings that joined since (`crescent.config.earlier`) filled in.

    An unfinished stage is not read this way: it starts again rather than being made by two versions of the code.

    Args:
        settings: Settings that the same stage would be made with today.
        schema: Config dataclass that declares the settings.
    """
    return {**made_from, "settings": completed(made_from["settings"], settings, schema)}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, object, object]]:
    """Each setting or input that differs: its dotted name, and both values."""
    old, new = _flat_parts(before), _flat_parts(now)
    values = ((key, old.get(key, ABSENT), new.get(key, ABSENT)) for key in sorted(old.keys() | new.keys()))
    return [(key, value, other) for key, value, other in values if value != other]


def _flat_parts(made_from: Mapping[str, Any]) -> dict[str, Any]:
    return _flat({"version": made_from["version"], **made_from["settings"], "input": made_from["inputs"]})


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        return {k: v for name, part in value.items() for k, v in _flat(part, f"{prefix}{name}.").items()}
    return {prefix.removesuffix("."): value}
