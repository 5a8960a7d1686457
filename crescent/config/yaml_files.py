"""Job files may come from anywhere: only plain YAML is read, and no file costs more than its size."""

from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from crescent.errors import BadConfig

LARGEST = 16 << 20
"""Bytes of the largest file that is read."""
DEEPEST = 64
"""Levels of nesting of the deepest file that is read; ours have six."""


def load_plain_yaml(path: Path) -> Any:
    """Content of a YAML file without tags and aliases, as OmegaConf reads it.

    A tag may ask for any Python object, and a few aliases of aliases stand for billions of values.

    Raises:
        BadConfig: it is not such a file; the message names the line.
    """
    size = path.stat().st_size
    if size > LARGEST:
        raise BadConfig(f"{path}: {size:,} bytes are too many for a job file; is it the right file?")
    depth = 0
    try:
        for event in yaml.parse(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            line = f"{path}: line {event.start_mark.line + 1}"
            if isinstance(event, yaml.AliasEvent):
                raise BadConfig(f"{line}: has an alias (*{event.anchor}); write the value in its place")
            if getattr(event, "tag", None) is not None:
                raise BadConfig(f"{line}: has a tag ({event.tag}); only plain values are read, so delete it")
            if depth > DEEPEST:
                raise BadConfig(f"{line}: is nested more than {DEEPEST} levels deep; is it the right file?")
        return OmegaConf.load(path)
    except yaml.MarkedYAMLError as error:
        where = f": line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise BadConfig(f"{path}{where}: not YAML ({error.problem}); quote the value or correct the line") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path}: not YAML in UTF-8 ({str(error).splitlines()[0]})") from error
