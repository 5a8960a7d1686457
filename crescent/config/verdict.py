"""What a child has to show."""

from dataclasses import dataclass, field

from crescent.config.checks import Choice, require


class Gate(Choice):
    """What a child has to show to replace its parent."""

    significant = "significant"
    """Better on the dev items with p <= alpha (exact McNemar, two-sided). A child that is neither better nor worse is
    retried: its pairs stay."""
    better = "better"
    """More dev items solved, however few."""
    label_free = "label_free"
    """For purists: no label is looked at. Accepted unless a collapse alarm is raised, or the share of dev answers that
    cannot be read rises significantly (exact paired test, p <= alpha). Of the dev items only the answers' form counts:
    read or not, their length, the share of the commonest. Guards need labels and do not count; both comparisons are
    reported."""
    off = "off"
    """Always accepted, guards or not; the comparisons are reported."""


class OnCollapse(Choice):
    """What follows from a collapse alarm."""

    warn = "warn"
    """It stands in the verdict's reason."""
    stop = "stop"
    """The child is not accepted and the run ends, whatever the gate says."""


@dataclass
class CollapseConfig:
    """From where on a round looks like collapse. Shares must exceed their limit by more than chance explains.

    What it looks like: a prototype that trained on the shortest winners made answers five times shorter and raised
    agreement from 0.47 to 0.92 in two rounds, with nothing gained.
    """

    on_collapse: OnCollapse = OnCollapse.warn
    minimum: int = 20
    """Rounds of fewer questions raise no alarm: so few say nothing."""
    agreement_rise: float = 0.05
    """Rise of the mean agreement since the first round that, with falling dev accuracy, means agreeing on errors."""
    accuracy_fall: float = 0.01
    """Fall of dev accuracy that goes with it: at least so much, and 1.645 paired standard errors."""
    near_duplicates: float = 0.5
    """Share of invented questions that resemble an earlier one of the run: beyond half, most have been asked before."""
    commonest: float = 0.5
    """Share of different questions that have the same final answer. Where the first round's (the parent's on the dev
    items) was high by nature, as in yes-or-no questions, one and a half times that."""
    variety: float = 0.5
    """Effective number of questions, as a share of the first round's (of its share, when there are fewer questions)."""
    length: float = 0.5
    """Median length of answers in tokens, as a share of the first round's (the base's on the dev items)."""
    silent: float = 0.05
    """Share of answers without a final answer; the alarm also needs twice the first round's (the base's)."""

    def __post_init__(self) -> None:
        where = "verdict.collapse"
        require(self.minimum >= 1, f"{where}.minimum", self.minimum, "at least one question")
        for name in ("agreement_rise", "accuracy_fall", "near_duplicates", "commonest", "variety", "length", "silent"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{where}.{name}", value, "a share in [0, 1]")


@dataclass
class VerdictConfig:
    """Whether the child replaces its parent."""

    gate: Gate = Gate.significant
    alpha: float = 0.05
    """Two-sided level of the test, in (0, 1). A child that is no better is accepted with half that chance at most."""
    patience: int = 1
    """Rounds in a row without an accepted child that are borne, retried or rolled back; one more ends the run. May be
    raised later: the same command then goes on."""
    resamples: int = 9_999
    """Bootstrap resamples behind the interval of the difference."""
    guard_mean: float = 0.01
    """Accuracy that the guard benchmarks may lose on average, in [0, 1], or 1.645 paired standard errors if those are
    more. Against the base: small losses must not add up round after round."""
    guard_any: float = 0.03
    """The same for each of them alone; its standard errors are multiplied for testing several (Bonferroni)."""
    collapse: CollapseConfig = field(default_factory=CollapseConfig)

    def __post_init__(self) -> None:
        for name, share in (("guard_mean", self.guard_mean), ("guard_any", self.guard_any)):
            require(0 <= share <= 1, f"verdict.{name}", share, "a share in [0, 1]", "0.01 is one point")
        require(0 < self.alpha < 1, "verdict.alpha", self.alpha, "a probability in (0, 1)", "0.05 is usual")
        require(self.patience >= 0, "verdict.patience", self.patience, "must not be negative")
        require(self.resamples >= 99, "verdict.resamples", self.resamples, "at least 99 for an interval")
