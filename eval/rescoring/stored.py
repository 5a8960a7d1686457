"""Finished evaluations as they lie in a run folder, and the settings that they were made with."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from crescent.config import BenchmarkConfig, TaskConfig
from crescent.errors import BadConfig
from crescent.records import Response, Score, read_lines
from crescent.run_folder.manifest import damage, verified_manifest
from crescent.run_folder.places import read_config

C = TypeVar("C")


@dataclass(frozen=True)
class Stored:
    """One checkpoint's finished evaluation."""

    place: str
    """`base`, `teacher` or `round-2`."""
    digest: str
    """Digest of the stage, by which a verdict names it."""
    settings: Mapping[str, Any]
    """Settings that the stage was made with."""
    responses: tuple[Response, ...]
    scores: tuple[Score, ...]


def read_evaluations(root: Path, notes: list[str]) -> Iterator[Stored]:
    """The finished evaluations of a run: base, teacher, then the rounds in order."""
    rounds = sorted(
        (folder for folder in root.glob("round-*/") if folder.name.removeprefix("round-").isdecimal()),
        key=lambda folder: int(folder.name.removeprefix("round-")),
    )
    for folder in (root / "base", root / "teacher", *rounds):
        stage = folder / "eval"
        if not stage.is_dir():
            continue
        manifest = verified_manifest(stage)
        if manifest is None:
            notes.append(f"{folder.name}/eval: {damage(stage)}, so it was not rescored")
        elif not (stage / "responses.jsonl").is_file():
            notes.append(f"{folder.name}/eval: has no responses.jsonl, so it was not rescored")
        else:
            responses = read_records(stage / "responses.jsonl", Response)
            scores = msgspec.json.decode((stage / "scores.json").read_bytes(), type=tuple[Score, ...])
            settings = manifest["made_from"]["settings"]
            yield Stored(folder.name, manifest["digest"], settings, responses, scores)


def read_records(path: Path, kind: type[C]) -> tuple[C, ...]:
    try:
        return tuple(read_lines(path, kind))
    except msgspec.DecodeError as error:
        raise BadConfig(
            f"{path}: holds no {kind.__name__} records ({error}); was another version the writer?"
        ) from error


def no_texts(root: Path, notes: Sequence[str]) -> str:
    """Why there is nothing to rescore, and what to do."""
    why = "; ".join(notes) or "no finished evaluation with response texts lies in it"
    return (
        f"rescore={root}: {why}. Scores are made again from the texts in */eval/responses.jsonl: copy the folder whole "
        "from where the run was made, or evaluate again (run.redo=base/eval, or python -m eval on a checkpoint)"
    )


def settings_of(root: Path, evaluation: Stored) -> tuple[TaskConfig, dict[str, BenchmarkConfig]]:
    """The run's task and benchmarks, as its stage recorded them.

    Only a style that the run's own config names is kept: what a stage recorded without one was read by the task's
    style, which is what changed since.
    """
    stage = evaluation.settings
    configured = (read_config(root).get("eval") or {}).get("benchmarks") or {}
    benchmarks = {}
    for name, settings in stage["eval"]["benchmarks"].items():
        chosen = (configured.get(name) or {}).get("style")
        benchmarks[name] = read_settings(BenchmarkConfig, {**settings, "style": chosen}, f"{root}, {name}")
    return read_settings(TaskConfig, stage["task"], f"{root}, task"), benchmarks


def read_settings(kind: type[C], settings: Mapping[str, Any], where: str) -> C:
    """A config from recorded settings; keys that only another version knows are left out."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    schema = OmegaConf.structured(kind)
    try:
        found = OmegaConf.to_object(OmegaConf.merge(schema, {key: settings[key] for key in schema if key in settings}))
    except OmegaConfBaseException as error:
        raise BadConfig(f"{where}: settings of another version ({str(error).splitlines()[0]})") from error
    assert isinstance(found, kind)
    return found
