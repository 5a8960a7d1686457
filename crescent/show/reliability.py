"""The terminal's table of how often majorities were right."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from crescent.errors import Missing
from crescent.judging.reliability import FILE, TARGETS, Reliability, read_reliability, suggest_cut


def reliability_table(reliability: Reliability) -> Table:
    """One row per agreement, and below it what the model does without any training."""
    table = Table()
    for column in ("agreement", "votes", "right %", "kept from here %", "of these right %"):
        table.add_column(column, justify="right")
    for its in reliability.bins:
        table.add_row(
            f"{round(its.agreement * reliability.samples)}/{reliability.samples}",
            str(its.count),
            f"{percent(its.correct / its.count)} {interval(its.low, its.high)}",
            percent(its.kept),
            f"{percent(its.accuracy)} {interval(its.accuracy_low, its.accuracy_high)}",
        )
    auroc_known = "unknown" if reliability.auroc is None else f"{reliability.auroc:.2f}"
    passes = ", ".join(f"pass@{k} {percent(share)} %" for k, share in reliability.pass_at.items() if k > 1)
    cuts = {target: suggest_cut(reliability, target) for target in TARGETS}
    suggestions = ", ".join(
        f"{target:.0%}: {'none' if cut is None else f'min_agreement={cut:g}'}" for target, cut in cuts.items()
    )
    table.caption_justify = "left"
    table.caption = (
        f"{reliability.items} items, {reliability.undecided} without a winner\n"
        f"one sample {percent(reliability.single)} %, maj@{reliability.samples} {percent(reliability.majority)} % "
        f"{interval(reliability.majority_low, reliability.majority_high)}, {passes}\n"
        f"AUROC of agreement: {auroc_known}\n"
        f"[95 % Wilson intervals]; lowest cut whose interval begins\nat {suggestions}"
    )
    return table


def show_tables(found: Mapping[str, Reliability], console: Console) -> None:
    """One table per benchmark."""
    for benchmark, reliability in found.items():
        table = reliability_table(reliability)
        table.title = escape(benchmark)
        console.print(table)


def show_reliability(root: Path, console: Console) -> None:
    """What a run measured before its first round.

    Raises:
        Missing: the run did not measure it, or not yet.
    """
    path = root / FILE
    if not path.is_file():
        raise Missing(
            f"{path}: not there; runs with eval.reliability=200 (items of each dev benchmark) measure it before their "
            "first round"
        )
    show_tables(read_reliability(path), console)


def percent(share: float) -> str:
    """Without the sign, which stands in the heading of the column."""
    return f"{100 * share:.1f}"


def interval(low: float, high: float) -> str:
    return f"[{100 * low:.0f}, {100 * high:.0f}]"
