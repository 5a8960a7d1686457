"""The view "rounds" of a W&B project: scores, verdicts, questions, cost and training of all rounds on one page."""

from collections.abc import Sequence
from contextlib import suppress
from secrets import token_hex

from crescent.run_folder.metric import LOOP
from crescent.run_folder.metric_names import (
    ACCEPTED_ROUNDS,
    ACCURACY,
    ACCURACY_HIGH,
    ACCURACY_LOW,
    ALARMS,
    ANSWER_LENGTH,
    FIRST_AGREEMENT,
    GAIN,
    GAIN_OVER_BASE,
    NEAR_DUPLICATE_RATE,
    NEW_PAIRS,
    P_VALUE,
    QUESTION_LENGTH,
    QUESTIONS,
    SECONDS,
    STEP_LOSS,
    STEP_RATE,
    STEP_SPEED,
    TOKENS,
)


def make_view(entity: str, project: str, benchmarks: Sequence[str], known: str | None) -> str:
    """Create the view, or update the one at the `known` address; returns its address."""
    import wandb_workspaces.reports.v2 as reports
    import wandb_workspaces.workspaces as workspaces

    def over_rounds(title: str, *metrics: str) -> object:
        return reports.LinePlot(title=title, x="round", y=list(metrics), point_visualization_method="sampling")

    def scores(benchmark: str) -> object:
        names = [f"{LOOP}{metric.stage}/{metric.named(benchmark=benchmark)}" for metric in SCORED]
        return over_rounds(f"{benchmark}: {ACCURACY.label} and 95% interval", *names)

    sections = {
        "Scores": [scores(name) for name in benchmarks],
        "Verdicts": [over_rounds(metric.title, metric.in_loop) for metric in VERDICTS],
        "Questions": [over_rounds(metric.title, metric.in_loop) for metric in QUESTION_METRICS],
        "Cost": [
            over_rounds(SECONDS.label, *(f"{LOOP}{stage}/{SECONDS.name}" for stage in STAGES)),
            over_rounds(TOKENS.label, TOKENS.in_loop),
        ],
        "Training": [
            reports.LinePlot(title=metric.title, x="train/step", y=[f"train/{metric.name}"]) for metric in CURVES
        ],
    }
    made = [workspaces.Section(name=name, panels=panels, is_open=True) for name, panels in sections.items()]
    view = workspaces.Workspace(entity=entity, project=project, name="rounds")
    # A name of hexadecimal digits: the library takes every "nw-" and "-v" out of a name to make the address,
    # so one of its own random names that ends with "nw" is never found again.
    view._internal_name = f"nw-{token_hex(6)}-v"
    if known is not None:
        with suppress(Exception):  # it was deleted in W&B
            view = workspaces.Workspace.from_url(known)
    view.sections = made
    view.save()
    return str(view.url)


# Panels of the view; each metric is shown by its label and unit.
SCORED = (ACCURACY, ACCURACY_LOW, ACCURACY_HIGH)
VERDICTS = (GAIN_OVER_BASE, ACCEPTED_ROUNDS, GAIN, P_VALUE, ALARMS)
QUESTION_METRICS = (
    FIRST_AGREEMENT,
    NEAR_DUPLICATE_RATE,
    QUESTIONS,
    ANSWER_LENGTH,
    QUESTION_LENGTH,
    NEW_PAIRS,
)
STAGES = ("synthesis", "train", "eval")
CURVES = (STEP_LOSS, STEP_RATE, STEP_SPEED)
