"""A Ray cluster without Ray: who would get what, and what is refused."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from crescent.config import (
    BaitConfig,
    BenchmarkConfig,
    Config,
    EngineKind,
    EvalConfig,
    LaunchConfig,
    RayConfig,
    ServingConfig,
    TrainConfig,
    Trainer,
    WhileTraining,
)
from crescent.doors import on_ray
from crescent.doors.on_ray import divide, engine_gpus, translated
from crescent.errors import BadConfig, Missing, TryAgain
from launch import ray_cluster
from launch.ray_cluster import Node, check_listening, explained
from launch.ray_host import Token, look

TWO = [Node("a", "10.0.0.1", 8, 4), Node("b", "10.0.0.2", 8, 4)]


def config(serving: ServingConfig | None = None, ray: RayConfig | None = None, **train: object) -> Config:
    return Config(
        bait=BaitConfig(prompts={"b": "Ask."}),
        eval=EvalConfig(benchmarks={"dev": BenchmarkConfig()}),
        serving=serving or ServingConfig(),
        train=TrainConfig(**train),  # type: ignore[arg-type]
        launch=LaunchConfig(ray=ray or RayConfig()),
    )


@pytest.fixture
def on_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine whose vLLM is not the CPU build."""
    monkeypatch.setattr(on_ray, "runs_on_cpu", lambda: False)


def refused(cfg: Config, nodes: list[Node]) -> str:
    assert cfg.launch.ray is not None
    with pytest.raises(BadConfig) as error:
        divide(cfg, cfg.launch.ray, nodes)
    return str(error.value)


@pytest.mark.usefixtures("on_gpus")
def test_as_many_replicas_as_the_clusters_gpus_allow_and_a_trainer_after_them() -> None:
    shares = divide(config(ServingConfig(tensor_parallel=2)), RayConfig(), TWO)
    assert (shares.replicas, shares.replica.gpus, shares.trainer.gpus) == (4, 2, 1)
    assert shares.while_training is WhileTraining.stop, "they leave no GPU for the trainer"
    beside = divide(config(ServingConfig(replicas=3, tensor_parallel=1)), RayConfig(), TWO)
    assert beside.while_training is WhileTraining.keep, "wherever they are, one is left"
    assert divide(config(), RayConfig(trainer_gpus=4), TWO).trainer.gpus == 4


@pytest.mark.usefixtures("on_gpus")
def test_more_than_the_cluster_has_is_refused_with_what_it_has() -> None:
    many = refused(config(ServingConfig(replicas=5, tensor_parallel=2)), TWO)
    assert "serving.replicas=5: each needs 2 GPUs and 1 CPU, so 4 fit: the cluster has 2 nodes: 10.0.0.1 with 4" in many
    wide = refused(config(ServingConfig(tensor_parallel=8)), TWO)
    assert "serving.replicas=1: each needs 8 GPUs and 1 CPU, so 0 fit" in wide
    trainer = refused(config(ray=RayConfig(trainer_gpus=8)), TWO)
    assert "launch.ray.trainer_gpus=8: the trainer needs 8 GPUs and 1 CPU on one node" in trainer
    cores = refused(config(ray=RayConfig(trainer_cpus=9)), TWO)
    assert "launch.ray.trainer_gpus=1: the trainer needs 1 GPU and 9 CPUs on one node" in cores
    kept = refused(config(ServingConfig(replicas=8, while_training=WhileTraining.keep)), TWO)
    assert "serving.while_training=keep: 8 replicas with 1 GPU and 1 CPU each may leave no node 1 GPU" in kept
    asleep = refused(config(ServingConfig(while_training=WhileTraining.sleep)), TWO)
    assert "serving.while_training=sleep: Ray reserves the GPUs" in asleep


def test_fakes_need_no_gpu() -> None:
    fake = config(ServingConfig(engine=EngineKind.fake, replicas=2), trainer=Trainer.fake)
    assert engine_gpus(fake) == 0
    shares = divide(fake, RayConfig(), [Node("a", "10.0.0.1", 3, 0)])
    assert (shares.replicas, shares.while_training) == (2, WhileTraining.keep)
    assert divide(fake, RayConfig(), [Node("a", "10.0.0.1", 2, 0)]).while_training is WhileTraining.stop


@pytest.mark.parametrize("address", ["ray://10.0.0.1:10001", "10.0.0.1", "local", ""])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(BadConfig, match=r"must be null, auto, or host:port"):
        RayConfig(address=address)


def test_ranks_on_nodes_of_slurm_are_no_business_of_ray() -> None:
    with pytest.raises(BadConfig, match=r"launch\.nodes=\['srun'\]"):
        LaunchConfig(nodes=["srun"], ray=RayConfig())


def test_without_ray_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    cfg = config()
    with (
        pytest.raises(Missing, match=r"launch=ray: Ray is not installed: pip install -e '\.\[ray\]', or pip install"),
        on_ray.on_ray(cfg, Path("alive")),
    ):
        pass
    assert "cannot run there: launch=ray: Ray is not installed" in on_ray.ray_lines(cfg)[0]


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ray_cluster.Unreachable("no answer"), TryAgain, r"launch.ray.address=auto: no answer; .*`ray start --head`"),
        (ray_cluster.WrongToken("InvalidAuthToken"), Missing, r"launch.ray.token=True: InvalidAuthToken; .*AUTH_TOKEN"),
        (ray_cluster.OtherVersion("Ray: 2.9"), Missing, r"Ray: 2.9; use the same environment"),
        (ray_cluster.NotShared("10.0.0.2: no file"), Missing, r"run.root=runs: 10.0.0.2: no file; set run.root to"),
    ],
)
def test_what_the_cluster_says_is_explained(error: Exception, kind: type[Exception], words: str) -> None:
    ray = RayConfig(address="auto")
    with pytest.raises(kind, match=words), translated(config(ray=ray), ray):
        raise error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("Version mismatch: The cluster was started with:\n Ray: 2.9"), ray_cluster.OtherVersion),
        (RuntimeError("Failed: Unauthenticated: InvalidAuthToken"), ray_cluster.WrongToken),
        (ConnectionError("Could not find any running Ray instance"), ray_cluster.Unreachable),
    ],
)
def test_errors_of_ray_are_told_apart(error: Exception, kind: type[Exception]) -> None:
    pytest.importorskip("ray")
    with pytest.raises(kind), explained():
        raise error


def test_an_address_where_nobody_listens_is_found_out_at_once() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        with pytest.raises(ray_cluster.Unreachable, match="nothing listens there"):
            check_listening(f"127.0.0.1:{silent.getsockname()[1]}")


def test_a_node_that_sees_another_folder_says_so(tmp_path: Path) -> None:
    token = Token(tmp_path / ".ray-token", "word")
    assert look(token).startswith("FileNotFoundError")
    token.path.write_text("other")
    assert look(token) == f"{token.path} is another file there"
    token.path.write_text("word")
    assert look(token) == ""


def test_the_launcher_can_be_read_without_ray() -> None:
    names = ("launch.ray", "launch.ray_cluster", "launch.ray_host", "crescent.doors.on_ray")
    code = f"import sys; sys.modules['ray'] = None; import {', '.join(names)}"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0
