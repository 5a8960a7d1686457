"""Connects this process to a Ray cluster, or starts one on this machine, and looks at its nodes."""

import importlib.util
import os
import secrets
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.ray_host import NotShared as NotShared
from launch.ray_host import Token, look

LOCAL = "local"
"""Address that stands for a new cluster on this machine."""
CONNECTS_WITHIN_S = 10.0
LOOKS_WITHIN_S = 120.0
"""Longest time for a node to say what it sees, in seconds: its first process imports Ray."""
AUTH_MODE, AUTH_TOKEN, AUTH_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
"""Variables of Ray's token authentication (https://docs.ray.io/en/latest/ray-security/token-auth.html)."""


class NotInstalled(Exception):
    """Ray is missing; the message says where to get it."""


class Unreachable(Exception):
    """No cluster answers at the address."""


class WrongToken(Exception):
    """The cluster and this process have different tokens, or only one of them has any."""


class OtherVersion(Exception):
    """The cluster runs another version of Ray or Python."""


@dataclass(frozen=True)
class Node:
    """A living node of the cluster."""

    id: str
    address: str
    cpus: float
    gpus: int

    def fits(self, cpus: float, gpus: int) -> int:
        """Number of processes with so many CPU cores and GPUs that this node has room for when it is idle."""
        by_gpu = self.gpus // gpus if gpus else None
        by_cpu = int(self.cpus / cpus) if cpus else None
        known = [count for count in (by_gpu, by_cpu) if count is not None]
        return min(known) if known else 1


def check_installed() -> None:
    """Raises `NotInstalled` if Ray is missing."""
    if importlib.util.find_spec("ray") is None:
        raise NotInstalled("Ray is not installed: pip install -e '.[ray]', or pip install 'ray[default]'")


@contextmanager
def connected(address: str | None, token: bool) -> Iterator[list[Node]]:
    """The living nodes of a cluster, to which this process is connected inside the block.

    Args:
        address: `auto`, `host:port`, or `None` for a new cluster on this machine, which ends with the block.
        token: Whether the cluster asks for a token. Of a new cluster it is a random one, unless the user has one.

    Raises:
        NotInstalled, Unreachable, WrongToken, OtherVersion: there is no such cluster for us.
    """
    check_installed()
    if address is not None and address != "auto":
        check_listening(address)
    authenticate(token, new=address is None)
    import ray

    before = signal.getsignal(signal.SIGTERM)  # ray.init puts its own handler in place, which skips ours
    with explained():
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        ray.init(address or LOCAL, **({"include_dashboard": False} if address is None else {}), **quiet)
    signal.signal(signal.SIGTERM, before)
    try:
        yield living_nodes()
    finally:
        ray.shutdown()


def authenticate(token: bool, new: bool) -> None:
    """Turn token authentication on or off for this process and for a cluster that it starts.

    Ray reads these variables when it is imported.
    """
    os.environ.setdefault(AUTH_MODE, "token" if token else "disabled")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if token and new and not os.environ.get(AUTH_PATH):
        os.environ.setdefault(AUTH_TOKEN, secrets.token_hex(32))


def check_listening(address: str) -> None:
    """Raises `Unreachable` if nothing listens at `host:port`; Ray itself would try for a minute."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECTS_WITHIN_S).close()
    except OSError as error:
        raise Unreachable(f"nothing listens there ({error})") from error


@contextmanager
def explained() -> Iterator[None]:
    """Translate what `ray.init` raises."""
    from ray.exceptions import AuthenticationError, RpcError

    try:
        yield
    except AuthenticationError as error:
        raise WrongToken(first_line(error)) from error
    except (RuntimeError, ConnectionError, TimeoutError, RpcError) as error:
        words = f"{error} {error.__cause__ or ''}"
        if "ersion mismatch" in words:
            raise OtherVersion(" ".join(str(error).split())) from error
        if "nauthenticated" in words or "token" in words.lower():
            raise WrongToken(first_line(error)) from error
        raise Unreachable(first_line(error)) from error
    except Exception as error:
        if type(error) is not Exception:  # Ray raises just this one if a new node takes longer than 30 s
            raise
        raise Unreachable(first_line(error)) from error


def living_nodes() -> list[Node]:
    """The nodes of the cluster to which this process is connected, in the order of their addresses."""
    import ray

    found = []
    for node in ray.nodes():
        if node["Alive"]:
            has = node["Resources"]
            node_id, address = node["NodeID"], node["NodeManagerAddress"]
            found.append(Node(node_id, address, has.get("CPU", 0.0), int(has.get("GPU", 0))))
    return sorted(found, key=lambda node: (node.address, node.id))


@contextmanager
def shared_folder(folder: Path, nodes: list[Node]) -> Iterator[Token]:
    """A token file in the run folder, which all these nodes have read.

    Raises:
        NotShared: some did not find it, or cannot run our code.
    """
    token = Token(folder.resolve() / ".ray-token", secrets.token_hex(16))
    token.path.write_text(token.word)
    try:
        blind = [f"{node.address}: {problem}" for node in nodes if (problem := seen_by(node, token))]
        if blind:
            raise NotShared("; ".join(blind))
        yield token
    finally:
        token.path.unlink(missing_ok=True)


def seen_by(node: Node, token: Token) -> str:
    """What is wrong with the run folder as a node sees it; empty if nothing is."""
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node.id, soft=False)
    asked = ray.remote(look).options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(token)
    try:
        return str(ray.get(asked, timeout=LOOKS_WITHIN_S))
    except RayError as error:
        words = str(error)
        if "No module named" in words:
            return "Crescent is not installed there, or in another environment"
        return first_line(error)


def first_line(error: BaseException) -> str:
    """First line of an error that says something."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line), type(error).__name__)
