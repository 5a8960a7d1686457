import os
from pathlib import Path

import pytest

from crescent.machine.environment import FILE, Gpu, describe, gpus, read_environments, record_environment


def test_an_environment_is_recorded_once_however_often_a_run_resumes(tmp_path: Path) -> None:
    assert read_environments(tmp_path) == []
    record_environment(tmp_path)
    record_environment(tmp_path)
    assert read_environments(tmp_path) == [describe()]
    assert describe().packages["numpy"]


def test_a_run_that_resumed_elsewhere_lists_both_environments(tmp_path: Path) -> None:
    elsewhere = '{"python":"3.12.3","packages":{},"system":"Linux","cores":8,"memory_gib":64.0}\n'
    (tmp_path / FILE).write_text(elsewhere + "half a li")
    assert [environment.cores for environment in read_environments(tmp_path)] == [8]
    (tmp_path / FILE).write_text(elsewhere)
    record_environment(tmp_path)
    assert [environment.python for environment in read_environments(tmp_path)] == ["3.12.3", describe().python]


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("echo 'NVIDIA H200, 143771'; echo 'NVIDIA H200, 143771'", (Gpu("NVIDIA H200", 140.4),) * 2),
        ("echo 'No devices were found'; exit 6", ()),
        ("echo 'NVIDIA GB10, [N/A]'", (Gpu("NVIDIA GB10", None),)),
        ("echo 'NVIDIA A100-SXM4-40GB MIG 1g.5gb, [Not Supported]'", (Gpu("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),)),
        (
            "echo 'Unable to determine the device handle for GPU0000:3B:00.0: GPU is lost.  Reboot the system to "
            "recover this GPU'; echo 'NVIDIA H200, 143771'",
            (Gpu("NVIDIA H200", 140.4),),
        ),
        ("echo '[GPU is lost], [GPU is lost]'", ()),
        ("printf '\\377\\376, 12\\n'", (Gpu("\ufffd\ufffd", 0.0),)),
        ("echo ''; echo ','; echo 'driver mismatch, reboot'", ()),
        ("kill -9 $$", ()),
    ],
)
def test_gpus_are_those_that_nvidia_smi_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, found: tuple[Gpu, ...]
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert gpus() == found


def test_nothing_names_the_machine_or_its_user(tmp_path: Path) -> None:
    record_environment(tmp_path)
    text = (tmp_path / FILE).read_text()
    assert os.uname().nodename not in text
    assert str(Path.home()) not in text
