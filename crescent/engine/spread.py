"""One address for all replicas, for programs that know only one (lm-eval): a small HTTP server on loopback.

It passes each request on to the replica with the fewest outstanding ones, and the reply back as it is. Sampling
parameters that a request leaves open are stated, as in ours: an outside server would take them from the model's own
generation_config.json. A replica that does not answer rests, and its request goes to one other; what fails there, too,
is answered with 502. The program decides whether to ask again.
"""

import asyncio
import json
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import msgspec

from crescent.engine.client import PLAIN_SAMPLING, PLAIN_SAMPLING_OF_VLLM
from crescent.engine.transport import Connections, NoReply

REST_S = 5.0
"""Seconds without requests for a replica that did not answer."""
LONGEST_HEAD = 64 * 1024
"""Bytes of the longest head of a request."""
LONGEST_BODY = 64 * 1024 * 1024
"""Bytes of the longest body of a request."""
UNAVAILABLE = (502, 503, 504)
"""Status codes of a replica that is not ready, or of a gateway before one that is gone."""
OPENS_WITHIN_S = 60.0


@contextmanager
def one_address(urls: Sequence[str], key: str) -> Iterator[str]:
    """URL that stands for all of these, `http://host:port/v1` each.

    Args:
        key: API key of the replicas. The server asks for the same.
    """
    spread = Spread(urls, key)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        port = asyncio.run_coroutine_threadsafe(spread.open(), loop).result(OPENS_WITHIN_S)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        asyncio.run_coroutine_threadsafe(spread.close(), loop).result(OPENS_WITHIN_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class Spread:
    """The server. All methods belong to one event loop."""

    def __init__(self, urls: Sequence[str], key: str) -> None:
        self._authorization = f"Bearer {key}".encode()
        self._replicas = [Connections(url, key) for url in urls]
        self._outstanding = [0] * len(urls)
        self._resting_until = [0.0] * len(urls)
        self._clients: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> int:
        """Listen on a free port of loopback, and return it."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=LONGEST_HEAD, backlog=4096)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        clients = [*self._clients]
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        for replica in self._replicas:
            await replica.close()

    async def forward(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the reply by one of the replicas to a JSON body; two of them are tried."""
        tried: list[int] = []
        failures = []
        while len(tried) < min(2, len(self._replicas)):
            index = min((index for index in range(len(self._replicas)) if index not in tried), key=self._preference)
            tried.append(index)
            self._outstanding[index] += 1
            try:
                reply = await self._replicas[index].post(path, body)
            except NoReply as error:
                failures.append(f"{self._replicas[index].url}: {error}")
            else:
                if reply.status not in UNAVAILABLE:
                    return reply.status, reply.body
                failures.append(f"{self._replicas[index].url} answered {reply.status}")
            finally:
                self._outstanding[index] -= 1
            self._resting_until[index] = time.monotonic() + REST_S
        return 502, error_body("; ".join(failures))

    def _preference(self, index: int) -> tuple[bool, int]:
        """Those that answer first, and of those the least busy first."""
        return self._resting_until[index] > time.monotonic(), self._outstanding[index]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection: request after request."""
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            # A client that went away, or that speaks something else, is not our failure.
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
                while True:
                    status, body = await self._answer(reader)
                    writer.write(head(status, len(body)) + body)
                    await writer.drain()
        finally:
            self._clients.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[int, bytes]:
        """Read one request, and answer it.

        Raises:
            ValueError: it is no such request as we pass on.
        """
        first, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        method, path, _ = first.split(b" ")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        length = int(headers.get(b"content-length", b"0"))
        if method != b"POST" or b"transfer-encoding" in headers or not 0 <= length <= LONGEST_BODY:
            raise ValueError(first)
        body = await reader.readexactly(length)
        if not secrets.compare_digest(headers.get(b"authorization", b""), self._authorization):
            return 401, error_body("wrong key")
        if not path.startswith(b"/v1/"):
            return 404, error_body("not found")
        return await self.forward(path.decode("ascii").removeprefix("/v1"), stated(body))


def stated(body: bytes) -> bytes:
    """A request with all sampling parameters; those that it states itself stay."""
    try:
        asked = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return body  # the server says best what is wrong with it
    if not isinstance(asked, dict):
        return body
    return msgspec.json.encode({**PLAIN_SAMPLING, **PLAIN_SAMPLING_OF_VLLM, **asked})


def head(status: int, length: int) -> bytes:
    return f"HTTP/1.1 {status} -\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n".encode()


def error_body(message: str) -> bytes:
    return json.dumps({"error": {"message": message}}).encode()
