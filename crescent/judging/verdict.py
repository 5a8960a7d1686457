"""Did the child get better? Measure, find what the measurements show, decide."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Literal

from crescent.config import Gate, OnCollapse, VerdictConfig
from crescent.judging import wording
from crescent.judging.comparison import holm
from crescent.judging.measurements import Answers, Measurements, Silence, measure
from crescent.records import Action, Checkpoint, Comparison, Verdict

CONSEQUENCES: dict[Action, str] = {
    "accept": "",
    "retry": "no evidence against it, so the parent tries again and these pairs stay",
    "roll back": "the parent stays and these pairs are discarded",
    "stop": "stopped, because verdict.collapse.on_collapse=stop",
}


@dataclass(frozen=True)
class Finding:
    """One thing that the measurements show about a child."""

    sentence: str
    """For a person, with the numbers."""
    speaks: Literal["for", "against", "veto", "stop", "neither"]
    """`for`: the child passes its gate. `against`: should it not pass, it is rolled back. `veto`: rolled back, even if
    it passes. `stop`: the run ends. `neither`: reported only."""


def judge(
    child: Checkpoint,
    parent: Checkpoint,
    answers: Answers,
    cfg: VerdictConfig,
    deciding: Collection[str],
    guards: Collection[str],
    rounds: Sequence[Mapping[str, float]],
    seed: int,
) -> Verdict:
    """Whether the child replaces its parent, by the answers to the `deciding` benchmarks and to the guards.

    A child that passes its gate is accepted, unless it breaks a guard or gives no readable answer. A child that is not
    accepted is rolled back when there is evidence against it: one of those two, a significant loss on all dev items or
    on one deciding benchmark, or a rejection without labels. Otherwise it was only not shown to be better: a retry.

    Args:
        deciding: Names of dev benchmarks. Only `gate=off` needs none.
        guards: Names of dev benchmarks that must not get worse; they never count as a gain.
        rounds: `crescent.judging.collapse.monitors` of all rounds so far, the child's own one last.

    Raises:
        DataSaysNo: nothing to decide on, or the checkpoints were not asked the same items.
    """
    measured = measure(parent, answers, cfg, deciding, guards, rounds, seed)
    findings = find(measured, cfg)
    action = decide(findings)
    remarks = [*(finding.sentence for finding in findings), CONSEQUENCES[action]]
    result = measured.result
    return Verdict(
        action=action,
        reason=f"{_numbers(measured, cfg)}: {'; '.join(filter(None, remarks))}",
        child=child.name,
        parent=parent.name,
        difference=result.difference,
        low=result.low,
        high=result.high,
        p_value=result.p_value,
        gained=result.gained,
        lost=result.lost,
        items=result.items,
        benchmarks=measured.benchmarks,
        comparisons=measured.comparisons,
        detectable=measured.detectable if math.isfinite(measured.detectable) else 0.0,
        alarms=measured.alarms,
    )


def find(measured: Measurements, cfg: VerdictConfig) -> list[Finding]:
    """What the measurements show, in the order in which the reason names it."""
    return [
        *_no_readable_answer(measured, cfg),
        _at_the_gate(measured, cfg),
        *_against_the_base(measured),
        *_worse_benchmarks(measured, cfg),
        *_guards(measured, cfg),
        *_alarms(measured, cfg),
    ]


def decide(findings: Sequence[Finding]) -> Action:
    """What becomes of the child."""
    spoken = {finding.speaks for finding in findings}
    if "stop" in spoken:
        return "stop"
    if "for" in spoken and "veto" not in spoken:
        return "accept"
    return "roll back" if spoken & {"against", "veto"} else "retry"


def rejections_in_a_row(actions: Sequence[Action]) -> int:
    """Number of children since the last accepted one, given what was done with each, oldest first."""
    return len(list(takewhile(lambda action: action != "accept", reversed(actions))))


def with_patience(verdict: Verdict, rejected_before: int, patience: int) -> Verdict:
    """The same verdict, turned into `stop` when more children in a row were rejected than patience allows.

    Args:
        rejected_before: Children retried or rolled back since the last accepted one, without this one.
    """
    in_a_row = rejected_before + 1
    if verdict.action in ("accept", "stop") or in_a_row <= patience:
        return verdict
    # What would have followed without the stop is not said: no parent tries again.
    found = verdict.reason.removesuffix(f"; {CONSEQUENCES[verdict.action]}")
    return replace(verdict, action="stop", reason=f"{found}; rejected {in_a_row} in a row, patience is {patience}")


def _no_readable_answer(measured: Measurements, cfg: VerdictConfig) -> Iterator[Finding]:
    if measured.responses and measured.unread == measured.responses:
        sentence = f"no final answer could be read from any of the child's {measured.responses} responses"
        yield Finding(sentence, "neither" if cfg.gate is Gate.off else "veto")


def _at_the_gate(measured: Measurements, cfg: VerdictConfig) -> Finding:
    """Whether the child passes its gate; a significant loss is evidence against it, at each gate with labels."""
    result = measured.result
    significant = result.p_value <= cfg.alpha
    match cfg.gate:
        case Gate.off if result.items == 0:
            return Finding("nothing was measured, accepted because verdict.gate=off", "for")
        case Gate.off:
            return Finding("accepted whatever the numbers are, because verdict.gate=off", "for")
        case Gate.label_free:
            assert measured.silence is not None
            return _without_labels(measured.silence, measured, cfg)
        case _ if result.difference < 0 and significant:
            return Finding("significantly worse", "against")
        case Gate.better if result.difference > 0:
            return Finding("better", "for")
        case Gate.better:
            return Finding("not better", "neither")
        case Gate.significant if significant:
            return Finding("significantly better", "for")
        case Gate.significant:
            return Finding(f"not significant ({_detectable(measured)})", "neither")
    raise AssertionError(cfg.gate)


def _without_labels(silence: Silence, measured: Measurements, cfg: VerdictConfig) -> Finding:
    """As `Gate.label_free` says: `correct` and `target` are not looked at.

    There is no retry here, because without labels there is nothing to wait for: a child is rejected for what it did.
    """
    counts = (
        f"no label was looked at (verdict.gate=label_free); {silence.of_child} of {measured.responses} answers to "
        f"{silence.items} dev items cannot be read, {silence.of_parent} of the parent's "
        f"({wording.p_beside_alpha(silence.p_value, cfg.alpha)})"
    )
    if silence.rise > 0 and silence.p_value <= cfg.alpha:
        return Finding(f"{counts}: significantly more", "against")
    return Finding(f"{counts}: not significantly more, and {'a' if measured.alarms else 'no'} collapse alarm", "for")


def _against_the_base(measured: Measurements) -> Iterator[Finding]:
    if base := measured.against_base:
        yield Finding(f"{_gain(base)} against the base", "neither")


def _worse_benchmarks(measured: Measurements, cfg: VerdictConfig) -> Iterator[Finding]:
    """A gain on all items together may hide a loss on one of several benchmarks.

    Holm's adjustment is over the deciding benchmarks alone: how a test set came out must not change the decision.
    """
    deciding = [
        comparison
        for comparison in measured.comparisons
        if comparison.against == "parent" and comparison.benchmark in measured.benchmarks
    ]
    if len(deciding) < 2:
        return
    adjusted = holm([comparison.p_value for comparison in deciding])
    worse = [
        f"{comparison.benchmark} ({_gain(comparison)}, {wording.p_value(p_holm)} after Holm)"
        for comparison, p_holm in zip(deciding, adjusted, strict=True)
        if comparison.difference < 0 and p_holm <= cfg.alpha
    ]
    if worse:
        yield Finding(f"significantly worse on {', '.join(worse)}", "against")


def _guards(measured: Measurements, cfg: VerdictConfig) -> Iterator[Finding]:
    losses, reference = measured.guards, measured.guards_against
    if losses is None:
        return
    average = losses.average
    if not losses.are_broken:
        sentence = (
            f"guards held against the {reference} ({wording.points(-average.lost)} on average, "
            f"a loss of {wording.percent_number(average.allowed)} is allowed)"
        )
        yield Finding(sentence, "neither")
        return
    lost = {**losses.each, "their average": average}
    too_much = [
        f"{name} lost {wording.percent_number(loss.lost)} points (allowed {wording.percent_number(loss.allowed)})"
        for name, loss in lost.items()
        if loss.is_too_much
    ]
    # Guards need labels, so gate=label_free does not count them; gate=off accepts whatever happens.
    counts = cfg.gate not in (Gate.off, Gate.label_free)
    yield Finding(f"guards broken against the {reference}: {', '.join(too_much)}", "veto" if counts else "neither")


def _alarms(measured: Measurements, cfg: VerdictConfig) -> Iterator[Finding]:
    for alarm in measured.alarms:
        sentence = f"collapse alarm: {alarm.sentence}"
        if cfg.collapse.on_collapse is OnCollapse.stop:
            yield Finding(sentence, "stop")
        else:
            yield Finding(sentence, "veto" if cfg.gate is Gate.label_free else "neither")


def _numbers(measured: Measurements, cfg: VerdictConfig) -> str:
    result, responses = measured.result, measured.responses
    several = f" (asked {responses // result.items} times each)" if responses > result.items > 0 else ""
    return (
        f"{result.gained} of {result.items} items{several} gained, {result.lost} lost: {_gain(result)}, "
        f"{wording.p_beside_alpha(result.p_value, cfg.alpha)}"
    )


def _gain(comparison: Comparison) -> str:
    return wording.points_with_interval(comparison.difference, comparison.low, comparison.high)


def _detectable(measured: Measurements) -> str:
    if math.isinf(measured.detectable):
        return f"{measured.result.items} items are too few to detect any gain"
    return f"can detect a {wording.percent_number(measured.detectable)}-point gain with 80% power"
