"""A recording of a real model: what was asked, and what it said, whatever code asks.

A completion is found by what was asked (kind, prompt, sampling settings, number of the sample), never by our own seeds
or ids: code that changes how questions are read or decided can be replayed on the same text.
"""

import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

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
    """0, 1, …: several completions of the same prompt under the same settings."""
    text: str
    finish_reason: str
    tokens: int


Asked = tuple[str, str, float, int, tuple[str, ...]]


class Recording:
    """All rows, by what was asked."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._said: dict[tuple[Asked, int], Row] = {}
        for row in rows:
            self.add(row)

    def __len__(self) -> int:
        return len(self._said)

    def add(self, row: Row) -> None:
        self._said[(row.kind, row.prompt, row.temperature, row.max_tokens, row.stop), row.sample] = row

    def find(self, kind: str, request: Request, sample: int) -> Completion | None:
        asked = (kind, request.prompt, request.temperature, request.max_tokens, request.stop)
        row = self._said.get((asked, sample))
        return None if row is None else Completion(row.text, row.finish_reason, row.tokens)

    def rows(self) -> list[Row]:
        """In an order that does not depend on when what was said."""
        return sorted(self._said.values())


def read_recording(path: Path) -> Recording:
    """An empty one when there is no such file."""
    if not path.exists():
        return Recording()
    decode = msgspec.json.Decoder(Row).decode
    with gzip.open(path, "rb") as file:
        return Recording(decode(line) for line in file)


def write_recording(path: Path, recording: Recording) -> None:
    """Equal recordings give equal files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(b"".join(map(to_line, recording.rows())), mtime=0))


REWRITES = 2
"""Completions recorded of each rewrite prompt: equal candidates need not get equal rewrites."""


def sample_of(request: Request, baits: int) -> int:
    """Which of the completions recorded for a prompt answers this request; a function of its key alone.

    `baits` prompts take turns, so `question/7` of three is the third completion of its own.
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
    raise ValueError(f"{request.key}: no kind of request that is known here; teach `sample_of` what it is")


class RecordedEngine:
    """Says what the recorded model said. What it was never asked comes back as refused (`finish_reason="error"`)."""

    def __init__(self, recording: Recording, baits: int = 1) -> None:
        """`baits` is the number of bait prompts that take turns."""
        self.recording = recording
        self.baits = baits
        self.unknown: list[Request] = []
        """Requests that the recording does not hold."""

    async def complete(self, request: Request) -> Completion:
        return self.say(request)

    def say(self, request: Request) -> Completion:
        found = self.recording.find(request.key.split("/")[0], request, sample_of(request, self.baits))
        if found is None:
            self.unknown.append(request)
            return Completion("", "error", 0)
        return found
