"""Every shipped experiment is planned, and each kind of round runs to its end, on the fake engine and trainer."""

import importlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from crescent.config import Config, LaunchConfig
from crescent.doors.plan import show_plan
from crescent.models.estimates import disk_gib
from crescent.records import Pair, read_lines
from crescent.run_folder.manifest import MANIFEST

ROOT = Path(__file__).parents[2]
AS_QWEN7B = (
    *("qwen7b_8gpu", "multi_node", "qwen1_5b", "llama3_8b", "llama3_2_3b", "gemma2_2b"),
    "distill_7b_to_1_5b",
)
"""Experiments whose rounds are those of `qwen7b`, with another model or on another machine."""
OTHER = ("model", "launch", "eval.benchmarks", "bait.questions", "run.name", "run.rounds", "serving.replicas")
OTHER_TRAINING = ("train.accelerate", "train.batch", "train.attention", "train.student")
"""Settings in which they may differ from it: the prompts, the vote and the selection stay."""
EXPERIMENTS = sorted({path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")} - {*AS_QWEN7B})
FAKE = (
    "serving=fake",
    "train=fake",
    "model.path=fake:0.7",
    "tracking=disabled",
    "~study",
    "hydra.mode=RUN",
    "run.rounds=1",
    "bait.questions=24",
    "diversify=lexical",
    "diversify.threshold=0.99",
    "consensus.min_agreement=0.3",
    "pairs.minimum=1",
    "pairs.decontamination.similarity=null",
    "verdict.gate=off",
    "serving.start_timeout_s=200",
)
"""Everything that needs a model, a network or time is replaced; prompts, tasks, votes, arms and benchmarks stay."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The benchmarks of all experiments in the formats in which they are published, with sums in place of problems."""
    folder, dice = tmp_path_factory.mktemp("data"), random.Random(0)
    words, choices, programs, xml = [], [], [], []
    for number in range(40):
        first, second = dice.randrange(40, 90), dice.randrange(40, 90)
        asked, total = f"Shelf {number}: what is {first} + {second}?", first + second
        words.append({"question": asked, "answer": f"We add.\n#### {total}"})
        options = [f"{total + slip}" for slip in (1, 0, 2, -1)]
        choices.append({"query": f"Question: {asked}", "choices": options, "gold": 1})
        call = f"assert add{number}(1, 2) == {3 + number}"
        code = f"def add{number}(a, b):\n    return a + b + {number}"
        text = f"Write a function that returns a + b + {number}."
        programs.append({"text": text, "code": code, "test_list": [call], "test_setup_code": ""})
        xml.append(
            f'<Problem ID="n{number}"><Body>Shelf {number}.</Body><Question>What is {first} + {second}?</Question>'
            f"<Solution-Type>Addition</Solution-Type><Answer>{total}</Answer><Formula>x</Formula></Problem>"
        )
    files: dict[str, list[object]] = {
        "gsm8k/train.jsonl": [*words[:20]],
        "gsm8k/test.jsonl": [*words[20:]],
        "arc_challenge/arc_challenge.jsonl": [*choices],
        "mbpp/mbpp.jsonl": [*programs],
    }
    for name, rows in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "asdiv").mkdir()
    (folder / "asdiv" / "ASDiv.xml").write_text(f"<Machine><ProblemSet>{''.join(xml)}</ProblemSet></Machine>")
    return folder


def few_items(experiment: str) -> list[str]:
    """Overrides that leave 20 items of each benchmark."""
    found = composed(f"+experiment={experiment}").eval.benchmarks
    limited = [name for name, benchmark in found.items() if benchmark.get("items")]
    return [f"eval.benchmarks.{name}.items=20" for name in limited]


def settings_of(experiment: str) -> dict[str, object]:
    """Every setting of a composed experiment by its key."""

    def flat(value: object, key: str) -> Iterator[tuple[str, object]]:
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                yield from flat(inner, f"{key}.{name}" if key else name)
        else:
            yield key, value

    return dict(flat(OmegaConf.to_container(composed(f"+experiment={experiment}"), enum_to_str=True), ""))


def composed(*overrides: str) -> DictConfig:
    importlib.import_module("crescent.doors.hydra_door")  # registers the schema with Hydra
    with initialize_config_module("conf", version_base="1.3"):
        return compose("config", overrides=list(overrides))


@pytest.mark.parametrize("experiment", AS_QWEN7B)
def test_an_experiment_with_another_model_or_machine_has_the_rounds_of_qwen7b(experiment: str) -> None:
    own, qwen = settings_of(experiment), settings_of("qwen7b")
    differing = {key for key in own.keys() | qwen.keys() if own.get(key) != qwen.get(key)}
    assert differing
    assert {key for key in differing if not key.startswith((*OTHER, *OTHER_TRAINING))} == set()


@pytest.mark.parametrize("experiment", AS_QWEN7B)
def test_an_experiment_with_another_model_or_machine_is_planned(
    experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # What the machine of the test lacks: GPUs, and a disk that is large enough.
    cfg = OmegaConf.to_object(composed(f"+experiment={experiment}", "train.accelerate=cpu", f"run.root={tmp_path}"))
    assert isinstance(cfg, Config)
    free = disk_gib(cfg)
    assert free is not None
    assert free < 10
    show_plan(replace(cfg, serving=replace(cfg.serving, replicas="auto"), launch=LaunchConfig()))
    printed = capsys.readouterr().out
    assert "round-1/verdict" in printed
    assert "cannot run here" not in printed
    assert "cost        at most " in printed


@pytest.mark.timeout(400)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_is_planned_and_runs_to_its_end(experiment: str, data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "crescent.loop", f"+experiment={experiment}", *FAKE]
    settings = [f"run.root={tmp_path}", "run.name=x", *few_items(experiment)]
    environment = {**os.environ, "CRESCENT_DATA": str(data), "HF_HUB_OFFLINE": "1"}
    for mode in ("plan", "run"):
        ended = subprocess.run(
            [*command, *settings, f"mode={mode}"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        assert ended.returncode == 0, ended.stderr
        assert "Traceback" not in ended.stderr
        assert "cannot run here" not in ended.stdout
    root = tmp_path / "x"
    assert (root / "round-1" / "verdict" / MANIFEST).exists()
    assert len(read_lines(root / "round-1" / "pairs" / "pairs.jsonl", Pair)) >= 5, "the questions are answered"
