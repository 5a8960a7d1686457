"""How many sequences the trainer reads at once (`train.micro_batch=auto`), reckoned from memory before anything starts.

On the GPU of each process there must be room for

    what is held    weights, gradients and optimizer state, or the process's share of them (ZeRO, FSDP)
    libraries       CUDA, buffers for communication, tiles of logits
    activations     sequences × train.max_length × bytes per token

Reckoned, not measured on a GPU: the constants are generous. `train.batch` stays what the config says, so the number
changes speed and memory, and results only by rounding.
"""

from dataclasses import dataclass

from crescent.config import AUTO, Config, Trainer, Tuning, WhileTraining
from crescent.models.estimates import BYTES, GIB, trainer_gib
from crescent.models.while_training import SLEEPING_GIB, choose

USABLE = 0.9
"""Share of the GPU's memory that is planned with; the rest is lost between allocations of different sizes."""
LIBRARIES_GIB = 4.0
"""Memory of a process for CUDA, communication (NCCL) and tiles of logits: TRL 1.16 scores the tokens of answers in
tiles of 32,768 words of the vocabulary, however large that is."""
ACTIVATION_BYTES = 3.0
"""Bytes that one token keeps for the backward pass, divided by (number of parameters)^(2/3).

A layer with a gated MLP keeps about 36 bytes for each of its `hidden_size` channels and 8 for each of
`intermediate_size`, in bfloat16 with adapters (arXiv 2205.05198, section 4, without the attention's scores, which the
kernels of sdpa and flash attention compute again). Over all layers that is 7.9 MB a token for Qwen2.5-7B and 3.6 MB for
Qwen2.5-1.5B. From 0.5 to 72 billion parameters, Qwen2.5 and Llama 3 lie between 2.0 and 2.8 times parameters^(2/3)."""
CHECKPOINTED = 0.08
"""Share of these bytes that is left with gradient checkpointing: the input of each layer, and all of a single one."""
CACHED = 0.05
"""Keys and values of one token, as a share of the same bytes: what sampling with transformers needs (GRPO)."""
ENOUGH_TOKENS = 4096
"""Tokens in a forward pass that keep a GPU busy. If so many fit without gradient checkpointing, it is left out: it
costs a third more compute."""
USUAL = 8
"""Sequences at once on a CPU."""
CAREFUL = 2
"""Sequences at once, with gradient checkpointing, where a size is unknown."""


@dataclass(frozen=True)
class Processes:
    """The trainer's processes, each on a GPU of its own."""

    number: int = 1
    zero_stage: int = 0
    """Stage of ZeRO; 3 also for FSDP. 0: each process has a copy."""
    offloaded: bool = False
    """Whether optimizer states lie in main memory."""


@dataclass(frozen=True)
class Fit:
    """What fits."""

    micro_batch: int
    gradient_checkpointing: bool
    why: str
    """The reason in a few words, for a person."""


