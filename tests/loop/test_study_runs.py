"""A study from the command line: runs under a declaration, and what is read of them."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from smoke_runs import run_smoke

from crescent.config import as_settings
from crescent.judging.deviations import deviations
from crescent.judging.item_records import read_records
from crescent.judging.study import judge_study
from crescent.reading.study import read_study, read_study_runs
from crescent.run_folder.declaration import DECLARATIONS
from crescent.run_folder.manifest import REUSED

ONCE = ("+experiment=smoke_study", "hydra.mode=RUN", "bait.questions=20", "eval.benchmarks.sums_dev.items=10")


def run_study(root: Path, name: str, *overrides: str) -> Path:
    loop = [sys.executable, "-P", "-m", "crescent.loop", *ONCE, f"run.root={root}", f"run.name={name}", *overrides]
    ended = subprocess.run(loop, capture_output=True, text=True, check=False, timeout=280)
    assert ended.returncode == 0, ended.stderr
    return root / name


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One run under the declaration, one of another arm, and one without a declaration."""
    root = tmp_path_factory.mktemp("study")
    majority = run_study(root, "majority")
    return {
        "majority": majority,
        "shuffled": run_study(root, "shuffled", "pairs.labels=shuffled", f"run.reuse=[{majority}]"),
        "undeclared": run_study(root, "undeclared", "~study", f"run.reuse=[{majority}]"),
    }


def test_runs_with_and_without_a_study_share_their_stages(runs: dict[str, Path]) -> None:
    reused = {path.name.removesuffix(REUSED) for path in runs["undeclared"].glob(f"round-1/*{REUSED}")}
    assert reused == {"synthesis", "pairs", "train", "eval"}, "all but the verdict, which names its run"


def test_the_declaration_stands_in_config_and_run_folder(runs: dict[str, Path]) -> None:
    declared = read_study("smoke")
    assert read_study(str(runs["majority"] / "config.yaml")) == declared
    lines = (runs["majority"] / DECLARATIONS).read_text().splitlines()
    assert [json.loads(line)["digest"] for line in lines] == [declared.digest]
    assert json.loads(lines[0])["declaration"] == as_settings(declared)
    assert not (runs["undeclared"] / DECLARATIONS).exists()


def test_what_the_records_say_is_what_the_run_folders_say(runs: dict[str, Path], tmp_path: Path) -> None:
    study = read_study("smoke")
    folders = [runs["majority"], runs["shuffled"]]
    out, again, file = (tmp_path / name for name in ("a.md", "b.md", "records.json.gz"))
    compare = [sys.executable, "-P", "-m", "crescent", "compare", "--study", "smoke", "--records", str(file)]
    for command in ([*compare, "--out", str(out), *map(str, folders)], [*compare, "--out", str(again)]):
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
    assert again.read_text() == out.read_text()
    assert "cannot be told yet" in out.read_text(), "seed 2 was not run"
    records = read_records(file)
    assert records == read_study_runs(study, folders)
    scores = json.loads((runs["majority"] / "round-1/eval/scores.json").read_text())
    arm = next(row for row in judge_study(study, records).models if row.name == "majority")
    by_name = {score["benchmark"]: score for score in scores}
    assert arm.by_round == (by_name["sums_test"]["correct"] / by_name["sums_test"]["total"],)
    figures = {figure.value: value for figure, value in arm.secondary.items()}
    assert figures["vote"] == pytest.approx(by_name["sums_test"]["majority"])
    assert figures["passed"] == pytest.approx(by_name["sums_test"]["pass_at"]["4"])
    assert figures["greedy"] == by_name["sums_greedy"]["correct"] / by_name["sums_greedy"]["total"]
    assert figures["unparsed"] == by_name["sums_test"]["unparsed"] / by_name["sums_test"]["total"]
    assert 0 < figures["likelihood"] < 1
    assert json.loads(gzip.decompress(file.read_bytes()))["digest"] == study.digest


def test_rounds_are_recorded_with_their_counts_and_their_labels(runs: dict[str, Path]) -> None:
    majority, shuffled = read_study_runs(read_study("smoke"), [runs["majority"], runs["shuffled"]]).runs
    first, other = majority.rounds[1], shuffled.rounds[1]
    assert majority.rounds[0].evaluation == shuffled.rounds[0].evaluation, "arms share their base"
    assert first.synthesis == other.synthesis
    assert first.questions == 20
    assert first.kept == other.kept
    assert first.labels_known == first.pairs
    assert (first.labels_right or 0) > 0.5 * (first.pairs or 0)
    assert other.labels_right == 0, "answers to other questions"
    assert sum(vote.count for vote in first.votes) <= 20


def test_an_undeclared_run_is_a_deviation(runs: dict[str, Path]) -> None:
    study = read_study("smoke")
    records = read_study_runs(study, [runs["undeclared"], runs["shuffled"]])
    assert deviations(study, records) == ["made without a declaration (undeclared)"]


def test_a_run_of_something_else_is_no_part_of_a_study(tmp_path: Path) -> None:
    study = read_study("smoke")
    other = run_smoke(tmp_path, "other", "run.rounds=1", "run.seed=5")
    lines = deviations(study, read_study_runs(study, [other]))
    assert "seed 5 is not declared: left out (other)" in lines
    assert "made without a declaration (other)" in lines
