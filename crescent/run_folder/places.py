"""Names of files in a run folder, and how its config is read. Stages and locks have modules of their own."""

from pathlib import Path
from typing import Any

import yaml

CONFIG = "config.yaml"
"""Settings of the run's last start that made or moved anything."""
METRICS = "metrics.jsonl"
"""One line per finished stage."""
RESPONSES = "responses.jsonl"
"""Name of the file of an eval stage with one `Response` a line."""
SEEDS = "seeds.jsonl"
"""Name of the file of a synthesis stage with the `SeedQuestion`s that its bait prompts showed, one a line."""
LABELLED = "labelled.jsonl"
"""Labelled problems that `python -m crescent.warm_start` taught, beside the weights."""
REPORT = "report.html"
"""The run as a page."""
SET_ASIDE = "set-aside"
"""Folder of stages that are no longer valid; nothing is deleted."""


def read_config(root: Path) -> dict[str, Any]:
    """The settings of a run; empty if they cannot be read."""
    try:
        found = yaml.safe_load((root / CONFIG).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}
