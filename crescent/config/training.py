"""Settings of training."""

from dataclasses import dataclass, field

from crescent.config.checks import Choice, require

TRAIN_LAYOUT = ("accelerate", "micro_batch", "save_steps", "gradient_checkpointing", "attention", "liger")
"""Settings of `train` that only say how the work is laid out on the machine: an interrupted run may resume with
others."""

AUTO = "auto"
"""Value of `train.accelerate` that takes all GPUs, and of settings that are chosen by memory."""


class Trainer(Choice):
    """How the child learns from the votes. All but `fake` are TRL's own trainers."""

    sft = "sft"
    """Supervised fine-tuning on responses with the majority's answer (SFTTrainer)."""
    dpo = "dpo"
    """Preference of a response with the majority's answer over an outvoted one (DPOTrainer, arXiv 2305.18290).
    Questions on which all samples agree have no outvoted answer; they are left out and counted."""
    grpo = "grpo"
    """Reinforcement learning on the same questions with the vote as reward (GRPOTrainer, arXiv 2402.03300)."""
    fake = "fake"
    """No training: records a skill for the fake engine. To develop the loop."""


class Tuning(Choice):
    """Which weights are trained."""

    lora = "lora"
    """Low-rank adapters on a frozen model (arXiv 2106.09685)."""
    qlora = "qlora"
    """The same, on a model that is quantised to four bits while it trains (arXiv 2305.14314): needs bitsandbytes. The
    adapter is served beside, or merged into, the unquantised model."""
    full = "full"
    """All weights. The server loads them with `serving.child=reload` or `restart`."""


class Start(Choice):
    """The model that a round's training starts from."""

    base = "base"
    """The base, on the data so far (ReST-EM, arXiv 2312.06585)."""
    parent = "parent"
    """The best checkpoint so far."""
    merge = "merge"
    """A point between base and parent: base + `train.alpha` * (parent - base), weight by weight."""


class Batching(Choice):
    """How the sequences of a micro batch are arranged."""

    padded = "padded"
    """One row per sequence, padded to the longest; sequences of similar length are batched together. Works with every
    attention."""
    padding_free = "padding_free"
    """One row for all sequences, without padding: the same losses, no token wasted. Needs an attention that keeps
    sequences apart, which is tested on the model before training."""
    packed = "packed"
    """Rows of `train.max_length` filled with as many sequences as fit; `train.batch` then counts rows. Needs the same
    kind of attention."""


@dataclass
class LoraConfig:
    """Low-rank adapters on all linear layers (arXiv 2106.09685; targets after arXiv 2305.14314)."""

    rank: int = 64
    """Rank of the adapters."""
    alpha: int = 128
    """Scale: the adapter's output is multiplied by alpha / rank."""
    dropout: float = 0.0
    """Dropout probability at the adapters' input, in [0, 1)."""
    targets: str = "all-linear"
    """Names of the modules, comma-separated, or `all-linear`."""

    def __post_init__(self) -> None:
        require(self.rank >= 1, "train.lora.rank", self.rank, "must be at least 1")
        require(self.alpha >= 1, "train.lora.alpha", self.alpha, "must be at least 1")
        require(0 <= self.dropout < 1, "train.lora.dropout", self.dropout, "must lie in [0, 1)")


@dataclass
class DpoConfig:
    """Direct preference optimisation (arXiv 2305.18290), for `trainer=dpo`."""

    beta: float = 0.1
    """Strength of the pull towards the model it started from; the usual value of the paper and of TRL."""
    margin_weighted: bool = True
    """Whether to weight each preference by its margin: the majority's votes minus those of the outvoted answer, as a
    share of the answers. The weights have mean one. So a vote of 4 to 3 counts less than one of 7 to 1."""

    def __post_init__(self) -> None:
        require(self.beta > 0, "train.dpo.beta", self.beta, "must be positive", "0.1 is usual")


class Reward(Choice):
    """Condition under which `trainer=grpo` rewards an answer."""

    voted = "voted"
    """Its final answer won the round's vote. Fixed labels are the safer choice (arXiv 2505.21444)."""
    group = "group"
    """Its final answer is the most frequent one in its group of samples (arXiv 2504.16084)."""


@dataclass
class GrpoConfig:
    """Group-relative policy optimisation (arXiv 2402.03300), for `trainer=grpo`."""

    reward: Reward = Reward.voted
    generations: int = 8
    """Number of answers sampled per question and step; their mean reward is the baseline."""
    temperature: float = 1.0
    """Sampling temperature, in (0, 2]."""
    max_tokens: int = 512
    """Longest answer in tokens; an answer that is cut here has no final answer and no reward."""
    beta: float = 0.0
    """Weight of the divergence from the model it started from; 0 needs no reference model (TRL's default)."""
    vllm: bool = False
    """Whether to sample with vLLM inside the trainer's process (TRL's `colocate`), on a GPU: much faster than
    transformers."""
    vllm_memory_share: float = 0.3
    """Share of the GPU's memory for this vLLM, in (0, 1)."""

    def __post_init__(self) -> None:
        where = "train.grpo"
        require(
            self.generations >= 2,
            f"{where}.generations",
            self.generations,
            "must be at least 2: one answer has no baseline",
        )
        require(0 < self.temperature <= 2, f"{where}.temperature", self.temperature, "must lie in (0, 2]")
        require(self.max_tokens >= 1, f"{where}.max_tokens", self.max_tokens, "must be at least 1")
        require(self.beta >= 0, f"{where}.beta", self.beta, "must not be negative", "0 is usual")
        share = self.vllm_memory_share
        require(0 < share < 1, f"{where}.vllm_memory_share", share, "must lie in (0, 1)")


