"""Settings of the verdict: what a child has to show."""

from dataclasses import dataclass, field

from crescent.config.checks import Choice, require


class Gate(Choice):
    """What a child has to show to replace its parent."""

    significant = "significant"
    """Better on the dev items with p <= alpha (exact McNemar, two-sided). If the child is neither better nor worse, the
    round is retried: its pairs stay."""
    better = "better"
    """More dev items right, however few."""
    label_free = "label_free"
    """Without labels: accepted unless a collapse alarm is raised, or the share of dev responses without a final answer
    rises significantly (exact paired test, p <= alpha). Only the form of dev answers counts: final answer or not,
    length, share of the most common one. Guards need labels, so they do not count; both comparisons are reported."""
    off = "off"
    """Always accepted, guards or not; the comparisons are reported."""


class OnCollapse(Choice):
    """Consequence of a collapse alarm."""

    warn = "warn"
    """The alarm is part of the verdict's reason."""
    stop = "stop"
    """The child is not accepted and the run ends, whatever the gate decides."""


@dataclass
class CollapseConfig:
    """Limits of the collapse alarms. A share must exceed its limit by more than chance explains.

    An example of collapse: a prototype that trained on the shortest winners made answers five times shorter and raised
    agreement from 0.47 to 0.92 in two rounds, without any gain.
    """

    on_collapse: OnCollapse = OnCollapse.warn
    minimum: int = 20
    """Smallest number of questions in a round for an alarm: fewer show nothing."""
    agreement_rise: float = 0.05
    """Rise of the mean agreement since the first round that, with falling dev accuracy, means agreement on errors."""
    accuracy_fall: float = 0.01
    """Fall of dev accuracy that goes with it: at least this, and at least 1.645 paired standard errors."""
    near_duplicates: float = 0.5
    """Share of candidates that resemble an earlier question of the run: above one half, most were asked before."""
    commonest: float = 0.5
    """Share of different questions with the same final answer. If the first round's share (on dev items: the parent's)
    is high by nature, as for yes-or-no questions, the limit is 1.5 times that share."""
    variety: float = 0.5
    """Effective number of distinct questions, as a share of the first round's; with fewer questions, of a proportional
    part of it."""
    length: float = 0.5
    """Median length of answers in tokens, as a share of the first round's (on dev items: the base's)."""
    silent: float = 0.05
    """Share of answers without a final answer; the alarm also needs twice the first round's share (the base's)."""

    def __post_init__(self) -> None:
        where = "verdict.collapse"
        require(self.minimum >= 1, f"{where}.minimum", self.minimum, "must be at least 1")
        for name in ("agreement_rise", "accuracy_fall", "near_duplicates", "commonest", "variety", "length", "silent"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{where}.{name}", value, "must lie in [0, 1]")


@dataclass
class VerdictConfig:
    """Whether the child replaces its parent."""

    gate: Gate = Gate.significant
    alpha: float = 0.05
    """Two-sided significance level, in (0, 1). A child that is no better is accepted with at most half this
    probability."""
    patience: int = 1
    """Number of consecutive rounds without an accepted child (retried or rolled back) that are allowed; one more ends
    the run. It may be raised later: the same command then resumes."""
    resamples: int = 9_999
    """Number of bootstrap resamples for the confidence interval of the difference."""
    guard_mean: float = 0.01
    """Largest mean loss of accuracy on the guard benchmarks, in [0, 1], or 1.645 paired standard errors if those are
    larger. Measured against the base: small losses must not add up round after round."""
    guard_any: float = 0.03
    """The same for each guard benchmark alone; the multiple of the standard error grows with their number
    (Bonferroni)."""
    collapse: CollapseConfig = field(default_factory=CollapseConfig)

    def __post_init__(self) -> None:
        for name, share in (("guard_mean", self.guard_mean), ("guard_any", self.guard_any)):
            require(0 <= share <= 1, f"verdict.{name}", share, "must lie in [0, 1]", "0.01 is one point")
        require(0 < self.alpha < 1, "verdict.alpha", self.alpha, "must lie in (0, 1)", "0.05 is usual")
        require(self.patience >= 0, "verdict.patience", self.patience, "must not be negative")
        require(self.resamples >= 99, "verdict.resamples", self.resamples, "must be at least 99")
