"""A stage that another run made from the same is taken over, whatever is killed, dropped or damaged in between."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from test_once import Listener, count_to, flip, killed_at

from crescent.config.earlier import earlier_runs
from crescent.machine.disk import draft_of, link_or_copy
from crescent.run_folder.manifest import MANIFEST, REUSED, reused_from, tree_digest, verified_manifest
from crescent.run_folder.once import Once


def run(
    root: Path, *donors: Path, steps: int = 3, listener: Listener | None = None, redo: str | None = None
) -> tuple[str, list[tuple[str, str]]]:
    """Two stages, the second a function of the first; the tree's digest, and what the listener heard."""
    heard = listener or Listener()
    once = Once(root, heard, redo, reuse=donors)
    earlier = once("a/one", lambda folder: count_to(2, folder), {"count": {"to": 2}}, {})
    once("a/two", lambda folder: count_to(steps, folder), {"count": {"to": steps}}, {"one": earlier.digest})
    return tree_digest(root), heard.heard


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def donor(tmp_path: Path) -> Path:
    run(tmp_path / "donor")
    return tmp_path / "donor"


def test_what_another_run_made_from_the_same_is_linked_and_not_made(donor: Path, tmp_path: Path) -> None:
    digest, heard = run(tmp_path / "own", donor)
    assert heard == [("a/one", "reused from donor"), ("a/two", "reused from donor")]
    assert digest == tree_digest(donor) == run(tmp_path / "alone")[0]
    assert (tmp_path / "own/a/one/0.txt").samefile(donor / "a/one/0.txt")
    note = json.loads((tmp_path / "own/a" / f"one{REUSED}").read_text())
    assert note == {"run": str(donor), "digest": json.loads((donor / "a/one" / MANIFEST).read_text())["digest"]}
    assert run(tmp_path / "own")[1] == [("a/one", "found"), ("a/two", "found")], "it is the run's own from now on"


def test_other_settings_and_inputs_are_made_here_and_said(donor: Path, tmp_path: Path) -> None:
    digest, heard = run(tmp_path / "own", donor, steps=4)
    assert heard[0] == ("a/one", "reused from donor")
    assert heard[1:] == [
        ("a/two", f"not reused from {donor}: count.to 3 → 4"),
        ("a/two", "started"),
        ("a/two", "made"),
    ]
    assert digest == run(tmp_path / "alone", steps=4)[0]


def test_an_input_with_another_digest_is_named(donor: Path, tmp_path: Path) -> None:
    listener = Listener()
    once = Once(tmp_path / "own", listener, reuse=[donor])
    once("a/two", lambda folder: count_to(3, folder), {"count": {"to": 3}}, {"one": "0123456789abcdef"})
    given = json.loads((donor / "a/one" / MANIFEST).read_text())["digest"]
    assert listener.heard[0] == ("a/two", f"not reused from {donor}: input.one {given[:8]!r} → '01234567'")
    assert not (tmp_path / "own/a" / f"two{REUSED}").exists()


def test_of_several_runs_the_nearest_is_named(donor: Path, tmp_path: Path) -> None:
    run(tmp_path / "far", steps=9)
    once = Once(tmp_path / "other", Listener())
    once("a/two", lambda folder: count_to(1, folder), {"count": {"to": 1, "by": 2}}, {})
    _, heard = run(tmp_path / "own", tmp_path / "other", tmp_path / "far", steps=4)
    assert ("a/two", f"not reused from {tmp_path / 'far'}: count.to 9 → 4 (nor from 1 more runs)") in heard
    assert run(tmp_path / "own-2", tmp_path / "far", donor)[1][1] == ("a/two", "reused from donor")


def unlink_and_write(path: Path) -> None:
    path.unlink()
    path.write_text("x")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: flip(folder / "1.txt"), "1.txt is not as it was written"),
        (lambda folder: (folder / "1.txt").unlink(), "1.txt is missing"),
        (lambda folder: (folder / MANIFEST).write_text("{"), f"{MANIFEST} is not as it was written"),
        (lambda folder: (folder / MANIFEST).unlink(), f"{MANIFEST} is missing"),
    ],
    ids=["flipped", "missing", "torn manifest", "no manifest"],
)
def test_a_damaged_stage_is_never_taken_over(
    damage: Callable[[Path], object], said: str, donor: Path, tmp_path: Path
) -> None:
    reference = tree_digest(donor)
    damage(donor / "a/one")
    digest, heard = run(tmp_path / "own", donor)
    assert heard[0][0] == "a/one"
    assert heard[0][1].startswith(f"not reused from {donor}: {said}")
    assert heard[1:] == [("a/one", "started"), ("a/one", "made"), ("a/two", "reused from donor")]
    assert digest == reference


def test_a_damaged_stage_of_ones_own_is_replaced_by_an_intact_one(donor: Path, tmp_path: Path) -> None:
    reference, _ = run(tmp_path / "own", donor)
    unlink_and_write(tmp_path / "own/a/one/1.txt")
    digest, heard = run(tmp_path / "own", donor)
    assert heard == [("a/one", "reused from donor"), ("a/two", "found")]
    assert digest == reference
    assert verified_manifest(donor / "a/one") is not None


