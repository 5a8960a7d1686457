"""A stage runs once, whatever is killed, torn or changed in between."""

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from crescent.errors import SettingsChanged
from crescent.machine.failpoint import failpoint
from crescent.run_folder.manifest import LARGE, MANIFEST, SCRATCH, seal, tree_digest, verified_manifest
from crescent.run_folder.once import Once

PLACES = ("work.half", "once.manifest", "once.rename", "once.committed")


class Listener:
    """Records what happens to stages."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.noticed_lines: list[str] = []

    def started(self, stage: str, resumed: bool) -> None:
        self.heard.append((stage, "resumed" if resumed else "started"))

    def finished(self, stage: str, metrics: Mapping[str, float], seconds: float, fresh: bool) -> None:
        self.heard.append((stage, "made" if fresh else "found"))

    def reused(self, stage: str, metrics: Mapping[str, float], seconds: float, run: str) -> None:
        self.heard.append((stage, f"reused from {Path(run).name}"))

    def not_reused(self, stage: str, why: str) -> None:
        self.heard.append((stage, why))

    def noticed(self, stage: str, what: str) -> None:
        self.noticed_lines.append(f"{stage}: {what}")


def count_to(number: int, folder: Path) -> Mapping[str, float]:
    """A stage of two steps that keeps what it has."""
    for step in range(number):
        if not (folder / f"{step}.txt").exists():
            (folder / f"{step}.txt").write_text(str(step))
        failpoint("work.half")
    return {"steps": number}


def pipeline(root: Path, listener: Listener, first: int = 2, redo: str | None = None) -> str:
    """Two stages, the second a function of the first."""
    once = Once(root, listener, redo)
    earlier = once("a/one", lambda folder: count_to(first, folder), {"count": {"to": first}}, {})
    once("a/two", lambda folder: count_to(3, folder), {"count": {"to": 3}}, {"one": earlier.digest})
    return tree_digest(root)


def killed(root: Path, wanted: str) -> None:
    killed_at(wanted, lambda: pipeline(root, Listener()))


def killed_at(wanted: str, run: Callable[[], object]) -> None:
    """Run in a process that dies at a failpoint."""
    pid = os.fork()
    if pid == 0:
        failpoint.__globals__["_reached"].clear()
        os.environ["CRESCENT_FAILPOINT"] = f"{wanted}=kill9"
        run()
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


def test_a_finished_stage_is_found_and_not_made_again(tmp_path: Path) -> None:
    listener = Listener()
    assert pipeline(tmp_path, listener) == pipeline(tmp_path, listener)
    assert [what for _, what in listener.heard] == ["started", "made", "started", "made", "found", "found"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("hit", [1, 2])
def test_a_run_killed_anywhere_ends_like_one_that_was_not(place: str, hit: int, tmp_path: Path) -> None:
    reference = pipeline(tmp_path / "undisturbed", Listener())
    killed(tmp_path / "disturbed", f"{place}:{hit}")
    assert pipeline(tmp_path / "disturbed", Listener()) == reference
    assert not list((tmp_path / "disturbed").rglob("*.partial"))


def test_an_interrupted_stage_goes_on_in_its_own_folder(tmp_path: Path) -> None:
    killed(tmp_path, "work.half:2")
    listener = Listener()
    pipeline(tmp_path, listener)
    assert listener.heard[0] == ("a/one", "resumed")


def test_changed_settings_are_refused_with_the_difference_and_both_ways_out(tmp_path: Path) -> None:
    before = pipeline(tmp_path, Listener())
    with pytest.raises(SettingsChanged) as refused:
        pipeline(tmp_path, Listener(), first=4)
    for part in ("a/one", "count.to: 2 → 4", "run.name=", "run.redo=a/one"):
        assert part in str(refused.value)
    assert tree_digest(tmp_path) == before


def test_redo_sets_a_stage_and_all_later_ones_aside(tmp_path: Path) -> None:
    pipeline(tmp_path, Listener())
    listener = Listener()
    pipeline(tmp_path, listener, first=4, redo="a/one")
    assert [what for _, what in listener.heard] == ["started", "made", "started", "made"]
    assert (tmp_path / "set-aside" / "a-one-1" / MANIFEST).exists()
    assert (tmp_path / "set-aside" / "a-two-1" / MANIFEST).exists()


def flip(path: Path) -> None:
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


def edit(path: Path) -> None:
    manifest = json.loads(path.read_text())
    manifest["metrics"]["steps"] = 99
    del manifest["made_from"]
    path.write_text(json.dumps(manifest))


def edit_metrics(path: Path) -> None:
    path.write_text(path.read_text().replace('"steps": 2', '"steps": 3'))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip(folder / "1.txt"),
        lambda folder: (folder / "1.txt").unlink(),
        lambda folder: (folder / "1.txt").write_bytes(b""),
        lambda folder: edit_metrics(folder / MANIFEST),
        lambda folder: (folder / MANIFEST).unlink(),
        lambda folder: (folder / MANIFEST).write_text("{"),
        lambda folder: edit(folder / MANIFEST),
    ],
    ids=["flipped", "missing", "emptied", "edited metrics", "no manifest", "torn manifest", "edited manifest"],
)
def test_a_damaged_stage_is_set_aside_and_made_again(damage: object, tmp_path: Path) -> None:
    reference = pipeline(tmp_path, Listener())
    assert callable(damage)
    damage(tmp_path / "a" / "one")
    assert verified_manifest(tmp_path / "a" / "one") is None
    listener = Listener()
    assert pipeline(tmp_path, listener) == reference
    assert listener.heard[:3] == [("a/one", "started"), ("a/one", "made"), ("a/two", "found")]
    assert (tmp_path / "set-aside" / "a-one-1").exists()


def test_large_weights_are_checked_when_they_were_touched_and_not_read_when_they_were_not(tmp_path: Path) -> None:
    def work(folder: Path) -> Mapping[str, float]:
        (folder / "weights").write_bytes(bytes(LARGE))
        return {}

    folder = Once(tmp_path, Listener())("a", work, {}, {}).folder
    sealed = (folder / "weights").stat()
    assert verified_manifest(folder) is not None
    os.utime(folder / "weights", ns=(0, 0))
    assert verified_manifest(folder) is not None, "copied without its times, it is read"
    flip(folder / "weights")
    assert verified_manifest(folder) is None
    os.utime(folder / "weights", ns=(sealed.st_atime_ns, sealed.st_mtime_ns))
    assert verified_manifest(folder) is not None, "the price: damage that leaves size and time is not seen"


def test_a_half_written_manifest_is_no_part_of_the_result(tmp_path: Path) -> None:
    reference = pipeline(tmp_path / "undisturbed", Listener())
    killed(tmp_path / "disturbed", "once.manifest:1")
    (tmp_path / "disturbed" / "a" / "one.partial" / "manifest.json.new").write_text("{")
    assert pipeline(tmp_path / "disturbed", Listener()) == reference


def test_a_partial_folder_of_other_settings_is_not_continued(tmp_path: Path) -> None:
    killed(tmp_path, "work.half:1")
    listener = Listener()
    pipeline(tmp_path, listener, first=1)
    assert listener.heard[0] == ("a/one", "started")
    assert (tmp_path / "set-aside" / "a-one.partial-1" / "0.txt").exists()


def test_what_took_time_is_no_part_of_the_digest(tmp_path: Path) -> None:
    for name, seconds in (("slow", 9.0), ("fast", 0.1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.txt").write_text("x")
        seal(tmp_path / name, {"seconds": seconds})
    digests = {json.loads((tmp_path / name / MANIFEST).read_text())["digest"] for name in ("slow", "fast")}
    assert len(digests) == 1


def test_a_full_disk_leaves_finished_work_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRESCENT_FAILPOINT", "work.half:3=enospc")
    failpoint.__globals__["_reached"].clear()
    with pytest.raises(OSError, match="No space left"):
        pipeline(tmp_path, Listener())
    assert verified_manifest(tmp_path / "a" / "one") is not None
    monkeypatch.delenv("CRESCENT_FAILPOINT")
    listener = Listener()
    pipeline(tmp_path, listener)
    assert listener.heard == [("a/one", "found"), ("a/two", "resumed"), ("a/two", "made")]


def test_an_interrupted_redo_goes_on_instead_of_starting_over(tmp_path: Path) -> None:
    pipeline(tmp_path, Listener())

    def redo_two_stages(listener: Listener, first: int, fail: bool) -> None:
        once = Once(tmp_path, listener, redo="a/one")
        earlier = once("a/one", lambda folder: count_to(first, folder), {"count": {"to": first}}, {})
        if fail:
            raise InterruptedError
        once("a/two", lambda folder: count_to(3, folder), {"count": {"to": 3}}, {"one": earlier.digest})
        once.finish()

    with pytest.raises(InterruptedError):
        redo_two_stages(Listener(), first=4, fail=True)
    listener = Listener()
    redo_two_stages(listener, first=4, fail=False)
    assert listener.heard == [("a/one", "found"), ("a/two", "started"), ("a/two", "made")]
    redone_again = Listener()
    redo_two_stages(redone_again, first=4, fail=False)
    assert redone_again.heard[0] == ("a/one", "started"), "a finished redo may be asked for once more"


def test_nothing_is_written_before_there_is_work(tmp_path: Path) -> None:
    calls: list[int] = []

    def run(first: int) -> None:
        once = Once(tmp_path, Listener(), before_work=lambda: calls.append(1))
        once("a/one", lambda folder: count_to(first, folder), {"count": {"to": first}}, {})

    run(2)
    run(2)
    with pytest.raises(SettingsChanged):
        run(3)
    assert calls == [1]


def test_scratch_is_kept_until_the_stage_is_done_and_is_no_part_of_it(tmp_path: Path) -> None:
    def work(folder: Path) -> Mapping[str, float]:
        (folder / SCRATCH).mkdir(exist_ok=True)
        with (folder / SCRATCH / "journal.jsonl").open("a") as journal:
            journal.write("one line more\n")
        (folder / "result.txt").write_text("same")
        return {}

    reference = Once(tmp_path / "undisturbed", Listener())("a", work, {}, {}).digest
    for place in ("once.manifest", "once.rename"):
        killed_at(place, lambda: Once(tmp_path / "disturbed", Listener())("a", work, {}, {}))
        assert (tmp_path / "disturbed" / "a.partial" / SCRATCH / "journal.jsonl").exists()
    listener = Listener()
    assert Once(tmp_path / "disturbed", listener)("a", work, {}, {}).digest == reference
    assert listener.heard == [("a", "made")], "a whole result that only lacked its name is not made again"
    assert sorted(path.name for path in (tmp_path / "disturbed" / "a").iterdir()) == [MANIFEST, "result.txt"]


def test_a_stage_that_later_rounds_need_again_is_not_redone_with_them(tmp_path: Path) -> None:
    """`base/…` stages are asked for in every round; redoing the second round leaves them as they are."""

    def rounds(once: Once) -> list[str]:
        digests = []
        for number in (1, 2):
            shared = once("base/shared", writes_the_time, {}, {})
            once(f"round-{number}/own", writes_the_time, {}, {"shared": shared.digest})
            digests.append(shared.digest)
        return digests

    def writes_the_time(folder: Path) -> dict[str, float]:
        (folder / "time").write_text(str(time.monotonic_ns()))
        return {}

    before = rounds(Once(tmp_path, Listener()))
    assert rounds(Once(tmp_path, Listener(), redo="round-1/own")) == before
    assert rounds(Once(tmp_path, Listener())) == before
    assert not list((tmp_path / "set-aside").glob("base-*"))
