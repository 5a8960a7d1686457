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
    """Settings of `python -m eval`: the same groups as those of a run, so that `+experiment=NAME` evaluates as that run
    does. Only `model`, `task`, `eval`, `serving`, `run` (without its rounds), `launch` and `tracking` are read;
    `serving.child` follows from what is evaluated."""

    model: ModelConfig = field(default_factory=lambda: ModelConfig(path=MISSING, dtype=Dtype.auto))
    adapter: str | None = None
    """Folder of a LoRA adapter (PEFT's format) to evaluate on top of `model`. By default `model.path` is the model on
    which the adapter was trained."""
    rescore: Any = None
    """Run folder whose stored responses are scored again, or JSONL file with outputs of any model; or a folder of runs,
    a pattern or a list of these. Nothing is evaluated then: no engine starts, and no stage changes."""
    styles: dict[str, AnswerStyle] = field(default_factory=dict)
    """Answer styles by benchmark for `rescore`, instead of the benchmarks' own, e.g. `+styles.gsm8k=math`."""

    def __post_init__(self) -> None:
        if self.rescore is not None:
            return  # a run is rescored by its own settings, and a file needs none
        rule = "is only for rescore=RUN"
        require(not self.styles, "styles", list(self.styles), rule, "set eval.benchmarks.NAME.style")
        # These replace the checks of a run: nothing is synthesised, trained or judged here.
        check_sources(self.eval, self.task)
        asked = bool(self.eval.benchmarks or self.eval.harness.tasks)
        require(asked, "eval.benchmarks", "{}", "there is nothing to ask", "e.g. eval=gsm8k")
        context, longest = self.model.context, self.eval.max_tokens
        fix = f"raise it or lower eval.max_tokens={longest}"
        require(context > longest, "model.context", context, "must hold prompt and answer", fix)
        stages = ("base/eval", "base/harness")
        redo = self.run.redo
        require(
            redo is None or redo in stages, "run.redo", redo, "there is no such stage", f"{stages[0]} or {stages[1]}"
        )
