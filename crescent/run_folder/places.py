"""Where things lie in a run folder."""

from pathlib import Path
from typing import Any

import yaml

REPORT = "report.html"
"""Name of the file in a run's folder."""


def read_config(root: Path) -> dict[str, Any]:
    """The settings of a run; none when they cannot be read."""
    try:
        found = yaml.safe_load((root / "config.yaml").read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}
