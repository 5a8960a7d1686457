"""Paper step I: the bait prompt makes the model invent questions; no seed data.

Source: Crescent (arXiv 2502.13441), section on bait prompting. `crescent/synthesis/bait_pool.py` makes many baits and
decides how often each is used; `crescent/synthesis/extraction.py` reads the question from a completion.
"""

from crescent.config import BaitConfig
from crescent.records import Bait, Completion, Request, request_seed
from crescent.synthesis.extraction import extract_question


def bait_request(bait: Bait, index: int, cfg: BaitConfig, round_number: int, run_seed: int) -> Request:
    """The request for candidate question `index` of a round. The seed does not depend on the bait."""
    return Request(
        key=f"question/{index}",
        prompt=bait.prompt,
        temperature=cfg.temperature,
        max_tokens=cfg.max_tokens,
        seed=request_seed(run_seed, round_number, "question", index),
        stop=tuple(cfg.stop),
    )


def read_question(completion: Completion, min_characters: int) -> str | None:
    """The question a completion contains, or `None`; `extract_question` also gives the reason."""
    return extract_question(completion, min_characters).text
