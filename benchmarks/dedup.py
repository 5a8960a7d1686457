"""Speed of self-deduplication, compared with other ways to do the same: `python -m benchmarks dedup`.

Questions are composed from word lists. Two in ten are an earlier question with one word replaced, such as a number or a
name. They are embedded once (`lexical`). Then each contender decides all of them in order, at the same threshold and,
where it can, in the same blocks. Contenders take turns. SemHash decides all questions at once and searches
approximately, so it may keep other questions.

FAISS and SemHash are measured if they are installed (`pip install faiss-cpu semhash`). On a machine with other work,
`OMP_NUM_THREADS=1` before the command makes all of them faster and the comparison fairer.
"""

import argparse
import importlib
import importlib.util
import math
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from typing import Any

import numpy as np
import psutil

from benchmarks import save
from benchmarks.tables import Row, show
from crescent.config import DiversifyConfig
from crescent.models.embedders import Vectors, lexical_vectors
from crescent.records import Question
from crescent.synthesis.diversify import Memory, Neighbour, decide
from crescent.synthesis.stream import BLOCK

CFG = DiversifyConfig(threshold=0.6, max_rewrites=0)
SEMHASH = "SemHash"
SAMPLE = 1000
"""Number of questions on which the Python pairs are timed before their time is extrapolated."""

Kept = list[int]
"""Indices of the questions that are kept."""
Contender = Callable[[list[Question], Vectors], Kept]


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks dedup", description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="1000,10000,100000", help="numbers of questions")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--full", action="store_true", help="run all Python pairs up to 10,000 questions: half an hour or more"
    )
    options = parser.parse_args(arguments)
    sizes = sorted(int(size) for size in options.sizes.split(","))

    texts = questions(sizes[-1])
    started = time.perf_counter()
    vectors = np.concatenate([lexical_vectors(texts[at : at + BLOCK]) for at in range(0, len(texts), BLOCK)])
    embedded_per_s = len(texts) / (time.perf_counter() - started)
    records = [Question(str(index), text, 1, index, bait="", seed=0) for index, text in enumerate(texts)]

    timings: list[Timing] = []
    for size in sizes:
        timings += compete(records[:size], vectors[:size], options.repeats, options.full and size <= 10_000)
    resident = resident_bytes(sizes[-1])
    rows = [row(timing, ours_of(timings, timing.size)) for timing in timings]
    show(f"Self-deduplication of generated questions, {options.repeats} turns each, seconds", rows)
    ours = [ours_of(timings, size) for size in sizes]
    growth = [exponent(smaller, larger) for smaller, larger in pairwise(ours)]
    totals: Row = {
        "embedded/s": embedded_per_s,
        "bytes a question": resident,
        "growth of all, from size to size": growth,
        "growth of one question": [slope - 1 for slope in growth],
        "characters": statistics.mean(map(len, texts)),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
    }
    rounded = {name: value if isinstance(value, str) else str(np.round(value, 2)) for name, value in totals.items()}
    show("Ours", [rounded])
    print(f"saved: {save('dedup', {'rows': rows, 'ours': totals})}")


@dataclass(frozen=True)
class Timing:
    """Times of one contender on one number of questions."""

    contender: str
    size: int
    """Number of questions."""
    seconds: list[float]
    """Time of each turn."""
    kept: Kept | None
    """Questions that it keeps; `None` if the time is extrapolated from a smaller size."""
    note: str = ""


def compete(records: list[Question], vectors: Vectors, repeats: int, full: bool) -> list[Timing]:
    """Time every contender `repeats` times, in turns; then the Python pairs once, on all questions only if `full`."""
    contenders: dict[str, Contender] = {"ours": ours}
    if importlib.util.find_spec("faiss") is not None:
        contenders["FAISS flat"] = faiss_flat
    if importlib.util.find_spec("semhash") is not None:
        contenders[SEMHASH] = semhash
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    kept: dict[str, Kept] = {}
    for _ in range(repeats):
        for name, contender in contenders.items():
            taken, kept[name] = timed(contender, records, vectors)
            seconds[name].append(taken)
    timings = [Timing(name, len(records), seconds[name], kept[name]) for name in contenders]
    return timings + [
        time_pairs(name, contender, records, vectors, kept["ours"], full)
        for name, contender in {"pairs, Python": python_pairs, "pairs, np.dot": numpy_pairs}.items()
    ]


