"""Every metric of a run, declared once (`crescent.run_folder.metric`).

Readers look values up through these records (`QUESTIONS.of(metrics)`) and take labels and units from them. Names that
depend on a benchmark, a reason or a number are patterns: `{benchmark}/accuracy`. A renamed metric keeps its old name as
an alias, so that run folders of earlier versions are still read; nothing on the disk is rewritten.
"""

from collections.abc import Mapping
from functools import cache

from crescent.config import sweep
from crescent.run_folder.metric import EVERY_STAGE, MONITOR, READ, RUN, STEP, Metric, Unit, name_pattern

SECONDS = Metric(EVERY_STAGE, "seconds", Unit.seconds, "seconds", "Wall-clock time of the stage's last attempt")

ITEMS = Metric("benchmarks", "items", Unit.count, "items", "Items of all benchmarks, chosen or not")
OTHER_QUESTIONS = Metric(
    "others", "questions", Unit.count, "questions of other runs", "Questions copied from the runs in diversify.runs"
)
REPLAY_ASKED = Metric("replay", "asked", Unit.count, "instructions requested", "General instructions requested")
REPLAY_PAIRS = Metric("replay", "pairs", Unit.count, "replay pairs", "General instructions with a usable answer")
REPLAY_TOKENS = Metric(
    "replay", "tokens", Unit.tokens, "replay tokens", "Tokens generated for general instructions and their answers"
)

CANDIDATES = Metric(
    "synthesis", "candidates", Unit.count, "candidates", "Questions requested from the model, rewrites not counted"
)
BAITS = Metric("synthesis", "baits", Unit.count, "bait prompts", "Bait prompts in use")
UNUSABLE = Metric("synthesis", "unusable", Unit.count, "unusable", "Candidates in which no usable question was found")
UNUSABLE_BECAUSE = Metric(
    "synthesis", "unusable/{reason}", Unit.count, "unusable by reason", "Unusable candidates with this reason"
)
PROBLEMS_DROPPED = Metric(
    "synthesis",
    "problems_dropped",
    Unit.count,
    "further problems",
    "Problems after the first one of a completion, which are not used",
)
REWRITES = Metric("synthesis", "rewrites", Unit.count, "rewrites", "Near-duplicates that were sent back for a rewrite")
DROPPED_NEAR_DUPLICATES = Metric(
    "synthesis",
    "dropped_near_duplicates",
    Unit.count,
    "dropped near-duplicates",
    "Candidates dropped because they were still near-duplicates after all rewrites",
    ("near_duplicates",),
)
QUESTIONS = Metric("synthesis", "questions", Unit.count, "questions", "Questions accepted by self-deduplication")
WITHOUT_INPUTS = Metric(
    "synthesis",
    "without_inputs",
    Unit.count,
    "without inputs",
    "Questions without answers, because the model wrote no inputs to run programs on",
)
ANSWERS = Metric("synthesis", "answers", Unit.count, "answers", "Answers sampled for the votes")
ANSWERS_SAVED = Metric(
    "synthesis", "answers_saved", Unit.count, "answers saved", "Answers that adaptive voting did not have to sample"
)
ANSWERS_CUT = Metric("synthesis", "answers_cut", Unit.count, "answers cut", "Answers cut off at consensus.max_tokens")
ANSWERS_SILENT = Metric(
    "synthesis", "answers_silent", Unit.count, "silent answers", "Answers in which no final answer was found"
)
AGREEMENT = Metric(
    "synthesis", "agreement", Unit.share, "agreement", "Mean over all votes of the winner's share of the samples"
)
MARGIN = Metric(
    "synthesis",
    "margin",
    Unit.share,
    "margin",
    "Mean over all votes of the winner's lead over the runner-up, as a share of the samples",
)
ENTROPY = Metric("synthesis", "entropy", Unit.bits, "entropy", "Mean over all votes of the answers' Shannon entropy")
TIES = Metric("synthesis", "ties", Unit.count, "tied votes", "Votes in which two answers lead")
UNANIMOUS = Metric(
    "synthesis", "unanimous", Unit.count, "unanimous questions", "Questions whose first ⌊K/2⌋+1 answers all agree"
)
TOKENS = Metric("synthesis", "tokens", Unit.tokens, "tokens", "Tokens generated for questions and answers")
REFUSED_REQUESTS = Metric(
    "synthesis", "refused", Unit.count, "refused requests", "Requests that the engine refused; they have no answer"
)
UNDECIDED = Metric(
    "synthesis",
    "undecided",
    Unit.count,
    "undecided comparisons",
    "Comparisons of answers that ended without a result; they count as different",
)

