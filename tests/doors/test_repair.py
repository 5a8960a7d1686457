"""`crescent repair` deletes nothing, sets aside what is damaged, and restores what another run still holds."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from crescent.doors.repair import repair_run
from crescent.engine.journal import DAMAGED, Journal, read_journal
from crescent.errors import RunLocked, TryAgain
from crescent.reading.verification import verify_run
from crescent.records import Completion, Request
from crescent.run_folder.lock import only_supervisor
from crescent.run_folder.manifest import MANIFEST, REUSED, damage, reused_from, seal
from crescent.run_folder.places import CONFIG, SET_ASIDE

LARGE = 17 << 20


def stage(root: Path, name: str, inputs: Mapping[str, str] = {}, **files: str) -> str:
    (root / name).mkdir(parents=True)
    for file, text in {"x": name, **files}.items():
        (root / name / f"{file}.txt").write_text(text)
    about = {"metrics": {}, "seconds": 120.0, "made_from": {"version": "1", "settings": {}, "inputs": dict(inputs)}}
    return str(seal(root / name, about)["digest"])


def make_run(root: Path) -> Path:
    votes = stage(root, "round-1/synthesis")
    pairs = stage(root, "round-1/pairs", {"votes": votes})
    stage(root, "round-1/train", {"pairs": pairs})
    stage(root, "round-1/verdict", {"votes": votes})
    (root / CONFIG).write_text("run: {name: own}\n")
    return root


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "runs/own")


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def repaired(root: Path, *named: Path, act: bool = True) -> str:
    said: list[str] = []
    repair_run(root, act, named, said.append)
    return "\n".join(said)


def kept(before: Mapping[str, bytes], root: Path) -> bool:
    """Whether every content that was there is still somewhere."""
    return set(before.values()) <= set(contents(root).values())


def test_of_an_intact_run_nothing_is_repaired(run: Path) -> None:
    before = contents(run)
    assert "nothing to repair" in repaired(run)
    assert {name: text for name, text in contents(run).items() if name != ".lock"} == before


def test_without_yes_it_only_says_what_it_would_do_and_what_that_costs(run: Path) -> None:
    (run / "round-1/synthesis/x.txt").write_text("edited")
    before = contents(run)
    said = repaired(run, act=False)
    assert contents(run) == before
    for part in ("round-1/synthesis: x.txt is not as it was written", "took 2 min", "round-1/pairs", "--yes"):
        assert part in said


def test_a_damaged_stage_is_set_aside_with_everything_in_it(run: Path) -> None:
    (run / "round-1/synthesis/x.txt").write_text("edited")
    before = contents(run)
    repaired(run)
    assert not (run / "round-1/synthesis").exists()
    assert (run / SET_ASIDE / "round-1-synthesis-1/x.txt").read_text() == "edited"
    assert kept(before, run)
    assert damage(run / "round-1/pairs") is None
    verify_run(run, lambda line: None)


def test_a_large_file_with_an_unchanged_time_is_read_too(run: Path) -> None:
    stage(run, "round-2/train", weights="x" * LARGE)
    path = run / "round-2/train/weights.txt"
    written = path.stat()
    path.write_text("y" * LARGE)
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))
    assert damage(run / "round-2/train") is None, "a run does not notice it"
    assert "round-2/train: weights.txt" in repaired(run)


def test_bad_lines_of_a_journal_are_kept_beside_it(run: Path) -> None:
    path = run / "round-2/synthesis.partial/scratch/journal.jsonl"
    with Journal(path) as journal:
        for key in "abc":
            journal.append(Request(key, "?", 0.0, 1, 0), Completion("text", "stop", 1))
    path.write_bytes(path.read_bytes().replace(b"text", b"test", 1))
    assert "1 damaged line is set aside" in repaired(run, act=False)
    assert len(read_journal(path).damaged) == 1
    repaired(run)
    assert [entry.key for entry in read_journal(path).entries] == ["b", "c"]
    assert b"test" in path.with_name(path.name + DAMAGED).read_bytes()
    assert "nothing to repair" in repaired(run)


@pytest.mark.parametrize("way", ["beside it", "named", "run.reuse", "its maker"])
@pytest.mark.parametrize("lost", ["x.txt", MANIFEST, "the folder"])
def test_a_stage_that_another_run_holds_is_linked_from_there(lost: str, way: str, run: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / ("runs" if way == "beside it" else "elsewhere") / "other")
    if way == "run.reuse":
        (run / CONFIG).write_text(json.dumps({"run": {"reuse": [str(other)]}}))
    if way == "its maker":
        manifest = json.loads((run / "round-1/pairs" / MANIFEST).read_text())
        note = {"run": str(other), "digest": manifest["digest"]}
        (run / "round-1" / f"pairs{REUSED}").write_text(json.dumps(note))
    before, theirs = contents(run / "round-1/train"), contents(other)
    if lost == "the folder":
        shutil.rmtree(run / "round-1/synthesis")
    else:
        (run / "round-1/synthesis" / lost).write_text("edited")
    said = repaired(run, *([other] if way == "named" else []))
    assert "linked from" in said
    assert "costs nothing" in said
    assert damage(run / "round-1/synthesis") is None
    assert (run / "round-1/synthesis/x.txt").samefile(other / "round-1/synthesis/x.txt")
    assert reused_from(run / "round-1/synthesis") == str(other)
    assert contents(run / "round-1/train") == before
    assert contents(other) == theirs
    assert (run / SET_ASIDE).exists() == (lost != "the folder")
    verify_run(run, lambda line: None)


def test_another_content_is_not_taken_for_the_lost_one(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "runs/other"
    stage(other, "round-1/synthesis", more="other questions")
    (other / CONFIG).touch()
    (run / "round-1/synthesis/x.txt").write_text("edited")
    assert "linked from" not in repaired(run)


def test_a_damaged_copy_is_not_linked(run: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "runs/other")
    for root in (run, other):
        (root / "round-1/synthesis/x.txt").write_text("edited")
    assert "linked from" not in repaired(run)


def test_a_verdict_is_never_another_runs(run: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "runs/other")
    (run / "round-1/verdict/x.txt").write_text("edited")
    assert "linked from" not in repaired(run)
    assert (run / SET_ASIDE / "round-1-verdict-1").exists()


def test_what_cannot_be_read_is_left_and_the_rest_is_repaired(run: Path) -> None:
    stage(run, "round-2/train", empty="")
    (run / "round-2/train/empty.txt").unlink()
    (run / "round-2/train/empty.txt").symlink_to("/proc/self/mem")
    (run / "round-1/verdict/x.txt").write_text("edited")
    with pytest.raises(TryAgain, match="1 could not be read"):
        repaired(run)
    assert (run / "round-2/train").exists()
    assert not (run / "round-1/verdict").exists()


def test_a_run_at_work_is_not_repaired(run: Path) -> None:
    (run / "round-1/pairs/x.txt").write_text("edited")
    with only_supervisor(run), pytest.raises(RunLocked):
        repaired(run)
    assert (run / "round-1/pairs").exists()
