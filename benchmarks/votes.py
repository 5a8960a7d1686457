"""Cost of adaptive voting, compared with asking all K: `python -m benchmarks votes`.

It uses recorded answers and no engine, and takes seconds.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace

from benchmarks import save
from benchmarks.replay import ARITHMETIC, NO_REPEATS, WORDS, replay
from benchmarks.tables import Row, show
from crescent.config import ConsensusConfig
from crescent.records import Vote
from crescent.synthesis.consensus import is_kept, samples_to_ask
from crescent.synthesis.consensus import vote as take_vote

SAMPLES = (4, 5, 8)
"""Values of K. Eight answers are recorded for each question."""
CUTS = (0.0, 0.3, 0.5, 0.7)


def main(arguments: Sequence[str]) -> None:
    argparse.ArgumentParser("python -m benchmarks votes", description=__doc__).parse_args(arguments)
    rows: list[Row] = []
    for name, recorded in (("arithmetic", ARITHMETIC), ("words", WORDS)):
        votes = replay(recorded.engine(), recorded.synthesis(diversify=NO_REPEATS)).votes
        for samples in SAMPLES:
            for cut in CUTS:
                cfg = replace(recorded.consensus, samples=samples, min_agreement=cut)
                rows.append({"recording": name, "K": samples, "cut": cut, **adaptive_and_full(votes, cfg)})
    show("Adaptive voting and asking all K, on recorded answers of SmolLM2-135M-Instruct", rows)
    print(f"saved: {save('votes', {'rows': rows})}")


def adaptive_and_full(votes: Sequence[Vote], cfg: ConsensusConfig) -> Row:
    """Outcome and cost of adaptive asking beside those of asking all K."""
    full = [vote_of_first(vote, cfg.samples) for vote in votes]
    adaptive = [adaptive_vote(vote, replace(cfg, adaptive=True)) for vote in votes]
    winners, adaptive_winners = kept_winners(full, cfg), kept_winners(adaptive, cfg)
    pairs = sum(winner is not None for winner in winners)
    asked = sum(vote.of for vote in adaptive)
    return {
        "questions": len(votes),
        "kept": pairs,
        "same outcome": sum(a == b for a, b in zip(winners, adaptive_winners, strict=True)),
        "samples": asked / len(votes),
        "samples ÷ K": asked / (cfg.samples * len(votes)),
        "tokens a pair, all K": answer_tokens(full) / pairs if pairs else None,
        "adaptive": answer_tokens(adaptive) / pairs if pairs else None,
        "tokens ÷ all K": answer_tokens(adaptive) / answer_tokens(full),
    }


def kept_winners(votes: Sequence[Vote], cfg: ConsensusConfig) -> list[str | None]:
    """Winner of each vote; `None` where the question is dropped."""
    return [vote.winner if is_kept(vote, cfg) else None for vote in votes]


def answer_tokens(votes: Sequence[Vote]) -> int:
    """Number of tokens in all answers."""
    return sum(answer.tokens for vote in votes for answer in vote.answers)


def vote_of_first(decided: Vote, samples: int, keep_ties: bool = False) -> Vote:
    """The vote as it would be if only the first `samples` answers had been asked for."""
    return take_vote(decided.question, decided.answers[:samples], decided.classes[:samples], keep_ties)


def adaptive_vote(decided: Vote, cfg: ConsensusConfig) -> Vote:
    """The vote as it would be if its answers had been asked for adaptively."""
    asked = 0
    while more := samples_to_ask(decided.classes[:asked], cfg):
        asked += more
    return vote_of_first(decided, asked)
