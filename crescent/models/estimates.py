"""Estimates, before anything is started, of the memory and the disk space that a model and its training need."""

from crescent.config import Child, Config, Dtype, Keep, Trainer, Tuning
from crescent.models.model_size import measure

GIB = 1 << 30
BYTES = {Dtype.float32: 4, Dtype.bfloat16: 2, Dtype.auto: 2}
"""Bytes of one parameter."""
ADAPTER_SHARE = 0.1
"""Size of an adapter with its optimizer state as a share of the weights, estimated generously."""
FULL_BYTES = 16
"""Bytes for one trained parameter: weight, gradient and Adam's two moments, all in float32 (arXiv 1910.02054, 3.1)."""
CHECKPOINT_BYTES = 12
"""Bytes for one trained parameter in a checkpoint: the same without the gradient."""
CHECKPOINTS = 3
"""Largest number of checkpoints on the disk: two are kept while the next is written."""
QLORA_BYTES = 0.52
"""Bytes of one parameter in four bits, with its share of the quantisation constants (arXiv 2305.14314, section 3)."""


def model_parameters(cfg: Config) -> float | None:
    """Number of parameters of the trained model: as `model.parameters_b` states, else as the model itself says; `None`
    if unknown."""
    if cfg.train.student is not None:
        return measure(cfg.train.student)
    if cfg.model.parameters_b is not None:
        return cfg.model.parameters_b * 1e9
    return measure(cfg.model.path, cfg.model.revision)


def trainer_gib(cfg: Config, parameters: float) -> float:
    """Memory for weights, gradients and optimizer state, in GiB, over all processes of the trainer; activations and
    libraries need more."""
    weights = parameters * BYTES[cfg.model.dtype] / GIB
    match cfg.train.tuning:
        case Tuning.full:
            return FULL_BYTES * parameters / GIB
        case Tuning.qlora:
            return QLORA_BYTES * parameters / GIB + ADAPTER_SHARE * weights
        case Tuning.lora:
            return weights + ADAPTER_SHARE * weights


def disk_gib(cfg: Config) -> float | None:
    """Disk space for all rounds and the trainer's checkpoints, in GiB: adapters, and complete weights where the server
    needs them; `None` if the model's size is unknown."""
    parameters = model_parameters(cfg)
    if parameters is None or cfg.train.trainer is Trainer.fake:
        return None
    weights = parameters * BYTES[cfg.model.dtype] / GIB
    complete = weights if cfg.serving.child is not Child.adapter else 0.0
    # With `keep=best`, the parent and the child of the round under way are on the disk.
    kept = min(cfg.run.rounds, 2) if cfg.run.keep is Keep.best else cfg.run.rounds
    if cfg.train.tuning is Tuning.full:
        return kept * complete + CHECKPOINTS * CHECKPOINT_BYTES * parameters / GIB
    return kept * complete + (cfg.run.rounds + CHECKPOINTS) * ADAPTER_SHARE * weights
