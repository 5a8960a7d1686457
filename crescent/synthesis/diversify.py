"""Paper step II: self-deduplication. Compare with all earlier questions, rewrite what is too near, compare again.

One metric (cosine) and one threshold, inside a round and against every earlier round. Source: Crescent
(arXiv 2502.13441), section on diversification; re-checking rewrites is ours, and `decide_released` is the rule without.
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
"""Vectors in one piece of memory."""
DECIMALS = 6
"""Cosines equal up to here are equal: 2 + 3 is as far from 2 + 4 as from 2 + 5, and how they are summed must not say
which is nearer."""
SLACK = 1e-3
"""How far below the largest cosine in single precision the largest of all may come out, with room to spare: a sum of d
products of unit vectors is off by 6e-8 · d at most."""


@dataclass(frozen=True)
class Neighbour:
    """What a later question needs to know of an earlier one."""

    id: str
    text: str


class Memory:
    """Ids, texts and vectors of all accepted questions, and nothing else of them: about 1.9 kB each at 384 dimensions.

    It grows by pieces of `ROWS` vectors, so that what is there is never copied.
    """

    def __init__(self) -> None:
        # As UTF-8: one "π" would make a `str` of 250 characters twice as large.
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

    def neighbour(self, place: int) -> Neighbour:
        """The question that was added as number `place`, counted from 0."""
        its_id, text = self._ids[place], self._texts[place]
        return Neighbour(its_id.decode("utf-8", "surrogatepass"), text.decode("utf-8", "surrogatepass"))

    def vectors(self, places: Iterable[int]) -> Vectors:
        """Of the questions at these places, in this order."""
        rows = [self._pieces[place // ROWS][place % ROWS] for place in places]
        return np.stack(rows) if rows else np.zeros((0, 0), dtype=np.float32)

    def nearest(self, vectors: Vectors) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Of each vector the nearest question's place and cosine; the earliest of several that are equally near.

        When there are none: place -1, cosine minus infinity.
        """
        if not len(vectors):
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        places = np.full(len(vectors), -1, dtype=np.int64)
        largest = np.full(len(vectors), -np.inf)
        for start, piece in zip(range(0, len(self), ROWS), self._pieces, strict=True):
            known = piece[: len(self) - start]
            # In single precision for all; in double precision only for those that may turn out to be the nearest.
            rough = vectors @ known.T
            floor = np.maximum(rough.max(axis=1), largest) - SLACK
            rows, columns = np.nonzero(rough >= floor[:, None])
            exact = _pairwise_cosines(vectors, rows, known, columns)
            nearer = exact > largest[rows]
            rows, columns, exact = rows[nearer], columns[nearer], exact[nearer]
            order = np.lexsort((columns, -exact, rows))
            rows, first = np.unique(rows[order], return_index=True)
            places[rows], largest[rows] = start + columns[order][first], exact[order][first]
        return places, largest


def cosines(vectors: Vectors, others: Vectors) -> NDArray[np.float64]:
    """Of each unit vector with each other, shape (vectors, others), to `DECIMALS` decimals."""
    products = vectors.astype(np.float64) @ others.astype(np.float64).T
    return np.round(products, DECIMALS) + 0.0  # no -0.0


def _pairwise_cosines(
    vectors: Vectors, rows: NDArray[np.int64], others: Vectors, columns: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Of `vectors[row]` with `others[column]`, pair by pair."""
    found = np.empty(len(rows))
    for start in range(0, len(rows), ROWS):  # in pieces: thousands may be equally near
        some = slice(start, start + ROWS)
        pairs = vectors[rows[some]].astype(np.float64), others[columns[some]].astype(np.float64)
        found[some] = np.einsum("nd,nd->n", *pairs)
    return np.round(found, DECIMALS) + 0.0


@dataclass(frozen=True)
class Decision:
    """What self-deduplication says about one candidate."""

    action: Literal["accept", "rewrite", "drop"]
    neighbour: Neighbour | None
    """The nearest of the questions it was compared with."""
    similarity: float | None
    """Cosine to it."""


UNCOMPARED = Decision("accept", None, None)
"""The very first question's."""


def decide(candidates: Sequence[Question], vectors: Vectors, memory: Memory, cfg: DiversifyConfig) -> list[Decision]:
    """Decide a block of candidates in order, adding the accepted ones to `memory`.

    The outcome is that of comparing one candidate after the other; only the arithmetic is done in blocks.
    """
    known = len(memory)
    inside = cosines(vectors, vectors).tolist()
    places, largest = (its.tolist() for its in memory.nearest(vectors))
    added: list[int] = []
    decisions = []
    for row, candidate in enumerate(candidates):
        place, similarity = places[row], largest[row]
        for number, other in enumerate(added):
            if inside[row][other] > similarity:
                place, similarity = known + number, inside[row][other]
        neighbour = memory.neighbour(place) if place >= 0 else None
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

    Near an earlier candidate of the batch (`threshold`): dropped. Nearer than `history_threshold` to a question of
    `memory`: to be rewritten, and the rewrite accepted unchecked. Theirs are a cosine of 0.85 and a squared Euclidean
    distance of 0.25, which for unit vectors is a cosine of 0.875.
    """
    limit = cfg.threshold if cfg.history_threshold is None else cfg.history_threshold
    inside = cosines(vectors, vectors).tolist()
    places, largest = (its.tolist() for its in memory.nearest(vectors))
    survivors: list[int] = []
    decisions = []
    for row in range(len(batch)):
        beside = max(survivors, key=lambda other: inside[row][other], default=None)
        similarity = -np.inf if beside is None else inside[row][beside]
        if beside is not None and similarity >= cfg.threshold:
            decisions.append(Decision("drop", Neighbour(batch[beside].id, batch[beside].text), similarity))
            continue
        survivors.append(row)
        if largest[row] > limit:
            decisions.append(Decision("rewrite", memory.neighbour(places[row]), largest[row]))
        elif beside is not None and similarity > largest[row]:
            decisions.append(Decision("accept", Neighbour(batch[beside].id, batch[beside].text), similarity))
        elif places[row] >= 0:
            decisions.append(Decision("accept", memory.neighbour(places[row]), largest[row]))
        else:
            decisions.append(UNCOMPARED)
    for candidate, vector, decision in zip(batch, vectors, decisions, strict=True):
        if decision.action == "accept":
            memory.add(candidate, vector)
    return decisions


def accept_unchecked(rewritten: Sequence[Question], vectors: Vectors, memory: Memory) -> list[Decision]:
    """Add the rewrites of a batch to `memory` however near they are; how near is only written down."""
    places, largest = memory.nearest(vectors)
    for question, vector in zip(rewritten, vectors, strict=True):
        memory.add(question, vector)
    return [
        Decision("accept", memory.neighbour(int(place)), float(similarity)) if place >= 0 else UNCOMPARED
        for place, similarity in zip(places, largest, strict=True)
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
