"""What the files and the memory of a round cost, by number of questions: `python -m benchmarks size`.

Everything runs without an engine, each measurement in a process of its own:

- self-deduplication: one block of candidates against so many accepted questions with random vectors
- journal: so many completions are appended, and the journal is opened again, as an interrupted run does
- votes: so many votes with eight answers each are written and read, as at the end of a round and by every reader
- readers: `crescent report`, `compare` and `trace` on a finished smoke run whose first round has so many votes

Time is CPU time of all cores, so other work on the machine matters little. Memory is the growth of the process's
resident memory; while votes are written, of its largest one.
"""

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil

from benchmarks import save
from benchmarks.client import PROMPT, TEXT
from benchmarks.tables import Row, show
from crescent.engine.journal import Journal
from crescent.models.embedders import Vectors
from crescent.records import Answer, Completion, Pair, Question, Request, Vote, digest, read_lines, write_lines
from crescent.run_folder.manifest import MANIFEST, seal
from crescent.synthesis.diversify import Memory
from crescent.synthesis.stream import BLOCK

DIMENSIONS = 384
SAMPLES = 8
BLOCKS = 4
"""Number of blocks whose comparison is timed."""
ROUND = "round-1"
STAGES = (
    "base/eval",
    *(f"{ROUND}/{stage}" for stage in ("synthesis", "pairs", "train", "eval", "verdict")),
)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks size", description=__doc__.splitlines()[0])
    parser.add_argument("--known", default="10000,100000,1000000", help="numbers of accepted questions")
    parser.add_argument("--completions", default="10000,100000,1000000", help="numbers of completions in a journal")
    parser.add_argument("--votes", default="1000,10000,100000", help="numbers of votes in a file")
    parser.add_argument("--readers", default="1000,10000,100000", help="numbers of votes in a run that is read")
    options = parser.parse_args(arguments)
    tables: dict[str, list[Row]] = {}
    for name, measure in MEASURES.items():
        sizes = [int(size) for size in getattr(options, name).split(",") if size]
        tables[name] = [in_a_process(measure, size) for size in sizes]
        if tables[name]:
            show(TITLES[name], tables[name])
    print(f"saved: {save('size', tables)}")


def in_a_process(measure: Callable[[int], Row], size: int) -> Row:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(measure, size).result()


def resident() -> int:
    """Memory of this process, in bytes."""
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def cosines_by_known(known: int) -> Row:
    """Time to compare one block of candidates with so many accepted questions."""
    dice = np.random.default_rng(0)
    piece, memory, before = _unit(dice, 4096), Memory(), resident()
    for index in range(known):
        memory.add(Question(f"{index:016x}", TEXT[:190], 1, index, "bait", 0), piece[index % len(piece)])
    grown = resident() - before
    candidates = _unit(dice, BLOCKS * BLOCK)
    memory.nearest(candidates[:BLOCK])
    spent = time.process_time()
    for start in range(0, len(candidates), BLOCK):
        memory.nearest(candidates[start : start + BLOCK])
    blocks = len(candidates) / BLOCK
    return {
        "known": known,
        "CPU ms a block": 1000 * (time.process_time() - spent) / blocks,
        "bytes a question": round(grown / known),
    }


