"""Runs of a sweep: named by what varies, identified by their settings, and compared at the end."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from crescent.config.sweep import SweepConfig, check_objective
from crescent.doors.hydra_door import SweptKeys
from crescent.doors.reusable import sweep_runs
from crescent.doors.sweep import SWEPT, conclude_sweep, show_sweep, sweep_name
from crescent.doors.sweep_points import Point, PointsFailed, open_records, read_points, run_point
from crescent.errors import BadConfig, DataSaysNo, Interrupted

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


def ending(how: BaseException | float) -> Callable[[object], float]:
    def enter(_: object) -> float:
        if isinstance(how, BaseException):
            raise how
        return how

    return enter


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a sweep that has just begun."""
    monkeypatch.setenv("CRESCENT_SWEEP_POINTS", "of an earlier sweep")
    open_records(tmp_path)
    return tmp_path


def test_every_point_leaves_its_end_and_one_that_fails_ends_no_other(
    records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_point(Point(0, "a"), ending(0.5)) == 0.5
    assert run_point(Point(1, "b"), ending(DataSaysNo("too few\nquestions"))) is None, "a trial without a value failed"
    assert run_point(Point(2, "c"), ending(KeyError("a bug"))) is None
    assert [(point.exit_code, point.cause, point.objective) for point in read_points()] == [
        (0, "", 0.5),
        (65, "too few questions", None),
        (1, "KeyError: 'a bug'", None),
    ]
    shown = capsys.readouterr().err
    assert "b failed (65): too few questions" in shown
    assert "Traceback" in shown, "a bug keeps its traceback"


def test_a_sweep_fails_as_its_first_failed_point_in_their_order_not_in_that_of_their_ends(records: Path) -> None:
    run_point(Point(2, "c"), ending(BadConfig("bad")))
    run_point(Point(0, "a"), ending(0.0))
    run_point(Point(1, "b"), ending(DataSaysNo("empty")))
    with pytest.raises(PointsFailed, match=r"2 of 3 runs .*\n  b \(65\): empty\n  c \(2\): bad") as failed:
        conclude_sweep(read_points())
    assert failed.value.exit_code == 65


def test_a_point_that_was_killed_counts_as_failed(records: Path) -> None:
    with pytest.raises(Interrupted):
        run_point(Point(0, "a"), ending(Interrupted("SIGTERM")))
    (killed,) = records.glob("points/*/00000.json")
    killed.write_text(json.dumps({"number": 0, "name": "a"}))  # as it was when it began
    with pytest.raises(PointsFailed, match="ended without a word") as failed:
        conclude_sweep(read_points())
    assert failed.value.exit_code == 75


@pytest.mark.parametrize(
    ("sweeper", "swept"),
    [
        ({"params": {"run.seed": "1,2", "run.rounds": "2"}}, "run.seed consensus.samples"),
        ({"params": None}, "consensus.samples"),
        (
            {"ax_config": {"params": {"train.learning_rate": {"type": "range"}}}},
            "train.learning_rate consensus.samples",
        ),
        ({}, "consensus.samples"),
    ],
)
def test_what_varies_is_known_of_every_sweeper(
    sweeper: dict[str, object], swept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRESCENT_SWEEP_POINTS", "of an earlier sweep")
    overrides = {"task": ["+experiment=smoke", "consensus.samples=choice(4,5)"]}
    hydra = {"sweep": {"dir": str(tmp_path)}, "sweeper": sweeper, "overrides": overrides}
    config = OmegaConf.create({"hydra": hydra})
    OmegaConf.set_struct(config, True)
    SweptKeys().on_multirun_start(config)
    assert os.environ[SWEPT] == swept
    assert read_points() == [], "no record of the earlier sweep"


def test_the_objective_is_known_and_no_test_benchmark() -> None:
    for name in ("gain_over_base", "accepted_rounds", "best/sums_dev"):
        check_objective(SweepConfig(name), ["sums_dev"], ["sums_test"])
    with pytest.raises(BadConfig, match="unknown; use gain_over_base or accepted_rounds or best/sums_dev"):
        check_objective(SweepConfig("best/sums"), ["sums_dev"], ["sums_test"])
    with pytest.raises(BadConfig, match="test benchmarks are only reported"):
        check_objective(SweepConfig("best/sums_test"), ["sums_dev"], ["sums_test"])


def loop(place: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-m", "crescent.loop", *arguments]
    world = {**os.environ, **variables}
    return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300, check=False, env=world)


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


POINTS = {
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "consensus.samples=1,4,5"],
    "submitit": ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5", "consensus.samples=1,4,5"],
    "optuna": [
        "hydra/sweeper=optuna",
        "hydra.sweeper.direction=maximize",
        "hydra.sweeper.sampler.seed=1",
        "hydra.sweeper.n_jobs=1",
        "hydra.sweeper.n_trials=3",
        "consensus.samples=choice(1,5,7)",
    ],
}
"""Arguments of sweeps with three points, of which the one with a single sample is refused."""


@pytest.mark.parametrize("tool", POINTS)
def test_whatever_runs_the_points_the_sweep_ends_in_the_same_way(tool: str, tmp_path: Path) -> None:
    items = ("eval.benchmarks.sums_dev.items=30", "eval.benchmarks.sums_test.items=8")
    small = ("+experiment=smoke", "run.rounds=1", "bait.questions=10", *items)
    ended = loop(tmp_path, "-m", *small, "tracking.console=quiet", *POINTS[tool])
    assert ended.returncode == 2, ended.stderr
    assert (
        "error: 1 of 3 runs of this sweep failed\n  consensus.samples=1 (2): consensus.samples=1: a vote"
        in ended.stderr
    )
    runs = sorted(folder.name for folder in tmp_path.glob("runs/smoke-*"))
    assert len(runs) == 2
    page = (tmp_path / "runs/sweeps/smoke.html").read_text()
    assert all(run in page for run in runs)
    (best,) = re.findall(r"^highest sweep\.objective  (\S+): (\S+), of 2 runs$", ended.stdout, re.MULTILINE)
    assert best[0] in runs
    if tool == "optuna":
        chosen = yaml.safe_load((tmp_path / "runs/sweeps/optimization_results.yaml").read_text())
        assert chosen["best_value"] == pytest.approx(float(best[1]), rel=1e-3), "it maximises what the runs returned"


def test_a_launcher_that_breaks_says_so_beside_the_runs_that_it_killed(tmp_path: Path) -> None:
    small = ("+experiment=smoke", "run.rounds=1", "bait.questions=10", "tracking.console=quiet")
    ended = loop(
        *(tmp_path, "-m", *small, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "consensus.samples=4,5,6,7"),
        CRESCENT_FAILPOINT="once.committed:2=kill9",
    )
    assert ended.returncode == 75, ended.stderr
    assert re.search(r"\d of \d started runs of this sweep failed", ended.stderr), ended.stderr
    assert "ended without a word, as if killed" in ended.stderr
    assert re.search(r"and the sweep itself ended, perhaps before .*: \w*(Broken|Terminated)", ended.stderr)
