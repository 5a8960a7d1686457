"""What the plan says about GPUs: which does what, and which are idle."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_config import composed

from crescent.config import Child, Config, WhileTraining
from crescent.doors.gpu_plan import gpu_lines
from crescent.errors import BadConfig
from crescent.machine.nvidia import visible_gpus
from crescent.models.micro_batch import Processes
from crescent.workplace import auto_processes, processes_of, sized, trainer_command
from train.launched import accumulation

NVIDIA_SMI = """#!/bin/sh
for gpu in {gpus}; do
    case "$1" in
        *index*) echo "$gpu, NVIDIA H200, 143771, 143171, 580.65.06, 9.0" ;;
        *) echo "NVIDIA H200, 143771" ;;
    esac
done
"""
"""Answers as the real one does to the two questions that we ask."""


@pytest.fixture(scope="module")
def qwen() -> Config:
    # What the engine does while the trainer works would depend on the memory of the machine that tests.
    return composed("+experiment=qwen7b", "serving.while_training=sleep")


def machine_with(count: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "nvidia-smi"
    program.write_text(NVIDIA_SMI.format(gpus=" ".join(map(str, range(count)))))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_one_gpu_generates_and_trains(qwen: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine_with(1, tmp_path, monkeypatch)
    assert gpu_lines(qwen) == [
        "GPUs        1 × NVIDIA H200, 140 GiB",
        "            generation on GPU 0: 1 replica, 256 requests at once each",
        "            training on GPU 0: one process",
        "            train.micro_batch=4 without gradient checkpointing (19.6 GiB held and 22.15 for each sequence of "
        "2048 tokens, in 121.0 GiB; reckoned)",
    ]


def test_eight_gpus_all_generate_and_train(qwen: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine_with(8, tmp_path, monkeypatch)
    assert gpu_lines(qwen) == [
        "GPUs        8 × NVIDIA H200, 140 GiB",
        "            generation on GPU 0 to 7: 8 replicas, 256 requests at once each",
        "            training on GPU 0 to 7: 8 processes, a copy on each (DDP)",
        "            train.micro_batch=4 without gradient checkpointing (19.6 GiB held and 22.15 for each sequence of "
        "2048 tokens, in 121.0 GiB; reckoned)",
    ]


def test_idle_gpus_are_named_with_what_would_use_them(
    qwen: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_with(8, tmp_path, monkeypatch)
    narrow = replace(
        qwen,
        serving=replace(qwen.serving, replicas=2, tensor_parallel=3),
        train=replace(qwen.train, accelerate=None),
    )
    _, generating, idle, training, _, idle_too = gpu_lines(narrow)
    assert "GPU 0 to 5: 2 replicas of 3 GPUs" in generating
    assert "IDLE while generating: GPU 6, 7; serving.replicas=auto" in idle
    assert "GPU 0: one process" in training
    assert "IDLE while training: GPU 1 to 7; train.accelerate=auto would use them" in idle_too


def test_an_engine_that_is_started_again_anyway_could_hold_merged_weights(
    qwen: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_with(1, tmp_path, monkeypatch)
    stopped = replace(qwen, serving=replace(qwen.serving, while_training=WhileTraining.stop))
    assert "serving.child=restart would start it with merged weights" in gpu_lines(stopped)[-1]
    assert "for 14 GiB of disk a round" in gpu_lines(stopped)[-1]
    merged = replace(stopped, serving=replace(stopped.serving, child=Child.restart))
    assert "merged" not in " ".join(gpu_lines(merged))


def test_gpus_that_are_too_few_are_refused(qwen: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine_with(2, tmp_path, monkeypatch)
    lines = gpu_lines(replace(qwen, serving=replace(qwen.serving, replicas=3)))
    assert "cannot generate here: serving.replicas=3" in lines[1]


def test_only_the_gpus_that_the_scheduler_gave_count(
    qwen: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_with(8, tmp_path, monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert "generation on GPU 4, 5: 2 replicas" in gpu_lines(qwen)[1]


def test_without_a_gpu_nothing_is_said(qwen: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu_lines(qwen) == []


@pytest.mark.parametrize(
    ("overrides", "gpus", "file", "processes"),
    [
        ([], 8, "eight_gpus.yaml", "8"),
        ([], 6, "eight_gpus.yaml", "4"),
        (["train.micro_batch=16"], 8, "eight_gpus.yaml", "4"),
        (["train=full", "serving.child=restart"], 8, "zero3.yaml", "8"),
    ],
)
def test_auto_trains_on_all_gpus_that_the_batch_can_be_divided_among(
    overrides: list[str], gpus: int, file: str, processes: str
) -> None:
    command = trainer_command(composed("+experiment=qwen7b", *overrides), [str(gpu) for gpu in range(gpus)])
    assert file in " ".join(command)
    assert command[command.index("--num_processes") + 1] == processes


def test_auto_is_a_plain_process_on_one_gpu_and_on_a_cpu(qwen: Config) -> None:
    for gpus in ([], ["0"]):
        assert trainer_command(qwen, gpus) == [sys.executable, "-P", "-m", "train"]
    plain = replace(qwen, train=replace(qwen.train, accelerate=None))
    assert trainer_command(plain, ["0", "1"]) == [sys.executable, "-P", "-m", "train"], "null stays one process"
    assert auto_processes(replace(qwen.train, batch=6, micro_batch=2), ["0", "1"]) == 1


def test_the_job_has_numbers_and_the_batch_of_the_config(
    qwen: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_with(8, tmp_path, monkeypatch)
    train, why = sized(qwen, visible_gpus())
    assert (train.micro_batch, train.gradient_checkpointing, train.accelerate) == (4, False, "eight_gpus")
    assert accumulation(train, 8) == 2
    assert train.batch == qwen.train.batch == 64
    assert "reckoned" in why
    stated = replace(qwen, train=replace(train, accelerate="auto"))
    assert sized(stated, visible_gpus()) == (train, ""), "nothing is left to choose"


@pytest.mark.parametrize(
    ("name", "processes"),
    [
        (None, Processes()),
        ("eight_gpus", Processes(8)),
        ("zero2", Processes(8, 2)),
        ("zero2_offload", Processes(8, 2, offloaded=True)),
        ("zero3", Processes(8, 3)),
        ("zero3_offload", Processes(8, 3, offloaded=True)),
        ("fsdp2", Processes(8, 3)),
    ],
)
def test_what_a_file_for_accelerate_splits_is_known(name: str | None, processes: Processes) -> None:
    assert processes_of(name) == processes


def test_several_nodes_need_a_file_and_not_auto() -> None:
    with pytest.raises(BadConfig, match="several nodes"):
        composed("+experiment=qwen7b", "launch.nodes=[srun]", "train.accelerate=auto")
