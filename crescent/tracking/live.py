"""The training that is under way, as the W&B run that its stage will have when it is finished."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crescent.records import round_label
from crescent.run_folder.manifest import SCRATCH
from crescent.run_folder.once import KEY

UNFINISHED = "round-*/train.partial"
CURVE_AXES = {"train/*": "train/step"}


def stages_under_way(root: Path) -> Iterator[tuple[str, Path]]:
    """Training stages that have made at least one step and are not finished, with their progress files."""
    for folder in sorted(root.glob(UNFINISHED)):
        progress = folder / "progress.jsonl"
        if progress.is_file() and not folder.with_suffix("").exists():
            yield f"{folder.parent.name}/train", progress


def settings_under_way(root: Path, stage: str) -> dict[str, Any]:
    """What a stage under way is made from, as far as it can be read: `version`, `settings`, `inputs`."""
    try:
        found = json.loads((root / f"{stage}.partial" / SCRATCH / KEY).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def name_of(run: str, stage: str) -> str:
    """Name of a training stage's W&B run: `qwen7b-r01-train`."""
    return f"{run}-{round_label(number_of(stage))}-train"


def number_of(stage: str) -> int:
    return int(re.findall(r"\d+", stage)[0])
