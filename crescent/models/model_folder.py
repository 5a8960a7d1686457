"""Folders of weights: whether they are complete and safe to load, and how large the model is.

Only headers are read, so the supervisor needs no torch.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crescent.config import ModelConfig
from crescent.errors import BadConfig, Missing
from crescent.models.trainable import check_fetched, check_small_files, check_tensor_types
from crescent.models.trainable import read_json as read_json

INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_model.safetensors"
"""Name of an adapter's weights in its folder, as peft writes it."""
ADAPTER_CONFIG = "adapter_config.json"
"""Name of an adapter's settings in its folder, as peft writes it."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
SMALL_FILES = ("*.json", "*.model", "*.txt", "*.jinja", "README.md", "LICENSE*", "NOTICE*")
"""Names of a hub repository's files that say what its model is."""
NOT_WANTED = ("*/*", "consolidated*")
"""Names of files with other formats of the same weights: subfolders (e.g. original/), and Mistral's single file."""


def find_model(model: ModelConfig) -> Path:
    """Folder of the base model, checked; downloaded first if `model.path` is a hub id.

    Raises:
        BadConfig, Missing: as `check_model_folder`; also if the hub has no such model or cannot be reached.
    """
    folder = Path(model.path).expanduser()
    if is_hub_id(model.path):
        # What cannot be trained is refused before its weights are downloaded.
        check_small_files(_download(model, SMALL_FILES))
        folder = _download(model, (*SMALL_FILES, "*.safetensors"))
    check_model_folder(folder)
    return folder


def is_hub_id(path: str) -> bool:
    """Whether a `model.path` names a repository of the hub: it looks like one, and no folder here has that name."""
    return path.count("/") == 1 and not path.startswith((".", "/", "~")) and not Path(path).is_dir()


def cached_snapshot(model: ModelConfig) -> Path | None:
    """Folder in which the hub's cache keeps what it has of a model; `None` if it has nothing."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model.path, revision=model.revision, local_files_only=True))
    except (OSError, ValueError):
        return None


def _download(model: ModelConfig, wanted: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            model.path, revision=model.revision, allow_patterns=[*wanted], ignore_patterns=[*NOT_WANTED]
        )
    except (OSError, ValueError) as error:
        cause = str(error).strip().splitlines()[0]
        raise Missing(
            f"model.path={model.path}: no such folder, and on the hub: {cause}; check name, network and HF_TOKEN"
        ) from error
    return Path(found)


def check_model_folder(path: Path) -> None:
    """Refuse a folder that cannot be served or trained, or that would run foreign code when loaded.

    Raises:
        Missing: the folder, its configuration, its tokenizer, a shard or a part of a shard is missing.
        BadConfig: the weights are pickles or quantised, the folder brings its own code (`auto_map`), or the model is
            none that can be asked in turns.
    """
    if not path.is_dir():
        made = "; weights of a run, or of `python -m crescent.warm_start`, have to be made first"
        raise Missing(
            f"model.path={path}: no such folder; give one with safetensors weights, a hub id (`organisation/name`) "
            f"or `packaged:smollm2`{made if path.name == 'weights' else ''}"
        )
    check_small_files(path)
    for shard in weight_files(path):
        check_tensor_types(shard, read_tensor_header(shard))


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
    if any(path.glob("*.gguf")):
        raise BadConfig(f"{path}: only GGUF weights, which cannot be trained; use the model that they were made from")
    raise Missing(f"{path}: no weights (model.safetensors or {INDEX}); fetch the model again")


def read_tensor_header(file: Path) -> dict[str, Any]:
    """Tensor name → dtype, shape and offsets of a safetensors file (https://github.com/safetensors/safetensors#format).

    Raises:
        Missing: the file is shorter or longer than its header says.
    """
    damaged = f"{file}: the file is damaged or was cut short; fetch or write it again"
    check_fetched(file)
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
