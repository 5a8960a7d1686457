"""What a reader looks for first: which model, when, with which code, what came out, and where the result lies."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from crescent.config import Start
from crescent.judging.wording import percent, points
from crescent.machine.environment import Environment
from crescent.reading.outcome import best_round, read_outcome
from crescent.reading.rounds import EVALUATION_ONLY, RoundSummary, RunSummary
from crescent.report.costs import RunCosts
from crescent.report.lenient import LenientReader
from crescent.report.texts import plural

ORIGINS = {
    Start.base.value: "from the base",
    Start.parent.value: "from its parent",
    Start.merge.value: "from a merge of base and parent",
}
"""What a child was trained from, by `train.start`."""


@dataclass(frozen=True)
class About:
    """Facts of one run, each a short text; what is not known is left out."""

    facts: tuple[tuple[str, str], ...]
    """Names with their values."""
    lineage: tuple[str, ...]
    """The best checkpoint and what it came from, the base first; empty where no child was accepted."""


def read_about(
    reader: LenientReader, summary: RunSummary, costs: RunCosts, environments: tuple[Environment, ...]
) -> About:
    """The facts, from the finished stages and the settings."""
    return About(
        tuple(_facts(reader, summary, costs, environments)),
        tuple(_lineage(summary)) if any(round_.action == "accept" for round_ in summary.rounds) else (),
    )


def _facts(
    reader: LenientReader, summary: RunSummary, costs: RunCosts, environments: tuple[Environment, ...]
) -> Iterator[tuple[str, str]]:
    if model := _setting(summary, "model.path"):
        yield "Model", model
    if dates := _dates(reader, costs):
        yield "Date", dates
    commits = list(dict.fromkeys(environment.commit for environment in environments if environment.commit))
    if commits:
        yield "Commit", ", ".join(commits)
    best = best_round(summary.rounds)
    if best is None or summary.status == EVALUATION_ONLY:
        return
    yield "Best checkpoint", _place(summary, best, model)
    outcome = read_outcome(reader.run)
    judged = sum(round_.action is not None for round_ in summary.rounds)
    if outcome is None or not judged:
        return
    yield "Its accuracy", ", ".join(f"{name} {percent(accuracy)}" for name, accuracy in outcome.best.items())
    yield "Gain over the base", f"{points(outcome.gain_over_base)} on the deciding items"
    yield "Accepted rounds", f"{outcome.accepted_rounds} of {judged}"


def _dates(reader: LenientReader, costs: RunCosts) -> str:
    """Days in UTC on which the run's own stages were made, from their manifests; empty if none says."""
    times: list[int] = []
    for cost in costs.stages:
        manifest = reader.run.stage(cost.stage)
        times += (manifest or {}).get("modified", {}).values()
    days = sorted({datetime.fromtimestamp(time / 1e9, UTC).date().isoformat() for time in times})
    return " to ".join(dict.fromkeys((days[0], days[-1]))) + " (UTC)" if days else ""


def _place(summary: RunSummary, best: RoundSummary, model: str) -> str:
    if best.round == 0:
        return f"{best.checkpoint}, the base: {model or 'its path is not known'}"
    stage = summary.folder / f"round-{best.round}" / "train"
    present = [stage / name for name in ("weights", "adapter") if (stage / name).is_dir()]
    return f"{best.checkpoint}: {present[0] if present else f'{stage} has no weights any more'}"


def _lineage(summary: RunSummary) -> Iterator[str]:
    """One line for the base and for each accepted child, in their order."""
    origin = ORIGINS.get(_setting(summary, "train.start"), "from a start that is not known")
    student = _setting(summary, "train.student")
    for round_ in summary.rounds:
        if round_.round == 0:
            yield f"{round_.checkpoint}: the base"
        elif round_.action == "accept" and round_.verdict is not None:
            teacher = "the teacher" if student else round_.verdict.parent
            pairs = "" if round_.pairs is None else f", {plural(round_.pairs, 'new pair')}"
            yield f"{round_.checkpoint}: trained {origin} on what {teacher} asked and answered{pairs}"


def _setting(summary: RunSummary, key: str) -> str:
    """A text among the settings; empty where it is not set."""
    value = json.loads((summary.settings or {}).get(key, "null"))
    return value if isinstance(value, str) else ""
