"""A folder of weights: is it whole and safe to load, how large is the model, and how to write one that is never half
there. Reads headers only, so the supervisor can ask without torch."""

import json
import math
from pathlib import Path
from typing import Any

from crescent.config import ModelConfig
from crescent.errors import BadConfig, Missing

INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_model.safetensors"
"""Name of an adapter's weights in its folder, as peft writes it."""
ADAPTER_CONFIG = "adapter_config.json"
"""Name of an adapter's settings in its folder, as peft writes it."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")


def find_model(model: ModelConfig) -> Path:
    """The base model's folder, downloaded if `model.path` is a hub id; checked.

    Raises:
        BadConfig, Missing: see `check_model_folder`; or the hub has no such model, or cannot be reached.
    """
    folder = Path(model.path).expanduser()
    if not folder.is_dir() and model.path.count("/") == 1 and not model.path.startswith((".", "/", "~")):
        from huggingface_hub import snapshot_download

        kinds = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "README.md", "LICENSE*", "NOTICE*"]
        aside = ["*/*", "consolidated*"]
        try:
            found = snapshot_download(model.path, revision=model.revision, allow_patterns=kinds, ignore_patterns=aside)
        except (OSError, ValueError) as error:
            cause = str(error).strip().splitlines()[0]
            raise Missing(f"model.path={model.path}: {cause}; check the name, the network and HF_TOKEN") from error
        folder = Path(found)
    check_model_folder(folder)
    return folder


def check_model_folder(path: Path) -> None:
    """Refuse a folder that could not be served and trained from, or whose loading would run somebody's code.

    Raises:
        Missing: the folder, its configuration, its tokenizer, a shard or a part of one is not there.
        BadConfig: pickle weights, or code of its own (`auto_map`).
    """
    if not path.is_dir():
        raise Missing(
            f"model.path={path}: no such folder; give one with safetensors weights, a hub id (`organisation/name`) "
            "or `packaged:smollm2`"
        )
    config = read_json(path / "config.json")
    if "auto_map" in config:
        raise BadConfig(
            f"{path}/config.json: `auto_map` asks to run Python code lying beside the weights, which is never done; "
            "if transformers knows the architecture by itself, delete the `auto_map` entry, else use another model"
        )
    if not any((path / name).is_file() for name in TOKENIZERS):
        raise Missing(
            f"{path}: no tokenizer ({', '.join(TOKENIZERS)}); copy it from the model these weights were trained from"
        )
    for shard in weight_files(path):
        read_tensor_header(shard)


def weight_files(path: Path) -> list[Path]:
    """The safetensors files transformers would load, in name order; every one of them exists."""
    if (path / INDEX).is_file():
        shards = sorted(set(read_json(path / INDEX).get("weight_map", {}).values()))
        absent = [shard for shard in shards if not (path / shard).is_file()]
        if absent or not shards:
            raise Missing(
                f"{path}/{INDEX}: {len(absent)} of {len(shards)} listed shards are missing ({', '.join(absent[:3])}); "
                "fetch the model again, the download was not finished"
            )
        return [path / shard for shard in shards]
    single = path / "model.safetensors"
    if single.is_file():
        return [single]
    pickles = sorted(file.name for pattern in PICKLES for file in path.glob(pattern))
    if pickles:
        raise BadConfig(
            f"{path}: only pickle weights ({', '.join(pickles[:3])}): loading a pickle runs whatever code is in it; "
            "use a revision with safetensors, or convert once with `AutoModelForCausalLM.from_pretrained(...)."
            "save_pretrained(...)` on a machine you can lose"
        )
    raise Missing(f"{path}: no weights (model.safetensors or {INDEX}); fetch the model again")


def read_tensor_header(file: Path) -> dict[str, Any]:
    """Tensor name → dtype, shape and offsets of a safetensors file (https://github.com/safetensors/safetensors#format).

    Raises:
        Missing: the file is shorter or longer than its header says.
    """
    cut = f"{file}: the file is damaged or was cut short; fetch or write it again"
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            raise Missing(cut)
        try:
            header: dict[str, Any] = json.loads(stream.read(length))
        except ValueError as error:
            raise Missing(cut) from error
    header.pop("__metadata__", None)
    if size != 8 + length + max((tensor["data_offsets"][1] for tensor in header.values()), default=0):
        raise Missing(cut)
    return header


def count_parameters(path: Path) -> int:
    """Parameters of the model in a folder, tied ones once as they are stored once."""
    return sum(
        math.prod(tensor["shape"]) for file in weight_files(path) for tensor in read_tensor_header(file).values()
    )


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a model folder.

    Raises:
        Missing: the file is absent or no JSON object.
    """
    try:
        loaded = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise Missing(f"{file}: cannot be read as JSON ({error}); fetch the model again") from error
    if not isinstance(loaded, dict):
        raise Missing(f"{file}: not a JSON object; fetch the model again")
    return loaded
