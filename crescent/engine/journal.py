"""The engine's memory: every finished completion is one appended line, so no completion is ever paid for twice.

Everything a stage does between completions (deduplicating, voting, scoring) is a pure function of them. Running the
stage again over its journal therefore continues exactly where it was killed.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from crescent.engine.client import Engine, EngineDied
from crescent.machine.failpoint import failpoint
from crescent.records import Completion, Request, digest, to_line

UNANSWERED = "unanswered"
"""Stands in place of a finish reason: the engine died while it had this request."""
CANARY = Request("canary", "1", temperature=0.0, max_tokens=1, seed=0)
"""What a living engine answers."""


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
        self.recovered = sum(its.completion.finish_reason != UNANSWERED for its in self.entries.values())
        """Completions found on opening: work that an interruption did not lose."""
        if whole < path.stat().st_size:
            os.truncate(path, whole)
        self._file = path.open("ab", buffering=0)

    def find(self, request: Request) -> Completion | None:
        found = self._find(request)
        return found if found and found.finish_reason != UNANSWERED else None

    def is_suspect(self, request: Request) -> bool:
        """Whether the engine had this request when it died, and was not given it again since."""
        found = self._find(request)
        return found is not None and found.finish_reason == UNANSWERED

    def _find(self, request: Request) -> Completion | None:
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


class Journaled:
    """An engine that asks the journal first.

    Requests that it had when it died are suspects: they are asked again one at a time, with nothing beside them. One
    that it dies of then, too, is set aside: its completion is an error, like that of a request the engine refuses.
    """

    def __init__(self, engine: Engine, journal: Journal) -> None:
        self.engine = engine
        self.journal = journal
        self._waiting: dict[str, Request] = {}
        self._gate = Gate()

    async def complete(self, request: Request) -> Completion:
        """As the engine does.

        Raises:
            EngineDied: the journal knows now which requests it had, or which one it died of.
        """
        known = self.journal.find(request)
        if known is not None:
            return known
        suspect = self.journal.is_suspect(request)
        async with self._gate.alone() if suspect else self._gate.beside():
            if suspect:
                await self.engine.complete(CANARY)  # an engine that is not there does not die of what comes next
            self._waiting[request.key] = request
            try:
                completion = await self.engine.complete(request)
            except EngineDied as error:
                if suspect:
                    said = f"{request.key} is set aside: the engine died when it had it among others, and again alone"
                    self.journal.append(request, Completion(said, "error", tokens=0))
                    raise EngineDied(f"{error}; {said}") from error
                self._suspect(error)
                raise
            finally:
                self._waiting.pop(request.key, None)
            self.journal.append(request, completion)
        return completion

    def _suspect(self, error: EngineDied) -> None:
        for key in sorted(error.unanswered & self._waiting.keys()):
            if not self.journal.is_suspect(self._waiting[key]):
                self.journal.append(self._waiting[key], Completion("", UNANSWERED, tokens=0))


class Gate:
    """Lets many in beside each other, or one alone."""

    def __init__(self) -> None:
        self._door = asyncio.Lock()
        self._inside = 0
        self._left = asyncio.Event()

    @asynccontextmanager
    async def beside(self) -> AsyncIterator[None]:
        async with self._door:
            self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            self._left.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Waits until all have left, and keeps the door shut meanwhile."""
        async with self._door:
            while self._inside:
                self._left.clear()
                await self._left.wait()
            yield
