"""Requests of the supervisor to one server, and what it means when they fail."""

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from crescent.engine.client import PLAIN_SAMPLING, PLAIN_SAMPLING_OF_VLLM, EngineDied
from crescent.engine.key import SUPERVISOR
from crescent.engine.replies import Malformed, Served, read_models, read_sleep, read_token_log_probabilities
from crescent.errors import BadConfig, CrescentError
from crescent.machine.proxies import is_loopback, proxy_explained

R = TypeVar("R")


class ServerError(EngineDied):
    """The server answers that it failed (5xx)."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Connection:
    """One server, as the supervisor reaches it: also while it answers nobody else (`crescent.engine.key`).

    Every method raises `EngineDied` if nothing answers or the server fails, `BadConfig` if it refuses the key, and
    `CrescentError` if it refuses the request.
    """

    def __init__(self, url: str, key: str) -> None:
        """`url`: `http://host:port/v1`."""
        self.url = url
        self._key = key

    def models(self) -> list[Served]:
        """The models that the server lists."""
        return self._read(self._send("GET", "/v1/models", None, 60, ()), read_models)

    def post(self, path: str, body: dict[str, Any], timeout_s: float = 60, accept: Sequence[str] = ()) -> Any:
        """The reply's JSON, if it is any; `accept` are words in a refusal that mean nothing had to be done."""
        try:
            return json.loads(self._send("POST", path, body, timeout_s, accept))
        except (ValueError, RecursionError):
            return None

    def sleeps(self) -> bool:
        """Whether the engine sleeps, as it says itself."""
        return self._read(self._send("GET", "/is_sleeping", None, 60, ()), read_sleep)

    def log_probabilities(self, token_ids: Sequence[int], model: str) -> list[float | None]:
        """Log-probability of each token given those before it, in nats; `None` for the first."""
        asked = {"model": model, "prompt": list(token_ids), "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
        body = {**asked, **PLAIN_SAMPLING, **PLAIN_SAMPLING_OF_VLLM}
        reply = self._send("POST", "/v1/completions", body, 600, ())
        found = self._read(reply, lambda content: read_token_log_probabilities(content, token_ids))
        if found is None:
            raise BadConfig(
                f"{self.url}: gives no prompt_logprobs, by which a served child is recognised; serve it with vLLM"
            )
        return found

    def _read(self, body: bytes, read: Callable[[bytes], R]) -> R:
        """What a reply says. One of any other shape comes from something that is not the engine, or no longer."""
        try:
            return read(body)
        except Malformed as error:
            raise EngineDied(f"{self.url} {error}") from error

    def _send(
        self, method: str, path: str, body: dict[str, Any] | None, timeout_s: float, accept: Sequence[str]
    ) -> bytes:
        import httpx

        target = self.url.rstrip("/").removesuffix("/v1") + path
        headers = {"Authorization": f"Bearer {self._key}", SUPERVISOR: "yes"}
        try:
            with proxy_explained(target):
                reply = httpx.request(
                    method, target, json=body, headers=headers, timeout=timeout_s, trust_env=not is_loopback(target)
                )
        except httpx.HTTPError as error:
            raise EngineDied(f"{target}: {error or type(error).__name__}") from error
        if reply.is_success or any(words in reply.text for words in accept):
            return reply.content
        cause = f"{target} answered {reply.status_code}: {reply.text[:500]}"
        if reply.status_code in (401, 403):
            raise BadConfig(f"{cause}; set CRESCENT_API_KEY to the key of this endpoint")
        if reply.status_code >= 500:
            raise ServerError(cause, reply.status_code)
        raise CrescentError(cause)
