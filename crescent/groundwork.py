"""What a run does once, before its rounds: find the models, list the benchmarks, measure how far agreement can be
trusted, and let the base write the general instructions that are replayed in training.
"""

import hashlib
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np

from crescent.config import (
    Config,
    Embedder,
    EngineKind,
    EvalJob,
    ModelConfig,
    ReliabilityJob,
    Source,
    Trainer,
    own_place,
)
from crescent.engine.client import Client, Endpoint, EngineDied
from crescent.engine.journal import Journal, Journaled
from crescent.errors import BadConfig, Missing, TryAgain
from crescent.judging.reliability import read_reliability
from crescent.machine.processes import run_child
from crescent.machine.program import run_async
from crescent.models.model_digest import folder_digest, model_digest
from crescent.models.model_folder import find_model
from crescent.models.model_size import measure
from crescent.models.on_cpu import refuse_days_on_cpu
from crescent.models.packaged_model import PACKAGED, packaged_folder
from crescent.models.vector_cache import embed_once, embedder_digest
from crescent.records import Candidate, Checkpoint, Done, Item, Pair, Question, digest, read_lines, write_lines
from crescent.run_folder.manifest import SCRATCH, manifests_of, verified_manifest
from crescent.run_folder.places import LABELLED, RESPONSES
from crescent.synthesis.replay import write_instructions
from crescent.tasks.computation import same_computation
from crescent.workplace import Workplace


def find_models(place: Workplace) -> None:
    """Find the model that learns and, with `train.student`, its teacher: on this machine, or on the hub."""
    cfg = place.cfg
    if cfg.train.student is None:
        place.models["base"] = find_one(place, cfg.model, "base")
    else:
        student = replace(cfg.model, path=cfg.train.student, revision=None)
        place.models["base"] = find_one(place, student, "base")
        place.models["teacher"] = find_one(place, cfg.model, "teacher")
    measure.cache_clear()  # of some models nothing but the download says how large they are
    refuse_days_on_cpu(cfg)


def find_one(place: Workplace, model: ModelConfig, role: str) -> Checkpoint:
    """A model that was not trained here; its name ends in `role`."""
    path, name = model.path, f"{place.cfg.run.name}-{role}"
    if place.cfg.serving.engine is EngineKind.fake:
        return Checkpoint(name, 0, digest(path), weights=path)
    packaged = path.startswith(PACKAGED)
    folder = convert_packaged(place, path.removeprefix(PACKAGED)) if packaged else find_model(model)
    known = as_recorded([model_digest(folder), folder_digest(folder)], [place.root, *place.once.donors.runs])
    return Checkpoint(name, 0, known, weights=str(folder.resolve()))


def list_benchmarks(place: Workplace) -> Done:
    """All items of all benchmarks, chosen or not, with their vectors: no question may be too similar to one."""
    stage = "base/benchmarks"

    def work(folder: Path) -> Mapping[str, float]:
        job = eval_job(place, folder, Endpoint((), "none", "none"))
        place.run_child(stage, [sys.executable, "-P", "-m", "eval", "--items"], job, folder, {})
        items = read_lines(folder / "items.jsonl", Item)
        refuse_taught(items, place.cfg.model)
        # Even if no cosines are needed: a missing embedder fails here, before anything is served.
        lists = [[item.question for item in some] for _, some in groupby(items, key=lambda item: item.benchmark)]
        known = embedder_digest(place.cfg.diversify, place.asking_model.digest)
        vectors = embed_once(
            lists,
            known,
            partial(place.embedder, gpu_is_idle=True),
            lambda done, total: place.observer.progress(stage, done, total, "benchmark items embedded"),
            place.observer.say,
        )
        np.save(folder / "vectors.npy", vectors)
        return {"items": len(items)}

    own = place.cfg.diversify.embedder is Embedder.self and place.cfg.diversify.path is None
    inputs = {"model": place.asking_model.digest} if own else {}
    return place.do(stage, "benchmarks", work, {**inputs, **own_data(place.cfg)})


def own_data(cfg: Config) -> dict[str, str]:
    """Digests of the benchmarks' own files and folders, as inputs of the stages that read them.

    Sets that are published, or that the hub keeps, are not among them: their settings name them.

    Raises:
        Missing: a file is not there.
    """
    named = cfg.eval.data or os.environ.get("CRESCENT_DATA")
    found: dict[str, str] = {}
    for name, benchmark in cfg.eval.benchmarks.items():
        place = own_place(benchmark, Path(named) if named else None)
        if place is not None:
            found[f"benchmark {name}"] = folder_digest(place) if place.is_dir() else file_digest(place)
        elif benchmark.source is Source.jsonl:
            raise Missing(
                f"eval.benchmarks.{name}.path={benchmark.path}: no such file in {Path.cwd()}"
                f"{f' or in {named}' if named else ''}; give the file with one JSON object a line"
            )
    return found


