"""What nvidia-smi says is read without a traceback, whatever it says."""

import os
from pathlib import Path

import pytest

from crescent.machine.nvidia import Answer, GpuStatus, ask_nvidia_smi, driver_problem

H200 = "0, NVIDIA H200, 143771, 143171, 580.65.06, 9.0"
SHARED = "0, NVIDIA GB10, [N/A], [N/A], 580.95.05, 12.1"


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put an nvidia-smi in front of the machine's own."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_eight_gpus_are_read_with_driver_and_free_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, f"for i in 0 1 2 3 4 5 6 7; do echo '{H200}'; done")
    found = ask_nvidia_smi().gpus
    assert len(found) == 8
    assert found[0] == GpuStatus(0, "NVIDIA H200", 143771 / 1024, 143171 / 1024, "580.65.06", "9.0")


def test_a_gpu_that_shares_its_memory_says_nothing_about_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, f"echo '{SHARED}'")
    assert ask_nvidia_smi().gpus == (GpuStatus(0, "NVIDIA GB10", None, None, "580.95.05", "12.1"),)


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo 'No devices were found'; exit 6", "nvidia-smi ended with 6: No devices were found"),
        ("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18", "version mismatch"),
        ("true", "lists no GPU"),
        ("echo 'something else entirely'", "lists no GPU"),
    ],
)
def test_a_machine_without_a_working_gpu_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, problem: str
) -> None:
    install(tmp_path, monkeypatch, script)
    answer = ask_nvidia_smi()
    assert answer.gpus == ()
    assert problem in str(answer.problem)


def test_a_machine_without_nvidia_smi_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask_nvidia_smi() == Answer(problem="nvidia-smi is not installed")


@pytest.mark.parametrize(
    ("driver", "cuda", "old"),
    [
        ("550.54.15", "13.0", True),
        ("580.65.06", "13.0", False),
        ("525.60.13", "12.6", False),
        ("470.199.02", "12.6", True),
        (None, "13.0", False),
        ("580.65.06", None, False),
        ("1.2", "99.0", False),
    ],
)
def test_a_driver_that_is_too_old_for_the_wheels_is_found(driver: str | None, cuda: str | None, old: bool) -> None:
    assert (driver_problem(driver, cuda) is not None) is old
