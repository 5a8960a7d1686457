"""Servers of this machine are reached directly, whatever proxy the environment names."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from test_serving import BASE, FAKE, ask, new_server, sum_request

from crescent.engine.client import Client
from crescent.errors import Missing
from crescent.machine.proxies import is_loopback, keep_loopback_direct

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


class Proxy(ThreadingHTTPServer):
    """A proxy that refuses everything and records what it was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Refusing)
        self.asked: list[str] = []
        Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Refusing(BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.path} {self.headers}")
        self.send_error(503)

    def do_POST(self) -> None:
        self.do_GET()

    def do_CONNECT(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy that the environment names for everything."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    proxy = Proxy()
    for name in PROXIES[:3]:
        monkeypatch.setenv(name, proxy.url)
    yield proxy
    proxy.shutdown()
    proxy.server_close()


def test_a_proxy_sees_neither_our_key_nor_a_prompt(proxy: Proxy, tmp_path: Path) -> None:
    server = new_server(tmp_path)
    try:
        (answer,) = ask(server.serve(BASE), sum_request(1))
    finally:
        server.stop()
    assert answer.finish_reason == "stop"
    assert proxy.asked == []


@pytest.mark.parametrize("named", ["socks5://127.0.0.1:9", "ftp://127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used_does_not_concern_our_own_server(
    named: str, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PROXIES[:3]:
        monkeypatch.setenv(name, named)
    server = new_server(tmp_path)
    try:
        (answer,) = ask(server.serve(BASE), sum_request(1))
    finally:
        server.stop()
    assert answer.finish_reason == "stop"


@pytest.mark.parametrize("named", ["socks5://127.0.0.1:9", "ftp://127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used_for_an_endpoint_elsewhere_is_explained(
    named: str, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", named)
    monkeypatch.delenv("HTTP_PROXY")
    monkeypatch.delenv("HTTPS_PROXY")
    with pytest.raises(Missing, match="ALL_PROXY"):
        Client(["http://192.0.2.1:8000/v1"], "m", "none", concurrency=1, timeout_s=1)
    serving = type(FAKE)(urls=["http://192.0.2.1:8000/v1"])
    with pytest.raises(Missing, match="ALL_PROXY"):
        new_server(tmp_path, serving).serve(BASE)


def test_an_endpoint_elsewhere_is_reached_through_the_proxy(proxy: Proxy) -> None:
    async def ask_elsewhere() -> None:
        async with Client(["http://192.0.2.1:8000/v1"], "m", "none", concurrency=1, timeout_s=5) as client:
            client._replicas[0] = client._replicas[0].with_options(max_retries=0)
            await client.complete(sum_request(1))

    with pytest.raises(Exception, match=r"192\.0\.2\.1"):
        asyncio.run(ask_elsewhere())
    assert proxy.asked
    assert proxy.asked[0].startswith("http://192.0.2.1:8000/v1/chat/completions")


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://127.8.9.1/v1", True),
        ("http://localhost:8000/v1", True),
        ("http://LOCALHOST./v1", True),
        ("http://engine.localhost:1/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://[::ffff:127.0.0.1]:8000/v1", True),
        ("http://0.0.0.0:8000/v1", True),
        ("http://127.0.0.1.example.org/v1", False),
        ("http://localhost.example.org/v1", False),
        ("http://user:127.0.0.1@10.0.0.1/v1", False),
        ("http://10.0.0.1/v1", False),
    ],
)
def test_loopback_is_known_by_its_address(url: str, here: bool) -> None:
    assert is_loopback(url) is here


@pytest.mark.parametrize("before", [{}, {"NO_PROXY": "intra.example"}, {"no_proxy": "intra.example", "NO_PROXY": ""}])
def test_libraries_of_child_processes_reach_loopback_directly(before: dict[str, str]) -> None:
    from requests.utils import get_environ_proxies

    environment = {"HTTP_PROXY": "http://proxy.example:3128", **before}
    keep_loopback_direct(environment)
    keep_loopback_direct(environment)
    assert environment["NO_PROXY"] == environment["no_proxy"]
    assert environment["NO_PROXY"].count("127.0.0.1") == 1
    assert ("intra.example" in environment["NO_PROXY"].split(",")) is bool(before)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        assert get_environ_proxies("http://127.0.0.1:8000/v1") == {}
        assert get_environ_proxies("http://localhost:8000/v1") == {}
        assert get_environ_proxies("http://engine.example/v1")


def test_a_whole_run_finishes_behind_a_proxy_and_does_not_ask_it(proxy: Proxy, tmp_path: Path) -> None:
    few = (
        "run.rounds=1",
        "bait.questions=16",
        "eval.benchmarks.sums_dev.items=10",
        "eval.benchmarks.sums_test.items=10",
    )
    loop = [sys.executable, "-P", "-m", "crescent.loop", "+experiment=smoke", f"run.root={tmp_path}", *few]
    ended = subprocess.run(loop, capture_output=True, text=True, check=False, timeout=250)
    assert ended.returncode == 0, ended.stderr
    assert proxy.asked == []
