"""No completion is paid for twice, and no accident makes the journal unreadable."""

import asyncio
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import ShufflingEngine, stop

from crescent.engine.client import EngineDied
from crescent.engine.journal import CANARY, DAMAGED, Journal, Journaled
from crescent.records import Completion, Request, digest, to_line

ROOT = Path(__file__).parents[2]


def request(index: int, prompt: str = "What is 1 + 1?") -> Request:
    return Request(f"question/{index}", prompt, temperature=1.0, max_tokens=16, seed=index)


def completion(index: int) -> Completion:
    return Completion(f'Ünïcode, "quotes",\nlines, {index} \u2028 and \x00', "stop", tokens=index, prompt_tokens=3)


def write(path: Path, number: int) -> None:
    with Journal(path) as journal:
        for index in range(number):
            journal.append(request(index), completion(index))


def recovered(path: Path) -> list[int]:
    """Indices that a newly opened journal knows; each must be whole."""
    with Journal(path) as journal:
        known = [index for index in range(100) if journal.find(request(index)) is not None]
        assert all(journal.find(request(index)) == completion(index) for index in known)
        assert journal.recovered == len(known)
    return known


def test_what_was_appended_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "not yet there" / "journal.jsonl"
    write(path, 5)
    assert recovered(path) == [0, 1, 2, 3, 4]
    write(path, 5)
    assert recovered(path) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("rubbish", [b"", bytes(7), b"\xff\xc3"])
def test_a_torn_tail_is_cut_wherever_it_was_torn(tmp_path: Path, rubbish: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, 2)
    whole = path.read_bytes()
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end] + rubbish)
        assert recovered(path) == list(range(whole[:end].count(b"\n")))
        write(path, 2)  # writes on after the cut
        assert recovered(path) == [0, 1]


@pytest.mark.parametrize(
    "damage", [bytes(4096), b"\n", b"{}\n", b"\xff\xfe\n", b'"\xc3(\n', b"null\n", bytes(9) + b"\n"]
)
def test_only_a_damaged_line_is_skipped_and_it_is_kept_aside(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, 3)
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second + damage + third)
    with Journal(path) as journal:
        assert journal.damaged == 1
    assert recovered(path) == [0, 1, 2]
    assert path.read_bytes() == first + second + third
    assert path.with_name(path.name + DAMAGED).read_bytes().rstrip(b"\n") == damage.rstrip(b"\n")
    with Journal(path) as journal:
        assert journal.damaged == 0, "each is reported once"


def test_only_a_line_that_is_not_text_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace("Ü".encode(), b"\xff\xff") + lines[2])
    assert recovered(path) == [0, 2]


def test_one_flipped_bit_anywhere_in_a_line_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, 3)
    first, second, third = path.read_bytes().splitlines(keepends=True)
    for place in range(len(second) - 1):
        for bit in (1, 32):
            flipped = second[:place] + bytes([second[place] ^ bit]) + second[place + 1 :]
            path.write_bytes(first + flipped + third)
            assert recovered(path) == [0, 2], (place, flipped)


def test_lines_without_a_checksum_are_read_as_they_are_and_continued(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(
        b"".join(
            to_line({"key": asked.key, "request": digest(asked), "completion": completion(index)})
            for index in range(2)
            for asked in [request(index)]
        )
    )
    before = path.read_bytes()
    write(path, 3)
    assert recovered(path) == [0, 1, 2]
    assert path.read_bytes().startswith(before)


def test_a_read_error_leaves_the_journal_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.symlink_to("/proc/self/mem")
    with pytest.raises(OSError, match="Input/output error"):
        Journal(path)
    assert path.is_symlink()


def test_only_what_is_missing_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, 6)
    path.write_bytes(path.read_bytes()[:-5])
    engine = ShufflingEngine(lambda asked: completion(asked.seed))

    async def ask(journal: Journal) -> list[Completion]:
        journaled = Journaled(engine, journal)
        return [await journaled.complete(request(index)) for index in range(8) for _ in range(2)]

    with Journal(path) as journal:
        assert asyncio.run(ask(journal)) == [completion(index) for index in range(8) for _ in range(2)]
    assert engine.answered == {f"question/{index}": 1 for index in (5, 6, 7)}
    assert recovered(path) == list(range(8))


def test_duplicate_lines_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, 3)
    path.write_bytes(path.read_bytes() * 2)
    assert recovered(path) == [0, 1, 2]


