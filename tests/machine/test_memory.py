"""Free memory is what a container or a job of a scheduler may still use, not what the machine has."""

from pathlib import Path

import psutil
import pytest

from crescent.machine import memory

GIB = 1 << 30


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "PROC", tmp_path / "self")
    return tmp_path


def write(folder: Path, **numbers: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, number in numbers.items():
        (folder / name.replace("__", ".")).write_text(f"{number}\n")


def test_a_job_may_use_what_its_group_leaves_it(groups: Path) -> None:
    (groups / "self").write_text("0::/system.slice/job_7/step_0\n")
    job = groups / "cgroup/system.slice/job_7"
    write(job, memory__max=4 * GIB, memory__current=3 * GIB, memory__stat=f"anon 5\ninactive_file {2 * GIB}")
    write(job / "step_0", memory__max="max", memory__current=GIB)
    assert memory.available_gib() == 3.0
    assert memory.total_gib() == 4.0


def test_a_container_of_version_1_has_its_limit_at_the_root(groups: Path) -> None:
    (groups / "self").write_text("4:memory:/docker/abc\n1:cpu:/docker/abc\n")
    limits = {"memory__limit_in_bytes": 2 * GIB, "memory__usage_in_bytes": GIB // 2}
    write(groups / "cgroup/memory", **limits)
    assert memory.available_gib() == 1.5


@pytest.mark.parametrize("unlimited", ["max", 9223372036854771712])
def test_without_a_limit_the_machine_counts(groups: Path, unlimited: object) -> None:
    (groups / "self").write_text("0::/\n")
    write(groups / "cgroup", memory__max=unlimited, memory__current=GIB)
    assert memory.total_gib() == psutil.virtual_memory().total / GIB


def test_where_there_are_no_groups_the_machine_counts(groups: Path) -> None:
    assert memory.limits() == []
    assert memory.available_gib() > 0
