"""A run from seed questions: its lineage says so, and a changed file is noticed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from smoke_runs import run_smoke

from crescent.doors.export_card import questions_from
from crescent.reading.finished import RunReader
from crescent.reading.trace import trace
from crescent.records import Candidate, Pair, SeedQuestion, read_lines
from crescent.run_folder.manifest import verified_manifest

QUESTIONS = [f"What is {number} + {number + 1}?" for number in range(6)]


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The run and the file."""
    place = tmp_path_factory.mktemp("place")
    file = place / "questions.jsonl"
    file.write_text("".join(json.dumps({"question": text}) + "\n" for text in QUESTIONS))
    return run_smoke(place, "seeded", "bait=seeds", f"bait.seeds={file}", "run.rounds=1"), file


def again(file: Path, *overrides: str) -> "subprocess.CompletedProcess[str]":
    few = ("bait.questions=24", "eval.benchmarks.sums_dev.items=40", "eval.benchmarks.sums_test.items=30")
    where = (f"run.root={file.parent}", "run.name=seeded", "run.rounds=1", "bait=seeds", f"bait.seeds={file}")
    command = [sys.executable, "-P", "-m", "crescent.loop", "+experiment=smoke", *where, *few, *overrides]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)


def test_every_pair_is_followed_to_its_seed_question(seeded: tuple[Path, Path]) -> None:
    run, _ = seeded
    assert read_lines(run / "round-1/synthesis/seeds.jsonl", SeedQuestion) == [
        SeedQuestion("questions.jsonl", line, text) for line, text in enumerate(QUESTIONS, 1)
    ]
    for pair in read_lines(run / "round-1/pairs/new.jsonl", Pair)[:5]:
        found = trace(run, pair.id)
        assert found.seed is not None
        assert found.bait is not None
        assert found.seed.text in found.bait.prompt
        assert pair.prompt not in QUESTIONS
    shown = [sys.executable, "-P", "-m", "crescent", "trace", found.id, "--run", str(run)]
    ended = subprocess.run(shown, capture_output=True, text=True, check=False)
    assert f"line {found.seed.line} of questions.jsonl: given, not invented" in ended.stdout
    assert "made from the seed question" in ended.stdout
    assert questions_from(RunReader(run), 1).startswith("made from seed questions"), "which cards of exports say"
    accepted = [
        candidate.question.text
        for candidate in read_lines(run / "round-1/synthesis/candidates.jsonl", Candidate)
        if candidate.outcome == "accepted"
    ]
    assert not set(accepted) & set(QUESTIONS)


def test_a_changed_file_is_noticed_and_its_place_does_not_matter(seeded: tuple[Path, Path]) -> None:
    run, file = seeded
    manifest = verified_manifest(run / "round-1/synthesis")
    assert manifest is not None
    assert "bait.seeds" in manifest["made_from"]["inputs"]
    content = file.read_bytes()
    file.write_bytes(content + b'{"question": "What is 1 + 1?"}\n')
    changed = again(file)
    assert changed.returncode == 3, changed.stderr
    assert "a file that it was made from has changed since:\n  bait.seeds: " in changed.stderr
    file.write_bytes(content)
    moved = file.with_name("moved.jsonl")
    file.rename(moved)
    assert again(file).returncode == 69
    ended = again(file, f"bait.seeds={moved}")
    assert ended.returncode == 0, ended.stderr
    assert verified_manifest(run / "round-1/synthesis") == manifest


def test_an_unusable_file_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text('{"text": "What is 1?"}\n')
    refused = again(file)
    assert refused.returncode == 65
    assert refused.stderr.count("\n") == 1
    assert "questions.jsonl: line 1: has no field 'question'" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["questions.jsonl"]
