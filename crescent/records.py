"""The nouns: frozen, typed, one JSON line each.

bait ─▶ Question ─diversify─▶ Question ─solve─▶ Answer… ─vote─▶ Vote ─select─▶ Pair ─train─▶ Checkpoint
     ─evaluate─▶ Response… ─▶ Score ─judge─▶ Verdict

Ids are hashes of what made the record, so a trained pair can be followed back to its bait prompt and seed.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

R = TypeVar("R")


@dataclass(frozen=True)
class Request:
    """One chat completion asked of the engine."""

    key: str
    """Names the work item inside its stage, e.g. `answer/17/3`: question 17, sample 3. Unique within a journal."""
    prompt: str
    """The user's message; the engine applies the model's own chat template."""
    temperature: float
    max_tokens: int
    seed: int
    """From `request_seed`, in [0, 2**31)."""
    stop: tuple[str, ...] = ()
    """Strings that end the text and are not part of it; four at most, as OpenAI's API allows."""


@dataclass(frozen=True)
class Completion:
    """What the engine gave back for one `Request`."""

    text: str
    finish_reason: str
    """`stop`: the model ended by itself. `length`: cut at `max_tokens`. `error`: refused for good."""
    tokens: int
    """Generated tokens."""
    prompt_tokens: int = 0


@dataclass(frozen=True)
class Bait:
    """One prompt that makes the model invent a question."""

    name: str
    """`llama3`; of a pool `llama3/<topic>/<difficulty>`."""
    prompt: str


@dataclass(frozen=True)
class BaitCount:
    """What came of one bait's questions in one round."""

    bait: Bait
    asked: int = 0
    usable: int = 0
    """Completions with a question in them."""
    accepted: int = 0
    """Accepted by self-deduplication, rewritten or not."""
    agreed: int = 0
    """With a winner that makes the agreement cut."""
    unanimous: int = 0
    """Of those, the ones whose first ⌊K/2⌋+1 answers all agree."""
    agreement: float = 0.0
    """Mean over the accepted, in [0, 1]."""


@dataclass(frozen=True)
class Question:
    id: str
    text: str
    round: int
    index: int
    """Position of the request among the round's requests: decisions are committed in this order."""
    bait: str
    """Name of the bait prompt it answers."""
    seed: int
    rewrites: int = 0
    """How often it was rewritten before it was far enough from all earlier questions."""
    parent: str | None = None
    """Id of the question it was rewritten from."""
    neighbour: str | None = None
    """Id of the nearest earlier question, `None` for the very first."""
    similarity: float | None = None
    """Cosine to `neighbour`, in [-1, 1]."""


Outcome = Literal["accepted", "rewritten", "near-duplicate", "unusable"]


@dataclass(frozen=True)
class Candidate:
    """A question as invented or rewritten, and what became of it."""

    question: Question
    outcome: Outcome
    """`rewritten`: too near, so the model was asked to change it; the result is a candidate of its own."""
    why: str = ""
    """Of an unusable one, whose text is the raw completion (its beginning): what is wrong with it."""


@dataclass(frozen=True)
class Answer:
    question: str
    """Id of the question."""
    sample: int
    """0 … K-1."""
    seed: int
    text: str
    final: str | None
    """The final answer as written, `None` when there is none or the text was cut at `max_tokens`: silence."""
    finish_reason: str
    tokens: int


@dataclass(frozen=True)
class Vote:
    question: Question
    answers: tuple[Answer, ...]
    classes: tuple[int, ...]
    """Equivalence class of each answer's final answer, numbered by first appearance; -1 is silence."""
    winner: str | None
    """The final answer most samples agree on, as first written; `None` on a tie or when all are silent."""
    votes: int
    """Samples in the largest class."""
    of: int
    """Samples asked: K, or fewer when more could not have changed the outcome."""
    inputs: tuple[str, ...] = ()
    """Of a program's vote: the inputs all answers were run on, written by the model."""

    @property
    def agreement(self) -> float:
        """Share of samples behind the winner, in [0, 1]. Silent samples count in `of`: silence is dissent.

        After adaptive asking it is the share of those asked: at least the agreement cut exactly when all K would be.
        """
        return self.votes / self.of if self.winner is not None else 0.0


