"""The record that declares a metric; all metrics are in `crescent.run_folder.metric_names`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache

MONITOR = "monitor/"
"""Prefix of the collapse monitors among the metrics of a synthesis."""
LOOP = "round/"
"""Prefix of everything in the loop's W&B run."""
EVERY_STAGE = "*"
"""In place of a stage: every stage writes the metric."""
READ = "read"
"""In place of a stage: no stage writes the metric; it is computed when a run is read."""
RUN = "run"
"""In place of a stage: the run as a whole, by its accepted checkpoints; the name in W&B has no prefix."""
STEP = "step"
"""In place of a stage: one value per optimizer step, in the trainer's progress file."""


class Unit(Enum):
    """What a value counts or measures, as it is stored."""

    count = "count"
    share = "share"
    """In [0, 1]; tables show it in percent."""
    points = "points"
    """Difference of two shares, in [-1, 1]; tables show it times 100."""
    probability = "probability"
    seconds = "seconds"
    tokens = "tokens"
    characters = "characters"
    bits = "bits"
    nats = "nats"
    number = "number"
    """Without a dimension."""


@dataclass(frozen=True)
class Metric:
    """One metric: where it comes from, its name, unit, label and meaning."""

    stage: str
    """Kind of the stage that it is about, `synthesis` for `round-3/synthesis`; or `EVERY_STAGE`, `READ`, `RUN`,
    `STEP`."""
    name: str
    """Name in `metrics.jsonl` and in the stage's manifest, or a pattern for names: `{benchmark}/accuracy`."""
    unit: Unit
    label: str
    """Name on screen, in reports and in W&B's view. No other metric has the same."""
    meaning: str
    """What the value is, as a noun phrase without a full stop."""
    aliases: tuple[str, ...] = ()
    """Names that earlier versions gave it."""

    def of(self, metrics: Mapping[str, object]) -> float | None:
        """The value among the metrics of one stage, under its name or an earlier one; `None` where it is absent."""
        found = (metrics.get(name) for name in (self.name, *self.aliases))
        return next((value for value in found if isinstance(value, int | float)), None)

    def find(self, metrics: Mapping[str, object]) -> dict[str, float]:
        """All values of a pattern by what its first place stands for: benchmark, reason, …"""
        matches = ((name_pattern(self.name).fullmatch(name), value) for name, value in metrics.items())
        return {match[1]: value for match, value in matches if match and isinstance(value, int | float)}

    def named(self, **places: object) -> str:
        """The name with its places filled: `named(benchmark="gsm8k")`."""
        return self.name.format(**places)

    @property
    def monitor(self) -> str:
        """Name of a collapse monitor without its prefix, as `crescent.judging.collapse` uses it."""
        return self.name.removeprefix(MONITOR)

    @property
    def explained(self) -> str:
        """Label and meaning, for a line below a table."""
        return f"{self.label}: {self.meaning[:1].lower()}{self.meaning[1:]}"

    @property
    def heading(self) -> str:
        """Label with the unit in which a table shows the value."""
        return f"{self.label} %" if self.unit is Unit.share else self.label

    @property
    def title(self) -> str:
        """Label with the unit in which the value is stored, for charts of stored values."""
        return f"{self.label} ({self.unit.value})"

    @property
    def in_loop(self) -> str:
        """Name in the loop's W&B run."""
        return self.name if self.stage == RUN else f"{LOOP}{self.stage}/{self.name}"


@cache
def name_pattern(name: str) -> re.Pattern[str]:
    """Regular expression for the names that a pattern stands for, one group per place."""
    return re.compile(re.sub(r"\\\{\w+\\\}", "(.+)", re.escape(name)))
