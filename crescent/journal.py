"""The engine's memory: every finished completion is one appended line, so no completion is ever paid for twice.

Everything a stage does between completions (deduplicating, voting, scoring) is a pure function of them. Running the
stage again over its journal therefore continues exactly where it was killed.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from crescent.client import Engine
from crescent.failpoint import failpoint
from crescent.records import Completion, Request, digest, to_line


@dataclass(frozen=True)
class Entry:
    key: str
    request: str
    """Digest of the whole request: an entry never answers another one."""
    completion: Completion


class Journal:
    """An append-only file of completions, read back on opening. A torn tail is cut."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, Entry] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        whole = 0
        decode = msgspec.json.Decoder(Entry).decode
        with path.open("rb") as file:
            for line in file:
                try:
                    if not line.endswith(b"\n"):
                        break
                    entry = decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    break
                self.entries[entry.key] = entry
                whole += len(line)
        self.recovered = len(self.entries)
        """Completions found on opening: work that an interruption did not lose."""
        if whole < path.stat().st_size:
            os.truncate(path, whole)
        self._file = path.open("ab", buffering=0)

    def find(self, request: Request) -> Completion | None:
        entry = self.entries.get(request.key)
        return entry.completion if entry and entry.request == digest(request) else None

    def append(self, request: Request, completion: Completion) -> None:
        entry = Entry(request.key, digest(request), completion)
        line = to_line(entry)
        while line:  # a nearly full disk takes a part without complaint; the next write complains
            line = line[self._file.write(line) :]
        failpoint("journal.append")
        self.entries[request.key] = entry

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


@dataclass(frozen=True)
class Journaled:
    """An engine that asks the journal first."""

    engine: Engine
    journal: Journal

    async def complete(self, request: Request) -> Completion:
        known = self.journal.find(request)
        if known is not None:
            return known
        completion = await self.engine.complete(request)
        self.journal.append(request, completion)
        return completion
