"""What an OpenAI-compatible server's reply says, checked: a reply of any other shape is not believed."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from crescent.records import Completion

SHOWN = 200
"""Characters of an unexpected reply that an error shows."""


class Malformed(Exception):
    """A reply that is no completion, e.g. a login page; the message is its beginning."""


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


Count = Annotated[int, msgspec.Meta(ge=0)]


class _Usage(msgspec.Struct):
    completion_tokens: Count | None = 0
    prompt_tokens: Count | None = 0


class _Reply(msgspec.Struct):
    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1)]
    usage: _Usage | None = None


class _Token(msgspec.Struct):
    logprob: float


class _Scored(_Reply):
    prompt_logprobs: list[dict[str, _Token] | None] | None = None


class _ScoredChoice(msgspec.Struct):
    prompt_logprobs: list[dict[str, _Token] | None] | None = None


class _ScoredPrompt(msgspec.Struct):
    choices: Annotated[list[_ScoredChoice], msgspec.Meta(min_length=1)]


class Served(msgspec.Struct, frozen=True):
    """A model that a server lists."""

    id: str
    parent: str | None = None
    """Base of an adapter; `None` for a base."""
    max_model_len: int | None = None
    """Context in tokens, if the server says it."""


class _Sleeping(msgspec.Struct):
    is_sleeping: bool


class _Listed(msgspec.Struct):
    data: list[Served]


def read_models(body: bytes) -> list[Served]:
    """The models in a reply of `GET /v1/models`.

    Raises:
        Malformed: it lists none.
    """
    try:
        return msgspec.convert(json.loads(body), _Listed).data
    except (ValueError, RecursionError) as error:
        raise Malformed(f"answered with no list of models but {beginning(body)}") from error


def read_sleep(body: bytes) -> bool:
    """Whether a reply of `GET /is_sleeping` says so.

    Raises:
        Malformed: it says neither.
    """
    try:
        return msgspec.convert(json.loads(body), _Sleeping).is_sleeping
    except (ValueError, RecursionError) as error:
        raise Malformed(f"does not say whether it sleeps but {beginning(body)}") from error


def read_token_log_probabilities(body: bytes, token_ids: Sequence[int]) -> list[float | None] | None:
    """Log-probability of each token of a prompt that was given as ids, in nats, `None` for the first; `None` instead of
    a list if the server gives none.

    Raises:
        Malformed: it is not the reply of a completion, or speaks of other tokens.
    """
    try:
        found = msgspec.convert(json.loads(body), _ScoredPrompt).choices[0].prompt_logprobs
        if found is None:
            return None
        pairs = zip(token_ids, found, strict=True)
        return [None if options is None else options[str(token)].logprob for token, options in pairs]
    except (ValueError, KeyError, RecursionError) as error:
        raise Malformed(f"answered with no log-probabilities of the tokens but {beginning(body)}") from error


def read_completion(body: bytes, max_tokens: int) -> Completion:
    """The completion in a reply's body.

    A text that the server's filter withheld is a refusal (`finish_reason="error"`).

    Raises:
        Malformed: it is not the reply of a chat completion, or the engine gave up on the request.
    """
    try:
        # Not msgspec's decoder: it refuses lone surrogates, which models do write.
        reply = msgspec.convert(json.loads(body), _Reply)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"answered with no completion but {beginning(body)}") from error
    choice, usage = reply.choices[0], reply.usage or _Usage()
    tokens = usage.completion_tokens or 0
    # Without a reason, only the count shows whether the text was cut.
    reason = choice.finish_reason or ("length" if tokens >= max_tokens else "stop")
    if reason in ("abort", "error"):
        raise Malformed(f"ended a completion with finish_reason={reason}: {beginning(body)}")
    if reason == "content_filter":
        return Completion("the endpoint's content filter withheld the answer", "error", tokens)
    text = _valid_unicode(choice.message.content or "")
    return Completion(text, reason, tokens, prompt_tokens=usage.prompt_tokens or 0)


def read_prompt_log_probabilities(body: bytes) -> list[tuple[int, float | None]] | None:
    """Each token of a prompt: id and log-probability (nats), -1 and `None` for the first; `None` if the server gives
    none.

    Raises:
        Malformed: it is not the reply of a chat completion.
    """
    try:
        found = msgspec.convert(json.loads(body), _Scored).prompt_logprobs
        if found is None:
            return None
        # The first token is not predicted, so vLLM leaves its id out; all texts begin with the same one.
        tokens = [next(iter(options.items()), None) if options else None for options in found]
        return [(-1, None) if token is None else (int(token[0]), token[1].logprob) for token in tokens]
    except (ValueError, RecursionError) as error:
        raise Malformed(f"answered with no log-probabilities but {beginning(body)}") from error


def beginning(body: bytes | str) -> str:
    """The first characters of a reply on one line, in quotes; or that it is empty."""
    text = body if isinstance(body, str) else body[: 8 * SHOWN].decode("utf-8", "replace")
    shown = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return f"{shown[:SHOWN]!r}{'…' if len(shown) > SHOWN else ''}" if shown else "an empty reply"


def words_of(body: bytes) -> str:
    """What a server says in a reply that refuses something: its message, or else the beginning of the reply."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return beginning(body)
    inner = said.get("error", said) if isinstance(said, Mapping) else None
    message = inner.get("message") if isinstance(inner, Mapping) else inner
    return beginning(message) if isinstance(message, str) and message.strip() else beginning(body)


def _valid_unicode(text: str) -> str:
    """Lone surrogates cannot be encoded as UTF-8: they become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
