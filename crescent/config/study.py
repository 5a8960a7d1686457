"""A study: what is measured, with which arms and seeds, and what is claimed, written down before it is run."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from crescent.config.checks import Choice, require
from crescent.config.evaluation import EvalConfig, Split, samples_of, temperature_of
from crescent.config.jobs import as_settings
from crescent.config.pairs import Labels, PairsConfig
from crescent.config.run import RunConfig
from crescent.config.verdict import Gate, OnCollapse, VerdictConfig
from crescent.errors import BadConfig
from crescent.records import digest

BASE = "base"
"""Name of the untrained model in contrasts."""
MEASURES = ("vote", "greedy", "pass", "likelihood", "prompt")
"""What may follow a name in a contrast, after a colon; without one it is the mean accuracy over the samples."""


class Secondary(Choice):
    """A figure beside the primary one. It is reported and decides nothing."""

    greedy = "greedy"
    """Accuracy of the one greedy answer, on the benchmark that `study.greedy` names."""
    vote = "vote"
    """maj@k: accuracy of the majority of an item's samples; a tie is wrong."""
    passed = "passed"
    """pass@k: share of items of which at least one sample is right."""
    unparsed = "unparsed"
    """Share of answers without a readable final answer."""
    readable = "readable"
    """Accuracy among the readable answers: a gain that vanishes here was format."""
    wrong_in_form = "wrong_in_form"
    """Share of answers that are wrong but as long as the reference answer: the right form with the wrong content."""
    likelihood = "likelihood"
    """Share of items whose reference answer is more likely than each distractor (`eval.likelihood`). Nothing is
    generated or parsed, so format plays no part."""


@dataclass
class PrimaryConfig:
    """The figure that the contrasts are about: mean accuracy over the samples of an item (avg@k)."""

    benchmark: str = ""
    """Name of a benchmark in `eval.benchmarks`."""
    items: int = 0
    """Number of its items."""
    samples: int = 8
    """Number of answers to each item, k."""


@dataclass
class StudyGuardConfig:
    """What must not get lost while the primary figure rises."""

    benchmark: str | None = None
    """Name of a benchmark of another kind; null: no guard."""
    margin: float = 0.02
    """Loss against the base, in (0, 1), that the whole interval must stay above: 0.02 is two points."""


@dataclass
class AssumedConfig:
    """Assumptions behind the power that is stated before a study is run, e.g. from a pilot on dev items."""

    seed_deviation: float = 0.02
    """Standard deviation of a contrast's true value over seeds."""
    item_deviation: float = 0.2
    """Standard deviation over items of an item's true difference in accuracy."""
    accuracy: float = 0.5
    """Mean accuracy, in (0, 1): it decides how much the samples of an item vary."""


