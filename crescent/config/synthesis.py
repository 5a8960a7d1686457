"""Settings of the method: the task, and how questions are invented, self-deduplicated and voted on."""

import re
from dataclasses import dataclass, field

from crescent.config.checks import Choice, require, require_fields
from crescent.config.earlier import earlier_runs


class AnswerStyle(Choice):
    """Where the final answer stands in a response."""

    number = "number"
    """After `####`, in `\\boxed{}`, after `answer:`/`answer is`, else the number the response ends on. For word
    problems: what is no number is not read."""
    math = "math"
    """The same marks, else the last formula, unless a number stands in a later sentence; compared symbolically."""
    choice = "choice"
    """The letter of an option."""
    text = "text"
    """A short text after the same marks, else the last line; compared without case, articles and punctuation."""
    code = "code"
    """A Python program, known by what it returns for inputs the model wrote itself."""


class Boxes(Choice):
    """Which of several `\\boxed{}` is the final answer."""

    last = "last"
    """The last one, as in the scorer of MATH (`last_boxed_only_string` of github.com/hendrycks/math)."""
    first = "first"
    """The first one."""
    all = "all"
    """All of them, as a list in their order: for questions with several solutions."""


class DecimalMark(Choice):
    """What separates the digits of a decimal fraction in a response."""

    point = "point"
    """A point, and commas group thousands, as in the scorers of GSM8K and MATH: 1,234.5."""
    comma = "comma"
    """A comma, and points group thousands, as in much of Europe and South America: 1.234,5."""


@dataclass
class TaskConfig:
    """What a question of this domain is answered with."""

    name: str = "math"
    """Name of the file in `conf/task/` without its suffix, as messages and the report show it."""
    answer_prompt: str = "{question}"
    """How a question is put to the model, in voting and in evaluation alike. `{question}` stands for it."""
    answer_style: AnswerStyle = AnswerStyle.math
    """How the final answer is found in a response, and what counts as the same answer: one file in crescent/tasks."""
    boxes: Boxes = field(default=Boxes.last, metadata=earlier_runs(Boxes.last))
    """For numbers and mathematics: which of several `\\boxed{}` counts."""
    decimal_mark: DecimalMark = field(default=DecimalMark.point, metadata=earlier_runs(DecimalMark.point))
    """For numbers and mathematics: how decimal fractions are written in responses."""
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


BAIT_FIELD = re.compile(r"(?<![\\\w}^_{])\{([A-Za-z][\w-]+)\}(?!\})")
"""A word in braces that belongs to no formula (`\\frac{ab}{cd}`, `x^{ab}`): it looks like a field of a bait prompt."""
BAIT_FIELDS = ("seed", "topic", "difficulty")
"""Fields that a bait prompt may have."""


