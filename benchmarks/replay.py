"""Run the real synthesis on the recordings: `replay(ARITHMETIC.engine(), ARITHMETIC.synthesis())`."""

import asyncio
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from benchmarks.presets import preset
from benchmarks.recorded import FOLDER, RecordedEngine, read_recording
from crescent.config import BaitConfig, ConsensusConfig, DiversifyConfig, Embedder, TaskConfig
from crescent.engine.client import Engine
from crescent.models.embedders import Embed, lexical_vectors
from crescent.synthesis.diversify import Memory
from crescent.synthesis.stream import Synthesis, SynthesisConfig, synthesise
from crescent.tasks import open_task


@dataclass(frozen=True)
class Recorded:
    """A recording, and the settings it was made with."""

    path: Path
    task: TaskConfig
    bait: BaitConfig
    diversify: DiversifyConfig
    consensus: ConsensusConfig

    def engine(self) -> RecordedEngine:
        return RecordedEngine(_read(self.path), baits=len(self.bait.prompts))

    def synthesis(self, **changes: object) -> SynthesisConfig:
        """Settings of a synthesis. `changes` replace the settings of single stages, e.g. `consensus=…`."""
        parts = {"task": self.task, "bait": self.bait, "diversify": self.diversify, "consensus": self.consensus}
        return SynthesisConfig(**{**parts, **changes}, seed=0, round=1)  # type: ignore[arg-type]


_read = cache(read_recording)

NO_REPEATS = DiversifyConfig(embedder=Embedder.lexical, threshold=1.0, max_rewrites=0)
"""Every question is answered except exact repeats."""


def word_baits() -> dict[str, BaitConfig]:
    """Bait presets for word problems, by the name they have in the recording."""
    baits = {
        name: preset("bait", name, BaitConfig, questions=70, max_tokens=256) for name in ("llama3", "llama2", "paper")
    }
    return {**baits, "llama3-cool": replace(baits["llama3"], temperature=0.6)}


ARITHMETIC = Recorded(
    FOLDER / "arithmetic.jsonl.gz",
    preset("task", "arithmetic", TaskConfig),
    preset("bait", "arithmetic", BaitConfig, questions=260),
    DiversifyConfig(embedder=Embedder.lexical, threshold=0.97, max_rewrites=2),
    preset("consensus", "short", ConsensusConfig, adaptive=False),
)
WORDS = Recorded(
    FOLDER / "words.jsonl.gz",
    preset("task", "math", TaskConfig),
    replace(word_baits()["llama3-cool"], questions=50),
    NO_REPEATS,
    preset("consensus", "majority", ConsensusConfig, max_tokens=192, adaptive=False),
)


def replay(engine: Engine, cfg: SynthesisConfig, embed: Embed = lexical_vectors) -> Synthesis:
    """Run the synthesis of one round without any earlier questions."""
    return asyncio.run(first_round(engine, cfg, embed))


async def first_round(engine: Engine, cfg: SynthesisConfig, embed: Embed = lexical_vectors) -> Synthesis:
    """The same as `replay`, inside an event loop."""
    with open_task(cfg.task, cfg.consensus.grading_timeout_s) as task:
        return await synthesise(engine, embed, task, cfg, Memory(), lambda _: None)