WATCHED_QUESTIONS = Metric(
    "synthesis", MONITOR + "questions", Unit.count, "questions monitored", "Questions that the monitors look at"
)
FIRST_AGREEMENT = Metric(
    "synthesis",
    MONITOR + "agreement",
    Unit.share,
    "agreement of the first answers",
    "Mean vote share of the top answer among the first ⌊K/2⌋+1 answers",
)
FIRST_AGREEMENT_LEVEL = Metric(
    "synthesis",
    MONITOR + "agreement_{votes}_of_{first}",
    Unit.share,
    "agreement of the first answers by level",
    "Share of questions with this many of the first answers behind the top answer",
)
UNANIMOUS_SHARE = Metric(
    "synthesis", MONITOR + "unanimous", Unit.share, "unanimous", "Share of questions whose first answers all agree"
)
MOST_COMMON_ANSWER = Metric(
    "synthesis",
    MONITOR + "commonest",
    Unit.share,
    "most common answer",
    "Share of questions whose final answer is the most common one",
)
SILENT_SHARE = Metric(
    "synthesis", MONITOR + "silent", Unit.share, "no final answer", "Share of first answers without a final answer"
)
ANSWER_LENGTH = Metric(
    "synthesis", MONITOR + "answer_tokens", Unit.tokens, "length of answers", "Median length of answers, in tokens"
)
QUESTION_LENGTH = Metric(
    "synthesis",
    MONITOR + "question_characters",
    Unit.characters,
    "length of questions",
    "Mean length of questions, in characters",
)
VARIETY = Metric(
    "synthesis",
    MONITOR + "variety",
    Unit.number,
    "variety",
    "Effective number of distinct questions (exponential of the entropy)",
)
NEAR_DUPLICATE_RATE = Metric(
    "synthesis",
    MONITOR + "near_duplicate_rate",
    Unit.share,
    "near-duplicate rate",
    "Share of usable candidates, as first written, that resemble an earlier question (rewritten or dropped)",
    (MONITOR + "near_duplicates",),
)
MAJORITY_GAP = Metric(
    "synthesis",
    MONITOR + "majority_gap",
    Unit.points,
    "left to learn from votes",
    "maj@K minus greedy accuracy on dev items",
)

NEW_PAIRS = Metric("pairs", "pairs", Unit.count, "pairs", "New training pairs of the round")
KEPT_QUESTIONS = Metric("pairs", "questions", Unit.count, "questions kept", "Questions behind the new pairs")
SILENT_VOTES = Metric("pairs", "silent", Unit.count, "silent votes", "Votes in which no answer had a final answer")
DROPPED_TIES = Metric("pairs", "ties", Unit.count, "ties", "Votes without a label because two answers lead")
BELOW_CUT = Metric("pairs", "below_cut", Unit.count, "too little agreement", "Votes below consensus.min_agreement")
QUARANTINED = Metric("pairs", "quarantined", Unit.count, "quarantined", "Questions too near to a benchmark item")
QUARANTINED_BY_RULE = Metric(
    "pairs", "quarantined_{rule}", Unit.count, "quarantined by rule", "Questions that this decontamination rule caught"
)
UNANIMOUS_KEPT = Metric("pairs", "unanimous_kept", Unit.count, "unanimous kept", "Unanimous questions among those kept")
UNANIMOUS_DROPPED = Metric(
    "pairs", "unanimous_dropped", Unit.count, "too easy", "Unanimous questions beyond pairs.max_unanimous"
)
NOT_COMPUTABLE = Metric(
    "pairs",
    "not_computable",
    Unit.count,
    "not computable",
    "Questions that pairs.labels=gold drops because they are not one plain computation",
)
NEVER_RIGHT = Metric(
    "pairs",
    "never_right",
    Unit.count,
    "never right",
    "Questions that pairs.labels=gold drops because no answer is right by computation",
)
UNOPPOSED = Metric(
    "pairs",
    "unopposed",
    Unit.count,
    "unopposed",
    "Questions that pairs.labels=minority drops because no answer contradicts the majority",
)
MISMATCHED = Metric(
    "pairs",
    "mismatched",
    Unit.count,
    "mismatched pairs",
    "Pairs of pairs.labels=shuffled whose final answer differs from the majority's",
)
NOISY = Metric("pairs", "noisy", Unit.count, "noisy pairs", "New pairs that pairs.noise gave a wrong completion")
WITH_REJECTED = Metric(
    "pairs", "with_rejected", Unit.count, "with a rejected answer", "New pairs that have an outvoted answer"
)
EARLIER_PAIRS = Metric("pairs", "earlier", Unit.count, "earlier pairs", "Pairs of earlier rounds that are trained on")
DECAYED_PAIRS = Metric("pairs", "decayed", Unit.count, "decayed pairs", "Pairs of earlier rounds that have decayed")
REPLAYED_PAIRS = Metric("pairs", "replayed", Unit.count, "general pairs", "General instructions that are trained on")
ALL_PAIRS = Metric("pairs", "total", Unit.count, "all pairs", "Pairs to train on: new, earlier and general ones")
PAIRS_AGREEMENT = Metric("pairs", "agreement", Unit.share, "agreement of pairs", "Mean agreement behind the new pairs")
PAIRS_LENGTH = Metric(
    "pairs", "characters", Unit.characters, "length of completions", "Mean length of the new pairs' completions"
)

