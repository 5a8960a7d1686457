"""Settings: every experiment composes, and what cannot work is refused with the value, the rule and the fix."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from crescent.config import Config, EvalJob, TrainJob, read_job, write_job
from crescent.errors import BadConfig

importlib.import_module("crescent.doors.hydra_door")  # registers the schema with Hydra
ROOT = Path(__file__).parents[2]
EXPERIMENTS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))


def composed(*overrides: str) -> Config:
    with initialize_config_module("conf", version_base="1.3"):
        found = OmegaConf.to_object(compose("config", overrides=list(overrides)))
    assert isinstance(found, Config)
    return found


def crescent(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "crescent.loop", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes(experiment: str) -> None:
    assert composed(f"+experiment={experiment}").run.rounds >= 1


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_opens_with_result_cost_and_command(experiment: str) -> None:
    head = (ROOT / "conf" / "experiment" / f"{experiment}.yaml").read_text().splitlines()[:12]
    for word in ("# Result:", "# Cost:", f"# Command: python -m crescent.loop +experiment={experiment}"):
        assert any(line.startswith(word) for line in head), word


def test_every_option_of_every_group_composes() -> None:
    apart = ("experiment", "start", "hydra", "__pycache__")
    groups = [path for path in (ROOT / "conf").iterdir() if path.is_dir() and path.name not in apart]
    assert len(groups) == 11
    with initialize_config_module("conf", version_base="1.3"):
        for group in groups:
            for option in group.glob("*.yaml"):
                compose("config", overrides=[f"{group.name}={option.stem}"])
        for start in (ROOT / "conf" / "start").glob("*.yaml"):
            assert compose("warm_start", overrides=[f"+start={start.stem}"]).run.name != "warm-sums"


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("consensus.samples=1", ["consensus.samples=1", "a vote needs at least 2 answers", "8 is usual"]),
        ("consensus.min_agreement=1.5", ["consensus.min_agreement=1.5", "[0, 1]"]),
        ("diversify.threshold=0", ["diversify.threshold=0", "(0, 1]"]),
        ("run.name=../../x", ["run.name='../../x'", "must match"]),
        ("tracking.project=me/crescent", ["tracking.project='me/crescent'", "without / "]),
        ("train.micro_batch=7", ["train.micro_batch=7", "must divide train.batch=64"]),
        ("task.answer_prompt=hello", ["task.answer_prompt='hello'", "{question}"]),
        ("serving.urls=['http://me:secret@host/v1']", ["must not contain a password", "CRESCENT_API_KEY"]),
        ("serving.urls=[localhost:8000]", ["serving.urls=localhost:8000", "http://"]),
        ("model.context=512", ["model.context=512", "max_tokens"]),
        ("train.lora.rank=1024", ["train.lora.rank=1024", "at most rank 512", "serving.child=reload"]),
        ("train.trainer=fake", ["train.trainer=fake", "serving.engine=fake"]),
        ("eval.benchmarks.gsm8k_dev.split=test", ["verdict.gate=significant", "dev benchmark", "verdict.gate=off"]),
    ],
)
def test_a_value_that_cannot_work_is_refused_with_value_rule_and_fix(override: str, parts: list[str]) -> None:
    with pytest.raises(BadConfig) as refused:
        composed(override)
    for part in parts:
        assert part in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["+experiment=qwen70b"], ["experiment/qwen70b", "quickstart", "smoke"]),
        (["consensus.smaples=8"], ["consensus.smaples", "did you mean consensus.samples"]),
        (["consensus.samples=many"], ["consensus.samples", "'many'"]),
        (["verdict.gate=maybe"], ["verdict.gate", "significant"]),
        (["consensus.samples=1"], ["consensus.samples=1"]),
        (["consensus=unanimity"], ["consensus/unanimity", "majority"]),
    ],
)
def test_a_bad_command_line_ends_with_2_and_one_cause(arguments: list[str], parts: list[str], tmp_path: Path) -> None:
    ended = crescent(*arguments, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")
    assert "Traceback" not in ended.stderr
    for part in parts:
        assert part in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_and_refusals_import_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys, crescent.loop\n"
        "sys.argv = ['crescent', 'consensus.samples=1']\n"
        "try:\n    crescent.loop.main()\n"
        "except SystemExit as ended:\n    assert ended.code == 2, ended.code\n"
        "heavy = {'torch', 'transformers', 'vllm', 'trl', 'wandb', 'aiohttp', 'datasets', 'sympy', 'scipy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-P", "-c", program], cwd=tmp_path, check=True, timeout=60)


def test_help_shows_how_to_start_and_every_setting(tmp_path: Path) -> None:
    shown = crescent("--help", cwd=tmp_path)
    assert shown.returncode == 0
    for part in ("+experiment=", "mode=plan", "quickstart", "min_agreement: 0.5"):
        assert part in shown.stdout


def test_plan_starts_nothing_and_says_what_it_costs(tmp_path: Path) -> None:
    planned = crescent("+experiment=qwen7b", "mode=plan", cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    for part in ("round-1/synthesis", "not made yet", "-point gain (80% power", "disk", "tokens, at most"):
        assert part in planned.stdout
    assert list(tmp_path.iterdir()) == []


def test_brackets_in_a_name_are_text_and_no_markup(tmp_path: Path) -> None:
    planned = crescent("+experiment=smoke", "mode=plan", "run.root='some [bold] folder'", cwd=tmp_path)
    assert "some [bold] folder/smoke (new)" in planned.stdout


def test_jobs_survive_the_way_through_their_file(tmp_path: Path) -> None:
    cfg = composed("+experiment=instruct_sums")
    for job in (
        TrainJob(cfg.model, cfg.train, pairs="pairs.jsonl", output="out", seed=3),
        EvalJob(cfg.eval, cfg.task, urls=["http://127.0.0.1:1/v1"], model="m", output="out"),
    ):
        write_job(tmp_path / "job.yaml", job)
        assert read_job(tmp_path / "job.yaml", type(job)) == job


def test_a_job_with_a_misspelt_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("modle: x\n")
    with pytest.raises(BadConfig, match="modle"):
        read_job(tmp_path / "job.yaml", TrainJob)
