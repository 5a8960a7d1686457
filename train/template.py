"""Is a model trained on what it is asked? `python -P -m train.template MODEL_FOLDER PROMPT` checks its chat template.

The server asks with the template's generation prompt; a training row is the whole conversation. If the row does not
begin with exactly the tokens of the question, the model learns to answer what it is never asked. That happens with
templates whose generation prompt opens a thought, or that drop the thought of an answer. If the row does not end in a
token at which the server stops, it learns to go on for ever.
"""

import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from crescent.errors import BadConfig, run_to_exit_code
from crescent.models.model_folder import read_json

ANSWER = "Two and three are five.\n#### 5"
SHOWN = 40
"""Number of tokens of each side that an error shows."""
TAIL = 4
"""Number of tokens at the end of a row, of which one must stop the server: templates end a turn with a line break."""


def check_rows(
    asked: Sequence[Sequence[int]], rows: Sequence[Sequence[int]], stops: Collection[int], tokenizer: Any
) -> None:
    """Check tokens of questions and of the training rows made from them.

    A single row may differ where its first token merges with the end of the question, so most must.

    Raises:
        BadConfig: most rows do not begin with their question, or do not end in a token that stops the server.
    """
    name = f"model.path={tokenizer.name_or_path}"
    differing = [
        (list(question), list(row))
        for question, row in zip(asked, rows, strict=True)
        if list(row[: len(question)]) != list(question)
    ]
    if 2 * len(differing) > len(rows):
        question, row = differing[0]
        same = next((place for place, pair in enumerate(zip(question, row, strict=False)) if pair[0] != pair[1]), 0)
        shown = [repr(tokenizer.decode(ids[max(0, same - SHOWN // 2) : same + SHOWN // 2])) for ids in (question, row)]
        raise BadConfig(
            f"{name}: its chat template trains on other text than it asks with: the model is asked {shown[0]}, and "
            f"trained on {shown[1]}; use the variant of the model without thoughts, or give it a template whose "
            "conversations begin with its generation prompt"
        )
    endless = [row for row in rows if not set(row[-TAIL:]) & set(stops)]
    if 2 * len(endless) > len(rows):
        raise BadConfig(
            f"{name}: a training row ends in {tokenizer.decode(list(endless[0][-TAIL:]))!r}, and the server stops at "
            f"{[tokenizer.decode([stop]) for stop in sorted(stops)]}; add the token that ends a turn to eos_token_id "
            "in generation_config.json, or to the end of the chat template's assistant turn"
        )


def stop_tokens(folder: Path, tokenizer: Any) -> set[int]:
    """Tokens at which vLLM stops: that of the tokenizer, and those in generation_config.json."""
    config = folder / "generation_config.json"
    named = read_json(config).get("eos_token_id") if config.is_file() else None
    found = named if isinstance(named, list) else [named]
    return {stop for stop in [*found, tokenizer.eos_token_id] if stop is not None}


def main(arguments: Sequence[str]) -> int:
    """Check a model's template on one prompt; returns the exit code."""
    folder, prompt = Path(arguments[0]), arguments[1]

    def check() -> None:
        from transformers import AutoTokenizer

        from train.dataset import assistant_turn, tokenize, user_turn

        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        asked = tokenize([user_turn(prompt)], tokenizer, ask=True)
        rows = tokenize([user_turn(prompt) + assistant_turn(ANSWER)], tokenizer)
        check_rows(asked, rows, stop_tokens(folder, tokenizer), tokenizer)

    return run_to_exit_code(check)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
