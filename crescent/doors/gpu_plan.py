"""Which GPU does what in a run (part of `mode=plan`)."""

from collections.abc import Sequence
from itertools import groupby

from crescent.config import AUTO, Child, Config, EngineKind, Trainer, WhileTraining
from crescent.engine.outside import is_here
from crescent.engine.placement import gpu_seats
from crescent.errors import BadConfig
from crescent.machine.nvidia import GpuStatus, ask_nvidia_smi, visible_gpus
from crescent.models.estimates import BYTES, GIB, model_parameters
from crescent.models.while_training import while_training
from crescent.workplace import auto_processes, layout_name, processes_of, sized


def gpu_lines(cfg: Config) -> list[str]:
    """What each GPU of this machine does while text is generated and while the model is trained, and which are idle."""
    if cfg.serving.engine is EngineKind.fake:
        return []
    gpus, known = visible_gpus(), ask_nvidia_smi().gpus
    if not gpus:
        return []
    lines = [f"GPUs        {described(gpus, known)}"]
    return [*lines, *generation_lines(cfg, gpus), *training_lines(cfg, gpus), *restart_line(cfg)]


def described(gpus: Sequence[str], known: Sequence[GpuStatus]) -> str:
    """The GPUs in words: `8 × NVIDIA H200, 140 GiB`."""
    by_index = {str(gpu.index): gpu for gpu in known}
    names = [named(by_index.get(gpu)) for gpu in gpus]
    return "; ".join(f"{len(list(same))} × {name}" for name, same in groupby(names))


def named(gpu: GpuStatus | None) -> str:
    if gpu is None:
        return "GPU that CUDA_VISIBLE_DEVICES names"
    return gpu.name if gpu.memory_gib is None else f"{gpu.name}, {gpu.memory_gib:.0f} GiB"


def generation_lines(cfg: Config, gpus: Sequence[str]) -> list[str]:
    serving = cfg.serving
    if serving.urls:
        here = ", ".join(url for url in serving.urls if is_here(url))
        shared = f"            {here}: on this machine, and keeps its memory on the GPUs while the trainer works"
        return [f"            generation on {', '.join(serving.urls)}", *([shared] if here else [])]
    try:
        seats = gpu_seats(serving, gpus)
    except BadConfig as error:
        return [f"            cannot generate here: {error}"]
    each = "" if serving.tensor_parallel == 1 else f" of {serving.tensor_parallel} GPUs"
    used = [gpu for seat in seats for gpu in seat.gpus]
    many = "1 replica" if len(seats) == 1 else f"{len(seats)} replicas"
    load = f"{serving.concurrency} requests at once each"
    line = f"            generation on GPU {listed(used)}: {many}{each}, {load}"
    return [line, *idle_line(gpus, used, "generating", "serving.replicas=auto, or another serving.tensor_parallel")]


def training_lines(cfg: Config, gpus: Sequence[str]) -> list[str]:
    train = cfg.train
    if train.trainer is Trainer.fake:
        return []
    name = layout_name(train, gpus)
    _, why = sized(cfg, gpus)
    reckoned = [f"            {why}"] if why else []
    if cfg.launch.nodes:
        return [f"            training on the nodes of launch.nodes, as {name} says", *reckoned]
    count = auto_processes(train, gpus) if train.accelerate == AUTO else processes_of(name).number
    used = gpus[:count]
    way = {"zero3": "split among them (ZeRO-3)", "eight_gpus": "a copy on each (DDP)"}.get(
        name or "", f"as {name} says"
    )
    alone = "            training on " + ("the CPU" if name == "cpu" else f"GPU {listed(used)}: one process")
    line = alone if count == 1 else f"            training on GPU {listed(used)}: {count} processes, {way}"
    fix = "train.accelerate=auto"
    if train.accelerate == AUTO:
        each = "" if train.micro_batch == AUTO else f" × train.micro_batch={train.micro_batch}"
        fix = f"a train.batch that {len(gpus)}{each} divides"
    return [line, *reckoned, *idle_line(gpus, used, "training", fix)]


def restart_line(cfg: Config) -> list[str]:
    """What serves children faster where the engine is started again after each training anyway."""
    serving, parameters = cfg.serving, model_parameters(cfg)
    adapters = serving.child is Child.adapter and not serving.urls and cfg.train.trainer is not Trainer.fake
    if not adapters or parameters is None or while_training(cfg) is not WhileTraining.stop:
        return []
    each = parameters * BYTES[cfg.model.dtype] / GIB
    return [
        "            the engine is started again after each training: serving.child=restart would start it with merged "
        f"weights, which answer faster than adapters, for {each:.0f} GiB of disk a round"
    ]


def idle_line(gpus: Sequence[str], used: Sequence[str], when: str, fix: str) -> list[str]:
    idle = [gpu for gpu in gpus if gpu not in used]
    return [f"            IDLE while {when}: GPU {listed(idle)}; {fix} would use them"] if idle else []


def listed(gpus: Sequence[str]) -> str:
    """Names of GPUs; three or more numbers in a row are a range: `0 to 7`."""
    numbers = [int(gpu) if gpu.isdigit() else None for gpu in gpus]
    first = numbers[0]
    if len(gpus) > 2 and first is not None and numbers == list(range(first, first + len(gpus))):
        return f"{gpus[0]} to {gpus[-1]}"
    return ", ".join(gpus)