@dataclass
class StudyConfig:
    """The declaration. Its digest is recorded in every run made under it; no stage depends on it, so runs with and
    without a study share their stages."""

    name: str = ""
    """Name of the file in `conf/study/` without its suffix; empty: the run belongs to no study."""
    claim: str = ""
    """The sentence that the study is about."""
    primary: PrimaryConfig = field(default_factory=PrimaryConfig)
    rounds: int = 1
    """Number of rounds. The child of the last one is measured, whatever the verdicts were: never a best round picked
    afterwards."""
    arms: list[str] = field(default_factory=list)
    """Arms as `arm_name` writes them: values of `pairs.labels`, or `noise=0.25` for the majority's answers with that
    `pairs.noise`. The first is the one that the claim is about."""
    seeds: list[int] = field(default_factory=list)
    """Values of `run.seed`; at least 2, and 5 or more for a claim."""
    contrasts: list[str] = field(default_factory=list)
    """Differences that are claimed to be above zero, e.g. `majority - base`, `majority - first`, or
    `(majority - base) - (first - base)`. Names are arms and `base`; `base:vote` is the base's majority of k,
    `base:prompt` the base with the best of `base_prompts`, `majority:greedy` the arm's greedy accuracy."""
    base_prompts: list[str] = field(default_factory=list)
    """Benchmarks with the primary one's items and another prompt each, answered by the base. The best of them, chosen
    on these very items, stands for the base in `base:prompt`: a better prompt must not pass for learning."""
    greedy: str | None = None
    """Benchmark with the primary one's items at temperature=0; null: not measured."""
    guard: StudyGuardConfig = field(default_factory=StudyGuardConfig)
    secondary: list[Secondary] = field(default_factory=lambda: list(Secondary))
    """Figures that are shown for each contrast beside the primary one, and decide nothing."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings that every run must have, by dotted key, e.g. `"train.max_steps": 40`. Other settings may be anything,
    but the same in all runs."""
    alpha: float = 0.05
    """Two-sided level: the intervals cover 1 - alpha."""
    stop: str = ""
    """When the study ends, e.g. "after all seeds of all arms; no seed is added after a look at the results"."""
    assumed: AssumedConfig = field(default_factory=AssumedConfig)
    digest: str = ""
    """Digest of everything above, filled in by the program. A digest that is given must match, so a declaration can be
    sealed by writing it into its file."""

    def __post_init__(self) -> None:
        where = "study"
        require(
            re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", self.name) is not None,
            f"{where}.name",
            repr(self.name),
            "must match [a-z0-9][a-z0-9._-]{0,63}",
            "e.g. sums",
        )
        require(bool(self.primary.benchmark), f"{where}.primary.benchmark", "''", "names no benchmark")
        require(self.primary.items >= 2, f"{where}.primary.items", self.primary.items, "at least two items")
        require(self.primary.samples >= 1, f"{where}.primary.samples", self.primary.samples, "at least one answer")
        require(self.rounds >= 1, f"{where}.rounds", self.rounds, "must be at least 1")
        for key in ("arms", "seeds", "base_prompts", "contrasts"):
            twice = [value for value, count in Counter(getattr(self, key)).items() if count > 1]
            require(not twice, f"{where}.{key}", twice, "stands there twice")
        require(bool(self.arms), f"{where}.arms", "[]", "at least one arm is needed", "e.g. [majority, first]")
        for arm in self.arms:
            require(is_arm(arm), f"{where}.arms", arm, "is no arm", "a value of pairs.labels, or e.g. noise=0.25")
        rule = "no interval over seeds without two of them"
        require(len(self.seeds) >= 2, f"{where}.seeds", self.seeds, rule, "5 or more for a claim")
        require(bool(self.contrasts), f"{where}.contrasts", "[]", "nothing is claimed", "e.g. ['majority - base']")
        for contrast in self.contrasts:
            self._check_contrast(contrast)
        require(0 < self.guard.margin < 1, f"{where}.guard.margin", self.guard.margin, "must lie in (0, 1)")
        require(0 < self.alpha < 1, f"{where}.alpha", self.alpha, "must lie in (0, 1)", "0.05 is usual")
        require(bool(self.stop.strip()), f"{where}.stop", "''", "says when the study ends", "see docs/study.md")
        for known in fields(self.assumed):
            value = getattr(self.assumed, known.name)
            require(0 < value < 1, f"{where}.assumed.{known.name}", value, "must lie in (0, 1)")
        own = declaration_digest(self)
        rule = f"the declaration is {own} now: it was changed after it was sealed"
        fix = "undo the change, or declare a new study"
        require(self.digest in ("", own), f"{where}.digest", self.digest, rule, fix)
        self.digest = own

    def _check_contrast(self, contrast: str) -> None:
        where = f"study.contrasts={contrast!r}"
        for name, measure in parse_contrast(contrast):
            require(name in (BASE, *self.arms), where, "", f"{name} is neither base nor one of study.arms")
            require(measure != "prompt" or name == BASE, where, "", "only the base is asked with other prompts")
            missing = (measure == "prompt" and not self.base_prompts) or (measure == "greedy" and self.greedy is None)
            key = "study.base_prompts" if measure == "prompt" else "study.greedy"
            require(not missing, where, "", f"{name}:{measure} needs {key}")

    @property
    def benchmarks(self) -> list[str]:
        """Names of the benchmarks that every run of the study answers."""
        named = [self.primary.benchmark, self.greedy, self.guard.benchmark]
        return [name for name in named if name is not None]


def declaration_digest(study: StudyConfig) -> str:
    """Digest of a declaration: of everything in it but the digest itself."""
    settings = as_settings(study)
    del settings["digest"]
    return digest(settings)


def is_arm(name: str) -> bool:
    """Whether a study may call an arm so."""
    noise = re.fullmatch(r"noise=(\d*\.?\d+)", name)
    if noise is not None:
        return 0 < float(noise[1]) <= 1 and name == arm_name(Labels.majority.value, float(noise[1]))
    return name in {labels.value for labels in Labels}


def arm_name(labels: str, noise: float = 0.0) -> str:
    """Name of the arm that a run with these settings belongs to: `first`, `noise=0.25`, or `first+noise=0.25`."""
    if not noise:
        return labels
    return f"noise={noise:g}" if labels == Labels.majority.value else f"{labels}+noise={noise:g}"


