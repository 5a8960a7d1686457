"""A model is trained on exactly what it is asked, and learns to stop; other templates are refused with both texts."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from crescent.errors import BadConfig
from train.dataset import assistant_turn, tokenize, user_turn
from train.template import check_rows, stop_tokens

TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
OPENS_A_THOUGHT = TURNS + ASK.replace("assistant\n", "assistant\n<think>\n")
ADDS_A_THOUGHT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}" + ASK
)
NEVER_STOPS = TURNS.replace("<|im_end|>", "\n") + ASK


@pytest.fixture
def model(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def check(folder: Path, template: str | None) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template or tokenizer.chat_template
    question = user_turn("What is 2 + 3?")
    asked, rows = (
        tokenize([question] * 3, tokenizer, ask=True),
        tokenize([question + assistant_turn("It is 5.\n#### 5")] * 3, tokenizer),
    )
    check_rows(asked, rows, stop_tokens(folder, tokenizer), tokenizer)


@pytest.mark.parametrize("template", [None, TURNS + ASK, ADDS_A_THOUGHT])
def test_a_template_whose_rows_continue_the_question_is_fine(model: Path, template: str | None) -> None:
    check(model, template)


def test_a_template_that_opens_a_thought_only_when_it_asks_is_refused_with_both_texts(model: Path) -> None:
    with pytest.raises(BadConfig) as refused:
        check(model, OPENS_A_THOUGHT)
    assert "is asked" in str(refused.value)
    assert "<think>" in str(refused.value)
    assert "trained on" in str(refused.value)
    assert "It is 5." in str(refused.value)


def test_a_template_whose_turns_end_in_nothing_that_stops_the_server_is_refused(model: Path) -> None:
    with pytest.raises(BadConfig, match=r"ends in.*and the server stops at.*<\|im_end\|>"):
        check(model, NEVER_STOPS)


def test_the_server_stops_at_the_tokens_of_the_generation_config_too(model: Path) -> None:
    (model / "generation_config.json").write_text('{"eos_token_id": [2, 7]}')

    class Tokenizer:
        eos_token_id = 0

    assert stop_tokens(model, Tokenizer()) == {0, 2, 7}
    (model / "generation_config.json").unlink()
    assert stop_tokens(model, Tokenizer()) == {0}


def test_the_door_refuses_such_a_model_with_2(model: Path) -> None:
    (model / "chat_template.jinja").write_text(OPENS_A_THOUGHT)
    command = [sys.executable, "-P", "-m", "train.template", str(model), "What is 2 + 3?"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)
    assert ended.returncode == 2, ended.stderr
    assert "trains on other text than it asks with" in ended.stderr
    assert "Traceback" not in ended.stderr
