"""The model card: describes an adapter or weights to people who find them without the run
(https://huggingface.co/docs/hub/model-cards). It holds nothing that differs between attempts at the same job."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from crescent.config import Start, TrainJob, Tuning
from crescent.models.packaged_model import PACKAGED

UNKNOWN = "unknown: see the base model"
HUB = re.compile(r"models--(?P<owner>[^/]+)--(?P<name>[^/]+)/snapshots/(?P<commit>[0-9a-f]+)")


def model_card(job: TrainJob, base: Path, metrics: Mapping[str, Any]) -> str:
    """Text of README.md, the same in `adapter/` and `weights/`."""
    cfg = job.train
    name, revision = base_model(job, base)
    licence = licence_of(base)
    full = cfg.tuning is Tuning.full
    data = ModelCardData(
        base_model=name if "/" in name else None,  # the hub takes it for the name of a repository
        license=licence.lower() if is_identifier(licence) else None,
        library_name="transformers" if full else "peft",
        pipeline_tag="text-generation",
        tags=["crescent", "self-improvement", cfg.trainer.value, *([] if full else ["lora"])],
    )
    start = {Start.base: "the base", Start.parent: "the parent", Start.merge: f"base + {cfg.alpha} (parent - base)"}
    low_rank = f", rank {cfg.lora.rank}, alpha {cfg.lora.alpha}, dropout {cfg.lora.dropout}, on {cfg.lora.targets}"
    steps = f"{metrics['steps']} of {cfg.batch}, learning rate {cfg.learning_rate:g}, warm-up {cfg.warmup:g}, cosine"
    rows = {
        "base model": name,
        "revision": revision,
        "licence": licence,
        "method": f"{cfg.trainer.value}, {cfg.tuning.value}" + ("" if full else low_rank),
        "started from": start[cfg.start if job.parent else Start.base],
        "pairs": f"{metrics['rows']} trained on, {metrics.get('too_long', 0)} left out as too long",
        "steps": steps,
        "loss": f"{metrics['loss_first']:.4f} at the first step, {metrics['loss_last']:.4f} at the last",
        "seed": job.seed,
        "settings": metrics["settings"],
        **job.lineage,
    }
    table = "\n".join(f"| {key} | {cell(value)} |" for key, value in rows.items())
    text = f"""---
{data.to_yaml()}
---

# A child of {cell(name)}

{"All weights" if full else "A LoRA adapter"}, trained by Crescent on questions that a model asked itself and on
answers that most of its samples agreed on. The report of its run shows what it gained or lost.

| | |
|---|---|
{table}
"""
    return str(ModelCard(text))


def base_model(job: TrainJob, base: Path) -> tuple[str, str]:
    """Name and revision of the base. A local folder is named by the last part of its path: the rest may be private."""
    cached = HUB.search(base.as_posix())
    if cached:
        return f"{cached['owner']}/{cached['name']}", cached["commit"]
    if job.model.path.startswith(PACKAGED):
        return job.model.path, "as packaged"
    return base.name, job.model.revision or "unknown: a local folder"


def licence_of(base: Path) -> str:
    """Licence of the base: what its model card names, or the first line of its licence file."""
    card = base / "README.md"
    if card.is_file():
        data = ModelCard(card.read_text(errors="replace"), ignore_metadata_errors=True).data
        named = data.get("license_name") if data.get("license") == "other" else data.get("license")
        if isinstance(named, str) and named:
            return named
    for file in sorted(base.glob("LICEN[CS]E*")):
        lines = [line.strip() for line in file.read_text(errors="replace").splitlines()]
        first = next(filter(None, lines), "")
        if first:
            return first
    return UNKNOWN


def is_identifier(licence: str) -> bool:
    """Whether it is a licence name as on the hub (`apache-2.0`) and not a sentence."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", licence) is not None


def cell(value: object) -> str:
    """A value as text that stays within its cell of a Markdown table."""
    return " ".join(str(value).replace("|", "\\|").split())
