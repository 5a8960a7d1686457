"""One attempt over HTTP: proxies, certificates, and what a failure must not say."""

import asyncio
import ssl
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from misbehaving import GOOD, Answer, reply, reset, serving, truncated

from crescent.engine.transport import Connections, NoReply, Reply
from crescent.errors import BadConfig, Missing
from crescent.machine.proxies import proxy_of

KEY = "secret-key-77f1c0de"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def post(url: str, times: int = 1, pause_s: float = 0.0) -> list[Reply]:
    async def send() -> list[Reply]:
        connections = Connections(url, KEY)
        try:
            replies = []
            for _ in range(times):
                replies.append(await connections.post("/chat/completions", b"{}"))
                await asyncio.sleep(pause_s)
            return replies
        finally:
            await connections.close()

    return asyncio.run(send())


def test_a_reply_is_returned_whatever_its_status() -> None:
    with serving(reply(418, b"short and stout", X_Kind="teapot")) as server:
        ((status, headers, body),) = post(server.url + "/")
    assert (status, headers["x-kind"], body) == (418, "teapot", b"short and stout")


def garbage(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    handler.wfile.write(b"220 mail.example ESMTP\r\n\r\n" + b"\0" * 99)
    handler.close_connection = True


def endless_header(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n")
    handler.close_connection = True


def false_gzip(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    reply(200, b"not compressed", Content_Encoding="gzip")(handler, body)


@pytest.mark.parametrize("answer", [truncated, reset, garbage, endless_header, false_gzip])
def test_a_failure_says_why_on_one_short_line_and_never_the_key(answer: Answer) -> None:
    with serving(answer) as server, pytest.raises(NoReply) as raised:
        post(server.url)
    assert 5 < len(str(raised.value)) <= 300
    assert "\n" not in str(raised.value)
    assert KEY not in "".join(traceback.format_exception(raised.value))


def test_nobody_listens() -> None:
    with serving(GOOD) as server:
        url = server.url
    with pytest.raises(NoReply, match=r"127\.0\.0\.1"):
        post(url)


@pytest.mark.parametrize("key", ["two\nlines", "ends with a line break\n", "schlüssel", "nul\0"])
def test_a_key_that_no_header_may_hold_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(BadConfig, match="CRESCENT_API_KEY") as raised:
        Connections("http://127.0.0.1:9/v1", key)
    assert key not in str(raised.value)


def test_a_connection_that_the_server_closed_is_not_used_again() -> None:
    def closing(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        GOOD(handler, body)
        handler.close_connection = True

    with serving(closing) as server:
        assert [reply.status for reply in post(server.url, times=3, pause_s=0.1)] == [200] * 3


def test_no_cookie_is_kept() -> None:
    seen: list[str | None] = []

    def sticky(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        seen.append(handler.headers["Cookie"])
        reply(200, {}, Set_Cookie="server=1; Path=/")(handler, body)

    with serving(sticky) as server:
        post(server.url, times=2)
    assert seen == [None, None]


class Forward(ThreadingHTTPServer):
    """A proxy that answers by itself; it keeps what it was asked for and with which headers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.asked: list[tuple[str, dict[str, str]]] = []


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Forward

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, dict(self.headers)))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_CONNECT(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        self.send_error(503)

    def log_message(self, *_: object) -> None:
        """Tests print nothing."""


@pytest.fixture
def forward() -> Iterator[Forward]:
    server = Forward()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_each_request_carries_the_proxys_password_and_ours_stays_the_servers(
    name: str, forward: Forward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, f"http://ann:p%40ss@127.0.0.1:{forward.server_port}")
    assert [reply.status for reply in post("http://192.0.2.1:8000/v1", times=2)] == [200, 200]
    for path, headers in forward.asked:
        assert path == "http://192.0.2.1:8000/v1/chat/completions"
        assert headers["Proxy-Authorization"] == "Basic YW5uOnBAc3M="
        assert headers["Authorization"] == f"Bearer {KEY}"
    assert len(forward.asked) == 2


def test_a_proxy_sees_nothing_of_an_encrypted_request(forward: Forward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://ann:p%40ss@127.0.0.1:{forward.server_port}")
    with pytest.raises(NoReply, match="503") as raised:
        post("https://engine.example/v1")
    ((path, headers),) = forward.asked
    assert path == "engine.example:443"
    assert "Authorization" not in headers
    assert headers["Proxy-Authorization"] == "Basic YW5uOnBAc3M="
    assert "p%40ss" not in str(raised.value)
    assert "p@ss" not in str(raised.value)


@pytest.mark.parametrize(
    ("named", "url", "proxy"),
    [
        ({"HTTP_PROXY": "http://p:1"}, "http://10.0.0.1/v1", "http://p:1"),
        ({"HTTP_PROXY": "p:1"}, "http://10.0.0.1/v1", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, "https://10.0.0.1/v1", None),
        ({"ALL_PROXY": "socks5://p:1"}, "https://10.0.0.1/v1", "socks5://p:1"),
        ({"ALL_PROXY": "http://p:1", "HTTPS_PROXY": "http://q:2"}, "https://10.0.0.1/v1", "http://q:2"),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "intra.example"}, "http://gpu.intra.example/v1", None),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "intra.example"}, "http://extra.example/v1", "http://p:1"),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "*"}, "http://10.0.0.1/v1", None),
        ({"ALL_PROXY": "http://p:1"}, "http://127.0.0.1:8000/v1", None),
        ({"ALL_PROXY": "http://p:1"}, "http://localhost:8000/v1", None),
        ({}, "http://10.0.0.1/v1", None),
    ],
)
def test_the_proxy_of_a_url(
    named: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    assert proxy_of(url) == proxy


def test_a_proxy_that_is_none_is_explained_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "ftp://ann:password@127.0.0.1:9")
    with pytest.raises(Missing, match="ALL_PROXY") as raised:
        Connections("http://10.0.0.1/v1", KEY)
    assert "password" not in str(raised.value)


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1, signed by itself, with its key, in one file."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path = folder / "server.pem"
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(signed.public_bytes(encoding) + private)
    return path


@pytest.mark.parametrize("trusted", [False, True])
def test_a_certificate_must_be_known(trusted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    with serving(GOOD) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = server.url.replace("http://", "https://")
        if trusted:
            monkeypatch.setenv("SSL_CERT_FILE", str(path))
            assert [reply.status for reply in post(url)] == [200]
        else:
            with pytest.raises(NoReply, match="certificate"):
                post(url)
            assert server.asked == []
