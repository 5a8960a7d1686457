"""Paper step I: the bait prompt makes the model invent questions; no seed data.

Source: Crescent (arXiv 2502.13441), section on bait prompting.
"""

import re
import unicodedata

from crescent.config import BaitConfig
from crescent.records import Completion, Request, request_seed

WRAPPERS = ('"', "'", "“", "”", "**", "`")
LABEL = re.compile(
    r"^(?:#+\s*)?\**\s*(?:math(?:ematical)?\s+)?(?:word\s+)?(?:problem|question)\s*\**\s*:\s*\**\s*", re.I
)
KEPT_CONTROLS = ("\n", "\t")


def bait_name(index: int, cfg: BaitConfig) -> str:
    """Bait prompts take turns."""
    names = sorted(cfg.prompts)
    return names[index % len(names)]


def bait_request(index: int, cfg: BaitConfig, round_number: int, run_seed: int) -> Request:
    """The request behind candidate question `index` of a round."""
    return Request(
        key=f"question/{index}",
        prompt=cfg.prompts[bait_name(index, cfg)],
        temperature=cfg.temperature,
        max_tokens=cfg.max_tokens,
        seed=request_seed(run_seed, round_number, "question", index),
    )


def read_question(completion: Completion, min_characters: int) -> str | None:
    """The question a completion contains, or `None` when it has none (cut off, refused, empty).

    Only what surrounds the question is taken away (a label, quotes, control characters): numbers, signs, formulas and
    everything after the first question mark stay as they were written, and a question needs no question mark.
    """
    if completion.finish_reason != "stop":
        return None
    text = "".join(c for c in completion.text if c in KEPT_CONTROLS or unicodedata.category(c)[0] != "C").strip()
    text = LABEL.sub("", text, count=1)
    for mark in WRAPPERS:
        opening, closing = mark, {"“": "”"}.get(mark, mark)
        inside = text[len(opening) : -len(closing)]
        if len(text) > len(opening + closing) and text.startswith(opening) and text.endswith(closing):
            text = inside if opening not in inside else text
    text = text.strip()
    return text if len(text) >= min_characters else None
