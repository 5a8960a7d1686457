"""Yield of each bait prompt on a served model: `python -m benchmarks baits` (minutes for each bait on two cores).

It starts the engine once and runs one synthesis for each preset of conf/bait, without rewrites and with the same seeds.
"""

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import save
from benchmarks.presets import preset
from benchmarks.record import served
from benchmarks.replay import first_round
from benchmarks.tables import Row, show
from crescent.config import BaitConfig, ConsensusConfig, DiversifyConfig, Dtype, ModelConfig, TaskConfig
from crescent.engine.client import Client, Endpoint
from crescent.models.packaged_model import PACKAGED
from crescent.synthesis.consensus import is_kept
from crescent.synthesis.stream import Synthesis, SynthesisConfig
from train.job import find_base

BAITS = ("arithmetic", "paper", "llama2", "llama3", "pool")
SUMS = {"arithmetic": ("arithmetic", "short", 0.97)}
"""Task, consensus and cosine threshold of each bait that does not ask for word problems."""
WORD_PROBLEMS = ("math", "majority", 0.6)
"""Task, consensus and cosine threshold of all other baits."""


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks baits", description=__doc__)
    parser.add_argument("--bait", default=",".join(BAITS), help="presets of conf/bait, separated by commas")
    parser.add_argument("--questions", type=int, default=60, help="bait completions for each preset")
    parser.add_argument("--max-tokens", type=int, default=256, help="longest question, and longest answer")
    parser.add_argument("--temperature", type=float, help="temperature of the questions, instead of the preset's")
    parser.add_argument("--model", default=f"{PACKAGED}smollm2", help="as model.path; served in float32 on this CPU")
    options = parser.parse_args(arguments)
    model = preset("model", "smollm2", ModelConfig, path=options.model, dtype=Dtype.float32)
    rows = []
    with served(str(find_base(model)), model, Path("runs") / "benchmarks" / "server.log") as endpoint:
        for name in options.bait.split(","):
            bait = preset("bait", name, BaitConfig, questions=options.questions)
            bait = replace(bait, max_tokens=min(bait.max_tokens, options.max_tokens))
            bait = replace(bait, temperature=options.temperature or bait.temperature)
            cfg = settings(name, bait, options.max_tokens)
            rows.append({"bait": name, **yield_of(asyncio.run(ask(endpoint, cfg)), cfg)})
            path = save("baits", {"options": vars(options), "rows": rows})
            print(f"{name}: {rows[-1]['kept']} of {options.questions} kept", flush=True)
    shown = [{name: value for name, value in row.items() if name != "one that is kept"} for row in rows]
    show(f"{options.model}: {options.questions} questions of each bait, K=8", shown)
    print(f"saved: {path}")


def settings(name: str, bait: BaitConfig, max_tokens: int) -> SynthesisConfig:
    """Settings of a synthesis for the bait preset `name`, with answers of at most `max_tokens`."""
    task, consensus, threshold = SUMS.get(name, WORD_PROBLEMS)
    voting = preset("consensus", consensus, ConsensusConfig)
    return SynthesisConfig(
        preset("task", task, TaskConfig),
        bait,
        preset("diversify", "lexical", DiversifyConfig, threshold=threshold, max_rewrites=0),
        replace(voting, max_tokens=min(voting.max_tokens, max_tokens)),
        seed=0,
        round=1,
    )


async def ask(endpoint: Endpoint, cfg: SynthesisConfig) -> Synthesis:
    """Run one synthesis on the served model."""
    async with Client(endpoint.urls, endpoint.model, endpoint.key, concurrency=32, timeout_s=600) as client:
        return await first_round(client, cfg)


def yield_of(found: Synthesis, cfg: SynthesisConfig) -> Row:
    """Row of one bait. "usable": contained a question; "distinct": not near an earlier question. Agreement and silent
    answers are those of adaptive asking."""
    asked = cfg.bait.questions
    usable, distinct, kept, unanimous = (
        sum(getattr(bait, name) for bait in found.baits) for name in ("usable", "accepted", "agreed", "unanimous")
    )
    answers = [answer for vote in found.votes for answer in vote.answers]
    example = next((vote.question.text[:60] for vote in found.votes if is_kept(vote, cfg.consensus)), "")
    return {
        "asked": asked,
        "usable": usable,
        "distinct": distinct,
        "kept": kept,
        "kept / 100 asked": 100 * kept / asked,
        "agreement": found.metrics["agreement"],
        "unanimous": unanimous,
        "silent answers": sum(answer.final is None for answer in answers) / len(answers) if answers else None,
        "answers": len(answers),
        "tokens": found.metrics["tokens"],
        "tokens a pair": found.metrics["tokens"] / kept if kept else None,
        "one that is kept": example,
    }