EXAMPLES = Metric("train", "rows", Unit.count, "examples", "Examples that were trained on")
STEPS = Metric("train", "steps", Unit.count, "steps", "Optimizer steps")
LOSS_FIRST = Metric("train", "loss_first", Unit.nats, "first loss", "Loss of the first step")
LOSS_LAST = Metric("train", "loss_last", Unit.nats, "last loss", "Loss of the last step")
LOSS_MEAN = Metric("train", "loss_mean", Unit.nats, "mean loss", "Mean loss over all steps")
TRAIN_TOKENS = Metric("train", "tokens", Unit.tokens, "tokens per epoch", "Tokens of the examples, each counted once")
TARGET_TOKENS = Metric(
    "train", "completion_tokens", Unit.tokens, "target tokens", "Tokens of the completions, each counted once"
)
TOKENS_SEEN = Metric("train", "tokens_seen", Unit.tokens, "tokens seen", "Tokens trained on, over all epochs")
TOO_LONG = Metric("train", "too_long", Unit.count, "too long", "Pairs left out because they exceed train.max_length")
PACKED_ROWS = Metric("train", "packed_rows", Unit.count, "packed rows", "Rows after packing")
WITHOUT_REJECTED = Metric(
    "train", "without_rejected", Unit.count, "without a rejected answer", "Pairs DPO left out: no answer was outvoted"
)
WITHOUT_FINAL = Metric(
    "train", "without_final", Unit.count, "without a final answer", "Pairs GRPO left out: no final answer to reward"
)
REPEATED = Metric("train", "repeated", Unit.count, "repeated prompts", "Pairs GRPO left out: the prompt occurs before")
TRAINABLE_PARAMETERS = Metric(
    "train", "trainable_parameters", Unit.count, "trainable parameters", "Weights that training changes"
)
SKILL = Metric("train", "skill", Unit.share, "skill", "Chance that the fake trainer's child answers correctly")

STEP_LOSS = Metric(STEP, "loss", Unit.nats, "loss", "Training loss of the step")
STEP_RATE = Metric(STEP, "learning_rate", Unit.number, "learning rate", "Learning rate of the step")
STEP_TOKENS = Metric(
    STEP, "tokens_seen", Unit.tokens, "tokens seen so far", "Tokens trained on up to this step", ("tokens",)
)
STEP_SECONDS = Metric(STEP, "seconds", Unit.seconds, "seconds per step", "Wall-clock time of the step")
STEP_SPEED = Metric(STEP, "tokens_per_second", Unit.number, "tokens per second", "Tokens trained on per second")
STEP_PADDING = Metric(STEP, "padding", Unit.share, "padding", "Share of the computed tokens that are padding")
STEP_MFU = Metric(STEP, "mfu", Unit.share, "MFU", "Model FLOPs utilization")
STEP_MEASURES = (
    Metric(STEP, "reward", Unit.share, "reward", "Mean reward of all sampled answers (GRPO)"),
    Metric(
        STEP,
        "groups_without_spread",
        Unit.share,
        "groups without spread",
        "Share of groups in which all answers are right or all are wrong: they teach nothing (GRPO)",
    ),
    Metric(STEP, "answers_cut", Unit.share, "sampled answers cut", "Share of answers cut at train.grpo.max_tokens"),
    Metric(
        STEP,
        "preferred",
        Unit.share,
        "preferred",
        "Share of pairs whose chosen answer gained more than the rejected one (DPO)",
    ),
)
"""What a trainer measures at each step beside the loss; the stage has the first, the last and the mean of each."""
OF_STEPS = {"first": "first step", "last": "last step", "mean": "mean over all steps"}

