"""Settings of the evaluation: the benchmarks that a checkpoint is asked after every round."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crescent.config.checks import Choice, require, require_fields
from crescent.config.earlier import earlier_runs
from crescent.config.synthesis import AnswerStyle, TaskConfig


class Source(Choice):
    """Origin of a benchmark's items."""

    reasoning_gym = "reasoning_gym"
    """Procedurally generated, offline, seeded; `family` names the generator, `options` its parameters."""
    gsm8k = "gsm8k"
    asdiv = "asdiv"
    svamp = "svamp"
    mawps = "mawps"
    """`family` names the part: addsub, multiarith, singleop or singleeq."""
    gsm_plus = "gsm_plus"
    """GSM8K's test questions reworded, so split=test only; `family` names one perturbation, null means all."""
    math500 = "math500"
    """Competition problems with formulas as answers; `family` names a subject, null means all."""
    arc_challenge = "arc_challenge"
    """Multiple choice."""
    mmlu = "mmlu"
    """Multiple choice; `family` names a subject, e.g. `college_physics`, null means all."""
    mbpp = "mbpp"
    """Python functions with tests."""
    jsonl = "jsonl"
    """A file of your own, one JSON object a line; `path` names it, `question` and `answer` its fields."""
    hub = "hub"
    """Any data set of the Hugging Face hub, or a folder or file that `datasets` can load; `path` names it."""


OWN = (Source.jsonl, Source.hub)
"""Sources that are described by their fields: people's own data."""
STYLES = dict.fromkeys(Source, (AnswerStyle.number, AnswerStyle.math)) | {
    Source.arc_challenge: (AnswerStyle.choice,),
    Source.mmlu: (AnswerStyle.choice,),
    Source.mbpp: (AnswerStyle.code,),
    Source.math500: (AnswerStyle.math,),
    **dict.fromkeys(OWN, (AnswerStyle.number, AnswerStyle.math, AnswerStyle.choice, AnswerStyle.text)),
}
"""Answer styles that can read the reference answers of a source, the source's own style first."""

NUMBER_FAMILIES = frozenset(
    """
    aiw basic_arithmetic binary_alternation chain_sum coin_flip count_bits count_primes decimal_arithmetic
    decimal_chain_sum dice fraction_simplification gcd gsm_symbolic largest_island lcm leg_counting letter_counting maze
    number_format number_sequence power_function products rectangle_count rotten_oranges self_reference simple_equations
    simple_geometry
    """.split()  # noqa: SIM905 - a page of quoted names
)
"""Families of reasoning-gym whose reference answers are all single numbers (80 problems of each drawn with 0.1.25)."""


class Split(Choice):
    """Role of a benchmark."""

    dev = "dev"
    """Decides. For GSM8K a seeded slice of its train set; generated sets have another seed than for `test`."""
    test = "test"
    """Is only reported."""


LIKELIEST = 10
"""Largest number of distractors that there are for every number."""


