"""Benchmark items are embedded once on a machine: their vectors are kept by digest, and damage costs time only."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest

from crescent.config import DiversifyConfig, Embedder
from crescent.models.embedders import DIMENSIONS, Embed, Vectors, idle_device, lexical_vectors
from crescent.models.vector_cache import embed_once, embedder_digest

MATHS = [f"What is {number} + 1?" for number in range(300)]
SCIENCE = ["Why does ice float?", "Which gas do plants take in?"]


class Counting:
    """An embedder that notes what it is asked, and how often it is opened."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.opened = 0

    def __call__(self) -> AbstractContextManager[Embed]:
        @contextmanager
        def embedder() -> Iterator[Embed]:
            self.opened += 1
            yield self.embed

        return embedder()

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.asked += texts
        return lexical_vectors(texts)


def embedded(
    folder: Path,
    *lists: list[str],
    model: str | None = "m",
    progress: Callable[[int, int], None] = lambda done, total: None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Vectors, Counting]:
    embedder = Counting()
    return embed_once(lists, model, embedder, progress, say, folder), embedder


def test_the_second_run_embeds_nothing_and_gets_the_same_vectors(tmp_path: Path) -> None:
    first, embedder = embedded(tmp_path, MATHS, SCIENCE)
    assert embedder.asked == MATHS + SCIENCE
    assert embedder.opened == 1
    again, idle = embedded(tmp_path, MATHS, SCIENCE)
    assert idle.opened == 0, "not even the model is loaded"
    assert np.array_equal(first, again)
    assert np.array_equal(first, lexical_vectors(MATHS + SCIENCE))


def test_another_benchmark_another_item_or_another_model_is_embedded_anew(tmp_path: Path) -> None:
    embedded(tmp_path, MATHS)
    both, embedder = embedded(tmp_path, SCIENCE, MATHS)
    assert embedder.asked == SCIENCE, "benchmarks are kept apart"
    assert np.array_equal(both, lexical_vectors(SCIENCE + MATHS)), "in the order in which they were asked for"
    assert embedded(tmp_path, MATHS[:-1])[1].asked == MATHS[:-1]
    assert embedded(tmp_path, MATHS, model="another")[1].asked == MATHS


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(file.read_bytes()[:200]),
        lambda file: file.write_bytes(b""),
        lambda file: np.save(file, np.zeros((3, DIMENSIONS), dtype=np.float32)),
        lambda file: np.save(file, np.full((300, DIMENSIONS), np.nan, dtype=np.float32)),
        lambda file: np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True),
    ],
)
def test_a_damaged_file_is_made_again(damage: Callable[[Path], None], tmp_path: Path) -> None:
    embedded(tmp_path, MATHS)
    [file] = tmp_path.glob("*.npy")
    damage(file)
    vectors, embedder = embedded(tmp_path, MATHS)
    assert embedder.asked == MATHS
    assert np.array_equal(vectors, lexical_vectors(MATHS))
    assert embedded(tmp_path, MATHS)[1].asked == []


def test_progress_counts_all_lists_and_ends_at_the_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    embedded(tmp_path, MATHS, SCIENCE, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(256, 302), (300, 302), (302, 302)]


def test_a_folder_that_cannot_be_written_costs_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    lines: list[str] = []
    vectors, _ = embedded(tmp_path / "file" / "below", SCIENCE, say=lines.append)
    assert np.array_equal(vectors, lexical_vectors(SCIENCE))
    assert "are not kept for the next run" in lines[0]


def test_nothing_is_kept_of_a_model_that_is_not_identified(tmp_path: Path) -> None:
    embedded(tmp_path, SCIENCE, model=None)
    assert embedded(tmp_path, SCIENCE, model=None)[1].asked == SCIENCE
    assert not list(tmp_path.iterdir())
    assert embedded(tmp_path)[0].shape == (0, DIMENSIONS)


def test_a_model_is_identified_by_its_files(tmp_path: Path) -> None:
    cfg = DiversifyConfig(embedder=Embedder.minilm, path=str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    first = embedder_digest(cfg, "base")
    assert first == embedder_digest(cfg, "another base")
    (tmp_path / "model.safetensors").write_bytes(b"Weights")
    assert embedder_digest(cfg, "base") != first
    assert embedder_digest(DiversifyConfig(embedder=Embedder.minilm, path="some/hub-id"), "base") is None
    assert embedder_digest(DiversifyConfig(embedder=Embedder.lexical), "base") is None
    own = DiversifyConfig(embedder=Embedder.self)
    assert embedder_digest(own, "base") != embedder_digest(own, "another base")


class Cuda:
    """A GPU with so much free memory, in GiB; `None`: there is none; a string: the error that asking for it raises."""

    def __init__(self, free: float | str | None) -> None:
        self.free = free

    def is_available(self) -> bool:
        return self.free is not None

    def mem_get_info(self) -> tuple[int, int]:
        if isinstance(self.free, str):
            raise RuntimeError(self.free)
        return int((self.free or 0) * (1 << 30)), 80 << 30


@pytest.mark.parametrize(
    ("free", "device"),
    [(70.0, "cuda"), (1.0, "cpu"), (None, "cpu"), ("CUDA-capable device(s) is/are busy or unavailable", "cpu")],
)
def test_a_gpu_is_used_only_if_it_has_memory_to_spare(free: float | str | None, device: str) -> None:
    assert idle_device(Cuda(free)) == device
