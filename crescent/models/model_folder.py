"""Folders of weights: whether they are complete and safe to load, and how large the model is.

Only headers are read, so the supervisor needs no torch.
"""

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
    """Folder of the base model, checked; downloaded first if `model.path` is a hub id.

    Raises:
        BadConfig, Missing: as `check_model_folder`; also if the hub has no such model or cannot be reached.
    """
    folder = Path(model.path).expanduser()
    if not folder.is_dir() and model.path.count("/") == 1 and not model.path.startswith((".", "/", "~")):
        from huggingface_hub import snapshot_download

        wanted = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "README.md", "LICENSE*", "NOTICE*"]
        # Other formats of the same weights: subfolders (e.g. original/), and Mistral's single file.
        unwanted = ["*/*", "consolidated*"]
        try:
            found = snapshot_download(
                model.path, revision=model.revision, allow_patterns=wanted, ignore_patterns=unwanted
            )
        except (OSError, ValueError) as error:
            cause = str(error).strip().splitlines()[0]
            raise Missing(f"model.path={model.path}: {cause}; check the name, the network and HF_TOKEN") from error
        folder = Path(found)
    check_model_folder(folder)
    return folder


def check_model_folder(path: Path) -> None:
    """Refuse a folder that cannot be served or trained, or that would run foreign code when loaded.

    Raises:
        Missing: the folder, its configuration, its tokenizer, a shard or a part of a shard is missing.
        BadConfig: the weights are pickles, or the folder brings its own code (`auto_map`).
    """
    if not path.is_dir():
        made = "; weights of a run, or of `python -m crescent.warm_start`, have to be made first"
        raise Missing(
            f"model.path={path}: no such folder; give one with safetensors weights, a hub id (`organisation/name`) "
            f"or `packaged:smollm2`{made if path.name == 'weights' else ''}"
        )
    config = read_json(path / "config.json")
    if "auto_map" in config:
        raise BadConfig(
            f"{path}/config.json: `auto_map` asks to run Python code from the model's folder, which Crescent never "
            "does; if transformers supports the architecture, delete the `auto_map` entry, else use another model"
        )
    if not any((path / name).is_file() for name in TOKENIZERS):
        raise Missing(
            f"{path}: no tokenizer ({', '.join(TOKENIZERS)}); copy it from the model that these weights derive from"
        )
    for shard in weight_files(path):
        read_tensor_header(shard)


def weight_files(path: Path) -> list[Path]:
    """The safetensors files that transformers would load, sorted by name; all of them exist.

    Raises:
        Missing: there are no weights, or a listed shard is missing.
        BadConfig: there are only pickles.
    """
    if (path / INDEX).is_file():
        shards = sorted(set(read_json(path / INDEX).get("weight_map", {}).values()))
        absent = [shard for shard in shards if not (path / shard).is_file()]
        if absent or not shards:
            raise Missing(
                f"{path}/{INDEX}: {len(absent)} of {len(shards)} listed shards are missing ({', '.join(absent[:3])}); "
                "the download did not finish, fetch the model again"
            )
        return [path / shard for shard in shards]
    single = path / "model.safetensors"
    if single.is_file():
        return [single]
    pickles = sorted(file.name for pattern in PICKLES for file in path.glob(pattern))
    if pickles:
        raise BadConfig(
            f"{path}: only pickle weights ({', '.join(pickles[:3])}): loading a pickle runs any code in it; "
            "use a revision with safetensors, or convert once with `AutoModelForCausalLM.from_pretrained(...)."
            "save_pretrained(...)` in an isolated environment"
        )
    raise Missing(f"{path}: no weights (model.safetensors or {INDEX}); fetch the model again")


def read_tensor_header(file: Path) -> dict[str, Any]:
    """Tensor name → dtype, shape and offsets of a safetensors file (https://github.com/safetensors/safetensors#format).

    Raises:
        Missing: the file is shorter or longer than its header says.
    """
    damaged = f"{file}: the file is damaged or was cut short; fetch or write it again"
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            raise Missing(damaged)
        try:
            header: dict[str, Any] = json.loads(stream.read(length))
        except ValueError as error:
            raise Missing(damaged) from error
    header.pop("__metadata__", None)
    if size != 8 + length + max((tensor["data_offsets"][1] for tensor in header.values()), default=0):
        raise Missing(damaged)
    return header


def count_parameters(path: Path) -> int:
    """Number of parameters of the model in a folder; tied ones count once, as they are stored once."""
    return sum(
        math.prod(tensor["shape"]) for file in weight_files(path) for tensor in read_tensor_header(file).values()
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
