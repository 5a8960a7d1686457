"""Which GPUs, or which CPU cores, each replica of the engine has for itself."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from crescent.config import EngineKind, ServingConfig
from crescent.engine.vllm_command import runs_on_cpu
from crescent.errors import BadConfig
from crescent.machine.nvidia import visible_gpus
from launch import ServerLaunch


@dataclass(frozen=True)
class Seat:
    """Place of one replica: on this machine, unless it is started through a launch of its own."""

    number: int = 1
    """Number of the replica, from 1."""
    gpus: tuple[str, ...] = ()
    """GPUs as CUDA_VISIBLE_DEVICES names them; empty: no GPU was found, or none is needed."""
    cores: tuple[int, ...] = ()
    """CPU cores; empty: all."""
    launch: ServerLaunch | None = None
    """Starts the replica on a machine that it finds; `None`: this machine."""


def seats_here(serving: ServingConfig) -> list[Seat]:
    """A seat for each replica on this machine; none for `serving.urls`, whose endpoints run already.

    Raises:
        BadConfig: there are too few GPUs.
    """
    if serving.urls:
        return []
    if serving.engine is EngineKind.fake:
        return [Seat(number) for number in range(1, wanted_replicas(serving, 1) + 1)]
    if runs_on_cpu():
        return cpu_seats(serving, sorted(os.sched_getaffinity(0)))
    return gpu_seats(serving, visible_gpus())


def gpu_seats(serving: ServingConfig, gpus: Sequence[str]) -> list[Seat]:
    """Seats of `serving.tensor_parallel` GPUs each, in order; GPUs that are left over stay idle.

    Raises:
        BadConfig: there are too few GPUs.
    """
    width = serving.tensor_parallel
    count = wanted_replicas(serving, max(1, len(gpus) // width))
    if not gpus:  # vLLM says best what it misses
        return [Seat(number) for number in range(1, count + 1)]
    if count * width > len(gpus):
        each = f"{count} with serving.tensor_parallel={width} need {count * width} GPUs"
        raise BadConfig(f"serving.replicas={serving.replicas}: {each}, and {len(gpus)} are here; lower one of them")
    return [Seat(place + 1, tuple(gpus[place * width : (place + 1) * width])) for place in range(count)]


def cpu_seats(serving: ServingConfig, cores: Sequence[int]) -> list[Seat]:
    """One replica on all cores, or several that share them equally."""
    count = wanted_replicas(serving, 1)
    if count == 1:
        return [Seat()]
    if count > len(cores):
        raise BadConfig(f"serving.replicas={count}: each needs a CPU core, and this process may use {len(cores)}")
    return [Seat(place + 1, cores=tuple(cores[place::count])) for place in range(count)]


def wanted_replicas(serving: ServingConfig, fitting: int) -> int:
    """`serving.replicas`, where `auto` stands for as many as fit."""
    return fitting if isinstance(serving.replicas, str) else serving.replicas
