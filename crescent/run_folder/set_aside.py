"""Moving what is no longer valid out of the way. Nothing is deleted."""

import os
import shutil
from pathlib import Path

from crescent.machine.disk import sync
from crescent.run_folder.dropped import DROPPED
from crescent.run_folder.manifest import REUSED
from crescent.run_folder.places import SET_ASIDE

NOTES = (DROPPED, REUSED)
"""Suffixes of the files beside a stage's folder that speak of this stage and go where it goes."""


def set_aside(root: Path, path: Path) -> Path:
    """Move a folder or file of a run, with the notes beside it, to `set-aside/`; returns where it lies now."""
    name = str(path.relative_to(root)).replace(os.sep, "-")
    number = 1
    while (target := root / SET_ASIDE / f"{name}-{number}").exists():
        number += 1
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, target)
    for suffix in NOTES:
        note = path.with_name(path.name + suffix)
        if note.exists():
            note.rename(target.with_name(target.name + suffix))
    sync(target.parent)
    sync(path.parent)
    return target
