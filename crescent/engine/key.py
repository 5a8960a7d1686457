"""The lock on our own server: nothing is answered without its key. Runs inside the server's process."""

import os
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class RequireKey:
    """ASGI middleware (https://asgi.readthedocs.io/en/latest/specs/www.html) for requests and web sockets on any route.

    vLLM itself checks the key only under /v1, not where weights are changed.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or _has_key(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "wrong key"})
        else:
            await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})


def _has_key(scope: Scope) -> bool:
    given = [value for name, value in scope.get("headers", ()) if name.lower() == b"authorization"]
    wanted = f"Bearer {os.environ['VLLM_API_KEY']}".encode()
    return len(given) == 1 and secrets.compare_digest(given[0], wanted)
