"""A flag that nobody has is refused in one line, with the right form of the setting that was meant."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra._internal.utils import get_args_parser

from crescent.config import Config
from crescent.config.standalone import EvaluationConfig
from crescent.doors.unknown_flags import refuse_flags
from crescent.errors import BadConfig

GROUPS = ("experiment", "eval", "model", "tracking", "train")


def refused(*arguments: str, schema: type = Config) -> str:
    with pytest.raises(BadConfig) as error:
        refuse_flags(arguments, get_args_parser(), schema, GROUPS)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--seed=3"], "--seed: no such flag; did you mean run.seed=3; settings are written KEY=VALUE"),
        (["--rounds", "2"], "did you mean run.rounds=2;"),
        (["+experiment=smoke", "--rounds", "2", "-m"], "did you mean run.rounds=2;"),
        (["--run.seed", "3"], "did you mean run.seed=3;"),
        (["--learning-rate=1e-5"], "did you mean train.learning_rate=1e-5;"),
        (["--offset", "-3"], "--offset: no such flag; "),
        (["--lr", "-1"], "did you mean train.learning_rate=-1;"),
        (["--model", "my model"], "did you mean 'model.path=my model';"),
        (["--experiment", "smoke"], "did you mean +experiment=smoke;"),
        (["--samples", "4"], "did you mean consensus.samples=4 or eval.samples=4;"),
        (["--sampels", "4"], "did you mean consensus.samples=4 or eval.samples=4;"),
        (["--run.sed", "4"], "did you mean run.seed=4;"),
        (["--seed"], "did you mean run.seed=…;"),
        (["--rounds", "run.seed=3"], "did you mean run.rounds=…;"),
        (["--rounds", "--seed=3"], "did you mean run.rounds=…; --seed: no such flag; did you mean run.seed=3;"),
        (["--dry-run"], "did you mean mode=plan;"),
        (["--multrun"], "did you mean --multirun;"),
        (["--config", "x"], "did you mean --config-"),
        (["-x"], "-x: no such flag; settings are written KEY=VALUE, without dashes, and the flags are --help"),
        (["--zzzzzz=1"], "and the flags are --help"),
        (["--cfg", "banana"], "invalid choice: 'banana'"),
        (["-p"], "expected one argument"),
    ],
)
def test_a_flag_that_nobody_has_is_refused_with_what_was_meant(arguments: list[str], told: str) -> None:
    assert told in refused(*arguments)


def test_the_settings_of_an_evaluation_are_those_that_it_has() -> None:
    assert "did you mean rescore=runs/a;" in refused("--rescore", "runs/a", schema=EvaluationConfig)
    assert "rescore" not in refused("--rescore", "runs/a").partition(":")[2]


def test_what_hydra_has_is_left_to_it() -> None:
    settings = ["+experiment=smoke", "run.seed=-1", "~bait.prompts.a"]
    for flags in (["-m"], ["--cfg", "job", "-p", "train"], ["--config-dir", "x"], ["--info"], ["-h"], ["--hydra-help"]):
        refuse_flags([*settings, *flags], get_args_parser(), Config, GROUPS)


@pytest.mark.parametrize(
    ("module", "arguments", "told"),
    [
        ("crescent.loop", ["+experiment=smoke", "--seed=3"], "run.seed=3"),
        ("crescent", ["--rounds", "2", "+experiment=smoke"], "run.rounds=2"),
        ("crescent", ["doctor", "--seed", "3"], "run.seed=3"),
        ("crescent.warm_start", ["-x"], "the flags are --help"),
        ("eval", ["--model", "ORGANISATION/NAME"], "model.path=ORGANISATION/NAME"),
    ],
)
def test_every_entry_refuses_it_in_one_line(module: str, arguments: list[str], told: str, tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", module, *arguments]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: --") or ended.stderr.startswith("error: -x")
    assert len(ended.stderr.splitlines()) == 1
    assert told in ended.stderr
    assert not ended.stdout
    assert list(tmp_path.iterdir()) == []