def test_an_entry_never_answers_another_request(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    asked = request(0)
    others = [
        replace(asked, prompt="What is 2 + 2?"),
        replace(asked, temperature=0.5),
        replace(asked, max_tokens=17),
        replace(asked, seed=1),
        replace(asked, stop=("=",)),
        replace(asked, key="question/9"),
    ]
    write(path, 1)
    with Journal(path) as journal:
        assert all(journal.find(other) is None for other in others)
        journal.append(others[0], stop("4"))
    with Journal(path) as journal:
        assert journal.find(others[0]) == stop("4")
        assert journal.find(asked) is None


def test_a_failed_request_leaves_no_entry(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        with pytest.raises(Exception, match="at request 1"):
            asyncio.run(Journaled(ShufflingEngine(lambda _: stop("4"), dies_at=1), journal).complete(request(0)))
        assert journal.find(request(0)) is None


class Mortal:
    """An engine that dies of one request, together with all other requests in flight, and can be started again."""

    def __init__(self, deadly: Request | None) -> None:
        self.deadly = deadly
        self.dead = False
        self.has: set[str] = set()
        self.company: dict[str, int] = {}
        """Largest number of requests in flight while a request was answered, itself included, by key."""

    async def complete(self, asked: Request) -> Completion:
        self.has.add(asked.key)
        try:
            most = 0
            for turn in range(8):
                await asyncio.sleep(0)
                most = max(most, len(self.has))
                self.dead = self.dead or (asked == self.deadly and turn == 5)
                if self.dead:
                    raise EngineDied("gone", self.has)
            self.company[asked.key] = most
            return stop("4")
        finally:
            self.has.discard(asked.key)


def ask_all(path: Path, engine: Mortal, count: int = 6) -> list[Completion]:
    async def ask(journal: Journal) -> list[Completion]:
        journaled = Journaled(engine, journal)
        tasks = [asyncio.create_task(journaled.complete(request(index))) for index in range(count)]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    engine.dead = False
    with Journal(path) as journal:
        return asyncio.run(ask(journal))


def test_a_request_that_kills_the_engine_twice_is_skipped_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    engine = Mortal(deadly=request(3))
    with pytest.raises(EngineDied, match=r"gone$"):
        ask_all(path, engine)
    assert recovered(path) == []
    with pytest.raises(EngineDied, match="gone; question/3 is skipped"):
        ask_all(path, engine)
    found = ask_all(path, engine)
    assert [completion.finish_reason for completion in found] == ["stop", "stop", "stop", "error", "stop", "stop"]
    assert "the engine died of it twice" in found[3].text
    again = ask_all(path, Mortal(deadly=None))
    assert again == found, "the journal remembers"


def test_what_the_engine_had_when_it_died_is_sent_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with pytest.raises(EngineDied):
        ask_all(path, Mortal(deadly=request(0)))
    survivor = Mortal(deadly=None)
    ask_all(path, survivor, 20)
    suspects = {f"question/{index}": survivor.company[f"question/{index}"] for index in range(6)}
    assert set(suspects.values()) == {1}
    assert max(survivor.company.values()) > 1, "the others are sent together"


def test_an_engine_that_is_already_dead_makes_no_request_a_suspect(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with pytest.raises(EngineDied):
        ask_all(path, Mortal(deadly=request(0)))
    for _ in range(3):
        with pytest.raises(EngineDied, match=r"gone$"):
            ask_all(path, Mortal(deadly=CANARY))
    assert {completion.finish_reason for completion in ask_all(path, Mortal(deadly=None))} == {"stop"}


APPEND = """
import sys
import tracemalloc
from pathlib import Path
sys.path[:0] = ["tests", "tests/engine"]
from test_journal import completion, request
from crescent.engine.journal import Journal
{before}
with Journal(Path(sys.argv[1])) as journal:
    for index in range(100):
        journal.append(request(index), completion(index))
        print(index, flush=True)
{after}
"""


def appending(path: Path, before: str = "", after: str = "") -> subprocess.Popen[str]:
    """Another process that appends and prints what it has appended."""
    code = APPEND.format(before=before, after=after)
    return subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=-1, stderr=-1, text=True)


def test_kill_9_in_the_middle_loses_nothing_that_was_appended(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with appending(path, after="sys.stdin.read()") as child:
        assert child.stdout is not None
        printed = [int(child.stdout.readline()) for _ in range(10)]
        child.kill()
    found = recovered(path)
    assert found[:10] == printed
    assert found == list(range(len(found)))


def test_a_full_disk_is_an_error_and_the_torn_line_is_asked_again(tmp_path: Path) -> None:
    """A limit on the file's size stands for the full disk: with both, half of the last line is written."""
    path = tmp_path / "journal.jsonl"
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    with appending(path, before=limit) as child:
        out, error = child.communicate()
    assert child.returncode == 1
    assert "OSError: [Errno 27]" in error
    assert path.stat().st_size == 1000
    assert recovered(path) == [int(line) for line in out.split()]
    write(path, 20)
    assert recovered(path) == list(range(20))


def test_a_journal_keeps_its_completions_on_the_disk_only(tmp_path: Path) -> None:
    long = stop("x" * 10_000)
    with Journal(tmp_path / "journal.jsonl") as journal:
        tracemalloc.start()
        for index in range(300):
            journal.append(request(index), long)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert held < 300 * 1000, "bytes"
        assert all(journal.find(request(index)) == long for index in range(300))
        journal.append(request(7), stop("again"))
        assert {entry.key: entry.completion.text[:5] for entry in journal.entries()} == {
            f"question/{index}": "again" if index == 7 else "xxxxx" for index in range(300)
        }
