"""How often each replica died."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from crescent.records import to_line


class Deaths:
    """Deaths over all attempts of a run, so that a scheduler cannot restart a hopeless run for ever."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, replica: int, cause: str) -> int:
        """Write a death down; returns how many this replica has had."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as deaths:
            deaths.write(to_line({"replica": replica, "cause": cause, "time": time.time()}))
        return self.count()[replica]

    def count(self) -> Counter[int]:
        """Deaths by number of the replica."""
        lines = self.path.read_bytes().splitlines() if self.path.exists() else []
        return Counter(_replica(line) for line in lines)


def _replica(line: bytes) -> int:
    """Earlier versions had one engine; a torn line counts as its."""
    try:
        died: dict[str, Any] = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return 1
    return int(died.get("replica", 1))
