"""Vectors of texts that many runs embed, the benchmark items: computed once on a machine.

Ten thousand items take MiniLM a minute on a CPU, in which a GPU node would wait. A file in the cache folder holds the
vectors of one list of texts; its name is a digest of the texts and of the embedding model.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from io import BytesIO
from pathlib import Path

import numpy as np

from crescent.config import DiversifyConfig, Embedder
from crescent.machine.cache import cache_folder
from crescent.machine.disk import write_whole
from crescent.machine.environment import installed
from crescent.models.embedders import DIMENSIONS, PART, Embed, Vectors, find_minilm
from crescent.models.model_digest import folder_digest
from crescent.records import digest

FOLDER = "vectors"
LIBRARIES = ("sentence-transformers", "transformers", "torch")
"""Packages whose versions count: another one may compute slightly other vectors."""

Progress = Callable[[int, int], None]
"""Receives the number of texts that are embedded, and the number of all."""


def embed_once(
    lists: Sequence[Sequence[str]],
    model: str | None,
    opened: Callable[[], AbstractContextManager[Embed]],
    progress: Progress,
    say: Callable[[str], None],
    folder: Path | None = None,
) -> Vectors:
    """Vectors of several lists of texts, one after another; those of a list that was embedded before are read.

    Args:
        model: Digest of the embedding model (`embedder_digest`); `None`: nothing is kept.
        opened: Opens the embedder. It is called only if a list is missing.
        folder: Where the vectors are kept; by default in the cache folder.
    """
    place = (folder or cache_folder() / FOLDER) if model is not None else None
    total, done, found = sum(map(len, lists)), 0, [np.zeros((0, DIMENSIONS), dtype=np.float32)]
    with ExitStack() as stack:
        embed: Embed | None = None
        for texts in lists:
            file = place / f"{digest(model, list(texts))}.npy" if place is not None else None
            vectors = read_vectors(file, len(texts)) if file is not None else None
            if vectors is None:
                if embed is None:
                    embed = stack.enter_context(opened())
                parts = []
                for start in range(0, len(texts), PART):
                    parts.append(embed(texts[start : start + PART]))
                    progress(done + min(start + PART, len(texts)), total)
                vectors = np.concatenate(parts) if parts else found[0]
                if file is not None and len(texts):
                    keep(file, vectors, say)
            done += len(texts)
            found.append(vectors)
    return np.concatenate(found)


def read_vectors(file: Path, count: int) -> Vectors | None:
    """Vectors that were kept; `None` if there are none, or if the file is damaged."""
    try:
        vectors = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    whole = vectors.shape == (count, DIMENSIONS) and vectors.dtype == np.float32
    return vectors if whole and bool(np.isfinite(vectors).all()) else None


def keep(file: Path, vectors: Vectors, say: Callable[[str], None]) -> None:
    """Write vectors for the next run. They are a convenience: a full disk costs a line."""
    written = BytesIO()
    np.save(written, vectors)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, written.getvalue(), shared=True)
    except OSError as error:
        say(f"{file}: vectors are not kept for the next run ({error.strerror})")


def embedder_digest(cfg: DiversifyConfig, model: str) -> str | None:
    """Digest of the embedding model and of the libraries that run it; `None` where there is nothing worth keeping
    (`lexical` is as fast as reading), or where the model cannot be identified (it is not on this machine yet).

    Args:
        model: Digest of the base model, for `embedder=self`.
    """
    match cfg.embedder:
        case Embedder.lexical:
            return None
        case Embedder.minilm:
            folder = Path(cfg.path or find_minilm()).expanduser()
        case Embedder.self:
            if cfg.path is None:
                return digest("self", model, _versions())
            folder = Path(cfg.path).expanduser()
    return digest(cfg.embedder.value, folder_digest(folder), _versions()) if folder.is_dir() else None


def _versions() -> list[str]:
    return [f"{name} {installed(name)}" for name in LIBRARIES]
