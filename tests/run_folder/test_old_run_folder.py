"""A run folder that earlier code left resumes: what is finished is taken as found, the rest is made.

tests/recorded/README.md describes the recorded folder. Two promises are kept apart here. A finished stage is never made
again, whatever changed in the code since: that holds without exception. Both codes make the same stage from the same
inputs: that holds only for kinds of stages that compute and write the same as then, and `MADE_DIFFERENTLY` names the
others.
"""

import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from crescent.records import Verdict, read_lines
from crescent.run_folder.manifest import MANIFEST, damage

RECORDED = Path(__file__).parent.parent / "recorded" / "run_before_wings.tar.gz"
COMMAND = [
    *(sys.executable, "-P", "-m", "crescent.loop", "+experiment=smoke"),
    *("eval.benchmarks.sums_dev.source=svamp", "eval.benchmarks.sums_dev.items=null", "~eval.benchmarks.sums_test"),
    *("bait.questions=24", "eval.reliability=8", "pairs.replay.share=0.1", "run.rounds=2"),
]
"""The command that the recorded run was started with, but for its first attempt's `run.rounds=1`."""
FINISHED = {
    *("base/benchmarks", "base/eval", "base/reliability", "base/replay"),
    *("round-1/synthesis", "round-1/pairs", "round-1/train", "round-1/eval", "round-1/verdict"),
}
"""Stages that the recorded run had finished; it was interrupted in round-2/synthesis."""
MADE_DIFFERENTLY = {
    "verdict": "its reason is a sentence for people, which may be worded anew",
}
"""Kinds of stages that today's code makes otherwise than the code that recorded the folder, each with the reason.

Add a kind here after a deliberate change of what it computes or how it writes it. A new setting does not belong here:
it declares what it stands for in earlier runs (crescent/config/earlier.py).
"""


def resume(folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "CRESCENT_DATA": "data"}
    return subprocess.run(
        COMMAND, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=250
    )


def files(root: Path) -> dict[str, bytes]:
    """Everything in the finished stages."""
    paths = [path for path in root.rglob("*") if path.is_file()]
    stage_of = {path: "/".join(path.relative_to(root).parts[:2]) for path in paths}
    return {str(path.relative_to(root)): path.read_bytes() for path, stage in stage_of.items() if stage in FINISHED}


def manifests(root: Path) -> dict[str, dict[str, Any]]:
    paths = sorted(root.glob(f"*/*/{MANIFEST}"))
    return {path.parent.relative_to(root).as_posix(): json.loads(path.read_text()) for path in paths}


def unpack(folder: Path) -> Path:
    with tarfile.open(RECORDED) as archive:
        archive.extractall(folder, filter="data")
    return folder / "runs" / "smoke"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the same settings and data, made by today's code alone."""
    folder = tmp_path_factory.mktemp("undisturbed")
    root = unpack(folder)
    root.rename(folder / "recorded")
    ended = resume(folder)
    assert ended.returncode == 0, ended.stderr
    return root


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes], str]:
    """The recorded run, resumed: its folder, what was finished in it before, and what was printed."""
    folder = tmp_path_factory.mktemp("resumed")
    root = unpack(folder)
    before = files(root)
    ended = resume(folder)
    assert ended.returncode == 0, ended.stderr
    return root, before, ended.stdout


def test_the_recorded_folder_names_no_machine(tmp_path: Path) -> None:
    texts = [path for path in unpack(tmp_path).rglob("*") if path.is_file() and path.suffix != ".npy"]
    assert texts
    for path in texts:
        assert not re.search(r"/(home|root|tmp|work|Users)/|127\.0\.0\.1", path.read_text()), path


def test_every_finished_stage_is_taken_as_found(resumed: tuple[Path, dict[str, bytes], str]) -> None:
    root, before, printed = resumed
    assert {name.rsplit("/", 1)[0] for name in before if name.endswith(MANIFEST)} == FINISHED
    assert files(root) == before
    set_aside = {path.name for path in root.glob("set-aside/*")}
    assert set_aside <= {"round-2-synthesis.partial-1"}, "settings that joined since begin an unfinished stage again"
    worked_on = set(re.findall(r"\b((?:base|round-\d)/\w+): ", printed))
    assert worked_on == {f"round-2/{kind}" for kind in ("synthesis", "pairs", "train", "eval", "verdict")}


def test_the_rest_is_made_and_the_run_is_whole(resumed: tuple[Path, dict[str, bytes], str]) -> None:
    root, _, _ = resumed
    second = {stage.replace("round-1", "round-2") for stage in FINISHED if stage.startswith("round-1/")}
    assert manifests(root).keys() == FINISHED | second
    assert all(damage(root / stage) is None for stage in manifests(root))
    assert not list(root.rglob("*.partial"))
    assert not (root / "ended.json").exists()
    lines = [json.loads(line)["stage"] for line in (root / "metrics.jsonl").read_text().splitlines()]
    assert sorted(lines) == sorted(manifests(root)), "each stage has its row, once"


def test_a_resumed_run_equals_an_undisturbed_one_in_all_that_means_the_same(
    resumed: tuple[Path, dict[str, bytes], str], undisturbed: Path
) -> None:
    found, reference = manifests(resumed[0]), manifests(undisturbed)
    assert found.keys() == reference.keys()
    compared = []
    for stage, manifest in found.items():
        by_today = stage not in FINISHED
        same_inputs = manifest["made_from"]["inputs"] == reference[stage]["made_from"]["inputs"]
        # Today's code made round 2 of both: from the same inputs it must make the same, verdicts too.
        if same_inputs and (by_today or stage.rsplit("/", 1)[-1] not in MADE_DIFFERENTLY):
            changed = f"{stage} is made differently now: is that meant? Then it belongs into MADE_DIFFERENTLY"
            assert manifest["digest"] == reference[stage]["digest"], changed
            compared.append(stage)
    if not MADE_DIFFERENTLY.keys() - {"verdict"}:
        assert found.keys() - set(compared) == {"round-1/verdict"}


def test_a_resumed_run_decides_like_an_undisturbed_one(
    resumed: tuple[Path, dict[str, bytes], str], undisturbed: Path
) -> None:
    for number in (1, 2):
        path = f"round-{number}/verdict/verdict.json"
        found, expected = (read_lines(root / path, Verdict)[0] for root in (resumed[0], undisturbed))
        assert (found.action, len(found.alarms)) == (expected.action, len(expected.alarms))
        assert found.difference == pytest.approx(expected.difference)
