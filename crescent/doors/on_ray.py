"""A run whose replicas and trainer work on the nodes of a Ray cluster (`launch=ray`): who gets what, and where."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from crescent.config import Config, EngineKind, RayConfig, Trainer, WhileTraining
from crescent.engine.placement import Seat, wanted_replicas
from crescent.engine.vllm_command import runs_on_cpu
from crescent.errors import BadConfig, CrescentError, Missing, TryAgain
from crescent.machine.nvidia import visible_gpus
from crescent.models.on_cpu import ON_CPU
from crescent.workplace import TrainerPlace, layout_name, processes_of
from launch import ray_cluster
from launch.ray import RayLaunch
from launch.ray_cluster import Node


@dataclass(frozen=True)
class Needs:
    """What one replica, or the trainer, reserves."""

    cpus: float
    gpus: int

    def __str__(self) -> str:
        gpus = f"{counted(self.gpus, 'GPU')} and " if self.gpus else ""
        return f"{gpus}{counted(self.cpus, 'CPU')}"

    def room(self, nodes: Sequence[Node]) -> int:
        """Number of such processes that idle nodes have room for."""
        return sum(node.fits(self.cpus, self.gpus) for node in nodes)


@dataclass(frozen=True)
class Shares:
    """How a run divides a cluster."""

    replicas: int
    replica: Needs
    trainer: Needs
    while_training: WhileTraining


@dataclass(frozen=True)
class Elsewhere:
    """Where a run works besides this machine."""

    seats: list[Seat] | None
    """A place for each replica; `None` with `serving.urls`."""
    trainer: TrainerPlace
    while_training: WhileTraining


@contextmanager
def on_ray(cfg: Config, alive: Path) -> Iterator[Elsewhere | None]:
    """The cluster, connected for the time of the run; `None` without `launch=ray`.

    Args:
        alive: File that stays locked while any process of the run is alive.

    Raises:
        BadConfig: the cluster is too small.
        Missing: Ray is not installed, is of another version on the cluster, or the nodes do not share the run folder.
        TryAgain: no cluster answers.
    """
    ray = cfg.launch.ray
    if ray is None:
        yield None
        return
    with translated(cfg, ray), ray_cluster.connected(ray.address, ray.token) as nodes:
        shares = divide(cfg, ray, nodes)
        used = [node for node in nodes if any(needs.room([node]) for needs in (shares.replica, shares.trainer))]
        with ray_cluster.shared_folder(cfg.run.folder, used) as token:
            grace_s, room_s, path = cfg.launch.grace_s, ray.room_s, alive.resolve()
            engines = RayLaunch(token, shares.replica.cpus, shares.replica.gpus, grace_s, path, room_s)
            trainers = RayLaunch(
                token, shares.trainer.cpus, shares.trainer.gpus, grace_s, path, room_s, restarts=ray.max_lost
            )
            seats = [Seat(number, launch=engines) for number in range(1, shares.replicas + 1)]
            gpus = tuple(map(str, range(shares.trainer.gpus)))
            yield Elsewhere(None if cfg.serving.urls else seats, TrainerPlace(trainers, gpus), shares.while_training)


def divide(cfg: Config, ray: RayConfig, nodes: Sequence[Node]) -> Shares:
    """Shares of the run in a cluster of these nodes, as if it were idle.

    Raises:
        BadConfig: it is too small.
    """
    replica, trainer = Needs(ray.replica_cpus, engine_gpus(cfg)), Needs(ray.trainer_cpus, trainer_gpus(cfg, ray))
    there = f"the cluster has {described(nodes)}"
    room = replica.room(nodes)
    count = 0 if cfg.serving.urls else wanted_replicas(cfg.serving, max(1, room) if replica.gpus else 1)
    if count > room:
        fix = "lower serving.replicas, serving.tensor_parallel or launch.ray.replica_cpus, or add nodes"
        raise BadConfig(f"serving.replicas={count}: each needs {replica}, so {room} fit: {there}; {fix}")
    if trainer.room(nodes) == 0:
        key = "launch.ray.trainer_gpus" if trainer.gpus else "launch.ray.trainer_cpus"
        asked = trainer.gpus or f"{trainer.cpus:g}"
        raise BadConfig(f"{key}={asked}: the trainer needs {trainer} on one node, and {there}; lower it")
    beside = any(fits_beside(node, count, replica, trainer) for node in nodes)
    match cfg.serving.while_training:
        case WhileTraining.auto:
            doing = WhileTraining.keep if beside and not cfg.serving.urls else WhileTraining.stop
        case WhileTraining.sleep:
            rule = "Ray reserves the GPUs of a replica for as long as it lives, asleep or not"
            raise BadConfig(f"serving.while_training=sleep: {rule}; use auto")
        case WhileTraining.keep if not beside:
            rule = f"{counted(count, 'replica')} with {replica} each may leave no node {trainer} for the trainer"
            raise BadConfig(f"serving.while_training=keep: {rule}: {there}; use auto")
        case chosen:
            doing = chosen
    return Shares(count, replica, trainer, doing)


def fits_beside(node: Node, count: int, replica: Needs, trainer: Needs) -> bool:
    """Whether the trainer fits on a node that as many of the replicas work on as it has room for."""
    most = min(count, node.fits(replica.cpus, replica.gpus))
    left = Node(node.id, node.address, node.cpus - most * replica.cpus, node.gpus - most * replica.gpus)
    return left.fits(trainer.cpus, trainer.gpus) > 0


def engine_gpus(cfg: Config) -> int:
    """Number of GPUs of one replica."""
    needs_none = cfg.serving.engine is EngineKind.fake or runs_on_cpu()
    return 0 if needs_none else cfg.serving.tensor_parallel


def trainer_gpus(cfg: Config, ray: RayConfig) -> int:
    """Number of GPUs of the trainer."""
    if ray.trainer_gpus is not None:
        return ray.trainer_gpus
    if cfg.train.trainer is Trainer.fake or cfg.train.accelerate in ON_CPU or runs_on_cpu():
        return 0
    return processes_of(layout_name(cfg.train, ())).number


def ray_lines(cfg: Config) -> list[str]:
    """Where replicas and trainer would work (part of `mode=plan`)."""
    ray = cfg.launch.ray
    assert ray is not None
    try:
        with translated(cfg, ray):
            if ray.address is None:
                ray_cluster.check_installed()
                cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
                nodes = [Node("", "this machine", cores, len(visible_gpus()))]
            else:
                with ray_cluster.connected(ray.address, ray.token) as nodes:
                    pass
        shares = divide(cfg, ray, nodes)
    except CrescentError as error:
        return [f"Ray         cannot run there: {error}"]
    lines = [f"Ray         {described(nodes)}", f"            training on one node with {shares.trainer}"]
    if not cfg.serving.urls:
        fits = ", ".join(f"{node.address} up to {room}" for node in nodes if (room := shares.replica.room([node])))
        each = f"{counted(shares.replicas, 'replica')} with {shares.replica} each"
        doing = f"while it works, the replicas do this: {shares.while_training.value}"
        lines[1:] = [f"            generation by {each}, spread over the nodes: {fits}", f"{lines[1]}; {doing}"]
    return lines


def described(nodes: Sequence[Node]) -> str:
    """The nodes in words."""
    several = f"{counted(len(nodes), 'node')}: "
    return several + "; ".join(f"{node.address} with {Needs(node.cpus, node.gpus)}" for node in nodes)


def counted(number: float, noun: str) -> str:
    """`1 GPU`, `2 GPUs`."""
    return f"{number:g} {noun}{'s' if number != 1 else ''}"


@contextmanager
def translated(cfg: Config, ray: RayConfig) -> Iterator[None]:
    """Turn what the launcher says about a cluster into errors of ours."""
    where = f"launch.ray.address={ray.address or 'null'}"
    try:
        yield
    except ray_cluster.NotInstalled as error:
        raise Missing(f"launch=ray: {error}; launch=local runs on this machine") from error
    except ray_cluster.Unreachable as error:
        start = "`ray start --head` on one machine, `ray start --address=HOST:6379` on all others and on this one"
        raise TryAgain(f"{where}: {error}; is the cluster up, and this machine a node of it? {start}") from error
    except ray_cluster.WrongToken as error:
        fix = (
            "all nodes must be started with RAY_AUTH_MODE=token and one token, which is here in ~/.ray/auth_token, "
            "RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN; launch.ray.token=false joins a cluster without"
        )
        raise Missing(f"{where}: launch.ray.token={ray.token}: {error}; {fix}") from error
    except ray_cluster.OtherVersion as error:
        fix = "use the same environment, on a shared disk, for all nodes"
        raise Missing(f"{where}: {error}; {fix}") from error
    except ray_cluster.NotShared as error:
        fix = "set run.root to a folder on a disk that all nodes share under the same path, with this environment"
        raise Missing(f"run.root={cfg.run.root}: {error}; {fix}") from error