def _unit(dice: np.random.Generator, number: int) -> Vectors:
    vectors = dice.standard_normal((number, DIMENSIONS), dtype=np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def journal_of(completions: int) -> Row:
    """Time to append so many completions, and to open the journal again."""
    with tempfile.TemporaryDirectory() as folder:
        path, before = Path(folder) / "journal.jsonl", resident()
        spent = time.process_time()
        with Journal(path) as journal:
            for index in range(completions):
                journal.append(_request(index), Completion(f"{TEXT} {index}", "stop", tokens=250, prompt_tokens=80))
            appended, grown = time.process_time() - spent, resident() - before
        size = path.stat().st_size
        spent = time.process_time()
        with Journal(path) as journal:
            opened = time.process_time() - spent
            spent = time.process_time()
            found = [journal.find(_request(index)) for index in range(0, completions, 101)]
            looked_up = time.process_time() - spent
        assert all(found)
    return {
        "completions": completions,
        "file, bytes each": round(size / completions),
        "append, ms each": 1000 * appended / completions,
        "open, s": opened,
        "look up, ms each": 1000 * looked_up / len(found),
        "memory, bytes each": round(grown / completions),
    }


def _request(index: int) -> Request:
    return Request(f"answer/{index // SAMPLES:016x}/{index % SAMPLES}", PROMPT, 0.8, 1024, seed=index)


def votes_of(number: int) -> Row:
    """Time and memory to write a file of so many votes, and to read it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "votes.jsonl"
        start = resident()
        votes = [_vote(index) for index in range(number)]
        held, spent = resident(), time.process_time()
        write_lines(path, votes)
        written = time.process_time() - spent
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        del votes
        spent = time.process_time()
        count = len(read_lines(path, Vote))
        read, size = time.process_time() - spent, path.stat().st_size
    assert count == number
    return {
        "votes": number,
        "file, bytes each": round(size / number),
        "write, s": written,
        "read, s": read,
        "held, bytes each": round((held - start) / number),
        "while writing, bytes each": round((peak - start) / number),
    }


def _vote(index: int) -> Vote:
    id_ = digest(index)
    question = Question(id_, f"{PROMPT[:180]} {index}", 1, index, "bait", index, similarity=0.5)
    answers = tuple(
        Answer(id_, sample, sample, f"{TEXT} {index} {sample}", "84", "stop", tokens=250) for sample in range(SAMPLES)
    )
    return Vote(question, answers, (0,) * SAMPLES, "84", SAMPLES, SAMPLES)


def readers_of(number: int) -> Row:
    """Time and memory of the commands that read a run whose first round has so many votes."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        _smoke(run)
        pair = _inflate(run, number)
        row: Row = {"votes": number}
        for name, arguments in {
            "report": ["report", str(run)],
            "compare": ["compare", str(run)],
            "trace": ["trace", pair, "--run", str(run)],
        }.items():
            process = subprocess.Popen([sys.executable, "-P", "-m", "crescent", *arguments], stdout=subprocess.DEVNULL)
            _, status, used = os.wait4(process.pid, 0)
            if status:
                raise RuntimeError(f"crescent {' '.join(arguments)} ended with status {status}")
            row |= {
                f"{name}, CPU s": used.ru_utime + used.ru_stime,
                f"{name}, MiB": round(used.ru_maxrss / 1024),
            }
    return row


def _smoke(run: Path) -> None:
    """A finished run of one round on the fake engine and the fake trainer."""
    few = (
        "run.rounds=1",
        "bait.questions=24",
        "eval.benchmarks.sums_dev.items=40",
        "eval.benchmarks.sums_test.items=30",
    )
    place = (f"run.root={run.parent}", f"run.name={run.name}")
    loop = [sys.executable, "-P", "-m", "crescent.loop", "+experiment=smoke", *place, *few]
    subprocess.run(loop, check=True, stdout=subprocess.DEVNULL)


def _inflate(run: Path, number: int) -> str:
    """Give the first round so many votes, candidates and pairs, and seal all stages again; returns the id of a pair."""
    synthesis, pairs = run / ROUND / "synthesis", run / ROUND / "pairs"
    votes = [_vote(index) for index in range(number)]
    write_lines(synthesis / "votes.jsonl", votes)
    write_lines(synthesis / "candidates.jsonl", ({"question": vote.question, "outcome": "accepted"} for vote in votes))
    new = list(_pairs(votes))
    for name in ("new.jsonl", "pairs.jsonl"):
        write_lines(pairs / name, new)
    digests: dict[str, str] = {}
    for stage in STAGES:
        manifest = json.loads((run / stage / MANIFEST).read_text())
        made_from = manifest["made_from"]
        inputs = {name: digests.get(input_, input_) for name, input_ in made_from["inputs"].items()}
        about = {"metrics": manifest["metrics"], "seconds": manifest["seconds"]}
        sealed = seal(run / stage, {**about, "made_from": {**made_from, "inputs": inputs}})
        digests[manifest["digest"]] = sealed["digest"]
    return new[number // 2].id


def _pairs(votes: Sequence[Vote]) -> Iterator[Pair]:
    for vote in votes:
        question, text = vote.question, vote.answers[0].text
        identity = digest(question.id, 0, question.text)
        yield Pair(identity, question.id, 1, question.text, text, "84", vote.agreement)


MEASURES: dict[str, Callable[[int], Row]] = {
    "known": cosines_by_known,
    "completions": journal_of,
    "votes": votes_of,
    "readers": readers_of,
}
TITLES = {
    "known": f"Self-deduplication: one block of {BLOCK} candidates, {DIMENSIONS} dimensions",
    "completions": "Journal",
    "votes": f"File of votes, {SAMPLES} answers each",
    "readers": "Commands that read a run",
}
