"""What a run downloads: whether it is here already, or can be had."""

import os
from pathlib import Path

import httpx

from crescent.config import Config, Embedder, EngineKind, ModelConfig
from crescent.doors.finding import Finding
from crescent.doors.preflight import ask_evaluation
from crescent.errors import CrescentError
from crescent.models.embedders import find_minilm
from crescent.models.model_folder import cached_snapshot, is_hub_id, weight_files
from crescent.models.packaged_model import PACKAGED

HUB = "https://huggingface.co"


def check_model(cfg: Config) -> Finding:
    """Whether the model is here, or can be downloaded."""
    if cfg.serving.engine is EngineKind.fake or cfg.model.path.startswith(PACKAGED):
        return Finding("model", f"{cfg.model.path} is on this machine")
    return find_or_ask_hub("model", cfg.model, "model.path")


def check_embedder(cfg: Config) -> Finding:
    """Whether the model that compares questions is here, or can be downloaded."""
    if cfg.diversify.embedder is not Embedder.minilm:
        return Finding("embedder", f"{cfg.diversify.embedder.value} needs no download")
    try:
        path = cfg.diversify.path or find_minilm()
    except CrescentError as error:
        return Finding("embedder", str(error), "install it, or set diversify.embedder=lexical")
    return find_or_ask_hub("embedder", ModelConfig(path=path), "diversify.path")


def check_benchmarks(cfg: Config) -> Finding:
    """Whether all items can be listed; what the hub has is downloaded, as a run would do first (a few MB)."""
    try:
        items = ask_evaluation(cfg, "eval", "--items")
    except CrescentError as error:
        return Finding("benchmarks", str(error), "see the end of this line")
    return Finding("benchmarks", f"{items.count(chr(10)):,} items of {len(cfg.eval.benchmarks)} benchmarks")


def find_or_ask_hub(name: str, model: ModelConfig, setting: str) -> Finding:
    """Whether a model is a folder, complete in the hub's cache, or can be downloaded.

    Args:
        setting: Key that takes the path of a folder instead.
    """
    path = model.path
    if is_here(model):
        return Finding(name, f"{path} is on this machine")
    if not is_hub_id(path):
        return Finding(name, f"{path}: no such folder", f"set {setting} to a folder, or to a hub id (owner/name)")
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        mend = f"unset HF_HUB_OFFLINE, or copy it here and set {setting} to its folder (hf download {path})"
        return Finding(name, f"{path} is not on this machine, and HF_HUB_OFFLINE=1", mend)
    token = os.environ.get("HF_TOKEN") or read_text(hub_home() / "token")
    hub = os.environ.get("HF_ENDPOINT", HUB)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        file = f"{hub}/{path}/resolve/{model.revision or 'main'}/config.json"
        status = httpx.head(file, headers=headers, timeout=15, follow_redirects=True).status_code
    except httpx.HTTPError as error:
        mend = f"check the network, or copy it here and set {setting} to its folder"
        return Finding(name, f"{path}: {hub} cannot be reached ({type(error).__name__})", mend)
    if status in (401, 403):
        mend = f"accept its licence at {hub}/{path}, then set HF_TOKEN (hf auth login)"
        return Finding(name, f"{path}: the hub refuses {'this token' if token else 'without a login'}", mend)
    if status >= 400:
        return Finding(name, f"{path}: the hub answers {status}", f"check {setting} and the revision")
    return Finding(name, f"{path} can be downloaded, {'logged in' if token else 'without a login'}")


def is_here(model: ModelConfig) -> bool:
    """Whether a model needs no download: it is a folder, or all of its weights are in the hub's cache."""
    if Path(model.path).expanduser().is_dir():
        return True
    snapshot = cached_snapshot(model) if is_hub_id(model.path) else None
    try:
        return snapshot is not None and bool(weight_files(snapshot))
    except CrescentError:  # no weights, or some shards only: a download was interrupted
        return False


def is_local(cfg: Config) -> bool:
    """Whether the run's model needs no download."""
    return cfg.serving.engine is EngineKind.fake or cfg.model.path.startswith(PACKAGED) or is_here(cfg.model)


def hub_home() -> Path:
    """Folder of the hub's client (https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    return Path(os.environ.get("HF_HOME", cache / "huggingface")).expanduser()


def hub_cache() -> Path:
    return Path(os.environ.get("HF_HUB_CACHE", hub_home() / "hub")).expanduser()


def read_text(file: Path) -> str:
    return file.read_text().strip() if file.is_file() else ""
