"""The recipe of docs/tracking.md for a sweep whose parameters W&B chooses, run by W&B's own commands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from wandb_server import StandIn

from crescent.run_folder.metrics import read_metrics

DOCS = Path(__file__).parents[2] / "docs" / "tracking.md"
SMALL = ("+experiment=smoke", "run.rounds=1", "bait.questions=8", "eval.benchmarks.sums_dev.items=8")
NUMBER = "1234e567"
"""W&B's ids are eight digits and lower-case letters, and may look like a number."""
FIRST = {"train.learning_rate": 0.00001, "consensus.min_agreement": 0.5}
SECOND = {"train.learning_rate": 0.0003, "consensus.min_agreement": 0.625}
STAGES = [f"round-1/{kind}" for kind in ("synthesis", "pairs", "train", "eval", "verdict")]


def documented() -> str:
    """The recipe's sweep.yaml, of an experiment that takes seconds."""
    (recipe,) = re.findall(r"```yaml\n# sweep\.yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    small = "\n".join(f"  - {setting}" for setting in (*SMALL, "~eval.benchmarks.sums_test"))
    assert recipe.count("  - +experiment=qwen7b") == 1
    return str(recipe.replace("  - +experiment=qwen7b", small))


def test_an_agent_of_wandb_runs_a_sweep_and_resumes_a_run_that_was_stopped(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(documented())
    known = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    ours = {"PATH": f"{Path(sys.executable).parent}:{known['PATH']}", "WANDB_CONFIG_DIR": str(tmp_path / "settings")}
    with StandIn() as server:
        env = {**known, **ours, **server.environment, **server.proxy}

        def wandb(*arguments: str) -> str:
            ended = subprocess.run(
                ["wandb", *arguments],
                cwd=tmp_path,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=240,
                text=True,
                check=True,
            )
            return ended.stderr

        server.points = [{"ab12cd34": FIRST}, {"ab12cd34": FIRST, NUMBER: SECOND}]
        server.stops = ["ab12cd34"]
        assert "wandb agent me/crescent/sweep123" in wandb("sweep", "--project", "crescent", "sweep.yaml")
        output = wandb("agent", "me/crescent/sweep123")

    assert output.count("interrupted by SIGTERM") == 1, output
    assert sorted(folder.name for folder in (tmp_path / "runs").iterdir()) == [NUMBER, "ab12cd34"]
    points = {run.id: run for run in server.runs.values() if run.job_type == "loop"}
    assert set(points) == {"ab12cd34", NUMBER}
    metric = server.sweep["metric"]["name"]
    for name, parameters in (("ab12cd34", FIRST), (NUMBER, SECOND)):
        stages = [line["stage"] for line in read_metrics(tmp_path / "runs" / name)]
        assert stages == ["base/benchmarks", "base/eval", *STAGES]
        point = points[name]
        assert (point.sweep, point.exit_code, point.steps) == ("sweep123", 0, list(range(len(stages))))
        assert {key: point.config.get(key) for key in parameters} == parameters
        assert point.config["train"]["learning_rate"] == parameters["train.learning_rate"]
        assert point.config["consensus"]["min_agreement"] == parameters["consensus.min_agreement"]
        gains = [row[metric] for row in point.rows if metric in row]
        assert [row["round"] for row in point.rows if metric in row] == [0, 1]
        accuracies = [row["best/sums_dev"] for row in point.rows if metric in row]
        assert gains == [0.0, pytest.approx(accuracies[1] - accuracies[0])], "W&B takes the last one"
        of_stages = [run for run in server.runs.values() if run.name.startswith(f"{name}-")]
        assert len(of_stages) == 4
        assert {(run.group, run.sweep) for run in of_stages} == {(name, None)}
    assert not [request for request in server.asked if request.startswith(("CONNECT", "http"))], (
        "no other host was contacted"
    )
