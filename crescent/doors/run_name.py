"""The name of a run whose command line names a model and no run: the model's, with the experiment's behind it."""

import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from crescent.config import Config
from crescent.records import digest
from crescent.run_folder.places import read_config

UNNAMED = "crescent"
"""`run.name` in conf/config.yaml, which no experiment has replaced."""
LONGEST = 64
"""Characters of the longest `run.name`."""
GENERIC = ("weights", "adapter", "train", "model", "final", "checkpoint", "hf", "snapshots")
"""Names of folders that say nothing about the model in them."""


def named_after_model(cfg: Config, given: Collection[str], swept: Collection[str] = ()) -> Config:
    """The config, with a `run.name` that follows the model of the command line.

    A run that was started under the experiment's own name with the same model, before its name followed the model,
    keeps that name: the same command resumes it.

    Args:
        given: Keys that the command line sets.
        swept: Those of them that a sweep varies, which the names of its runs say anyway.
    """
    keys = {"model.path", "model"}
    if "run.name" in given or not keys & set(given) or keys & set(swept):
        return cfg
    started = read_config(cfg.run.folder).get("model")
    if isinstance(started, dict) and started.get("path") == cfg.model.path:
        return cfg
    return replace(cfg, run=replace(cfg.run, name=joined(slug(cfg.model.path), cfg.run.name)))


def slug(path: str) -> str:
    """The name of a model in the name of a run: `Qwen/Qwen2.5-7B-Instruct` → `qwen2.5-7b-instruct`."""
    parts = [part for part in re.split(r"[/\\:]+", str(Path(path).expanduser())) if part not in ("", ".", "..")]
    telling = [part for part in parts if part.lower() not in GENERIC and not re.fullmatch(r"[0-9a-f]{40}", part)]
    rounds = len(telling) > 1 and re.fullmatch(r"round-\d+", telling[-1])
    last = "-".join(telling[-2:]) if rounds else (telling or parts or ["model"])[-1]
    last = last.removeprefix("models--").replace("--", "-")
    return re.sub(r"[^a-z0-9._]+", "-", last.lower()).strip("-._") or digest(path)[:8]


def joined(model: str, experiment: str) -> str:
    """Both names in one, at most `LONGEST` characters; what is cut off is replaced by a digest."""
    name = model if experiment == UNNAMED else f"{model}-{experiment}"
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 9].rstrip('-._')}-{digest(name)[:8]}"
