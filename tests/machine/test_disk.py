"""Files appear complete, or not at all."""

import os
from pathlib import Path

import pytest

from crescent.machine.disk import staged, write_whole


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_is_replaced_and_nothing_is_left_beside_it(shared: bool, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"old and longer")
    write_whole(path, b"new", shared)
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_overwritten(tmp_path: Path) -> None:
    staged(tmp_path / "ended.json").write_bytes(b"half a")
    write_whole(tmp_path / "ended.json", b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["ended.json"]


def test_processes_that_write_the_same_file_do_not_share_a_draft(tmp_path: Path) -> None:
    assert str(os.getpid()) in staged(tmp_path / "cache.json", shared=True).name
    assert staged(tmp_path / "cache.json") != staged(tmp_path / "cache.json", shared=True)


def test_a_write_that_fails_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    folder = tmp_path / "in-the-way"
    folder.mkdir()
    with pytest.raises(OSError, match="in-the-way"):
        write_whole(folder, b"cannot replace a folder")
    assert list(tmp_path.iterdir()) == [folder]
