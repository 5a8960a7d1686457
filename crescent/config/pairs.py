"""Which voted answers are trained on."""

from dataclasses import dataclass, field

from crescent.config.checks import Choice, require


class DataPolicy(Choice):
    accumulate = "accumulate"
    """Train on the pairs of all rounds so far: bounds collapse (arXiv 2404.01413)."""
    window = "window"
    """Train on the pairs of the last `pairs.window` rounds."""
    replace = "replace"
    """Train on this round's pairs only."""


class Labels(Choice):
    """Which answers are taken for right. The others are control arms: a gain that they show, too, is not the vote's."""

    majority = "majority"
    """Those of the majority."""
    first = "first"
    """The first whole answer to each question, voted down or not: training on single samples (K=1)."""
    minority = "minority"
    """Of each question with a majority, the first answer that contradicts it: teaches the format, not what is right."""


class Winner(Choice):
    """Which of the responses that carry the majority are trained on."""

    median = "median"
    """Those of median length: the shortest would teach ever shorter answers, round after round."""
    diverse = "diverse"
    """The one of median length, then each time the one least like those chosen."""


class TrainPrompt(Choice):
    answer = "answer"
    """The prompt the answers were sampled with: training, voting and evaluation agree."""
    bare = "bare"
    """The question alone, as in the authors' released code."""


@dataclass
class DecontaminationConfig:
    """Questions too near to a benchmark's are set aside, whichever split the benchmark is."""

    ngram: int = 13
    """Words in a row that a question may not share with a benchmark question (13 after GPT-3, arXiv 2005.14165,
    appendix C); a shorter question may not be equal to one. 0 turns this off."""
    masked: bool = True
    """The same with all numbers masked: finds a benchmark problem with other numbers. Only from `ngram` words on: short
    templates such as "What is 2 + 3?" would all be equal."""
    similarity: float | None = 0.9
    """Cosine in (0, 1], by `diversify.embedder`, from which a question counts as a benchmark question; null: off."""

    def __post_init__(self) -> None:
        where, cosine = "pairs.decontamination", self.similarity
        require(self.ngram >= 0, f"{where}.ngram", self.ngram, "must not be negative", "13 is usual, 0 is off")
        require(cosine is None or 0 < cosine <= 1, f"{where}.similarity", cosine, "a cosine in (0, 1], or null for off")


@dataclass
class ReplayConfig:
    """General instructions that the base writes and answers itself, mixed in so that a child forgets less."""

    share: float = 0.0
    """Share of the training pairs, in [0, 0.5]; 0.05 to 0.1 is usual. 0 writes none."""
    prompt: str = (
        "Write one request that a person might send to a helpful assistant. It may be about anything but mathematics. "
        "Write only the request itself."
    )
    """Bait prompt for instructions."""
    temperature: float = 1.0
    max_tokens: int = 512
    """Longest instruction, and longest answer to one."""

    def __post_init__(self) -> None:
        where = "pairs.replay"
        require(0 <= self.share <= 0.5, f"{where}.share", self.share, "a share in [0, 0.5]", "0.05 to 0.1 is usual")
        require(bool(self.prompt.strip()), f"{where}.prompt", repr(self.prompt), "is empty")
        require(0 < self.temperature <= 2, f"{where}.temperature", self.temperature, "must lie in (0, 2]")
        require(self.max_tokens >= 8, f"{where}.max_tokens", self.max_tokens, "must be at least 8")


@dataclass
class PairsConfig:
    """Which voted answers are trained on."""

    policy: DataPolicy = DataPolicy.accumulate
    window: int = 3
    """For `policy=window`: rounds, this one included."""
    decay: float = 0.7
    """Share of a round's pairs, in (0, 1], that stays with each round that follows; always the same ones. 1: all."""
    max_unanimous: float = 0.4
    """Largest share of this round's questions, in [0, 1], whose first ⌊K/2⌋+1 answers all agree: they are too easy to
    teach much. Control arms (`labels`) have no cap."""
    labels: Labels = Labels.majority
    winner: Winner = Winner.median
    responses: int = 1
    """Different winning responses trained on per question, at most."""
    decontamination: DecontaminationConfig = field(default_factory=DecontaminationConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    prompt: TrainPrompt = TrainPrompt.answer
    """The user's message of a training pair."""
    minimum: int = 16
    """Fewer new pairs than this end the run with exit code 65: a round needs something to learn from."""

    def __post_init__(self) -> None:
        require(self.minimum >= 1, "pairs.minimum", self.minimum, "training needs at least one pair")
        require(self.window >= 1, "pairs.window", self.window, "must be at least 1, this round")
        require(0 < self.decay <= 1, "pairs.decay", self.decay, "a share in (0, 1]", "0.7 is usual, 1 keeps all")
        easy = self.max_unanimous
        require(0 <= easy <= 1, "pairs.max_unanimous", easy, "a share in [0, 1]", "0.4 is usual, 1 is no cap")
        require(self.responses >= 1, "pairs.responses", self.responses, "must be at least 1")
