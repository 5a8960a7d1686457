"""What a checkpoint is asked after every round."""

from dataclasses import dataclass, field, replace
from typing import Any

from crescent.config.checks import Choice, require, require_fields
from crescent.config.synthesis import AnswerStyle, TaskConfig


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
    """Competition problems with formulas as answers; `family` names a subject, all when null."""
    arc_challenge = "arc_challenge"
    """Multiple choice."""
    mmlu = "mmlu"
    """Multiple choice; `family` names a subject, e.g. `college_physics`; all subjects when null."""
    mbpp = "mbpp"
    """Python functions with tests."""


STYLES = dict.fromkeys(Source, (AnswerStyle.number, AnswerStyle.math)) | {
    Source.arc_challenge: (AnswerStyle.choice,),
    Source.mmlu: (AnswerStyle.choice,),
    Source.mbpp: (AnswerStyle.code,),
    Source.math500: (AnswerStyle.math,),
}
"""Answer styles that can read a source's reference answers, its own style first."""

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
    style: AnswerStyle | None = None
    """How its answers are found and compared; by default as its reference answers are written: numbers for word
    problems, formulas for MATH-500, letters for options, programs for MBPP. `task.answer_style` is for the run's own
    questions."""
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
        fitting = STYLES[self.source]
        rule = f"the reference answers of source={self.source.value} cannot be read so"
        names = " or ".join(style.value for style in fitting)
        readable = self.style is None or self.style in fitting
        require(readable, f"{where}.style", self.style and self.style.value, rule, f"use {names}, or leave it out")
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
            taken = len(option) > 2 and any(name.startswith(option) for name in ours)
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


def style_of(benchmark: BenchmarkConfig, task: TaskConfig) -> AnswerStyle:
    """How the benchmark's answers are found and compared. The only place that decides it."""
    if benchmark.style is not None:
        return benchmark.style
    fitting = STYLES[benchmark.source]
    if benchmark.source is Source.reasoning_gym and benchmark.family not in NUMBER_FAMILIES:
        # Anything from polynomials to puzzles: as the task reads mathematics, with formulas where it does not.
        return task.answer_style if task.answer_style in fitting else AnswerStyle.math
    return fitting[0]


def task_of(benchmark: BenchmarkConfig, task: TaskConfig) -> TaskConfig:
    """The task that reads and compares the benchmark's answers: the run's own, in the benchmark's style."""
    style = style_of(benchmark, task)
    if style is task.answer_style:
        return task
    # A program answers a benchmark item without inputs; the template only has to be there.
    return replace(task, answer_style=style, inputs_prompt="{question}" if style is AnswerStyle.code else None)


def is_asked_for(style: AnswerStyle, task: TaskConfig) -> bool:
    """Whether `task.answer_prompt` asks for answers of this style. Numbers and formulas are asked for alike."""
    mathematics = (AnswerStyle.number, AnswerStyle.math)
    return style is task.answer_style or (style in mathematics and task.answer_style in mathematics)


def can_vote(benchmark: BenchmarkConfig, task: TaskConfig) -> bool:
    """Whether the run's own way of asking and voting (`eval.reliability`) can be tried on the benchmark's items."""
    return benchmark.split is Split.dev and is_asked_for(style_of(benchmark, task), task)


def check_sources(evaluation: EvalConfig, task: TaskConfig) -> None:
    """Raise `BadConfig` when a benchmark would be asked for another kind of answer than it has, or none can be voted
    on."""
    style = task.answer_style
    others = ", ".join(source.value for source, styles in STYLES.items() if any(is_asked_for(s, task) for s in styles))
    for name, benchmark in evaluation.benchmarks.items():
        own = style_of(benchmark, task)
        asked = benchmark.prompt is not None or benchmark.shots > 0 or is_asked_for(own, task)
        where = f"eval.benchmarks.{name}"
        rule = f"task.answer_prompt does not ask for its kind of answer (task.answer_style={style.value})"
        tasks = {AnswerStyle.choice: "task=multiple_choice", AnswerStyle.code: "task=code"}.get(own, "task=math")
        way_out = f"use {tasks}, or one of {others} as source, or say how it is asked with {where}.prompt"
        require(asked, f"{where}.source", benchmark.source.value, rule, way_out)
    votes = style is not AnswerStyle.code or evaluation.reliability == 0
    rule = "programs are compared on inputs, and benchmark items have none (task.answer_style=code)"
    require(votes, "eval.reliability", evaluation.reliability, rule, "set eval.reliability=0")
    dev = any(can_vote(benchmark, task) for benchmark in evaluation.benchmarks.values())
    known = dev or evaluation.reliability == 0
    rule = "needs a dev benchmark with the task's kind of answer"
    require(known, "eval.reliability", evaluation.reliability, rule, "set split=dev on one")