def seed_data(cfg: Config) -> dict[str, str]:
    """Digest of the file with seed questions, as an input of the stages that read it; empty if there is none.

    Raises:
        Missing: the file is not there.
    """
    if cfg.bait.seeds is None:
        return {}
    path = Path(cfg.bait.seeds).expanduser()
    if not path.is_file():
        raise Missing(f"bait.seeds={cfg.bait.seeds}: no such file in {Path.cwd()}; put it back as it was")
    return {"bait.seeds": file_digest(path)}


def file_digest(path: Path) -> str:
    """Digest of a file's content, 16 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def refuse_taught(items: Sequence[Item], model: ModelConfig) -> None:
    """Refuse benchmarks of which the model was taught an item by `python -m crescent.warm_start`.

    Raises:
        BadConfig: the weights lie beside labelled problems, and a benchmark asks one of them.
    """
    weights = Path(model.path)
    labelled = weights.parent / LABELLED
    if not (weights.is_dir() and labelled.is_file()):
        return
    taught = {same_computation(item.question) or item.question for item in read_lines(labelled, Item)}
    known = [item for item in items if (same_computation(item.question) or item.question) in taught]
    if known:
        counts = Counter(item.benchmark for item in known)
        listed = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise BadConfig(
            f"model.path={model.path} was taught the answers to benchmark items ({listed}; the first is "
            f"{known[0].question!r}); make it with the same eval settings as this run: python -m crescent.warm_start"
        )


def list_others(place: Workplace) -> Done | None:
    """The questions of `diversify.runs`, as they are when this run first needs them; `None` if no run is named.

    They are copied: what another run does later must not change what this run resumes from.
    """
    if not place.cfg.diversify.runs:
        return None

    def work(folder: Path) -> Mapping[str, float]:
        questions = [question for other in other_runs(place.cfg) for question in accepted_questions(other)]
        return {"questions": write_lines(folder / "questions.jsonl", questions)}

    return place.do("base/others", "others", work, {})


def other_runs(cfg: Config) -> list[Path]:
    """The finished synthesis folders of `diversify.runs`, without those of this run.

    Raises:
        BadConfig: a named folder is not a run, or has no finished synthesis.
    """
    found: list[Path] = []
    own = cfg.run.folder.resolve()
    for root in map(Path, cfg.diversify.runs):
        if root.resolve() == own:
            continue
        folders = [path.resolve() for path in sorted(root.glob("round-*/synthesis")) if verified_manifest(path)]
        if not folders:
            raise BadConfig(f"diversify.runs={root}: no finished round-*/synthesis in it; name a run folder, runs/NAME")
        found += folders
    return found


def accepted_questions(folder: Path) -> list[Question]:
    """Accepted questions of a synthesis folder, in request order, which is the order of its vectors and votes."""
    candidates = read_lines(folder / "candidates.jsonl", Candidate)
    return [candidate.question for candidate in candidates if candidate.outcome == "accepted"]


def check_template(place: Workplace) -> None:
    """Check on the base's own responses that its chat template trains what the server is asked, before round 1.

    Raises:
        BadConfig: it does not; the message shows both texts.
    """
    if place.cfg.train.trainer is Trainer.fake or (place.root / "round-1" / "train").exists():
        return
    log = place.root / "logs" / "chat-template.log"
    model, responses = str(place.base_model.weights), str(place.root / "base" / "eval" / RESPONSES)
    run_child(place.launch, [sys.executable, "-P", "-m", "train.template", model, responses], log, {})


def calibrate(place: Workplace, base: Checkpoint) -> Done | None:
    """How often the base's majority is right on dev items, by agreement; `None` without `eval.reliability`."""
    stage = "base/reliability"
    if not place.cfg.eval.reliability:
        return None

    def work(folder: Path) -> Mapping[str, float]:
        place.server.ask(base, lambda endpoint: ask_eval(place, stage, endpoint, folder, "--reliability"))
        metrics: dict[str, float | None] = {}
        for benchmark, measured in read_reliability(folder / "reliability.json").items():
            metrics[f"{benchmark}/single"] = measured.single
            metrics[f"{benchmark}/majority"] = measured.majority
            metrics[f"{benchmark}/auroc"] = measured.auroc
        return {name: value for name, value in metrics.items() if value is not None}

    return place.do(stage, "reliability", work, {"checkpoint": base.digest, **own_data(place.cfg)})


def run_harness(place: Workplace, checkpoint: Checkpoint) -> Done | None:
    """The checkpoint's scores on tasks of lm-evaluation-harness: reported, never decisive; `None` if no task is set."""
    if not place.cfg.eval.harness.tasks:
        return None
    stage = f"{place.place_of(checkpoint)}/harness"
    tokenizer = str(checkpoint.origin.weights)

    def work(folder: Path) -> Mapping[str, float]:
        place.server.ask(checkpoint, lambda endpoint: ask_eval(place, stage, endpoint, folder, "--harness", tokenizer))
        scores = json.loads((folder / "harness.json").read_text())
        return {f"{score['task']}/{score['metric']}": score["value"] for score in scores}

    return place.do(stage, "harness", work, {"checkpoint": checkpoint.digest})


