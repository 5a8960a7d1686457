"""Share of the engines' capacity that a synthesis uses, simulated: `python -m benchmarks stream`.

The stream, the client and the journal are Crescent's own; the engines are models of one (`benchmarks.model_engines`),
and time is virtual. So no figure depends on the machine or on what else it does.

A share of 1 would mean that all engines decode full batches from the first moment to the last. Tokens of completions
that were thrown away count as idle time. `tail s` is how long the batches are less than 90% full at the end, `pause s`
the longest time without a decision of self-deduplication: answers wait for these.
"""

import argparse
import asyncio
import random
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from benchmarks import save
from benchmarks.model_engines import BAIT, REWRITE, Faults, Fleet, Model, ModelConnections, ModelEngine, Speed
from benchmarks.tables import Row, show
from benchmarks.virtual_time import VirtualTime
from crescent.config import AnswerStyle, BaitConfig, ConsensusConfig, DiversifyConfig, ServingConfig, TaskConfig
from crescent.engine.client import Client, EngineDied
from crescent.engine.journal import Journal, Journaled
from crescent.models.embedders import Vectors
from crescent.records import digest
from crescent.synthesis.diversify import Memory
from crescent.synthesis.progress import Progress
from crescent.synthesis.stream import BLOCK, Synthesis, SynthesisConfig, synthesise
from crescent.tasks import Task, open_task

ENGINES = (1, 2, 4, 8)
CLIENT_MS = 0.61
"""CPU time per completion of the process that asks: 0.29 of the client (`python -m benchmarks client`), 0.32 of all
else (`python -m benchmarks synthesis`)."""
BUSY_MS = 4 * CLIENT_MS
"""Such a time that is simulated with eight engines, too: the process is as busy as with four times as many engines."""
DIMENSIONS = 32


@dataclass(frozen=True)
class Scenario:
    """What is simulated."""

    engines: int = 1
    questions: int = 1000
    """Number of candidate questions."""
    in_flight: int | None = None
    """Requests in flight for each engine; `None`: as many as a run sends to its own engines."""
    client_ms: float = CLIENT_MS
    """CPU time of the process that asks, per completion, in milliseconds."""
    embed_ms: float = 0.0
    """Time to embed one question, in milliseconds."""
    items: float = 1.0
    """Number of different questions that the model can invent, divided by the number of candidates."""
    adaptive: bool = True
    faults: Faults = field(default_factory=Faults)
    speed: Speed = field(default_factory=Speed)

    @property
    def sent(self) -> int:
        """Largest number of requests in flight."""
        own = ServingConfig(concurrency=self.speed.slots).in_flight(self.engines)
        return own if self.in_flight is None else self.in_flight * self.engines

    def synthesis(self) -> SynthesisConfig:
        return SynthesisConfig(
            TaskConfig(answer_style=AnswerStyle.number),
            BaitConfig({"bait": BAIT}, questions=self.questions),
            DiversifyConfig(threshold=0.99, rewrite_prompt=REWRITE),
            ConsensusConfig(samples=8, adaptive=self.adaptive),
            seed=0,
            round=1,
        )


FAULTS: dict[str, Faults] = {
    "none": Faults(),
    "1% of the attempts: 503": Faults(errors=0.01),
    "one attempt hangs": Faults(hung_attempts=1),
    "a question hangs five times": Faults(hung_attempts=5),
    "an engine hangs after 20 s": Faults(hang_s=20),
    "an engine dies after 20 s": Faults(death_s=20),
}


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks stream", description=__doc__.splitlines()[0])
    parser.add_argument("--engines", default=",".join(map(str, ENGINES)), help="numbers of engines")
    parser.add_argument("--questions", type=int, default=250, help="candidate questions for each engine")
    parser.add_argument("--fault-engines", default="1,4", help="numbers of engines with which faults are simulated")
    options = parser.parse_args(arguments)
    engines, faulty = ([int(n) for n in text.split(",") if n] for text in (options.engines, options.fault_engines))
    scaling = [simulate(Scenario(number, number * options.questions)) for number in engines]
    scaling.append(simulate(Scenario(8, 8 * options.questions, client_ms=BUSY_MS)))
    show("One process that asks, by number of engines; client ms: CPU time of a completion in it", scaling)
    sizes = [simulate(Scenario(1, options.questions * factor)) for factor in (1, 2, 4)]
    show("One engine, by number of candidate questions", sizes)
    in_flight = [simulate(Scenario(1, 4 * options.questions, in_flight=sent)) for sent in (64, 128, 256, 384)]
    show("One engine with 256 slots, by number of requests in flight", in_flight)
    faults = [
        {"fault": name, **simulate(Scenario(number, number * options.questions, faults=given))}
        for number in faulty
        for name, given in FAULTS.items()
    ]
    show("When something goes wrong", faults)
    about = {"speed": asdict(Speed()), "model": asdict(Model(items=options.questions))}
    tables = {"scaling": scaling, "sizes": sizes, "in flight": in_flight, "faults": faults}
    print(f"saved: {save('stream', {**about, **tables})}")


