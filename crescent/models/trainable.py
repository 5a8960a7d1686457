"""Whether the model in a folder can be asked and trained, from its small files alone: what would otherwise fail after a
download, an engine start or an hour of questions.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crescent.errors import BadConfig, Missing

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""First bytes of a file that Git LFS did not fetch (https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md)."""
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
TOKENIZER_JSONS = (
    *("tokenizer.json", "tokenizer_config.json", "vocab.json", "added_tokens.json"),
    *("generation_config.json", "special_tokens_map.json"),
)
"""Files beside `config.json` that hold a JSON object where they exist."""
QUANTISED_BESIDE = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")
"""Files beside `config.json` in which ModelOpt, GPTQ and AWQ say how they quantised the weights."""
WRITERS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
"""Ends of the names of architectures that write text."""
ENCODERS = (
    *("albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "mobilebert", "modernbert"),
    *("mpnet", "nomic_bert", "roberta", "xlm-roberta"),
)
"""`model_type` of models that are encoders unless `architectures` says otherwise."""
WHOLE_NUMBERS = ("I8", "U8", "I16", "U16", "I32", "U32", "F8_", "F4", "F6_")
"""Beginnings of the types, in safetensors, of weights that were quantised. I64 holds positions, not weights."""


def check_small_files(path: Path) -> None:
    """Refuse a folder whose model cannot be asked in turns or trained. Weights are not looked at.

    Raises:
        Missing: a file was not fetched, is not whole, or is missing.
        BadConfig: the model is quantised, is an encoder, has no chat template, or brings its own code.
    """
    if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
        base = read_json(path / "adapter_config.json").get("base_model_name_or_path")
        raise BadConfig(
            f"model.path={path}: is a LoRA adapter, not a model; start from its base ({base}), or merge the two once "
            "with peft's `merge_and_unload()`"
        )
    for file in sorted([*path.glob("*.json"), *path.glob("*.model"), *path.glob("*.jinja"), *path.glob("*.txt")]):
        check_fetched(file)
    config = read_json(path / "config.json")
    if "auto_map" in config:
        raise BadConfig(
            f"{path}/config.json: `auto_map` asks to run Python code from the model's folder, which Crescent never "
            "does; if transformers supports the architecture, delete the `auto_map` entry, else use another model"
        )
    _check_writes(path, config)
    _check_full_precision(path, config)
    if not any((path / name).is_file() for name in TOKENIZERS):
        raise Missing(
            f"{path}: no tokenizer ({', '.join(TOKENIZERS)}); copy it from the model that these weights derive from"
        )
    for name in TOKENIZER_JSONS:
        if (path / name).is_file():
            read_json(path / name)
    if not has_chat_template(path):
        raise BadConfig(
            f"{path}: its tokenizer has no chat template, so the model cannot be asked or taught in turns; use the "
            "instruction-tuned variant of this model, or put its template into the folder as chat_template.jinja"
        )


def check_fetched(file: Path) -> None:
    """Refuse a file that is a pointer of Git LFS.

    Raises:
        Missing: it is.
    """
    with file.open("rb") as stream:
        if stream.read(len(LFS_POINTER)) == LFS_POINTER:
            raise Missing(
                f"{file}: is only a pointer of Git LFS, not the file itself; run `git lfs pull` in the folder, or "
                "`hf download` the model"
            )


def check_tensor_types(file: Path, header: Mapping[str, Any]) -> None:
    """Refuse quantised weights that no configuration file mentions.

    Args:
        header: Of the safetensors `file`: tensor name → dtype, shape and offsets.

    Raises:
        BadConfig: a tensor holds whole numbers, or floats of eight bits or fewer.
    """
    for name, tensor in header.items():
        if str(tensor["dtype"]).startswith(WHOLE_NUMBERS):
            raise _quantised(f"{file}: the tensor {name} is {tensor['dtype']}")


def has_chat_template(path: Path) -> bool:
    """Whether transformers finds a chat template: in a file of its own, or among the tokenizer's settings."""
    if (path / "chat_template.jinja").is_file() or any((path / "additional_chat_templates").glob("*.jinja")):
        return True
    for name in ("chat_template.json", "tokenizer_config.json"):
        if (path / name).is_file() and read_json(path / name).get("chat_template"):
            return True
    return False


def _check_writes(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse a model that reads text and does not write it."""
    named = config.get("architectures") or []
    names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    pair = bool(config.get("is_encoder_decoder"))
    encoder = not names and config.get("model_type") in ENCODERS
    if pair or encoder or (names and not any(name.endswith(WRITERS) for name in names)):
        kind = "an encoder-decoder" if pair else "not a model that writes text"
        what = ", ".join(names) or config.get("model_type", "unknown")
        raise BadConfig(
            f"{path}/config.json: {what} is {kind}; Crescent needs a decoder that answers in turns, such as "
            "LlamaForCausalLM or Qwen2ForCausalLM"
        )


def _check_full_precision(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse quantised weights: their children could not be merged, and no trainer here learns through them."""
    text = config.get("text_config")
    for settings in (config, text if isinstance(text, dict) else {}):
        if found := settings.get("quantization_config") or settings.get("compression_config"):
            method = found.get("quant_method") if isinstance(found, dict) else None
            raise _quantised(f"{path}/config.json: the weights are quantised ({method or 'quantization_config'})")
    for name in QUANTISED_BESIDE:
        if (path / name).is_file():
            raise _quantised(f"{path}/{name}: the weights are quantised")


def _quantised(found: str) -> BadConfig:
    return BadConfig(
        f"{found}; training needs them in bfloat16, float16 or float32: use the model that they were made from "
        "(train=qlora quantises by itself while it trains)"
    )


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a model folder.

    Raises:
        Missing: the file is missing or contains no JSON object.
    """
    try:
        loaded = json.loads(file.read_bytes())  # UTF-8, whatever the locale is
    except (OSError, ValueError) as error:
        raise Missing(f"{file}: cannot be read as JSON ({error}); fetch the model again") from error
    if not isinstance(loaded, dict):
        raise Missing(f"{file}: not a JSON object; fetch the model again")
    return loaded
