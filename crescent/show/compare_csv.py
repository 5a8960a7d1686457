"""Runs side by side as CSV, for a spreadsheet or a script.

There is one row for each run, round and benchmark. These columns stay as they are:

    run, folder, status, seed          which run, and how far it went
    round, checkpoint, verdict         round 0 is the base; accept, retry, roll back or stop
    questions, agreement, near_duplicate_drop_rate, pairs, tokens, seconds
    benchmark, split, items, item_set  dev or test; equal sets hold the same items
    total, correct, accuracy, accuracy_low, accuracy_high, unparsed          with the 95% Wilson interval
    base_difference, base_low, base_high, base_p, base_gained, base_lost     compared with the run's base, same items
    majority_samples, majority, majority_low, majority_high                  majority vote of the base: K, and maj@K
    strict, flexible                                                         same responses, other scoring
    samples, maj_k, pass_k             answers per item; with several, maj@k and pass@k of that many

Shares lie in [0, 1]; unknown cells are empty. Text that a spreadsheet would calculate begins with an apostrophe.
"""

import csv
import io
import re
from collections.abc import Iterator

from crescent.machine.inert_text import uncalculated, visible
from crescent.reading.rounds import BenchmarkResult, RoundSummary, RunSummary
from crescent.reading.runs import ComparedRuns

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


def as_csv(compared: ComparedRuns) -> str:
    """The columns are explained above. A run without anything finished has one line, too."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for line in _lines(compared):
        writer.writerow({name: _cell(value) for name, value in line.items()})
    return text.getvalue()


def _lines(compared: ComparedRuns) -> Iterator[dict[str, Cell]]:
    for run in compared.runs:
        seed = int(run.seed) if run.seed is not None and re.fullmatch(r"-?\d{1,18}", run.seed) else run.seed
        about_run: dict[str, Cell] = {
            "run": run.name,
            "folder": str(run.folder),
            "status": run.status,
            "seed": seed,
        }
        if not run.rounds:
            yield about_run
        for round_ in run.rounds:
            about_round = about_run | _about(round_)
            if not round_.results:
                yield about_round
            for result in round_.results:
                yield about_round | _scores(result, run, round_)


def _about(round_: RoundSummary) -> dict[str, Cell]:
    return {
        "round": round_.round,
        "checkpoint": round_.checkpoint,
        "verdict": round_.action,
        "questions": round_.questions,
        "agreement": round_.agreement,
        "near_duplicate_drop_rate": round_.near_duplicate_drop_rate,
        "pairs": round_.pairs,
        "tokens": round_.tokens,
        "seconds": round_.seconds,
    }


def _scores(result: BenchmarkResult, run: RunSummary, round_: RoundSummary) -> dict[str, Cell]:
    score, gain = result.score, result.against_base
    voted = run.reliability.get(score.benchmark) if round_.round == 0 else None
    cells: dict[str, Cell] = {
        "benchmark": score.benchmark,
        "split": "dev" if score.decides else "test",
        "items": result.items or None,
        "item_set": result.item_set,
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
        cells |= {"base_difference": gain.difference, "base_low": gain.low, "base_high": gain.high}
        cells |= {"base_p": gain.p_value, "base_gained": gain.gained, "base_lost": gain.lost}
    if voted is not None:
        cells |= {"majority_samples": voted.samples, "majority": voted.majority}
        cells |= {"majority_low": voted.majority_low, "majority_high": voted.majority_high}
    return cells


def _cell(value: Cell) -> Cell:
    return visible(uncalculated(value)) if isinstance(value, str) else value
