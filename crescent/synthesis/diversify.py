"""Paper step II: self-deduplication. Compare with all earlier questions, rewrite near-duplicates, compare again.

One metric (cosine) and one threshold, inside a round and against every earlier round. Source: Crescent
(arXiv 2502.13441), section on diversification; re-checking rewrites is ours, `decide_released` is the rule without it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crescent.config import BaitConfig, DiversifyConfig
from crescent.models.embedders import Vectors
from crescent.records import Question, Request, request_seed

ROWS = 4096
"""Number of vectors in one piece of memory."""
DECIMALS = 6
"""Decimals to which cosines are compared: 2 + 3 is as far from 2 + 4 as from 2 + 5, and the order of a summation must
not decide which is nearer."""
SLACK = 1e-3
"""Distance below the largest single-precision cosine within which the true largest one lies, with room to spare: a sum
of d products of unit vectors is off by 6e-8 · d at most."""


@dataclass(frozen=True)
class Neighbour:
    """What is kept of an accepted question, for comparing later ones with it."""

    id: str
    text: str


class Memory:
    """Ids, texts and vectors of all accepted questions: about 1.9 kB each at 384 dimensions.

    Grows by pieces of `ROWS` vectors, so that existing ones are never copied.
    """

    def __init__(self) -> None:
        # As UTF-8: a single "π" makes a `str` of 250 characters twice as large.
        self._ids: list[bytes] = []
        self._texts: list[bytes] = []
        self._pieces: list[Vectors] = []

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, question: Question | Neighbour, vector: Vectors) -> None:
        row = len(self) % ROWS
        if row == 0:
            self._pieces.append(np.zeros((ROWS, len(vector)), dtype=np.float32))
        self._pieces[-1][row] = vector
        self._ids.append(question.id.encode("utf-8", "surrogatepass"))
        self._texts.append(question.text.encode("utf-8", "surrogatepass"))

    def neighbour(self, index: int) -> Neighbour:
        """Question number `index` in the order in which they were added, counted from 0."""
        id_, text = self._ids[index], self._texts[index]
        return Neighbour(id_.decode("utf-8", "surrogatepass"), text.decode("utf-8", "surrogatepass"))

    def vectors(self, indices: Iterable[int]) -> Vectors:
        """Vectors of the questions with these indices, in this order."""
        rows = [self._pieces[index // ROWS][index % ROWS] for index in indices]
        return np.stack(rows) if rows else np.zeros((0, 0), dtype=np.float32)

    def nearest(self, vectors: Vectors) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Index and cosine of the question nearest to each vector; of equally near ones, the earliest.

        Where the memory is empty: index -1, cosine minus infinity.
        """
        if not len(vectors):
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        indices = np.full(len(vectors), -1, dtype=np.int64)
        largest = np.full(len(vectors), -np.inf)
        for start, piece in zip(range(0, len(self), ROWS), self._pieces, strict=True):
            known = piece[: len(self) - start]
            # In single precision for all questions, in double precision only for those that may be the nearest.
            rough = vectors @ known.T
            floor = np.maximum(rough.max(axis=1), largest) - SLACK
            rows, columns = np.nonzero(rough >= floor[:, None])
            exact = _pairwise_cosines(vectors, rows, known, columns)
            nearer = exact > largest[rows]
            rows, columns, exact = rows[nearer], columns[nearer], exact[nearer]
            # By row, then the largest cosine first, then the earliest question: the first of each row is the nearest.
            order = np.lexsort((columns, -exact, rows))
            rows, first = np.unique(rows[order], return_index=True)
            indices[rows], largest[rows] = start + columns[order][first], exact[order][first]
        return indices, largest


def cosines(vectors: Vectors, others: Vectors) -> NDArray[np.float64]:
    """Cosine of each of the unit vectors with each of the others, shape (vectors, others), to `DECIMALS` decimals."""
    products = vectors.astype(np.float64) @ others.astype(np.float64).T
    return np.round(products, DECIMALS) + 0.0  # no -0.0


