"""One evaluation of any model, without a run of the loop."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from crescent.config import Config, check_sources
from crescent.config.checks import require
from crescent.config.model import Dtype, ModelConfig
from crescent.config.synthesis import AnswerStyle


@dataclass
class EvaluationConfig(Config):
    """What `python -m eval` composes: the same groups as a run has, so that `+experiment=NAME` evaluates as that run
    does. Of the settings it reads `model`, `task`, `eval`, `serving`, `run` (not its rounds), `launch` and `tracking`;
    `serving.child` follows from what is evaluated."""

    model: ModelConfig = field(default_factory=lambda: ModelConfig(path=MISSING, dtype=Dtype.auto))
    adapter: str | None = None
    """Folder of a LoRA adapter (PEFT's format) that is evaluated on top of `model`. Where `model.path` is not given, it
    is the one that the adapter was trained on."""
    rescore: Any = None
    """Instead of evaluating: a run folder whose stored responses are read and scored again, or a JSONL file of any
    model's outputs, a folder or pattern of such, or a list. Starts no engine and changes no stage."""
    styles: dict[str, AnswerStyle] = field(default_factory=dict)
    """For `rescore`: answer styles by benchmark, instead of the benchmarks' own, e.g. `+styles.gsm8k=math`."""

    def __post_init__(self) -> None:
        if self.rescore is not None:
            return  # The run's own settings count, and the file needs none.
        rule = "is only for rescore=RUN"
        require(not self.styles, "styles", list(self.styles), rule, "set eval.benchmarks.NAME.style")
        # Instead of a run's own checks: nothing is asked for, voted on, trained or judged here.
        check_sources(self.eval, self.task)
        asked = bool(self.eval.benchmarks or self.eval.harness.tasks)
        require(asked, "eval.benchmarks", "{}", "there is nothing to ask", "e.g. eval=gsm8k")
        context, longest = self.model.context, self.eval.max_tokens
        way_out = f"raise it or lower eval.max_tokens={longest}"
        require(context > longest, "model.context", context, "must hold prompt and answer", way_out)
        stages = ("base/eval", "base/harness")
        redo = self.run.redo
        require(
            redo is None or redo in stages, "run.redo", redo, "there is no such stage", f"{stages[0]} or {stages[1]}"
        )
