"""A model that the command line names: the plan, the run's name and the door follow it."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from model_folders import write_model

from crescent.config import BaitConfig, Config, Gate, ModelConfig, RunConfig, VerdictConfig
from crescent.doors.run_name import named_after_model, slug


def crescent(root: Path, *overrides: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-m", "crescent.loop", *overrides, f"run.root={root}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


def test_the_plan_and_the_name_follow_the_model_that_is_given(tmp_path: Path) -> None:
    model = write_model(tmp_path / "My-Model")
    ended = crescent(tmp_path / "runs", "+experiment=quickstart", f"model.path={model}", "mode=plan")
    assert ended.returncode == 0, ended.stderr
    assert f"{tmp_path}/runs/my-model-quickstart (new)" in "".join(ended.stdout.split("\n"))
    assert "disk        0.0 GiB" in ended.stdout
    large = crescent(tmp_path / "runs", "model.path=someone/Large-70B", "mode=plan")
    assert "a model of 70.0 billion parameters" in large.stdout
    assert "large-70b" in large.stdout


def test_a_folder_that_cannot_be_trained_is_refused_before_a_run_folder_is_made(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    (model / "tokenizer_config.json").unlink()
    ended = crescent(tmp_path / "runs", "+experiment=quickstart", f"model.path={model}")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "no chat template" in ended.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b-instruct"),
        ("/data/runs/a/round-1/train/weights", "a-round-1"),
        ("packaged:smollm2", "smollm2"),
        ("./Mein Modell/", "mein-modell"),
        ("/hub/models--org--Name-1B/snapshots/" + "0" * 40, "org-name-1b"),
    ],
)
def test_a_models_name_is_made_from_its_path(path: str, name: str) -> None:
    assert slug(path) == name


def test_a_run_is_named_after_the_model_only_if_the_command_line_names_one(tmp_path: Path) -> None:
    cfg = Config(
        bait=BaitConfig({"a": "Ask."}),
        verdict=VerdictConfig(gate=Gate.off),
        run=RunConfig(name="qwen7b", root=str(tmp_path)),
        model=ModelConfig(path="org/Mine-1B"),
    )

    def name(*given: str, swept: tuple[str, ...] = (), config: Config = cfg) -> str:
        return named_after_model(config, given, swept).run.name

    assert name("model.path") == name("model") == "mine-1b-qwen7b"
    assert name("model.path", config=replace(cfg, run=RunConfig(root=str(tmp_path)))) == "mine-1b"
    assert name() == name("model.path", "run.name") == name("model.path", swept=("model.path",)) == "qwen7b"
    assert len(name("model.path", config=replace(cfg, model=ModelConfig(path="a/" + "b" * 99)))) == 64
    (tmp_path / "qwen7b").mkdir()
    (tmp_path / "qwen7b/config.yaml").write_text("model: {path: org/Mine-1B}")
    assert name("model.path") == "qwen7b", "a run of this model that was started under the experiment's name goes on"
