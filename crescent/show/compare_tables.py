"""The tables of a comparison of runs, as texts: for the terminal, for Markdown and, some of them, for the report."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from crescent.judging.wording import (
    OUTCOMES,
    p_number,
    percent_number,
    percent_number_with_interval,
    points_number,
    points_number_with_interval,
)
from crescent.reading.differing_settings import NOTABLE
from crescent.reading.ranking import ModelComparison, Ranking, Standing
from crescent.reading.rounds import BenchmarkResult, RoundSummary, RunSummary
from crescent.reading.runs import ComparedRuns, SeedGroup
from crescent.records import CHECKPOINT_NAME, Comparison, round_label
from crescent.run_folder.metric_names import AGREEMENT, NEAR_DUPLICATE_DROP_RATE, NEW_PAIRS, QUESTIONS, TOKENS
from crescent.show.headline import setting_names, standing_names
from crescent.show.texts import UNKNOWN, Sheet, mean_with_deviation

VALUE_CHARACTERS = 160
NARROW = {QUESTIONS: "ques-\ntions", AGREEMENT: "agree-\nment", NEAR_DUPLICATE_DROP_RATE: "drop\nrate"}
"""Labels over two lines, for a narrow table."""


def sheets(compared: ComparedRuns, labels: Mapping[str, str], short: bool) -> Iterator[Sheet]:
    """All tables. `short`: without what can be read in another one of them."""
    renamed = any(name != label for name, label in labels.items())
    if compared.ranking:
        yield ranking_sheet(compared, compared.ranking, labels)
    yield Sheet(
        "runs",
        ("run", *(("name",) if renamed else ()), "status", "|seed", "folder"),
        [
            (labels[run.name], *((run.name,) if renamed else ()), run.status, run.seed or UNKNOWN, str(run.folder))
            for run in compared.runs
        ],
    )
    measures = [f"|{NARROW[metric] if short else metric.label}" for metric in NARROW]
    yield Sheet(
        "rounds",
        ("run", "checkpoint", "verdict", *measures, f"|{NEW_PAIRS.label}", f"|{TOKENS.label}", "|hours"),
        [
            _round_row(labels[run.name], round_, short, cut=short or renamed)
            for run in compared.runs
            for round_ in run.rounds
        ],
    )
    yield from _benchmark_sheets(compared, labels, short)
    if compared.models:
        yield Sheet(
            f"compared with {labels[compared.models[0].reference]} on the same items",
            ("run", "benchmark", "|points", "|p", "|p (Holm)", "|gained", "|lost"),
            [_model_row(model, labels) for model in compared.models],
        )
    if compared.seed_groups:
        yield seeds_sheet(compared, labels)
    if compared.settings:
        yield Sheet(
            "settings that differ",
            ("setting", "value", "runs"),
            [
                ("" if place else setting.key, _shortened(value), ", ".join(labels[name] for name in names))
                for setting in compared.settings
                for place, (value, names) in enumerate(setting.runs_by_value.items())
            ],
        )


def ranking_sheet(compared: ComparedRuns, ranking: Ranking, labels: Mapping[str, str]) -> Sheet:
    """The trained runs, or settings by their means over seeds, best first."""
    names = standing_names(compared, ranking, labels)
    rows: list[tuple[str, ...]] = []
    for standing in ranking.standings:
        if standing.gain:
            accuracy, gain = percent_number(standing.accuracy), _points(standing.gain)
        else:
            accuracy = mean_with_deviation(standing.accuracies, percent_number)
            gain = mean_with_deviation(standing.gains, points_number)
        to_best = ("not compared" if standing.why_not_compared else "best", UNKNOWN)
        if standing.against_best:
            to_best = (_points(standing.against_best), p_number(standing.against_best.p_holm))
        rows.append((names[standing.runs], _children(standing, ranking.by_setting), accuracy, gain, *to_best))
    over = ", means over seeds ± standard deviation" if ranking.by_setting else ""
    kind = "setting" if ranking.by_setting else "run"
    return Sheet(
        f"ranking on {' and '.join(ranking.benchmarks)}, {ranking.items} items{over}",
        (kind, "child", "|accuracy %", "|over base, points", "|to best, points", "|p (Holm)"),
        rows,
    )


def seeds_sheet(compared: ComparedRuns, labels: Mapping[str, str]) -> Sheet:
    """Means over runs that differ only in their seed, in the order of the ranking."""
    names = setting_names(compared, [group.runs for group in compared.seed_groups], NOTABLE, labels)
    order = compared.ranking.order(list(labels)) if compared.ranking else list(labels)
    ranked = sorted(compared.seed_groups, key=lambda group: min(map(order.index, group.runs)))
    return Sheet(
        "over seeds: mean ± standard deviation of runs that differ only in their seed",
        ("setting", "benchmark", "|round", "|n", "|accuracy %", "|over base, points"),
        [_seeds_row(group, names[group.runs]) for group in ranked],
    )


def _children(standing: Standing, by_setting: bool) -> str:
    if not by_setting:
        return f"round {standing.rounds[0]}" + ("" if standing.accepted[0] else ", not accepted")
    accepted = "" if all(standing.accepted) else f", {sum(standing.accepted)} accepted"
    return f"{len(standing.runs)} seed{'s' if len(standing.runs) > 1 else ''}{accepted}"


def _round_row(label: str, round_: RoundSummary, short: bool, cut: bool) -> tuple[str, ...]:
    """`cut`: checkpoints without the names of their runs."""
    checkpoint = round_.checkpoint or f"{round_label(round_.round)} untrained"
    if cut and (name := CHECKPOINT_NAME.fullmatch(round_.checkpoint or "")):
        checkpoint = name["own"]
    tokens = None if round_.tokens is None else _thousands(round_.tokens) if short else f"{round_.tokens:.0f}"
    return (
        label,
        checkpoint,
        OUTCOMES[round_.action] if round_.action else UNKNOWN,
        _number(round_.questions, "{:.0f}"),
        _number(round_.agreement, "{:.2f}"),
        _number(round_.near_duplicate_drop_rate, "{:.2f}"),
        _number(round_.pairs, "{:.0f}"),
        tokens or UNKNOWN,
        UNKNOWN if round_.seconds is None else _hours(round_.seconds),
    )


@dataclass(frozen=True)
class _Cell:
    """One result, with the run and the round that it belongs to."""

    run: RunSummary
    place: int
    """Position of the run among those compared."""
    round: int
    result: BenchmarkResult

    @property
    def item_set(self) -> tuple[bool, str, str]:
        """Key of a table; dev benchmarks come before test benchmarks."""
        score = self.result.score
        return not score.decides, score.benchmark, self.result.item_set or f"unknown/{self.run.name}"


def _benchmark_sheets(compared: ComparedRuns, labels: Mapping[str, str], short: bool) -> Iterator[Sheet]:
    """One table for each set of items, dev before test; a short one has the other scores in a table of their own."""
    cells = [
        _Cell(run, place, round_.round, result)
        for place, run in enumerate(compared.runs)
        for round_ in run.rounds
        for result in round_.results
    ]
    cells.sort(key=lambda cell: (cell.item_set, cell.place, cell.round))
    for (is_test, benchmark, _), group in groupby(cells, key=lambda cell: cell.item_set):
        members = list(group)
        other_scores = {
            column: score
            for column, score in OTHER_SCORES.items()
            if any(score(cell.result) not in ("", NEVER.get(column)) for cell in members)
        }
        beside = {} if short else other_scores
        items = members[0].result.items
        yield Sheet(
            f"{benchmark}: {'test' if is_test else 'dev'}, {f'{items} items' if items else 'items not known'}",
            (
                *("run", "round", "|accuracy %", "|over base, points", "|p", "|un-\nparsed" if short else "|unparsed"),
                *(f"|{column}" for column in beside),
            ),
            list(_benchmark_rows(members, benchmark, labels, beside)),
        )
        if short and other_scores:
            scoring = (
                "strict and flexible scoring" if {"strict %", "flexible %"} & other_scores.keys() else "several samples"
            )
            yield Sheet(
                f"{benchmark}: same responses, {scoring}",
                ("run", "round", *(f"|{column}" for column in other_scores)),
                [
                    (*_place(cell, labels), *(score(cell.result) or UNKNOWN for score in other_scores.values()))
                    for cell in members
                ],
            )


def _benchmark_rows(
    members: Sequence[_Cell], benchmark: str, labels: Mapping[str, str], beside: Mapping[str, "OtherScore"]
) -> Iterator[tuple[str, ...]]:
    for cell in members:
        score, gain = cell.result.score, cell.result.against_base
        yield (
            *_place(cell, labels),
            percent_number_with_interval(score.accuracy, score.low, score.high),
            _points(gain) if gain else UNKNOWN,
            p_number(gain.p_value) if gain else UNKNOWN,
            str(score.unparsed),
            *(other_score(cell.result) or UNKNOWN for other_score in beside.values()),
        )
        if cell.round == 0 and (voted := cell.run.reliability.get(benchmark)):
            share = percent_number_with_interval(voted.majority, voted.majority_low, voted.majority_high)
            yield (labels[cell.run.name], f"maj@{voted.samples}", share, *[UNKNOWN] * (3 + len(beside)))


def _place(cell: _Cell, labels: Mapping[str, str]) -> tuple[str, str]:
    return labels[cell.run.name], "base" if cell.round == 0 else str(cell.round)


def _model_row(model: ModelComparison, labels: Mapping[str, str]) -> tuple[str, ...]:
    comparison = model.comparison
    return (
        labels[model.run],
        comparison.benchmark,
        _points(comparison),
        p_number(comparison.p_value),
        p_number(comparison.p_holm),
        str(comparison.gained),
        str(comparison.lost),
    )


def _of_all(result: BenchmarkResult, count: int | None) -> str:
    return "" if count is None else percent_number(count / result.score.total)


def _of_k(result: BenchmarkResult, share: float | None) -> str:
    """The share and k: runs that asked each item a different number of times may stand side by side."""
    return "" if share is None else f"{percent_number(share)} (k={result.score.samples})"


OtherScore = Callable[[BenchmarkResult], str]
OTHER_SCORES: dict[str, OtherScore] = {
    "strict %": lambda result: _of_all(result, result.score.strict),
    "flexible %": lambda result: _of_all(result, result.score.flexible),
    "maj@k %": lambda result: _of_k(result, result.score.majority),
    "pass@k %": lambda result: _of_k(result, result.score.pass_at.get(str(result.score.samples))),
}
"""Other scores of the same responses, by column; empty where a result has no such score."""
NEVER = {"strict %": percent_number(0.0)}
"""Value of a column that says nothing if all rows have it: no response is in the format that strict scoring wants."""


def _seeds_row(group: SeedGroup, name: str) -> tuple[str, ...]:
    return (
        name,
        group.benchmark,
        str(group.round or "base"),
        str(len(group.runs)),
        mean_with_deviation(group.accuracies, percent_number),
        mean_with_deviation(group.gains, points_number),
    )


def _points(comparison: Comparison) -> str:
    return points_number_with_interval(comparison.difference, comparison.low, comparison.high)


def _shortened(text: str) -> str:
    more = len(text) - VALUE_CHARACTERS
    return text if more <= 0 else f"{text[:VALUE_CHARACTERS]}… ({more} more characters)"


def _number(value: float | None, form: str) -> str:
    return UNKNOWN if value is None else form.format(value)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.{2 if seconds >= 360 else 3}f}"


def _thousands(count: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.1f}{letter}"
    return f"{count:.0f}"
