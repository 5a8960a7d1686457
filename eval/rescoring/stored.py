"""Finished evaluations in a run folder, and the settings with which they were made."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from crescent.config import BenchmarkConfig, TaskConfig
from crescent.errors import BadConfig
from crescent.records import Response, Score, read_lines
from crescent.run_folder.manifest import damage, verified_manifest
from crescent.run_folder.places import RESPONSES, read_config

C = TypeVar("C")


@dataclass(frozen=True)
class Stored:
    """One checkpoint's finished evaluation."""

    place: str
    """Folder in the run's: `base`, `teacher` or `round-2`."""
    digest: str
    """Digest of the stage; verdicts refer to it."""
    settings: Mapping[str, Any]
    """Settings with which the stage was made."""
    responses: tuple[Response, ...]
    scores: tuple[Score, ...]


def read_evaluations(root: Path, notes: list[str]) -> Iterator[Stored]:
    """The finished evaluations of a run: base, teacher, then the rounds in order.

    Args:
        notes: A sentence about each evaluation that cannot be read is added.

    Raises:
        BadConfig: a file holds other records than those of this version.
    """
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
        elif not (stage / RESPONSES).is_file():
            notes.append(f"{folder.name}/eval: has no responses.jsonl, so it was not rescored")
        else:
            with known_records(stage):
                responses = tuple(read_lines(stage / RESPONSES, Response))
                scores = msgspec.json.decode((stage / "scores.json").read_bytes(), type=tuple[Score, ...])
            yield Stored(folder.name, manifest["digest"], manifest["made_from"]["settings"], responses, scores)


@contextmanager
def known_records(stage: Path) -> Iterator[None]:
    """Raise `BadConfig` for records that cannot be decoded."""
    try:
        yield
    except msgspec.DecodeError as error:
        fix = "rescore with the version of Crescent that made the run"
        raise BadConfig(f"{stage}: its records are of another version ({error}); {fix}") from error


def no_texts(root: Path, notes: Sequence[str]) -> str:
    """Why there is nothing to rescore, and how to fix it."""
    why = "; ".join(notes) or "it has no finished evaluation with response texts"
    return (
        f"rescore={root}: {why}. Rescoring needs the texts in */eval/responses.jsonl: copy the complete folder from "
        "where the run was made, or evaluate again (run.redo=base/eval, or python -m eval on a checkpoint)"
    )


def settings_of(root: Path, evaluation: Stored) -> tuple[TaskConfig, dict[str, BenchmarkConfig]]:
    """The run's task and benchmarks, as its stage recorded them, each benchmark in its own style.

    Of the styles, only those that somebody chose in the run's config are kept. The recorded ones say how answers were
    read then, and a run from before benchmarks had styles recorded none.
    """
    stage = evaluation.settings
    configured = (read_config(root).get("eval") or {}).get("benchmarks") or {}
    benchmarks = {}
    for name, settings in stage["eval"]["benchmarks"].items():
        chosen = (configured.get(name) or {}).get("style")
        benchmarks[name] = read_settings(BenchmarkConfig, {**settings, "style": chosen}, f"{root}, {name}")
    return read_settings(TaskConfig, stage["task"], f"{root}, task"), benchmarks


def read_settings(kind: type[C], settings: Mapping[str, Any], where: str) -> C:
    """A config from recorded settings. Keys of other versions are left out; new ones have their defaults."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    schema = OmegaConf.structured(kind)
    try:
        found = OmegaConf.to_object(OmegaConf.merge(schema, {key: settings[key] for key in schema if key in settings}))
    except OmegaConfBaseException as error:
        raise BadConfig(f"{where}: settings of another version ({str(error).splitlines()[0]})") from error
    assert isinstance(found, kind)
    return found