@dataclass
class BenchmarkConfig:
    """One benchmark: a labelled set of problems."""

    source: Source = Source.gsm8k
    split: Split = Split.dev
    items: int | None = None
    """Number of items, a seeded choice; null means all."""
    seed: int = 0
    """Seed of the choice, or of the generator."""
    family: str | None = None
    """Name of a reasoning-gym family, e.g. `basic_arithmetic`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Parameters of a reasoning-gym family."""
    guard: bool = False
    """Whether a child is rolled back if it loses more here than `verdict.guard_mean` and `verdict.guard_any` allow. A
    guard never counts as a gain. Needs split=dev, because it takes part in the decision."""
    prompt: str | None = None
    """Template for an item, with `{question}`; by default `task.answer_prompt`."""
    style: AnswerStyle | None = None
    """Way to find and compare answers. By default as the reference answers are written: numbers for word problems,
    formulas for MATH-500, letters for options, programs for MBPP. A set of your own must say it: number, math,
    choice or text. (`task.answer_style` is for the run's questions.)"""
    shots: int = 0
    """Number of solved problems that precede each item (eval/benchmarks/shots.py); 0 and 5 are usual. With shots, no
    prompt is used, because the shots show how to answer."""
    temperature: float | None = field(default=None, metadata=earlier_runs(None))
    """Sampling temperature in [0, 2] for this benchmark; null: `eval.temperature`."""
    samples: int | None = field(default=None, metadata=earlier_runs(None))
    """Number of times each of its items is asked; null: `eval.samples`, or once if its own temperature is 0."""
    likelihood: int = field(default=0, metadata=earlier_runs(0))
    """Number of distractors that the reference answer of each item is compared with by likelihood: a score without
    generated text, so without format. Needs vLLM; 7 is usual, 0 turns it off."""
    reply: str = field(default="The answer is ", metadata=earlier_runs("The answer is "))
    """Beginning of the reply whose ending is compared (`likelihood`): the same for every checkpoint."""
    path: str | None = field(default=None, metadata=earlier_runs(None))
    """For `source=jsonl` the file, packed with gzip or not; for `source=hub` the id of a data set, or a folder or file.
    A path that is not there is looked for below the data folder (`eval.data`), too."""
    question: str = field(default="question", metadata=earlier_runs("question"))
    """Name of the field with the question in such a set. `a.b` is field `b` of the object in field `a`, `a.0` the first
    entry of a list."""
    answer: str = field(default="answer", metadata=earlier_runs("answer"))
    """Name of the field with the reference answer. What stands before `####` in it, or around `\\boxed{}`, is no part
    of the answer. For options: a letter, the number of an option from 0, or its text."""
    choices: str | None = field(default=None, metadata=earlier_runs(None))
    """Name of the field with the list of options; null: they stand in the question already. Needs style=choice."""
    config: str | None = field(default=None, metadata=earlier_runs(None))
    """Configuration (subset) of a data set on the hub."""
    hub_split: str = field(default="test", metadata=earlier_runs("test"))
    """Split of a data set on the hub that the items are taken from, whatever role (`split`) they have here."""
    revision: str | None = field(default=None, metadata=earlier_runs(None))
    """Commit of the data set on the hub. Set it so that others can repeat the run."""
    divide: bool = field(default=False, metadata=earlier_runs(False))
    """Whether `split` takes one half of a set of your own, so that dev and test can come from the same file."""

    def __post_init__(self) -> None:
        where = "eval.benchmarks.<name>"
        own = self.temperature is None or 0 <= self.temperature <= 2
        require(own, f"{where}.temperature", self.temperature, "must lie in [0, 2], or null for eval.temperature")
        asked = self.samples is None or self.samples >= 1
        require(asked, f"{where}.samples", self.samples, "at least 1, or null for eval.samples")
        compared = 0 <= self.likelihood <= LIKELIEST
        require(compared, f"{where}.likelihood", self.likelihood, f"must lie in 0 … {LIKELIEST}", "7 is usual")
        short = self.likelihood == 0 or self.source is not Source.mbpp
        require(short, f"{where}.likelihood", self.likelihood, "programs have no reference answer", "set likelihood=0")
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
        fitting = STYLES[self.source]
        rule = f"cannot read the reference answers of source={self.source.value}"
        names = " or ".join(style.value for style in fitting)
        readable = self.style is None or self.style in fitting
        require(readable, f"{where}.style", self.style and self.style.value, rule, f"use {names}, or leave it out")
        only_test = self.source is not Source.gsm_plus or self.split is Split.test
        rule = "GSM-Plus rewords GSM8K's test questions, and test sets are only reported"
        require(only_test, f"{where}.split", self.split.value, rule, "set split=test")
        require(self.shots >= 0, f"{where}.shots", self.shots, "must not be negative", "0 or 5 are usual")
        rule = "shots already show how to answer, so a prompt is not used"
        require(self.shots == 0 or self.prompt is None, f"{where}.shots", self.shots, rule, f"leave out {where}.prompt")
        self._check_own()
        solved = self.source is not Source.mbpp
        rule = "the reference of a program is its tests, which show no solution"
        require(self.shots == 0 or solved, f"{where}.shots", self.shots, rule, "set shots=0")

    def _check_own(self) -> None:
        """Check the settings that describe a set of one's own."""
        where, own = "eval.benchmarks.<name>", self.source in OWN
        given = bool(self.path)
        rule = f"source={self.source.value} needs "
        what = "a file" if self.source is Source.jsonl else "the id of a data set, or a folder"
        require(given or not own, f"{where}.path", self.path, rule + what, "e.g. path=questions.jsonl")
        styled = self.style is not None or not own
        rule, fix = "how the reference answers are written is not known", "set style=number, math, choice or text"
        require(styled, f"{where}.style", None, rule, fix)
        described = {"path": self.path, "choices": self.choices, "config": self.config, "revision": self.revision}
        for name, value in described.items():
            ours = value is None or own
            rule = f"source={self.source.value} has a format and a place of its own"
            require(ours, f"{where}.{name}", value, rule, "set source=jsonl or source=hub, or leave it out")
        on_hub = self.source is Source.hub or (self.config is None and self.revision is None)
        require(on_hub, f"{where}.config", self.config or self.revision, "only a data set on the hub has one")
        for name, value in (("question", self.question), ("answer", self.answer)):
            require(bool(value.strip()), f"{where}.{name}", repr(value), "must name a field")
        lettered = self.choices is None or self.style is AnswerStyle.choice
        require(lettered, f"{where}.choices", self.choices, "options are answered with a letter", "set style=choice")
        whole = not self.divide or own
        rule = f"source={self.source.value} has its dev and test sets already"
        require(whole, f"{where}.divide", self.divide, rule, "leave it out")
        unlike = self.likelihood == 0 or not own or self.style is not AnswerStyle.text
        rule = "distractors of texts are the answers to other questions, which tells nothing"
        require(unlike, f"{where}.likelihood", self.likelihood, rule, "set likelihood=0")


