"""Settings of `python -m crescent.warm_start`."""

from dataclasses import dataclass, field

from crescent.config import Config, check_sources
from crescent.config.checks import require
from crescent.config.evaluation import BenchmarkConfig
from crescent.config.synthesis import AnswerStyle


@dataclass
class WarmStartConfig(Config):
    """A supervised start: what a model is taught before it teaches itself. Only `model`, `task`, `bait.prompts`,
    `eval`, `train` and `run` (without its rounds) are read."""

    labelled: BenchmarkConfig = field(default_factory=BenchmarkConfig)
    """Labelled problems to train on. Those that the benchmarks of `eval` ask, too, are left out."""
    chat_template: str | None = None
    """Chat template, as Jinja text, that the model gets in the place of its own; null keeps it. SmolLM2's own begins
    each conversation with a system prompt, which is half of the tokens of a short problem."""

    def __post_init__(self) -> None:
        check_sources(self.eval, self.task)
        items = self.labelled.items
        require(items is not None, "labelled.items", items, "says how much supervision the start has", "e.g. 200")
        code = self.task.answer_style is AnswerStyle.code
        rule = "programs have no labelled solution to train on"
        require(not code, "task.answer_style", self.task.answer_style.value, rule, "use another task")
