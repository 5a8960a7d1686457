"""HTTP to one server: connections that stay open, and replies that are read whole. Only this module knows aiohttp.

It makes one attempt and believes no status: what a reply means, and whether to ask again, is the client's business.
"""

import os
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from crescent.errors import BadConfig
from crescent.machine.proxies import proxy_explained, proxy_of

if TYPE_CHECKING:
    from aiohttp import BaseConnector, ClientSession

KEPT_S = 4.0
"""Seconds that an idle connection is kept. vLLM closes it after 5 s (`VLLM_HTTP_TIMEOUT_KEEP_ALIVE`), and no request
may be sent into a connection that the server is closing."""
SHOWN = 300
"""Characters of a failure's cause that its message shows."""


class NoReply(Exception):
    """No whole reply arrived; the message says why, on one line and without the request."""


class Reply(NamedTuple):
    """A server's reply, whatever its status."""

    status: int
    headers: Mapping[str, str]
    """Case-insensitive."""
    body: bytes


class Connections:
    """Connections to one server. They open when they are needed, as many as there are requests in flight.

    A server on this machine is reached without the environment's proxy. Nothing follows a redirect, which would arrive
    without its prompt, and no cookie is kept: a load balancer's would send all requests to one server.
    """

    def __init__(self, url: str, api_key: str) -> None:
        """
        Args:
            url: `http://host:port/v1`, for example.

        Raises:
            BadConfig: the URL is none, or the key cannot be sent.
            Missing: the environment names a proxy that cannot be used.
        """
        self.url = url.rstrip("/")
        if not (api_key.isascii() and api_key.isprintable()):
            rule = "holds a character that no HTTP header may have, such as a line break"
            raise BadConfig(f"CRESCENT_API_KEY: {rule}; set it to the key of {self.url} alone")
        self._headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
        with proxy_explained(url):
            self._proxy = proxy_of(url)
            if _is_socks(self._proxy):
                _import_socks()
        self._session: ClientSession | None = None

    async def post(self, path: str, body: bytes) -> Reply:
        """Send a JSON body to a path below the server's URL.

        Raises:
            NoReply: the server could not be reached, or its reply ended too early.
        """
        from aiohttp import ClientError

        session = self._session or self._open()
        try:
            async with session.post(self.url + path, data=body, allow_redirects=False) as reply:
                return Reply(reply.status, reply.headers, await reply.read())
        except (ClientError, OSError) as error:
            # Without the cause: aiohttp's errors hold the request's headers, and thereby the key.
            raise NoReply(_words(error)) from None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> "ClientSession":
        """Open a session; it belongs to the event loop that runs."""
        from aiohttp import ClientSession, ClientTimeout, DummyCookieJar

        self._session = ClientSession(
            connector=self._connector(),
            headers=self._headers,
            cookie_jar=DummyCookieJar(),
            timeout=ClientTimeout(total=None),
            proxy=None if _is_socks(self._proxy) else self._proxy,
        )
        return self._session

    def _connector(self) -> "BaseConnector":
        from aiohttp import TCPConnector

        uses_tls = any(urlsplit(url).scheme == "https" for url in (self.url, self._proxy) if url)
        # Requests in flight are limited by the client: a second limit would only make some of them wait unseen.
        settings: dict[str, Any] = {"limit": 0, "keepalive_timeout": KEPT_S, "ssl": _trusted() if uses_tls else True}
        if _is_socks(self._proxy):
            connector: BaseConnector = _import_socks().from_url(self._proxy, **settings)
            return connector
        return TCPConnector(**settings)


def _words(error: Exception) -> str:
    """What went wrong, on one line."""
    from aiohttp import ClientResponseError

    # In full, such an error names the URL of the proxy with its password.
    said = f"{error.status} {error.message}" if isinstance(error, ClientResponseError) else str(error)
    return " ".join(said.split())[:SHOWN] or type(error).__name__


def _trusted() -> ssl.SSLContext:
    """Certificates that a server may have: signed by those of the machine or of certifi, or else by `SSL_CERT_FILE`,
    `SSL_CERT_DIR`."""
    import httpx

    context = httpx.create_ssl_context()
    if not (os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")):
        context.load_default_certs()
    return context


def _is_socks(proxy: str | None) -> bool:
    return proxy is not None and urlsplit(proxy).scheme.startswith("socks")


def _import_socks() -> Any:
    try:
        from aiohttp_socks import ProxyConnector
    except ImportError as error:
        raise ImportError(f"SOCKS proxy: {error}") from error
    return ProxyConnector
