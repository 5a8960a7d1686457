"""Which connections go through a proxy (`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`): never those to this machine itself.

A proxy cannot reach our loopback, and it would see the server's key and all prompts.
"""

import ipaddress
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from crescent.errors import Missing

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts that `NO_PROXY` names for libraries that read the environment themselves."""
SCHEMES = ("http", "https", "socks4", "socks5", "socks5h")
"""Kinds of proxies."""


def is_loopback(url: str) -> bool:
    """Whether a URL's host is this machine by its name or address; nothing is looked up."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    # A server listens on 0.0.0.0; a client that connects to that reaches this machine.
    return address.is_loopback or address.is_unspecified or (mapped is not None and mapped.is_loopback)


def keep_loopback_direct(environment: MutableMapping[str, str]) -> None:
    """Add this machine to `NO_PROXY`, in both spellings: libraries differ in which they read first."""
    given = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    hosts = [host.strip() for host in given.split(",") if host.strip()]
    if "*" in hosts:
        return  # no proxy at all; beside other hosts, some libraries would not understand it
    hosts += [host for host in LOOPBACK if host not in hosts]
    environment["NO_PROXY"] = environment["no_proxy"] = ",".join(hosts)


def proxy_of(url: str) -> str | None:
    """Proxy that the environment names for a URL; `None` if it is reached directly, as this machine always is.

    Raises:
        ValueError: nothing knows how to speak to such a proxy.
    """
    scheme, host = urlsplit(url).scheme.lower(), urlsplit(url).hostname or ""
    from urllib.request import getproxies, proxy_bypass  # brings `socket`, which a sandboxed program must not find

    named = getproxies()
    proxy = named.get(scheme) or named.get("all")
    if not proxy or is_loopback(url) or proxy_bypass(host):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if urlsplit(proxy).scheme not in SCHEMES or not urlsplit(proxy).hostname:
        raise ValueError(f"unknown kind of proxy: {urlsplit(proxy).scheme}://…")
    return proxy


@contextmanager
def proxy_explained(url: str) -> Iterator[None]:
    """Translate what is raised when a client for `url` is opened and the environment names a proxy that it cannot use.

    Raises:
        Missing: the proxy needs another package, or is no URL.
    """
    try:
        yield
    except (ImportError, ValueError) as error:
        if not any(sign in str(error) for sign in ("SOCKS", "proxy")):
            raise
        cause = str(error).splitlines()[0].split(", but")[0]
        raise Missing(
            f"{url}: the proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names cannot be used ({cause}); "
            "for socks5: pip install 'httpx[socks]' aiohttp-socks; to do without a proxy: NO_PROXY='*'"
        ) from error
