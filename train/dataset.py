"""Pairs → rows: conversations that the model's own chat template turns into tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crescent.errors import BadConfig, DataSaysNo
from crescent.records import Pair

Message = dict[str, str]
Row = dict[str, list[Message]]


@dataclass(frozen=True)
class Rows:
    kept: list[Row]
    """`prompt` and `completion`, TRL's conversational format; the loss looks at the completion alone
    (https://huggingface.co/docs/trl/dataset_formats#prompt-completion)."""
    tokens: list[list[int]]
    """Token ids of each kept row, prompt and completion."""
    too_long: int
    """Pairs left out because they are longer than `max_length`: a cut answer would teach to stop half way."""


def to_rows(pairs: Sequence[Pair], tokenizer: Any, max_length: int) -> Rows:
    """Rows in the order of `pairs`; the trainer shuffles them with its seed.

    Raises:
        BadConfig: the tokenizer has no chat template.
        DataSaysNo: no pair is short enough.
    """
    rows = [
        Row(
            prompt=[{"role": "user", "content": pair.prompt}],
            completion=[{"role": "assistant", "content": pair.completion}],
        )
        for pair in pairs
    ]
    tokens = tokenize([row["prompt"] + row["completion"] for row in rows], tokenizer)
    fitting = [number for number, ids in enumerate(tokens) if len(ids) <= max_length]
    if not fitting:
        shortest = min(map(len, tokens))
        raise DataSaysNo(
            f"train.max_length={max_length}: all {len(rows)} pairs are longer (the shortest has {shortest} tokens); "
            f"use train.max_length={shortest} or more"
        )
    return Rows(
        kept=[rows[number] for number in fitting],
        tokens=[tokens[number] for number in fitting],
        too_long=len(rows) - len(fitting),
    )


def tokenize(conversations: Sequence[list[Message]], tokenizer: Any, ask: bool = False) -> list[list[int]]:
    """The conversations as token ids by the model's own chat template; with `ask` up to where it answers.

    Raises:
        BadConfig: the tokenizer has no chat template.
    """
    if not tokenizer.chat_template:
        raise BadConfig(
            f"model.path={tokenizer.name_or_path}: its tokenizer has no chat template, so it cannot be asked or taught "
            "in turns; use the instruction-tuned variant of this model"
        )
    ids: list[list[int]] = tokenizer.apply_chat_template(
        list(conversations), add_generation_prompt=ask, return_dict=False
    )
    return ids
