"""Settings of the selection: which voted answers are trained on."""

from dataclasses import dataclass, field

from crescent.config.checks import Choice, require
from crescent.config.earlier import earlier_runs
from crescent.config.synthesis import AnswerStyle, TaskConfig
from crescent.config.training import Reward, TrainConfig, Trainer


class DataPolicy(Choice):
    accumulate = "accumulate"
    """Train on the pairs of all rounds so far, which bounds collapse (arXiv 2404.01413)."""
    window = "window"
    """Train on the pairs of the last `pairs.window` rounds."""
    replace = "replace"
    """Train on this round's pairs only."""


class Labels(Choice):
    """Which answers count as right. All but `majority` are control arms: a gain that they also show is not the vote's.

    Arms train on the questions of the majority arm (same cut, same cap), so that they differ in answers only.
    """

    majority = "majority"
    """The answers of the majority."""
    first = "first"
    """The first complete answer to each question, outvoted or not: training on single samples."""
    first_any = "first_any"
    """The same for every question with a final answer, without the agreement cut and the cap: more questions than the
    other arms train on."""
    minority = "minority"
    """The first answer that contradicts the majority of its question. It teaches the format, but not only the format:
    where votes are weak, 10 to 40% of these answers are right. Questions on which all agree are dropped and counted."""
    shuffled = "shuffled"
    """The responses of the majority, each paired with another question of the same bait, whose final answer differs
    wherever that is possible: right form, wrong pairing. The clean control for format."""
    gold = "gold"
    """Answers that are right by computation. This arm uses labels: it is a ceiling, not a result of the vote. Only
    questions that are one plain computation have such answers (`crescent/tasks/computation.py`); questions without a
    right answer are dropped and counted."""
    fixed = "fixed"
    """The answers of the majority, but the base asks and answers in every round: no votes of a child are trained on.
    With `train.student`, whose teacher is fixed anyway, the same as `majority`."""


class Winner(Choice):
    """Which of the responses with the majority's answer are trained on."""

    median = "median"
    """Responses of median length: the shortest ones would teach ever shorter answers, round after round."""
    diverse = "diverse"
    """The response of median length, then each time the one least similar to those chosen."""


class TrainPrompt(Choice):
    answer = "answer"
    """The prompt that the answers were sampled with: training, voting and evaluation use the same."""
    bare = "bare"
    """The question alone, as in the authors' released code."""


@dataclass
class DecontaminationConfig:
    """Quarantine of questions that are too similar to a benchmark item, of any split."""

    ngram: int = 13
    """Number of consecutive words that a question must not share with a benchmark question (13 as in GPT-3, arXiv
    2005.14165, appendix C); a shorter question must not equal one. 0 turns this off."""
    masked: bool = True
    """Whether to compare with all numbers masked, too: finds a benchmark problem with other numbers. Only questions of
    at least `ngram` words: short templates such as "What is 2 + 3?" would all be equal."""
    similarity: float | None = 0.9
    """Cosine in (0, 1], by `diversify.embedder`, at which a question counts as a benchmark question; null: off."""
    computation: bool = field(default=False, metadata=earlier_runs(False))
    """Whether a question that asks for the same plain computation as a benchmark item counts as that item, whatever the
    words and the order of terms or factors: "What is 28 + 24?" is "Calculate 24 + 28." For benchmarks of sums."""

    def __post_init__(self) -> None:
        where, cosine = "pairs.decontamination", self.similarity
        require(self.ngram >= 0, f"{where}.ngram", self.ngram, "must not be negative", "13 is usual, 0 turns it off")
        require(
            cosine is None or 0 < cosine <= 1,
            f"{where}.similarity",
            cosine,
            "must be a cosine in (0, 1]",
            "null turns it off",
        )


@dataclass
class ReplayConfig:
    """General instructions that the base writes and answers itself, added so that a child forgets less."""

    share: float = 0.0
    """Share of the training pairs, in [0, 0.5]; 0.05 to 0.1 is usual, 0 adds none."""
    prompt: str = (
        "Write one request that a person might send to a helpful assistant. It may be about anything but mathematics. "
        "Write only the request itself."
    )
    """Bait prompt for instructions."""
    temperature: float = 1.0
    """Sampling temperature in (0, 2]."""
    max_tokens: int = 512
    """Longest instruction, and longest answer, in tokens."""

    def __post_init__(self) -> None:
        where = "pairs.replay"
        require(0 <= self.share <= 0.5, f"{where}.share", self.share, "must lie in [0, 0.5]", "0.05 to 0.1 is usual")
        require(bool(self.prompt.strip()), f"{where}.prompt", repr(self.prompt), "must not be empty")
        require(0 < self.temperature <= 2, f"{where}.temperature", self.temperature, "must lie in (0, 2]")
        require(self.max_tokens >= 8, f"{where}.max_tokens", self.max_tokens, "must be at least 8")


