"""Check that the checkpoint which training continues from fits. Only headers are read, before torch is imported."""

from collections.abc import Sequence
from pathlib import Path

from crescent.config import LoraConfig, TrainConfig, Tuning
from crescent.errors import BadConfig, Missing
from crescent.models.model_folder import ADAPTER, ADAPTER_CONFIG, read_json, read_tensor_header, weight_files

Shapes = dict[str, list[int]]
"""Shape of each tensor, by name."""


def check_kind(folder: Path, tuning: Tuning) -> None:
    """Refuse a parent that is missing, or is not of the kind that `train.tuning` makes.

    Raises:
        Missing: a file is missing.
        BadConfig: it is an adapter where complete weights are needed, or the other way round.
    """
    adapter = (folder / ADAPTER_CONFIG).is_file()
    if tuning is Tuning.full and adapter:
        raise BadConfig(
            f"parent={folder}: an adapter, but train.tuning=full continues from complete weights; give the `weights` "
            "folder of a round, or use train.tuning=lora"
        )
    if tuning is not Tuning.full and not adapter and (folder / "config.json").is_file():
        raise BadConfig(
            f"parent={folder}: complete weights, but train.tuning={tuning.value} continues from an adapter; give the "
            "`adapter` folder of a round, or use train.tuning=full, or give these weights as model.path"
        )
    if tuning is Tuning.full:
        weight_files(folder)
        return
    for name in (ADAPTER_CONFIG, ADAPTER):
        if not (folder / name).is_file():
            raise Missing(f"parent={folder}: {name} is missing; give the `adapter` folder of a finished round, or null")


def check_fit(folder: Path, cfg: TrainConfig, base: Path) -> None:
    """Refuse a parent that was made from another base.

    Raises:
        Missing: a file is damaged.
        BadConfig: the parent does not fit.
    """
    shapes = tensor_shapes(weight_files(base))
    if cfg.tuning is Tuning.full:
        check_weights(folder, tensor_shapes(weight_files(folder)), base, shapes)
    else:
        check_adapter(folder, cfg.lora, base, shapes)


def check_adapter(folder: Path, lora: LoraConfig, base: Path, shapes: Shapes) -> None:
    """Refuse an adapter whose file is truncated, or that was made for another base or with other settings."""
    config = read_json(folder / ADAPTER_CONFIG)
    for key, field, wanted in (("r", "rank", lora.rank), ("lora_alpha", "alpha", lora.alpha)):
        if config.get(key) != wanted:
            raise BadConfig(
                f"train.lora.{field}={wanted}: the parent's adapter has {config.get(key)}, and training would continue "
                f"with that ({folder}); use train.lora.{field}={config.get(key)}, or train.start=base"
            )
    tensors = tensor_shapes([folder / ADAPTER])
    # A tensor's name in an adapter, in a checkpoint and in a model that wraps another have only their end in common.
    layers = {tail(name): shape for name, shape in shapes.items()}
    any_layer_known = False
    for name, shape in tensors.items():
        layer, _, part = name.partition(".lora_")
        base_shape = layers.get(tail(layer + ".weight"))
        if base_shape is None or not part.startswith(("A.", "B.")):
            continue
        any_layer_known = True
        width = shape[1] if part.startswith("A.") else shape[0]  # the other side is the rank
        if width not in base_shape:
            raise BadConfig(
                f"parent={folder}: its adapter of {layer} has width {width}, but that layer of {base} is "
                f"{' x '.join(map(str, base_shape))}; an adapter fits only the base it was trained on"
            )
    if not any_layer_known:
        raise BadConfig(
            f"parent={folder}: none of its layers exists in {base} (its first tensor is "
            f"{min(tensors, default='missing')}); an adapter fits only the base it was trained on"
        )


def check_weights(folder: Path, parent: Shapes, base: Path, shapes: Shapes) -> None:
    """Refuse weights of a model other than the base."""
    other = sorted(name for name in parent.keys() & shapes.keys() if parent[name] != shapes[name])
    if other or not parent.keys() & shapes.keys():
        example = (
            f"{other[0]} is {parent[other[0]]}, not {shapes[other[0]]}" if other else "no tensor has the same name"
        )
        raise BadConfig(
            f"parent={folder}: not a descendant of model.path={base}: {example}; give the `weights` folder of a round "
            "that trained this model"
        )


def tail(name: str) -> str:
    """The last four parts of a tensor's name: `0.self_attn.q_proj.weight`."""
    return ".".join(name.split(".")[-4:])


def tensor_shapes(files: Sequence[Path]) -> Shapes:
    """Name and shape of each tensor in these safetensors files."""
    return {name: tensor["shape"] for file in files for name, tensor in read_tensor_header(file).items()}