def time_pairs(
    name: str, contender: Contender, records: list[Question], vectors: Vectors, kept: Kept, full: bool
) -> Timing:
    """Time of a pairwise contender: on all questions, or extrapolated from its time per pair on the first `SAMPLE`."""
    size = len(records)
    if full or size <= SAMPLE:
        taken, found = timed(contender, records, vectors)
        return Timing(name, size, [taken], found)
    taken, found = timed(contender, records[:SAMPLE], vectors[:SAMPLE])
    share = pairs_compared(kept, size) / pairs_compared(found, SAMPLE)
    return Timing(name, size, [taken * share], None, f"extrapolated from {SAMPLE:,} by the number of pairs")


def pairs_compared(kept: Kept, size: int) -> int:
    """Number of comparisons when each question is compared with all questions kept before it."""
    return sum(size - 1 - index for index in kept)


def timed(contender: Contender, records: list[Question], vectors: Vectors) -> tuple[float, Kept]:
    """Seconds that a contender takes, and the questions that it keeps."""
    started = time.perf_counter()
    kept = contender(records, vectors)
    return time.perf_counter() - started, kept


def ours(records: list[Question], vectors: Vectors) -> Kept:
    """Crescent's own self-deduplication."""
    memory, kept = Memory(), []
    for start in range(0, len(records), BLOCK):
        block = records[start : start + BLOCK]
        decisions = decide(block, vectors[start : start + BLOCK], memory, CFG)
        accepted = (decision.action == "accept" for decision in decisions)
        kept += [question.index for question, is_kept in zip(block, accepted, strict=True) if is_kept]
    return kept


def faiss_flat(records: list[Question], vectors: Vectors) -> Kept:
    """Exact search in the same blocks as ours. Questions of one block are compared with each other in numpy."""
    faiss: Any = importlib.import_module("faiss")
    index = faiss.IndexFlatIP(vectors.shape[1])
    kept: Kept = []
    for start in range(0, len(records), BLOCK):
        block = vectors[start : start + BLOCK]
        nearest = index.search(block, 1)[0][:, 0] if index.ntotal else np.full(len(block), -1.0)
        inside = block @ block.T
        added: list[int] = []
        for row in range(len(block)):
            largest = max(nearest[row], inside[row, added].max()) if added else nearest[row]
            if largest < CFG.threshold:
                added.append(row)
        index.add(block[added])
        kept += [start + row for row in added]
    return kept


def semhash(records: list[Question], vectors: Vectors) -> Kept:
    """SemHash with its own index and order, on our vectors."""
    library: Any = importlib.import_module("semhash")
    texts = [question.text for question in records]
    places = {text: place for place, text in reversed(list(enumerate(texts)))}

    class Ours:
        def encode(self, inputs: Sequence[str], **_: Any) -> Vectors:
            return vectors[[places[text] for text in inputs]]

    hashed = library.SemHash.from_embeddings(vectors, records=texts, model=Ours())
    return sorted(places[text] for text in hashed.self_deduplicate(threshold=CFG.threshold).selected)


def python_pairs(records: list[Question], vectors: Vectors) -> Kept:
    """Every pair, in plain Python."""
    rows: list[list[float]] = vectors.tolist()
    kept: Kept = []
    for index, vector in enumerate(rows):
        for other in kept:
            if sum(a * b for a, b in zip(vector, rows[other], strict=True)) >= CFG.threshold:
                break
        else:
            kept.append(index)
    return kept


def numpy_pairs(records: list[Question], vectors: Vectors) -> Kept:
    """Every pair, each product in numpy."""
    kept: Kept = []
    for index, vector in enumerate(vectors):
        for other in kept:
            if np.dot(vector, vectors[other]) >= CFG.threshold:
                break
        else:
            kept.append(index)
    return kept


def row(timing: Timing, ours: Timing) -> Row:
    """Row of one contender: its median time with its range, and how it compares with ours on the same questions."""
    low, median, high = min(timing.seconds), statistics.median(timing.seconds), max(timing.seconds)
    same = None
    if timing.kept is not None and ours.kept is not None:
        same = 100 * len(set(timing.kept) & set(ours.kept)) / len(set(timing.kept) | set(ours.kept))
    return {
        "questions": timing.size,
        "contender": timing.contender,
        "median": seconds(median),
        "range": f"[{seconds(low)}, {seconds(high)}]",
        "÷ ours": median / statistics.median(ours.seconds),
        "kept": None if timing.kept is None else len(timing.kept),
        "same questions, %": same,
        "note": timing.note,
    }


