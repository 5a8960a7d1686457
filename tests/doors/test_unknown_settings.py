"""A setting that does not exist is refused however it is written, with the nearest right name."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from crescent.config import Config
from crescent.config.standalone import EvaluationConfig
from crescent.config.unknown_settings import keys_of, nearest, unknown_settings
from crescent.doors.hydra_door import declare, refuse_overrides, refuse_unknown, replace_prompts
from crescent.errors import BadConfig

WRONG = [
    ("+consensus.sampels=4", "consensus.sampels: no such setting; did you mean consensus.samples?"),
    ("++consensus.sampels=4", "did you mean consensus.samples?"),
    ("consensus.sampels=4", "did you mean consensus.samples?"),
    ("consensus.sampels=3,4", "did you mean consensus.samples?"),
    ("+consensus={sampels: 4}", "did you mean consensus.samples?"),
    ("+consensu.samples=4", "consensu: no such setting; did you mean consensus?"),
    ("+experimnt=smoke", "did you mean +experiment=…?"),
    ("evl=gsm8k", "evl: no such setting; did you mean eval?"),
    ("+samples=4", "did you mean consensus.samples or eval.samples"),
    ("+eval.benchmarks.mine={source: jsonl, pat: x}", "did you mean eval.benchmarks.mine.path?"),
    ("+eval.benchmarks.mine.pat=x", "did you mean eval.benchmarks.mine.path?"),
    ("+train={lora: {rnak: 4}}", "train.lora.rnak: no such setting; did you mean train.lora.rank?"),
    ("+hydra.jbo.chdir=true", "hydra.jbo: no such setting; did you mean hydra.job?"),
    ("+zzzzzz=1", "zzzzzz: no such setting; see conf/ and crescent/config/"),
]


@pytest.mark.parametrize(("override", "told"), WRONG)
def test_an_override_of_what_does_not_exist_is_refused_with_the_nearest_name(override: str, told: str) -> None:
    with pytest.raises(BadConfig) as refused:
        refuse_overrides(["-m", "+experiment=smoke", override], Config)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    "override",
    [
        "+eval.benchmarks.sums_dev.options.anything=4",
        "+eval.benchmarks.mine={source: reasoning_gym, options: {any: {depth: 1}}}",
        "+bait.prompts.mine=x",
        "bait.prompts={any name: x}",
        "+experiment=smoke",
        "experiment@foo=smoke",
        "hydra/launcher=joblib",
        "hydra.sweeper.params={a: 1}",
        "hydra.launcher.anything=1",
        "consensus.samples=3,4",
        "study=null",
        "serving.urls=[http://us{er:x@host",
        "~consensus.sampels",
        "--config-dir=somewhere",
    ],
)
def test_what_may_be_anything_stays_open(override: str) -> None:
    refuse_overrides([override], Config)


def test_a_group_of_one_s_own_is_no_unknown_setting(tmp_path: Path) -> None:
    (tmp_path / "flavour").mkdir()
    refuse_overrides(["--config-dir", str(tmp_path), "+flavour=x"], Config)
    refuse_overrides(["hydra.searchpath=[file://x]", "+flavour=x"], Config)
    with pytest.raises(BadConfig, match="flavour"):
        refuse_overrides(["+flavour=x"], Config)


def test_settings_of_an_evaluation_are_known_to_it_alone() -> None:
    refuse_overrides(["+styles.gsm8k=math", "rescore=runs/a"], EvaluationConfig)
    with pytest.raises(BadConfig, match="rescore"):
        refuse_overrides(["+rescore=runs/a"], Config)


@pytest.mark.parametrize("override", ["+consensus.sampels=4", "+experimnt=smoke", "+experimnt.x=1", "++run.nam=x"])
def test_what_hydra_lets_in_is_found_in_the_composed_config(override: str) -> None:
    """The overrides of a sweep's runs, and files with packages of their own, reach the config past the first check."""
    with initialize_config_module("conf", version_base="1.3"):
        config = compose("config", overrides=["+experiment=smoke", override])
    with pytest.raises(BadConfig, match="no such setting; did you mean"):
        refuse_unknown(config, Config)


def test_every_preset_is_declared() -> None:
    with initialize_config_module("conf", version_base="1.3"):
        refuse_unknown(compose("config", overrides=["+experiment=study_sums"]), Config)
        refuse_unknown(compose("evaluate", overrides=["model.path=x"]), EvaluationConfig)


