"""Adaptive voting against asking all K: `python -m benchmarks votes`. Recorded answers, no engine, seconds."""

import argparse
from collections.abc import Sequence
from dataclasses import replace

from benchmarks import save
from benchmarks.replay import ARITHMETIC, NO_REPEATS, WORDS, replay
from benchmarks.tables import Row, show
from crescent.config import ConsensusConfig
from crescent.records import Vote
from crescent.synthesis.consensus import is_kept, samples_to_ask, vote

SAMPLES = (4, 5, 8)
"""Of the 8 that are recorded."""
CUTS = (0.0, 0.3, 0.5, 0.7)


def main(arguments: Sequence[str]) -> None:
    argparse.ArgumentParser("python -m benchmarks votes", description=__doc__).parse_args(arguments)
    rows: list[Row] = []
    for name, recorded in (("arithmetic", ARITHMETIC), ("words", WORDS)):
        votes = replay(recorded.engine(), recorded.synthesis(diversify=NO_REPEATS)).votes
        for samples in SAMPLES:
            for cut in CUTS:
                cfg = replace(recorded.consensus, samples=samples, min_agreement=cut)
                rows.append({"recording": name, "K": samples, "cut": cut, **compare(votes, cfg)})
    show("Adaptive voting ÷ asking all K, on recorded answers of SmolLM2-135M-Instruct", rows)
    print(f"saved: {save('votes', {'rows': rows})}")


def compare(votes: Sequence[Vote], cfg: ConsensusConfig) -> Row:
    """What both ways keep, and what they pay for it."""
    full = [first(its, cfg.samples) for its in votes]
    few = [adaptively(its, replace(cfg, adaptive=True)) for its in votes]
    kept, kept_too = ([its.winner if is_kept(its, cfg) else None for its in some] for some in (full, few))
    pairs = sum(winner is not None for winner in kept)
    tokens, tokens_too = (sum(answer.tokens for its in some for answer in its.answers) for some in (full, few))
    return {
        "questions": len(votes),
        "kept": pairs,
        "same outcome": sum(one == other for one, other in zip(kept, kept_too, strict=True)),
        "samples": sum(its.of for its in few) / len(votes),
        "samples ÷ K": sum(its.of for its in few) / (cfg.samples * len(votes)),
        "tokens a pair, all K": tokens / pairs if pairs else None,
        "adaptive": tokens_too / pairs if pairs else None,
        "tokens ÷ all K": tokens_too / tokens,
    }


def first(decided: Vote, samples: int, keep_ties: bool = False) -> Vote:
    """The vote had only so many samples been asked."""
    return vote(decided.question, decided.answers[:samples], decided.classes[:samples], keep_ties)


def adaptively(decided: Vote, cfg: ConsensusConfig) -> Vote:
    asked = 0
    while more := samples_to_ask(decided.classes[:asked], cfg):
        asked += more
    return first(decided, asked)
