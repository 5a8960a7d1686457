"""What a verdict looks at: the answers of a child beside those of its parent, of the base and of the best so far."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from crescent.config import Gate, VerdictConfig
from crescent.judging.collapse import alarms, response_monitors
from crescent.judging.comparison import (
    Against,
    detectable_after,
    differences_by_item,
    is_silent,
    paired_test,
    paired_test_by_benchmark,
    sign_flip,
)
from crescent.judging.guards import GuardLosses, guard_losses
from crescent.records import Alarm, Checkpoint, Comparison, Response

UNMEASURED = Comparison("", "parent", 0.0, -1.0, 1.0, 1.0, 1.0, 0, 0, 0)


@dataclass(frozen=True)
class Answers:
    """Responses of the child, and of the checkpoints it is compared with, to the same items of all benchmarks."""

    child: Sequence[Response]
    parent: Sequence[Response]
    base: Sequence[Response] = ()
    best: Sequence[Response] = ()
    """Those of the checkpoint with the highest dev accuracy so far."""

    def on(self, benchmarks: Collection[str]) -> "Answers":
        """Only the responses to these benchmarks."""
        child, parent, base, best = (
            [response for response in responses if response.benchmark in benchmarks]
            for responses in (self.child, self.parent, self.base, self.best)
        )
        return Answers(child, parent, base, best)

    def reference(self) -> tuple[Against, Sequence[Response]]:
        """The base, against which small losses cannot add up over the rounds; the parent where the base was not asked.

        Guards and the form of the answers are held against it.
        """
        return ("base", self.base) if self.base else ("parent", self.parent)


@dataclass(frozen=True)
class Silence:
    """Answers of child and parent from which no final answer could be read. No label is needed to count them."""

    of_child: int
    of_parent: int
    items: int
    rise: int
    """Above zero when the child is silent more often than its parent."""
    p_value: float
    """Exact, two-sided, paired by item."""


@dataclass(frozen=True)
class Measurements:
    """Everything that the verdict on one child looks at."""

    result: Comparison
    """Child against parent on all deciding items; `UNMEASURED` where there are none, which only `gate=off` allows."""
    against_base: Comparison | None
    """Child against the base on all deciding items; `None` where the parent is the base, or the base was not asked."""
    comparisons: tuple[Comparison, ...]
    """One for each benchmark, deciding or not, with each of parent, base and best."""
    benchmarks: tuple[str, ...]
    """Names of the deciding benchmarks."""
    detectable: float
    """Gain that `result` would have detected with 80% power; `inf` where none could have been."""
    responses: int
    """Number of the child's responses to the deciding items."""
    unread: int
    """Number of those without a final answer."""
    silence: Silence | None
    """Only measured under `gate=label_free`."""
    guards: GuardLosses | None
    """`None` without guard benchmarks."""
    guards_against: Against
    alarms: tuple[Alarm, ...]


def measure(
    parent: Checkpoint,
    answers: Answers,
    cfg: VerdictConfig,
    deciding: Collection[str],
    guards: Collection[str],
    rounds: Sequence[Mapping[str, float]],
    seed: int,
) -> Measurements:
    """Count and compare; what follows is for `crescent.judging.verdict` to decide. Arguments as in `judge` there."""
    decides = answers.on(set(deciding) - set(guards))
    unmeasured = cfg.gate is Gate.off and not decides.child and not decides.parent
    result = UNMEASURED if unmeasured else paired_test(decides.child, decides.parent, cfg.resamples, seed)
    against_base = None
    if decides.base and parent.round > 0:
        against_base = paired_test(decides.child, decides.base, cfg.resamples, seed, against="base")
    others: dict[Against, Sequence[Response]] = {"parent": answers.parent, "base": answers.base, "best": answers.best}
    guards_against, reference = answers.reference()
    return Measurements(
        result=result,
        against_base=against_base,
        comparisons=tuple(
            comparison
            for against, responses in others.items()
            if responses
            for comparison in paired_test_by_benchmark(answers.child, responses, against, cfg.resamples, seed)
        ),
        benchmarks=tuple(sorted({response.benchmark for response in decides.child})),
        detectable=detectable_after(result, cfg.alpha),
        responses=len(decides.child),
        unread=sum(map(is_silent, decides.child)),
        silence=_silence(decides) if cfg.gate is Gate.label_free else None,
        guards=guard_losses(answers.child, reference, guards, cfg) if guards else None,
        guards_against=guards_against,
        alarms=tuple(_alarms(decides, result, rounds, cfg, seed)),
    )


def _silence(decides: Answers) -> Silence:
    differences, _ = differences_by_item(decides.child, decides.parent, is_silent)
    return Silence(
        of_child=sum(map(is_silent, decides.child)),
        of_parent=sum(map(is_silent, decides.parent)),
        items=len(differences),
        rise=int(differences.sum()),
        p_value=sign_flip(differences),
    )


def _alarms(
    decides: Answers, result: Comparison, rounds: Sequence[Mapping[str, float]], cfg: VerdictConfig, seed: int
) -> list[Alarm]:
    """Alarms about the votes that the child was trained on, and about the form of its own answers."""
    raised = []
    if rounds:
        best = result
        if decides.best:
            best = paired_test(decides.child, decides.best, cfg.resamples, seed, against="best")
        labelled = None if cfg.gate is Gate.label_free else best
        raised += alarms(rounds[-1], rounds[:-1], labelled, cfg.collapse)
    against, reference = decides.reference()
    if decides.child and reference:
        now, before = response_monitors(decides.child), response_monitors(reference)
        raised += alarms(now, [before], None, cfg.collapse, of="the dev items", since=f"under the {against}")
    return raised
