"""Where what can be made again is kept from one run to the next."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$CRESCENT_CACHE`, else `~/.cache/crescent`; it need not be there yet."""
    return Path(os.environ.get("CRESCENT_CACHE") or "~/.cache/crescent").expanduser()
