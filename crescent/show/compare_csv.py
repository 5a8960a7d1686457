"""Runs side by side as CSV, for a spreadsheet or a script.

There is one row per run, round and benchmark, and these columns, which stay as they are:

    run, folder, status, seed          what it is, and how far it went
    round, checkpoint, verdict         round 0 is the base; accept, retry, roll back or stop
    questions, agreement, near_duplicate_drop_rate, pairs, tokens, seconds
    benchmark, split, items, item_set  dev or test; equal sets hold the same items
    total, correct, accuracy, accuracy_low, accuracy_high, unparsed          with the 95 % Wilson interval
    base_difference, base_low, base_high, base_p, base_gained, base_lost     to the run's base, on the same items
    majority_samples, majority, majority_low, majority_high                  of the base: K, and maj@K
    strict, flexible                                                         the same responses, read otherwise
    samples, maj_k, pass_k             answers to each item, and with several maj@k and pass@k of that many

Shares lie in [0, 1], unknown cells are empty. Text that a spreadsheet would calculate begins with an apostrophe.
"""

import csv
import io
import re
from collections.abc import Iterator

from crescent.reading.rounds import Measured, RoundRow, RunRows
from crescent.reading.runs import RunTable
from crescent.show.texts import visible

CALCULATED = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
Cell = str | int | float | None
COLUMNS = (
    *("run", "folder", "status", "seed"),
    *("round", "checkpoint", "verdict", "questions", "agreement"),
    *("near_duplicate_drop_rate", "pairs", "tokens", "seconds"),
    *("benchmark", "split", "items", "item_set", "total", "correct", "accuracy", "accuracy_low", "accuracy_high"),
    *("unparsed", "base_difference", "base_low", "base_high", "base_p", "base_gained", "base_lost"),
    *("majority_samples", "majority", "majority_low", "majority_high"),
    *("strict", "flexible", "samples", "maj_k", "pass_k"),
)


def as_csv(found: RunTable) -> str:
    """The columns are explained above. A run without anything finished has one line, too."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for line in _csv_lines(found):
        writer.writerow({name: _cell(value) for name, value in line.items()})
    return text.getvalue()


def _csv_lines(found: RunTable) -> Iterator[dict[str, Cell]]:
    for run in found.runs:
        seed = int(run.seed) if run.seed is not None and re.fullmatch(r"-?\d{1,18}", run.seed) else run.seed
        about = {"run": run.name, "folder": str(run.folder), "status": run.status, "seed": seed}
        if not run.rows:
            yield {**about}
        for row in run.rows:
            made = {its: getattr(row, its) for its in COLUMNS[COLUMNS.index("round") : COLUMNS.index("benchmark")]}
            if not row.measured:
                yield {**about, **made}
            for its in row.measured:
                yield {**about, **made, **_csv_measures(its, run, row)}


def _csv_measures(its: Measured, run: RunRows, row: RoundRow) -> dict[str, Cell]:
    score, gain = its.score, its.against_base
    voted = run.majority.get(score.benchmark) if row.round == 0 else None
    found: dict[str, Cell] = {
        "benchmark": score.benchmark,
        "split": "dev" if score.decides else "test",
        "items": its.items or None,
        "item_set": its.item_set,
        "total": score.total,
        "correct": score.correct,
        "accuracy": score.accuracy,
        "accuracy_low": score.low,
        "accuracy_high": score.high,
        "unparsed": score.unparsed,
        "strict": None if score.strict is None else score.strict / score.total,
        "flexible": None if score.flexible is None else score.flexible / score.total,
        "samples": score.samples,
        "maj_k": score.majority,
        "pass_k": score.pass_at.get(str(score.samples)),
    }
    if gain is not None:
        found |= {"base_difference": gain.difference, "base_low": gain.low, "base_high": gain.high}
        found |= {"base_p": gain.p_value, "base_gained": gain.gained, "base_lost": gain.lost}
    if voted is not None:
        found |= {"majority_samples": voted.samples, "majority": voted.majority}
        found |= {"majority_low": voted.majority_low, "majority_high": voted.majority_high}
    return found


def _cell(value: Cell) -> Cell:
    """Text that begins like a formula would be calculated when the file is opened (OWASP, CSV injection)."""
    if not isinstance(value, str):
        return value
    guarded = "'" if CALCULATED.match(value.lstrip(" ")) else ""
    return guarded + visible(value)