def parse_contrast(text: str) -> dict[tuple[str, str], int]:
    """Weights of a contrast by name and measure: `majority - base:vote` is
    `{("majority", ""): 1, ("base", "vote"): -1}`. Weights of terms that cancel are left out.

    Raises:
        BadConfig: it is not a sum of names, or its weights do not add up to zero.
    """
    where = f"study.contrasts={text!r}"
    weights: Counter[tuple[str, str]] = Counter()
    for name, sign in _terms(text):
        name, _, measure = name.partition(":")
        if ":" in text and measure and measure not in MEASURES:
            raise BadConfig(f"{where}: {measure} is no measure; one of {', '.join(MEASURES)}, or none")
        weights[name, measure] += sign
    found = {cell: weight for cell, weight in weights.items() if weight}
    if not found or sum(found.values()) != 0:
        raise BadConfig(f"{where}: must be a difference, whose weights add up to zero; e.g. 'majority - base'")
    return found


def _terms(text: str) -> Iterator[tuple[str, int]]:
    """The names of a contrast, each with its sign."""
    outer, sign, expects_name = [1], 1, True
    for token in re.findall(r"[()]|[^\s()]+", text):
        match token:
            case "(" if expects_name:
                outer.append(outer[-1] * sign)
                sign = 1
            case ")" if not expects_name and len(outer) > 1:
                outer.pop()
            case "+" | "-" if not expects_name:
                sign, expects_name = (1 if token == "+" else -1), True
            case name if expects_name and name not in ("+", "-", ")"):
                yield name, outer[-1] * sign
                expects_name = False
            case _:
                expects_name = True
                break
    if expects_name or len(outer) > 1:
        raise BadConfig(
            f"study.contrasts={text!r}: write names with + and - between them, each with spaces around; "
            "e.g. 'majority - base' or '(majority - base) - (first - base)'"
        )


def check_study(
    study: StudyConfig, run: RunConfig, evaluation: EvalConfig, pairs: PairsConfig, verdict: VerdictConfig
) -> None:
    """Raise `BadConfig` if a run cannot belong to the study that it is made under.

    In a study, no round may depend on a verdict: it would change what the next round starts from, and differently so
    from arm to arm.
    """
    own = f"study={study.name}"
    arm = arm_name(pairs.labels.value, pairs.noise)
    known = ", ".join(study.arms)
    require(arm in study.arms, "pairs.labels", arm, f"is no arm of {own}", f"one of {known}, or leave out the study")
    require(run.seed in study.seeds, "run.seed", run.seed, f"is not among the seeds of {own}: {study.seeds}")
    rule = f"{own} declares {study.rounds} rounds"
    require(run.rounds <= study.rounds, "run.rounds", run.rounds, rule)
    chained = study.rounds > 1
    rule = f"in {own}, the start of a round must not depend on a verdict"
    fix = "set verdict.gate=off, which accepts every child"
    require(not chained or verdict.gate is Gate.off, "verdict.gate", verdict.gate.value, rule, fix)
    collapse = verdict.collapse.on_collapse
    fix = "set verdict.collapse.on_collapse=warn"
    require(not chained or collapse is OnCollapse.warn, "verdict.collapse.on_collapse", collapse.value, rule, fix)
    for name in study.benchmarks:
        there = name in evaluation.benchmarks
        listed = ", ".join(evaluation.benchmarks)
        require(there, f"{own}: benchmark", name, "is not in eval.benchmarks", f"these are: {listed}")
    primary = evaluation.benchmarks[study.primary.benchmark]
    where = f"eval.benchmarks.{study.primary.benchmark}"
    declared = f"{own} declares"
    fix = "set split=test"
    require(primary.split is Split.test, f"{where}.split", primary.split.value, f"{own} measures on it", fix)
    given = primary.items in (None, study.primary.items)
    require(given, f"{where}.items", primary.items, f"{declared} {study.primary.items}")
    samples = samples_of(primary, evaluation)
    require(samples == study.primary.samples, f"{where}.samples", samples, f"{declared} {study.primary.samples}")
    if study.greedy is not None:
        greedy = evaluation.benchmarks[study.greedy]
        where = f"eval.benchmarks.{study.greedy}.temperature"
        temperature = temperature_of(greedy, evaluation)
        require(temperature == 0, where, temperature, f"{own} calls it greedy", "set it to 0")
        same = items_of(greedy) == items_of(primary)
        rule, fix = f"has other items than {study.primary.benchmark}", "set the same source, seed, family, …"
        require(same, "study.greedy", study.greedy, rule, fix)


def items_of(benchmark: Any) -> Mapping[str, Any]:
    """The settings of a benchmark that decide which items it has."""
    settings = as_settings(benchmark)
    return {name: settings[name] for name in ("source", "split", "items", "seed", "family", "options")}