ACCURACY = Metric("eval", "{benchmark}/accuracy", Unit.share, "accuracy", "Share of items answered correctly")
ACCURACY_LOW = Metric(
    "eval", "{benchmark}/low", Unit.share, "accuracy, lower end", "Lower end of the accuracy's 95% Wilson interval"
)
ACCURACY_HIGH = Metric(
    "eval", "{benchmark}/high", Unit.share, "accuracy, upper end", "Upper end of the accuracy's 95% Wilson interval"
)
UNPARSED = Metric("eval", "{benchmark}/unparsed", Unit.count, "unparsed", "Responses without a final answer")
REFUSED_ITEMS = Metric(
    "eval", "{benchmark}/refused", Unit.count, "refused items", "Requests that the engine refused; they count as wrong"
)
STRICT = Metric(
    "eval", "{benchmark}/strict", Unit.share, "strict", "Share correct when only the requested answer format counts"
)
FLEXIBLE = Metric(
    "eval", "{benchmark}/flexible", Unit.share, "flexible", "Share correct when the last number anywhere counts"
)
MAJORITY = Metric(
    "eval", "{benchmark}/majority", Unit.share, "maj@k", "Share of items whose majority of k answers is correct"
)
PASS_AT = Metric(
    "eval", "{benchmark}/pass@{k}", Unit.share, "pass@k", "Share of items with at least one correct answer among k"
)
HARNESS = Metric(
    "harness", "{task}/{metric}", Unit.number, "lm-evaluation-harness", "Value that lm-evaluation-harness reports"
)
VOTE_SINGLE = Metric(
    "reliability", "{benchmark}/single", Unit.share, "one sample", "Mean accuracy of a single sample of the base"
)
VOTE_MAJORITY = Metric(
    "reliability", "{benchmark}/majority", Unit.share, "maj@K of the base", "Accuracy of the base's majority of K"
)
VOTE_AUROC = Metric(
    "reliability",
    "{benchmark}/auroc",
    Unit.probability,
    "AUROC of agreement",
    "Probability that a correct label has more agreement than a wrong one",
)

ACCEPTED = Metric("verdict", "accepted", Unit.count, "accepted", "1 if the child was accepted, else 0")
ALARMS = Metric("verdict", "alarms", Unit.count, "collapse alarms", "Collapse alarms of the round")
GAIN = Metric(
    "verdict", "difference", Unit.points, "gain over the parent", "Child minus parent accuracy on the deciding items"
)
P_VALUE = Metric("verdict", "p_value", Unit.probability, "p-value", "Exact McNemar p-value of child against parent")

NEAR_DUPLICATE_DROP_RATE = Metric(
    READ,
    "near_duplicate_drop_rate",
    Unit.share,
    "drop rate",
    "Share of all candidates that self-deduplication dropped as near-duplicates",
)

BEST = Metric(
    RUN,
    f"{sweep.BEST}{{benchmark}}",
    Unit.share,
    "accuracy of the best checkpoint",
    "Accuracy of the child that was accepted last, or of the base if none was",
)
GAIN_OVER_BASE = Metric(
    RUN,
    sweep.GAIN_OVER_BASE,
    Unit.points,
    "gain over the base",
    "Best checkpoint minus base accuracy on the deciding items; 0 if no child was accepted",
)
ACCEPTED_ROUNDS = Metric(RUN, sweep.ACCEPTED_ROUNDS, Unit.count, "accepted rounds", "Rounds whose child was accepted")

METRICS: tuple[Metric, ...] = (
    *(value for value in tuple(globals().values()) if isinstance(value, Metric)),
    *STEP_MEASURES,
    *(
        Metric(
            "train",
            f"{measure.name}_{which}",
            measure.unit,
            f"{measure.label}, {where}",
            f"{measure.meaning}, {where}",
        )
        for measure in STEP_MEASURES
        for which, where in OF_STEPS.items()
    ),
)
"""All metrics declared above."""


def kind_of(stage: str) -> str:
    """`round-3/train` → `train`."""
    return stage.rpartition("/")[2]


def declared(kind: str, name: str) -> Metric | None:
    """The record of a metric that a stage of this kind writes; `None` if it is not declared."""
    known = [metric for metric in METRICS if metric.stage in (kind, EVERY_STAGE)]
    exact = (metric for metric in known if name in (metric.name, *metric.aliases))
    return next(exact, next((metric for metric in known if name_pattern(metric.name).fullmatch(name)), None))


def current_names(kind: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics of one stage with today's names, whatever version wrote them."""
    return {_current(kind, name): value for name, value in metrics.items()}


@cache
def _current(kind: str, name: str) -> str:
    renamed = (metric for metric in METRICS if metric.stage in (kind, EVERY_STAGE) and name in metric.aliases)
    return next((metric.name for metric in renamed), name)


def monitors_among(synthesis: Mapping[str, float]) -> dict[str, float]:
    """The collapse monitors among the metrics of a synthesis, by their names without the prefix."""
    known = current_names("synthesis", synthesis).items()
    return {name.removeprefix(MONITOR): value for name, value in known if name.startswith(MONITOR)}


def drop_rate(synthesis: Mapping[str, object]) -> float | None:
    """`NEAR_DUPLICATE_DROP_RATE` from the metrics of a synthesis; `None` where it does not say."""
    candidates, dropped = CANDIDATES.of(synthesis), DROPPED_NEAR_DUPLICATES.of(synthesis)
    return dropped / candidates if dropped is not None and candidates else None