@dataclass
class BaitConfig:
    """Paper step I: a bait prompt makes the model invent questions, without seed data unless you give some."""

    prompts: dict[str, str] = field(default_factory=dict)
    """Bait prompts by name. `{topic}` and `{difficulty}` are replaced by entries of lists that the model itself writes,
    or that you give, and `{seed}` by the questions of `seeds`: each combination is a bait prompt of its own."""
    seeds: str | None = field(default=None, metadata=earlier_runs(None))
    """Path of a file with seed questions for `{seed}`, one JSON object a line, packed with gzip or not. The model is
    asked to rewrite or evolve them (`bait=seeds`); they are never trained on themselves. Not the paper's way, which
    begins without any data."""
    seed_field: str = field(default="question", metadata=earlier_runs("question"))
    """Name of the field with the question in that file. `a.b` is field `b` of the object in field `a`."""
    topics: int = 0
    """Number of topics that the model lists for `{topic}`, once per run."""
    topic_list: list[str] = field(default_factory=list, metadata=earlier_runs([]))
    """Topics of your own for `{topic}`; then the model lists none."""
    topics_prompt: str = "List {count} different topics of mathematics. One per line, no explanations."
    """Prompt for the list of topics; `{count}` is their number."""
    difficulties: int = 0
    """Number of levels of difficulty that the model lists for `{difficulty}`, once per run."""
    difficulty_list: list[str] = field(default_factory=list, metadata=earlier_runs([]))
    """Levels of your own for `{difficulty}`; then the model lists none."""
    one_difficulty_a_round: bool = field(default=False, metadata=earlier_runs(False))
    """Whether round n asks only for the n-th entry of `difficulty_list`, and rounds after the last entry for the last:
    a curriculum from easy to hard (compare arXiv 2502.01612). Otherwise each round asks for all."""
    difficulties_prompt: str = (
        "List {count} levels of difficulty of mathematics problems, from easy to hard. One per line, no explanations."
    )
    """Prompt for the list of levels; `{count}` is their number."""
    explore: float = 0.2
    """Share of a round's questions, in [0, 1], that is spread evenly over all bait prompts. The rest is spread in
    proportion to the share of each one's questions that earlier rounds kept. 1 treats all alike."""
    questions: int = 20_000
    """Number of candidates per round, before self-deduplication."""
    temperature: float = 1.0
    """Sampling temperature in (0, 2]."""
    max_tokens: int = 512
    """Longest question in tokens; a question that is cut here is dropped."""
    stop: list[str] = field(default_factory=list)
    """Strings that end a question, at most four. Small models go on and answer it; `["="]` prevents that."""
    min_characters: int = 8
    """Shortest candidate in characters; shorter ones are dropped, because they are no questions."""

    def __post_init__(self) -> None:
        for name, prompt in self.prompts.items():
            require(bool(prompt.strip()), f"bait.prompts.{name}", repr(prompt), "must not be empty")
            self._check_fields(name, prompt)
        for kind, listed in (("topic", self.topic_list), ("difficulty", self.difficulty_list)):
            distinct = all(entry.strip() for entry in listed) and len({*listed}) == len(listed)
            require(distinct, f"bait.{kind}_list", listed, "must hold different entries that are not empty")
        require(0 <= self.topics <= 1000, "bait.topics", self.topics, "must lie in [0, 1000]")
        require(0 <= self.difficulties <= 100, "bait.difficulties", self.difficulties, "must lie in [0, 100]")
        topics, levels = len(self.topic_list) or self.topics, len(self.difficulty_list) or self.difficulties
        baits = len(self.prompts) * max(1, topics) * max(1, levels)
        rule, fix = (
            f"makes {baits:,} bait prompts, at most 10,000 are allowed",
            "lower bait.topics or bait.difficulties",
        )
        require(baits <= 10_000, "bait.topics", self.topics, rule, fix)
        self._check_seeds()
        shown = bool(self.difficulty_list) and any("{difficulty}" in prompt for prompt in self.prompts.values())
        rule, fix = (
            "needs difficulties in their order, and a bait prompt that contains {difficulty}",
            "or set it to false",
        )
        levelled = shown or not self.one_difficulty_a_round
        require(levelled, "bait.one_difficulty_a_round", True, rule, f"give bait.difficulty_list=[…], {fix}")
        require_fields(self.topics_prompt, "bait.topics_prompt", "count")
        require_fields(self.difficulties_prompt, "bait.difficulties_prompt", "count")
        require(0 <= self.explore <= 1, "bait.explore", self.explore, "must lie in [0, 1]", "0.2 is usual")
        require(self.questions >= 1, "bait.questions", self.questions, "must be at least 1")
        fix = "1 is usual; at 0 all questions would be the same"
        require(0 < self.temperature <= 2, "bait.temperature", self.temperature, "must lie in (0, 2]", fix)
        require(self.max_tokens >= 8, "bait.max_tokens", self.max_tokens, "must be at least 8")
        require(len(self.stop) <= 4, "bait.stop", self.stop, "must be at most four strings, the limit of OpenAI's API")
        require(
            all(self.stop),
            "bait.stop",
            self.stop,
            "must not contain an empty string, which would end every question at once",
        )
        require(self.min_characters >= 1, "bait.min_characters", self.min_characters, "must be at least 1")

    def _check_seeds(self) -> None:
        """Check that seed questions are shown by a bait prompt, and that a bait prompt has some to show."""
        showing = [name for name, prompt in self.prompts.items() if "{seed}" in prompt]
        require(bool(self.seed_field.strip()), "bait.seed_field", repr(self.seed_field), "must name a field")
        if self.seeds is None:
            rule = f"bait.prompts.{', bait.prompts.'.join(showing)} contain {{seed}}, but there are no seed questions"
            require(not showing, "bait.seeds", "null", rule, "name a file with some, bait.seeds=questions.jsonl")
            return
        given = bool(self.seeds.strip())
        require(given, "bait.seeds", repr(self.seeds), "must name a file", "e.g. bait.seeds=questions.jsonl")
        rule, fix = "no bait prompt shows a seed question", "use bait=seeds, or write {seed} into a prompt of yours"
        require(bool(showing), "bait.seeds", self.seeds, rule, fix)

    def _check_fields(self, name: str, prompt: str) -> None:
        """Check that each field of a bait prompt is known and has entries."""
        key = f"bait.prompts.{name}"
        # Known ones are taken out first: what follows one directly would look like part of a formula.
        unknown = re.sub(rf"\{{(?:{'|'.join(BAIT_FIELDS)})\}}", " ", prompt)
        for wrong in BAIT_FIELD.findall(unknown):
            known = " and ".join(", ".join(f"{{{name}}}" for name in BAIT_FIELDS).rsplit(", ", 1))
            rule = f"has a field {{{wrong}}}, and only {known} are known"
            fix = f"write {{topic}}, or {{ {wrong} }} with spaces if the braces are part of the text"
            require(False, key, repr(prompt), rule, fix)
        for kind, plural, count, own in (
            ("topic", "topics", self.topics, self.topic_list),
            ("difficulty", "difficulties", self.difficulties, self.difficulty_list),
        ):
            listed = count > 0 or bool(own) or "{" + kind + "}" not in prompt
            rule = f"contains {{{kind}}}, but there are none"
            fix = f"list them, bait.{kind}_list=[…], or let the model list some, bait.{plural}=8"
            require(listed, key, repr(prompt), rule, fix)


