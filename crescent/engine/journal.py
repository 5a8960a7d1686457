"""Journal of completions: each finished one is appended as a line, so none is ever paid for twice.

Everything else that a stage does (deduplicating, voting, scoring) is a pure function of its completions. So running the
stage again with its journal continues exactly where it was killed.

Each line ends with a checksum of the rest. A line that is not as it was written is skipped and kept aside, and its
request is asked again. Lines without a checksum, which earlier versions wrote, are read as they are.
"""

import os
import re
import zlib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from crescent.engine.client import Engine, EngineDied
from crescent.engine.refusals import CANARY, MAX_REFUSED, REFUSED, SKIPPED, Refusals, is_skipped
from crescent.engine.suspects import ALONE, Turns, groups
from crescent.machine.disk import write_whole
from crescent.machine.failpoint import failpoint
from crescent.records import Completion, Request, digest

UNANSWERED = "unanswered"
"""Finish reason of a request that the engine had not answered when it died."""


DAMAGED = ".damaged"
"""Suffix of the file beside a journal that keeps the lines which were not as they were written."""
CHECKSUM = re.compile(rb',"crc32":"([0-9a-f]{8})"\}\n')


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: str
    request: str
    """Digest of the whole request: an entry never answers a different one."""
    completion: Completion


@dataclass(frozen=True)
class JournalLines:
    """What a journal file holds."""

    entries: list[Entry]
    """Whole entries, in the order written; a later one replaces an earlier one with its key."""
    whole: list[bytes]
    """Lines of the entries."""
    damaged: list[bytes]
    """Lines that are not as they were written."""
    torn: int
    """Bytes of an incomplete last line."""


def read_journal(path: Path) -> JournalLines:
    """Read a journal file without changing it.

    Raises:
        OSError: it cannot be read.
    """
    found = JournalLines([], [], [], 0)
    torn = 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                torn = len(line)
                continue
            read = _entry_at_the_end_of(line)
            if read is None:
                found.damaged.append(line)
                continue
            entry, start = read
            if start:
                found.damaged.append(line[:start] + b"\n")
            found.entries.append(entry)
            found.whole.append(line[start:])
    return replace(found, torn=torn)


def journal_line(entry: Entry) -> bytes:
    """The line of an entry, with its checksum."""
    body = msgspec.json.encode(entry)
    return body[:-1] + b',"crc32":"%08x"}\n' % zlib.crc32(body)


def _entry_at_the_end_of(line: bytes) -> tuple[Entry, int] | None:
    """The entry of a line and where it starts; `None` if it is not as it was written.

    An entry may follow the rest of a torn line, which a crash of the machine left without its end.
    """
    for start in dict.fromkeys((0, max(0, line.rfind(b'{"key":')))):
        entry = _entry_of(line[start:], must_have_checksum=start > 0)
        if entry is not None:
            return entry, start
    return None


