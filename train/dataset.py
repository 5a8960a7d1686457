"""Turn pairs into rows: conversations that the model's own chat template turns into tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crescent.errors import DataSaysNo
from crescent.records import Pair
from train.template import Message, answers_as_served, assistant_turn, render, user_turn

Row = dict[str, list[Message]]


@dataclass(frozen=True)
class Rows:
    """Rows for supervised fine-tuning."""

    kept: list[Row]
    """Rows with `prompt` and `completion`, TRL's conversational format
    (https://huggingface.co/docs/trl/dataset_formats#prompt-completion). The loss counts the completion only."""
    tokens: list[list[int]]
    """Token ids of each kept row, prompt and completion."""
    too_long: int
    """Number of pairs left out because they exceed `max_length`. Cut answers would teach the model to stop half way."""


def to_rows(pairs: Sequence[Pair], tokenizer: Any, max_length: int) -> Rows:
    """Rows in the order of `pairs`; the trainer shuffles them with its seed.

    Raises:
        BadConfig: the tokenizer has no chat template, or the rows would not begin as the server is asked.
        DataSaysNo: no pair is short enough.
    """
    prompts = [pair.prompt for pair in pairs]
    completions = answers_as_served(prompts, [pair.completion for pair in pairs], tokenizer)
    rows = [
        Row(prompt=user_turn(prompt), completion=assistant_turn(completion))
        for prompt, completion in zip(prompts, completions, strict=True)
    ]
    tokens = tokenize([row["prompt"] + row["completion"] for row in rows], tokenizer)
    fitting = indices_that_fit([len(ids) for ids in tokens], max_length, "pairs")
    return Rows(
        kept=[rows[index] for index in fitting],
        tokens=[tokens[index] for index in fitting],
        too_long=len(rows) - len(fitting),
    )


def indices_that_fit(lengths: Sequence[int], max_length: int, name: str) -> list[int]:
    """Indices of the sequences of at most `max_length` tokens; `name` says in an error what they are.

    Raises:
        DataSaysNo: none fits.
    """
    fitting = [index for index, length in enumerate(lengths) if length <= max_length]
    if not fitting:
        raise DataSaysNo(
            f"train.max_length={max_length}: all {len(lengths)} {name} are longer (the shortest has {min(lengths)} "
            f"tokens); use train.max_length={min(lengths)} or more"
        )
    return fitting


def tokenize(conversations: Sequence[list[Message]], tokenizer: Any, ask: bool = False) -> list[list[int]]:
    """Token ids of the conversations by the model's own chat template. With `ask`, each ends where the model's answer
    would begin.

    Raises:
        BadConfig: the tokenizer has no chat template.
    """
    for conversation in conversations[:1]:
        render(conversation, tokenizer, ask)  # explains a template that is missing or fails
    ids: list[list[int]] = tokenizer.apply_chat_template(
        list(conversations), add_generation_prompt=ask, return_dict=False
    )
    return ids
