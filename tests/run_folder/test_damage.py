"""Only proven damage sets finished work aside; what cannot be read ends the run and changes nothing."""

import json
import os
import resource
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from test_once import Listener, count_to, flip, killed, pipeline

from crescent import __version__
from crescent.errors import SettingsChanged
from crescent.run_folder.dropped import DROPPED
from crescent.run_folder.manifest import MANIFEST, SCRATCH, SEAL, Unreadable, damage, inspect, verified_manifest
from crescent.run_folder.once import Once
from crescent.run_folder.remade import explain_difference
from crescent.run_folder.versions import changes_between

BROKEN = "/proc/self/mem"
"""A file whose content cannot be read: EIO. Its size is 0."""


def in_a_child(work: Callable[[], object]) -> str:
    """What `work` raises, in a process of its own that may be crippled; empty if it raises nothing."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = ""
        try:
            work()
        except Exception as error:
            said = f"{type(error).__name__} {getattr(error, 'exit_code', '')} {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return said


def contents(root: Path) -> dict[str, bytes]:
    found = (path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def run_with_an_empty_file(root: Path, listener: Listener) -> None:
    def work(folder: Path) -> Mapping[str, float]:
        (folder / "empty.txt").touch()
        (folder / "full.txt").write_text("hours of work")
        return {}

    Once(root, listener)("a/one", work, {}, {})


def test_a_file_that_gives_a_read_error_ends_the_run_and_nothing_is_touched(tmp_path: Path) -> None:
    run_with_an_empty_file(tmp_path, Listener())
    spoilt = tmp_path / "a/one/empty.txt"
    spoilt.unlink()
    spoilt.symlink_to(BROKEN)
    before = contents(tmp_path)
    with pytest.raises(Unreadable, match="Input/output error") as raised:
        run_with_an_empty_file(tmp_path, Listener())
    assert raised.value.exit_code == 75
    assert str(raised.value).startswith(str(spoilt))
    assert contents(tmp_path) == before
    spoilt.unlink()
    spoilt.touch()
    listener = Listener()
    run_with_an_empty_file(tmp_path, listener)
    assert listener.heard == [("a/one", "found")], "the disk answers again: nothing was lost"


def test_too_many_open_files_end_the_run_and_nothing_is_touched(tmp_path: Path) -> None:
    pipeline(tmp_path, Listener())
    before = contents(tmp_path)

    def without_descriptors() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
        pipeline(tmp_path, Listener())

    said = in_a_child(without_descriptors)
    assert said.startswith("Unreadable 75")
    assert "Too many open files" in said
    assert contents(tmp_path) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="changes the user")
@pytest.mark.parametrize("closed", ["a/one", "a/one/inside", "a", "a/one/0.txt", f"a/one/{MANIFEST}"])
def test_what_may_not_be_read_is_not_taken_for_missing(closed: str, tmp_path: Path) -> None:
    def work(folder: Path) -> Mapping[str, float]:
        (folder / "inside").mkdir()
        (folder / "inside/deep.txt").write_text("deep")
        return count_to(2, folder)

    root = tmp_path / "run"
    Once(root, Listener())("a/one", work, {}, {})
    before = contents(root)
    place = tmp_path
    while place != place.parent and place.stat().st_uid == os.geteuid() and place != Path("/tmp"):
        place.chmod(0o755)
        place = place.parent
    for path in (tmp_path, root, *root.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    (root / closed).chmod(0)

    def as_nobody() -> None:
        os.setegid(65534)
        os.seteuid(65534)
        Once(root, Listener())("a/one", work, {}, {})

    said = in_a_child(as_nobody)
    assert said.startswith("Unreadable 75"), said
    assert "Permission denied" in said
    assert contents(root) == before


@pytest.mark.parametrize("name", [".DS_Store", ".nfs0001", "0.txt~", "votes.jsonl.bak", "deep/.0.txt.swp"])
def test_a_stray_file_costs_at_most_a_line(name: str, tmp_path: Path) -> None:
    reference = pipeline(tmp_path, Listener())
    stray = tmp_path / "a/one" / name
    stray.parent.mkdir(exist_ok=True)
    stray.write_text("stray")
    listener = Listener()
    assert pipeline(tmp_path, listener) == reference
    assert listener.heard == [("a/one", "found"), ("a/two", "found")]
    assert stray.exists()
    said = [line for line in listener.noticed_lines if name in line]
    assert len(said) == (name == "votes.jsonl.bak")


def test_litter_that_comes_while_a_stage_is_made_is_no_part_of_it(tmp_path: Path) -> None:
    reference = pipeline(tmp_path / "clean", Listener())
    killed(tmp_path / "littered", "work.half:1")
    litter = tmp_path / "littered/a/one.partial/.nfs00000001"
    litter.write_text("the network file system keeps an open file")
    assert pipeline(tmp_path / "littered", Listener()) == reference
    (tmp_path / "littered/a/one" / litter.name).unlink()
    listener = Listener()
    pipeline(tmp_path / "littered", listener)
    assert listener.heard[0] == ("a/one", "found")


def edited(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False))


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest["metrics"].update(steps=99),
        lambda manifest: manifest["made_from"]["settings"]["count"].update(to=99),
        lambda manifest: manifest["made_from"]["inputs"].update(other="0123"),
        lambda manifest: manifest.update(seconds=1e9),
        lambda manifest: manifest.update(more=1),
        lambda manifest: manifest.update({SEAL: "0" * 64}),
        lambda manifest: manifest.update({SEAL: None}),
    ],
)
def test_an_edited_manifest_is_damage(change: Callable[[dict[str, Any]], None], tmp_path: Path) -> None:
    pipeline(tmp_path, Listener())
    edited(tmp_path / "a/one" / MANIFEST, change)
    assert damage(tmp_path / "a/one") == f"{MANIFEST} is not as it was written (damaged or edited)"


@pytest.mark.parametrize("content", ["[]", "null", '"x"', '{"files": 3}', '{"digest": "x", "files": {"a": 1}}', "\0"])
def test_a_manifest_of_any_other_shape_is_damage(content: str, tmp_path: Path) -> None:
    pipeline(tmp_path, Listener())
    (tmp_path / "a/one" / MANIFEST).write_text(content)
    assert damage(tmp_path / "a/one") is not None


def test_a_manifest_without_a_digest_of_itself_is_read_as_it_is(tmp_path: Path) -> None:
    pipeline(tmp_path, Listener())
    edited(tmp_path / "a/one" / MANIFEST, lambda manifest: manifest.pop(SEAL))
    listener = Listener()
    pipeline(tmp_path, listener)
    assert listener.heard == [("a/one", "found"), ("a/two", "found")]


def with_weights(root: Path, listener: Listener | None = None) -> Once:
    def work(folder: Path) -> Mapping[str, float]:
        for name in ("adapter", "weights"):
            (folder / name).mkdir()
            (folder / name / "w.bin").write_bytes(name.encode() * 100)
        (folder / "metrics.json").write_text("{}")
        return {}

    once = Once(root, listener or Listener())
    once("train", work, {}, {})
    return once


@pytest.mark.parametrize(
    "note",
    [
        ["metrics.json"],
        ["metrics.json", "weights/w.bin"],
        ["adapter"],
        {"parts": ["adapter"]},
        {"parts": ["adapter"], "stage": "0123", "sealed": "0123"},
        {"parts": "adapter"},
        7,
    ],
)
@pytest.mark.parametrize("lost", ["metrics.json", "adapter/w.bin"])
def test_a_note_cannot_declare_away_what_nobody_dropped(lost: str, note: object, tmp_path: Path) -> None:
    with_weights(tmp_path)
    (tmp_path / "train" / lost).unlink()
    (tmp_path / f"train{DROPPED}").write_text(json.dumps(note))
    assert damage(tmp_path / "train") == f"{lost} is missing"


def test_a_note_of_another_stage_does_not_count(tmp_path: Path) -> None:
    with_weights(tmp_path).drop("train", "weights")
    assert verified_manifest(tmp_path / "train") is not None
    note = json.loads((tmp_path / f"train{DROPPED}").read_text())
    (tmp_path / f"train{DROPPED}").write_text(json.dumps({**note, "stage": "0123456789abcdef"}))
    assert damage(tmp_path / "train") == "weights/w.bin is missing"


def test_a_note_in_the_form_of_earlier_runs_still_counts(tmp_path: Path) -> None:
    with_weights(tmp_path)
    shutil.rmtree(tmp_path / "train/weights")
    (tmp_path / f"train{DROPPED}").write_text(json.dumps(["weights/w.bin"]))
    assert verified_manifest(tmp_path / "train") is not None


def test_scratch_that_a_killed_process_left_is_deleted_when_the_stage_is_found(tmp_path: Path) -> None:
    killed(tmp_path, "once.committed:1")
    assert (tmp_path / "a/one" / SCRATCH).exists()
    pipeline(tmp_path, Listener())
    assert not (tmp_path / "a/one" / SCRATCH).exists()


def test_damage_is_said_with_its_proof_and_its_cost_before_anything_is_moved(tmp_path: Path) -> None:
    pipeline(tmp_path, Listener())
    flip(tmp_path / "a/one/1.txt")

    class Watching(Listener):
        def noticed(self, stage: str, what: str) -> None:
            super().noticed(stage, what)
            assert (tmp_path / "a/one/1.txt").exists()
            assert not (tmp_path / "set-aside").exists()

    listener = Watching()
    pipeline(tmp_path, listener)
    (line,) = listener.noticed_lines
    for part in ("a/one: 1.txt is not as it was written", "set aside", "took 0 s", "Made from it: a/two"):
        assert part in line


def test_a_stage_whose_later_stages_would_be_refused_is_not_made_again(tmp_path: Path) -> None:
    pipeline(tmp_path, Listener())
    flip(tmp_path / "a/one/1.txt")
    before = contents(tmp_path)
    once = Once(tmp_path, Listener(), expected={"a/two": {"count": {"to": 9}}})
    with pytest.raises(SettingsChanged, match="a/one is damaged") as refused:
        once("a/one", lambda folder: count_to(2, folder), {"count": {"to": 2}}, {})
    assert "count.to: 3 → 9" in str(refused.value)
    assert contents(tmp_path) == before


def test_an_input_that_came_out_differently_has_its_own_message(tmp_path: Path) -> None:
    pipeline(tmp_path, Listener())
    flip(tmp_path / "a/one/1.txt")

    def differently(folder: Path) -> Mapping[str, float]:
        (folder / "1.txt").write_text("another result")
        return {}

    once = Once(tmp_path, Listener())
    earlier = once("a/one", differently, {"count": {"to": 2}}, {})
    with pytest.raises(SettingsChanged) as refused:
        once("a/two", lambda folder: count_to(3, folder), {"count": {"to": 3}}, {"one": earlier.digest})
    told = str(refused.value)
    for part in ("an input was remade", "now a/one", "before set-aside/a-one-1", "run.redo=a/two"):
        assert part in told
    assert "other settings" not in told


def of_version(root: Path, version: str) -> None:
    for stage in ("a/one", "a/two"):
        path = root / stage / MANIFEST
        edited(path, lambda manifest: (manifest["made_from"].update(version=version), manifest.pop(SEAL)))  # type: ignore[func-returns-value]


def test_another_version_says_what_it_changed_and_offers_to_go_on(tmp_path: Path) -> None:
    reference = pipeline(tmp_path, Listener())
    of_version(tmp_path, "0.0.9")
    with pytest.raises(SettingsChanged) as refused:
        pipeline(tmp_path, Listener())
    for part in ("made by Crescent 0.0.9", __version__, "run.versions=[0.0.9]", "run.redo=a/one"):
        assert part in str(refused.value)
    assert "run.versions=[0.0.9]" in Once(tmp_path, Listener()).foresee("a/one", {"count": {"to": 2}}).why
    listener = Listener()
    once = Once(tmp_path, listener, versions=["0.0.9"])
    earlier = once("a/one", lambda folder: count_to(2, folder), {"count": {"to": 2}}, {})
    once("a/two", lambda folder: count_to(3, folder), {"count": {"to": 3}}, {"one": earlier.digest})
    assert listener.heard == [("a/one", "found"), ("a/two", "found")]
    assert inspect(tmp_path / "a/one").manifest is not None
    assert reference


def test_what_changed_between_versions_is_listed_for_the_kind_of_stage() -> None:
    changes = {"1": {}, "2": {"pairs": "caps ties"}, "3": {"pairs": "keeps ties", "eval": "reads boxes"}}
    assert changes_between("1", "3", "pairs", changes) == ["2: caps ties", "3: keeps ties"]
    assert changes_between("2", "3", "eval", changes) == ["3: reads boxes"]
    assert changes_between("1", "3", "train", changes) == []
    assert changes_between("0", "3", "train", changes) == ["0 is not listed in crescent/run_folder/versions.py"]
    assert __version__ in __import__("crescent.run_folder.versions", fromlist=["CHANGES"]).CHANGES


def test_a_benchmark_that_was_added_takes_one_line_of_the_refusal(tmp_path: Path) -> None:
    kept = {"source": "jsonl", "path": "a.jsonl", "items": None}
    more = {"source": "jsonl", "path": "b.jsonl", "items": None, "family": None, "split": "dev"}
    before = {"version": "1", "settings": {"eval": {"benchmarks": {"a": kept}}}, "inputs": {}}
    now = {**before, "settings": {"eval": {"benchmarks": {"a": {**kept, "items": 4}, "b": more}}}}
    told = explain_difference(tmp_path, "base/eval", before, now)
    assert told.splitlines()[1:-1] == [
        "  eval.benchmarks.a.items: None → 4",
        "  eval.benchmarks.b: '(not there)' → {'source': 'jsonl', 'path': 'b.jsonl'}",
    ]
    assert "  eval.benchmarks.b: {'source': 'jsonl', 'path': 'b.jsonl'} → '(not there)'" in explain_difference(
        tmp_path, "base/eval", now, before
    )
