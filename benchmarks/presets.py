"""Presets of the groups in conf/ as config objects, without Hydra."""

from pathlib import Path
from typing import TypeVar

from omegaconf import OmegaConf

C = TypeVar("C")

CONF = Path(__file__).parent.parent / "conf"


def preset(group: str, name: str, kind: type[C], **changes: object) -> C:
    """`conf/<group>/<name>.yaml` as a checked config; `changes` override single fields."""
    settings = OmegaConf.structured(kind)
    # Assigned and not merged, because a preset's bait prompts replace the default ones.
    for key, value in OmegaConf.load(CONF / group / f"{name}.yaml").items():
        settings[key] = value
    for key, value in changes.items():
        settings[key] = value
    found = OmegaConf.to_object(settings)
    assert isinstance(found, kind)
    return found
