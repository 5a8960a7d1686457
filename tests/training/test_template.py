"""What is trained on is what is served: rows begin with the tokens of the question, and hold the answer as it is."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import some_pairs

from crescent.errors import BadConfig
from crescent.models.packaged_model import packaged_model
from crescent.records import Response, write_lines
from train.dataset import to_rows, tokenize
from train.template import answers_as_served, assistant_turn, end_tokens, user_turn
from train.trainers.dpo import to_preferences

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + (CONTENT) + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\nOPENING' }}{% endif %}"
)
PLAIN = "message.content"
WITHOUT_THOUGHT = "message.content.split('</think>')[-1]"
EMPTY_THOUGHT = "('<think>\\n\\n</think>\\n\\n' if message.role == 'assistant' else '') + message.content"


def template(content: str = PLAIN, opening: str = "") -> str:
    return CHATML.replace("CONTENT", content).replace("OPENING", opening)


@pytest.fixture(scope="module")
def tokenizer_of() -> Callable[[str | None], Any]:
    """SmolLM2's tokenizer with another chat template."""
    from transformers import AutoTokenizer

    def make(chat_template: str | None) -> Any:
        tokenizer = AutoTokenizer.from_pretrained(packaged_model())
        if chat_template is not None:
            tokenizer.chat_template = chat_template
        return tokenizer

    return make


@pytest.mark.parametrize("own", [None, template()])
def test_a_row_begins_with_exactly_the_tokens_that_the_server_is_asked_with(
    own: str | None, tokenizer_of: Callable[[str | None], Any]
) -> None:
    tokenizer, pairs = tokenizer_of(own), some_pairs(6)
    pairs[2] = replace(pairs[2], completion="\n\n" + pairs[2].completion + " \n")
    pairs[3] = replace(pairs[3], completion="<think>\nA thought.\n</think>\n\n" + pairs[3].completion)
    rows = to_rows(pairs, tokenizer, max_length=512)
    for row, ids in zip(rows.kept, rows.tokens, strict=True):
        asked = tokenize([row["prompt"]], tokenizer, ask=True)[0]
        assert ids[: len(asked)] == asked
        assert end_tokens(tokenizer) & set(ids[len(asked) :])
    assert "<think>" in rows.kept[3]["completion"][0]["content"], "the model's own thought stays"


@pytest.mark.parametrize(
    ("chat_template", "said", "asked", "trained"),
    [
        (template(WITHOUT_THOUGHT, "<think>\\n"), "Let me see.</think>4", "assistant\\n<think>\\n", "assistant\\n4"),
        (template(EMPTY_THOUGHT), "4", "'4'", "'<think>\\n\\n</think>\\n\\n4"),
        (template(WITHOUT_THOUGHT), "<think>2 and 2</think>4", "'<think>2 and 2</think>4'", "'4<|im_end|>"),
        (template(PLAIN, "<think>\\n\\n</think>\\n\\n"), "4", "<think>\\n\\n</think>", "assistant\\n4"),
        (template().replace("<|im_end|>\\n", "\\n"), "4", "<|im_end|>", "4\\n"),
        (template().replace("<|im_end|>\\n", "\\n"), "a<|im_end|>4", "<|im_end|>", "4\\n"),
    ],
    ids=[
        "opens a thought",
        "adds an empty thought",
        "drops a thought",
        "asks with an empty thought",
        "has no end",
        "has an end only where the answer quotes one",
    ],
)
def test_a_template_that_trains_another_text_is_refused_with_both(
    chat_template: str, said: str, asked: str, trained: str, tokenizer_of: Callable[[str | None], Any]
) -> None:
    tokenizer = tokenizer_of(chat_template)
    pair = replace(some_pairs(1)[0], completion=said, rejected="5")
    for make in (to_rows, to_preferences):
        with pytest.raises(BadConfig) as caught:
            make([pair], tokenizer, 512)
        message = str(caught.value)
        assert asked in message
        assert trained in message
        assert "\n" not in message


def test_a_tokenizer_that_joins_question_and_answer_is_refused(tokenizer_of: Callable[[str | None], Any]) -> None:
    glued = template().replace("assistant\\n", "assistant ").replace("message.role + '\\n'", "message.role + ' '")
    tokenizer = tokenizer_of(glued)
    with pytest.raises(BadConfig, match="join questions and answers"):
        answers_as_served(["2 + 2"], ["is 4"], tokenizer)


@pytest.mark.parametrize(
    "hostile",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ lipsum.__globals__['os'].system('touch executed') }}",
        "{% for a in range(1000000000) %}x{% endfor %}",
        "{{ raise_exception('no') }}",
        "{{ 1 / 0 }}",
        "{% for %}",
    ],
)
def test_a_hostile_template_reaches_nothing_and_is_one_line(
    hostile: str, tokenizer_of: Callable[[str | None], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadConfig, match="its chat template fails") as caught:
        tokenize([user_turn("1 + 1") + assistant_turn("2")], tokenizer_of(hostile))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_bases_own_responses_are_checked_before_round_1(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for file in packaged_model().iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, model / file.name)
    said = Response("i", "dev", "What is 2 + 2?", "4", "4", "4", True, "stop", 1)
    write_lines(tmp_path / "responses.jsonl", [said, replace(said, text="cut", finish_reason="length")])
    command = [sys.executable, "-P", "-m", "train.template", str(model), str(tmp_path / "responses.jsonl")]
    assert subprocess.run(command, check=False).returncode == 0
    for other in model.glob("chat_template*"):
        other.unlink()
    (model / "chat_template.jinja").write_text(template(EMPTY_THOUGHT))
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == 2, ended.stderr
    assert "changes answers" in ended.stderr


def test_sampling_settings_of_the_base_never_fail_a_save_and_are_copied_as_they_are(tiny: Path, tmp_path: Path) -> None:
    import torch

    from train.child import write_weights
    from train.start import load

    base = Path(shutil.copytree(tiny, tmp_path / "base"))
    text = '{"temperature": 0.6, "top_p": 0.9,\n  "eos_token_id": [2, 0], "pad_token_id": 2}'
    (base / "generation_config.json").write_text(text)
    model = load(base, torch.float32)
    model.save_pretrained(tmp_path / "checkpoint")
    write_weights(model, base, tmp_path / "weights", "card")
    assert (tmp_path / "weights" / "generation_config.json").read_text() == text
    assert load(tmp_path / "weights", torch.float32).generation_config.eos_token_id == [2, 0]
