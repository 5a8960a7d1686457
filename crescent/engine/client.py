"""Client of a served model: OpenAI's protocol, any number of replicas.

What a server may answer, and what follows:

| answer | what follows |
|---|---|
| a completion | it is returned |
| 400, 413, 422; text withheld by a filter | the request is refused: a completion with `finish_reason="error"` |
| 401, 403 | `BadConfig`: the key |
| 404, 405, 3xx | `BadConfig`: the address, or the name of the model |
| 429 | waits as long as the server asks, then `TryAgain` |
| 408, 409, 5xx, no connection, not a completion | asked again, then of another replica, then `EngineDied` |
| too slow | asked of another replica at once; of the only one again; then `EngineDied` |
"""

import asyncio
import math
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import msgspec

from crescent.engine.pace import Pace
from crescent.engine.replies import Malformed, read_completion, read_prompt_log_probabilities, words_of
from crescent.engine.transport import Connections, NoReply, Reply
from crescent.errors import BadConfig, TryAgain
from crescent.records import Completion, Request

R = TypeVar("R")

REST_S = 30.0
"""Seconds without new requests for a replica that did not answer."""
QUICK_TRIES = 2
"""Attempts at one request that end before the time-out if a reply should have come long before."""
TRIES = 5
"""Attempts at one request before a replica counts as one that does not answer."""
LONGEST_PAUSE_S = 8.0
"""Longest pause between two attempts, in seconds, unless the server asks for a longer one."""
PATIENCE_S = 900.0
"""Longest time, in seconds, that one request waits because the server limits the rate of requests (429)."""
REFUSED = (400, 413, 422)
"""Status codes by which a server refuses one request and no other."""
WRONG_KEY = (401, 403)
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


class _NoAnswer(Exception):
    """One attempt brought no completion; the message says why."""

    def __init__(
        self, why: str, pause_s: float | None = None, may_have_died: bool = True, waited_s: float | None = None
    ) -> None:
        super().__init__(why)
        self.pause_s = pause_s
        """Pause that the server asked for, in seconds."""
        self.may_have_died = may_have_died
        """Whether the engine may be dead, rather than the reply wrong."""
        self.waited_s = waited_s
        """Seconds after which the attempt was given up, if it was too slow."""


class _Refused(Exception):
    """The server refuses this request and no other; the message is what it says."""


class _TooFast(Exception):
    """The server limits the rate of requests (429)."""

    def __init__(self, why: str, pause_s: float | None) -> None:
        super().__init__(why)
        self.pause_s = pause_s


