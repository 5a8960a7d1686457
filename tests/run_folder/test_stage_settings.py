"""Settings that join a config later do not turn finished stages away, and hide no change of results."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from crescent.config.earlier import earlier_runs
from crescent.errors import SettingsChanged
from crescent.run_folder.manifest import MANIFEST
from crescent.run_folder.once import Once
from crescent.run_folder.stage_settings import completed


class Boxes(Enum):
    first = "first"
    last = "last"


@dataclass
class Spelling:
    units: bool = False


@dataclass
class Benchmark:
    items: int = 10
    style: str | None = field(default=None, metadata=earlier_runs(None))


@dataclass
class Task:
    name: str = "math"
    boxes: Boxes = field(default=Boxes.last, metadata=earlier_runs(Boxes.first))
    spelling: Spelling = field(default_factory=Spelling, metadata=earlier_runs(Spelling()))
    marks: list[str] = field(default_factory=lambda: ["####"], metadata=earlier_runs([]))
    undeclared: int = 0


@dataclass
class Settings:
    task: Task = field(default_factory=Task)
    benchmarks: dict[str, Benchmark] = field(default_factory=dict)


OLD = {"task": {"name": "math", "undeclared": 0}, "benchmarks": {"sums": {"items": 10}}}
"""What a manifest holds of a stage that was made before the fields joined."""


def now(task: Mapping[str, Any] | None = None, **benchmarks: Benchmark) -> dict[str, Any]:
    """Settings of today that equal the old ones, except for what is given."""
    as_before = {"boxes": "first", "spelling": {"units": False}, "marks": []}
    entries = {name: asdict(benchmark) for name, benchmark in {"sums": Benchmark(), **benchmarks}.items()}
    return {"task": {**OLD["task"], **as_before, **(task or {})}, "benchmarks": entries}


def test_a_field_that_joined_counts_as_what_runs_were_made_with_before() -> None:
    assert completed(OLD, now(), Settings) == now()


def test_a_default_that_is_not_what_runs_were_made_with_is_a_difference() -> None:
    assert Task().boxes is Boxes.last
    assert completed(OLD, now({"boxes": "last"}), Settings) != now({"boxes": "last"})


@pytest.mark.parametrize(
    "changed",
    [
        now({"name": "code"}),
        now({"marks": ["####"]}),
        now({"spelling": {"units": True}}),
        now(sums=Benchmark(style="number")),
        now(more=Benchmark()),
    ],
    ids=["an old field", "an added list", "an added config", "an added field of an entry", "a new entry, all defaults"],
)
def test_whatever_else_differs_is_still_a_difference(changed: dict[str, Any]) -> None:
    assert completed(OLD, changed, Settings) != changed


def test_a_field_that_joined_without_a_word_about_earlier_runs_is_a_difference() -> None:
    old = {**OLD, "task": {"name": "math"}}
    assert completed(old, now(), Settings) != now()


def test_a_field_that_went_is_a_difference() -> None:
    old = {**OLD, "task": {**OLD["task"], "gone": 1}}
    assert completed(old, now(), Settings) != now()


def test_settings_that_a_stage_does_not_depend_on_are_not_made_up() -> None:
    assert completed({"task": {"name": "math"}}, {"task": {"name": "math"}}, Settings) == {"task": {"name": "math"}}


def test_what_was_recorded_is_never_overwritten() -> None:
    recorded = now({"boxes": "last"})
    assert completed(recorded, now(), Settings) == recorded


class Silent:
    """Listens to nothing."""

    def started(self, stage: str, resumed: bool) -> None: ...

    def finished(self, stage: str, metrics: Mapping[str, float], seconds: float, fresh: bool) -> None: ...

    def reused(self, stage: str, metrics: Mapping[str, float], seconds: float, run: str) -> None: ...

    def not_reused(self, stage: str, why: str) -> None: ...

    def noticed(self, stage: str, what: str) -> None: ...


def make(root: Path, settings: Mapping[str, Any]) -> None:
    Once(root, Silent(), schema=Settings)("a", lambda folder: {}, settings, {})


def test_a_stage_made_before_a_field_joined_is_found_and_left_as_it_is(tmp_path: Path) -> None:
    make(tmp_path, OLD)
    manifest = (tmp_path / "a" / MANIFEST).read_bytes()
    assert Once(tmp_path, Silent(), schema=Settings).foresee("a", now()).hit
    make(tmp_path, now())
    assert (tmp_path / "a" / MANIFEST).read_bytes() == manifest


def test_a_stage_made_before_a_field_joined_is_refused_with_what_the_field_stood_for(tmp_path: Path) -> None:
    make(tmp_path, OLD)
    assert not Once(tmp_path, Silent(), schema=Settings).foresee("a", now({"boxes": "last"})).hit
    with pytest.raises(SettingsChanged) as refused:
        make(tmp_path, now({"boxes": "last"}))
    assert "task.boxes: 'first' → 'last'" in str(refused.value)
    assert "task.marks" not in str(refused.value), "only what differs is named"
