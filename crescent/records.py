"""The records that flow through a round: frozen, typed, one JSON line each.

bait ─▶ Question ─diversify─▶ Question ─solve─▶ Answer… ─vote─▶ Vote ─select─▶ Pair ─train─▶ Checkpoint
     ─evaluate─▶ Response… ─▶ Score ─judge─▶ Verdict

Ids are hashes of what made the record, so a training pair can be traced back to its bait prompt and seed.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Request:
    """One chat completion to ask the engine for."""

    key: str
    """Name of the work item inside a stage, e.g. `answer/17/3`: question 17, sample 3. Unique within a journal."""
    prompt: str
    """The user's message; the engine applies the model's own chat template."""
    temperature: float
    max_tokens: int
    seed: int
    """From `request_seed`, in [0, 2**31)."""
    stop: tuple[str, ...] = ()
    """Strings that end the text and are not part of it; at most four, the limit of OpenAI's API."""


@dataclass(frozen=True, slots=True)
class Completion:
    """The engine's reply to one `Request`."""

    text: str
    finish_reason: str
    """`stop`: the model ended its text. `length`: cut at `max_tokens`. `error`: refused permanently."""
    tokens: int
    """Generated tokens."""
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Bait:
    """One prompt that makes the model invent a question."""

    name: str
    """`llama3`, or `llama3/<topic>/<difficulty>` in a pool, or `evolve/seed-<line>` with a seed question."""
    prompt: str


@dataclass(frozen=True, slots=True)
class SeedQuestion:
    """A question of somebody else's that a bait prompt shows to the model (`bait.seeds`). It is never trained on."""

    file: str
    """Name of the file it comes from."""
    line: int
    """Line in the file, from 1."""
    text: str

    @property
    def slug(self) -> str:
        """Its part in the names of the bait prompts that show it."""
        return f"seed-{self.line}"


@dataclass(frozen=True, slots=True)
class BaitCount:
    """Counts of one bait's questions in one round, from request to vote."""

    bait: Bait
    asked: int = 0
    usable: int = 0
    """Completions that contain a question."""
    accepted: int = 0
    """Accepted by self-deduplication, rewritten or not."""
    agreed: int = 0
    """Accepted questions whose vote has a winner and makes the agreement cut."""
    unanimous: int = 0
    """Agreed questions whose first ⌊K/2⌋+1 answers are all the same."""
    agreement: float = 0.0
    """Mean agreement of the accepted questions, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Question:
    """A problem that the model invented."""

    id: str
    text: str
    round: int
    index: int
    """Position among the requests of the round; decisions are committed in this order."""
    bait: str
    """Name of the bait prompt."""
    seed: int
    rewrites: int = 0
    """Number of rewrites before the question was far enough from all earlier ones."""
    parent: str | None = None
    """Id of the question that this one is a rewrite of."""
    neighbour: str | None = None
    """Id of the nearest earlier question; `None` for the first question."""
    similarity: float | None = None
    """Cosine to `neighbour`, in [-1, 1]."""


Outcome = Literal["accepted", "rewritten", "near-duplicate", "unusable"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A question as invented or rewritten, with its outcome in self-deduplication."""

    question: Question
    outcome: Outcome
    """`rewritten`: too similar to an earlier one, so the model rewrites it; the result is another candidate."""
    why: str = ""
    """Reason why an unusable candidate was dropped; its text is the beginning of the raw completion."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One sampled answer to a question."""

    question: str
    """Id of the question."""
    sample: int
    """0 … K-1."""
    seed: int
    text: str
    final: str | None
    """Final answer as written; `None` is silence: no answer was found, or the text was cut at `max_tokens`."""
    finish_reason: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Vote:
    """The majority vote on one question."""

    question: Question
    answers: tuple[Answer, ...]
    classes: tuple[int, ...]
    """Equivalence class of each final answer, numbered by first appearance; -1 is silence."""
    winner: str | None
    """Final answer that most samples agree on, as first written; `None` on a tie or if all samples are silent."""
    votes: int
    """Number of samples in the largest class."""
    of: int
    """Number of samples asked: K, or fewer if more could not have changed the outcome."""
    inputs: tuple[str, ...] = ()
    """Inputs, written by the model, on which all programs were run; empty if answers are not programs."""

    @property
    def agreement(self) -> float:
        """Share of samples behind the winner, in [0, 1]. Silent samples count in `of`: silence is dissent.

        With adaptive voting it is the share of the samples asked. It makes the agreement cut exactly if all K would.
        """
        return self.votes / self.of if self.winner is not None else 0.0


