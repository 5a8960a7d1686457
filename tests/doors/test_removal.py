"""Removing and archiving recorded runs on the fakes: nothing is lost that nobody was told of."""

import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from smoke_runs import set_setting

from crescent.doors.archive import archive_run
from crescent.doors.fork import fork_run
from crescent.doors.removal import examine, remove_runs
from crescent.errors import BadConfig, DataSaysNo, RunLocked
from crescent.machine.disk import file_lock
from crescent.reading.listing import list_run, size_of
from crescent.run_folder.lock import ALIVE, only_supervisor
from crescent.run_folder.manifest import damage, manifests_of
from crescent.run_folder.reuse import note_reused

RECORDED = Path(__file__).parent.parent / "recorded" / "run_before_wings.tar.gz"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished first round and half a second one."""
    with tarfile.open(RECORDED) as packed:
        packed.extractall(tmp_path, filter="data")
    return tmp_path / "runs/smoke"


def never(question: str) -> str:
    raise AssertionError(question)


def silent(line: str) -> None:
    """Says nothing."""


def test_a_run_is_removed_after_it_was_said_what_goes_with_it(run: Path) -> None:
    said: list[str] = []
    questions: list[str] = []
    remove_runs([run], False, lambda question: questions.append(question) or "y", said.append)
    assert "stages that took" in said[0]
    assert questions == ["remove it? [y/N] "]
    assert not run.exists()
    assert list(run.parent.iterdir()) == []


@pytest.mark.parametrize("answer", ["", "n", "no", "Y es"])
def test_without_a_yes_nothing_is_removed(run: Path, answer: str) -> None:
    said: list[str] = []
    remove_runs([run], False, lambda question: answer, said.append)
    assert said[-1] == "nothing was removed"
    assert damage(run / "base/eval") is None


def test_where_nobody_can_be_asked_yes_has_to_be_said_before(run: Path) -> None:
    with pytest.raises(BadConfig, match=r"--yes"):
        remove_runs([run], False, None, silent)
    assert run.exists()
    remove_runs([run], True, never, silent)
    assert not run.exists()


def test_what_cannot_be_made_again_is_named_and_needs_more_than_a_letter(run: Path) -> None:
    (run / "notes.txt").write_text("found something")
    (run / "round-1/eval/mine.csv").write_text("1")
    (run / "set-aside/round-1-eval-1").mkdir(parents=True)
    set_setting(run, "path", "/nowhere/model")
    set_setting(run, "urls", "[http://host/v1]")
    lost = "\n".join(examine(run).lost)
    for part in ("notes.txt", "round-1/eval/mine.csv", "set-aside/", "model.path=/nowhere/model", "http://host/v1"):
        assert part in lost
    said: list[str] = []
    remove_runs([run], False, lambda question: "y", said.append)
    assert run.exists()
    assert sum(line.startswith("  LOST FOR GOOD: ") for line in said) == len(examine(run).lost)
    remove_runs([run], False, lambda question: "yes", silent)
    assert not run.exists()


def test_a_plain_run_loses_nothing_for_good(run: Path) -> None:
    assert examine(run).lost == ()


def test_a_run_that_is_at_work_is_refused(run: Path) -> None:
    with only_supervisor(run), pytest.raises(RunLocked):
        remove_runs([run], True, never, silent)
    with file_lock(run / ALIVE), pytest.raises(RunLocked, match="child process"):
        remove_runs([run], True, never, silent)
    assert damage(run / "base/eval") is None


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("redo", "null\n  reuse: [smoke]", "run.reuse"),
        ("runs", "[{run}]", "diversify.runs"),
        ("path", "{run}/round-1/train/weights", "model.path"),
    ],
)
def test_a_run_that_another_one_names_is_refused(run: Path, key: str, value: str, named: str) -> None:
    other = Path(shutil.copytree(run, run.with_name("other")))
    set_setting(other, key, value.replace("{run}", str(run)))
    with pytest.raises(BadConfig) as refused:
        examine(run)
    assert f"{other}: {named}" in str(refused.value)
    remove_runs([run, other], True, never, silent)
    assert not run.exists()
    assert not other.exists()


def test_a_finished_run_no_longer_stands_on_what_it_might_have_reused(run: Path) -> None:
    other = Path(shutil.copytree(run, run.with_name("other")))
    set_setting(other, "redo", "null\n  reuse: [smoke]")
    set_setting(other, "rounds", "1")
    examine(run)
    set_setting(other, "path", str(run / "round-1/train/weights"))
    with pytest.raises(BadConfig, match=r"model\.path"):
        examine(run)


def test_a_run_whose_stages_others_took_over_is_refused_until_they_are_gone(run: Path) -> None:
    fork = fork_run(run, "branch", "round-1/train", silent)
    with pytest.raises(BadConfig, match=r"branch: .*base/eval"):
        remove_runs([run], True, never, silent)
    remove_runs([fork], True, never, silent)
    assert damage(run / "base/eval") is None, "what was linked has lost a name, not its content"
    remove_runs([run], True, never, silent)
    assert not run.exists()


def test_stages_of_a_run_that_is_gone_are_lost_with_the_last_that_holds_them(run: Path) -> None:
    note_reused(run / "base/eval", "runs/gone", manifests_of(run)["base/eval"])
    assert any("base/eval: was made by runs/gone, which is gone" in line for line in examine(run).lost)


def test_a_folder_that_is_no_run_of_ours_is_never_removed(tmp_path: Path, run: Path) -> None:
    project = tmp_path / "project"
    (project / "base").mkdir(parents=True)
    (project / "config.yaml").write_text("run: fast\n")
    (project / "thesis.tex").write_text("years")
    (tmp_path / "link").symlink_to(run)
    for folder in (project, tmp_path / "link"):
        with pytest.raises(BadConfig):
            remove_runs([folder], True, never, silent)
    assert (project / "thesis.tex").exists()
    assert run.exists()


def test_one_run_that_is_refused_keeps_the_others(run: Path) -> None:
    other = Path(shutil.copytree(run, run.with_name("other")))
    with only_supervisor(other), pytest.raises(RunLocked):
        remove_runs([run, other], True, never, silent)
    assert run.exists()


def test_an_archive_holds_the_whole_run(run: Path, tmp_path: Path) -> None:
    said: list[str] = []
    archive_run(run, tmp_path / "a.tar.gz", False, said.append)
    assert "read again and complete" in said[0]
    with tarfile.open(tmp_path / "a.tar.gz") as packed:
        packed.extractall(tmp_path / "there", filter="data")
    copy = tmp_path / "there" / run.name
    assert manifests_of(copy) == manifests_of(run)
    assert all(damage(copy / stage) is None for stage in manifests_of(run))
    assert list_run(copy).status == list_run(run).status
    assert {path.name for path in run.iterdir()} - {path.name for path in copy.iterdir()} <= {".lock", ".children"}
    assert [path.name for path in tmp_path.glob(".*")] == [], "no draft is left"


def test_a_light_archive_leaves_out_weights_that_an_adapter_makes_again(run: Path, tmp_path: Path) -> None:
    from smoke_runs import reseal

    (run / "round-1/train/weights").mkdir(exist_ok=True)
    (run / "round-1/train/weights/model.safetensors").write_bytes(os.urandom(4096))
    (run / "round-1/train/adapter").mkdir(exist_ok=True)
    reseal(run)
    archive_run(run, tmp_path / "a.tar.gz", True, silent)
    with tarfile.open(tmp_path / "a.tar.gz") as packed:
        packed.extractall(tmp_path / "there", filter="data")
    copy = tmp_path / "there" / run.name
    assert not (copy / "round-1/train/weights").exists()
    assert damage(copy / "round-1/train") is None
    assert (run / "round-1/train/weights/model.safetensors").exists()


def test_nothing_is_archived_over_another_file_or_from_a_damaged_run(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_text("precious")
    with pytest.raises(BadConfig, match="exists already"):
        archive_run(run, tmp_path / "a.tar.gz", False, silent)
    assert (tmp_path / "a.tar.gz").read_text() == "precious"
    with pytest.raises(BadConfig, match="there is no folder"):
        archive_run(run, tmp_path / "nowhere/a.tar.gz", False, silent)
    with only_supervisor(run), pytest.raises(RunLocked):
        archive_run(run, tmp_path / "b.tar.gz", False, silent)
    (run / "base/eval/scores.json").write_text("[]")
    with pytest.raises(DataSaysNo, match="base/eval: is damaged"):
        archive_run(run, tmp_path / "b.tar.gz", False, silent)
    assert sorted(path.name for path in tmp_path.glob("*.gz")) == ["a.tar.gz"]


def test_a_file_with_two_names_in_a_run_counts_once(run: Path) -> None:
    before = size_of(run)
    os.link(run / "base/eval/responses.jsonl", run / "base/eval/again.jsonl")
    assert size_of(run) == before


def test_a_run_without_scores_or_settings_is_listed_as_far_as_it_goes(run: Path) -> None:
    found = list_run(run)
    assert (found.rounds, found.model) == (1, json.loads('"fake:0.55"'))
    assert found.best is not None
    assert found.best.round == 1
    (run / "config.yaml").write_text("][")
    shutil.rmtree(run / "base/eval")
    found = list_run(run)
    assert (found.best, found.planned, found.model) == (None, None, "")
