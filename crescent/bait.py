"""Paper step I: the bait prompt makes the model invent questions; no seed data.

Source: Crescent (arXiv 2502.13441), section on bait prompting.
"""

import re
import unicodedata

from crescent.config import BaitConfig
from crescent.records import Completion, Request, request_seed

WRAPPERS = ('"', "'", "“", "”", "**", "`")
# Possessive quantifiers (++) keep the search linear: a model can write ten thousand spaces. What `1` opened is closed.
LABEL = re.compile(
    r"^(?:#++\s*+)?(\*++)?+\s*+(?:math(?:ematical)?\s++)?(?:word\s++)?(?:problem|question)\s*+"
    r"(?(1)(?:\1\s*+:|:\s*+\1)|:)\s*+",
    re.I,
)
# Of the chat templates of Llama 3, Qwen, Phi (bars), DeepSeek (wide bars), Llama 2 and Mistral (INST), Gemma (turn).
CHAT_TOKEN = re.compile(
    r"<[|｜][^|｜<>\s]{2,40}[|｜]>|</?s>|<</?SYS>>|\[/?INST\]|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>"
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
        stop=tuple(cfg.stop),
    )


def read_question(completion: Completion, min_characters: int) -> str | None:
    """The question a completion contains, or `None` when it has none (cut off, refused, empty).

    A question with a token of a chat template in it is none either: asked again, it would speak as another turn.

    Only what surrounds the question is taken away (a label, quotes, control characters): numbers, signs, formulas and
    everything after the first question mark stay as they were written, and a question needs no question mark.
    """
    if completion.finish_reason != "stop":
        return None
    text = "".join(map(_visible, completion.text.replace("\r\n", "\n"))).strip()
    if CHAT_TOKEN.search(text):
        return None
    text = _unwrap(LABEL.sub("", _unwrap(text), count=1))
    return text if len(text) >= min_characters else None


def _visible(character: str) -> str:
    if character in KEPT_CONTROLS or unicodedata.category(character)[0] != "C":
        return character
    return " " if character.isspace() else ""  # "5\r6" is not 56


def _unwrap(text: str) -> str:
    """Without quotes or bold around the whole of it."""
    for mark in WRAPPERS:
        opening, closing = mark, {"“": "”"}.get(mark, mark)
        inside = text[len(opening) : -len(closing)]
        if len(text) > len(opening + closing) and text.startswith(opening) and text.endswith(closing):
            text = inside if opening not in inside else text
    return text.strip()
