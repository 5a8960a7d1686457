"""Main memory that this process may use: that of the machine, or less in a container or a job of a scheduler."""

from pathlib import Path

import psutil

GIB = 1 << 30
PROC, CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
FILES = {"memory.max": "memory.current", "memory.limit_in_bytes": "memory.usage_in_bytes"}
"""File with a group's limit, and that with its use, of cgroup v2 and v1
(https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/admin-guide/cgroup-v1/memory.html)."""


def available_gib() -> float:
    """Free memory in GiB: of the machine, or of the tightest group that this process is in."""
    machine: int = psutil.virtual_memory().available
    return max(0, min([machine, *(limit - used for limit, used in limits())])) / GIB


def total_gib() -> float:
    """Memory in GiB, used or not: of the machine, or of the tightest group that this process is in."""
    machine: int = psutil.virtual_memory().total
    return min([machine, *(limit for limit, _ in limits())]) / GIB


def limits() -> list[tuple[int, int]]:
    """Limit and use, in bytes, of each group that this process is in and that has a limit."""
    found = []
    for folder in groups():
        for limit, use in FILES.items():
            size, used = read_number(folder / limit), read_number(folder / use)
            if size is not None and used is not None:
                found.append((size, max(0, used - reclaimable(folder))))
    return found


def groups() -> list[Path]:
    """Folders of this process's memory groups, with all groups around them."""
    try:
        lines = PROC.read_text().splitlines()
    except OSError:  # no Linux
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = CGROUPS / "memory" if controllers else CGROUPS
        # In a container, /proc may name a path that is only there outside: then the root is its own group.
        inner = root / path.lstrip("/")
        found += [folder for folder in (inner, *inner.parents) if folder == root or root in folder.parents]
    return found


def reclaimable(folder: Path) -> int:
    """Bytes of files that the kernel keeps in memory, and drops when the memory is needed."""
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    numbers = dict(line.split(maxsplit=1) for line in lines if " " in line)
    return int(numbers.get("total_inactive_file", numbers.get("inactive_file", 0)))


def read_number(file: Path) -> int | None:
    """The number in a file; `None` if there is none: `max` stands for no limit, and v1 writes a huge number for it."""
    try:
        number = int(file.read_text())
    except (OSError, ValueError):
        return None
    return number if number < 1 << 60 else None
