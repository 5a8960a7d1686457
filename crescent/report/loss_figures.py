"""The training loss of each round, step by step."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import fmean

from crescent.report.charts import Line, Point, line_plot
from crescent.report.figures import Figure
from crescent.report.run import RoundReport
from crescent.report.texts import number, plural
from crescent.run_folder.metric_names import STEP_LOSS
from crescent.show.texts import Sheet

DRAWN = 120
"""Points of a curve at most; a longer one is drawn by the means of equal parts."""
LISTED = 12
"""Rows of the table below a curve."""

Losses = Sequence[tuple[int, float]]
"""Steps with their losses."""


def loss_figures(rounds: Sequence[RoundReport]) -> Iterator[Figure]:
    """One curve for each round, all on one scale."""
    curves = {round_.number: _thinned(round_.losses, DRAWN) for round_ in rounds if len(round_.losses) > 1}
    beside = [loss for curve in curves.values() for _, loss in curve]
    for round_ in rounds:
        if curve := curves.get(round_.number):
            yield _loss_figure(round_, curve, beside)


def _loss_figure(round_: RoundReport, curve: Losses, beside: Sequence[float]) -> Figure:
    first, last = round_.losses[0], round_.losses[-1]
    length = last[0] - first[0]
    points = [Point((step - first[0]) / length, loss, f"step {step}: {number(loss)}") for step, loss in curve]
    # A loss cannot be negative, but a reward that is trained on (GRPO, DPO) may make the number so.
    bounds = (0.0, math.inf) if min(beside) >= 0 else None
    picture = line_plot(
        [Line("", tuple(points), marked=False)],
        [(0.0, str(first[0])), (1.0, str(last[0]))],
        "{:g}".format,
        x_title="step",
        bounds=bounds,
        beside=beside,
    )
    rows: list[tuple[str, ...]] = [(str(step), number(loss)) for step, loss in _thinned(round_.losses, LISTED)]
    smoothed = f"; each point is a mean of up to {-(-len(round_.losses) // DRAWN)} steps"
    return Figure(
        title=f"Loss, round {round_.number}",
        picture=picture,
        description=f"{number(first[1])} at step {first[0]}, {number(last[1])} at step {last[0]}",
        numbers=Sheet(f"Round {round_.number}: {STEP_LOSS.label}", ("|step", f"|{STEP_LOSS.title}"), rows),
        note=f"{plural(len(round_.losses), 'step')}{smoothed if len(round_.losses) > DRAWN else ''}",
    )


def _thinned(losses: Losses, most: int) -> list[tuple[int, float]]:
    """The curve in at most `most` points: means of equal parts, each at its last step."""
    if len(losses) <= most:
        return list(losses)
    edges = [round(part * len(losses) / most) for part in range(most + 1)]
    parts = [losses[start:end] for start, end in pairwise(edges)]
    return [(part[-1][0], fmean(loss for _, loss in part)) for part in parts]
