"""`crescent doctor`: each line is ok, or says exactly what mends it; the exit code says whether the experiment runs."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_config import composed

from crescent.config import Config, Dtype, Embedder
from crescent.doors.doctor import check_disk, check_driver, check_file_system, check_gpus, check_wandb
from crescent.doors.doctor_downloads import check_benchmarks, check_embedder, check_model
from crescent.doors.preflight import check_adapters
from crescent.errors import BadConfig, Missing
from crescent.machine import nvidia
from crescent.machine.nvidia import Answer, GpuStatus
from crescent.models.on_cpu import refuse_days_on_cpu

H200 = GpuStatus(0, "NVIDIA H200", 140.0, 139.0, "580.65.06", "9.0")


def doctor(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    program = "import sys; from crescent.commands import main; main()"
    command = [sys.executable, "-P", "-c", program, "doctor", *arguments]
    environment = {**os.environ, **variables}
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False, env=environment
    )


@pytest.fixture(scope="module")
def qwen() -> Config:
    return composed("+experiment=qwen7b")


def test_a_machine_that_can_run_the_experiment_is_told_so_and_nothing_is_left_behind(tmp_path: Path) -> None:
    ended = doctor(tmp_path, "+experiment=smoke")
    assert ended.returncode == 0, ended.stderr
    assert "smoke can run on this machine" in ended.stdout
    assert "NOT OK" not in ended.stdout
    names = ("driver", "compiler", "versions", "disk", "model", "embedder", "benchmarks", "W&B", "port", "file system")
    for name in (*names, "limits", "settings"):
        assert f"ok      {name}" in ended.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_experiment_that_cannot_run_ends_with_69_and_what_mends_it(tmp_path: Path) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    (bare / "nvidia-smi").write_text("#!/bin/sh\necho 'No devices were found'; exit 6\n")
    (bare / "nvidia-smi").chmod(0o755)
    hidden = {"PATH": f"{bare}{os.pathsep}{os.environ['PATH']}", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    ended = doctor(tmp_path, "+experiment=qwen7b", **hidden)
    assert ended.returncode == 69
    assert "Traceback" not in ended.stderr
    assert "NOT OK  model         Qwen/Qwen2.5-7B-Instruct is not on this machine, and HF_HUB_OFFLINE=1" in ended.stdout
    assert "→ unset HF_HUB_OFFLINE, or copy it here and set model.path" in ended.stdout
    assert "No devices were found" in ended.stdout
    assert "cannot run on this machine: model" in ended.stderr


def test_an_old_driver_is_named_with_what_the_wheels_need() -> None:
    old = replace(H200, driver="550.54.15")
    finding = check_driver(Answer((old,)), "13.0", gpu=True)
    assert not finding.ok
    assert "550.54.15 is too old for CUDA 13.0, which needs 580" in finding.found
    assert check_driver(Answer((H200,)), "13.0", gpu=True).ok
    assert check_driver(Answer(problem="no nvidia-smi"), None, gpu=False).ok
    assert not check_driver(Answer(problem="no nvidia-smi"), "13.0", gpu=True).ok


def test_a_gpu_that_somebody_uses_is_named_with_what_would_fit(qwen: Config) -> None:
    busy = replace(H200, free_gib=70.0)
    finding = check_gpus(qwen, Answer((busy,)))
    assert "serving.memory_share=0.50" in str(finding.mend)
    assert check_gpus(qwen, Answer((H200,))).ok
    unknown = replace(H200, memory_gib=None, free_gib=None)
    assert check_gpus(qwen, Answer((unknown,))).ok


def test_each_gpu_that_an_engine_will_use_is_looked_at(qwen: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    node = [replace(H200, index=number) for number in range(8)]
    node[5] = replace(node[5], free_gib=3.0)
    answer = Answer(tuple(node))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert "end what uses GPU 5" in str(check_gpus(qwen, answer).mend)
    single = replace(qwen, serving=replace(qwen.serving, replicas=1))
    assert check_gpus(single, answer).ok
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4")
    assert check_gpus(qwen, answer).ok
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    assert not check_gpus(qwen, answer).ok
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "names no GPU" in str(check_gpus(qwen, answer).mend)


def test_too_few_gpus_are_counted(qwen: Config) -> None:
    wide = replace(qwen, serving=replace(qwen.serving, tensor_parallel=2))
    assert "serving.tensor_parallel=1" in str(check_gpus(wide, Answer((H200,))).mend)


def test_the_download_counts_as_disk_space(qwen: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert "14.2 GiB to download" in check_disk(qwen).found
    huge = replace(qwen, model=replace(qwen.model, parameters_b=1e6))
    assert not check_disk(huge).ok


def test_a_model_in_the_hubs_cache_needs_no_network(
    qwen: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not check_model(qwen).ok
    repository = tmp_path / "models--Qwen--Qwen2.5-7B-Instruct"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    weight_map = {f"layer.{number}": shard for number, shard in enumerate(shards)}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (snapshot / shards[0]).touch()
    assert not check_model(qwen).ok, "an interrupted download is not a model"
    (snapshot / shards[1]).touch()
    assert check_model(qwen).ok


def test_what_else_a_run_downloads_is_looked_for_too(
    qwen: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("CRESCENT_DATA", raising=False)
    compared = replace(qwen.diversify, embedder=Embedder.minilm, path="sentence-transformers/all-MiniLM-L6-v2")
    finding = check_embedder(replace(qwen, diversify=compared))
    assert "all-MiniLM-L6-v2 is not on this machine, and HF_HUB_OFFLINE=1" in finding.found
    assert "set diversify.path to its folder" in str(finding.mend)
    assert not check_embedder(replace(qwen, diversify=replace(compared, path="/nowhere"))).ok
    assert check_embedder(replace(qwen, diversify=replace(compared, embedder=Embedder.lexical))).ok
    gsm8k = check_benchmarks(qwen)
    assert not gsm8k.ok
    assert "openai/gsm8k is not available" in gsm8k.found
    assert check_benchmarks(composed("+experiment=smoke")).ok


def test_a_hub_that_cannot_be_reached_is_no_traceback(
    qwen: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "cannot be reached" in check_model(qwen).found


def test_a_missing_login_is_named_and_does_not_stop_the_run(
    qwen: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    finding = check_wandb(qwen)
    assert "wandb login" in str(finding.mend)
    assert not finding.needed
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert check_wandb(qwen).ok


def test_a_file_system_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    assert check_file_system(tmp_path / "runs" / "x").ok
    assert not check_file_system(Path("/proc/1")).ok


def test_weights_that_do_not_fit_on_the_gpu_are_named_with_how_many_would_hold_them(qwen: Config) -> None:
    small = replace(H200, name="NVIDIA A10G", memory_gib=22.5, free_gib=22.2)
    assert check_gpus(replace(qwen, serving=replace(qwen.serving, memory_share=0.9)), Answer((small,))).ok
    tight = check_gpus(replace(qwen, serving=replace(qwen.serving, memory_share=0.5)), Answer((small,)))
    assert "14.2 GiB of weights do not fit in 0.50 of GPU 0" in tight.found
    assert "serving.tensor_parallel=2" in str(tight.mend)
    unknown = replace(qwen, model=replace(qwen.model, path="someone/nameless"))
    assert check_gpus(unknown, Answer((H200,))).ok


GPU_TORCH = {"cuda": "13.0"}


@pytest.mark.parametrize(
    ("gpus", "visible", "torch", "problem"),
    [
        ((), None, GPU_TORCH, "no GPU is here: nvidia-smi is not installed"),
        ((H200,), "", GPU_TORCH, "CUDA_VISIBLE_DEVICES= names no GPU"),
        ((H200,), "-1", GPU_TORCH, "CUDA_VISIBLE_DEVICES=-1 names no GPU"),
        ((H200,), None, {}, "the installed torch is built for CPUs"),
        ((replace(H200, driver="550.54.15"),), None, GPU_TORCH, "driver 550.54.15 is too old for CUDA 13.0"),
    ],
)
def test_a_large_model_never_trains_on_the_cpu_unasked(
    qwen: Config,
    monkeypatch: pytest.MonkeyPatch,
    gpus: tuple[GpuStatus, ...],
    visible: str | None,
    torch: dict[str, str],
    problem: str,
) -> None:
    answer = Answer(gpus, None if gpus else "nvidia-smi is not installed")
    monkeypatch.setattr(nvidia, "DEVICES", ())
    monkeypatch.setattr(nvidia, "ask_nvidia_smi", lambda: answer)
    monkeypatch.setattr(nvidia, "torch_built_for", lambda: torch)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(Missing, match=rf"7\.6 billion .* on the CPU .*{re.escape(problem)}.*train\.accelerate=cpu"):
        refuse_days_on_cpu(qwen)
    refuse_days_on_cpu(replace(qwen, train=replace(qwen.train, accelerate="cpu")))
    refuse_days_on_cpu(composed("+experiment=instruct_sums"))


@pytest.mark.parametrize("torch", [GPU_TORCH, {"hip": "6.4"}])
def test_a_large_model_trains_where_torch_finds_a_gpu(
    qwen: Config, monkeypatch: pytest.MonkeyPatch, torch: dict[str, str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(nvidia, "ask_nvidia_smi", lambda: Answer((H200,)))
    monkeypatch.setattr(nvidia, "torch_built_for", lambda: torch)
    refuse_days_on_cpu(qwen)


def test_adapters_in_float32_are_refused_on_a_gpu_only(qwen: Config) -> None:
    exact = replace(qwen, model=replace(qwen.model, dtype=Dtype.float32))
    with pytest.raises(BadConfig, match=r"model\.dtype=float32.*bfloat16.*serving\.child=reload"):
        check_adapters(exact, on_cpu=False)
    check_adapters(exact, on_cpu=True)
    check_adapters(qwen, on_cpu=False)
