"""Folders of models that people bring and that could never be asked or trained."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from model_folders import safetensors_bytes, write_model

from crescent.errors import BadConfig, CrescentError, Missing
from crescent.models.model_folder import INDEX, check_model_folder

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 17209920\n"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that passes every check."""
    return write_model(tmp_path / "model")


def config(**settings: object) -> Callable[[Path], object]:
    """Writes other settings into `config.json`."""
    whole = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **settings}
    return lambda folder: (folder / "config.json").write_text(json.dumps(whole))


def quantise_silently(folder: Path) -> None:
    (folder / "model-2.safetensors").write_bytes(safetensors_bytes("F8_E4M3", b=[4]))


def leave_an_adapter(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')


def leave_only_gguf(folder: Path) -> None:
    for file in [*folder.glob("*.safetensors"), folder / INDEX]:
        file.unlink()
    (folder / "model-Q4_K_M.gguf").touch()


@pytest.mark.parametrize(
    ("damage", "kind", "says"),
    [
        (lambda folder: (folder / "tokenizer_config.json").unlink(), BadConfig, r"no chat template.*instruction-tuned"),
        (config(quantization_config={"quant_method": "awq"}), BadConfig, r"quantised \(awq\).*made from"),
        (config(quantization_config={"quant_method": "fp8"}), BadConfig, r"quantised \(fp8\)"),
        (config(text_config={"quantization_config": {"quant_method": "gptq"}}), BadConfig, r"quantised \(gptq\)"),
        (lambda folder: (folder / "hf_quant_config.json").write_text("{}"), BadConfig, "hf_quant_config.json"),
        (quantise_silently, BadConfig, r"model-2.safetensors: the tensor b is F8_E4M3"),
        (lambda folder: (folder / "tokenizer.json").write_text(POINTER), Missing, r"tokenizer.json.*git lfs pull"),
        (lambda folder: (folder / "model-1.safetensors").write_text(POINTER), Missing, r"model-1.*git lfs pull"),
        (lambda folder: (folder / "tokenizer.json").write_text('{"model": {"vo'), Missing, r"tokenizer.json.*JSON"),
        (lambda folder: (folder / "tokenizer_config.json").write_text("[1]"), Missing, "tokenizer_config.json"),
        (lambda folder: (folder / "generation_config.json").write_text("{"), Missing, "generation_config.json"),
        (lambda folder: (folder / "vocab.json").write_text('{"a": 0, "b"'), Missing, r"vocab.json.*JSON"),
        (lambda folder: (folder / "added_tokens.json").write_text(""), Missing, r"added_tokens.json.*JSON"),
        (config(architectures=None, model_type="bert"), BadConfig, "bert is not a model that writes text"),
        (config(architectures=[], model_type="deberta-v2"), BadConfig, "deberta-v2 is not a model that writes text"),
        (config(architectures=["BertForMaskedLM"]), BadConfig, "BertForMaskedLM is not a model that writes text"),
        (config(architectures=["LlamaForSequenceClassification"]), BadConfig, "not a model that writes text"),
        (
            config(architectures=["T5ForConditionalGeneration"], is_encoder_decoder=True),
            BadConfig,
            "T5ForConditionalGeneration is an encoder-decoder",
        ),
        (leave_an_adapter, BadConfig, r"LoRA adapter.*org/base"),
        (leave_only_gguf, BadConfig, "only GGUF"),
    ],
)
def test_a_model_that_cannot_be_asked_and_trained_is_refused_with_the_fix(
    model: Path, damage: Callable[[Path], object], kind: type[CrescentError], says: str
) -> None:
    check_model_folder(model)
    damage(model)
    with pytest.raises(kind, match=says):
        check_model_folder(model)


@pytest.mark.parametrize(
    "settings",
    [
        {"architectures": ["GPT2LMHeadModel"]},
        {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": {"model_type": "gemma3_text"}},
        {"architectures": None},
    ],
)
def test_other_ways_to_say_that_a_model_writes_text_are_known(model: Path, settings: dict[str, object]) -> None:
    config(**settings)(model)
    check_model_folder(model)


def test_a_chat_template_may_lie_in_a_file_of_its_own(model: Path) -> None:
    (model / "tokenizer_config.json").write_text("{}")
    (model / "chat_template.jinja").write_text("{{ messages }}")
    check_model_folder(model)