def _entry_of(line: bytes, must_have_checksum: bool) -> Entry | None:
    checksum = CHECKSUM.search(line, len(line) - 21)
    if checksum is None and must_have_checksum:
        return None
    body = line if checksum is None else line[: checksum.start()] + b"}"
    if checksum is not None and zlib.crc32(body) != int(checksum[1], 16):
        return None
    try:
        return msgspec.json.decode(body, type=Entry)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class Journal:
    """An append-only file of completions, read when it is opened.

    An incomplete last line is cut off. Lines that are not as they were written are moved to a file beside it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        found = read_journal(path)
        # What an engine refused costs nothing to ask again, and the next engine may have a longer context.
        kept = (entry for entry in found.entries if entry.completion.finish_reason != REFUSED or _is_skipped(entry))
        self.entries = {entry.key: entry for entry in kept}
        self.recovered = sum(entry.completion.finish_reason != UNANSWERED for entry in self.entries.values())
        """Number of completions found when the file was opened: work that an interruption did not lose."""
        self.damaged = len(found.damaged)
        """Number of lines that were not as they were written; what they answered is asked again."""
        self.notice = _notice(path, self.damaged)
        """What a person should know about the file; empty if it is whole."""
        if found.damaged:
            set_damaged_lines_aside(path, found)
        elif found.torn:
            os.truncate(path, path.stat().st_size - found.torn)
        self._file = path.open("ab", buffering=0)

    def find(self, request: Request) -> Completion | None:
        """The completion of this request; `None` if it has none yet."""
        found = self._find(request)
        return found if found and found.finish_reason != UNANSWERED else None

    def is_suspect(self, request: Request) -> bool:
        """Whether the engine had this request when it died, and has not answered it since."""
        found = self._find(request)
        return found is not None and found.finish_reason == UNANSWERED

    def suspects(self) -> dict[str, str]:
        """Requests that the engine had when it died, by key, each with its mark (`crescent.engine.suspects`)."""
        entries = self.entries.values()
        return {entry.key: entry.completion.text for entry in entries if entry.completion.finish_reason == UNANSWERED}

    def _find(self, request: Request) -> Completion | None:
        entry = self.entries.get(request.key)
        return entry.completion if entry and entry.request == digest(request) else None

    def append(self, request: Request, completion: Completion) -> None:
        entry = Entry(request.key, digest(request), completion)
        line = journal_line(entry)
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


def _notice(path: Path, damaged: int) -> str:
    if not damaged:
        return ""
    lines = "1 line was" if damaged == 1 else f"{damaged} lines were"
    kept = path.name + DAMAGED
    return f"{path}: {lines} not as written; kept in {kept} beside it, and what they answered is asked again"


def _is_skipped(entry: Entry) -> bool:
    return is_skipped(entry.completion)


def set_damaged_lines_aside(path: Path, found: JournalLines) -> None:
    """Append the damaged lines of a journal to the file beside it, then write the journal without them."""
    with path.with_name(path.name + DAMAGED).open("ab") as aside:
        aside.writelines(found.damaged)
        aside.flush()
        os.fsync(aside.fileno())
    write_whole(path, b"".join(found.whole))


class Journaled:
    """An engine that looks into the journal first.

    Requests that the engine had when it died are suspects, which are sent again without any other requests: a few of
    them alone, many in groups (`crescent.engine.suspects`). If a group kills the engine, its members are sent alone. A
    request that kills the engine alone is skipped: its completion is an error, as for one that the engine refuses.
    Refused requests are counted and not written down.
    """

    def __init__(self, engine: Engine, journal: Journal, max_refused: float = MAX_REFUSED) -> None:
        """`max_refused`: share of refused requests above which the stage ends, in [0, 1]."""
        self.engine = engine
        self.journal = journal
        self.refusals = Refusals(max_refused)
        self._waiting: dict[str, Request] = {}
        self._groups = groups(journal.suspects())
        self._members = Counter(self._groups.values())
        self._turns = Turns()

    async def complete(self, request: Request) -> Completion:
        """The completion from the journal, or else from the engine.

        Raises:
            EngineDied: the engine died. The journal now holds the requests it had, or the one that killed it.
            BadConfig, Missing, TryAgain: the engine refuses everything, or too much (`Refusals.add`).
        """
        self.refusals.asked += 1
        known = self.journal.find(request)
        completion = known if known is not None else await self._ask(request)
        if completion.finish_reason == REFUSED:
            await self.refusals.add(request, completion, self.engine)
        else:
            self.refusals.answered += 1
        return completion

    async def _ask(self, request: Request) -> Completion:
        group = self._groups.get(request.key) if self.journal.is_suspect(request) else None
        async with self._turns.of(group):
            if group is not None:
                await self.engine.complete(CANARY)  # an engine that is already dead must not be blamed on this request
            self._waiting[request.key] = request
            try:
                completion = await self.engine.complete(request)
            except EngineDied as error:
                if group is not None and self._members[group] == 1:
                    reason = f"{request.key} {SKIPPED}"
                    self.journal.append(request, Completion(reason, REFUSED, tokens=0))
                    raise EngineDied(f"{error}; {reason}") from error
                self._suspect(error, "" if group is None else ALONE)
                raise
            finally:
                self._waiting.pop(request.key, None)
            if completion.finish_reason != REFUSED:
                self.journal.append(request, completion)
        return completion

    def _suspect(self, error: EngineDied, mark: str) -> None:
        known = self.journal.suspects()
        for key in sorted(error.unanswered & self._waiting.keys()):
            if known.get(key) != mark or not self.journal.is_suspect(self._waiting[key]):
                self.journal.append(self._waiting[key], Completion(mark, UNANSWERED, tokens=0))
