"""Check that a trained row begins with exactly the tokens that the server is asked with, and holds the answer as it is.

A chat template may end a question with the beginning of a thought, and drop the thought, or add an empty one, when it
writes an answer. The child would then learn to continue a text that nobody ever gives it.

`python -P -m train.template MODEL_FOLDER RESPONSES.jsonl` checks this on the base's own responses, before round 1.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crescent.errors import BadConfig
from crescent.machine.program import run_to_exit_code
from crescent.models.model_folder import read_json
from crescent.records import Response, read_lines

Message = dict[str, str]

CHECKED = 64
"""Number of responses that are checked before round 1. The trainer checks every row."""
SHOWN = 60
"""Number of characters that an error shows on each side of the place where two texts begin to differ."""
FIX = (
    "use a model whose template writes questions and answers alike (an instruct variant without thoughts), or correct "
    "the template in a copy of its folder"
)


def user_turn(text: str) -> list[Message]:
    """Messages of the user's turn in a conversation."""
    return [{"role": "user", "content": text}]


def assistant_turn(text: str) -> list[Message]:
    """Messages of the assistant's turn in a conversation."""
    return [{"role": "assistant", "content": text}]


def answers_as_served(questions: Sequence[str], answers: Sequence[str], tokenizer: Any) -> list[str]:
    """The answers, of which each, with its question before it, makes a row that begins as the server is asked.

    An answer whose leading white space would become part of the question's last token loses this white space.

    Raises:
        BadConfig: the template does not write questions and answers alike; the message shows both texts.
    """
    ends = end_tokens(tokenizer)
    return [_as_served(*row, tokenizer, ends) for row in zip(questions, answers, strict=True)]


def _as_served(question: str, answer: str, tokenizer: Any, ends: set[int]) -> str:
    asked = render(user_turn(question), tokenizer, ask=True)
    asked_ids = token_ids(asked, tokenizer)
    row = render(user_turn(question) + assistant_turn(answer), tokenizer)
    template = f"model.path={tokenizer.name_or_path}: its chat template"
    if not row.startswith(asked):
        raise BadConfig(
            f"{template} writes a question differently when its answer follows: the server is asked with "
            f"{_near(asked, row)}, and trained is {_near(row, asked)}; {FIX}"
        )
    written, said = row[len(asked) :].lstrip(), answer.strip()
    if not written.startswith(said):
        raise BadConfig(
            f"{template} changes answers: the server gave {_near(said, written)}, and trained is "
            f"{_near(written, said)}; {FIX}"
        )
    ids = token_ids(row, tokenizer)
    if ids[: len(asked_ids)] != asked_ids:
        if answer != answer.lstrip():
            return _as_served(question, answer.lstrip(), tokenizer, ends)
        first = next(place for place, (a, b) in enumerate(zip(asked_ids, ids, strict=False)) if a != b)
        raise BadConfig(
            f"{template} and its tokenizer join questions and answers: the server is asked with the tokens "
            f"{tokenizer.convert_ids_to_tokens(asked_ids[first:])} at the end, and trained is "
            f"{tokenizer.convert_ids_to_tokens(ids[first : first + 4])}…; {FIX}"
        )
    if not ends & set(token_ids(written.removeprefix(said), tokenizer)):  # an end within the answer would not count
        raise BadConfig(
            f"{template} does not end answers: the server stops at {tokenizer.convert_ids_to_tokens(sorted(ends))}, "
            f"and trained is {row[-SHOWN:]!r}, from which the child would never learn to stop; {FIX}"
        )
    return answer


def _near(text: str, other: str) -> str:
    """The text around the place where it begins to differ from the other."""
    pairs = enumerate(zip(text, other, strict=False))
    place = next((place for place, (a, b) in pairs if a != b), min(len(text), len(other)))
    begin, end = max(0, place - SHOWN), place + SHOWN
    return f"{'…' if begin else ''}{text[begin:end]!r}{'…' if end < len(text) else ''}"


def render(conversation: Sequence[Message], tokenizer: Any, ask: bool = False) -> str:
    """Text of a conversation by the model's own chat template. With `ask`, it ends where the model's answer begins.

    transformers renders templates in Jinja's sandbox, in which they reach nothing outside
    (https://jinja.palletsprojects.com/sandbox/).

    Raises:
        BadConfig: there is no template, or it fails.
    """
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise BadConfig(
            f"model.path={tokenizer.name_or_path}: its tokenizer has no chat template, so it cannot be asked or taught "
            "in turns; use the instruction-tuned variant of this model"
        )
    try:
        text: str = tokenizer.apply_chat_template(list(conversation), add_generation_prompt=ask, tokenize=False)
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, RecursionError) as error:
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise BadConfig(f"model.path={tokenizer.name_or_path}: its chat template fails ({cause}); {FIX}") from error
    return text


def token_ids(text: str, tokenizer: Any) -> list[int]:
    """Token ids of a rendered conversation, which has its special tokens already."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def end_tokens(tokenizer: Any) -> set[int]:
    """Tokens at which a server ends an answer: the tokenizer's, and those of the model's generation settings."""
    found = {tokenizer.eos_token_id}
    for name in ("generation_config.json", "config.json"):
        file = Path(tokenizer.name_or_path) / name
        ends = read_json(file).get("eos_token_id") if file.is_file() else None
        found |= set(ends) if isinstance(ends, list) else {ends}
    return found - {None}


def check_responses(model: Path, responses: Path) -> None:
    """Check some of a model's own responses as if they were trained on.

    Raises:
        BadConfig: as `answers_as_served`.
    """
    from transformers import AutoTokenizer

    ended = [response for response in read_lines(responses, Response) if response.finish_reason == "stop"]
    chosen = ended[:: max(1, len(ended) // CHECKED)]
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False, local_files_only=True)
    answers_as_served([row.prompt for row in chosen] or ["1 + 1"], [row.text for row in chosen] or ["2"], tokenizer)


if __name__ == "__main__":
    sys.exit(run_to_exit_code(lambda: check_responses(Path(sys.argv[1]), Path(sys.argv[2]))))
