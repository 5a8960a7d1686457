"""One address for several replicas: the least busy is asked, a dead one is replaced, and nobody else is let in."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from crescent.engine.client import PLAIN_SAMPLING, PLAIN_SAMPLING_OF_VLLM
from crescent.engine.spread import one_address

KEY = "a-key-that-nobody-else-has"


class FakeReplica:
    """Answers each request with its own name and the request's body, when it may."""

    def __init__(self, name: str, status: int = 200) -> None:
        self.asked: list[tuple[str, bytes, str | None]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        replica = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                replica.asked.append((self.path, body, self.headers["Authorization"]))
                replica.may_answer.wait(60)
                payload = json.dumps({"by": name, "asked": json.loads(body)}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def end(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def replicas(*statuses: int) -> Iterator[list[FakeReplica]]:
    opened = [FakeReplica(f"r{number}", status) for number, status in enumerate(statuses)]
    try:
        yield opened
    finally:
        for replica in opened:
            replica.may_answer.set()
            replica.end()


def post(address: str, body: object, key: str = KEY) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"}
    # Without certificates, which take long to load and are for https.
    return httpx.post(f"{address}/completions", json=body, headers=headers, timeout=60, trust_env=False, verify=False)


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_sampling_parameters_that_a_request_leaves_open_are_stated() -> None:
    with replicas(200) as [outside], one_address([outside.url], KEY) as address:
        asked = post(address, {"prompt": "1", "temperature": 0, "top_p": 0.9}).json()["asked"]
        assert asked == {"prompt": "1", "temperature": 0, **PLAIN_SAMPLING, **PLAIN_SAMPLING_OF_VLLM, "top_p": 0.9}


def test_requests_and_replies_pass_through_as_they_are() -> None:
    with replicas(200, 200) as both, one_address([replica.url for replica in both], KEY) as address:
        reply = post(address, {"prompt": "Äpfel", "n": 1})
    assert reply.status_code == 200
    assert reply.json()["asked"].items() >= {"prompt": "Äpfel", "n": 1}.items()
    (asked,) = both[0].asked + both[1].asked
    assert asked[0] == "/v1/completions"
    assert asked[2] == f"Bearer {KEY}"


def test_the_replica_with_the_fewest_outstanding_requests_is_asked() -> None:
    with replicas(200, 200) as (slow, quick), one_address([slow.url, quick.url], KEY) as address:
        slow.may_answer.clear()
        with ThreadPoolExecutor(2) as pool:
            waiting = pool.submit(post, address, 0)
            until(lambda: len(slow.asked) == 1)
            assert [post(address, number).json()["by"] for number in range(1, 9)] == ["r1"] * 8
            slow.may_answer.set()
            assert waiting.result().json() == {"by": "r0", "asked": 0}


def test_many_requests_at_once_are_shared_evenly() -> None:
    with replicas(200, 200, 200) as three, one_address([replica.url for replica in three], KEY) as address:
        for replica in three:
            replica.may_answer.clear()
        with ThreadPoolExecutor(30) as pool:
            waiting = [pool.submit(post, address, number) for number in range(30)]
            until(lambda: sum(len(replica.asked) for replica in three) == 30)
            assert [len(replica.asked) for replica in three] == [10, 10, 10]
            for replica in three:
                replica.may_answer.set()
            assert sorted(reply.result().json()["asked"] for reply in waiting) == list(range(30))


def test_a_dead_replica_and_one_whose_weights_are_not_proven_are_replaced() -> None:
    with replicas(200, 503) as (good, unproven), one_address([unproven.url, good.url], KEY) as address:
        assert {post(address, number).json()["by"] for number in range(4)} == {"r0"}
        assert len(unproven.asked) == 1, "it rests"
    with replicas(200, 200) as (dead, alive), one_address([dead.url, alive.url], KEY) as address:
        dead.end()
        assert {post(address, number).json()["by"] for number in range(4)} == {"r1"}


def test_a_refused_request_is_not_sent_to_another_replica() -> None:
    with replicas(400, 400) as both, one_address([replica.url for replica in both], KEY) as address:
        assert post(address, 1).status_code == 400
        assert len(both[0].asked + both[1].asked) == 1


def test_when_no_replica_answers_the_reply_says_so() -> None:
    with one_address(["http://127.0.0.1:9/v1", "http://127.0.0.1:10/v1"], KEY) as address:
        reply = post(address, 1)
    assert reply.status_code == 502
    assert "127.0.0.1:9" in reply.json()["error"]["message"]
    assert "127.0.0.1:10" in reply.json()["error"]["message"]


def test_nobody_is_let_in_without_the_key() -> None:
    with replicas(200, 200) as both, one_address([replica.url for replica in both], KEY) as address:
        assert post(address, 1, key="guess").status_code == 401
        assert not both[0].asked + both[1].asked


@pytest.mark.parametrize(
    "request_of_others",
    [b"GET /v1/models HTTP/1.1\r\n\r\n", b"nonsense\r\n\r\n", b"POST /v1/x HTTP/1.1\r\ncontent-length: -1\r\n\r\n"],
)
def test_a_request_that_it_does_not_know_ends_the_connection_and_nothing_else(request_of_others: bytes) -> None:
    import socket

    with replicas(200, 200) as both, one_address([replica.url for replica in both], KEY) as address:
        port = int(address.rsplit(":", 1)[1].removesuffix("/v1"))
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(request_of_others)
            assert connection.recv(100) == b""
        assert post(address, 1).status_code == 200