def test_what_is_damaged_in_place_is_damaged_for_all_and_taken_by_none(donor: Path, tmp_path: Path) -> None:
    """The price of links."""
    reference, _ = run(tmp_path / "own", donor)
    flip(donor / "a/one/1.txt")
    digest, heard = run(tmp_path / "own", donor)
    assert [what for _, what in heard[1:]] == ["started", "made", "found"]
    assert digest == reference


def make_weights(root: Path, *donors: Path) -> Once:
    def work(folder: Path) -> Mapping[str, float]:
        for name in ("adapter", "weights"):
            (folder / name).mkdir()
            (folder / name / "w.bin").write_bytes(name.encode() * 100)
        return {}

    listener = Listener()
    once = Once(root, listener, reuse=donors)
    once("train", work, {}, {})
    return once


@pytest.mark.parametrize("dropping", ["giver", "taker"])
def test_weights_that_one_run_drops_stay_in_the_other(dropping: str, tmp_path: Path) -> None:
    giver = make_weights(tmp_path / "giver")
    taker = make_weights(tmp_path / "taker", tmp_path / "giver")
    (giver if dropping == "giver" else taker).drop("train", "weights")
    for name in ("giver", "taker"):
        assert verified_manifest(tmp_path / name / "train") is not None
        assert (tmp_path / name / "train/weights/w.bin").exists() == (name != dropping)
        assert (tmp_path / name / "train/adapter/w.bin").exists()
    assert reused_from(tmp_path / "taker/train") == str(tmp_path / "giver")


def test_a_stage_with_dropped_weights_is_made_again_and_not_taken_over(tmp_path: Path) -> None:
    make_weights(tmp_path / "giver").drop("train", "weights")
    taker = make_weights(tmp_path / "taker", tmp_path / "giver")
    assert isinstance(taker.observer, Listener)
    assert [what for _, what in taker.observer.heard] == [
        f"not reused from {tmp_path / 'giver'}: weights/w.bin was deleted there (run.keep=best)",
        "started",
        "made",
    ]
    assert (tmp_path / "taker/train/weights/w.bin").exists()


def test_the_run_that_made_it_is_named_however_often_it_was_handed_on(donor: Path, tmp_path: Path) -> None:
    run(tmp_path / "second", donor)
    shutil.rmtree(donor)
    _, heard = run(tmp_path / "third", tmp_path / "second")
    assert heard[0] == ("a/one", "reused from donor")
    assert reused_from(tmp_path / "third/a/one") == str(donor)


def test_an_interrupted_stage_goes_on_with_its_own_work(donor: Path, tmp_path: Path) -> None:
    killed_at("work.half:2", lambda: run(tmp_path / "own"))
    assert run(tmp_path / "own", donor)[1] == [
        ("a/one", "resumed"),
        ("a/one", "made"),
        ("a/two", "reused from donor"),
    ]


def test_an_unfinished_stage_of_other_settings_is_set_aside_for_what_is_taken_over(donor: Path, tmp_path: Path) -> None:
    killed_at("work.half:3", lambda: run(tmp_path / "own", steps=5))
    assert run(tmp_path / "own", donor)[1] == [("a/one", "found"), ("a/two", "reused from donor")]
    assert not list((tmp_path / "own").rglob("*.partial"))
    assert (tmp_path / "own/set-aside/a-two.partial-1/0.txt").exists()


def test_a_redone_stage_is_made_again_although_another_run_has_it(donor: Path, tmp_path: Path) -> None:
    run(tmp_path / "own", donor)
    _, heard = run(tmp_path / "own", donor, redo="a/one")
    assert [what for _, what in heard] == ["started", "made"] * 2
    assert not list((tmp_path / "own/a").rglob(f"*{REUSED}"))


@pytest.mark.parametrize("kind", ["verdict", "others"])
def test_stages_about_the_run_itself_are_its_own(kind: str, tmp_path: Path) -> None:
    for name in ("donor", "own"):
        listener = Listener()
        Once(tmp_path / name, listener, reuse=[tmp_path / "donor"])(f"a/{kind}", lambda folder: {}, {}, {})
        assert [what for _, what in listener.heard] == ["started", "made"]


def reached(donor: Path, root: Path, log: Path) -> int:
    """Number of failpoints on the way to two stages that are taken over."""
    pid = os.fork()
    if pid == 0:
        os.environ |= {"CRESCENT_FAILPOINT": "count", "CRESCENT_FAILPOINT_LOG": str(log)}
        run(root, donor)
        os._exit(0)
    os.waitpid(pid, 0)
    return len(log.read_text().splitlines())


