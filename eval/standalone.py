"""Any model on any benchmarks, without a run: `python -m eval model.path=ORG/MODEL eval=gsm8k` (see `--help`).

It is the first stage of a run and nothing more: the same folder, journal and files as `base/eval`. So it resumes where
it stopped, and `crescent compare` reads it.
"""

import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from crescent.config import Child, EngineKind, Mode, samples_of
from crescent.config.standalone import EvaluationConfig
from crescent.doors.hydra_door import given_keys, is_given, through_hydra
from crescent.doors.opening import open_run
from crescent.errors import BadConfig, Missing
from crescent.machine.program import run_to_exit_code
from crescent.machine.proxies import is_loopback, proxy_explained
from crescent.records import Checkpoint, Proof, digest
from crescent.run_folder.places import CONFIG, REPORT, RESPONSES
from crescent.run_folder.stage_settings import stage_settings

if TYPE_CHECKING:
    from crescent.stages import Stages

JOB_FLAGS = ("--items", "--reliability", "--harness")
ADAPTERS = "the adapters of a run are in runs/NAME/round-N/train/adapter"
WHATEVER_IS_SERVED = "whatever is served"
"""Value of `model.path` where an endpoint is given and no model."""


@dataclass(frozen=True)
class Listed:
    """A model that an endpoint serves."""

    name: str
    root: str | None
    """Folder or hub id of its weights, as the server states it."""
    adapter: bool


def main(arguments: Sequence[str]) -> None:
    """Run the job file or the evaluation that the command line asks for; ends the process with the exit code."""
    if is_job(arguments):
        from eval.job import main as do_job

        sys.exit(do_job(arguments))
    bare = [argument for argument in arguments if "=" not in argument and not argument.startswith(("-", "~"))]
    before = [arguments[place - 1] for place, argument in enumerate(arguments) if argument in bare and place]
    # A bare word after a flag is the flag's value.
    if bare and not any(argument.startswith("-") for argument in before):
        sys.exit(run_to_exit_code(lambda: refuse(bare[0])))
    through_hydra("evaluate", read_evaluation, evaluate)


def is_job(arguments: Sequence[str]) -> bool:
    """Whether the arguments name a job file, or have a flag that goes with one."""
    return any(
        argument in JOB_FLAGS or ("=" not in argument and argument.endswith((".yaml", ".yml")))
        for argument in arguments
    )


def refuse(word: str) -> None:
    """Raise `BadConfig` for a bare word, with what it probably meant."""
    raise BadConfig(f"{word}: settings are given as KEY=VALUE; did you mean model.path={word}? (python -m eval --help)")


def read_evaluation(composed: DictConfig) -> EvaluationConfig:
    """The composed config, checked, with the settings that follow from what is evaluated.

    Raises:
        BadConfig, Missing: the command line does not say what to evaluate, or `adapter` is not an adapter.
    """
    if composed.rescore is not None:
        composed.model.path = WHATEVER_IS_SERVED
        rescoring = OmegaConf.to_object(composed)
        assert isinstance(rescoring, EvaluationConfig)
        return rescoring
    urls, fake = bool(composed.serving.urls), composed.serving.engine is EngineKind.fake
    if composed.adapter is not None and not fake:
        adapter = read_adapter(Path(composed.adapter))
        composed.train.lora.rank = max([adapter["r"], *(adapter.get("rank_pattern") or {}).values()])
        if OmegaConf.is_missing(composed.model, "path") and not urls:
            composed.model.path = adapter["base_model_name_or_path"]
    if OmegaConf.is_missing(composed.model, "path"):
        if not urls:
            rule = "say what to evaluate: a hub id, a folder of weights, an adapter (adapter=FOLDER) or an endpoint"
            raise BadConfig(f"model.path: {rule} (serving.urls=[http://host:8000/v1]); see python -m eval --help")
        composed.model.path = WHATEVER_IS_SERVED
    # An adapter is loaded beside its base, and an endpoint cannot be restarted; a single model is what a server starts.
    composed.serving.child = Child.adapter if urls or composed.adapter is not None else Child.restart
    cfg = OmegaConf.to_object(composed)
    assert isinstance(cfg, EvaluationConfig)
    if not urls and not fake:
        check_no_adapter(cfg.model.path)
    return cfg if is_given("run.name") else replace(cfg, run=replace(cfg.run, name=descriptive_name(cfg)))


