"""Crescent from Python: the parts of a round as functions of plain strings, and finished runs read back.

    from crescent import vote
    vote(["It is 1/2.", "#### 0.5", "#### 2"]).winner    # '1/2'

Nothing here starts an engine, needs a GPU, reads a config or writes a file. `crescent.__all__` is the whole public
surface: what it names stays as it is within a minor version; everything else may move.
"""

import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from crescent.config import AnswerStyle, DiversifyConfig, Gate, TaskConfig, VerdictConfig
from crescent.errors import BadConfig, DataSaysNo, Missing
from crescent.judging import verdict as verdicts
from crescent.judging.measurements import Answers
from crescent.models.embedders import lexical_vectors
from crescent.reading import rounds
from crescent.reading.finished import RunReader, is_run
from crescent.reading.rounds import RunSummary
from crescent.records import Checkpoint, Completion, Pair, Question, Response, Verdict, Vote, digest
from crescent.synthesis import consensus
from crescent.synthesis.diversify import Decision, Memory, decide
from crescent.tasks import Task, open_task, read_final

Style = Literal["number", "math", "choice", "text"]
"""How final answers are written. `number`: one number. `math`: a number or a formula. `choice`: the letter of an
option. `text`: a short text."""

GRADING_TIMEOUT_S = 5.0
"""CPU seconds for one comparison of two formulas, the default of `consensus.grading_timeout_s`."""


def final_answer(response: str, style: Style = "math") -> str | None:
    """The final answer of a complete response, as written; `None` where it has none.

    Read after `####`, in `\\boxed{}`, after "the answer is", else where the style looks for it. Thoughts
    (`<think>…</think>`) are not read.
    """
    return read_final(Completion(response, "stop", 0), _task(style))


def same_answer(a: str, b: str, style: Style = "math") -> bool:
    """Whether two final answers mean the same: `1/2` and `0.5`, `x(x+1)` and `x^2+x`. Symmetric.

    Formulas are compared in a process of their own with a limit on time and memory; undecided means no.
    """
    first, second = _task(style).classes([a, b])
    return first == second


def vote(responses: Sequence[str], question: str = "", style: Style = "math") -> Vote:
    """The majority vote over complete responses to one question.

    `winner` is the most frequent final answer as first written, `None` on a tie; `agreement` the share of responses
    behind it, in [0, 1]. Responses without a final answer count in that share: silence is dissent. `classes` says
    which responses agree; -1 is silence.

    Raises:
        DataSaysNo: there are no responses.
    """
    if not responses:
        raise DataSaysNo("responses=[]: a vote needs at least one response")
    task, asked = _task(style), _question(question, 0)
    answers = [
        consensus.read_answer(asked, sample, 0, Completion(response, "stop", 0), task)
        for sample, response in enumerate(responses)
    ]
    return consensus.vote(asked, answers, task.classes([answer.final for answer in answers]))


def deduplicate(
    questions: Sequence[str],
    threshold: float = 0.6,
    earlier: Sequence[str] = (),
    embed: Callable[[Sequence[str]], NDArray[np.floating]] | None = None,
) -> list[Decision]:
    """One decision for each question, in order: `accept`, or `drop` for a near-duplicate of an accepted one.

    `neighbour` is the nearest earlier question, `similarity` the cosine to it.

    Args:
        threshold: Cosine from which a question is a near-duplicate, in (0, 1]. 0.6 suits word problems with the
            default vectors (`diversify=lexical`); for short sums take 0.85 or more.
        earlier: Questions that count as accepted before the first one. They are not compared with each other.
        embed: Function from texts to vectors, shape (texts, dimensions), which are scaled to unit length. By default
            hashed trigrams that treat numbers as words: no model and no network.

    Raises:
        DataSaysNo: `embed` returns another number of vectors, a zero vector, or one that is not finite.
    """
    if not 0 < threshold <= 1:
        raise BadConfig(f"threshold={threshold}: a cosine above 0 and at most 1")
    memory = Memory()
    for number, (text, vector) in enumerate(zip(earlier, _vectors(earlier, embed), strict=True)):
        memory.add(_question(text, -1 - number), vector)
    cfg = DiversifyConfig(threshold=threshold, max_rewrites=0)
    candidates = [_question(text, number) for number, text in enumerate(questions)]
    return decide(candidates, _vectors(questions, embed), memory, cfg)


