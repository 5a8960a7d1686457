"""`crescent export`: a run's checkpoint as a folder that works without the run: weights or adapter, tokenizer, licence,
and a card that says what it was made from and how it scored.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crescent.doors.export_card import Origin, model_card
from crescent.errors import BadConfig, Missing
from crescent.machine.disk import whole_folder
from crescent.models.model_folder import ADAPTER_CONFIG, cached_snapshot, is_hub_id, read_json
from crescent.models.packaged_model import PACKAGED, packaged_folder
from crescent.reading.finished import RunReader
from crescent.reading.rounds import RoundSummary, RunSummary, read_run
from crescent.run_folder.places import read_config

BEST = "best"
"""Value of `--round` for the last accepted child."""
PACKAGED_IDS = {"packaged:smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""Hub ids of the packaged models."""
OF_TOKENIZER = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "chat_template*")
OF_LICENCE = ("LICEN[CS]E*", "NOTICE*")
SNAPSHOT = re.compile(r"models--[^/]+/snapshots/(?P<commit>[0-9a-f]{40})")
CONVERTER = "convert_hf_to_gguf.py"
"""llama.cpp's script that makes a GGUF file of a folder of weights."""
GGUF_FIX = (
    f"--gguf: there is no {CONVERTER} on the PATH or in $LLAMA_CPP; `git clone https://github.com/ggml-org/llama.cpp`, "
    "`pip install gguf`, set LLAMA_CPP to the folder, and run the same command again"
)


@dataclass(frozen=True)
class Chosen:
    """The child of a round, as its run folder has it."""

    run: RunSummary
    round_: RoundSummary
    training: Path
    """Folder of the finished training stage."""
    config: Mapping[str, Any]
    """Settings of the run."""


