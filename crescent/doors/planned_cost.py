"""What a run costs at most, reckoned before it starts (part of `mode=plan`)."""

from dataclasses import dataclass

from crescent.config import Config, DataPolicy, EngineKind, Trainer, Tuning
from crescent.machine.nvidia import visible_gpus
from crescent.models.estimates import model_parameters
from crescent.models.model_size import measure
from crescent.models.on_cpu import LARGE

GPU = "H100"
FLOPS = 989e12
"""Operations per second of that GPU (SXM) in bfloat16: half of what https://www.nvidia.com/en-us/data-center/h100/
states with sparsity."""
GENERATING = 0.25
"""Share of them that a full batch of answers reaches: about 16,000 tokens a second of a model of 7.6 billion
parameters. Assumed."""
TRAINING = 0.4
"""Share of them that training reaches; 0.38 to 0.43 for Llama 3 (arXiv 2407.21783, section 3.3.2)."""
STEP_S = 0.006
"""Shortest time of an engine's step in seconds, however small the model is. Assumed."""
FORWARD = 2
"""Operations per parameter and token of reading or writing a text."""
LEARNING = {Tuning.lora: 4, Tuning.qlora: 4, Tuning.full: 6}
"""Operations per parameter and token of learning from a text: frozen weights have no gradients of their own."""


@dataclass(frozen=True)
class PlannedCost:
    """Most that a run can cost: every question is kept, every text as long as it may be, every round takes place."""

    generated: float
    """Tokens that the engine writes."""
    trained: float
    """Tokens that the trainer reads, each as often as it reads them."""
    gpu_hours: float
    """Hours of one GPU for both."""

    def __str__(self) -> str:
        tokens = f"at most {self.generated / 1e6:,.0f} million generated and {self.trained / 1e6:,.0f} million trained"
        return f"{tokens} tokens, {self.gpu_hours:.{1 if self.gpu_hours < 10 else 0}f} {GPU} hours (reckoned)"


def planned_cost(cfg: Config, generated: float) -> PlannedCost | None:
    """The most that a run can cost; `None` for fakes, for a model of unknown size or so small that a CPU will do, and
    for reinforcement learning, whose trainer writes answers, too.

    Args:
        generated: Tokens that the engine writes at most.
    """
    asked = cfg.model.parameters_b * 1e9 if cfg.model.parameters_b else measure(cfg.model.path, cfg.model.revision)
    learner = model_parameters(cfg)
    fake = cfg.serving.engine is EngineKind.fake or cfg.train.trainer is Trainer.fake
    if asked is None or learner is None or max(asked, learner) <= LARGE or fake or cfg.train.trainer is Trainer.grpo:
        return None
    writing_s = generated / min(GENERATING * FLOPS / (FORWARD * asked), cfg.serving.concurrency / STEP_S)
    trained = trained_tokens(cfg)
    training_s = trained * LEARNING[cfg.train.tuning] * learner / (TRAINING * FLOPS)
    return PlannedCost(generated, trained, (writing_s + training_s) / 3600)


def trained_tokens(cfg: Config) -> float:
    """Tokens that the trainer reads at most in all rounds."""
    train = cfg.train
    texts = 2 if train.trainer is Trainer.dpo else 1
    each = texts * min(train.max_length, cfg.bait.max_tokens + cfg.consensus.max_tokens)
    if train.max_steps > 0:
        return float(cfg.run.rounds * train.max_steps * train.batch * each)
    new = cfg.bait.questions * cfg.pairs.responses / (1 - cfg.pairs.replay.share)
    return sum(new * weight_of_rounds(cfg, number) for number in range(1, cfg.run.rounds + 1)) * each * train.epochs


def weight_of_rounds(cfg: Config, number: int) -> float:
    """Pairs that round `number` trains on, counted in rounds of new pairs."""
    match cfg.pairs.policy:
        case DataPolicy.replace:
            taken = 1
        case DataPolicy.window:
            taken = min(number, cfg.pairs.window)
        case DataPolicy.accumulate:
            taken = number
    return sum(cfg.pairs.decay**age for age in range(taken))


def cost_lines(cfg: Config, generated: float) -> list[str]:
    """The line of the plan, with the price if `tracking.hourly_rate` and the number of GPUs are known."""
    cost = planned_cost(cfg, generated)
    if cost is None:
        return []
    gpus, rate = len(visible_gpus()), cfg.tracking.hourly_rate
    price = f"; {cost.gpu_hours / gpus * rate:,.0f} at {rate:g} an hour of this machine" if rate and gpus else ""
    return [f"cost        {cost}{price}"]
