"""Record a real synthesis: `python -m benchmarks record [--out FOLDER] [--only arithmetic|words]`.

It does not ask again for completions that the folder's recording already holds. So after a change in how questions are
read, the same command asks only for what is missing, and drops what no stage asks for any more.
"""

import argparse
import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.presets import preset
from benchmarks.recorded import FOLDER, REWRITES, Recording, Row, read_recording, sample_of, write_recording
from benchmarks.replay import ARITHMETIC, NO_REPEATS, WORDS, first_round, word_baits
from crescent.config import BaitConfig, ModelConfig, ServingConfig, TrainConfig
from crescent.engine.client import Client, Endpoint, Engine
from crescent.engine.server import Server
from crescent.models.packaged_model import packaged_model
from crescent.records import Checkpoint, Completion, Request, read_lines, request_seed, to_line
from launch.local import LocalLaunch


class Recorder:
    """An engine that answers from an earlier recording if it can, otherwise from the model."""

    def __init__(self, engine: Engine, known: Recording, baits: int, journal: Path) -> None:
        self.engine = engine
        self.known = known
        self.baits = baits
        self.journal = journal
        """File to which every new completion is written at once, so that an interrupted recording can resume."""
        self.recording = Recording()
        """All completions that were asked for."""
        self._new = 0
        self._tokens = 0

    async def complete(self, request: Request) -> Completion:
        kind, wanted = request.key.split("/")[0], sample_of(request, self.baits)
        if kind == "rewrite":
            rewrites = await asyncio.gather(*(self._answer(kind, request, sample) for sample in range(REWRITES)))
            return rewrites[wanted]
        return await self._answer(kind, request, wanted)

    async def _answer(self, kind: str, request: Request, sample: int) -> Completion:
        completion = self.known.find(kind, request, sample)
        is_new = completion is None
        if completion is None:
            seed = request_seed(0, "recording", kind, request.prompt, request.temperature, sample)
            completion = await self.engine.complete(replace(request, seed=seed))
        asked = (kind, request.prompt, request.temperature, request.max_tokens, request.stop, sample)
        row = Row(*asked, completion.text, completion.finish_reason, completion.tokens)
        self.recording.add(row)
        if is_new:
            self.known.add(row)
            self._append(row)
        return completion

    def _append(self, row: Row) -> None:
        with self.journal.open("ab") as journal:
            journal.write(to_line(row))
        self._new += 1
        self._tokens += row.tokens
        if self._new % 100 == 0:
            print(f"{self.journal.name}: {self._new} new completions, {self._tokens} tokens", flush=True)


async def record_questions(engine: Engine, bait: BaitConfig) -> None:
    """Ask for the completions of a bait prompt, without reading questions in them."""
    (prompt,) = bait.prompts.values()
    settings = (prompt, bait.temperature, bait.max_tokens, 0, tuple(bait.stop))
    await asyncio.gather(*(engine.complete(Request(f"question/{index}", *settings)) for index in range(bait.questions)))


async def record_arithmetic(engine: Engine) -> None:
    await first_round(engine, ARITHMETIC.synthesis(diversify=NO_REPEATS))
    await first_round(engine, ARITHMETIC.synthesis())


async def record_words(engine: Engine) -> None:
    for bait in word_baits().values():
        await record_questions(engine, bait)
    await first_round(engine, WORDS.synthesis())


PARTS = {"arithmetic": (record_arithmetic, len(ARITHMETIC.bait.prompts)), "words": (record_words, 1)}
"""Parts of the recording, by name: the function that records one, and the number of bait prompts that take turns."""


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks record", description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the recordings")
    parser.add_argument("--only", choices=PARTS, help="one part instead of all")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    model = preset("model", "smollm2", ModelConfig)
    with served(str(packaged_model()), model, Path("runs") / "record-server.log") as endpoint:
        for name in PARTS:
            if options.only in (None, name):
                asyncio.run(record(name, endpoint, options.out / f"{name}.jsonl.gz"))


async def record(name: str, endpoint: Endpoint, path: Path) -> None:
    """Complete the recording at `path`, starting from what an interrupted attempt left beside it."""
    part, baits = PARTS[name]
    known, journal = read_recording(path), path.with_suffix(".partial")
    for row in read_lines(journal, Row) if journal.exists() else ():
        known.add(row)
    async with Client(endpoint.urls, endpoint.model, endpoint.key, concurrency=32, timeout_s=600) as client:
        engine = Recorder(client, known, baits, journal)
        await part(engine)
    write_recording(path, engine.recording)
    journal.unlink(missing_ok=True)
    print(f"{path}: {len(engine.recording)} completions, {path.stat().st_size / 1024:.0f} kB", flush=True)


@contextmanager
def served(weights: str, model: ModelConfig, log: Path) -> Iterator[Endpoint]:
    """Endpoint of the real server with the model in the folder `weights`, on this CPU."""
    serving = preset("serving", "vllm_cpu", ServingConfig)
    server = Server(serving, model, TrainConfig(), LocalLaunch(grace_s=20), "benchmark", log, print)
    try:
        yield server.serve(Checkpoint("benchmark-base", 0, "base", weights=weights))
    finally:
        server.stop()
