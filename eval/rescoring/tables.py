"""Tables of what was read again."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from crescent.judging.wording import interval, p_number, percent, points_number, points_number_with_interval
from crescent.records import Comparison, Score
from eval.rescoring.outputs import ScoredOutputs
from eval.rescoring.runs import RescoredRun
from eval.rescoring.verdicts import Rejudged

NOTHING = "–"


def show_run(found: RescoredRun, console: Console) -> None:
    """Old and new scores and verdicts, and the number of readings that changed."""
    console.print(f"{found.root}: scores from its stored responses, old → new", soft_wrap=True)
    console.print(scores_table(found))
    if found.verdicts:
        console.print(verdicts_table(found.verdicts))
    for row in (row for row in found.verdicts if row.old_action != row.new_action):
        console.print(
            f"round {row.round}: the recorded verdict is {row.old_action!r} and does not change; on the new scores it "
            f"would be {row.new_action!r}: {row.reason}",
            soft_wrap=True,
        )
    right = sum(change.new_correct and not change.old_correct for change in found.changes)
    wrong = sum(change.old_correct and not change.new_correct for change in found.changes)
    total = sum(row.old.total for row in found.scores)
    console.print(
        f"{len(found.changes):,} of {total:,} readings changed: {right:,} wrong → right, {wrong:,} right → wrong, "
        f"{len(found.changes) - right - wrong:,} in the final answer only",
        soft_wrap=True,
    )
    for note in found.notes:
        console.print(f"note: {note}", soft_wrap=True)


def scores_table(found: RescoredRun) -> Table:
    """One row for each checkpoint and benchmark."""
    table = Table("checkpoint", "benchmark", "read as")
    voted = any(row.old.samples > 1 for row in found.scores)
    for column in ("accuracy", "change", *(["maj@k"] if voted else []), "unparsed", "strict", "flexible", "changed"):
        table.add_column(column, justify="right")
    changed = Counter((change.place, change.benchmark) for change in found.changes)
    for row in found.scores:
        old, new = row.old, row.new
        table.add_row(
            row.place,
            row.benchmark,
            row.style,
            step(percent(old.accuracy), percent(new.accuracy)),
            points_number(new.accuracy - old.accuracy),
            *([step(known(old.majority), known(new.majority))] if voted else []),
            step(str(old.unparsed), str(new.unparsed)),
            step(share(old, old.strict), share(new, new.strict)),
            step(share(old, old.flexible), share(new, new.flexible)),
            str(changed[row.place, row.benchmark]),
        )
    return table


def verdicts_table(verdicts: Sequence[Rejudged]) -> Table:
    """Child against parent on the deciding benchmarks, one row for each round."""
    table = Table("round", "against", "verdict")
    for column in ("items", "changed", "gained", "lost", "difference", "p"):
        table.add_column(column, justify="right")
    for row in verdicts:
        table.add_row(
            str(row.round),
            row.parent,
            step(row.old_action, row.new_action),
            str(row.items),
            str(row.changed),
            step(str(row.old.gained), str(row.new.gained)),
            step(str(row.old.lost), str(row.new.lost)),
            step(gain(row.old), gain(row.new)),
            step(p_number(row.old.p_value), p_number(row.new.p_value)),
        )
    return table


def show_outputs(scored: Sequence[ScoredOutputs], console: Console) -> None:
    """Each model's scores, and their agreement with labels in the file."""
    table = Table("model")
    samples = max(found.score.samples for found in scored)
    voted = [f"maj@{samples}", f"pass@{samples}"] if samples > 1 else []
    for column in ("accuracy", "95% interval", *voted, "strict", "flexible", "unparsed", "items"):
        table.add_column(column, justify="right")
    for found in scored:
        result = found.score
        table.add_row(
            found.model or NOTHING,
            percent(result.accuracy),
            interval(result.low, result.high),
            *([known(result.majority), known(result.pass_at.get(str(samples)))] if voted else []),
            share(result, result.strict),
            share(result, result.flexible),
            str(result.unparsed),
            str(result.total // result.samples),
        )
    console.print(table)
    if any(found.agreements for found in scored):
        console.print(agreement_table(scored))


def agreement_table(scored: Sequence[ScoredOutputs]) -> Table:
    """One row for each model, label and score of ours."""
    table = Table("model", "label", "our score")
    for column in ("accuracy by label", "agreement", "right by ours only", "right by label only"):
        table.add_column(column, justify="right")
    for found in scored:
        for row in found.agreements:
            table.add_row(
                found.model or NOTHING,
                row.label,
                row.score,
                percent((row.both_right + row.only_theirs) / row.total),
                percent((row.both_right + row.both_wrong) / row.total),
                str(row.only_ours),
                str(row.only_theirs),
            )
    return table


def step(old: str, new: str) -> str:
    """Old and new value; a value that did not change is written once."""
    return new if old == new else f"{old} → {new}"


def known(part: float | None) -> str:
    return NOTHING if part is None else percent(part)


def share(score: Score, count: int | None) -> str:
    return known(None if count is None else count / score.total)


def gain(result: Comparison) -> str:
    return points_number_with_interval(result.difference, result.low, result.high)