@dataclass(frozen=True, slots=True)
class Pair:
    """One training example: the model's own question with a response that carries the majority answer."""

    id: str
    question: str
    """Id of the question."""
    round: int
    """Round that made the pair; pairs of older rounds are trained on again if data accumulates."""
    prompt: str
    completion: str
    final: str
    agreement: float
    source: Literal["vote", "replay"] = "vote"
    """`vote`, or `replay` for a general instruction that the base wrote and answered."""
    rejected: str | None = None
    """A response that was outvoted, for preference training; `None` if all samples agreed."""
    margin: float | None = None
    """Votes of the majority minus votes of the rejected answer, as a share of all samples, in (0, 1]."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A voted question that is too similar to a benchmark item and is not trained on."""

    question: Question
    benchmark: str
    item: str
    """Id of the benchmark item."""
    item_question: str
    rule: Literal["ngram", "masked", "computation", "similarity"]
    evidence: str
    """Shared words, or the cosine."""


@dataclass(frozen=True, slots=True)
class Proof:
    """Fingerprint of a served model: log-probabilities of fixed texts, written by the trainer."""

    token_ids: tuple[tuple[int, ...], ...]
    """Token ids of the texts."""
    child: tuple[tuple[float | None, ...], ...]
    """Log-probability (nats) of each token given those before it, under the trained child; `None` for the first."""
    parent: tuple[tuple[float | None, ...], ...]
    """Log-probabilities under the weights that training started from."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model that can be served: the base, a teacher, or the child of a round."""

    name: str
    """Unique name in the server and in W&B: `<run>-r03-<digest8>`, `<run>-base` or `<run>-teacher`."""
    round: int
    """0 for the base and for a teacher."""
    digest: str
    """Digest of the weights' manifest: equal digests mean equal checkpoints."""
    adapter: str | None = None
    """Folder of the LoRA adapter."""
    weights: str | None = None
    """Folder of complete weights: of the base, of base and adapter merged, or of a fully trained child."""
    proof: Proof | None = None
    """Fingerprint to recognise the served child by; `None` for the base."""
    base: "Checkpoint | None" = None
    """Model that the adapter belongs to; `None` for a model that was not trained here."""

    @property
    def origin(self) -> "Checkpoint":
        """The untrained model behind this checkpoint: its base, or the checkpoint itself."""
        return self.base or self


CHECKPOINT_NAME = re.compile(r"(?P<run>.+)-(?P<own>base|teacher|r\d{2,}-[0-9a-f]{8})")
"""Splits the name of a checkpoint into the name of its run and the rest."""


def round_label(number: int) -> str:
    """A round in names: 3 → `r03`."""
    return f"r{number:02d}"


def child_suffix(number: int, trained: str) -> str:
    """End of the name of a round's child, after its run's name: `-r03-549c2375`. `trained`: digest of its stage."""
    return f"-{round_label(number)}-{trained[:8]}"


@dataclass(frozen=True, slots=True)
class Item:
    """One benchmark problem with its reference answer (`target`)."""

    id: str
    benchmark: str
    question: str
    target: str


@dataclass(frozen=True, slots=True)
class Response:
    """A checkpoint's answer to one `Item`, stored so that scores can be recomputed."""

    item: str
    benchmark: str
    prompt: str
    text: str
    final: str | None
    """Extracted final answer; `None` is unparsed and counts as wrong."""
    target: str
    correct: bool
    """Whether `final` means the same as `target`. This score decides; `strict` and `flexible` stand beside it."""
    finish_reason: str
    tokens: int
    sample: int = 0
    """0 … `eval.samples` - 1."""
    strict: bool | None = None
    """Whether the answer has the format asked for and is spelled like the reference (eval/scorers.py); `None` if the
    benchmark has no such format."""
    flexible: bool | None = None
    """Whether the last number of the text is the reference; `None` if the reference is not a number."""


