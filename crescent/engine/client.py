"""Client of a served model: OpenAI's protocol, any number of replicas."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from crescent.errors import BadConfig, TryAgain
from crescent.machine.proxies import is_loopback, proxy_explained
from crescent.records import Completion, Request

if TYPE_CHECKING:
    from openai import AsyncOpenAI

R = TypeVar("R")

REST_S = 30.0
"""Seconds without new requests for a replica that did not answer."""


PLAIN_SAMPLING = {"top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
"""Sampling parameters of OpenAI's protocol that change nothing. What a request leaves open, an outside server takes
from the model's own generation_config.json (vLLM: `--generation-config auto`), at temperature 0, too."""
PLAIN_SAMPLING_OF_VLLM = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""Likewise, parameters that vLLM adds to the protocol
(https://docs.vllm.ai/en/stable/serving/openai_compatible_server/#extra-parameters)."""


class EngineDied(TryAgain):
    """The engine no longer answers. Its earlier answers are in the journal."""

    def __init__(self, message: str, unanswered: Collection[str] = ()) -> None:
        """`unanswered`: keys of the requests that it had not answered."""
        super().__init__(message)
        self.unanswered = frozenset(unanswered)


class Engine(Protocol):
    """Generates text."""

    async def complete(self, request: Request) -> Completion: ...


class Scorer(Protocol):
    """Computes how likely given text is."""

    async def log_probabilities(self, prompt: str, reply: str) -> list[tuple[int, float | None]]:
        """Each token of a conversation, the unfinished reply included, with its log-probability given those before."""
        ...


@dataclass(frozen=True)
class Endpoint:
    """A served checkpoint."""

    urls: tuple[str, ...]
    """URLs of the replicas, `http://host:port/v1` each."""
    model: str
    """Name of the model in requests."""
    key: str
    """API key."""


class Client:
    """Sends requests to one served checkpoint, spread over its replicas, at most `concurrency` at once."""

    def __init__(self, urls: Sequence[str], model: str, api_key: str, concurrency: int, timeout_s: float) -> None:
        self.model = model
        self._replicas = [_open_replica(url, api_key, timeout_s) for url in urls]
        self._outstanding = [0] * len(self._replicas)
        self._resting_until = [0.0] * len(self._replicas)
        """Time until which a replica that did not answer gets no requests: a dead one always looks idle."""
        self._free = asyncio.Semaphore(concurrency)
        self._sent: set[str] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for replica in self._replicas:
            await replica.close()

    async def complete(self, request: Request) -> Completion:
        """Generate one completion; transient failures are retried with the same seed.

        A request that the engine refuses, e.g. because it is too long, comes back with `finish_reason="error"`. If a
        replica does not answer, the next one gets the request.

        Raises:
            EngineDied: no replica answered, after all retries.
            BadConfig: the endpoint refuses the key or does not serve the model.
        """
        from openai import BadRequestError

        async def send(replica: "AsyncOpenAI") -> Any:
            return await replica.chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": request.prompt}],
                temperature=request.temperature,
                max_tokens=request.max_tokens,
                seed=request.seed,
                stop=list(request.stop) or None,
                **PLAIN_SAMPLING,
                extra_body=PLAIN_SAMPLING_OF_VLLM,
            )

        try:
            reply = await self._send(request.key, send)
        except BadRequestError as error:
            return Completion(text=f"{error.message}", finish_reason="error", tokens=0)
        choice, usage = reply.choices[0], reply.usage
        return Completion(
            text=_valid_unicode(choice.message.content or ""),
            finish_reason=choice.finish_reason,
            tokens=usage.completion_tokens if usage else 0,
            prompt_tokens=usage.prompt_tokens if usage else 0,
        )

    async def log_probabilities(self, prompt: str, reply: str) -> list[tuple[int, float | None]]:
        """Each token of the prompt and of the unfinished reply in the model's chat template: id and log-probability
        (nats), `None` for the first.

        Ask for one text at a time: vLLM 0.32 on CPU fails on several of them with adapters in one batch.

        Raises:
            EngineDied, BadConfig: as `complete`; BadConfig also if the endpoint knows no `prompt_logprobs`.
        """
        from openai import BadRequestError

        async def send(replica: "AsyncOpenAI") -> Any:
            return await replica.chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}],
                temperature=0,
                max_tokens=1,
                extra_body={"prompt_logprobs": 0, "add_generation_prompt": False, "continue_final_message": True},
            )

        fix = "eval.benchmarks.NAME.likelihood needs vLLM; set it to 0"
        try:
            answered = await self._send(f"likelihood of {reply}", send)
        except BadRequestError as error:
            raise BadConfig(f"{self._url(0)}: gives no prompt_logprobs: {error.message}; {fix}") from error
        found: list[dict[str, Any] | None] | None = (answered.model_extra or {}).get("prompt_logprobs")
        if found is None:
            raise BadConfig(f"{self._url(0)}: gives no prompt_logprobs; {fix}")
        # The first token is not predicted, so vLLM leaves its id out; all texts begin with the same one.
        tokens = [next(iter(options.items()), None) if options else None for options in found]
        return [(-1, None) if token is None else (int(token[0]), token[1]["logprob"]) for token in tokens]

    async def _send(self, key: str, send: Callable[["AsyncOpenAI"], Awaitable[R]]) -> R:
        """Send to the least busy replica that answers.

        Raises:
            EngineDied: no replica answered, after all retries.
            BadConfig: the endpoint refuses the key or does not serve the model.
            BadRequestError: the endpoint refuses the request.
        """
        from openai import APIError, AuthenticationError, BadRequestError, NotFoundError, PermissionDeniedError

        async with self._free, self._as_sent(key):
            for index in self._by_preference():
                self._outstanding[index] += 1
                try:
                    return await send(self._replicas[index])
                except BadRequestError:
                    raise
                except (AuthenticationError, PermissionDeniedError) as error:
                    raise BadConfig(
                        f"{self._url(index)}: {error.message}; set CRESCENT_API_KEY to the key of this endpoint"
                    ) from error
                except NotFoundError as error:
                    raise BadConfig(f"{self._url(index)}: does not serve {self.model}: {error.message}") from error
                except APIError as error:
                    self._resting_until[index] = time.monotonic() + REST_S
                    cause: APIError = error
                finally:
                    self._outstanding[index] -= 1
            urls = ", ".join(map(self._url, range(len(self._replicas))))
            raise EngineDied(f"{urls}: {cause.message}", self._sent) from cause

    @asynccontextmanager
    async def _as_sent(self, key: str) -> AsyncIterator[None]:
        self._sent.add(key)
        try:
            yield
        finally:
            self._sent.discard(key)

    def _by_preference(self) -> list[int]:
        """Indices of the replicas: those that answer first, and of those the least busy first."""
        now = time.monotonic()
        return sorted(
            range(len(self._replicas)), key=lambda index: (self._resting_until[index] > now, self._outstanding[index])
        )

    def _url(self, index: int) -> str:
        return str(self._replicas[index].base_url)


def _open_replica(url: str, api_key: str, timeout_s: float) -> "AsyncOpenAI":
    """Client of one replica; a replica on this machine is reached without the environment's proxy."""
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    with proxy_explained(url):
        transport = DefaultAsyncHttpxClient(trust_env=not is_loopback(url))
    return AsyncOpenAI(base_url=url, api_key=api_key, timeout=timeout_s, max_retries=4, http_client=transport)


def _valid_unicode(text: str) -> str:
    """Lone surrogates cannot be encoded as UTF-8: they become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