def simulate(scenario: Scenario) -> Row:
    """One round in virtual time. Equal scenarios give equal rows."""
    random.seed(0)  # pauses between two attempts are random
    model = Model(items=max(1, round(scenario.items * scenario.questions)))
    slots = scenario.speed.slots * scenario.engines
    wanted = 0.9 * min(slots, scenario.sent)
    fleet = Fleet(scenario.speed, model, scenario.faults, scenario.client_ms, scenario.questions // 4 + 1, wanted)
    cfg = scenario.synthesis()
    pauses = _Pauses()
    with (
        tempfile.TemporaryDirectory() as folder,
        Journal(Path(folder) / "journal.jsonl") as journal,
        open_task(cfg.task, cfg.consensus.grading_timeout_s) as task,
        asyncio.Runner(loop_factory=VirtualTime) as runner,
    ):
        found, wall_s, restarts = runner.run(_run(scenario, fleet, journal, task, cfg, pauses))
    return {
        "engines": scenario.engines,
        "candidates": scenario.questions,
        "in flight": scenario.sent,
        "client ms": scenario.client_ms,
        "embed ms": scenario.embed_ms,
        "compared": scenario.questions + int(found.metrics["rewrites"]),
        "votes": len(found.votes),
        "completions": fleet.completions,
        "tokens": fleet.tokens,
        "wall s": round(wall_s, 1),
        "share": round(fleet.useful_s / (wall_s * scenario.engines), 3),
        "tail s": round(wall_s - fleet.full_until_s, 1),
        "pause s": round(pauses.longest_s, 1),
        "client busy": round(fleet.client_s / wall_s, 2),
        "completions/s": round(fleet.completions / wall_s),
        "restarts": restarts,
        "digest": digest_of(found),
    }


def digest_of(found: Synthesis) -> str:
    """Digest of the votes and candidates: what went wrong on the way must not change it."""
    return digest(msgspec.json.encode([found.votes, found.candidates]).decode())


class _Pauses:
    """The longest time between two decisions of self-deduplication."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._decided = 0
        self._last_s = 0.0

    def watch(self, progress: Progress) -> None:
        decided, now = progress.questions + progress.rejected, asyncio.get_running_loop().time()
        if decided != self._decided:
            self.longest_s = max(self.longest_s, now - self._last_s)
            self._decided, self._last_s = decided, now


async def _run(
    scenario: Scenario, fleet: Fleet, journal: Journal, task: Task, cfg: SynthesisConfig, pauses: _Pauses
) -> tuple[Synthesis, float, int]:
    """The round, its seconds, and how often it was started again because no engine answered."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTime)
    engines = [ModelEngine(fleet) for _ in range(scenario.engines)]
    by_url = {f"http://127.0.0.1:{8000 + number}/v1": engine for number, engine in enumerate(engines)}
    _plan(scenario, engines)

    def connect(url: str, api_key: str) -> ModelConnections:
        return ModelConnections(url, api_key, by_url[url])

    restarts = 0
    while True:
        timeout_s = ServingConfig().request_timeout_s
        try:
            async with Client([*by_url], "m", "key", scenario.sent, timeout_s, connect=connect) as client:
                embed = partial(_embed, loop, scenario.embed_ms)
                ahead = max(scenario.sent, BLOCK)
                engine = Journaled(client, journal)
                found = await synthesise(engine, embed, task, cfg, Memory(), pauses.watch, ahead=ahead)
                return found, loop.time(), restarts
        except BaseExceptionGroup as group:
            if group.split(EngineDied)[1] is not None:
                raise
        restarts += 1
        await asyncio.sleep(scenario.speed.restart_s)
        for replica in engines:
            replica.restart()


def _plan(scenario: Scenario, engines: Sequence[ModelEngine]) -> None:
    """Let the first engine fail when it shall. Beside others it starts again by itself; a single one is started again
    when the client has given up."""
    loop, faults = asyncio.get_running_loop(), scenario.faults
    if faults.hang_s is not None:
        loop.call_later(faults.hang_s, engines[0].hang)
    if faults.death_s is not None:
        loop.call_later(faults.death_s, engines[0].die)
        if len(engines) > 1:
            loop.call_later(faults.death_s + scenario.speed.restart_s, engines[0].restart)


def _embed(loop: VirtualTime, embed_ms: float, texts: Sequence[str]) -> Vectors:
    """Each item has a random direction."""
    loop.spend(embed_ms / 1000 * len(texts))
    vectors = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
    for row, text in enumerate(texts):
        found = re.search(r"item (\d+)", text)
        assert found is not None
        vectors[row] = np.random.default_rng(int(found[1])).standard_normal(DIMENSIONS)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)
