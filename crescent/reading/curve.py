"""The trainer's progress file: one line per optimizer step."""

import json
from collections.abc import Iterator
from pathlib import Path

from crescent.run_folder.metric import STEP
from crescent.run_folder.metric_names import current_names


def curve_file(root: Path, number: int) -> Path:
    """Progress file of a round's finished training."""
    return root / "logs" / f"round-{number}-train.progress.jsonl"


def read_steps(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """Number and metrics of each step, up to the first damaged line; a step that comes twice counts once."""
    if not path.is_file():
        return
    last = -1
    for text in path.read_text(errors="replace").splitlines():
        try:
            line = json.loads(text)
            step = int(line.pop("done"))
        except (ValueError, KeyError):
            return
        line.pop("total", None)
        if step > last:
            last = step
            numbers = {name: value for name, value in line.items() if isinstance(value, int | float)}
            yield step, current_names(STEP, numbers)