@dataclass
class HarnessConfig:
    """Tasks of EleutherAI's lm-evaluation-harness, asked of the served checkpoint by a separate process. They are only
    reported."""

    tasks: list[str] = field(default_factory=list)
    """Names of tasks, groups or tags, e.g. `[mmlu, arc_challenge, ifeval]`."""
    python: str | None = None
    """Interpreter of the environment that has `lm-eval[api]`; null means ours. Some tasks need packages that ours must
    not have."""
    limit: int | None = None
    """Number of items per single task, the first ones; null means all. A group such as `mmlu` has dozens of tasks."""
    num_fewshot: int | None = None
    """Number of examples before each item; null means as the task defines."""
    apply_chat_template: bool = True
    """Whether items are asked as a chat. False for a base model: text is continued."""
    include_path: str | None = None
    """Folder with task descriptions of your own (YAML)."""
    arguments: list[str] = field(default_factory=list)
    """Further command-line arguments of `lm_eval`, e.g. `[--system_instruction, "Be brief."]`."""

    def __post_init__(self) -> None:
        where = "eval.harness"
        require(self.limit is None or self.limit >= 1, f"{where}.limit", self.limit, "at least one item, or null")
        shots = self.num_fewshot is None or self.num_fewshot >= 0
        require(shots, f"{where}.num_fewshot", self.num_fewshot, "must not be negative", "null: as the task defines")
        for name in self.tasks:
            plain = bool(name) and not name.startswith("-") and "," not in name
            require(plain, f"{where}.tasks", repr(name), "is not the name of a task", "one name per entry")
        for given in self.arguments:
            option = given.partition("=")[0]
            ours = ("--tasks", "--model_args", "--limit", "--num_fewshot", "--output_path", "--use_cache")
            # argparse accepts the beginning of an option, so "--model_args" covers "--model".
            taken = len(option) > 2 and any(name.startswith(option) for name in ours)
            require(not taken, f"{where}.arguments", option, "is set by the evaluation itself", "use its own field")


