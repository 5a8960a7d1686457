"""Does the checkpoint that training shall go on from fit? Asked of headers, before torch is imported."""

from collections.abc import Sequence
from pathlib import Path

from crescent.config import LoraConfig, TrainConfig, Tuning
from crescent.errors import BadConfig, Missing
from crescent.models.model_folder import read_json, read_tensor_header, weight_files

Shapes = dict[str, list[int]]


def check_kind(folder: Path, tuning: Tuning) -> None:
    """Refuse to go on from something that is not there, or not of the kind that `train.tuning` makes.

    Raises:
        Missing: a file is absent.
        BadConfig: an adapter where complete weights are needed, or the other way round.
    """
    adapter = (folder / "adapter_config.json").is_file()
    if tuning is Tuning.full and adapter:
        raise BadConfig(
            f"parent={folder}: an adapter, and train.tuning=full goes on from complete weights; give the `weights` "
            "folder of a round, or use train.tuning=lora"
        )
    if tuning is not Tuning.full and not adapter and (folder / "config.json").is_file():
        raise BadConfig(
            f"parent={folder}: complete weights, and train.tuning={tuning.value} goes on from an adapter; give the "
            "`adapter` folder of a round, or use train.tuning=full, or give these weights as model.path"
        )
    if tuning is Tuning.full:
        weight_files(folder)
        return
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            raise Missing(f"parent={folder}: {name} is missing; give the `adapter` folder of a finished round, or null")


def check_fit(folder: Path, train: TrainConfig, base: Path) -> None:
    """Refuse to go on from a parent of another base.

    Raises:
        Missing: a file is damaged.
        BadConfig: the parent does not fit.
    """
    shapes = tensor_shapes(weight_files(base))
    if train.tuning is Tuning.full:
        check_weights(folder, tensor_shapes(weight_files(folder)), base, shapes)
    else:
        check_adapter(folder, train.lora, base, shapes)


def check_adapter(folder: Path, lora: LoraConfig, base: Path, shapes: Shapes) -> None:
    """Refuse an adapter that is cut short, was made for another base, or with other settings."""
    config = read_json(folder / "adapter_config.json")
    for key, field, wanted in (("r", "rank", lora.rank), ("lora_alpha", "alpha", lora.alpha)):
        if config.get(key) != wanted:
            raise BadConfig(
                f"train.lora.{field}={wanted}: the parent's adapter has {config.get(key)} and would be trained on with "
                f"that ({folder}); use train.lora.{field}={config.get(key)}, or train.start=base"
            )
    tensors = tensor_shapes([folder / "adapter_model.safetensors"])
    # Only the end of a name is the same in an adapter, in a checkpoint and in a model that wraps another.
    layers = {tail(name): shape for name, shape in shapes.items()}
    fits = False
    for name, shape in tensors.items():
        layer, _, part = name.partition(".lora_")
        found = layers.get(tail(layer + ".weight"))
        if found is None or not part.startswith(("A.", "B.")):
            continue
        fits = True
        side = shape[1] if part.startswith("A.") else shape[0]
        if side not in found:
            raise BadConfig(
                f"parent={folder}: its adapter of {layer} is {side} wide, and that layer of {base} is "
                f"{' x '.join(map(str, found))}; an adapter fits only the base it was trained on"
            )
    if not fits:
        raise BadConfig(
            f"parent={folder}: none of its layers exist in {base} (the first is {min(tensors, default='missing')}); an "
            "adapter fits only the base it was trained on"
        )


def check_weights(folder: Path, parent: Shapes, base: Path, shapes: Shapes) -> None:
    """Refuse weights of another model than the base."""
    other = sorted(name for name in parent.keys() & shapes.keys() if parent[name] != shapes[name])
    if other or not parent.keys() & shapes.keys():
        example = (
            f"{other[0]} is {parent[other[0]]}, not {shapes[other[0]]}" if other else "no tensor has the same name"
        )
        raise BadConfig(
            f"parent={folder}: not a descendant of model.path={base}: {example}; give the `weights` folder of a round "
            "of this model"
        )


def tail(name: str) -> str:
    """The last four parts of a tensor's name: `0.self_attn.q_proj.weight`."""
    return ".".join(name.split(".")[-4:])


def tensor_shapes(files: Sequence[Path]) -> Shapes:
    """Name and shape of all tensors in some safetensors files."""
    return {name: tensor["shape"] for file in files for name, tensor in read_tensor_header(file).items()}
