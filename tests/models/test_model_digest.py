"""A model is the same as long as what is loaded is the same; runs that recorded another digest of it still know it."""

import json
from pathlib import Path

import pytest

from crescent.groundwork import as_recorded
from crescent.models.model_digest import folder_digest, model_digest
from crescent.run_folder.manifest import seal

TENSOR = {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
FILES = {
    "config.json": "{}",
    "generation_config.json": "{}",
    "tokenizer.json": "{}",
    "tokenizer_config.json": "{}",
    "merges.txt": "a b",
    "chat_template.jinja": "{{ messages }}",
    "additional_chat_templates/tools.jinja": "{{ tools }}",
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    header = json.dumps(TENSOR).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    return folder


@pytest.mark.parametrize(
    "name",
    [
        *("README.md", "LICENSE", "LICENSE.txt", ".git/HEAD", ".git/config.json", ".cache/huggingface/x.json"),
        *("original/consolidated.00.pth", "pytorch_model.bin", "other.safetensors", ".gitattributes", "notes/x.json"),
    ],
)
def test_what_is_not_loaded_does_not_count(name: str, model: Path) -> None:
    before = model_digest(model)
    (model / name).parent.mkdir(parents=True, exist_ok=True)
    (model / name).write_text("anything")
    assert model_digest(model) == before


@pytest.mark.parametrize("name", [*FILES, "model.safetensors"])
def test_what_is_loaded_counts(name: str, model: Path) -> None:
    before = model_digest(model)
    content = (model / name).read_bytes()
    (model / name).write_bytes(content[:-1] + b" " if name.endswith("tensors") else content + b" ")
    assert model_digest(model) != before


@pytest.mark.parametrize("name", ["special_tokens_map.json", "vocab.txt", "spiece.model", "qwen.tiktoken"])
def test_a_file_that_would_be_loaded_counts_when_it_comes(name: str, model: Path) -> None:
    before = model_digest(model)
    (model / name).write_text("{}")
    assert model_digest(model) != before


def a_run(root: Path, *bases: str) -> Path:
    for number, base in enumerate(bases):
        (root / f"round-{number}/eval").mkdir(parents=True)
        about = {"metrics": {}, "seconds": 1.0, "made_from": {"version": "1", "settings": {}, "inputs": {"base": base}}}
        seal(root / f"round-{number}/eval", about)
    return root


def test_a_run_that_recorded_the_whole_folder_keeps_that_digest(model: Path, tmp_path: Path) -> None:
    assert model_digest(model) == folder_digest(model), "of most models nothing changes"
    (model / "README.md").write_text("a model card")
    now, earlier = model_digest(model), folder_digest(model)
    assert now != earlier
    assert as_recorded([now, earlier], [tmp_path / "none"]) == now
    old, new = a_run(tmp_path / "old", "another", earlier), a_run(tmp_path / "new", now)
    assert as_recorded([now, earlier], [old]) == earlier
    assert as_recorded([now, earlier], [new, old]) == now, "its own stages before those of the runs it reuses"
    assert as_recorded([now, earlier], [tmp_path / "none", old]) == earlier, "a new run that reuses an old one's stages"


def test_a_model_that_a_run_does_not_know_is_not_taken_for_the_one_it_knows(model: Path, tmp_path: Path) -> None:
    old = a_run(tmp_path / "old", folder_digest(model))
    (model / "config.json").write_text('{"other": 1}')
    now = model_digest(model)
    assert as_recorded([now, folder_digest(model)], [old]) == now
