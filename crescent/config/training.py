"""How the child is trained."""

from dataclasses import dataclass, field

from crescent.config.checks import Choice, require


@dataclass
class LoraConfig:
    """Low-rank adapters on all linear layers (arXiv 2106.09685; targets after arXiv 2305.14314)."""

    rank: int = 64
    alpha: int = 128
    dropout: float = 0.0
    targets: str = "all-linear"
    """`all-linear`, or comma-separated module names."""

    def __post_init__(self) -> None:
        require(self.rank >= 1, "train.lora.rank", self.rank, "must be at least 1")
        require(self.alpha >= 1, "train.lora.alpha", self.alpha, "must be at least 1")
        require(0 <= self.dropout < 1, "train.lora.dropout", self.dropout, "must lie in [0, 1)")


class Trainer(Choice):
    sft = "sft"
    """TRL's SFTTrainer with a LoRA adapter."""
    fake = "fake"
    """No training: writes down a skill for the fake engine. For people who change the loop."""


class Start(Choice):
    base = "base"
    """Each round trains from the base on the data so far (ReST-EM, arXiv 2312.06585)."""
    parent = "parent"
    """Each round goes on from the best checkpoint so far."""


@dataclass
class TrainConfig:
    """Fine-tuning on the winners, in a process of its own: its exit gives all memory back."""

    trainer: Trainer = Trainer.sft
    start: Start = Start.base
    lora: LoraConfig = field(default_factory=LoraConfig)
    learning_rate: float = 1e-4
    epochs: float = 2.0
    """Passes over the pairs."""
    max_steps: int = -1
    """Optimizer steps; overrides `epochs` when positive."""
    batch: int = 64
    """Sequences per optimizer step, over all processes and accumulated micro batches."""
    micro_batch: int = 8
    """Sequences per forward pass and process; lower it when memory runs out: `batch` and results stay."""
    max_length: int = 2048
    """Longest prompt plus answer in tokens; longer pairs are left out and counted, never cut."""
    warmup: float = 0.03
    """Share of the steps in which the learning rate rises, in [0, 1); a cosine brings it down after."""
    save_steps: int = 50
    """A complete checkpoint every so many steps: what a killed trainer loses at most."""
    gradient_checkpointing: bool = False
    """Trade a third more compute for memory."""
    accelerate: str | None = None
    """A file in train/accelerate (`one_gpu`, …) or a path: start through `accelerate launch`; null: a plain process."""

    def __post_init__(self) -> None:
        require(self.learning_rate > 0, "train.learning_rate", self.learning_rate, "must be positive", "1e-4 for LoRA")
        require(self.epochs > 0 or self.max_steps > 0, "train.epochs", self.epochs, "must be positive")
        require(self.batch >= 1, "train.batch", self.batch, "must be at least 1")
        require(self.micro_batch >= 1, "train.micro_batch", self.micro_batch, "must be at least 1")
        whole = self.batch % self.micro_batch == 0
        require(whole, "train.micro_batch", self.micro_batch, f"must divide train.batch={self.batch}")
        require(self.max_length >= 16, "train.max_length", self.max_length, "must be at least 16 tokens")
        require(0 <= self.warmup < 1, "train.warmup", self.warmup, "must lie in [0, 1)")
        require(self.save_steps >= 1, "train.save_steps", self.save_steps, "must be at least 1")
