"""What a field that joins a config later stands for in runs that were recorded without it."""

from dataclasses import fields
from typing import Any

from omegaconf import OmegaConf

EARLIER = "earlier runs"


def earlier_runs(value: object) -> dict[str, object]:
    """Metadata of a field that joins a config: runs recorded without it count as made with `value`.

    `boxes: Boxes = field(default=Boxes.last, metadata=earlier_runs(Boxes.first))`

    It must be the value with which today's code makes exactly what the code without the field made. Often that is the
    default, but not always. Where no value does that, leave the metadata out: recorded stages that depend on the field
    are then refused, as after any change of settings.
    """
    return {EARLIER: value}


def earlier_values(config: Any) -> dict[str, Any]:
    """The fields of a config dataclass that joined later, each with its value in earlier runs as plain JSON."""
    joined = {known.name: known.metadata[EARLIER] for known in fields(config) if EARLIER in known.metadata}
    plain: Any = OmegaConf.to_container(OmegaConf.create(joined), enum_to_str=True)
    return dict(plain)