class Embedder(Choice):
    """Embedding model: turns a question into a vector of unit length."""

    minilm = "minilm"
    """all-MiniLM-L6-v2, 384 dimensions, as in the paper."""
    self = "self"
    """Hidden states of the base model: needs no other model."""
    lexical = "lexical"
    """MinHash of character trigrams: no model and no download, but compares only the wording."""


class Recheck(Choice):
    """What happens to a near-duplicate."""

    always = "always"
    """It is rewritten and compared again like any other question, at most `max_rewrites` times, then dropped."""
    never = "never"
    """As in the authors' released code: candidates come in batches of `batch`. A near-duplicate within its batch is
    dropped; a near-duplicate of an earlier batch is rewritten once, and the rewrite is accepted unchecked."""


@dataclass
class DiversifyConfig:
    """Paper step II: self-deduplication. The model rewrites a near-duplicate, which is checked again, then dropped."""

    embedder: Embedder = Embedder.minilm
    path: str | None = None
    """Folder or hub id of the embedding model. Default: MiniLM from its PyPI package or else the hub; for `self`, the
    base model."""
    threshold: float = 0.85
    """Cosine in (0, 1] at which two questions are near-duplicates, within the round and against all earlier ones."""
    max_rewrites: int = 3
    """Number of rewrites before a near-duplicate is dropped; 0 drops it at once."""
    recheck: Recheck = Recheck.always
    history_threshold: float | None = None
    """Cosine against earlier batches and rounds for `recheck=never`; null: `threshold`."""
    batch: int = 100
    """Number of candidates for `recheck=never` that are compared with each other before they are compared with earlier
    ones."""
    runs: list[str] = field(default_factory=list)
    """Folders of other runs whose questions also count as earlier ones."""
    rewrite_prompt: str = (
        "This following generated question: {question} is very similar to this question: {neighbour}. "
        "Please modify it to make it different. Please provide only the problem, no any other words."
    )
    """Prompt for a rewrite, after the authors' released code; `{question}` is the near-duplicate, `{neighbour}` the
    earlier question."""
    temperature: float = 1.0
    """Sampling temperature of rewrites, in (0, 2]."""
    device: str = "auto"
    """Device of `embedder=minilm` and `embedder=self`. `auto`: a GPU for benchmark items, which are embedded before the
    engine starts, and the CPU for questions. `cpu`; or `cuda`, if the engine leaves memory."""

    def __post_init__(self) -> None:
        require(
            0 < self.threshold <= 1,
            "diversify.threshold",
            self.threshold,
            "must be a cosine in (0, 1]",
            "0.85 is usual",
        )
        require(self.max_rewrites >= 0, "diversify.max_rewrites", self.max_rewrites, "must not be negative")
        known = re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device) is not None
        require(known, "diversify.device", repr(self.device), "must be auto, cpu, cuda or cuda:N")
        history = self.history_threshold
        released = self.recheck is Recheck.never
        require(
            history is None or 0 < history <= 1, "diversify.history_threshold", history, "must be a cosine in (0, 1]"
        )
        only_released = released or history is None
        rule, fix = "needs diversify.recheck=never", "otherwise, diversify.threshold is the only threshold"
        require(only_released, "diversify.history_threshold", history, rule, fix)
        require(self.batch >= 1, "diversify.batch", self.batch, "must be at least 1")
        require(0 < self.temperature <= 2, "diversify.temperature", self.temperature, "must lie in (0, 2]")
        require_fields(self.rewrite_prompt, "diversify.rewrite_prompt", "question", "neighbour")


