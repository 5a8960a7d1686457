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
from collections.abc import Iterator
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
    for line, entry, start in _lines(path):
        if not line.endswith(b"\n"):
            torn = len(line)
            continue
        if start or entry is None:
            found.damaged.append(line if entry is None else line[:start] + b"\n")
        if entry is not None:
            found.entries.append(entry)
            found.whole.append(line[start:])
    return replace(found, torn=torn)


def _lines(path: Path) -> Iterator[tuple[bytes, Entry | None, int]]:
    """Each line with its entry and where in the line that starts; `None` if the line is torn or not as it was written.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        for line in file:
            read = _entry_at_the_end_of(line) if line.endswith(b"\n") else None
            yield (line, *(read or (None, 0)))


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

    An incomplete last line is cut off. Lines that are not as they were written are moved to a file beside it. What a
    journal holds is looked up in the file: in memory there is only where each completion stands.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self._offsets: dict[str, int] = {}
        """Place of the line in the file, by key of the request."""
        self._unanswered: dict[str, Entry] = {}
        """Requests that the engine had when it died, by key; few."""
        self.damaged = 0
        """Number of lines that were not as they were written; what they answered is asked again."""
        torn = self._find_lines()
        self.notice = _notice(path, self.damaged)
        """What a person should know about the file; empty if it is whole."""
        if self.damaged:
            set_damaged_lines_aside(path, read_journal(path))
            self._find_lines()
        elif torn:
            os.truncate(path, path.stat().st_size - torn)
        self.recovered = len(self._offsets) - len(self._unanswered)
        """Number of completions found when the file was opened: work that an interruption did not lose."""
        self._file = path.open("ab", buffering=0)
        self._written = path.open("rb")

    def _find_lines(self) -> int:
        """Note where each entry stands, and count damaged lines; returns the bytes of an incomplete last line."""
        self._offsets.clear()
        self._unanswered.clear()
        offset = torn = 0
        for line, entry, start in _lines(self.path):
            # What an engine refused costs nothing to ask again, and the next engine may have a longer context.
            if entry and (entry.completion.finish_reason != REFUSED or is_skipped(entry.completion)):
                self._note(entry, offset + start)
            is_whole = line.endswith(b"\n")
            self.damaged += is_whole and (entry is None or start > 0)
            torn = 0 if is_whole else len(line)
            offset += len(line)
        return torn

    def _note(self, entry: Entry, offset: int) -> None:
        self._offsets[entry.key] = offset
        if entry.completion.finish_reason == UNANSWERED:
            self._unanswered[entry.key] = entry
        else:
            self._unanswered.pop(entry.key, None)

    def entries(self) -> Iterator[Entry]:
        """The last entry of each request."""
        return (entry for offset in self._offsets.values() if (entry := self._read(offset)) is not None)

    def find(self, request: Request) -> Completion | None:
        """The completion of this request; `None` if it has none yet."""
        offset = self._offsets.get(request.key)
        if offset is None or request.key in self._unanswered:
            return None
        entry = self._read(offset)
        return entry.completion if entry and entry.request == digest(request) else None

    def is_suspect(self, request: Request) -> bool:
        """Whether the engine had this request when it died, and has not answered it since."""
        entry = self._unanswered.get(request.key)
        return entry is not None and entry.request == digest(request)

    def suspects(self) -> dict[str, str]:
        """Requests that the engine had when it died, by key, each with its mark (`crescent.engine.suspects`)."""
        return {key: entry.completion.text for key, entry in self._unanswered.items()}

    def _read(self, offset: int) -> Entry | None:
        self._written.seek(offset)
        return _entry_of(self._written.readline(), must_have_checksum=False)

    def append(self, request: Request, completion: Completion) -> None:
        entry = Entry(request.key, digest(request), completion)
        line, offset = journal_line(entry), self._file.tell()
        while line:  # on a nearly full disk, write() may take only a part; the next call then raises
            line = line[self._file.write(line) :]
        failpoint("journal.append")
        self._note(entry, offset)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._written.close()


def _notice(path: Path, damaged: int) -> str:
    if not damaged:
        return ""
    lines = "1 line was" if damaged == 1 else f"{damaged} lines were"
    kept = path.name + DAMAGED
    return f"{path}: {lines} not as written; kept in {kept} beside it, and what they answered is asked again"


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
