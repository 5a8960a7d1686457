"""Folder of files that several runs share and that can be made again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$CRESCENT_CACHE`, or else `~/.cache/crescent`. It may not exist yet."""
    return Path(os.environ.get("CRESCENT_CACHE") or "~/.cache/crescent").expanduser()