def judge(
    child: Sequence[bool | Sequence[bool]],
    parent: Sequence[bool | Sequence[bool]],
    gate: Literal["significant", "better"] = "significant",
    alpha: float = 0.05,
    seed: int = 0,
) -> Verdict:
    """Whether a child is better than its parent, given which items each of them has right, in the same order.

    `difference` is the gain in accuracy, in [-1, 1]; `low` and `high` are the ends of its 95% paired bootstrap
    interval; `p_value` is exact (McNemar's test or, where an item was asked several times, the sign-flip test over
    items). `action` is `accept`, `retry` (not shown to be better) or `roll back` (significantly worse).

    Args:
        child: For each item whether it is right, or one such value for each sample.
        gate: What is accepted: `significant` gains, or whatever is `better`.
        alpha: Significance level of both decisions.
        seed: Seed of the bootstrap.

    Raises:
        DataSaysNo: no items, different numbers of them, or of samples of one.
    """
    if gate not in ("significant", "better"):
        raise BadConfig(f"gate={gate!r}: significant or better; the other gates need more than right and wrong")
    if len(child) != len(parent):
        raise DataSaysNo(f"{len(child)} items of the child, {len(parent)} of the parent: give the same items to both")
    answers = Answers(_responses(child), _responses(parent))
    checkpoints = Checkpoint("child", 1, ""), Checkpoint("parent", 0, "")
    cfg = VerdictConfig(gate=Gate(gate), alpha=alpha)
    return verdicts.judge(*checkpoints, answers, cfg, ["items"], [], [], seed)


def read_run(folder: str | Path) -> RunSummary:
    """Status, settings, scores, verdicts and costs of a run, from its finished stages. The run may be running.

    Raises:
        Missing: the folder is not a run.
    """
    root = _run_folder(folder)
    return rounds.read_run(root, root.resolve().name)


def read_votes(folder: str | Path, round_number: int) -> list[Vote]:
    """The votes of a finished synthesis: each question with all its answers.

    Raises:
        Missing: the folder is not a run, or that round's synthesis is not finished or is damaged.
    """
    stage = f"round-{round_number}/synthesis"
    return list(_finished(folder, stage).records(f"{stage}/votes.jsonl", Vote))


def read_pairs(folder: str | Path, round_number: int) -> list[Pair]:
    """The pairs that a round trained on, pairs of earlier rounds among them.

    Raises:
        Missing: the folder is not a run, or that round's selection is not finished or is damaged.
    """
    stage = f"round-{round_number}/pairs"
    return list(_finished(folder, stage).records(f"{stage}/pairs.jsonl", Pair))


def _run_folder(folder: str | Path) -> Path:
    root = Path(folder)
    if not is_run(root):
        raise Missing(f"{root}: not a run folder, it has neither base/ nor round-1/; runs lie in runs/ by default")
    return root


def _finished(folder: str | Path, stage: str) -> RunReader:
    reader = RunReader(_run_folder(folder))
    if reader.stage(stage) is None:
        raise Missing("; ".join(reader.missing) or f"{reader.root / stage}: not there; rounds here: {reader.rounds}")
    return reader


def _question(text: str, number: int) -> Question:
    return Question(digest(text, number), text, round=0, index=number, bait="", seed=0)


def _responses(right: Sequence[bool | Sequence[bool]]) -> list[Response]:
    """Records of responses that are only known to be right or wrong: equal length, and no answer common to two items,
    so that no collapse alarm looks at what is not known."""
    by_item = [[samples] if isinstance(samples, bool | np.bool_) else list(samples) for samples in right]
    return [
        Response(str(item), "items", "", "", str(item), "", bool(is_right), "stop", 1, sample)
        for item, samples in enumerate(by_item)
        for sample, is_right in enumerate(samples)
    ]


def _vectors(
    texts: Sequence[str], embed: Callable[[Sequence[str]], NDArray[np.floating]] | None
) -> NDArray[np.float32]:
    if embed is None or not texts:
        return lexical_vectors(texts)
    vectors = np.asarray(embed(texts), dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(texts):
        raise DataSaysNo(f"embed: {len(texts)} texts gave an array of shape {vectors.shape}; one row for each text")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.all(np.isfinite(lengths)) or not np.all(lengths > 0):
        raise DataSaysNo("embed: a vector is zero or not finite, so it has no cosine")
    return cast(NDArray[np.float32], vectors / lengths)


def _task(style: Style) -> Task:
    if style not in get_args(Style):
        raise BadConfig(f"style={style!r}: not a style of answers; one of {', '.join(get_args(Style))}")
    return _open_task(style, os.getpid())


@cache
def _open_task(style: Style, process: int) -> Task:
    """Opened once in each process, because starting the processes that compare formulas takes a second.

    They end with this process. After a fork there are others: two processes cannot talk to the same ones.
    """
    return open_task(TaskConfig(answer_style=AnswerStyle(style)), GRADING_TIMEOUT_S).__enter__()