class Client:
    """Sends requests to one served checkpoint, spread over its replicas, at most `concurrency` at once."""

    def __init__(
        self,
        urls: Sequence[str],
        model: str,
        api_key: str,
        concurrency: int,
        timeout_s: float,
        patience_s: float = PATIENCE_S,
        connect: Callable[[str, str], Connections] = Connections,
    ) -> None:
        """
        Args:
            timeout_s: Longest time for one attempt, from sending it to the end of the reply.
            patience_s: Longest time that a request waits for a server that limits the rate of requests.
            connect: Opens connections to a URL with a key.
        """
        self.model = model
        self.timeout_s = timeout_s
        self.patience_s = patience_s
        self._replicas = [connect(url, api_key) for url in urls]
        self._outstanding = [0] * len(self._replicas)
        self._resting_until = [0.0] * len(self._replicas)
        """Time (`_now_s`) until which a replica that did not answer gets no requests: a dead one always looks idle."""
        self._answered_at = [-math.inf] * len(self._replicas)
        """Time of the last reply of each replica."""
        self._pace = Pace()
        self._free = asyncio.Semaphore(concurrency)
        self._sent: list[set[str]] = [set() for _ in self._replicas]
        """Keys of the requests that each replica has."""

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
            TryAgain: the server limits the rate of requests for longer than the client waits.
            BadConfig: the endpoint refuses the key, does not serve the model, or is at another address.
        """
        asked: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": request.prompt}],
            "temperature": request.temperature,
            "max_tokens": request.max_tokens,
            "seed": request.seed,
            "stop": list(request.stop) or None,
            **PLAIN_SAMPLING,
            **PLAIN_SAMPLING_OF_VLLM,
        }
        try:
            completion, seconds = await self._send(
                request.key, asked, lambda body: read_completion(body, request.max_tokens)
            )
        except _Refused as refusal:
            return Completion(text=str(refusal), finish_reason="error", tokens=0)
        self._pace.add(seconds, completion.tokens)
        return completion

    async def log_probabilities(self, prompt: str, reply: str) -> list[tuple[int, float | None]]:
        """Each token of the prompt and of the unfinished reply in the model's chat template: id and log-probability
        (nats), `None` for the first.

        Ask for one text at a time: vLLM 0.32 on CPU fails on several of them with adapters in one batch.

        Raises:
            EngineDied, BadConfig: as `complete`; BadConfig also if the endpoint knows no `prompt_logprobs`.
        """
        asked = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}],
            "temperature": 0,
            "max_tokens": 1,
            **PLAIN_SAMPLING,
            **PLAIN_SAMPLING_OF_VLLM,
            "prompt_logprobs": 0,
            "add_generation_prompt": False,
            "continue_final_message": True,
        }
        fix = "eval.benchmarks.NAME.likelihood needs vLLM; set it to 0"
        try:
            found, _ = await self._send(f"likelihood of {reply}", asked, read_prompt_log_probabilities)
        except _Refused as refusal:
            raise BadConfig(f"{self._url(0)}: gives no prompt_logprobs: {refusal}; {fix}") from refusal
        if found is None:
            raise BadConfig(f"{self._url(0)}: gives no prompt_logprobs; {fix}")
        return found

    async def _send(self, key: str, asked: Mapping[str, Any], read: Callable[[bytes], R]) -> tuple[R, float]:
        """Send to the least busy replica that answers; returns what is read in its reply, and the seconds it took.

        Args:
            read: May raise `Malformed`, which counts as no answer.

        Raises:
            EngineDied: no replica answered, after all retries.
            _Refused: the endpoint refuses this request.
            TryAgain, BadConfig: as `complete`.
        """
        body = msgspec.json.encode(asked)
        async with self._free:
            tried: list[int] = []
            # A request that kills its replica kills the next one, too: it must not go the round of all.
            while len(tried) < min(2, len(self._replicas)):
                index = next(index for index in self._by_preference() if index not in tried)
                tried.append(index)
                self._outstanding[index] += 1
                self._sent[index].add(key)
                try:
                    has_other = len(tried) < min(2, len(self._replicas))
                    return await self._ask(index, body, read, asked["max_tokens"], has_other)
                except _NoAnswer as error:
                    # A replica that has answered others meanwhile lost this request, and works.
                    if error.waited_s is None or self._answered_at[index] < _now_s() - error.waited_s:
                        self._resting_until[index] = _now_s() + REST_S
                    cause = error
                    suspects = {*self._sent[index]}
                finally:
                    self._outstanding[index] -= 1
                    self._sent[index].discard(key)
            urls = ", ".join(map(self._url, tried))
            # A wrong reply is no sign that any of the requests in flight kills the engine.
            raise EngineDied(f"{urls}: {cause}", suspects if cause.may_have_died else ()) from cause

    async def _ask(
        self, index: int, body: bytes, read: Callable[[bytes], R], max_tokens: int, has_other: bool
    ) -> tuple[R, float]:
        """Ask one replica, several times if need be. If another can be asked, it is not waited for twice.

        Raises:
            _NoAnswer: it did not answer.
        """
        deadline = _now_s() + self.patience_s
        tries = 0
        while True:
            # An engine may have become slow since: from the third attempt on, only the time-out counts.
            reach = max_tokens * 2**tries if tries < QUICK_TRIES else None
            try:
                return await self._attempt(index, body, read, reach)
            except _TooFast as error:
                pause = error.pause_s if error.pause_s is not None else LONGEST_PAUSE_S * (0.5 + random.random())
                if _now_s() + pause > deadline:
                    raise TryAgain(
                        f"{self._url(index)} limits the rate of requests ({error}); nothing is lost: lower "
                        "serving.concurrency, or run the same command again later"
                    ) from error
            except _NoAnswer as error:
                tries += 1
                if tries == TRIES or (has_other and error.waited_s is not None):
                    raise
                backoff = min(LONGEST_PAUSE_S, 0.5 * 2 ** (tries - 1)) * (0.75 + random.random() / 4)
                pause = backoff if error.pause_s is None else min(error.pause_s, self.patience_s)
            await asyncio.sleep(pause)

    async def _attempt(self, index: int, body: bytes, read: Callable[[bytes], R], reach: int | None) -> tuple[R, float]:
        """
        Args:
            reach: Number of tokens for which the attempt may last, if the replies so far show how long they take.
        """
        sent_at = _now_s()
        try:
            async with asyncio.timeout(self.timeout_s) as limit:
                with self._pace.shortening(limit, reach):
                    reply = await self._replicas[index].post("/chat/completions", body)
        except TimeoutError as error:
            waited_s = _now_s() - sent_at
            full = waited_s >= self.timeout_s
            limit_said = f"serving.request_timeout_s={self.timeout_s:g}" if full else f"{waited_s:.0f} s"
            raise _NoAnswer(f"gave no whole reply within {limit_said}", waited_s=waited_s) from error
        except NoReply as error:
            raise _NoAnswer(str(error)) from error
        if not 200 <= reply.status < 300:
            raise self._meaning_of(index, reply)
        try:
            found = read(reply.body)
        except Malformed as error:
            raise _NoAnswer(str(error), may_have_died=False) from error
        self._answered_at[index] = _now_s()
        return found, self._answered_at[index] - sent_at

    def _meaning_of(self, index: int, reply: Reply) -> Exception:
        """What follows from a reply with an error status."""
        url, status, headers = self._url(index), reply.status, reply.headers
        said = words_of(reply.body)
        if status in REFUSED:
            return _Refused(f"refused with status {status}: {said}")
        if status in WRONG_KEY:
            return BadConfig(f"{url} answered {status}: {said}; set CRESCENT_API_KEY to the key of this endpoint")
        if status == 404:
            return BadConfig(f"{url}: does not serve {self.model}: {said}")
        if status == 405 or 300 <= status < 400:
            elsewhere = f" (it points to {headers['location'][:200]})" if "location" in headers else ""
            fix = "serving.urls must be the address of the OpenAI API itself, e.g. http://host:8000/v1"
            return BadConfig(f"{url} answered {status}{elsewhere}: {said}; {fix}")
        if status == 429:
            return _TooFast(said, _asked_pause(headers))
        return _NoAnswer(f"answered {status}: {said}", _asked_pause(headers), may_have_died=status >= 500)

    def _by_preference(self) -> list[int]:
        """Indices of the replicas: those that answer first, and of those the least busy first."""
        now = _now_s()
        return sorted(
            range(len(self._replicas)), key=lambda index: (self._resting_until[index] > now, self._outstanding[index])
        )

    def _url(self, index: int) -> str:
        return self._replicas[index].url


def _now_s() -> float:
    """Clock of the event loop, which a simulation replaces."""
    return asyncio.get_running_loop().time()


def _asked_pause(headers: Mapping[str, str]) -> float | None:
    """Pause that a reply asks for in `Retry-After`, in seconds or as a date (RFC 9110, 10.2.3)."""
    given = headers.get("retry-after")
    if given is None:
        return None
    try:
        return max(0.0, float(given)) if float(given) < float("inf") else None
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(given).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