def test_a_run_killed_anywhere_in_a_takeover_ends_like_one_that_was_not(donor: Path, tmp_path: Path) -> None:
    reference, before = tree_digest(donor), contents(donor)
    places = (tmp_path / "log").read_text().splitlines() if reached(donor, tmp_path / "whole", tmp_path / "log") else []
    assert {"reuse.link", "reuse.note", "reuse.rename", "reuse.committed"} <= set(places)
    for nth, place in enumerate(places):
        own, hit = tmp_path / f"own-{nth}", places[: nth + 1].count(place)
        killed_at(f"{place}:{hit}", lambda own=own: run(own, donor))  # type: ignore[misc]
        digest, heard = run(own, donor)
        assert digest == reference
        assert not {what for _, what in heard} - {"reused from donor", "found"}
        assert reused_from(own / "a/one") == reused_from(own / "a/two") == str(donor)
        assert not [path for path in own.rglob("*") if path.name.startswith(".") or path.suffix in (".partial", ".new")]
        assert contents(donor) == before


def test_a_takeover_that_was_killed_leaves_nothing_behind_where_the_stage_is_made_after_all(
    donor: Path, tmp_path: Path
) -> None:
    for place in ("reuse.link:2", "reuse.note", "reuse.rename"):
        own = tmp_path / place.replace(":", "-")
        killed_at(place, lambda own=own: run(own, donor))  # type: ignore[misc]
        assert draft_of(own / "a/one").exists()
        assert run(own)[0] == tree_digest(donor)
        assert sorted(path.name for path in (own / "a").iterdir()) == ["one", "two"], "no draft, no note"


def test_a_takeover_that_fails_costs_a_line(donor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRESCENT_FAILPOINT", "reuse.link=enospc")
    digest, heard = run(tmp_path / "own", donor)
    assert heard[0] == ("a/one", f"not reused from {donor}: it cannot be linked (No space left on device)")
    assert heard[1:3] == [("a/one", "started"), ("a/one", "made")]
    assert digest == tree_digest(donor)


def test_a_note_that_speaks_of_something_else_does_not_count(donor: Path, tmp_path: Path) -> None:
    run(tmp_path / "own", donor)
    note = tmp_path / "own/a" / f"one{REUSED}"
    assert reused_from(tmp_path / "own/a/one") is not None
    for text in ('{"run": "x", "digest": "y"}', "{", "[]", '"text"'):
        note.write_text(text)
        assert reused_from(tmp_path / "own/a/one") is None


@dataclass
class Count:
    to: int = 2
    by: int = field(default=1, metadata=earlier_runs(1))


@dataclass
class Settings:
    count: Count = field(default_factory=Count)


@pytest.mark.parametrize(("by", "heard"), [(1, ["reused from donor"]), (2, ["count.by 1 → 2", "started", "made"])])
def test_a_setting_that_joined_later_counts_as_what_it_stands_for(
    by: int, heard: Sequence[str], donor: Path, tmp_path: Path
) -> None:
    listener = Listener()
    once = Once(tmp_path / "own", listener, schema=Settings, reuse=[donor])
    once("a/one", lambda folder: count_to(2, folder), {"count": {"to": 2, "by": by}}, {})
    assert [what.rpartition(": ")[2] for _, what in listener.heard] == heard


def test_a_plan_tells_what_will_be_reused_as_far_as_the_inputs_are_known(donor: Path, tmp_path: Path) -> None:
    def foreseen(root: Path, steps: int = 3, first: int = 2) -> list[str]:
        once = Once(root, Listener(), reuse=[donor])
        return [
            once.foresee("a/one", {"count": {"to": first}}).why,
            once.foresee("a/two", {"count": {"to": steps}}).why,
        ]

    new, will_be = tmp_path / "own", f"will be reused from {donor}"
    assert foreseen(new) == [will_be, will_be]
    assert foreseen(new, steps=4) == [will_be, f"not made yet; {donor} has it with count.to 3 → 4"]
    assert foreseen(new, first=5) == [f"not made yet; {donor} has it with count.to 2 → 5", "not made yet"]
    flip(donor / "a/one/0.txt")
    assert foreseen(new) == ["not made yet", "not made yet"]
    assert not new.exists()


def test_a_copy_to_another_file_system_keeps_content_and_time(tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(b"content")
    os.utime(source, ns=(5_000_000_123, 5_000_000_123))
    link_or_copy(source, tmp_path / "folder" / "linked")
    assert (tmp_path / "folder" / "linked").samefile(source)
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other file system here")
    target = other / f"crescent-test-{os.getpid()}" / "copied"
    try:
        link_or_copy(source, target)
        assert target.read_bytes() == b"content"
        assert target.stat().st_mtime_ns == source.stat().st_mtime_ns
        assert target.stat().st_ino != source.stat().st_ino
    finally:
        shutil.rmtree(target.parent)


def test_errors_that_a_copy_would_meet_too_are_not_hidden(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "taken").write_text("y")
    with pytest.raises(FileExistsError) as refused:
        link_or_copy(tmp_path / "file", tmp_path / "taken")
    assert refused.value.errno == errno.EEXIST
    assert (tmp_path / "taken").read_text() == "y"