@dataclass
class ConsensusConfig:
    """Paper step III: K sampled answers per question, and the final answer of the majority."""

    samples: int = 8
    """Number of answers per question, the K of majority voting. Below 3 a majority means little."""
    temperature: float = 0.8
    """Sampling temperature in (0, 2]."""
    max_tokens: int = 1024
    """Longest answer in tokens. An answer that is cut here has no final answer; it counts against the winner."""
    min_agreement: float = 0.5
    """Share of the K samples that the winner needs, in [0, 1]."""
    keep_ties: bool = False
    """Whether the earliest of equally frequent answers wins, as in the authors' released code; otherwise ties are
    dropped."""
    adaptive: bool = True
    """Whether to sample ⌊K/2⌋+1 answers first, and more only while they could change the outcome. The kept questions
    are identical."""
    grading_timeout_s: float = 5.0
    """Longest time for a comparison of two formulas, in CPU seconds; then its process is killed. After a second attempt
    the answers count as different."""

    def __post_init__(self) -> None:
        require(self.samples >= 2, "consensus.samples", self.samples, "a vote needs at least 2 answers", "8 is usual")
        require(0 < self.temperature <= 2, "consensus.temperature", self.temperature, "must lie in (0, 2]")
        require(self.max_tokens >= 1, "consensus.max_tokens", self.max_tokens, "must be at least 1")
        cut = self.min_agreement
        require(0 <= cut <= 1, "consensus.min_agreement", cut, "must lie in [0, 1]", "0.5 is usual")
        require(self.grading_timeout_s > 0, "consensus.grading_timeout_s", self.grading_timeout_s, "must be positive")
        settled = not (self.keep_ties and self.adaptive)
        rule, fix = "adaptive voting stops before a tie is certain", "set consensus.adaptive=false"
        require(settled, "consensus.keep_ties", self.keep_ties, rule, fix)
