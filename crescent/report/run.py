"""Everything a report says about one run, read from its finished stages."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crescent.errors import DataSaysNo
from crescent.judging.comparison import by_benchmark, paired_test, wilson
from crescent.judging.reliability import LABELS, VOTES, LabelledVote
from crescent.machine.environment import Environment, read_environments
from crescent.reading.ranking import deciding
from crescent.reading.rounds import ALONE, RESAMPLES, Measured, RoundRow, RunRows
from crescent.records import Comparison, Response, Score, Vote
from crescent.report.changes import Changes, read_changes
from crescent.report.costs import Ledger, best_row, read_ledger
from crescent.report.funnel import Step, funnel
from crescent.report.questions import Questions, read_questions
from crescent.report.reading import Reader
from crescent.report.texts import listed, p_value, percent, points_with_interval, unbroken, with_interval
from crescent.run_folder.metric_names import monitors_among
from crescent.run_folder.places import CONFIG


@dataclass(frozen=True)
class HarnessValue:
    """One number of lm-evaluation-harness."""

    task: str
    metric: str
    value: float
    stderr: float | None = None
    n: int | None = None
    """Items."""


@dataclass(frozen=True)
class RoundReport:
    """One round, as far as it is finished."""

    row: RoundRow
    monitors: dict[str, float]
    """Signs of collapse in its questions and answers (`crescent.judging.collapse.monitors`)."""
    funnel: tuple[Step, ...]
    questions: Questions | None
    changes: Changes | None
    training: dict[str, float]
    """What the trainer measured."""
    harness: tuple[HarnessValue, ...]

    @property
    def number(self) -> int:
        return self.row.round

    @property
    def outcome(self) -> str:
        """The verdict, or how far the round went."""
        if self.row.verdict is not None:
            return self.row.verdict
        return "not judged" if self.row.measured else "not evaluated" if self.row.checkpoint else "not trained"


@dataclass(frozen=True)
class Headline:
    """What the run came to, best first read aloud."""

    claim: str
    lines: tuple[str, ...]
    """What supports or limits it."""


@dataclass(frozen=True)
class RunReport:
    """One run."""

    rows: RunRows
    base: RoundRow | None
    base_harness: tuple[HarnessValue, ...]
    teacher: tuple[Score, ...]
    """Of the model that asks and answers, where that is another one (`train.student`)."""
    rounds: tuple[RoundReport, ...]
    ledger: Ledger
    headline: Headline
    config: str | None
    """`config.yaml` as it is; `None` where there is none."""
    versions: tuple[str, ...]
    """Of Crescent, that made its stages."""
    environments: tuple[Environment, ...]
    """That worked on it; none where an older version did not write them down."""
    left_out: dict[str, dict[str, Any]]
    """By benchmark, items that could not be used."""
    missing: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.rows.name

    @property
    def ended(self) -> bool:
        """Whether no further round follows, as far as is planned."""
        return not any(_unfinished(self.rows))

    def setting(self, key: str) -> str | None:
        """A setting in JSON by its dotted key; `None` where it is not known."""
        return (self.rows.settings or {}).get(key)


def read_report(rows: RunRows, rate: float | None = None, samples: bool = True) -> RunReport:
    """Read what else lies in a run folder.

    Args:
        rows: What `crescent.reading.runs` found there.
        rate: Money per machine-hour.
        samples: Read questions and answers, too; without them only numbers.
    """
    reader = Reader(rows.folder)
    rounds = tuple(_round(reader, row, rows.rows, samples) for row in rows.rows if row.round)
    ledger = read_ledger(reader, rate)
    base = _base(rows)
    manifests = (reader.run.stage(its.stage) for its in ledger.stages)
    versions = sorted({str(its["made_from"].get("version")) for its in manifests if its is not None})
    left_out = reader.file("base/eval/benchmarks.json", dict[str, dict[str, Any]]) if base else None
    harness = tuple(_harness(reader, "base"))
    found = _unbroken(headline(rows, _pooled(reader, rows), _beside_votes(reader, rows)))
    notes = dict.fromkeys([*_unfinished(rows), *rows.missing, *reader.run.missing, *_unmeasured(reader, rows)])
    return RunReport(
        rows=rows,
        base=base,
        base_harness=harness,
        teacher=reader.file("teacher/eval/scores.json", tuple[Score, ...]) or (),
        rounds=rounds,
        ledger=ledger,
        headline=found,
        config=_config(rows.folder),
        versions=tuple(versions),
        environments=tuple(read_environments(rows.folder)),
        left_out=left_out or {},
        missing=tuple(notes),
    )


def headline(rows: RunRows, pooled: Comparison | None, voted: Mapping[str, Comparison]) -> Headline:
    """What may be claimed, from the numbers on the deciding benchmarks and from nothing else.

    Args:
        pooled: The best checkpoint against the base, on all deciding items; `None` where it is the base or unknown.
        voted: The best checkpoint against votes without training, by benchmark, where each item's vote is known.
    """
    best, judged = best_row(rows.rows), [its for its in rows.rows if its.verdict is not None]
    if best is None:
        return Headline("Nothing is finished that a report could show.", ())
    if rows.status == ALONE:
        return Headline("One model was evaluated, and none was trained.", tuple(_scores(best, "it")))
    if not judged:
        return Headline("No child has been judged yet.", tuple(_scores(best, "the base")))
    if best.round == 0:
        nearest = max(judged, key=_mean_gain)
        claim = "No child replaced the base." if len(judged) > 1 else "The child did not replace the base."
        found = [f"{_name(nearest)} came nearest: {_gain(its, rows)}" for its in deciding(nearest)]
        return Headline(claim, (*found, *_yardstick(rows, best, voted), *_tests(nearest, rows)))
    shown = pooled is not None and pooled.p_value <= _alpha(rows) and pooled.difference > 0
    claim = f"{_name(best)} is the best checkpoint, " + (
        "better than the base on the deciding items." if shown else "not shown to be better than the base."
    )
    gains = [_gain(its, rows) for its in deciding(best)]
    if pooled is not None and len(gains) > 1:
        gains.append(f"Together: {gain_text(pooled)}, on {pooled.items} items.")
    return Headline(claim, (*gains, *_yardstick(rows, best, voted), *_tests(best, rows)))


def _unbroken(given: Headline) -> Headline:
    return Headline(given.claim, tuple(map(unbroken, given.lines)))


def _pooled(reader: Reader, rows: RunRows) -> Comparison | None:
    best = best_row(rows.rows)
    if best is None or best.round == 0 or best.judged is None:
        return None
    names = best.judged.benchmarks
    now, before = (
        [its for its in reader.records(f"{place}/eval/responses.jsonl", Response) if its.benchmark in names]
        for place in (f"round-{best.round}", "base")
    )
    try:
        return paired_test(now, before, RESAMPLES, 0, against="base")
    except DataSaysNo as error:
        reader.run.note(f"round-{best.round} is not compared with the base: {error}")
        return None


def _beside_votes(reader: Reader, rows: RunRows) -> dict[str, Comparison]:
    """The best child against the votes on the same items, by benchmark; none where no item's vote was kept."""
    best = best_row(rows.rows)
    if best is None or best.round == 0:
        return {}
    votes, labels = list(reader.records(VOTES, Vote)), list(reader.records(LABELS, LabelledVote))
    if len(votes) != len(labels):
        return {}
    right = {(its.question.bait, its.question.id): label.correct for its, label in zip(votes, labels, strict=True)}
    responses = reader.records(f"round-{best.round}/eval/responses.jsonl", Response)
    child = [its for its in responses if (its.benchmark, its.item) in right]
    majority = by_benchmark([replace(its, correct=right[its.benchmark, its.item]) for its in child])
    return {
        name: paired_test(given, majority[name], RESAMPLES, 0, name, "base")
        for name, given in by_benchmark(child).items()
    }


