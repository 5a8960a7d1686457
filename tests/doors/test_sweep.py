"""Runs of a sweep: named by what varies, identified by their settings, and compared at the end."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from crescent.doors.reusable import sweep_runs
from crescent.doors.sweep import SWEPT, show_sweep, sweep_name

POINT = ["+experiment=smoke", "bait.questions=20", "consensus.samples=4", "run.seed=2", "tracking.wandb=offline"]


@pytest.fixture(autouse=True)
def swept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWEPT, "consensus.samples run.seed")


def test_a_run_is_named_by_what_the_sweep_varies(tmp_path: Path) -> None:
    assert re.fullmatch(r"smoke-samples-4-seed-2-[0-9a-f]{6}", sweep_name("smoke", POINT, tmp_path))


def test_an_override_that_affects_no_result_changes_no_name(tmp_path: Path) -> None:
    more = ["run.rounds=5", "run.reuse=[runs/a]"]
    assert sweep_name("smoke", [*POINT, *more], tmp_path) == sweep_name("smoke", POINT, tmp_path)


def test_the_runs_of_a_sweep_are_found_by_their_names(tmp_path: Path) -> None:
    own, other = sweep_name("smoke", POINT, tmp_path), sweep_name("smoke", [*POINT, "bait.questions=21"], tmp_path)
    for name in (own, other, "smoke", "smoke-b", "smokes-0123ab", "smoke-labels-x-0123ag"):
        (tmp_path / name / "base").mkdir(parents=True)
    (tmp_path / "smoke-0123ab").mkdir()
    assert sweep_runs("smoke", tmp_path, own) == [tmp_path / other], "one that has not begun has nothing to give"


def test_runs_that_read_alike_have_different_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWEPT, "train.max_steps bait.temperature consensus.temperature")
    steps = (f"train.max_steps={count}" for count in (1, -1))
    temperatures = ("bait.temperature=1", "consensus.temperature=1")
    assert len({sweep_name("s", [override], tmp_path) for override in (*steps, *temperatures)}) == 4
    others = [[*POINT, "bait.questions=21"], POINT]
    names = {sweep_name("s", overrides, tmp_path) for overrides in others}
    assert len(names) == 2, "a setting that does not vary counts, too"


def test_long_names_are_cut_and_stay_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"bait.prompts.p{number}" for number in range(5)]
    monkeypatch.setenv(SWEPT, " ".join(keys))
    names = {sweep_name("smoke", [f"{key}='{'x' * 30}{last}'" for key in keys], tmp_path) for last in "ab"}
    assert len(names) == 2
    assert all(len(name) <= 64 for name in names)


def test_a_run_that_was_begun_is_resumed_whatever_varies_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = sweep_name("smoke", POINT, tmp_path)
    monkeypatch.setenv(SWEPT, "run.seed")
    assert sweep_name("smoke", POINT, tmp_path) != name
    (tmp_path / name).mkdir()
    assert sweep_name("smoke", POINT, tmp_path) == name


def test_a_sweep_of_another_name_is_never_resumed(tmp_path: Path) -> None:
    other = sweep_name("smoke-b", POINT, tmp_path)
    (tmp_path / other).mkdir()
    mine = sweep_name("smoke", POINT, tmp_path)
    assert mine != other
    assert mine[-6:] != other[-6:], "the same overrides, and not the same run"


def test_a_comparison_that_fails_costs_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    points = [tmp_path / name for name in ("a", "b")]
    for point in points:
        (point / "base").mkdir(parents=True)
    monkeypatch.setattr("crescent.reading.runs.compare_runs", lambda _: {}["gone"])
    show_sweep(points, None, None)
    assert "were not compared (KeyError: 'gone')" in capsys.readouterr().out


def loop(place: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-m", "crescent.loop", *arguments]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300, check=False)


def test_a_sweep_ends_with_a_comparison_that_includes_runs_of_an_earlier_call(tmp_path: Path) -> None:
    fixed = ("-m", "+experiment=smoke", "run.rounds=1", "bait.questions=12", "tracking.console=quiet")
    first = loop(tmp_path, *fixed, "run.seed=1")
    assert first.returncode == 0, first.stderr
    assert "report of the sweep" not in first.stdout, "one run has nothing to be compared with"
    (first_run,) = tmp_path.glob("runs/smoke-*")
    ended = loop(tmp_path, *fixed, "run.seed=1,2,-3")
    assert ended.returncode == 2, "a run that fails is reported"
    assert "run.seed" in ended.stderr
    assert first_run.is_dir()
    (two,) = tmp_path.glob("runs/smoke-seed-2-*")
    assert len(list(tmp_path.glob("runs/smoke-*"))) == 2
    assert "settings that differ" in ended.stdout
    assert "report of the sweep  runs/sweeps/smoke.html" in ended.stdout
    page = (tmp_path / "runs/sweeps/smoke.html").read_text()
    assert first_run.name in page
    assert two.name in page
    planned = loop(tmp_path, *fixed, "run.seed=1,2", "mode=plan")
    assert planned.returncode == 0
    assert planned.stdout.count("run folder") == 2
    assert "report of the sweep" not in planned.stdout