@dataclass
class TrainConfig:
    """Training on the votes, in a separate process: its exit frees all memory."""

    trainer: Trainer = Trainer.sft
    tuning: Tuning = Tuning.lora
    start: Start = Start.base
    alpha: float = 0.5
    """Position between base and parent for `start=merge`, in (0, 1]; 1 is the parent."""
    student: str | None = None
    """Another model that learns from the votes of `model.path`, which itself stays unchanged (distillation): a hub id,
    a folder or `packaged:NAME`. It is compared with its own base, and reported beside its teacher."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    dpo: DpoConfig = field(default_factory=DpoConfig)
    grpo: GrpoConfig = field(default_factory=GrpoConfig)
    learning_rate: float = 1e-4
    """Peak learning rate. Usual: 1e-4 for LoRA, 1e-5 for all weights, 5e-6 for DPO, 1e-6 to 1e-5 for GRPO; see
    conf/train."""
    epochs: float = 2.0
    """Number of passes over the pairs."""
    max_steps: int = -1
    """Number of optimizer steps; overrides `epochs` if positive."""
    batch: int = 64
    """Number of sequences per optimizer step, over all processes and accumulated micro batches. Counts pairs of
    sequences for `trainer=dpo`, sampled answers for `trainer=grpo`, rows for `batching=packed`."""
    micro_batch: int | str = 8
    """Number of sequences per forward pass and process; lower it if memory runs out: `batch` and results stay. `auto`:
    as many as fit on the GPU, reckoned from model, `max_length` and memory (docs/gpu.md)."""
    max_length: int = 2048
    """Longest prompt plus answer, in tokens; longer pairs are left out and counted, never cut."""
    warmup: float = 0.03
    """Share of the steps in which the learning rate rises, in [0, 1); afterwards it falls along a cosine."""
    save_steps: int = 50
    """Number of steps between complete checkpoints: a killed trainer loses at most these."""
    gradient_checkpointing: bool | str = False
    """Whether to save memory at the cost of a third more compute. `auto`: only if too little fits without."""
    batching: Batching = Batching.padded
    attention: str | None = None
    """Value of transformers' `attn_implementation`, e.g. `flash_attention_2`; null: its default."""
    liger: bool = False
    """Whether to use the fused kernels of liger-kernel, on a GPU: less memory and time."""
    accelerate: str | None = None
    """Name of a file in train/accelerate (`one_gpu`, `eight_gpus`, `zero3`, …) or a path, for `accelerate launch`;
    null: a plain process; `auto`: all GPUs of the machine, or as many as `batch` can be divided among, each with a copy
    of a model that learns adapters (DDP), or with its share of one whose weights all learn (ZeRO-3)."""

    def __post_init__(self) -> None:
        require(0 < self.alpha <= 1, "train.alpha", self.alpha, "must lie in (0, 1]", "0.5 is half way")
        require(
            self.student is None or bool(self.student.strip()), "train.student", repr(self.student), "must not be empty"
        )
        require(self.learning_rate > 0, "train.learning_rate", self.learning_rate, "must be positive", "1e-4 for LoRA")
        require(self.epochs > 0 or self.max_steps > 0, "train.epochs", self.epochs, "must be positive")
        require(self.batch >= 1, "train.batch", self.batch, "must be at least 1")
        if isinstance(self.micro_batch, int):
            require(self.micro_batch >= 1, "train.micro_batch", self.micro_batch, "must be at least 1")
            whole = self.batch % self.micro_batch == 0
            require(whole, "train.micro_batch", self.micro_batch, f"must divide train.batch={self.batch}")
        else:
            require(self.micro_batch == AUTO, "train.micro_batch", self.micro_batch, "must be a number or auto")
        known = isinstance(self.gradient_checkpointing, bool) or self.gradient_checkpointing == AUTO
        rule = "must be true, false or auto"
        require(known, "train.gradient_checkpointing", self.gradient_checkpointing, rule)
        require(self.max_length >= 16, "train.max_length", self.max_length, "must be at least 16 tokens")
        require(0 <= self.warmup < 1, "train.warmup", self.warmup, "must lie in [0, 1)")
        require(self.save_steps >= 1, "train.save_steps", self.save_steps, "must be at least 1")
        supervised = self.trainer in (Trainer.sft, Trainer.fake) or self.batching is Batching.padded
        rule = "only train.trainer=sft can join sequences in a row"
        require(supervised, "train.batching", self.batching.value, rule, "use train.batching=padded")
        if self.trainer is Trainer.grpo:
            groups = self.batch % self.grpo.generations == 0
            rule = f"must be a multiple of train.grpo.generations={self.grpo.generations}: a step has whole groups"
            require(groups, "train.batch", self.batch, rule)
            rule = "train.trainer=grpo would sample from a four-bit model, which is untested"
            require(self.tuning is not Tuning.qlora, "train.tuning", self.tuning.value, rule, "use train.tuning=lora")
