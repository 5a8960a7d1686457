"""The table of how often majority votes were correct, by agreement."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from crescent.errors import Missing
from crescent.judging.reliability import FILE, TARGETS, Reliability, read_reliability, suggest_cut
from crescent.judging.wording import percent, percent_number, percent_number_with_interval, percent_with_interval


def reliability_table(reliability: Reliability) -> Table:
    """One row per agreement, and below the table what the model scores without any training."""
    table = Table()
    for column in ("agreement", "votes", "correct %", "kept %", "correct if kept %"):
        table.add_column(column, justify="right")
    for bin_ in reliability.bins:
        table.add_row(
            f"{round(bin_.agreement * reliability.samples)}/{reliability.samples}",
            str(bin_.count),
            percent_number_with_interval(bin_.correct / bin_.count, bin_.low, bin_.high),
            percent_number(bin_.kept),
            percent_number_with_interval(bin_.accuracy, bin_.accuracy_low, bin_.accuracy_high),
        )
    auroc = "unknown" if reliability.auroc is None else f"{reliability.auroc:.2f}"
    passes = ", ".join(f"pass@{k} {percent(share)}" for k, share in reliability.pass_at.items() if k > 1)
    cuts = {target: suggest_cut(reliability, target) for target in TARGETS}
    suggestions = ", ".join(
        f"{target:.0%}: {'none' if cut is None else f'min_agreement={cut:g}'}" for target, cut in cuts.items()
    )
    majority = percent_with_interval(reliability.majority, reliability.majority_low, reliability.majority_high)
    table.caption_justify = "left"
    table.caption = (
        f"{reliability.items} items, {reliability.undecided} without a winner; 95% Wilson intervals\n"
        "kept: votes with at least this agreement, as consensus.min_agreement keeps them\n"
        f"one sample {percent(reliability.single)}, maj@{reliability.samples} {majority}\n{passes}\n"
        f"AUROC of agreement: {auroc}\n"
        f"lowest cut with at least this share correct, by the lower end of the interval:\n{suggestions}"
    )
    return table


def show_tables(reliability_by_benchmark: Mapping[str, Reliability], console: Console) -> None:
    """Print one table per benchmark."""
    for benchmark, reliability in reliability_by_benchmark.items():
        table = reliability_table(reliability)
        table.title = escape(benchmark)
        console.print(table)


def show_reliability(root: Path, console: Console) -> None:
    """Print what a run measured before its first round.

    Raises:
        Missing: the run did not measure it, or not yet.
    """
    path = root / FILE
    if not path.is_file():
        raise Missing(
            f"{path}: does not exist; runs with eval.reliability=200 (items of each dev benchmark) measure it before "
            "their first round"
        )
    show_tables(read_reliability(path), console)
