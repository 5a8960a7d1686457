"""The view "rounds" of a W&B project: what a round's child scored, and what it cost, at one look."""

from collections.abc import Sequence
from contextlib import suppress


def make_view(entity: str, project: str, benchmarks: Sequence[str], known: str | None) -> str:
    """Make it, or make it again under its `known` address; returns its address."""
    import wandb_workspaces.reports.v2 as reports
    import wandb_workspaces.workspaces as workspaces

    def over_rounds(title: str, *metrics: str) -> object:
        return reports.LinePlot(title=title, x="round", y=list(metrics), point_visualization_method="sampling")

    scored = [
        over_rounds(f"{name}: accuracy and 95 % interval", *(f"round/eval/{name}/{its}" for its in SCORED))
        for name in benchmarks
    ]
    sections = {
        "Scores": scored,
        "Verdicts": [over_rounds(title, metric) for title, metric in VERDICTS.items()],
        "Questions": [over_rounds(title, metric) for title, metric in QUESTIONS.items()],
        "Cost": [over_rounds("seconds", *(f"round/{its}/seconds" for its in STAGES)), over_rounds("tokens", TOKENS)],
        "Training": [reports.LinePlot(title=its, x="train/step", y=[f"train/{its}"]) for its in CURVES],
    }
    made = [workspaces.Section(name=name, panels=its, is_open=True) for name, its in sections.items()]
    view = workspaces.Workspace(entity=entity, project=project, name="rounds")
    if known is not None:
        with suppress(Exception):  # it was deleted
            view = workspaces.Workspace.from_url(known)
    view.sections = made
    view.save()
    return str(view.url)


SCORED = ("accuracy", "low", "high")
VERDICTS = {
    "gain over the parent": "round/verdict/difference",
    "p-value": "round/verdict/p_value",
    "collapse alarms": "round/verdict/alarms",
}
QUESTIONS = {
    "agreement": "round/synthesis/monitor/agreement",
    "near-duplicates": "round/synthesis/monitor/near_duplicates",
    "questions accepted": "round/synthesis/questions",
    "length of answers, in tokens": "round/synthesis/monitor/answer_tokens",
    "length of questions, in characters": "round/synthesis/monitor/question_characters",
    "pairs": "round/pairs/pairs",
}
STAGES = ("synthesis", "train", "eval")
TOKENS = "round/synthesis/tokens"
CURVES = ("loss", "learning_rate", "tokens_per_second")
