"""Makes a server on another machine answer at a port of this machine's loopback.

Clients keep one address for a server that moves. No proxy of the environment comes between, and when the other machine
vanishes without a word, `close` ends at once what clients are waiting for.
"""

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import cast

CONNECTS_WITHIN_S = 10.0
STARTS_WITHIN_S = 30.0
KEEPALIVE = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
"""Options of TCP by which a machine that vanished is noticed after half a minute
(https://man7.org/linux/man-pages/man7/tcp.7.html); names that this system lacks are left out."""


class Relay:
    """Passes bytes on, in a thread of its own, until `close`."""

    def __init__(self, port: int, host: str, there: int) -> None:
        """
        Args:
            port: Port of loopback to listen at.
            host: Machine of the server, which listens at its port `there`.

        Raises:
            OSError: the port is taken.
        """
        self._target = host, there
        self._loop = asyncio.new_event_loop()
        self._ends: set[_End] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = threading.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self._server = asyncio.run_coroutine_threadsafe(self._open(port), self._loop).result(STARTS_WITHIN_S)
        except BaseException:
            self._end_thread()
            raise

    def close(self) -> None:
        """Stop listening, and end all connections. Further calls do nothing."""
        if self._closed.acquire(blocking=False):
            asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result(STARTS_WITHIN_S)
            self._end_thread()

    async def _open(self, port: int) -> asyncio.Server:
        return await self._loop.create_server(self._accept, "127.0.0.1", port, backlog=4096, reuse_address=True)

    async def _shut(self) -> None:
        self._server.close()
        for task in [*self._tasks]:
            task.cancel()
        for end in [*self._ends]:
            end.transport.abort()
        await asyncio.sleep(0)  # the ends hear of it

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _accept(self) -> "_End":
        return _End(self._ends, self._connect)

    def _connect(self, near: "_End") -> None:
        near.transport.pause_reading()
        task = self._loop.create_task(self._join(near))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _join(self, near: "_End") -> None:
        """Connect a client with the server."""
        try:
            async with asyncio.timeout(CONNECTS_WITHIN_S):
                _, far = await self._loop.create_connection(lambda: _End(self._ends), *self._target)
        except (OSError, TimeoutError):
            near.transport.abort()
            return
        link = far.transport.get_extra_info("socket")
        link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE:
            if name in dir(socket):
                link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        far.other, near.other = near, far
        if near.transport.is_closing():  # the client did not wait
            far.transport.abort()
        else:
            near.transport.resume_reading()


class _End(asyncio.Protocol):
    """One of the two connections between which bytes are passed on."""

    def __init__(self, ends: "set[_End]", begin: "Callable[[_End], None]" = lambda end: None) -> None:
        """`ends`: all that are open; `begin` is called when this end is."""
        self.ends = ends
        self.begin = begin
        self.other: _End | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.ends.add(self)
        self.begin(self)

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        if self.other is not None and not self.other.transport.is_closing():
            self.other.transport.write_eof()
        return True  # what comes from the other side is still passed on

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self.ends.discard(self)
        if self.other is not None:
            self.other.transport.close() if error is None else self.other.transport.abort()
