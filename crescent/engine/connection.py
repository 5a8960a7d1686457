"""Requests of the supervisor to one server, and what it means when they fail."""

from collections.abc import Sequence
from typing import Any

from crescent.engine.client import EngineDied
from crescent.engine.key import SUPERVISOR
from crescent.errors import BadConfig, CrescentError
from crescent.machine.proxies import is_loopback, proxy_explained


class Connection:
    """One server, as the supervisor reaches it: also while it answers nobody else (`crescent.engine.key`).

    Every method raises `EngineDied` if nothing answers or the server fails, `BadConfig` if it refuses the key, and
    `CrescentError` if it refuses the request.
    """

    def __init__(self, url: str, key: str) -> None:
        """`url`: `http://host:port/v1`."""
        self.url = url
        self._key = key

    def get(self, path: str, timeout_s: float = 60) -> Any:
        """JSON that the server sends."""
        return self._send("GET", path, None, timeout_s, ())

    def post(self, path: str, body: dict[str, Any], timeout_s: float = 60, accept: Sequence[str] = ()) -> Any:
        """The reply's JSON, if it is any; `accept` are words in a refusal that mean nothing had to be done."""
        return self._send("POST", path, body, timeout_s, accept)

    def log_probabilities(self, token_ids: Sequence[int], model: str) -> list[float | None]:
        """Log-probability of each token given those before it, in nats; `None` for the first."""
        body = {"model": model, "prompt": list(token_ids), "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
        reply = self.post("/v1/completions", body, timeout_s=600)
        found: list[float | None] = []
        for token, options in zip(token_ids, reply["choices"][0]["prompt_logprobs"], strict=True):
            found.append(options[str(token)]["logprob"] if options else None)
        return found

    def _send(
        self, method: str, path: str, body: dict[str, Any] | None, timeout_s: float, accept: Sequence[str]
    ) -> Any:
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
            return reply.json() if reply.headers.get("content-type", "").startswith("application/json") else None
        cause = f"{target} answered {reply.status_code}: {reply.text[:500]}"
        if reply.status_code in (401, 403):
            raise BadConfig(f"{cause}; set CRESCENT_API_KEY to the key of this endpoint")
        if reply.status_code >= 500:
            raise EngineDied(cause)
        raise CrescentError(cause)