def export_model(run: Path, wanted: str, target: Path, merge: bool, base: str | None, gguf: bool) -> Chosen:
    """Write a round's child to the folder `target`, which must not exist.

    Args:
        wanted: Number of a round, or `best`.
        merge: Whether to write complete weights.
        base: Hub id of the base, where the run does not know it.

    Raises:
        BadConfig: there is no such child, `target` exists, or the base has no name that means something elsewhere.
        Missing: the base's folder is needed and is not here, or there is no converter to GGUF.
    """
    chosen = choose(run, wanted)
    converter = find_converter() if gguf else None
    check_target(target)
    origin = find_base(chosen.config, base)
    adapter, weights = chosen.training / "adapter", chosen.training / "weights"
    whole = merge or gguf or not adapter.is_dir()
    if not whole and origin.hub_id is None:
        raise BadConfig(
            f"{origin.path}: an adapter needs its base, and this one is a folder of this machine: name its hub id with "
            "--base ORGANISATION/NAME, or export complete weights with --merge"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(target) as draft:
        if not whole:
            copy_files(adapter, draft)
            name_base(draft / ADAPTER_CONFIG, origin)
            copy_beside(origin.folder, draft, (*OF_TOKENIZER, *OF_LICENCE))
        elif weights.is_dir():
            copy_files(weights, draft)
            copy_beside(origin.folder, draft, OF_LICENCE)
        else:
            merge_into(adapter, origin, str(chosen.config["model"]["dtype"]), draft)
        (draft / "README.md").write_text(model_card(chosen.run, chosen.round_, chosen.training, origin, whole))
        if converter is not None:
            convert(converter, draft, target.name)
    return chosen


def choose(run: Path, wanted: str) -> Chosen:
    """The child that `--round` names.

    Raises:
        BadConfig: it is no round's number, no child was accepted, or the round has no finished training.
    """
    summary = read_run(run, run.name)
    rounds = [found for found in summary.rounds if found.round and found.checkpoint]
    known = ", ".join(str(found.round) for found in rounds) or "none is trained yet"
    if wanted == BEST:
        accepted = [found for found in rounds if found.action == "accept"]
        if not accepted:
            fix = f"--round {rounds[-1].round} exports a child all the same" if rounds else "train one first"
            raise BadConfig(f"{run}: no child was accepted, so the best model is still the base; {fix}")
        found = accepted[-1]
    else:
        matching = [found for found in rounds if str(found.round) == wanted]
        if not matching:
            raise BadConfig(f"--round {wanted}: {run} has no such child; its rounds: {known} (or `best`)")
        found = matching[0]
    stage = f"round-{found.round}/train"
    if RunReader(run).stage(stage) is None:
        raise BadConfig(f"{run}/{stage}: is damaged; `crescent verify {run}` says how")
    return Chosen(summary, found, run / stage, read_config(run))


def check_target(target: Path) -> None:
    """Raise `BadConfig` if the folder exists: what is in it would be mixed with what is exported."""
    if target.exists():
        raise BadConfig(f"--to {target}: exists already; name a new folder, or delete this one")


def find_base(config: Mapping[str, Any], named: str | None) -> Origin:
    """The model that the run started from: where it is on this machine, and what it is called elsewhere."""
    model = config.get("model") or {}
    student = (config.get("train") or {}).get("student")
    path = str(student or model.get("path"))
    revision = None if student else model.get("revision")
    folder: Path | None = Path(path).expanduser()
    hub_id = named
    if path.startswith(PACKAGED):
        folder, hub_id = packaged_folder(path.removeprefix(PACKAGED)), named or PACKAGED_IDS.get(path)
    elif is_hub_id(path):
        from crescent.config import ModelConfig

        folder, hub_id = cached_snapshot(ModelConfig(path=path, revision=revision)), named or path
        if folder is not None and (commit := SNAPSHOT.search(folder.as_posix())):
            revision = commit["commit"]
    elif path.startswith("fake:"):
        hub_id = named or path
    there = folder if folder is not None and folder.is_dir() else None
    return Origin(path, hub_id, revision, there, licence_in(there))


def licence_in(folder: Path | None) -> str | None:
    """Licence that the base's card names; `None` if it names none."""
    from huggingface_hub import ModelCard

    card = None if folder is None else folder / "README.md"
    if card is None or not card.is_file():
        return None
    named = ModelCard(card.read_text(errors="replace"), ignore_metadata_errors=True).data.get("license")
    return named if isinstance(named, str) else None


def name_base(file: Path, origin: Origin) -> None:
    """Write the base's hub id into an adapter's settings, in place of a path of this machine."""
    if not file.is_file():
        return
    settings = read_json(file)
    settings |= {"base_model_name_or_path": origin.hub_id, "revision": origin.revision}
    file.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")


def copy_files(source: Path, target: Path) -> None:
    """Copy the files of a folder. Not linked: whoever edits the export must not edit the run."""
    for file in sorted(source.iterdir()):
        if file.is_file():
            shutil.copyfile(file, target / file.name)


def copy_beside(source: Path | None, target: Path, patterns: Sequence[str]) -> None:
    """Copy the files of the base that match a pattern and are not there yet."""
    for file in sorted({file for pattern in patterns for file in (source.glob(pattern) if source else ())}):
        if file.is_file() and not (target / file.name).exists():
            shutil.copyfile(file, target / file.name)


def merge_into(adapter: Path, origin: Origin, dtype: str, target: Path) -> None:
    """Merge base and adapter in a process of its own, because that needs torch.

    Raises:
        Missing: the base's weights are not on this machine.
    """
    from crescent.machine.processes import ERRORS

    if origin.folder is None:
        fix = f"`hf download {origin.path}` first" if is_hub_id(origin.path) else "export the adapter without --merge"
        raise Missing(f"--merge: the base {origin.path} is not on this machine; {fix}")
    import subprocess

    command = [sys.executable, "-P", "-m", "train.merge", str(origin.folder), str(adapter), dtype, str(target)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise ERRORS.get(ended.returncode, Missing)(ended.stderr.strip().splitlines()[-1].removeprefix("error: "))


def find_converter() -> str:
    """Path of llama.cpp's converter. Raises `Missing`, with how to get it."""
    folder = os.environ.get("LLAMA_CPP")
    inside = Path(folder) / CONVERTER if folder else None
    found = str(inside) if inside is not None and inside.is_file() else shutil.which(CONVERTER)
    if found is None:
        raise Missing(GGUF_FIX)
    return found


def convert(converter: str, folder: Path, name: str) -> None:
    """Make `name.gguf` beside the weights. Raises `Missing` if the converter fails, with its last line."""
    import subprocess

    command = [sys.executable, converter, str(folder), "--outfile", str(folder / f"{name}.gguf")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        last = (ended.stderr or ended.stdout).strip().splitlines()[-1:] or ["it says nothing"]
        raise Missing(f"--gguf: {converter} failed ({last[0]}); export without --gguf and convert the folder by hand")


def push(folder: Path, repository: str, kind: str, public: bool) -> str:
    """Upload a folder to the hub; returns its address. A repository that it makes is private unless `public`.

    Args:
        kind: `model` or `dataset`.

    Raises:
        Missing: the hub cannot be reached, or does not let us write there.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        made = api.create_repo(repository, repo_type=kind, private=not public, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=made.repo_id, repo_type=kind)
    except Exception as error:  # the hub's client raises a dozen kinds, and each means: not uploaded
        cause = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise Missing(
            f"--push {repository}: not uploaded ({cause}); {folder} is complete: `hf auth login`, then `hf upload "
            f"{repository} {folder} --repo-type {kind}`"
        ) from error
    return str(made)
