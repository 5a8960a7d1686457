"""Folder of files that several runs share and that can be made again."""

import os
from pathlib import Path

from crescent.machine.surroundings import temporary_home


def cache_folder() -> Path:
    """`$CRESCENT_CACHE`, or else `~/.cache/crescent`, or, if this user cannot write there, a folder for temporary
    files. It may not exist yet."""
    named = os.environ.get("CRESCENT_CACHE")
    if named:
        return Path(named).expanduser()
    usual = Path("~/.cache/crescent").expanduser()
    there = next(folder for folder in (usual, *usual.absolute().parents) if folder.exists())
    return usual if os.access(there, os.W_OK) else temporary_home() / "cache"