@dataclass
class PairsConfig:
    """Which voted answers are trained on."""

    policy: DataPolicy = DataPolicy.accumulate
    window: int = 3
    """Number of rounds for `policy=window`, this one included."""
    decay: float = 0.7
    """Share of a round's pairs, in (0, 1], that each later round keeps, always the same ones; 1 keeps all."""
    max_unanimous: float = 0.4
    """Largest share, in [0, 1], of this round's questions whose first ⌊K/2⌋+1 answers all agree: they are too easy to
    teach much. Control arms (`labels`) have the same cap, except `first_any`, which has none."""
    labels: Labels = Labels.majority
    noise: float = field(default=0.0, metadata=earlier_runs(0.0))
    """Share of this round's pairs, in [0, 1], that get a wrong completion: the answer that was outvoted or, if nobody
    disagreed, the response to another question. Shows how many wrong labels training can bear. 0: none."""
    winner: Winner = Winner.median
    responses: int = 1
    """Largest number of different winning responses per question."""
    decontamination: DecontaminationConfig = field(default_factory=DecontaminationConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    prompt: TrainPrompt = TrainPrompt.answer
    """User's message of a training pair."""
    minimum: int = 16
    """Smallest number of new pairs; with fewer, the run ends with exit code 65."""

    def __post_init__(self) -> None:
        require(self.minimum >= 1, "pairs.minimum", self.minimum, "must be at least 1: training needs a pair")
        require(self.window >= 1, "pairs.window", self.window, "must be at least 1: this round")
        require(0 < self.decay <= 1, "pairs.decay", self.decay, "must lie in (0, 1]", "0.7 is usual, 1 keeps all")
        easy = self.max_unanimous
        require(0 <= easy <= 1, "pairs.max_unanimous", easy, "must lie in [0, 1]", "0.4 is usual, 1 is no cap")
        require(self.responses >= 1, "pairs.responses", self.responses, "must be at least 1")
        require(0 <= self.noise <= 1, "pairs.noise", self.noise, "must lie in [0, 1]", "0 is none")
        voted = self.labels in (Labels.majority, Labels.fixed)
        rule = f"makes answers of the majority wrong, and pairs.labels={self.labels.value} does not train on those"
        require(voted or not self.noise, "pairs.noise", self.noise, rule, "use pairs.labels=majority")


def check_arm(pairs: PairsConfig, train: TrainConfig, task: TaskConfig) -> None:
    """Refuse an arm that has no meaning for the task or the trainer.

    Raises:
        BadConfig: as every check of a setting.
    """
    labels, voted = pairs.labels, pairs.labels in (Labels.majority, Labels.fixed)
    computable = task.answer_style in (AnswerStyle.number, AnswerStyle.math)
    rule = f"no answer of task.answer_style={task.answer_style.value} can be computed"
    require(labels is not Labels.gold or computable, "pairs.labels", labels.value, rule, "use pairs.labels=majority")
    if train.trainer is Trainer.dpo:
        rule = "a control arm has no outvoted answers, which train.trainer=dpo needs"
        require(voted, "pairs.labels", labels.value, rule, "use train.trainer=sft")
        rule = "a wrong completion has no outvoted answer beside it, which train.trainer=dpo needs"
        require(not pairs.noise, "pairs.noise", pairs.noise, rule, "use pairs.noise=0 or train.trainer=sft")
    if train.trainer is Trainer.grpo and train.grpo.reward is Reward.group:
        rule = "train.grpo.reward=group reads no label, so this arm would be the majority arm"
        other_questions = labels is Labels.first_any
        require(voted or other_questions, "pairs.labels", labels.value, rule, "use train.grpo.reward=voted")
        require(not pairs.noise, "pairs.noise", pairs.noise, rule, "use pairs.noise=0 or train.grpo.reward=voted")
