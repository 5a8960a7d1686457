"""Servers of this machine are reached directly, whatever proxy the environment names."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from refusing_proxy import Proxy
from test_serving import BASE, FAKE, ask, new_server, sum_request

from crescent.engine import client as client_module
from crescent.engine.client import Client
from crescent.errors import Missing
from crescent.machine.proxies import is_loopback, keep_loopback_direct

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


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


def test_an_endpoint_elsewhere_is_reached_through_the_proxy(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "LONGEST_PAUSE_S", 0.01)

    async def ask_elsewhere() -> None:
        async with Client(["http://192.0.2.1:8000/v1"], "m", "none", concurrency=1, timeout_s=5) as client:
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
