"""The lock on our own server: nothing is answered without its key, and nobody else until its weights are proven.

Runs inside the server's process.
"""

import os
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

SUPERVISOR = "x-crescent-supervisor"
"""Header of the supervisor's own requests."""
OPEN = "/crescent/open"
"""Path to which the supervisor posts when the server's weights are proven: from then on everybody with the key is
answered."""
STARTS_SHUT = "CRESCENT_STARTS_SHUT"
"""Environment variable: if it is set, a server answers only its supervisor at first. A replica that is started again
beside others has the address that clients still use."""
SHUT = b'{"error":{"message":"this replica was started a moment ago, and its weights are not proven yet"}}'


class Door:
    """Who is answered: everybody, or only the supervisor until it opens the door."""

    def __init__(self) -> None:
        self.is_open = STARTS_SHUT not in os.environ

    def lets_in(self, path: str, from_supervisor: bool) -> bool:
        """Whether a request with the right key is answered."""
        if from_supervisor and path == OPEN:
            self.is_open = True
        return self.is_open or from_supervisor


class RequireKey:
    """ASGI middleware (https://asgi.readthedocs.io/en/latest/specs/www.html) for requests and web sockets on any route.

    vLLM itself checks the key only under /v1, not where weights are changed.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.app = app
        self.door = Door()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif not _has_key(scope):
            await refuse(scope, send, 401, b"", "wrong key")
        elif not self.door.lets_in(scope["path"], bool(_header(scope, SUPERVISOR.encode()))):
            await refuse(scope, send, 503, SHUT, "not proven yet")
        elif scope["path"] == OPEN:
            await answer(send, 200, b"{}")
        else:
            await self.app(scope, receive, send)


async def refuse(scope: Scope, send: Send, status: int, body: bytes, reason: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": reason})
    else:
        await answer(send, status, body)


async def answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode()), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers if body else headers[:1]})
    await send({"type": "http.response.body", "body": body})


def _has_key(scope: Scope) -> bool:
    given = _header(scope, b"authorization")
    wanted = f"Bearer {os.environ['VLLM_API_KEY']}".encode()
    return len(given) == 1 and secrets.compare_digest(given[0], wanted)


def _header(scope: Scope, wanted: bytes) -> list[bytes]:
    return [value for name, value in scope.get("headers", ()) if name.lower() == wanted]