@dataclass(frozen=True)
class Pair:
    """One training example: the model's own question with the response that carried the majority."""

    id: str
    question: str
    """Id of the question."""
    round: int
    """The round that made it; older rounds are replayed when data accumulates."""
    prompt: str
    completion: str
    final: str
    agreement: float
    source: Literal["vote", "replay"] = "vote"
    """`replay`: a general instruction, written and answered by the base."""
    rejected: str | None = None
    """A response that was outvoted, for training on preferences; `None` where nobody disagreed."""
    margin: float | None = None
    """Votes of the majority less those of the rejected answer, as a share of the answers, in (0, 1]."""


@dataclass(frozen=True)
class Quarantined:
    """A voted question that is too near to a benchmark's, and is not trained on."""

    question: Question
    benchmark: str
    item: str
    """Id of the benchmark item."""
    item_question: str
    rule: Literal["ngram", "masked", "similarity"]
    evidence: str
    """The shared words, or the cosine."""


@dataclass(frozen=True)
class Proof:
    """Fingerprint by which a served model is recognised: log-probabilities of fixed texts, written by the trainer."""

    token_ids: tuple[tuple[int, ...], ...]
    """The texts, as token ids."""
    child: tuple[tuple[float | None, ...], ...]
    """Log-probability of each token given those before it, under the trained child; `None` for the first."""
    parent: tuple[tuple[float | None, ...], ...]
    """The same under the weights that training started from."""


@dataclass(frozen=True)
class Checkpoint:
    """A model that can be served: the base (or a teacher), or what one round made of the base."""

    name: str
    """Name in the server and in W&B, never used twice: `<run>-r03-<digest8>`, `<run>-base` or `<run>-teacher`."""
    round: int
    """0 for the base and for a teacher."""
    digest: str
    """Digest of the weights' manifest: two checkpoints are the same when their digests are."""
    adapter: str | None = None
    """Folder of the LoRA adapter."""
    weights: str | None = None
    """Folder of complete weights: the base's, base and adapter merged, or all weights as trained."""
    proof: Proof | None = None
    """How to recognise it when it is served; `None` for the base."""
    base: "Checkpoint | None" = None
    """The model its adapter goes with, and of whose architecture it is; `None` for such a model itself."""

    @property
    def origin(self) -> "Checkpoint":
        """The model that was not trained here: its base, or itself."""
        return self.base or self


@dataclass(frozen=True)
class Item:
    """One benchmark problem with its reference answer."""

    id: str
    benchmark: str
    question: str
    target: str


@dataclass(frozen=True)
class Response:
    """A checkpoint's answer to one `Item`, kept so that every score can be recomputed and read."""

    item: str
    benchmark: str
    prompt: str
    text: str
    final: str | None
    """Extracted final answer; `None` when nothing could be extracted: unparsed, counted as wrong."""
    target: str
    correct: bool
    """Whether `final` means `target`. This one decides; `strict` and `flexible` stand beside it."""
    finish_reason: str
    tokens: int
    sample: int = 0
    """0 … `eval.samples` - 1."""
    strict: bool | None = None
    """Whether the answer stands, in the format asked for, as the reference does; `None` where it has no such form. See
    eval/scorers.py."""
    flexible: bool | None = None
    """Whether the last number of the text is the reference; `None` where the reference is no number."""


@dataclass(frozen=True)
class Score:
    """Accuracy of one checkpoint on one benchmark."""

    benchmark: str
    correct: int
    """Correct responses: with several samples of each item, over all of them."""
    unparsed: int
    total: int
    """Responses: items times `samples`."""
    low: float
    """Lower end of the 95 % Wilson interval of the accuracy, in [0, 1]; samples of one item are not taken for items."""
    high: float
    decides: bool = True
    """Whether the verdict may look at it. Test sets are only reported."""
    samples: int = 1
    """How often each item was asked."""
    strict: int | None = None
    """Responses right by `Response.strict`; `None` where any of them has no such form."""
    flexible: int | None = None
    majority: float | None = None
    """maj@k over the k `samples`, in [0, 1]; `None` with one sample, and for programs."""
    pass_at: dict[str, float] = field(default_factory=dict)
    """pass@k by k = 1, 2, 4, … and `samples`; empty with one sample."""

    @property
    def accuracy(self) -> float:
        return self.correct / self.total