@dataclass
class EvalConfig:
    """Benchmarks answered by the served checkpoint after every round."""

    benchmarks: dict[str, BenchmarkConfig] = field(default_factory=dict)
    """Benchmarks by a name of your choice, under which scores are shown and logged."""
    temperature: float = 0.0
    """Sampling temperature in [0, 2]; 0 means greedy decoding."""
    samples: int = 1
    """Number of times each item is asked, each with its own seed. With several, accuracy is their mean, and maj@k and
    pass@k are reported beside it; needs temperature > 0."""
    max_tokens: int = 1024
    """Longest response; one that is cut here counts only with a marked final answer."""
    data: str | None = None
    """Folder with local copies of the benchmarks; by default the environment variable CRESCENT_DATA, else the hub."""
    reliability: int = 0
    """Number of items of each dev benchmark that the base answers K times before the first round, to measure how far
    agreement can be trusted as a label (`crescent reliability RUN`). Decides nothing."""
    harness: HarnessConfig = field(default_factory=HarnessConfig)

    def __post_init__(self) -> None:
        require(self.reliability >= 0, "eval.reliability", self.reliability, "must not be negative", "e.g. 200")
        require(0 <= self.temperature <= 2, "eval.temperature", self.temperature, "must lie in [0, 2]")
        require(self.samples >= 1, "eval.samples", self.samples, "each item is asked at least once")
        differ = self.samples == 1 or self.temperature > 0
        fix = "set eval.temperature=0.6, or eval.samples=1"
        require(differ, "eval.samples", self.samples, "greedy samples (eval.temperature=0) are all the same", fix)
        require(self.max_tokens >= 1, "eval.max_tokens", self.max_tokens, "must be at least 1")
        for name, benchmark in self.benchmarks.items():
            plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) is not None
            rule = "a name has letters, digits, `.`, `_` and `-`, at most 64, and begins with a letter or a digit"
            require(plain, "eval.benchmarks", repr(name), rule, "it names metrics and files, e.g. gsm8k_dev")
            where, samples = f"eval.benchmarks.{name}", samples_of(benchmark, self)
            differ = samples == 1 or temperature_of(benchmark, self) > 0
            rule, fix = "greedy samples (temperature 0) are all the same", f"set it to 1, or {where}.temperature=0.6"
            require(differ, f"{where}.samples", samples, rule, fix)
        self._check_apart()

    def _check_apart(self) -> None:
        """Check that no set of one's own decides and is reported with the same items."""
        places: dict[tuple[str | None, ...], str] = {}
        for name, each in self.benchmarks.items():
            if each.source not in OWN:
                continue
            place = (each.path, each.config, each.hub_split if each.source is Source.hub else None)
            other = places.setdefault(place, name)
            first = self.benchmarks[other]
            apart = first.split is each.split or (first.divide and each.divide)
            rule = f"is also the path of {other}, so the same items would decide and be reported"
            fix = f"set divide=true for {other} and for {name}, or give each a file"
            require(apart, f"eval.benchmarks.{name}.path", each.path, rule, fix)


def temperature_of(benchmark: BenchmarkConfig, evaluation: EvalConfig) -> float:
    """Sampling temperature of a benchmark."""
    return evaluation.temperature if benchmark.temperature is None else benchmark.temperature


def own_place(benchmark: BenchmarkConfig, data: Path | None) -> Path | None:
    """File or folder of a set of one's own on this machine; `None` if it is on the hub, or nowhere.

    Args:
        data: The data folder, for a relative path that is not there.
    """
    if benchmark.path is None:
        return None
    here = Path(benchmark.path).expanduser()
    below = data / here if data is not None else here
    return next((place for place in (here, below) if place.exists()), None)


