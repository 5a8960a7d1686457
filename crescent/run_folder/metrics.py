"""`metrics.jsonl` of a run: one line per finished stage with its metrics."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from crescent.machine.disk import write_whole
from crescent.run_folder.once import Metrics
from crescent.run_folder.places import METRICS


class MetricsFile:
    """Writes one line per finished stage, also when a stage is interrupted or made again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[str, dict[str, Any]] = {line["stage"]: line for line in read_metrics(path.parent)}

    def record(self, stage: str, metrics: Metrics, seconds: float, replace: bool) -> bool:
        """Record a finished stage.

        Args:
            replace: Write the line even if the file has an equal one: the stage was made just now.

        Returns:
            Whether the file was written.
        """
        line = {"stage": stage, "round": round_of(stage), "seconds": seconds, **metrics}
        if self.lines.get(stage) == line and not replace:
            return False
        self.lines[stage] = line
        write_whole(self.path, "".join(json.dumps(line) + "\n" for line in self.lines.values()).encode())
        return True


def round_of(stage: str) -> int:
    """`round-3/train` → 3, `base/eval` → 0."""
    first = stage.split("/")[0]
    return int(first.removeprefix("round-")) if first.startswith("round-") else 0


def read_metrics(root: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`, without damaged lines and lines that belong to no stage."""
    return [line for line in metric_lines(root / METRICS) if line]


def metric_lines(path: Path) -> Iterator[dict[str, Any]]:
    """One dict per line; empty where the line is damaged or belongs to no stage."""
    if not path.is_file():
        return
    for text in path.read_text(errors="replace").splitlines():
        try:
            line: object = json.loads(text)
        except ValueError:
            line = None
        yield line if isinstance(line, dict) and _is_of_a_stage(line) else {}


def _is_of_a_stage(line: Mapping[str, Any]) -> bool:
    stage = line.get("stage")
    return isinstance(stage, str) and stage.count("/") == 1 and isinstance(line.get("round"), int)
