"""The method: what a question of the task is, how questions are invented, kept apart and voted on."""

import re
from dataclasses import dataclass, field

from crescent.config.checks import Choice, require, require_fields


class AnswerStyle(Choice):
    """Where the final answer stands in a response."""

    number = "number"
    """After `####`, in `\\boxed{}`, after `answer:`/`answer is`, else the last number."""
    math = "math"
    """The same marks, else the last formula; compared symbolically."""
    choice = "choice"
    """The letter of an option."""
    code = "code"
    """A Python program, known by what it returns for inputs the model wrote itself."""


@dataclass
class TaskConfig:
    """What a question of this domain is answered with."""

    name: str = "math"
    answer_prompt: str = "{question}"
    """How a question is put to the model, in voting and in evaluation alike. `{question}` stands for it."""
    answer_style: AnswerStyle = AnswerStyle.math
    """How the final answer is found in a response, and what counts as the same answer: one file in crescent/tasks."""
    inputs_prompt: str | None = None
    """For `answer_style=code`: asks for example inputs of `{question}`, on which all answers are run and compared."""
    inputs: int = 8
    """For `answer_style=code`: inputs used at most."""
    program_timeout_s: float = 5.0
    """For `answer_style=code`: CPU seconds a program may take, for all inputs together."""
    program_memory_mib: int = 512
    """For `answer_style=code`: address space of a program, in MiB."""

    def __post_init__(self) -> None:
        require_fields(self.answer_prompt, "task.answer_prompt", "question")
        if self.inputs_prompt is not None:
            require_fields(self.inputs_prompt, "task.inputs_prompt", "question")
        has_inputs = (self.inputs_prompt is not None) == (self.answer_style is AnswerStyle.code)
        rule = "programs, and only programs, are compared on inputs the model writes"
        require(has_inputs, "task.inputs_prompt", repr(self.inputs_prompt), rule, "see conf/task/code.yaml")
        require(self.inputs >= 1, "task.inputs", self.inputs, "must be at least 1")
        require(self.program_timeout_s > 0, "task.program_timeout_s", self.program_timeout_s, "must be positive")
        require(self.program_memory_mib >= 64, "task.program_memory_mib", self.program_memory_mib, "64 MiB at least")


@dataclass
class BaitConfig:
    """Paper step I: the bait prompt makes the model invent questions. No seed data."""

    prompts: dict[str, str] = field(default_factory=dict)
    """Bait prompts by name. `{topic}` and `{difficulty}` stand for what the model itself lists: a pool of baits, one
    for each combination."""
    topics: int = 0
    """Topics the model lists for `{topic}`; asked once a run."""
    topics_prompt: str = "List {count} different topics of mathematics. One per line, no explanations."
    """Makes the model list topics; `{count}` stands for their number."""
    difficulties: int = 0
    """Levels of difficulty the model lists for `{difficulty}`; asked once a run."""
    difficulties_prompt: str = (
        "List {count} levels of difficulty of mathematics problems, from easy to hard. One per line, no explanations."
    )
    """Makes the model list levels; `{count}` stands for their number."""
    explore: float = 0.2
    """Share of a round's questions, in [0, 1], spread evenly over all baits; the rest follows what earlier rounds kept
    of each bait's questions. 1 keeps all baits equal."""
    questions: int = 20_000
    """Candidate questions asked for per round, before self-deduplication."""
    temperature: float = 1.0
    """Sampling temperature in (0, 2]."""
    max_tokens: int = 512
    """Longest question; a question that is cut here is dropped."""
    stop: list[str] = field(default_factory=list)
    """Strings that end a question, four at most. Small models go on and answer; `["="]` keeps them from it."""
    min_characters: int = 8
    """Shorter candidates are dropped: they are no questions."""

    def __post_init__(self) -> None:
        for name, prompt in self.prompts.items():
            require(bool(prompt.strip()), f"bait.prompts.{name}", repr(prompt), "is empty")
            for kind, count in (("topic", self.topics), ("difficulty", self.difficulties)):
                plural = {"topic": "topics", "difficulty": "difficulties"}[kind]
                listed = count > 0 or "{" + kind + "}" not in prompt
                rule = f"contains {{{kind}}}, and the model is asked to list none"
                require(listed, f"bait.prompts.{name}", repr(prompt), rule, f"set bait.{plural}, e.g. bait.{plural}=8")
        require(0 <= self.topics <= 1000, "bait.topics", self.topics, "must lie in [0, 1000]")
        require(0 <= self.difficulties <= 100, "bait.difficulties", self.difficulties, "must lie in [0, 100]")
        baits = len(self.prompts) * max(1, self.topics) * max(1, self.difficulties)
        way_out = "lower bait.topics or bait.difficulties"
        require(baits <= 10_000, "bait.topics", self.topics, f"makes {baits:,} baits, 10,000 at most", way_out)
        require_fields(self.topics_prompt, "bait.topics_prompt", "count")
        require_fields(self.difficulties_prompt, "bait.difficulties_prompt", "count")
        require(0 <= self.explore <= 1, "bait.explore", self.explore, "a share in [0, 1]", "0.2 is usual")
        require(self.questions >= 1, "bait.questions", self.questions, "at least one question a round")
        way_out = "at 0 every question would be the same one"
        require(0 < self.temperature <= 2, "bait.temperature", self.temperature, "must lie in (0, 2]", way_out)
        require(self.max_tokens >= 8, "bait.max_tokens", self.max_tokens, "must be at least 8")
        require(len(self.stop) <= 4, "bait.stop", self.stop, "at most four strings, as OpenAI's API allows")
        require(all(self.stop), "bait.stop", self.stop, "an empty string would end every question at once")
        require(self.min_characters >= 1, "bait.min_characters", self.min_characters, "must be at least 1")