@dataclass(frozen=True)
class Comparison:
    """Two checkpoints on the same items."""

    benchmark: str
    """Empty when the items of several benchmarks are pooled."""
    against: Literal["parent", "base", "best"]
    difference: float
    """Accuracy of the child minus the other's, in [-1, 1]; an item asked several times counts once, with its mean."""
    low: float
    """Ends of the 95 % paired bootstrap interval of `difference`, over items."""
    high: float
    p_value: float
    """Exact, two-sided: McNemar's test, and where items were asked several times the sign-flip test over items."""
    p_holm: float
    """`p_value`, adjusted for looking at several benchmarks (Holm 1979)."""
    gained: int
    lost: int
    items: int


@dataclass(frozen=True)
class Alarm:
    """A sign of collapse."""

    name: str
    value: float
    limit: float
    sentence: str
    """For a person, with the numbers."""


Action = Literal["accept", "retry", "roll back", "stop"]
"""What becomes of a child. The parent of the next round is always the last accepted checkpoint, the best by the gate.

`accept`: it is the next parent. `retry`: it was not shown to be better, and nothing speaks against it; its pairs stay,
and the next round adds to them. `roll back`: something speaks against it; later rounds leave its pairs out. `stop`:
none of these, and the run ends."""


@dataclass(frozen=True)
class Verdict:
    """What the loop does with a child, and why."""

    action: Action
    reason: str
    """One sentence for a person."""
    child: str
    parent: str
    difference: float
    """Accuracy of the child minus the parent's on the same items, in [-1, 1]."""
    low: float
    """Ends of the 95 % paired bootstrap interval of `difference`."""
    high: float
    p_value: float
    """Exact McNemar, two-sided."""
    gained: int
    """Items only the child solves."""
    lost: int
    """Items only the parent solves."""
    items: int
    benchmarks: tuple[str, ...] = field(default_factory=tuple)
    """The benchmarks that decided."""
    comparisons: tuple[Comparison, ...] = ()
    """One for each benchmark, also those that are only reported, with each of parent, base and best."""
    detectable: float = 0.0
    """The gain that so many items, as many of them differing as did, show four times in five; 0 when none would be."""
    alarms: tuple[Alarm, ...] = ()


@dataclass(frozen=True)
class Done:
    """A finished stage."""

    folder: Path
    digest: str
    """Digest of its files' names and contents: what a later stage is a function of."""
    metrics: dict[str, float]
    seconds: float
    """Time the stage took when it ran (its last attempt)."""


@dataclass(frozen=True)
class Evaluation:
    """A checkpoint with what it scored."""

    checkpoint: Checkpoint
    scores: tuple[Score, ...]
    done: Done


@dataclass(frozen=True)
class Round:
    """What one round came to."""

    number: int
    teacher: Evaluation
    """Who asked and answered: the parent itself, unless another model teaches (`train.student`)."""
    votes: Done
    pairs: Done
    parent: Evaluation
    child: Evaluation
    verdict: Verdict


def digest(*parts: object) -> str:
    """16 hex digits that stand for `parts`; equal parts give equal digests on every machine."""
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:16]


def request_seed(run_seed: int, *where: object) -> int:
    """Seed in [0, 2**31) for one request, from what it is for and never from its place in a batch."""
    return int(digest(run_seed, *where)[:8], 16) & 0x7FFFFFFF


def to_line(record: object) -> bytes:
    """One JSON line, newline included."""
    return msgspec.json.encode(record) + b"\n"


def write_lines(path: Path, records: Iterable[object]) -> int:
    """Write one record a line and return how many."""
    lines = [to_line(record) for record in records]
    path.write_bytes(b"".join(lines))
    return len(lines)


def read_lines(path: Path, kind: type[R]) -> list[R]:
    """Read what `write_lines` wrote; a line that is no valid `kind` raises `msgspec.ValidationError`."""
    decode = msgspec.json.Decoder(kind).decode
    with path.open("rb") as file:
        return [decode(line) for line in file if line.strip()]
