"""Everything a report shows about one run, read from its finished stages."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crescent.judging.wording import OUTCOMES
from crescent.machine.environment import Environment, read_environments
from crescent.reading.curve import curve_file, read_steps
from crescent.reading.ranking import deciding_results
from crescent.reading.rounds import EVALUATION_ONLY, RoundSummary, RunSummary, is_complete
from crescent.records import Score
from crescent.report.about import About, read_about
from crescent.report.changes import ChangedItems, read_changes
from crescent.report.costs import RunCosts, read_costs
from crescent.report.funnel import FunnelStep, funnel
from crescent.report.lenient import LenientReader
from crescent.report.questions import RoundQuestions, read_questions
from crescent.report.run_headline import Headline, base_of, read_headline
from crescent.report.texts import listed, unbroken
from crescent.run_folder.metric_names import STEP_LOSS, monitors_among
from crescent.run_folder.places import CONFIG


@dataclass(frozen=True)
class HarnessValue:
    """One number of lm-evaluation-harness."""

    task: str
    metric: str
    value: float
    stderr: float | None = None
    n: int | None = None
    """Number of items."""


@dataclass(frozen=True)
class RoundReport:
    """One round, as far as it is finished."""

    summary: RoundSummary
    monitors: dict[str, float]
    """Signs of collapse in its questions and answers (`crescent.judging.collapse.monitors`)."""
    funnel: tuple[FunnelStep, ...]
    questions: RoundQuestions | None
    changes: ChangedItems | None
    training: dict[str, float]
    """Metrics of the trainer."""
    losses: tuple[tuple[int, float], ...]
    """Steps of the training with their losses; empty where no curve was kept."""
    harness: tuple[HarnessValue, ...]

    @property
    def number(self) -> int:
        return self.summary.round

    @property
    def outcome(self) -> str:
        """`accepted`, `retried`, …, or how far the round went."""
        if self.summary.action is not None:
            return OUTCOMES[self.summary.action]
        return "not judged" if self.summary.results else "not evaluated" if self.summary.checkpoint else "not trained"


@dataclass(frozen=True)
class RunReport:
    """One run."""

    summary: RunSummary
    base: RoundSummary | None
    base_harness: tuple[HarnessValue, ...]
    teacher: tuple[Score, ...]
    """Scores of the model that asks and answers, where another one trains (`train.student`)."""
    rounds: tuple[RoundReport, ...]
    costs: RunCosts
    about: About
    headline: Headline
    config: str | None
    """Text of `config.yaml`, `None` where it does not exist."""
    versions: tuple[str, ...]
    """Versions of Crescent that made its stages."""
    environments: tuple[Environment, ...]
    """Machines and libraries that worked on it; empty where an older version did not record them."""
    left_out: dict[str, dict[str, Any]]
    """Counts of items that could not be used, by benchmark."""
    missing: tuple[str, ...]
    """What the report cannot show, and why."""

    @property
    def name(self) -> str:
        return self.summary.name

    @property
    def ended(self) -> bool:
        """Whether no further round is planned."""
        return is_complete(self.summary.status)

    def setting(self, key: str) -> str | None:
        """A setting as JSON by its dotted key; `None` where it is not known."""
        return (self.summary.settings or {}).get(key)


def read_report(summary: RunSummary, rate: float | None = None, samples: bool = True) -> RunReport:
    """Read what else a run folder holds.

    Args:
        summary: What `crescent.reading.rounds` read there.
        rate: Money per machine-hour.
        samples: Whether to read questions and answers, too, and not only numbers.
    """
    reader = LenientReader(summary.folder)
    rounds = tuple(_round(reader, round_, summary.rounds, samples) for round_ in summary.rounds if round_.round)
    costs = read_costs(reader, rate)
    base = base_of(summary)
    manifests = (reader.run.stage(cost.stage) for cost in (*costs.stages, *costs.reused))
    versions = sorted({str(manifest["made_from"].get("version")) for manifest in manifests if manifest is not None})
    left_out = reader.file("base/eval/benchmarks.json", dict[str, dict[str, Any]]) if base else None
    harness = tuple(_harness(reader, "base"))
    environments = tuple(read_environments(summary.folder))
    found = read_headline(reader, summary)
    headline = Headline(found.claim, tuple(map(unbroken, found.lines)))
    notes = [*_unfinished(summary), *summary.missing, *reader.run.missing, *_unmeasured(reader, summary)]
    return RunReport(
        summary=summary,
        base=base,
        base_harness=harness,
        teacher=reader.file("teacher/eval/scores.json", tuple[Score, ...]) or (),
        rounds=rounds,
        costs=costs,
        about=read_about(reader, summary, costs, environments),
        headline=headline,
        config=_config(summary.folder),
        versions=tuple(versions),
        environments=environments,
        left_out=left_out or {},
        missing=tuple(dict.fromkeys(notes)),
    )


def _round(reader: LenientReader, summary: RoundSummary, rounds: Sequence[RoundSummary], samples: bool) -> RoundReport:
    number, run = summary.round, reader.run
    synthesis = reader.metrics(f"round-{number}/synthesis")
    selected = reader.metrics(f"round-{number}/pairs") if run.selection(number) is not None else {}
    training = reader.metrics(f"round-{number}/train") if run.training(number) is not None else {}
    questions = read_questions(reader, number) if samples else None
    agreements = [question.agreement for question in questions.voted] if questions else []
    return RoundReport(
        summary=summary,
        monitors=monitors_among(synthesis),
        funnel=tuple(funnel(synthesis, selected, training, agreements, questions.cut if questions else 0.0)),
        questions=questions,
        changes=read_changes(reader, summary, rounds) if samples else None,
        training=training,
        losses=tuple(_losses(reader, number)) if training and samples else (),
        harness=tuple(_harness(reader, f"round-{number}")) if summary.results else (),
    )


def _losses(reader: LenientReader, number: int) -> Iterator[tuple[int, float]]:
    for step, metrics in read_steps(curve_file(reader.root, number)):
        loss = STEP_LOSS.of(metrics)
        if loss is not None and math.isfinite(loss):
            yield step, loss


def _harness(reader: LenientReader, place: str) -> list[HarnessValue]:
    return reader.file(f"{place}/harness/harness.json", list[HarnessValue]) or []


def _config(root: Path) -> str | None:
    try:
        return (root / CONFIG).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _unfinished(summary: RunSummary) -> Iterator[str]:
    """How far the run went, unless it went to its end."""
    if not is_complete(summary.status):
        sentence = summary.status[:1].upper() + summary.status[1:]
        yield sentence + ("" if sentence.endswith("…") else ".")


def _unmeasured(reader: LenientReader, summary: RunSummary) -> Iterator[str]:
    base = base_of(summary)
    if base is None or summary.status == EVALUATION_ONLY:
        return
    if not base.results and reader.metrics("base/eval"):
        return  # It was evaluated, but its scores cannot be read: a note says so, and nothing else is known.
    without = [
        result.score.benchmark
        for result in deciding_results(base)
        if result.score.majority is None and result.score.benchmark not in summary.reliability
    ]
    if without:
        yield (
            f"What voting alone would give the base on {listed(without)} was not measured (eval.reliability, or "
            "eval.samples above 1), so it is not known how much of a gain comes from training."
        )
    if not any(result.score.decides for result in base.results):
        yield "No benchmark may decide (split=dev), so the verdicts rest on no measurement."
    if all(result.score.decides for result in base.results):
        yield "There is no test benchmark: all scores are on the items that decided."