def _alpha(rows: RunRows) -> float:
    return float((rows.settings or {}).get("verdict.alpha", "0.05"))


def gain_text(gain: Comparison) -> str:
    """+4.7 [0.0, +10.0] points, p = 0.12."""
    relation = p_value(gain.p_value).replace("<", "< ") if gain.p_value < 0.001 else f"= {p_value(gain.p_value)}"
    return f"{points_with_interval(gain.difference, gain.low, gain.high)} points, p {relation}"


def _name(row: RoundRow, first: str = "R") -> str:
    return f"{first}ound {row.round}’s child"


def _mean_gain(row: RoundRow) -> float:
    gains = [its.against_base.difference for its in deciding(row) if its.against_base]
    return sum(gains) / len(gains) if gains else -1.0


def _base(rows: RunRows) -> RoundRow | None:
    return next((its for its in rows.rows if its.round == 0), None)


def _gain(its: Measured, rows: RunRows) -> str:
    base = _base(rows)
    before = next((m.score for m in base.measured if m.score.benchmark == its.score.benchmark), None) if base else None
    now = f"{percent(its.score.accuracy)} %"
    if its.against_base is None:
        return f"{its.score.benchmark}: {now}, not compared with the base."
    change = now if before is None else f"{percent(before.accuracy)} % → {now}"
    return f"{its.score.benchmark}: {change}, {gain_text(its.against_base)}, on the same {its.items} items."