def samples_of(benchmark: BenchmarkConfig, evaluation: EvalConfig) -> int:
    """Number of times each item of a benchmark is asked."""
    if benchmark.samples is not None:
        return benchmark.samples
    return 1 if benchmark.temperature == 0 else evaluation.samples


def style_of(benchmark: BenchmarkConfig, task: TaskConfig) -> AnswerStyle:
    """Style in which the benchmark's answers are found and compared. Nothing else decides it."""
    if benchmark.style is not None:
        return benchmark.style
    fitting = STYLES[benchmark.source]
    if benchmark.source is Source.reasoning_gym and benchmark.family not in NUMBER_FAMILIES:
        # Polynomials, puzzles, …: in the task's style if it is one for mathematics, else as formulas.
        return task.answer_style if task.answer_style in fitting else AnswerStyle.math
    return fitting[0]


def task_of(benchmark: BenchmarkConfig, task: TaskConfig) -> TaskConfig:
    """The task that reads and compares the benchmark's answers: the run's own, in the benchmark's style."""
    style = style_of(benchmark, task)
    if style is task.answer_style:
        return task
    # Programs for benchmark items get no inputs; the template is never used, but the config requires one.
    return replace(task, answer_style=style, inputs_prompt="{question}" if style is AnswerStyle.code else None)


def is_asked_for(style: AnswerStyle, task: TaskConfig) -> bool:
    """Whether `task.answer_prompt` asks for answers of this style. Numbers and formulas are asked for alike."""
    mathematics = (AnswerStyle.number, AnswerStyle.math)
    return style is task.answer_style or (style in mathematics and task.answer_style in mathematics)


def can_vote(benchmark: BenchmarkConfig, task: TaskConfig) -> bool:
    """Whether `eval.reliability` can ask and vote on the benchmark's items as the run does on its own questions."""
    return benchmark.split is Split.dev and is_asked_for(style_of(benchmark, task), task)


def check_sources(evaluation: EvalConfig, task: TaskConfig) -> None:
    """Raise `BadConfig` if a benchmark's prompt asks for another kind of answer than it has, or if `eval.reliability`
    has nothing to vote on."""
    style = task.answer_style
    others = ", ".join(
        source.value
        for source, styles in STYLES.items()
        if source not in OWN and any(is_asked_for(each, task) for each in styles)
    )
    for name, benchmark in evaluation.benchmarks.items():
        own = style_of(benchmark, task)
        asked = benchmark.prompt is not None or benchmark.shots > 0 or is_asked_for(own, task)
        where = f"eval.benchmarks.{name}"
        rule = f"task.answer_prompt asks for another kind of answer (task.answer_style={style.value})"
        tasks = {
            AnswerStyle.choice: "task=multiple_choice",
            AnswerStyle.code: "task=code",
            AnswerStyle.text: "task.answer_style=text",
        }.get(own, "task=math")
        sources = f"one of {others} as source" if others else "source=jsonl or hub"
        fix = f"use {tasks}, or {sources}, or set {where}.prompt to ask for it"
        if benchmark.source in OWN:
            fix = f"set {where}.prompt to ask for it, or {where}.style to how the answers are written, or use {tasks}"
        key, value = ("style", own.value) if benchmark.source in OWN else ("source", benchmark.source.value)
        require(asked, f"{where}.{key}", value, rule, fix)
    votes = style is not AnswerStyle.code or evaluation.reliability == 0
    rule = "programs are compared on inputs, and benchmark items have none (task.answer_style=code)"
    require(votes, "eval.reliability", evaluation.reliability, rule, "set eval.reliability=0")
    dev = any(can_vote(benchmark, task) for benchmark in evaluation.benchmarks.values())
    known = dev or evaluation.reliability == 0
    rule = "needs a dev benchmark with the task's kind of answer"
    require(known, "eval.reliability", evaluation.reliability, rule, "set split=dev on one")