def read_adapter(folder: Path) -> dict[str, Any]:
    """The settings of a LoRA adapter.

    Raises:
        Missing, BadConfig: the folder holds no LoRA adapter, or none that can be loaded safely.
    """
    where = f"adapter={folder}"
    if not folder.is_dir():
        raise Missing(f"{where}: there is no such folder; {ADAPTERS}")
    config = folder / "adapter_config.json"
    if not config.is_file():
        fix = "complete weights are given as model.path" if (folder / "config.json").is_file() else ADAPTERS
        raise Missing(f"{where}: no adapter_config.json in it, so it is no adapter; {fix}")
    if not (folder / "adapter_model.safetensors").is_file():
        fix = "save it again with safe_serialization=True, or copy it whole"
        raise Missing(f"{where}: no adapter_model.safetensors in it, and pickles are not loaded; {fix}")
    try:
        settings: dict[str, Any] = json.loads(config.read_text())
    except ValueError as error:
        raise Missing(f"{config}: cannot be read as JSON ({error}); copy the adapter again") from error
    if settings.get("peft_type") != "LORA":
        rule = f"its peft_type is {settings.get('peft_type')}, and servers load LoRA adapters only"
        raise BadConfig(f"{where}: {rule}; merge it into its model and give the result as model.path")
    return settings


def check_no_adapter(path: str) -> None:
    """Raise `BadConfig` if `model.path` is the folder of an adapter or of a run, not of weights."""
    folder = Path(path).expanduser()
    if (folder / "config.json").is_file() or not folder.is_dir():
        return
    if (folder / "adapter_config.json").is_file():
        raise BadConfig(f"model.path={path}: is a LoRA adapter; give it as adapter={path}")
    from crescent.reading.finished import is_run

    if is_run(folder):
        fix = f"give one of its checkpoints, model.path={folder}/round-1/train/weights or adapter={folder}/round-1/"
        raise BadConfig(f"model.path={path}: is a run's folder; {fix}train/adapter")


def descriptive_name(cfg: EvaluationConfig) -> str:
    """Name of the run folder: what is evaluated, and a digest of all settings that the scores depend on."""
    what = cfg.adapter or (cfg.serving.urls[0] if cfg.model.path == WHATEVER_IS_SERVED else cfg.model.path)
    what = str(Path(what).resolve()) if Path(what).is_dir() else what
    skipped = ("", "train", "adapter", "weights", "v1", "http")
    parts = [part for part in re.split(r"[/:]+", what) if part not in skipped]
    words = re.sub(r"[^a-z0-9.]+", "-", "-".join(parts[-2:]).lower()).strip("-.")
    settings = {kind: stage_settings(cfg, kind) for kind in ("eval", "harness")}
    known = digest(what, cfg.model.path, cfg.model.revision, list(cfg.serving.urls), settings)
    return f"eval-{words[:50]}-{known[:6]}"


def evaluate(cfg: EvaluationConfig) -> None:
    """Ask every item that has no response yet, and show the scores; or rescore, or show the plan."""
    from crescent.doors.preflight import check_evaluation

    if cfg.rescore is not None:
        from eval.rescoring.command import rescore

        rescore(cfg, given_keys())
        return
    if cfg.mode is Mode.plan:
        show_plan(cfg)
        return
    check_evaluation(cfg)
    listed = ask_endpoints(cfg) if cfg.serving.urls else None
    if listed is not None:
        cfg = replace(cfg, model=replace(cfg.model, path=listed.name))
    with open_run(cfg) as stages:
        checkpoint = find_checkpoint(cfg, stages, listed)
        stages.models["base"] = checkpoint
        if not stages.once.foresee("base/eval", stage_settings(cfg, "eval")).hit:
            count_items(cfg)  # fails here, before anything is served, if a benchmark is not available
        stages.evaluate(checkpoint)
    show_results(cfg.run.folder, checkpoint)


def find_checkpoint(cfg: EvaluationConfig, stages: "Stages", listed: Listed | None) -> Checkpoint:
    """The checkpoint to evaluate: a local model, one from the hub or one that an endpoint serves, with an adapter or
    without."""
    from crescent.groundwork import as_recorded, find_one
    from crescent.models.model_digest import folder_digest

    if listed is None:
        base = find_one(stages, cfg.model, "base")
    else:
        # The weights behind an endpoint cannot be seen: two models with the same name count as the same.
        identity = digest("served", listed.name, listed.root)
        base = Checkpoint(f"{cfg.run.name}-base", 0, identity, weights=listed.root or listed.name)
    if cfg.adapter is None:
        return base
    folder = Path(cfg.adapter).resolve()
    earlier = [folder_digest(Path(base.weights))] if listed is None and base.weights else []
    identity = as_recorded(
        [digest(known, folder_digest(folder)) for known in [base.digest, *earlier]], [cfg.run.folder]
    )
    name = f"{cfg.run.name[:40]}-adapter-{identity[:8]}"
    return Checkpoint(name, 0, identity, adapter=str(folder), proof=find_proof(folder, cfg), base=base)


def find_proof(adapter: Path, cfg: EvaluationConfig) -> Proof | None:
    """How to recognise a run's adapter; `None` if its trainer left no proof or used another precision."""
    import msgspec

    training = adapter.parent
    proof, config = training / "proof.json", training.parent.parent / CONFIG
    if not proof.is_file() or not config.is_file():
        return None
    same = OmegaConf.select(OmegaConf.load(config), "model.dtype") == cfg.model.dtype.name
    return msgspec.json.decode(proof.read_bytes(), type=Proof) if same else None


