"""`crescent verify` says what is damaged and what a rerun would do, and changes nothing."""

from pathlib import Path

import pytest

from crescent.engine.journal import Journal
from crescent.errors import DataSaysNo, TryAgain
from crescent.reading.verification import verify_run
from crescent.records import Completion, Request
from crescent.run_folder.manifest import seal


def stage(root: Path, name: str, **inputs: str) -> str:
    (root / name).mkdir(parents=True)
    (root / name / "x.txt").write_text(name)
    (root / name / "empty.txt").touch()
    about = {"metrics": {}, "seconds": 1.0, "made_from": {"version": "1", "settings": {}, "inputs": inputs}}
    return str(seal(root / name, about)["digest"])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    votes = stage(tmp_path, "round-1/synthesis")
    stage(tmp_path, "round-1/pairs", votes=votes)
    stage(tmp_path, "base/eval")
    with Journal(tmp_path / "round-1/train.partial/scratch/journal.jsonl") as journal:
        for key in "abc":
            journal.append(Request(key, "?", 0.0, 1, 0), Completion("text", "stop", 1))
    return tmp_path


def contents(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file() and not path.is_symlink()}


def test_an_intact_run_is_said_to_be_intact(run: Path) -> None:
    said: list[str] = []
    verify_run(run, said.append)
    assert [line for line in said if line.endswith(": intact")] == [
        "base/eval: intact",
        "round-1/pairs: intact",
        "round-1/synthesis: intact",
    ]
    assert said[-1] == "round-1/train.partial/scratch/journal.jsonl: 3 completions"


def test_damage_is_named_with_what_a_rerun_would_do(run: Path) -> None:
    (run / "round-1/synthesis/x.txt").write_text("Round-1/synthesis")
    (run / "round-1/pairs/notes.txt").write_text("mine")
    journal = run / "round-1/train.partial/scratch/journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b"text", b"test", 1) + b'{"key"')
    before, said = contents(run), list[str]()
    with pytest.raises(DataSaysNo, match="2 damaged"):
        verify_run(run, said.append)
    text = "\n".join(said)
    assert "round-1/synthesis: x.txt is not as it was written" in text
    assert "makes it again; made from it: round-1/pairs" in text
    assert "round-1/pairs: intact; not made by the run: notes.txt" in text
    assert "2 completions, 1 damaged, which a rerun asks again; its last line is torn" in text
    assert contents(run) == before


def test_what_cannot_be_read_is_75_and_not_called_damaged(run: Path) -> None:
    (run / "base/eval/empty.txt").unlink()
    (run / "base/eval/empty.txt").symlink_to("/proc/self/mem")
    said: list[str] = []
    with pytest.raises(TryAgain, match="1 could not be read") as raised:
        verify_run(run, said.append)
    assert raised.value.exit_code == 75
    assert "Input/output error" in said[0]
