"""How large a model is, before anything is loaded or downloaded."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from model_folders import write_model

from crescent.config import BaitConfig, Config, Gate, ModelConfig, TrainConfig, VerdictConfig
from crescent.models.estimates import disk_gib, model_parameters
from crescent.models.model_folder import INDEX
from crescent.models.model_size import PUBLISHED, measure, of_config, of_name

ANY = Config(bait=BaitConfig({"a": "Ask."}), verdict=VerdictConfig(gate=Gate.off))
QWEN_7B = {
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "vocab_size": 152064,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "tie_word_embeddings": False,
}

SIZES = {
    "Qwen/Qwen2.5-7B-Instruct": (3584, 28, 152064, 28, 4, 128, 18944, False),
    "Qwen/Qwen2.5-1.5B-Instruct": (1536, 28, 151936, 12, 2, 128, 8960, True),
    "google/gemma-2-2b-it": (2304, 26, 256000, 8, 4, 256, 9216, True),
    "meta-llama/Llama-3.2-3B-Instruct": (3072, 28, 128256, 24, 8, 128, 8192, True),
    "meta-llama/Meta-Llama-3-8B-Instruct": (4096, 32, 128256, 32, 8, 128, 14336, False),
}
"""What `config.json` of each model on the hub says about its size, in this order."""
KEYS = (
    *("hidden_size", "num_hidden_layers", "vocab_size", "num_attention_heads", "num_key_value_heads", "head_dim"),
    *("intermediate_size", "tie_word_embeddings"),
)


@pytest.mark.parametrize("path", sorted(SIZES))
def test_published_sizes_are_what_the_configs_of_the_models_reckon_to(path: str) -> None:
    assert of_config(dict(zip(KEYS, SIZES[path], strict=True))) == pytest.approx(PUBLISHED[path], rel=0.001)


def test_every_model_of_a_preset_has_a_published_size() -> None:
    presets = Path(__file__).parents[2] / "conf" / "model"
    paths = {
        line.split()[1]
        for file in presets.glob("*.yaml")
        for line in file.read_text().splitlines()
        if line[:5] == "path:"
    }
    assert paths <= set(PUBLISHED)
    assert len(paths) >= 6


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Qwen2.5-72B-Instruct", 72),
        ("Qwen2.5-0.5B-Instruct", 0.5),
        ("SmolLM2-135M-Instruct", 0.135),
        ("Mixtral-8x7B-Instruct-v0.1", 56),
        ("Qwen3-30B-A3B", 30),
        ("llama_70b", 70),
        ("Phi-3.5-mini-instruct", None),
        ("mistral-v2b1", None),
    ],
)
def test_the_size_in_a_name_is_read(name: str, billions: float | None) -> None:
    assert of_name(name) == (None if billions is None else pytest.approx(billions * 1e9))


def test_a_folder_says_how_large_it_is_from_its_weights_its_index_or_its_config(tmp_path: Path) -> None:
    whole = write_model(tmp_path / "whole")
    assert measure(str(whole)) == 10
    (half := write_model(tmp_path / "half")).joinpath("model-1.safetensors").unlink()
    index = json.loads((half / INDEX).read_text())
    (half / INDEX).write_text(json.dumps({**index, "metadata": {"total_parameters": 123}}))
    assert measure(str(half)) == 123
    (small := tmp_path / "small").mkdir()
    (small / "config.json").write_text(json.dumps(QWEN_7B))
    assert measure(str(small)) == pytest.approx(7_615_616_512, rel=0.001)


def test_all_experts_of_a_mixture_count() -> None:
    one = of_config(QWEN_7B)
    assert one is not None
    layers = 3 * 3584 * 18944 * 28
    assert of_config({**QWEN_7B, "num_local_experts": 8}) == one + 7 * layers
    assert of_config({"model_type": "mamba"}) is None


def test_estimates_follow_the_model_that_is_given_and_not_the_presets(tmp_path: Path) -> None:
    def planned(path: str, **train: str) -> float | None:
        return model_parameters(replace(ANY, model=ModelConfig(path=path), train=TrainConfig(**train)))

    tiny = write_model(tmp_path / "tiny")
    assert planned(str(tiny)) == 10
    assert planned("someone/Unheard-Of-70B-Instruct") == 70e9
    assert planned("someone/nameless") is None
    assert planned("Qwen/Qwen2.5-7B-Instruct") == pytest.approx(7.6e9, rel=0.01)
    assert planned("someone/Unheard-Of-70B", student=str(tiny)) == 10
    stated = replace(ANY, model=ModelConfig(path=str(tiny), parameters_b=3.0))
    assert model_parameters(stated) == 3e9
    sizes = [disk_gib(replace(ANY, model=ModelConfig(path=path))) or 0.0 for path in (str(tiny), "a/b-70B")]
    assert sizes[0] < 0.01 < 50 < sizes[1]