def ask_endpoints(cfg: EvaluationConfig) -> Listed:
    """The model to evaluate: the one that `model.path` names, or the only one that is not an adapter.

    Raises:
        Missing: an endpoint does not answer.
        BadConfig: an endpoint rejects our key or does not serve the model.
    """
    found = [choose(list_models(url), cfg.model.path, url) for url in cfg.serving.urls]
    if len({model.name for model in found}) > 1:
        names = ", ".join(f"{model.name} at {url}" for model, url in zip(found, cfg.serving.urls, strict=True))
        raise BadConfig(f"serving.urls: they do not serve the same model ({names}); give only replicas of one model")
    return found[0]


def choose(models: Sequence[Listed], wanted: str, url: str) -> Listed:
    """The model called `wanted`, or the only base. Raises `BadConfig` if there is none or several."""
    if wanted == WHATEVER_IS_SERVED:
        matching = [model for model in models if not model.adapter]
    else:
        matching = [model for model in models if wanted in (model.name, model.root)]
    if len(matching) == 1:
        return matching[0]
    there = ", ".join(model.name for model in models) or "nothing"
    if not matching:
        raise BadConfig(f"serving.urls={url}: it serves {there}, and not model.path={wanted}; choose one of those")
    raise BadConfig(f"serving.urls={url}: it serves {there}; choose one with model.path=NAME")


def list_models(url: str) -> list[Listed]:
    """The models that an endpoint serves. Raises as `ask_endpoints`."""
    import httpx

    key = os.environ.get("CRESCENT_API_KEY", "none")
    try:
        headers, direct = {"Authorization": f"Bearer {key}"}, is_loopback(url)
        with proxy_explained(url):
            reply = httpx.get(f"{url.rstrip('/')}/models", headers=headers, timeout=60, trust_env=not direct)
    except httpx.HTTPError as error:
        raise Missing(f"serving.urls={url}: nothing answers there ({error or type(error).__name__})") from error
    if reply.status_code in (401, 403):
        raise BadConfig(f"serving.urls={url}: it answered {reply.status_code}; set CRESCENT_API_KEY to its key")
    try:
        listed = reply.raise_for_status().json()["data"]
        return [Listed(entry["id"], entry.get("root"), bool(entry.get("parent"))) for entry in listed]
    except (httpx.HTTPStatusError, ValueError, KeyError, TypeError) as error:
        rule = f"{url.rstrip('/')}/models returned no list of models ({reply.status_code})"
        raise BadConfig(f"serving.urls={url}: {rule}; an OpenAI-compatible endpoint ends in /v1") from error


def count_items(cfg: EvaluationConfig) -> dict[str, int]:
    """Number of items by benchmark. Raises as `eval.benchmarks.read`."""
    from eval.benchmarks import read

    benchmarks = cfg.eval.benchmarks.items()
    return {name: len(read(name, benchmark, cfg.eval.data).items) for name, benchmark in benchmarks}


def show_plan(cfg: EvaluationConfig) -> None:
    """What would be asked and whether it can run here; starts nothing."""
    from rich.console import Console

    from crescent.doors.preflight import check_evaluation
    from crescent.errors import CrescentError

    console = Console(highlight=False, markup=False, soft_wrap=True)
    root = cfg.run.folder
    console.print(f"run folder  {root}{'' if root.exists() else ' (new)'}")
    console.print(f"model       {cfg.model.path}{f' with {cfg.adapter}' if cfg.adapter else ''}")
    console.print(f"served by   {', '.join(cfg.serving.urls) or cfg.serving.engine.value}")
    try:
        check_evaluation(cfg)
        for name, items in count_items(cfg).items():
            responses = items * samples_of(cfg.eval.benchmarks[name], cfg.eval)
            requests = f"{responses:,} requests of at most {cfg.eval.max_tokens:,} tokens"
            console.print(f"benchmark   {name}: {items:,} items, {requests}")
    except CrescentError as error:
        console.print(f"cannot run here: {error}")
    if cfg.eval.harness.tasks:
        console.print(f"lm-eval     {', '.join(cfg.eval.harness.tasks)}")


def show_results(root: Path, checkpoint: Checkpoint) -> None:
    """Tables of the scores, and the paths of everything else."""
    import msgspec
    from rich.console import Console

    from crescent.stages import read_scores
    from eval import evaluate, harness

    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False, markup=False)
    folder, tasks = root / "base/eval", root / "base/harness/harness.json"
    console.print(f"{checkpoint.name}  {checkpoint.adapter or checkpoint.weights}", soft_wrap=True)
    if scores := read_scores(folder):
        evaluate.show(scores, console)
    if tasks.is_file():
        harness.show(msgspec.json.decode(tasks.read_bytes(), type=list[harness.HarnessScore]), console)
    for name, path in (("responses", folder / RESPONSES), ("scores", folder / "scores.json")):
        console.print(f"{name:<10} {path}", soft_wrap=True)
    console.print(f"{'report':<10} {root / REPORT}", soft_wrap=True)
