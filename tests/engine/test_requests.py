"""What a request says to the server."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from crescent.engine.client import PLAIN_SAMPLING, PLAIN_SAMPLING_OF_VLLM, Client
from crescent.engine.connection import Connection
from crescent.errors import CrescentError
from crescent.records import Request

REPLY = {
    "id": "x",
    "object": "chat.completion",
    "created": 0,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}],
}


class RecordingServer(HTTPServer):
    """Keeps the bodies of all requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.bodies: list[dict[str, object]] = []


class Answering(BaseHTTPRequestHandler):
    server: RecordingServer

    def do_POST(self) -> None:
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        payload = json.dumps(REPLY).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: object) -> None:
        """Tests print nothing."""


@pytest.fixture
def recorder() -> Iterator[RecordingServer]:
    server = RecordingServer()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_request_leaves_no_sampling_parameter_to_the_models_own_generation_config(
    recorder: RecordingServer, temperature: float
) -> None:
    async def ask() -> None:
        url = f"http://127.0.0.1:{recorder.server_port}/v1"
        async with Client([url], "m", "key", concurrency=1, timeout_s=10) as client:
            await client.complete(Request("a/1", "What is 2 + 2?", temperature, 50, seed=7))

    asyncio.run(ask())
    (body,) = recorder.bodies
    sampling = {name: value for name, value in body.items() if name not in ("model", "messages")}
    # Qwen2.5's generation_config.json, for example, has top_p 0.8, top_k 20 and repetition_penalty 1.05.
    assert sampling == {
        "temperature": temperature,
        "max_tokens": 50,
        "seed": 7,
        "stop": None,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
    }


def test_what_is_asked_for_likelihoods_and_for_proofs_states_them_too(recorder: RecordingServer) -> None:
    url = f"http://127.0.0.1:{recorder.server_port}/v1"

    async def ask() -> None:
        async with Client([url], "m", "key", concurrency=1, timeout_s=10) as client:
            await client.log_probabilities("What is 2 + 2?", "4")

    with suppress(CrescentError):  # this server gives none
        asyncio.run(ask())
    with suppress(CrescentError):
        Connection(url, "key").log_probabilities([1, 2], "m")
    assert len(recorder.bodies) >= 2
    for body in recorder.bodies:
        assert {**body, **PLAIN_SAMPLING, **PLAIN_SAMPLING_OF_VLLM} == body