class Embedder(Choice):
    """What turns a question into a vector of length one."""

    minilm = "minilm"
    """all-MiniLM-L6-v2, 384 dimensions: the paper's."""
    self = "self"
    """The base model's own hidden states: no outside model at all."""
    lexical = "lexical"
    """MinHash of character trigrams: no model, no download, sees wording only."""


class Recheck(Choice):
    """What happens to a near-duplicate."""

    always = "always"
    """Rewritten, compared again like any other question, at most `max_rewrites` times, then dropped."""
    never = "never"
    """As in the authors' released code: candidates come in batches of `batch`; a near-duplicate inside its batch is
    dropped; one of an earlier batch is rewritten once, and the rewrite is accepted unchecked."""


@dataclass
class DiversifyConfig:
    """Paper step II: self-deduplication. A near-duplicate is rewritten by the model, re-checked, then dropped."""

    embedder: Embedder = Embedder.minilm
    path: str | None = None
    """Folder or hub id of the embedding model; by default MiniLM's installed PyPI package, else the hub, and for `self`
    the base model."""
    threshold: float = 0.85
    """Cosine in (0, 1] from which two questions are near-duplicates, inside the round and against all earlier ones."""
    max_rewrites: int = 3
    """Rewrites before a near-duplicate is dropped; 0 drops at once."""
    recheck: Recheck = Recheck.always
    history_threshold: float | None = None
    """For `recheck=never`: the cosine against earlier batches and rounds; `threshold` when null."""
    batch: int = 100
    """For `recheck=never`: candidates that are compared with each other before they meet the earlier ones."""
    runs: list[str] = field(default_factory=list)
    """Folders of other runs whose questions count as earlier ones, too."""
    rewrite_prompt: str = (
        "This following generated question: {question} is very similar to this question: {neighbour}. "
        "Please modify it to make it different. Please provide only the problem, no any other words."
    )
    """After the authors' released code; `{question}` is the near-duplicate, `{neighbour}` the earlier question."""
    temperature: float = 1.0
    """Sampling temperature of rewrites, in (0, 2]."""
    device: str = "cpu"
    """Where `embedder=minilm` and `embedder=self` compute: `cpu`, or `cuda` where the engine leaves room."""

    def __post_init__(self) -> None:
        require(0 < self.threshold <= 1, "diversify.threshold", self.threshold, "a cosine in (0, 1]", "0.85 is usual")
        require(self.max_rewrites >= 0, "diversify.max_rewrites", self.max_rewrites, "must not be negative")
        known = re.fullmatch(r"cpu|cuda(:\d+)?", self.device) is not None
        require(known, "diversify.device", repr(self.device), "is cpu, cuda or cuda:N")
        history = self.history_threshold
        released = self.recheck is Recheck.never
        require(history is None or 0 < history <= 1, "diversify.history_threshold", history, "a cosine in (0, 1]")
        way_out = "ours has one threshold for all; see diversify.recheck"
        only_released = released or history is None
        require(only_released, "diversify.history_threshold", history, "needs diversify.recheck=never", way_out)
        require(self.batch >= 1, "diversify.batch", self.batch, "must be at least 1")
        require(0 < self.temperature <= 2, "diversify.temperature", self.temperature, "must lie in (0, 2]")
        require_fields(self.rewrite_prompt, "diversify.rewrite_prompt", "question", "neighbour")


@dataclass
class ConsensusConfig:
    """Paper step III: K sampled answers, and the final answer most of them agree on."""

    samples: int = 8
    """Answers per question, the K of majority voting. Below 3 a majority means little."""
    temperature: float = 0.8
    """Sampling temperature in (0, 2]."""
    max_tokens: int = 1024
    """Longest answer. One that is cut here has no final answer: silence, which counts as dissent."""
    min_agreement: float = 0.5
    """Share of the K samples the winner needs, in [0, 1]."""
    keep_ties: bool = False
    """Let the earliest of equally frequent answers win, as in the authors' released code, instead of dropping ties."""
    adaptive: bool = True
    """Ask ⌊K/2⌋+1 samples first and more only while they could change the outcome. The kept set is identical."""
    grading_timeout_s: float = 5.0
    """Seconds one symbolic comparison may take; then its process is killed and the two answers count as different."""

    def __post_init__(self) -> None:
        way_out = "a vote needs at least 2; consensus.samples=8 is usual"
        require(self.samples >= 2, "consensus.samples", self.samples, "one answer is no vote", way_out)
        require(0 < self.temperature <= 2, "consensus.temperature", self.temperature, "must lie in (0, 2]")
        require(self.max_tokens >= 1, "consensus.max_tokens", self.max_tokens, "must be at least 1")
        cut = self.min_agreement
        require(0 <= cut <= 1, "consensus.min_agreement", cut, "a share of the samples in [0, 1]", "0.5 is usual")
        require(self.grading_timeout_s > 0, "consensus.grading_timeout_s", self.grading_timeout_s, "must be positive")
        way_out = "set consensus.adaptive=false"
        settled = not (self.keep_ties and self.adaptive)
        require(settled, "consensus.keep_ties", self.keep_ties, "adaptive voting does not ask ties to the end", way_out)
