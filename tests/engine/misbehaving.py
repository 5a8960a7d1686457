"""A server that answers as it is told to: with HTML, with nothing, slowly, half, or not at all."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]
"""Writes the reply to a request with this JSON body."""


def completion_body(text: str = "4", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop", **more}
    return {"choices": [choice], "usage": {"completion_tokens": 1, "prompt_tokens": 2}}


def reply(status: int, content: object, **headers: str) -> Answer:
    """Answer with this status and content, JSON unless it is text."""

    def answer(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        handler.send_response(status)
        kind = {"Content-Type": "text/html" if raw.lstrip().startswith(b"<") else "application/json"}
        for name, value in {**kind, **{name.replace("_", "-"): value for name, value in headers.items()}}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(raw)))
        handler.end_headers()
        handler.wfile.write(raw)

    return answer


GOOD = reply(200, completion_body())


def truncated(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    """Half of the body that was announced."""
    raw = json.dumps(completion_body()).encode()
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(raw)))
    handler.end_headers()
    handler.wfile.write(raw[: len(raw) // 2])
    handler.close_connection = True


def reset(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    """The connection is reset (RST)."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    handler.connection.close()
    handler.close_connection = True


def slow_loris(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    """A byte now and then, for ever."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.end_headers()
    try:
        while not handler.server.stopping.wait(0.05):  # type: ignore[attr-defined]
            handler.wfile.write(b" ")
            handler.wfile.flush()
    except OSError:
        pass
    handler.close_connection = True


class Misbehaving(ThreadingHTTPServer):
    """Answers the first requests as told, one after another, and all others with the last answer."""

    daemon_threads = True

    def __init__(self, *answers: Answer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.asked: list[dict[str, Any]] = []
        self.stopping = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Misbehaving

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        self.server.asked.append(body)
        answers = self.server.answers
        answers[min(len(self.server.asked), len(answers)) - 1](self, body)

    def log_message(self, *_: Any) -> None: ...


@contextmanager
def serving(*answers: Answer) -> Iterator[Misbehaving]:
    server = Misbehaving(*answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()