def seconds(value: float) -> str:
    """Seconds as text with three significant digits."""
    return f"{value:.3g}"


def ours_of(timings: Sequence[Timing], size: int) -> Timing:
    """Timing of our own self-deduplication on `size` questions."""
    return next(timing for timing in timings if timing.size == size and timing.contender == "ours")


def exponent(smaller: Timing, larger: Timing) -> float:
    """Exponent with which time grows with the number of questions: the slope in a log-log plot."""
    times = statistics.median(larger.seconds) / statistics.median(smaller.seconds)
    return math.log(times) / math.log(larger.size / smaller.size)


def resident_bytes(size: int) -> float:
    """Memory of one question in bytes: growth of a fresh process that holds `size` questions, divided by `size`."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_resident_bytes, size).result()


def _resident_bytes(size: int) -> float:
    texts = questions(512)
    memory = Memory()
    vectors = lexical_vectors(texts)
    memory.nearest(vectors)
    before = psutil.Process().memory_info().rss
    for index in range(size):
        # Each gets its own text, because real questions have their own.
        memory.add(Neighbour(f"{index:016x}", texts[index % 512]), vectors[index % 512])
    return float(psutil.Process().memory_info().rss - before) / size


WORDS = {
    kind: words.split("|")
    for kind, words in {
        "name": "Ada|Bela|Chen|Dora|Emre|Fay|Goran|Hana|Igor|Jun|Kofi|Lea|Milo|Nia|Olga|Piet|Qing|Rosa|Sven|Tala|Uri",
        "works": "bakes|buys|builds|carries|collects|delivers|draws|gathers|grows|packs|paints|picks|plants|sells",
        "things": "apples|baskets|bottles|bricks|candles|carrots|chairs|coins|cups|eggs|flowers|jars|kites|lamps|maps|"
        "letters|loaves|melons|mugs|notebooks|oranges|pans|pencils|pies|plates|posters|ropes|rugs|scarves|shells|shirts|"
        "spoons|stamps|stools|tickets|tiles|toys|trays|tulips|wheels",
        "place": "bakery|bridge|castle|cinema|farm|fountain|garage|harbour|hospital|island|library|market|mill|museum|"
        "office|park|port|school|stadium|station|temple|theatre|tower|village|workshop|zoo",
        "time": "each day|every morning|every week|before noon|on Mondays|in an hour|during a shift|every month",
    }.items()
}
NUMBERS = range(2, 90)
STARTS = (
    "{name} {works} {n} {things} {time} at the {place}",
    "near the {place} {name} {works} {n} {things} {time}",
    "{time} {name} {works} {n} {things}",
)
TURNS = (
    "{n} of them break on the way to the {place}",
    "{name} loses {n} near the {place} and finds {m} again",
    "the {place} takes a share of {n} percent",
    "a friend called {name} adds {n} more at the {place}",
    "{n} {things} are given to the {place} for free",
    "half of them, and {n} besides, go to the {place}",
    "each costs {n} coins at the {place}, but {m} coins in the rain",
)
ENDS = (
    "How many {things} are left after {n} days?",
    "How much money does {name} have in the end?",
    "After how many weeks are there {n} {things}?",
    "What share of the {things} is that, in percent?",
    "How many more {things} does {name} need to fill {n} boxes?",
    "By how much does the number of {things} change in {n} months?",
)


def questions(number: int) -> list[str]:
    """Generated questions of 120 to 250 characters, the same every time."""
    dice = random.Random(0)
    made: list[str] = []
    while len(made) < number:
        near_duplicate = made and dice.random() < 0.2
        made.append(_altered(dice.choice(made), dice) if near_duplicate else _invented(dice))
    return made


def _invented(dice: random.Random) -> str:
    def fill(patterns: Sequence[str]) -> str:
        n, m = dice.choice(NUMBERS), dice.choice(NUMBERS)
        return dice.choice(patterns).format(n=n, m=m, **{kind: dice.choice(words) for kind, words in WORDS.items()})

    return f"{fill(STARTS)}, and {fill(STARTS)}. Then {fill(TURNS)}. {fill(ENDS)}"


def _altered(text: str, dice: random.Random) -> str:
    """The text with one word replaced by another of the same kind."""
    words = text.split(" ")
    kinds = (*WORDS.values(), [str(number) for number in NUMBERS])
    place, kind = dice.choice([(place, kind) for place, word in enumerate(words) for kind in kinds if word in kind])
    return " ".join([*words[:place], dice.choice(kind), *words[place + 1 :]])
