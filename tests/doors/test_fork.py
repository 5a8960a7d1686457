"""Another run that starts from finished stages of a recorded one."""

import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from crescent.doors.fork import fork_run, is_before
from crescent.errors import BadConfig, DataSaysNo, SettingsChanged
from crescent.run_folder.manifest import MANIFEST
from crescent.run_folder.once import Once
from crescent.run_folder.places import read_config
from crescent.tracking.ledger import UploadLedger

RECORDED = Path(__file__).parent.parent / "recorded" / "run_before_wings.tar.gz"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished first round and half a second one."""
    with tarfile.open(RECORDED) as packed:
        packed.extractall(tmp_path, filter="data")
    return tmp_path / "runs/smoke"


class Silent:
    """An observer that reports nothing."""

    def started(self, stage: str, resumed: bool) -> None: ...

    def finished(self, stage: str, metrics: object, seconds: float, fresh: bool) -> None: ...

    def reused(self, stage: str, metrics: object, seconds: float, run: str) -> None: ...

    def not_reused(self, stage: str, why: str) -> None: ...

    def noticed(self, stage: str, what: str) -> None: ...


def made_from(stage: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((stage / MANIFEST).read_text())["made_from"]
    return found


def test_a_fork_holds_the_stages_before_the_one_it_starts_with_linked_and_under_its_own_name(run: Path) -> None:
    said: list[str] = []
    new = fork_run(run, "smoke-b", "round-1/train", said.append)
    assert sorted(path.relative_to(new).as_posix() for path in new.glob("*/*/")) == [
        "base/benchmarks",
        "base/eval",
        "base/reliability",
        "base/replay",
        "round-1/pairs",
        "round-1/synthesis",
    ]
    votes = "round-1/synthesis/votes.jsonl"
    assert (new / votes).stat().st_ino == (run / votes).stat().st_ino
    assert read_config(new)["run"]["name"] == "smoke-b"
    assert UploadLedger(new).identity() != UploadLedger(run).identity()
    assert UploadLedger(new).loop_id() != UploadLedger(run).loop_id()
    assert "run.name=smoke-b" in said[-1]


def test_without_a_limit_everything_finished_is_taken_but_verdicts(run: Path) -> None:
    new = fork_run(run, "smoke-b", None, print)
    assert (new / "round-1/eval").is_dir()
    assert not (new / "round-1/verdict").exists()


def test_what_was_forked_counts_whatever_the_settings_are_except_evaluations(run: Path) -> None:
    new = fork_run(run, "smoke-b", None, print)

    def ask(root: Path, stage: str, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> None:
        def work(folder: Path) -> dict[str, float]:
            raise AssertionError("it is finished")

        Once(root, Silent(), versions=[made_from(run / stage)["version"]])(stage, work, settings, inputs)

    for stage in ("round-1/pairs", "round-1/eval"):
        recorded = made_from(run / stage)
        other = {**recorded["settings"], "seed": 77}
        ask(new, stage, recorded["settings"], recorded["inputs"])
        with pytest.raises(SettingsChanged):
            ask(run, stage, other, recorded["inputs"])
        if stage == "round-1/pairs":
            ask(new, stage, other, recorded["inputs"])
        else:
            with pytest.raises(SettingsChanged):
                ask(new, stage, other, recorded["inputs"])
        with pytest.raises(SettingsChanged):
            ask(new, stage, recorded["settings"], {**recorded["inputs"], "votes": "0" * 16})


def test_a_fork_that_cannot_be_made_says_why_and_leaves_nothing(run: Path) -> None:
    for name, before, says in (
        ("Smoke B", None, "cannot be the name of a run"),
        ("smoke", None, "exists already"),
        ("b", "round-0", r"--from round-0: name the first round or stage"),
        ("b", "round-1/trian", r"--from round-1/trian"),
    ):
        with pytest.raises(BadConfig, match=says):
            fork_run(run, name, before, print)
    (run / "round-1/pairs/pairs.jsonl").write_text("damaged")
    with pytest.raises(DataSaysNo, match=r"round-1/pairs: .*crescent repair"):
        fork_run(run, "b", None, print)
    assert not (run.parent / "b").exists()


@pytest.mark.parametrize(
    ("stage", "limit", "before"),
    [
        ("base/eval", "round-1", True),
        ("round-1/eval", "round-2", True),
        ("round-2/synthesis", "round-2", False),
        ("round-2/pairs", "round-2/train", True),
        ("round-2/train", "round-2/train", False),
        ("teacher/eval", "round-1/synthesis", True),
    ],
)
def test_the_order_of_stages_decides_what_is_taken(stage: str, limit: str, before: bool) -> None:
    assert is_before(stage, limit) is before