def find_fit(cfg: Config, parameters: float | None, processes: Processes, gpu_gib: float | None, on_gpu: bool) -> Fit:
    """The numbers in place of `auto` in `train.micro_batch` and `train.gradient_checkpointing`.

    Args:
        parameters: Number of parameters of the trained model; `None` if unknown.
        gpu_gib: Memory of the smallest GPU that is used; `None` if unknown.
        on_gpu: Whether it trains on GPUs at all.
    """
    if not on_gpu:
        return _settled(cfg, processes, USUAL, False, "no GPU is used")
    if parameters is None or gpu_gib is None:
        what = "the size of the model" if parameters is None else "the memory of the GPU"
        return _settled(cfg, processes, CAREFUL, True, f"{what} is unknown")
    space = USABLE * space_gib(cfg, gpu_gib, processes)
    free = space - held_gib(cfg, parameters, processes) - LIBRARIES_GIB
    rows = {way: int(free // sequence_gib(cfg, parameters, way)) if free > 0 else 0 for way in (False, True)}
    stated, share = cfg.train.micro_batch, max(1, cfg.train.batch // processes.number)
    wanted = stated if isinstance(stated, int) else min(share, max(1, ENOUGH_TOKENS // cfg.train.max_length))
    enough = rows[False] >= wanted
    checkpointing = asked if isinstance(asked := cfg.train.gradient_checkpointing, bool) else not enough
    each = sequence_gib(cfg, parameters, checkpointing)
    what = "preference" if cfg.train.trainer is Trainer.dpo else "sequence"
    longest = f"{what} of {cfg.train.max_length} tokens"
    why = f"{space - free:.1f} GiB held and {each:.2f} for each {longest}, in {space:.1f} GiB"
    if rows[checkpointing] < (stated if isinstance(stated, int) else 1):
        why += ": DOES NOT FIT if one is that long; lower train.max_length, or split the model (train.accelerate)"
    return _settled(cfg, processes, rows[checkpointing], checkpointing, why)


def _settled(cfg: Config, processes: Processes, rows: int, checkpointing: bool, why: str) -> Fit:
    """A fit of at most `rows` sequences at once; what the config states stays."""
    stated, asked = cfg.train.micro_batch, cfg.train.gradient_checkpointing
    number = stated if isinstance(stated, int) else largest_divisor(cfg.train.batch // processes.number, rows)
    return Fit(number, asked if isinstance(asked, bool) else checkpointing, why)


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of a number that is not above the limit; 1 if there is none."""
    return next((size for size in range(min(number, limit), 1, -1) if number % size == 0), 1)


def space_gib(cfg: Config, gpu_gib: float, processes: Processes) -> float:
    """Memory of one GPU that is left for the trainer.

    Unless `serving.while_training=keep`, all but what a sleeping engine keeps; the same if it is stopped, because which
    of the two it is may depend on the main memory that is free at the moment.
    """
    grpo = cfg.train.grpo
    sampler = grpo.vllm_memory_share * gpu_gib if cfg.train.trainer is Trainer.grpo and grpo.vllm else 0.0
    way = cfg.serving.while_training
    if way is WhileTraining.auto:
        way = choose(cfg, [gpu_gib] * processes.number, 0.0)
    if way is WhileTraining.keep and not cfg.serving.urls:
        return gpu_gib * (1 - cfg.serving.memory_share) - sampler
    return gpu_gib - SLEEPING_GIB - sampler


def held_gib(cfg: Config, parameters: float, processes: Processes) -> float:
    """Memory on one GPU for weights, gradients and optimizer state, and for what sampling and a reference need."""
    train = cfg.train
    number, stage = processes.number, processes.zero_stage
    weights, total = parameters * BYTES[cfg.model.dtype] / GIB, trainer_gib(cfg, parameters)
    if processes.offloaded:
        held = weights / number if stage == 3 else weights
    elif stage == 3:
        held = total / number
    elif stage:  # gradients and optimizer states are split, weights are not
        held = weights + total / number
    else:
        held = total
    if train.trainer is Trainer.dpo and train.tuning is Tuning.full:
        held += weights / number if stage == 3 else weights  # the reference
    if train.trainer is Trainer.grpo and not train.grpo.vllm:
        cached = CACHED * ACTIVATION_BYTES * parameters ** (2 / 3)
        held += train.batch / number * train.max_length * cached / GIB
    return float(held)


def sequence_gib(cfg: Config, parameters: float, checkpointing: bool) -> float:
    """Memory for the activations of one of the sequences that `train.micro_batch` counts, at its longest."""
    per_token = ACTIVATION_BYTES * parameters ** (2 / 3) * BYTES[cfg.model.dtype] / 2
    texts = 2 if cfg.train.trainer is Trainer.dpo else 1
    return float(texts * cfg.train.max_length * per_token * (CHECKPOINTED if checkpointing else 1.0) / GIB)


def is_auto(cfg: Config) -> bool:
    """Whether the config leaves something to `find_fit`."""
    return AUTO in (cfg.train.micro_batch, cfg.train.gradient_checkpointing)
