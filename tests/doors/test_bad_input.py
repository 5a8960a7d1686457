"""What a user gets wrong, or the machine does not have: one cause, the right exit code, nothing left running."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def crescent(root: Path, *overrides: str, hide: str = "") -> "subprocess.CompletedProcess[str]":
    """The command line, optionally in a world where a package is not installed."""
    program = f"import sys; sys.modules.update(dict.fromkeys({hide.split()!r})); from crescent.loop import main; main()"
    command = [sys.executable, "-P", "-c", program, *overrides, f"run.root={root}", "tracking.console=quiet"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=environment)


def model_folder(root: Path, weights: str) -> Path:
    folder = root / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / weights).write_bytes(b"x")
    return folder


def test_a_missing_extra_is_named_with_its_install_line(tmp_path: Path) -> None:
    ended = crescent(tmp_path, "+experiment=instruct_sums", hide="vllm")
    assert ended.returncode == 69
    for part in ("serving.engine=vllm", "make install", "pip install -e '.[gpu]'", "serving.urls"):
        assert part in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_missing_trainer_is_found_out_before_anything_is_started(tmp_path: Path) -> None:
    ended = crescent(tmp_path, "+experiment=instruct_sums", hide="trl peft")
    assert ended.returncode == 69
    assert "train.trainer=sft needs trl, peft" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_stage_to_redo_is_refused(tmp_path: Path) -> None:
    ended = crescent(tmp_path, "+experiment=smoke", "run.redo=round-1/trian")
    assert ended.returncode == 2
    assert "did you mean round-1/train?" in ended.stderr


def test_a_missing_model_folder_is_named(tmp_path: Path) -> None:
    ended = crescent(tmp_path, "+experiment=instruct_sums", f"model.path={tmp_path}/nowhere")
    assert ended.returncode == 69
    assert f"{tmp_path}/nowhere" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, "pytorch_model.bin")
    ended = crescent(tmp_path, "+experiment=instruct_sums", f"model.path={folder}")
    assert ended.returncode == 2
    assert "pytorch_model.bin" in ended.stderr
    assert "safetensors" in ended.stderr


def test_an_unknown_accelerate_config_is_refused(tmp_path: Path) -> None:
    ended = crescent(tmp_path, "+experiment=instruct_sums", "train.accelerate=sixty_gpus")
    assert ended.returncode == 2
    assert "train.accelerate=sixty_gpus" in ended.stderr
    assert "train/accelerate" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_missing_benchmark_is_named_with_the_place_where_it_should_be(tmp_path: Path) -> None:
    settings = ("eval.benchmarks.sums_dev.source=gsm8k", f"eval.data={tmp_path}")
    ended = crescent(tmp_path, "+experiment=smoke", *settings)
    assert ended.returncode == 69
    assert f"{tmp_path}/gsm8k/train.jsonl" in ended.stderr


def test_a_round_without_a_usable_question_ends_with_65_and_says_why(tmp_path: Path) -> None:
    ended = crescent(tmp_path, "+experiment=smoke", "bait.min_characters=500")
    assert ended.returncode == 65
    assert "0 of 0 questions" in ended.stderr
    assert "unusable" in ended.stderr


@pytest.mark.real
def test_a_real_engine_that_dies_at_its_start_shows_its_last_words_and_the_fix(tmp_path: Path) -> None:
    ended = crescent(tmp_path, "+experiment=instruct_sums", "serving.arguments=[--no-such-option]")
    assert ended.returncode == 69
    assert "unrecognized arguments: --no-such-option" in ended.stderr
    assert "Check serving.arguments" in ended.stderr
