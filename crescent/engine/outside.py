"""Endpoints that somebody else started (`serving.urls`): asked, before a round is spent, whether they will do."""

import ipaddress
import json
import secrets
import socket
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from crescent.engine.replies import Malformed, read_models
from crescent.errors import BadConfig, Missing

ANSWERS_WITHIN_S = 30.0


def check_endpoint(url: str, key: str, context: int, rank: int | None, root: Path) -> None:
    """Check that an endpoint serves a base with enough context and, with a `rank`, that it can load our adapters.

    For that it is given an adapter without a single tensor, in a folder beside the runs, which is unloaded and deleted
    again.

    Args:
        key: Its API key.
        context: Longest prompt plus answer, in tokens.
        rank: Rank of the adapters; `None` if none will be loaded.
        root: Folder of the run; it need not exist yet.

    Raises:
        BadConfig: the key or a setting does not suit it.
        Missing: it does not answer, cannot see our files, or was started without what loading adapters needs.
    """
    where = f"serving.urls={url}"
    listed = request("GET", url, "/v1/models", key)
    if listed.status_code in (401, 403):
        raise BadConfig(f"{where}: refuses this key; set CRESCENT_API_KEY to the key of this endpoint")
    if not listed.is_success:
        raise BadConfig(f"{where}: GET /v1/models answers {listed.status_code}; it must speak OpenAI's protocol")
    try:
        models = read_models(listed.content)
    except Malformed as error:
        raise BadConfig(f"{where}: GET /v1/models {error}; it must speak OpenAI's protocol") from error
    for served in models:
        longest = served.max_model_len
        if not served.parent and longest is not None and longest < context:
            raise BadConfig(f"{where}: serves {longest} tokens of context; set model.context={longest} or less")
    if rank is not None:
        check_adapters(url, key, rank, root)


def check_adapters(url: str, key: str, rank: int, root: Path) -> None:
    """Load and unload an empty adapter; raises as `check_endpoint`."""
    where, name = f"serving.urls={url}", f"crescent-probe-{secrets.token_hex(4)}"
    existing = next(path for path in (root, *root.absolute().parents) if path.is_dir())
    with tempfile.TemporaryDirectory(prefix=".crescent-probe-", dir=existing) as folder:
        Path(folder).chmod(0o755)  # a server may run as another user
        write_empty_adapter(Path(folder), rank)
        body = {"lora_name": name, "lora_path": str(Path(folder).resolve())}
        loaded = request("POST", url, "/v1/load_lora_adapter", key, body)
        said = loaded.text[:300]
        if loaded.is_success:
            request("POST", url, "/v1/unload_lora_adapter", key, {"lora_name": name})
            return
    if "lora rank" in said.lower() and "greater than" in said.lower():
        fix = f"start it with --max-lora-rank {rank} or more, or lower train.lora.rank"
        raise BadConfig(f"{where}: cannot load adapters of train.lora.rank={rank}: {said}; {fix}")
    if "No adapter found" in said or "does not exist" in said:
        fix = "mount the run folder there under the same path, or set run.root to a folder that both see"
        raise Missing(f"{where}: cannot see {existing}: {said}; {fix}")
    if loaded.status_code in (404, 405):
        fix = "start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora"
        raise Missing(f"{where}: cannot load adapters while it runs ({loaded.status_code}); {fix}")
    fix = "start it with --enable-lora, VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and one API server"
    raise Missing(f"{where}: cannot load an adapter ({loaded.status_code}: {said}); {fix}")


def write_empty_adapter(folder: Path, rank: int) -> None:
    """An adapter in PEFT's format that changes no layer."""
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": ["q_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    header = b"{}      "  # safetensors: the length of the header, padded to 8 bytes, and a header without tensors
    (folder / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)


def request(method: str, url: str, path: str, key: str, body: dict[str, Any] | None = None) -> httpx.Response:
    target = url.rstrip("/").removesuffix("/v1") + path
    headers = {"Authorization": f"Bearer {key}"}
    try:
        return httpx.request(method, target, json=body, headers=headers, timeout=ANSWERS_WITHIN_S)
    except httpx.HTTPError as error:
        cause = error or type(error).__name__
        raise Missing(f"serving.urls={url}: nothing answers there ({cause}); start it, or correct the URL") from error


def is_here(url: str) -> bool:
    """Whether an endpoint runs on this machine, so that its GPUs are those of the trainer."""
    host = urlsplit(url).hostname or ""
    own = {address.address for some in psutil.net_if_addrs().values() for address in some}
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return any(address in own or ipaddress.ip_address(address.split("%")[0]).is_loopback for address in found)
