"""Paper step I: the bait prompt makes the model invent questions; no seed data.

Source: Crescent (arXiv 2502.13441), section on bait prompting. Where many baits come from, and how often each is used,
is in `crescent/bait_pool.py`; what is read from a completion in `crescent/extraction.py`.
"""

from crescent.chatter import CHAT_TOKEN
from crescent.config import BaitConfig
from crescent.extraction import extract_question
from crescent.records import Bait, Completion, Request, request_seed

__all__ = ["CHAT_TOKEN", "bait_name", "bait_request", "read_question", "request_from"]


def bait_name(index: int, cfg: BaitConfig) -> str:
    """Bait prompts take turns."""
    names = sorted(cfg.prompts)
    return names[index % len(names)]


def bait_request(index: int, cfg: BaitConfig, round_number: int, run_seed: int) -> Request:
    """The request behind candidate question `index` of a round."""
    name = bait_name(index, cfg)
    return request_from(Bait(name, cfg.prompts[name]), index, cfg, round_number, run_seed)


def request_from(bait: Bait, index: int, cfg: BaitConfig, round_number: int, run_seed: int) -> Request:
    """The request behind candidate question `index` of a round. Its seed is the same whatever the bait."""
    return Request(
        key=f"question/{index}",
        prompt=bait.prompt,
        temperature=cfg.temperature,
        max_tokens=cfg.max_tokens,
        seed=request_seed(run_seed, round_number, "question", index),
        stop=tuple(cfg.stop),
    )


def read_question(completion: Completion, min_characters: int) -> str | None:
    """The question a completion contains, or `None`; `extract_question` also says why."""
    return extract_question(completion, min_characters).text
