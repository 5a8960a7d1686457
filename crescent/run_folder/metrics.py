"""metrics.jsonl: one line per stage and metric, appended once and read back."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from crescent.run_folder.once import Metrics


class MetricsFile:
    """One line a finished stage, each stage once, whatever is interrupted and repeated."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[str, dict[str, Any]] = {line["stage"]: line for line in read_metrics(path.parent)}

    def record(self, stage: str, metrics: Metrics, seconds: float, replace: bool) -> bool:
        """Write the stage down; returns whether it was not there before."""
        line = {"stage": stage, "round": round_of(stage), "seconds": seconds, **metrics}
        if self.lines.get(stage) == line and not replace:
            return False
        self.lines[stage] = line
        staged = self.path.with_suffix(".new")
        staged.write_text("".join(json.dumps(line) + "\n" for line in self.lines.values()))
        staged.replace(self.path)
        return True


def round_of(stage: str) -> int:
    """`round-3/train` → 3, `base/eval` → 0."""
    first = stage.split("/")[0]
    return int(first.removeprefix("round-")) if first.startswith("round-") else 0


def read_metrics(root: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`; torn ones, and what is no stage's line, are left out."""
    return [line for line in _read_lines(root / "metrics.jsonl") if line]


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The stages' lines; in place of each that is none, an empty one."""
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