def _scores(row: RoundRow, name: str) -> Iterator[str]:
    for its in row.measured:
        score = its.score
        yield f"{score.benchmark}: {name} solves {with_interval(score.accuracy, score.low, score.high)} %."


def _tests(row: RoundRow, rows: RunRows) -> Iterator[str]:
    for its in row.measured:
        if not its.score.decides:
            yield f"Only reported: {_gain(its, rows)}"


def _yardstick(rows: RunRows, best: RoundRow, paired: Mapping[str, Comparison]) -> Iterator[str]:
    """What voting gives for nothing: a gain that is not above it could be had without training."""
    base = _base(rows)
    for its in deciding(base) if base else []:
        name, who = its.score.benchmark, "base"
        now = next((m for m in best.measured if m.score.benchmark == name), None) if best.round else None
        voted, gain = rows.majority.get(name), paired.get(name)
        if voted is not None and (gain is not None or its.score.majority is None):
            who = "base" if (rows.settings or {}).get("train.student", "null") == "null" else "teacher"
            share, many, items = voted.majority, voted.samples, voted.items
        elif its.score.majority is not None:
            share, many, items, gain = its.score.majority, its.score.samples, its.items, None
        else:
            continue
        solved = with_interval(share, *wilson(round(share * items), items))
        said = f"Voting alone gives the {who} {solved} % on {name} (maj@{many}, {items} items)"
        if gain is not None:
            shown = gain.p_value <= _alpha(rows)
            relation = ("above" if gain.difference > 0 else "below") if shown else "not shown to be above"
            said += f": on the same {gain.items} items {_name(best, 'r')} is {relation} that, {gain_text(gain)}"
        elif now is not None:
            solves = with_interval(now.score.accuracy, now.score.low, now.score.high)
            said += (
                f"; {_name(best, 'r')} solves {solves} % of {now.items or now.score.total} items. They were not "
                "compared item by item, so it is not shown that training gave more than voting"
            )
        yield f"{said}."


def _round(reader: Reader, row: RoundRow, rows: Sequence[RoundRow], samples: bool) -> RoundReport:
    number, run = row.round, reader.run
    synthesis = reader.metrics(f"round-{number}/synthesis")
    selected = reader.metrics(f"round-{number}/pairs") if run.selection(number) is not None else {}
    training = reader.metrics(f"round-{number}/train") if run.training(number) is not None else {}
    questions = read_questions(reader, number) if samples else None
    voted = ([its.agreement for its in questions.asked], questions.cut) if questions else ((), 0.0)
    return RoundReport(
        row=row,
        monitors=monitors_among(synthesis),
        funnel=tuple(funnel(synthesis, selected, training, *voted)),
        questions=questions,
        changes=read_changes(reader, row, rows) if samples else None,
        training=training,
        harness=tuple(_harness(reader, f"round-{number}")) if row.measured else (),
    )


def _harness(reader: Reader, place: str) -> list[HarnessValue]:
    return reader.file(f"{place}/harness/harness.json", list[HarnessValue]) or []


def _config(root: Path) -> str | None:
    try:
        return (root / CONFIG).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _unfinished(rows: RunRows) -> Iterator[str]:
    """How far the run went, where that is not to its end."""
    if not rows.status.startswith(("finished", "stopped", ALONE)):
        yield f"Unfinished: {rows.status}" + ("" if rows.status.endswith("…") else ".")


def _unmeasured(reader: Reader, rows: RunRows) -> Iterator[str]:
    base = _base(rows)
    if base is None or rows.status == ALONE:
        return
    if not base.measured and reader.metrics("base/eval"):
        return  # Measured, but not to be read: that is said already, and nothing else is known.
    names = [its.score.benchmark for its in base.measured if its.score.decides]
    without = [
        its.score.benchmark
        for its in deciding(base)
        if its.score.majority is None and its.score.benchmark not in rows.majority
    ]
    if without:
        yield (
            f"What voting alone would give the base on {listed(without)} was not measured (eval.reliability, or "
            "eval.samples above 1), so how much of a gain training earned is not known."
        )
    if not names:
        yield "No benchmark may decide (split=dev), so verdicts rest on nothing that was measured."
    if not any(its.decides is False for its in (m.score for m in base.measured)):
        yield "There is no test benchmark: the items that decided are the only ones that were asked."
