"""Did the child get better? What follows from its answers, beside those of parent, base and best."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist

from crescent.config import Gate, OnCollapse, VerdictConfig
from crescent.judging.collapse import alarms, readings
from crescent.judging.comparison import (
    Against,
    by_benchmark,
    compare,
    compare_benchmarks,
    detectable_after,
    differences_by_item,
    holm,
    is_correct,
    is_silent,
    sign_flip,
)
from crescent.judging.comparison import minimum_detectable_gain as minimum_detectable_gain
from crescent.judging.comparison import wilson as wilson
from crescent.records import Action, Alarm, Checkpoint, Comparison, Response, Verdict

UNMEASURED = Comparison("", "parent", 0.0, -1.0, 1.0, 1.0, 1.0, 0, 0, 0)
CONSEQUENCES: dict[Action, list[str]] = {
    "retry": ["nothing speaks against it, so the parent tries again and these pairs stay"],
    "roll back": ["the parent stays, and later rounds leave these pairs out"],
}


def judge(
    child: Checkpoint,
    parent: Checkpoint,
    child_responses: Sequence[Response],
    parent_responses: Sequence[Response],
    cfg: VerdictConfig,
    deciding: Collection[str],
    seed: int,
    *,
    guards: Collection[str] = (),
    base_responses: Sequence[Response] = (),
    best_responses: Sequence[Response] = (),
    rounds: Sequence[Mapping[str, float]] = (),
) -> Verdict:
    """Whether the child replaces its parent, by the responses to the `deciding` benchmarks and to the guards.

    A child that does not pass its gate is rolled back when something speaks against it: it is significantly worse on
    all dev items or on one deciding benchmark, breaks a guard, answers nothing that can be read, or is refused without
    labels. Else it is retried: it was only not shown to be better.

    Args:
        deciding: Names of dev benchmarks. Only `gate=off` gets by without one.
        guards: Names of dev benchmarks that may not get worse; they never count as a gain.
        base_responses: To the same items; guards are held against them, or against the parent's when there are none.
        best_responses: Of the checkpoint with the highest dev accuracy so far.
        rounds: `crescent.judging.collapse.monitors` of all rounds so far, the child's own one last.

    Raises:
        DataSaysNo: nothing to decide on, or the checkpoints were not asked the same items.
    """
    deciding = set(deciding) - set(guards)
    others: dict[Against, Sequence[Response]] = {
        "parent": parent_responses,
        "base": base_responses,
        "best": best_responses,
    }
    decides = [its for its in child_responses if its.benchmark in deciding]
    on_dev = {name: [its for its in answers if its.benchmark in deciding] for name, answers in others.items()}
    unmeasured = cfg.gate is Gate.off and not decides and not on_dev["parent"]
    result = UNMEASURED if unmeasured else compare(decides, on_dev["parent"], cfg.resamples, seed)
    best = compare(decides, on_dev["best"], cfg.resamples, seed, against="best") if on_dev["best"] else result
    comparisons = [
        comparison
        for against, answers in others.items()
        if answers
        for comparison in compare_benchmarks(child_responses, answers, against, cfg.resamples, seed)
    ]
    raised = _alarms(decides, on_dev, best, rounds, cfg)
    if cfg.gate is Gate.label_free:
        passed, finding = _label_free(decides, on_dev["parent"], raised, cfg)
    else:
        passed, finding = _gate(result, cfg)
    # Without labels there is nothing to wait for: what was refused was refused for something it did.
    against = (cfg.gate is Gate.label_free and not passed) or _significantly_worse(result, cfg)
    if result.items and all(its.final is None for its in decides):
        passed, against = cfg.gate is Gate.off, True
        finding = f"no final answer could be read from any of the child's {len(decides)} responses ({finding})"
    remarks = [finding]
    if on_dev["base"] and parent.round > 0:
        against_base = compare(decides, on_dev["base"], cfg.resamples, seed, against="base")
        remarks.append(f"against the base {_points(against_base)}")
    worse = _worse_somewhere(comparisons, deciding, cfg)
    remarks, against = remarks + worse, against or bool(worse)
    if guards:
        reference: Against = "base" if base_responses else "parent"
        breach, held = guard(child_responses, others[reference], guards, cfg)
        remarks.append(f"{breach or held} against the {reference}")
        passed = passed and (not breach or cfg.gate in (Gate.off, Gate.label_free))
        against = against or bool(breach)
    remarks += [f"collapse alarm: {alarm.sentence}" for alarm in raised]
    action: Action = "accept" if passed else "roll back" if against else "retry"
    if raised and cfg.collapse.on_collapse is OnCollapse.stop:
        action = "stop"
        remarks.append("stopped, because verdict.collapse.on_collapse=stop")
    remarks += CONSEQUENCES.get(action, [])
    detectable = detectable_after(result, cfg.alpha)
    return Verdict(
        action=action,
        reason=f"{_numbers(result, len(decides), cfg)}: {'; '.join(remarks)}",
        child=child.name,
        parent=parent.name,
        difference=result.difference,
        low=result.low,
        high=result.high,
        p_value=result.p_value,
        gained=result.gained,
        lost=result.lost,
        items=result.items,
        benchmarks=tuple(sorted({its.benchmark for its in decides})),
        comparisons=tuple(comparisons),
        detectable=detectable if math.isfinite(detectable) else 0.0,
        alarms=tuple(raised),
    )


def with_patience(verdict: Verdict, rejected_before: int, patience: int) -> Verdict:
    """The same verdict, turned into `stop` when it is one rejection in a row too many.

    Args:
        rejected_before: Children retried or rolled back since the last accepted one, this one not counted.
    """
    in_a_row = rejected_before + 1
    if verdict.action in ("accept", "stop") or in_a_row <= patience:
        return verdict
    return replace(
        verdict, action="stop", reason=f"{verdict.reason}; rejected {in_a_row} in a row, patience is {patience}"
    )


def guard(
    child: Sequence[Response], reference: Sequence[Response], guards: Collection[str], cfg: VerdictConfig
) -> tuple[str, str]:
    """What the guard benchmarks lost that is too much, or nothing, and otherwise how they fared.

    The standard error is McNemar's, under which an item falls to either side like a fair coin: √(Σ d²) / n, with d an
    item's difference. One side at 5 % each for the mean and for the worst of several (Bonferroni), so a child that lost
    nothing is sent back one time in ten at most, and rarely where the limits in points are the larger ones.

    Raises:
        DataSaysNo: a guard has no items, or not the same ones on both sides.
    """
    children, others = by_benchmark(child), by_benchmark(reference)
    drops, errors = {}, {}
    for name in sorted(guards):
        differences, scale = differences_by_item(children.get(name, []), others.get(name, []), is_correct)
        drops[name] = -float(differences.mean()) / scale
        errors[name] = math.sqrt(float((differences.astype(float) ** 2).sum())) / scale / len(differences)
    mean_drop = sum(drops.values()) / len(drops)
    mean_error = math.sqrt(sum(error**2 for error in errors.values())) / len(errors)
    one, several = (NormalDist().inv_cdf(1 - 0.05 / tests) for tests in (1, len(drops)))
    allowed = {name: max(cfg.guard_any, several * error) for name, error in errors.items()}
    on_average = max(cfg.guard_mean, one * mean_error)
    # Differences of shares come with rounding errors: 3 points are not more than 3 points.
    breaches = [name for name in drops if drops[name] > allowed[name] + 1e-9]
    found = [f"{name} lost {100 * drops[name]:.1f} points, allowed {100 * allowed[name]:.1f}" for name in breaches]
    if mean_drop > on_average + 1e-9:
        found.append(f"they lost {100 * mean_drop:.1f} points on average, allowed {100 * on_average:.1f}")
    breach = f"the guards are broken: {', '.join(found)}" if found else ""
    return breach, f"the guards hold ({-100 * mean_drop:+.1f} points on average, {100 * on_average:.1f} may be lost)"


def _alarms(
    decides: Sequence[Response],
    on_dev: Mapping[Against, Sequence[Response]],
    best: Comparison,
    rounds: Sequence[Mapping[str, float]],
    cfg: VerdictConfig,
) -> list[Alarm]:
    """Of the votes that the child was trained on, and of the form of its own answers."""
    labelled = None if cfg.gate is Gate.label_free else best
    found = alarms(rounds[-1], rounds[:-1], labelled, cfg.collapse) if rounds else []
    reference: Against = "base" if on_dev["base"] else "parent"
    if decides and on_dev[reference]:
        now, before = readings(decides), readings(on_dev[reference])
        found += alarms(now, [before], None, cfg.collapse, of="the dev items", since=f"under the {reference}")
    return found


def _gate(result: Comparison, cfg: VerdictConfig) -> tuple[bool, str]:
    """Whether the numbers open the gate, and what to call them."""
    significant = result.p_value <= cfg.alpha
    if result.items == 0:
        return True, "nothing was measured, accepted because verdict.gate=off"
    match cfg.gate:
        case Gate.off:
            return True, "accepted whatever they are, because verdict.gate=off"
        case _ if _significantly_worse(result, cfg):
            return False, "significantly worse"
        case Gate.better:
            return result.difference > 0, "better" if result.difference > 0 else "not better"
        case Gate.significant if significant:
            return True, "significantly better"
        case Gate.significant:
            return False, f"not significant ({_would_show(result, cfg)})"
    raise AssertionError(cfg.gate)


def _significantly_worse(result: Comparison, cfg: VerdictConfig) -> bool:
    return result.difference < 0 and result.p_value <= cfg.alpha


def _label_free(
    child: Sequence[Response], parent: Sequence[Response], raised: Sequence[Alarm], cfg: VerdictConfig
) -> tuple[bool, str]:
    """As `Gate.label_free` says. `correct` and `target` are not looked at."""
    differences, _ = differences_by_item(child, parent, is_silent)
    of = f"{len(child)} answers to {len(differences)} dev items"
    p_value, rise = sign_flip(differences), int(differences.sum())
    silent, had = (sum(map(is_silent, its)) for its in (child, parent))
    finding = (
        f"no label was looked at (verdict.gate=label_free); {silent} of {of} cannot be read, "
        f"{had} of the parent's ({_p(p_value, cfg.alpha)})"
    )
    if rise > 0 and p_value <= cfg.alpha:
        return False, f"{finding}: significantly more"
    return not raised, f"{finding}, and {'a' if raised else 'no'} collapse alarm"


def _worse_somewhere(comparisons: Sequence[Comparison], deciding: Collection[str], cfg: VerdictConfig) -> list[str]:
    """A gain on all items together may hide a loss on some: say so.

    Holm's adjustment is over the deciding benchmarks alone: how a test set came out may not change what is decided.
    """
    decide = [its for its in comparisons if its.against == "parent" and its.benchmark in deciding]
    adjusted = holm([its.p_value for its in decide])
    worse = [
        f"{its.benchmark} ({_points(its)}, p = {p_holm:.2g} after Holm)"
        for its, p_holm in zip(decide, adjusted, strict=True)
        if its.difference < 0 and p_holm <= cfg.alpha
    ]
    return [f"significantly worse on {', '.join(worse)}"] if worse and len(decide) > 1 else []


def _would_show(result: Comparison, cfg: VerdictConfig) -> str:
    gain = detectable_after(result, cfg.alpha)
    if math.isinf(gain):
        return f"{result.items} items are too few for any gain to be"
    return f"a gain of {100 * gain:.1f} points would be, four times in five"


def _points(result: Comparison) -> str:
    return f"{100 * result.difference:+.1f} [{100 * result.low:+.1f}, {100 * result.high:+.1f}] points"


def _p(p_value: float, alpha: float) -> str:
    """With the limit it is held against, which goes without saying where it is far below."""
    return (
        "p < 0.001" if p_value < 0.001 <= alpha else f"p = {p_value:.2g} {'<=' if p_value <= alpha else '>'} {alpha:g}"
    )


def _numbers(result: Comparison, responses: int, cfg: VerdictConfig) -> str:
    several = f" (asked {responses // result.items} times each)" if responses > result.items > 0 else ""
    return (
        f"{result.gained} of {result.items} items{several} gained, {result.lost} lost: {_points(result)}, "
        f"{_p(result.p_value, cfg.alpha)}"
    )
