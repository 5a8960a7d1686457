"""What a comparison of runs shows, in sentences: the claim, and what limits it."""

from collections.abc import Iterator, Mapping, Sequence

from crescent.judging.wording import (
    first_few,
    p_value,
    percent,
    percent_number,
    points_number,
    points_with_interval,
)
from crescent.reading.differing_settings import describe_runs
from crescent.reading.ranking import ALPHA, Ranking, Standing
from crescent.reading.rounds import has_rounds_to_come
from crescent.reading.runs import ComparedRuns, mean_and_deviation
from crescent.records import Comparison
from crescent.show.texts import mean_with_deviation

NAMED = 5
"""Runs that a sentence names; the table has all."""


def headline(compared: ComparedRuns, labels: Mapping[str, str]) -> list[str]:
    """The claim first, then its limits; empty where nothing can be ranked."""
    ranking = compared.ranking
    if ranking is None:
        return []
    best, *others = ranking.standings
    names = standing_names(compared, ranking, labels)
    on_fakes = ["All of these runs were on fakes, not on a model."] if _all_on_fakes(compared) else []
    lines = [_claim(ranking, names), *on_fakes, *_limits(best)]
    if not any(best.accepted) and (accepted := next((other for other in others if any(other.accepted)), None)):
        lines.append(f"The best accepted one is {names[accepted.runs]}: {_scores(accepted)}.")
    if (most := max(len(standing.runs) for standing in ranking.standings)) > len(best.runs):
        lines.append(f"Its mean is over {len(best.runs)} of up to {most} seeds.")
    lines += _significance(ranking, names)
    if any(other.accuracy != best.accuracy for other in others):
        lines.append(f"It was selected as the best of {len(others) + 1}: expect a smaller gain on new items.")
    for name, gains in best.test_gains.items():
        lines.append(f"On {name} (not used for selection) it gains {_gain(gains)}.")
    if others and not best.test_gains:
        lines.append("There is no test benchmark to measure how much smaller.")
    ranked = {name for standing in ranking.standings for name in standing.runs}
    if begun := [labels[run.name] for run in compared.runs if run.name in ranked and has_rounds_to_come(run.status)]:
        lines.append(f"Not finished, ranked by the rounds so far: {first_few(begun, NAMED)}.")
    if ranking.left_out:
        left_out = [f"{labels[name]} ({why})" for name, why in ranking.left_out.items()]
        lines.append(f"Not ranked: {first_few(left_out, NAMED)}.")
    return lines


def _all_on_fakes(compared: ComparedRuns) -> bool:
    return all(run.is_on_fakes for run in compared.runs)


def standing_names(compared: ComparedRuns, ranking: Ranking, labels: Mapping[str, str]) -> dict[tuple[str, ...], str]:
    """What is ranked, by its runs: a run's label, or a setting without its seeds."""
    groups = [standing.runs for standing in ranking.standings]
    if ranking.by_setting:
        return setting_names(compared, groups, ("run.seed",), labels)
    return {group: labels[group[0]] for group in groups}


def setting_names(
    compared: ComparedRuns, groups: Sequence[tuple[str, ...]], without: Sequence[str], labels: Mapping[str, str]
) -> dict[tuple[str, ...], str]:
    """What the runs of a group have in common, by the settings that differ from other groups'; else their labels."""
    descriptions = describe_runs(compared.settings, without)
    names = {group: descriptions.get(group[0], "all seeds" if len(set(groups)) == 1 else "") for group in groups}
    unique = len(set(names.values())) == len(names) and all(names.values())
    return names if unique else {group: ", ".join(labels[name] for name in group) for group in groups}


def _claim(ranking: Ranking, names: Mapping[tuple[str, ...], str]) -> str:
    best, *others = ranking.standings
    count = f"{len(others) + 1} {'settings' if ranking.by_setting else 'runs'}"
    equal = sum(other.accuracy == best.accuracy for other in others)
    on = f"on {' and '.join(ranking.benchmarks)} ({ranking.items} items)"
    if not others:
        return f"One setting {on}: {_scores(best)}."
    if equal == len(others):
        return f"All {count} have the same accuracy {on}. {names[best.runs]}: {_scores(best)}."
    tied = f", tied with {equal} of the others," if equal else ""
    return f"{names[best.runs]} came out best of {count}{tied} {on}: {_scores(best)}."


def _scores(standing: Standing) -> str:
    if standing.gain:
        gain = points_with_interval(standing.gain.difference, standing.gain.low, standing.gain.high)
        return f"{percent(standing.accuracy)}, {gain} over its own base"
    accuracy = f"{percent(standing.accuracy)} ± {percent_number(standing.deviation)}"
    gains = mean_with_deviation(standing.gains, points_number)
    return f"{accuracy}, {gains} points over their bases (means of {len(standing.runs)} seeds)"


def _limits(best: Standing) -> Iterator[str]:
    """What the numbers of the best do not show."""
    if best.gain and (best.gain.difference <= 0 or best.gain.p_value > ALPHA):
        yield f"This is not shown to be better than its own base ({p_value(best.gain.p_value)})."
    elif not best.gain and mean_and_deviation(best.gains)[0] <= (mean_and_deviation(best.gains)[1] or 0.0):
        yield "This gain is not larger than its standard deviation over seeds."
    if not all(best.accepted):
        children = f"{sum(best.accepted)} of its {len(best.accepted)} children were accepted"
        children = "Its child was not accepted" if best.gain else children
        yield f"{children}; a run that accepts no child ends with its base."


def _significance(ranking: Ranking, names: Mapping[tuple[str, ...], str]) -> Iterator[str]:
    best, *others = ranking.standings
    compared = [other for other in others if other.against_best]
    worse = [names[other.runs] for other in compared if other.is_worse_than(best)]
    similar = [names[other.runs] for other in compared if not other.is_worse_than(best)]
    if compared:
        test = "exact paired test" if ranking.by_setting else "exact McNemar test"
        rule = f"p <= {ALPHA:g}, {test} on the same items, Holm-adjusted for {len(compared)}"
        rule += ", and a lead larger than the standard deviations over seeds" if ranking.by_setting else ""
        if not worse:
            yield f"It is not significantly better than any other ({rule})."
        else:
            but = f"; not than {_others(similar, len(compared))}" if similar else ""
            yield f"It is significantly better than {_others(worse, len(compared))} ({rule}){but}."
    if not_compared := [
        f"{names[other.runs]} ({other.why_not_compared})" for other in others if other.why_not_compared
    ]:
        yield f"Not compared with it: {first_few(not_compared, NAMED)}."


def _others(names: Sequence[str], compared: int) -> str:
    return f"all {compared} others" if len(names) == compared > 1 else first_few(names, NAMED)


def _gain(gains: Sequence[Comparison]) -> str:
    """One gain with its interval, or the mean over seeds."""
    if len(gains) == 1:
        return points_with_interval(gains[0].difference, gains[0].low, gains[0].high)
    return f"{mean_with_deviation([gain.difference for gain in gains], points_number)} points"