FILES = {
    "experiment/a.yaml": "# @package _global_\nconsensus:\n  sampels: 4\n",
    "experiment/b.yaml": "# @package _global_\neval:\n  benchmarks:\n    mine: {source: jsonl, pat: x}\n",
    "bait/mine.yaml": "prompt: {a: b}\n",
    "flavour/c.yaml": "# @package consensus\nsampels: 4\n",
}


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("+experiment=a", "experiment/a: consensus.sampels: no such setting; did you mean consensus.samples?"),
        ("+experiment=b", "experiment/b: eval.benchmarks.mine.pat: no such setting"),
        ("bait=mine", "bait/mine: bait.prompt: no such setting; did you mean bait.prompts?"),
        ("+flavour=c", "flavour/c: consensus.sampels: no such setting"),
        ("bait.prompts.mine=x", "to add it, write +bait.prompts.mine=…"),
        ("experiment=a", "to add it, write +experiment=a"),
        ("~consensus.sampels", "~consensus.sampels: no such setting; did you mean consensus.samples?"),
        ("~bait.prompts.mine", "~bait.prompts.mine: there is none"),
    ],
)
def test_a_wrong_key_in_a_file_of_one_s_own_is_refused_with_the_file(override: str, told: str, tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text(text)
    command = [sys.executable, "-P", "-m", "crescent.loop", "--config-dir", "mine", override]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)
    assert ended.returncode == 2, ended.stderr
    assert told in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine"], "nothing was started"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("prompts: {mine: 3 Käse}\n".encode("latin-1"), "line 1 is not utf-8"),
        ("prompts: {mine: Ask.}\n".encode("utf-16"), "line 1: begins with the mark of utf-16"),
        ("# @package _global_\nbait: {questions: 3}\n".encode("utf-8-sig"), "line 1: begins with a byte-order mark"),
        (b"prompts:\n\tmine: Ask.\n", "line 2: is no YAML"),
        (b'prompts:\n  mine: "Ask.\n', "is no YAML"),
        (b"- Ask.\n", "line 1: holds no settings"),
        (b"7\n", "line 1: holds no settings"),
        (b"prompts: [a]\n", "conf file bait/mine: has a list where"),
        (b"questions: many\n", "conf file bait/mine: bait.questions: Value 'many'"),
    ],
)
def test_yaml_of_ones_own_that_cannot_be_read_is_one_line_with_file_and_fix(
    content: bytes, told: str, tmp_path: Path
) -> None:
    (tmp_path / "mine" / "bait").mkdir(parents=True)
    (tmp_path / "mine" / "bait" / "mine.yaml").write_bytes(content)
    command = [sys.executable, "-P", "-m", "crescent.loop", "--config-dir", "mine", "bait=mine", "mode=plan"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)
    assert ended.returncode == 2, ended.stderr
    assert told in ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr


def test_a_folder_or_an_option_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    for arguments, told in (
        (["--config-dir", "mine"], "mine: no such folder"),
        (["bait=smus"], "bait/smus: no such file of settings; did you mean sums? There are: "),
    ):
        command = [sys.executable, "-P", "-m", "crescent.loop", *arguments]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)
        assert told in ended.stderr
        assert ended.stderr.count("\n") == 1, ended.stderr


def test_added_benchmarks_keep_working() -> None:
    arguments = declare(["+eval.benchmarks.mine={source: jsonl, path: x, style: number}"])
    try:
        refuse_overrides(arguments, Config)
    finally:
        declare([])


def test_keys_of_lists_and_optional_groups_are_looked_at() -> None:
    assert "study.name" in keys_of(Config)
    assert list(unknown_settings({"study": {"nme": "x"}, "run": {"reuse": ["a"]}}, Config)) == ["study.nme"]
    assert nearest("study.nme", Config)[0] == "study.name"
    assert not list(unknown_settings(OmegaConf.to_container(OmegaConf.structured(Config)), Config))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["bait.prompts={mine: 'Add {x}'}"], ["mine"]),
        (["+bait.prompts.mine=Add"], ["addition", "subtraction", "multiplication", "mine"]),
        (["bait.prompts={mine: Add}", "+bait.prompts.other=Ask"], ["mine", "other"]),
        (["bait.prompts={addition: Add}"], ["addition"]),
        (["~bait.prompts.addition", "bait.prompts={mine: Add}"], ["mine"]),
        (["bait.prompts={}"], []),
        (["bait.stop=[x]"], ["addition", "subtraction", "multiplication"]),
    ],
)
def test_bait_prompts_of_the_command_line_replace_those_of_the_experiment(
    overrides: list[str], names: list[str]
) -> None:
    arguments = declare(["+experiment=smoke", *overrides])
    with initialize_config_module("conf", version_base="1.3"):
        config = compose("config", overrides=arguments)
    replace_prompts(config, arguments)
    assert list(config.bait.prompts) == names
    assert config.bait.temperature == 0.6, "the sampling stays"