def write_replay(place: Workplace) -> Done | None:
    """General instructions that the base writes and answers itself; `None` if none are mixed in."""
    cfg, stage = place.cfg, "base/replay"
    if not cfg.pairs.replay.share:
        return None
    count = replay_instructions(cfg)

    def ask(endpoint: Endpoint, folder: Path) -> tuple[list[Pair], int]:
        async def stream() -> list[Pair]:
            serving = cfg.serving
            concurrency, timeout_s = serving.in_flight(len(endpoint.urls)), serving.request_timeout_s
            async with Client(endpoint.urls, endpoint.model, endpoint.key, concurrency, timeout_s) as client:
                engine = Journaled(client, journal, serving.max_refused)
                threshold = cfg.diversify.threshold
                found = await write_instructions(engine, embed, cfg.pairs.replay, count, cfg.run.seed, threshold)
                place.notice(stage, engine.refusals.line())
                return found

        with Journal(folder / SCRATCH / "journal.jsonl") as journal, place.embedder() as embed:
            place.notice(stage, journal.notice)
            pairs = run_async(stream())
            return pairs, sum(entry.completion.tokens for entry in journal.entries())

    def work(folder: Path) -> Mapping[str, float]:
        found, tokens = place.server.ask(place.base_model, lambda endpoint: ask(endpoint, folder))
        write_lines(folder / "pairs.jsonl", found)
        return {"asked": count, "pairs": len(found), "tokens": tokens}

    return place.do(stage, "replay", work, {"base": place.base_model.digest})


def replay_instructions(cfg: Config) -> int:
    """Number of general instructions to ask for: what the last round would need if every question were kept.

    A quarter more than that, because not all are usable. If the model gives fewer, training does with fewer.
    """
    pairs, share, decay = cfg.pairs, cfg.pairs.replay.share, cfg.pairs.decay
    # Shares of older rounds add up to a geometric series, whatever the number of rounds.
    rounds = cfg.run.rounds if decay == 1 else 1 / (1 - decay)
    return math.ceil(1.25 * share / (1 - share) * cfg.bait.questions * pairs.responses * rounds)


def ask_eval(place: Workplace, stage: str, endpoint: Endpoint, folder: Path, *flags: str) -> None:
    """Run the evaluation process against a served checkpoint.

    Args:
        flags: Flags of `python -m eval`; the job file comes after them.

    Raises:
        EngineDied: the process could not reach the engine.
    """
    reliability = "--reliability" in flags
    job = reliability_job(place, folder, endpoint) if reliability else eval_job(place, folder, endpoint)
    command = [sys.executable, "-P", "-m", "eval", *flags]
    try:
        place.run_child(stage, command, job, folder, {"CRESCENT_API_KEY": endpoint.key})
    except TryAgain as error:
        raise EngineDied(str(error)) from error


def eval_job(place: Workplace, folder: Path, endpoint: Endpoint) -> EvalJob:
    """The job file of the evaluation process."""
    cfg = place.cfg
    return EvalJob(
        eval=cfg.eval,
        task=cfg.task,
        urls=list(endpoint.urls),
        model=endpoint.model,
        output=str(folder.resolve()),
        concurrency=cfg.serving.in_flight(len(endpoint.urls)),
        request_timeout_s=cfg.serving.request_timeout_s,
        seed=cfg.run.seed,
        grading_timeout_s=cfg.consensus.grading_timeout_s,
        max_refused=cfg.serving.max_refused,
    )


def reliability_job(place: Workplace, folder: Path, endpoint: Endpoint) -> ReliabilityJob:
    """The job file for measuring votes: an `eval_job` with settings for sampling and voting."""
    shared = vars(eval_job(place, folder, endpoint))
    del shared["grading_timeout_s"]  # stands in `consensus`
    return ReliabilityJob(**shared, consensus=place.cfg.consensus)


def convert_packaged(place: Workplace, name: str) -> Path:
    """Folder of the converted model. The conversion needs torch, so it runs in a child process."""
    folder = packaged_folder(name)
    if not folder.is_dir():
        place.observer.started("base/model", resumed=False)
        log = place.root / "logs" / "packaged-model.log"
        run_child(place.launch, [sys.executable, "-P", "-m", "crescent.models.packaged_model", name], log, {})
    return folder


def as_recorded(digests: Sequence[str], runs: Sequence[Path]) -> str:
    """The digest of one model, of several kinds that it can have, by which the first run that knows it recorded it.

    Earlier runs recorded the digest of everything in the model's folder. What is loaded is a part of that: if it is
    still the same, so is the model, and their stages count as made from it.

    Args:
        digests: The usual one first; it is returned if no run knows the model.
    """
    for run in runs:
        inputs = [manifest["made_from"]["inputs"].values() for manifest in manifests_of(run).values()]
        recorded = {str(value) for values in inputs for value in values}
        if (found := next((known for known in digests if known in recorded), None)) is not None:
            return found
    return digests[0]
