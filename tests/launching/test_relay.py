"""The relay before a server on another machine."""

import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from crescent.engine.engine_process import reserve_port
from launch.relay import Relay

BODY = b"x" * 3_000_000
"""More than the buffers of a connection hold."""


class Server(ThreadingHTTPServer):
    """Answers with what it was sent; `/slow` never."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/slow":
            self.server.asked.set()
            time.sleep(60)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def post(port: int, path: str = "/") -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data=BODY, timeout=30) as reply:
        body: bytes = reply.read()
        return body


def test_bytes_arrive_whole_in_both_directions(server: Server) -> None:
    with reserve_port() as kept:
        port = kept.getsockname()[1]
        with closing(Relay(port, "127.0.0.1", server.server_port)):
            assert post(port) == BODY
        with closing(Relay(port, "127.0.0.1", server.server_port)):
            assert post(port) == BODY, "the same port serves a server that moved"


def test_closing_ends_what_clients_wait_for(server: Server) -> None:
    with reserve_port() as kept:
        port = kept.getsockname()[1]
        relay = Relay(port, "127.0.0.1", server.server_port)
        failures: list[Exception] = []

        def ask() -> None:
            try:
                post(port, "/slow")
            except OSError as error:
                failures.append(error)

        client = threading.Thread(target=ask)
        client.start()
        assert server.asked.wait(20)
        relay.close()
        relay.close()
        client.join(20)
        assert len(failures) == 1
        with pytest.raises(OSError, match="refused"):
            post(port)


def test_a_server_that_is_not_there_ends_the_connection() -> None:
    with reserve_port() as nobody, reserve_port() as kept:
        port = kept.getsockname()[1]
        with (
            closing(Relay(port, "127.0.0.1", nobody.getsockname()[1])),
            pytest.raises(OSError, match=r"reset|remote end|pipe"),
        ):
            post(port)


def test_a_taken_port_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        Relay(taken.getsockname()[1], "127.0.0.1", 1)
