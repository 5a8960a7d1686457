"""Tables of docs/scaling.md, from the results of other benchmarks: `python -m benchmarks scaling`.

It measures nothing. Beyond the sizes that were measured or simulated, cost is continued by the formulas of that page.
"""

import argparse
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks import RESULTS
from benchmarks.tables import Row
from crescent.machine.disk import write_whole
from crescent.synthesis.stream import BLOCK

CANDIDATES = (10**4, 10**5, 10**6, 10**7, 10**8)
ENGINES = (1, 8, 64, 1000)
PAGE = Path(__file__).parent.parent / "docs" / "scaling.md"
BLOCK_OF_PAGE = re.compile(r"^(<!-- scaling ([a-z ]+) -->)$.*?^(<!-- end -->)$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Costs:
    """What one candidate question costs, all that follows from it included."""

    engine_s: float
    """Seconds of a full engine."""
    tail_s: float
    """Seconds at the end of a round in which batches are not full."""
    completions: float
    accepted: float
    """Share of the candidates that are accepted and voted on, in [0, 1]."""
    compared: float
    """Number of texts that are embedded and compared: the candidate and its rewrites."""
    client_s: float
    """CPU seconds of the process that asks, per completion."""
    comparison_s: float
    """CPU seconds to compare one text with one accepted question."""
    journal_bytes: float
    """Bytes of the journal's file per completion."""
    offsets_bytes: float
    """Bytes of memory of the journal per completion."""
    vote_bytes: float
    """Bytes of the file per vote."""
    held_bytes: float
    """Largest memory per vote, while votes are written."""
    known_bytes: float
    """Bytes of memory per accepted question that later ones are compared with."""

    def engines_s(self, candidates: int, engines: int) -> float:
        return candidates * self.engine_s / engines + self.tail_s

    def asking_s(self, candidates: int) -> float:
        return candidates * self.completions * self.client_s

    def comparing_s(self, candidates: int) -> float:
        """Originals are compared with those before them, rewrites with all."""
        known = self.accepted * candidates
        return candidates * self.comparison_s * known * (0.5 + (self.compared - 1))

    def memory_bytes(self, candidates: int) -> float:
        return candidates * (
            self.completions * self.offsets_bytes + self.accepted * (self.held_bytes + self.known_bytes)
        )

    def disk_bytes(self, candidates: int) -> float:
        return candidates * (self.completions * self.journal_bytes + self.accepted * self.vote_bytes)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks scaling", description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the tables into the page")
    options = parser.parse_args(arguments)
    page = filled(PAGE.read_text())
    if options.write:
        write_whole(PAGE, page.encode())
        print(f"saved: {PAGE}")
    else:
        print("\n".join(table(name) for name in TABLES))


def filled(page: str) -> str:
    """The page with its tables as they are computed today."""
    return BLOCK_OF_PAGE.sub(lambda block: f"{block[1]}\n\n{table(block[2])}\n{block[3]}", page)


def table(name: str) -> str:
    """One table in Markdown."""
    return TABLES[name]()


@cache
def results(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())["results"]
    return found


def costs() -> Costs:
    """Read from the newest results."""
    stream, size = results("stream"), results("size")
    simulated = max(stream["sizes"], key=lambda row: row["candidates"])
    known, journal, votes = (
        max(size[name], key=lambda row: row[key])
        for name, key in (("known", "known"), ("completions", "completions"), ("votes", "votes"))
    )
    candidates = simulated["candidates"]
    return Costs(
        engine_s=simulated["share"] * simulated["wall s"] * simulated["engines"] / candidates,
        tail_s=simulated["tail s"],
        completions=simulated["completions"] / candidates,
        accepted=simulated["votes"] / candidates,
        compared=simulated["compared"] / candidates,
        client_s=simulated["client ms"] / 1000,
        comparison_s=known["CPU ms a block"] / 1000 / BLOCK / known["known"],
        journal_bytes=journal["file, bytes each"],
        offsets_bytes=journal["memory, bytes each"],
        vote_bytes=votes["file, bytes each"],
        held_bytes=votes["while writing, bytes each"],
        known_bytes=known["bytes a question"],
    )


def _limits() -> str:
    """Where each part stops keeping up."""
    found = costs()
    rows: list[Row] = []
    for candidates in CANDIDATES:
        rows.append(
            {
                "candidates": f"{candidates:,}",
                **{f"{engines:,} engines": duration(found.engines_s(candidates, engines)) for engines in ENGINES},
                "one process asks": duration(found.asking_s(candidates)),
                "comparing": duration(found.comparing_s(candidates)),
                "memory": size_of(found.memory_bytes(candidates)),
                "disk": size_of(found.disk_bytes(candidates)),
            }
        )
    return markdown(rows)


def _binding() -> str:
    """What takes longest, and the share of the engines' capacity that is left."""
    found = costs()
    rows: list[Row] = []
    for candidates in CANDIDATES:
        row: Row = {"candidates": f"{candidates:,}"}
        for engines in ENGINES:
            parts = {
                "engines": found.engines_s(candidates, engines),
                "asking": found.asking_s(candidates),
                "comparing": found.comparing_s(candidates),
            }
            slowest = max(parts, key=lambda name: parts[name])
            share = candidates * found.engine_s / engines / parts[slowest]
            row[f"{engines:,} engines"] = f"{share:.0%}, {slowest}" if share >= 0.005 else f"< 1%, {slowest}"
        rows.append(row)
    return markdown(rows)


def _columns(name: str, part: str, columns: Sequence[str]) -> str:
    return markdown([{column: row[column] for column in columns} for row in results(name)[part]])


def duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{rounded(seconds / length)} {unit}"
    return f"{rounded(seconds)} s"


def size_of(number: float) -> str:
    for unit, length in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= length:
            return f"{rounded(number / length)} {unit}"
    return f"{rounded(number)} B"


def rounded(number: float) -> str:
    """To two digits."""
    if number <= 0:
        return "0"
    digits = max(0, 1 - math.floor(math.log10(number)))
    return f"{round(number, 1 - math.floor(math.log10(number))):,.{digits}f}"


def markdown(rows: Sequence[Row]) -> str:
    """A table whose columns are the keys of the first row."""
    names = list(rows[0])
    aligned = ["---" if isinstance(rows[0][name], str) else "---:" for name in names]
    lines = [names, aligned, *([_cell(row[name]) for name in names] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    return f"{value:,}" if isinstance(value, int) else str(value)


SIMULATED = ("engines", "candidates", "client ms", "completions/s", "client busy", "share", "wall s", "tail s")

TABLES: dict[str, Callable[[], str]] = {
    "engines": lambda: _columns("stream", "scaling", SIMULATED),
    "sizes": lambda: _columns("stream", "sizes", ("candidates", "completions", "wall s", "tail s", "share")),
    "in flight": lambda: _columns("stream", "in flight", ("in flight", "share", "wall s", "tail s")),
    "faults": lambda: _columns(
        "stream", "faults", ("engines", "fault", "wall s", "pause s", "share", "restarts", "digest")
    ),
    "known": lambda: markdown(results("size")["known"]),
    "journal": lambda: markdown(results("size")["completions"]),
    "votes": lambda: markdown(results("size")["votes"]),
    "readers": lambda: markdown(results("size")["readers"]),
    "limits": _limits,
    "binding": _binding,
}
"""The tables of the page, by name."""