@dataclass(frozen=True, slots=True)
class Score:
    """Accuracy of one checkpoint on one benchmark."""

    benchmark: str
    correct: int
    """Number of correct responses over all items and samples."""
    unparsed: int
    total: int
    """Number of responses: items times `samples`."""
    low: float
    """Lower end of the 95% Wilson interval of the accuracy, in [0, 1], clustered by item."""
    high: float
    decides: bool = True
    """Whether the verdict may use this score. Test sets are only reported."""
    samples: int = 1
    """Number of samples per item."""
    strict: int | None = None
    """Number of responses right by `Response.strict`; `None` if any response has no such score."""
    flexible: int | None = None
    majority: float | None = None
    """maj@k with k = `samples`, in [0, 1]; `None` with one sample, and for programs."""
    pass_at: dict[str, float] = field(default_factory=dict)
    """pass@k by k = 1, 2, 4, … and `samples`; empty with one sample."""

    @property
    def accuracy(self) -> float:
        return self.correct / self.total


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two checkpoints on the same items."""

    benchmark: str
    """Name of the benchmark; empty if the items of several are pooled."""
    against: Literal["parent", "base", "best"]
    difference: float
    """Accuracy of the child minus that of the other, in [-1, 1]; an item counts once, by the mean of its samples."""
    low: float
    """Lower end of the 95% paired bootstrap interval of `difference`, over items; `high` is the upper end."""
    high: float
    p_value: float
    """Two-sided exact p-value: McNemar's test or, with several samples per item, the sign-flip test over items."""
    p_holm: float
    """`p_value` adjusted for several benchmarks (Holm 1979)."""
    gained: int
    lost: int
    items: int


@dataclass(frozen=True, slots=True)
class Alarm:
    """A sign of collapse."""

    name: str
    value: float
    limit: float
    sentence: str
    """Explanation for a person, with the numbers."""


Action = Literal["accept", "retry", "roll back", "stop"]
"""Decision about a child. The parent of the next round is always the last accepted checkpoint.

`accept`: the child is the next parent. `retry`: the child was not shown to be better, but there is no evidence against
it; its pairs stay, and the next round adds to them. `roll back`: there is evidence against the child, and its pairs are
discarded. `stop`: the run ends without accepting the child."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision about a child, with its reason and the numbers behind it."""

    action: Action
    reason: str
    """Explanation for a person, one sentence."""
    child: str
    parent: str
    difference: float
    """Accuracy of the child minus the parent's on the same items, in [-1, 1]."""
    low: float
    """Lower end of the 95% paired bootstrap interval of `difference`; `high` is the upper end."""
    high: float
    p_value: float
    """Two-sided p-value of McNemar's exact test."""
    gained: int
    """Number of items that only the child solves."""
    lost: int
    """Number of items that only the parent solves."""
    items: int
    benchmarks: tuple[str, ...] = field(default_factory=tuple)
    """Names of the benchmarks that decided."""
    comparisons: tuple[Comparison, ...] = ()
    """One comparison for each benchmark (also those only reported) with each of parent, base and best."""
    detectable: float = 0.0
    """Smallest gain detectable with 80% power, given the number of items and the share that differed; 0 if unknown."""
    alarms: tuple[Alarm, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """A finished stage."""

    folder: Path
    digest: str
    """Digest of the names and contents of the stage's files; later stages are functions of it."""
    metrics: dict[str, float]
    seconds: float
    """Duration of the stage's last attempt."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A checkpoint with its scores."""

    checkpoint: Checkpoint
    scores: tuple[Score, ...]
    done: Done


@dataclass(frozen=True, slots=True)
class Round:
    """Everything that one finished round produced."""

    number: int
    teacher: Evaluation
    """Model that asked and answered: the parent or, with `train.student`, the teacher."""
    votes: Done
    pairs: Done
    parent: Evaluation
    child: Evaluation
    verdict: Verdict


def digest(*parts: object) -> str:
    """Digest of `parts`, 16 hex digits; equal parts give equal digests on every machine."""
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:16]


def request_seed(run_seed: int, *where: object) -> int:
    """Seed in [0, 2**31) for one request: a hash of what the request is for, never of its place in a batch."""
    return int(digest(run_seed, *where)[:8], 16) & 0x7FFFFFFF


def to_line(record: object) -> bytes:
    """One JSON line, newline included."""
    return msgspec.json.encode(record) + b"\n"


def write_lines(path: Path, records: Iterable[object]) -> int:
    """Write one record per line; returns the number of lines."""
    lines = [to_line(record) for record in records]
    path.write_bytes(b"".join(lines))
    return len(lines)


def read_lines(path: Path, kind: type[R]) -> list[R]:
    """Read what `write_lines` wrote.

    Raises:
        msgspec.ValidationError: a line is not a valid `kind`.
    """
    decode = msgspec.json.Decoder(kind).decode
    with path.open("rb") as file:
        return [decode(line) for line in file if line.strip()]