def _pairwise_cosines(
    vectors: Vectors, rows: NDArray[np.int64], others: Vectors, columns: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Cosine of `vectors[row]` with `others[column]`, for each pair of row and column."""
    found = np.empty(len(rows))
    for start in range(0, len(rows), ROWS):  # in pieces: thousands may be equally near
        piece = slice(start, start + ROWS)
        pairs = vectors[rows[piece]].astype(np.float64), others[columns[piece]].astype(np.float64)
        found[piece] = np.einsum("nd,nd->n", *pairs)
    return np.round(found, DECIMALS) + 0.0


@dataclass(frozen=True)
class Decision:
    """What self-deduplication decides about one candidate."""

    action: Literal["accept", "rewrite", "drop"]
    neighbour: Neighbour | None
    """The nearest of the questions that the candidate was compared with."""
    similarity: float | None
    """Cosine to `neighbour`."""


UNCOMPARED = Decision("accept", None, None)
"""Decision on the very first question."""


def decide(candidates: Sequence[Question], vectors: Vectors, memory: Memory, cfg: DiversifyConfig) -> list[Decision]:
    """Decide a block of candidates in order, adding the accepted ones to `memory`.

    The outcome is the same as when comparing one candidate after another; only the arithmetic is done in blocks.
    """
    known = len(memory)
    inside = cosines(vectors, vectors).tolist()
    indices, largest = (array.tolist() for array in memory.nearest(vectors))
    added: list[int] = []
    decisions = []
    for row, candidate in enumerate(candidates):
        index, similarity = indices[row], largest[row]
        # Nearest in `memory` as it was before this block, or among those the block has added since.
        for number, other in enumerate(added):
            if inside[row][other] > similarity:
                index, similarity = known + number, inside[row][other]
        neighbour = memory.neighbour(index) if index >= 0 else None
        action: Literal["accept", "rewrite", "drop"] = "accept"
        if similarity >= cfg.threshold:
            action = "rewrite" if candidate.rewrites < cfg.max_rewrites else "drop"
        else:
            added.append(row)
            memory.add(candidate, vectors[row])
        decisions.append(Decision(action, neighbour, similarity if neighbour else None))
    return decisions


def decide_released(
    batch: Sequence[Question], vectors: Vectors, memory: Memory, cfg: DiversifyConfig
) -> list[Decision]:
    """Decide one batch as the authors' released code does, adding the accepted ones to `memory`.

    A candidate near an earlier one of its batch (`threshold`) is dropped. One nearer than `history_threshold` to a
    question of `memory` is rewritten, and the rewrite accepted unchecked. The authors' values are a cosine of 0.85 and
    a squared Euclidean distance of 0.25, which for unit vectors is a cosine of 0.875.
    """
    limit = cfg.threshold if cfg.history_threshold is None else cfg.history_threshold
    inside = cosines(vectors, vectors).tolist()
    indices, largest = (array.tolist() for array in memory.nearest(vectors))
    survivors: list[int] = []
    decisions = []
    for row in range(len(batch)):
        in_batch = max(survivors, key=lambda other: inside[row][other], default=None)
        similarity = -np.inf if in_batch is None else inside[row][in_batch]
        if in_batch is not None and similarity >= cfg.threshold:
            decisions.append(Decision("drop", Neighbour(batch[in_batch].id, batch[in_batch].text), similarity))
            continue
        survivors.append(row)
        if largest[row] > limit:
            decisions.append(Decision("rewrite", memory.neighbour(indices[row]), largest[row]))
        elif in_batch is not None and similarity > largest[row]:
            decisions.append(Decision("accept", Neighbour(batch[in_batch].id, batch[in_batch].text), similarity))
        elif indices[row] >= 0:
            decisions.append(Decision("accept", memory.neighbour(indices[row]), largest[row]))
        else:
            decisions.append(UNCOMPARED)
    for candidate, vector, decision in zip(batch, vectors, decisions, strict=True):
        if decision.action == "accept":
            memory.add(candidate, vector)
    return decisions


def accept_unchecked(rewritten: Sequence[Question], vectors: Vectors, memory: Memory) -> list[Decision]:
    """Add the rewrites of a batch to `memory` however near they are; the similarity is only recorded."""
    indices, largest = memory.nearest(vectors)
    for question, vector in zip(rewritten, vectors, strict=True):
        memory.add(question, vector)
    return [
        Decision("accept", memory.neighbour(int(index)), float(similarity)) if index >= 0 else UNCOMPARED
        for index, similarity in zip(indices, largest, strict=True)
    ]


def rewrite_request(
    question: Question, neighbour: Neighbour, cfg: DiversifyConfig, bait: BaitConfig, round_number: int, run_seed: int
) -> Request:
    """Ask the model to make `question` different from `neighbour`."""
    attempt = question.rewrites + 1
    # Filled in one pass: a `{neighbour}` that the model wrote into its question must stay text.
    prompt = cfg.rewrite_prompt.format(question=question.text, neighbour=neighbour.text)
    return Request(
        key=f"rewrite/{question.index}/{attempt}",
        prompt=prompt,
        temperature=cfg.temperature,
        max_tokens=bait.max_tokens,
        seed=request_seed(run_seed, round_number, "rewrite", question.index, attempt),
        stop=tuple(bait.stop),
    )
