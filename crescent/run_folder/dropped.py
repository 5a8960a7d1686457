"""Parts of finished stages that were deleted on purpose, e.g. the weights of a beaten child (`run.keep=best`).

The note beside the stage's folder is believed only if it was written for this stage and is as it was written; so it
cannot declare away a file that nobody dropped. Only whole folders inside a stage are dropped.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crescent.machine.disk import write_whole
from crescent.records import digest

DROPPED = ".dropped.json"
"""Suffix of the note beside a stage's folder that says which of its folders were deleted on purpose."""


def note_dropped(folder: Path, part: str, manifest: Mapping[str, Any]) -> None:
    """Note, before it is done, that a folder inside a finished stage is deleted."""
    gone = {name.partition("/")[0] for name in dropped(folder, manifest)}
    parts, stage = sorted({*gone, part}), manifest["digest"]
    note = {"parts": parts, "stage": stage, "sealed": digest(parts, stage)}
    write_whole(_note_beside(folder), json.dumps(note, indent=1).encode())


def dropped(folder: Path, manifest: Mapping[str, Any]) -> set[str]:
    """Names of the files of a finished stage that were deleted on purpose.

    Raises:
        OSError: the note is there and cannot be read.
    """
    try:
        note = json.loads(_note_beside(folder).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return set()
    files = manifest["files"].keys()
    if isinstance(note, list):
        return _as_of_earlier_notes(note, files)
    try:
        parts, stage = note["parts"], note["stage"]
        believed = stage == manifest["digest"] and note["sealed"] == digest(parts, stage)
        return {name for name in files for part in parts if name.startswith(f"{part}/")} if believed else set()
    except (KeyError, TypeError):
        return set()


def _as_of_earlier_notes(names: list[Any], files: Any) -> set[str]:
    """Notes used to be lists of files: of each folder all files, or the list is not what a run wrote."""
    listed = {name for name in names if isinstance(name, str)}
    whole: set[str] = set()
    for part in {name.partition("/")[0] for name in listed if "/" in name}:
        inside = {name for name in files if name.startswith(f"{part}/")}
        whole |= inside if inside <= listed else set()
    return whole


def _note_beside(folder: Path) -> Path:
    return folder.with_name(folder.name + DROPPED)
