"""Journal of completions: each finished one is appended as a line, so none is ever paid for twice.

Everything else that a stage does (deduplicating, voting, scoring) is a pure function of its completions. So running the
stage again with its journal continues exactly where it was killed.
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
"""Finish reason of a request that the engine had not answered when it died."""
CANARY = Request("canary", "1", temperature=0.0, max_tokens=1, seed=0)
"""Request that any live engine can answer."""


@dataclass(frozen=True)
class Entry:
    key: str
    request: str
    """Digest of the whole request: an entry never answers a different one."""
    completion: Completion


class Journal:
    """An append-only file of completions. It is read when opened; an incomplete last line is cut off."""

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
        self.recovered = sum(entry.completion.finish_reason != UNANSWERED for entry in self.entries.values())
        """Number of completions found when the file was opened: work that an interruption did not lose."""
        if whole < path.stat().st_size:
            os.truncate(path, whole)
        self._file = path.open("ab", buffering=0)

    def find(self, request: Request) -> Completion | None:
        """The completion of this request; `None` if it has none yet."""
        found = self._find(request)
        return found if found and found.finish_reason != UNANSWERED else None

    def is_suspect(self, request: Request) -> bool:
        """Whether the engine had this request when it died, and has not answered it since."""
        found = self._find(request)
        return found is not None and found.finish_reason == UNANSWERED

    def _find(self, request: Request) -> Completion | None:
        entry = self.entries.get(request.key)
        return entry.completion if entry and entry.request == digest(request) else None

    def append(self, request: Request, completion: Completion) -> None:
        entry = Entry(request.key, digest(request), completion)
        line = to_line(entry)
        while line:  # on a nearly full disk, write() may take only a part; the next call then raises
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
    """An engine that looks into the journal first.

    Requests that the engine had when it died are suspects: each is sent again alone, with no other request in flight.
    If the engine dies again, the request is skipped: its completion is an error, as for a request the engine refuses.
    """

    def __init__(self, engine: Engine, journal: Journal) -> None:
        self.engine = engine
        self.journal = journal
        self._waiting: dict[str, Request] = {}
        self._in_flight = SharedLock()

    async def complete(self, request: Request) -> Completion:
        """The completion from the journal, or else from the engine.

        Raises:
            EngineDied: the engine died. The journal now holds the requests it had, or the one that killed it.
        """
        known = self.journal.find(request)
        if known is not None:
            return known
        suspect = self.journal.is_suspect(request)
        async with self._in_flight.exclusive() if suspect else self._in_flight.shared():
            if suspect:
                await self.engine.complete(CANARY)  # an engine that is already dead must not be blamed on this request
            self._waiting[request.key] = request
            try:
                completion = await self.engine.complete(request)
            except EngineDied as error:
                if suspect:
                    reason = f"{request.key} is skipped: the engine died of it twice, first among others, then alone"
                    self.journal.append(request, Completion(reason, "error", tokens=0))
                    raise EngineDied(f"{error}; {reason}") from error
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


class SharedLock:
    """A readers-writer lock: held by many at once (shared), or by one alone (exclusive)."""

    def __init__(self) -> None:
        self._entry = asyncio.Lock()
        self._holders = 0
        self._released = asyncio.Event()

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        async with self._entry:
            self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            self._released.set()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Wait until no one else holds the lock; later requests for it wait, too."""
        async with self._entry:
            while self._holders:
                self._released.clear()
                await self._released.wait()
            yield
