"""A recording of a real model: requests and their completions, independent of the code that asks.

A completion is found by its request (kind, prompt, sampling settings, number of the sample), never by our own seeds or
ids. So code that changes how questions are read or decided can be replayed on the same text.
"""

import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from crescent.machine.disk import write_whole
from crescent.records import Completion, Request, to_line

FOLDER = Path(__file__).parent.parent / "tests" / "recorded"


@dataclass(frozen=True, order=True)
class Row:
    """One line of a recording."""

    kind: str
    """`question`, `rewrite` or `answer`."""
    prompt: str
    temperature: float
    max_tokens: int
    stop: tuple[str, ...]
    sample: int
    """Number of the completion, from 0, among those of the same prompt under the same settings."""
    text: str
    finish_reason: str
    tokens: int


Asked = tuple[str, str, float, int, tuple[str, ...]]


class Recording:
    """All rows, found by their request."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._rows: dict[tuple[Asked, int], Row] = {}
        for row in rows:
            self.add(row)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: Row) -> None:
        self._rows[(row.kind, row.prompt, row.temperature, row.max_tokens, row.stop), row.sample] = row

    def find(self, kind: str, request: Request, sample: int) -> Completion | None:
        asked = (kind, request.prompt, request.temperature, request.max_tokens, request.stop)
        row = self._rows.get((asked, sample))
        return None if row is None else Completion(row.text, row.finish_reason, row.tokens)

    def rows(self) -> list[Row]:
        """All rows, in an order that does not depend on when they were recorded."""
        return sorted(self._rows.values())


def read_recording(path: Path) -> Recording:
    """The recording at `path`; an empty one if there is no such file."""
    if not path.exists():
        return Recording()
    decode = msgspec.json.Decoder(Row).decode
    with gzip.open(path, "rb") as file:
        return Recording(decode(line) for line in file)


def write_recording(path: Path, recording: Recording) -> None:
    """Write the recording. Equal recordings give equal files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, gzip.compress(b"".join(map(to_line, recording.rows())), mtime=0))


REWRITES = 2
"""Number of completions recorded for each rewrite prompt, because equal candidates need not get equal rewrites."""


def sample_of(request: Request, baits: int) -> int:
    """Number of the recorded completion that answers this request. It depends only on the request's key.

    `baits` prompts take turns, so with three of them `question/7` is the third completion of its prompt (number 2).
    """
    match request.key.split("/"):
        case ["question", index]:
            return int(index) // baits
        case ["rewrite", index, _]:
            return int(index) % REWRITES
        case ["answer", _, sample]:
            return int(sample)
        case ["topics" | "difficulties", index]:
            return int(index)
    raise ValueError(f"{request.key}: unknown kind of request; add it to `sample_of` in benchmarks/recorded.py")


class RecordedEngine:
    """Answers with the recorded completions. A request that was not recorded is refused (`finish_reason="error"`)."""

    def __init__(self, recording: Recording, baits: int = 1) -> None:
        """`baits` is the number of bait prompts that take turns."""
        self.recording = recording
        self.baits = baits
        self.unknown: list[Request] = []
        """Requests that were refused because the recording does not hold them."""

    async def complete(self, request: Request) -> Completion:
        return self.say(request)

    def say(self, request: Request) -> Completion:
        found = self.recording.find(request.key.split("/")[0], request, sample_of(request, self.baits))
        if found is None:
            self.unknown.append(request)
            return Completion("", "error", 0)
        return found
