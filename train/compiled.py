"""Operators that DeepSpeed compiles at its first start, in a folder that all jobs of a user share.

While torch compiles or loads one, a file `lock` lies in its folder, and every other process waits until that file is
gone, without a word and without an end. A process that is killed in this moment leaves the file behind.
"""

import os
import time
from pathlib import Path

import psutil
from filelock import FileLock

STILL_S = 180
"""Seconds without a change in the folder of an operator after which nobody compiles it: one file takes about a minute.
A process on another machine, which may share the folder, can be noticed by its changes only."""
POLL_S = 1


def remove_abandoned_locks() -> None:
    """Remove the locks that killed processes left, and wait while nobody knows whether they are dead."""
    folder = extensions_folder()
    if not any(folder.rglob("lock")):
        return  # as nearly always; the folder may be somebody else's, or one that cannot be written
    # One process at a time: otherwise the second one could remove the lock of a third, which was just made.
    with FileLock(folder / "crescent-builds.lock"):
        for lock in sorted(folder.rglob("lock")):
            wait_for(lock)


def extensions_folder() -> Path:
    """Folder in which torch compiles operators, with a folder for each in it or one deeper."""
    from torch.utils.cpp_extension import get_default_build_root

    return Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root())


def wait_for(lock: Path) -> None:
    """Return when the lock is held by a living process of this machine, is gone, or was abandoned and is removed."""
    lock, said = lock.resolve(), False
    while lock.exists() and not is_open(lock):
        try:
            still = time.time() - max(file.stat().st_mtime for file in (lock.parent, lock))
        except FileNotFoundError:
            return  # released meanwhile
        if still > STILL_S:
            lock.unlink(missing_ok=True)
            print(f"{lock}: removed, a process that compiled {lock.parent.name} was killed", flush=True)
        elif not said:
            said = True
            print(
                f"{lock}: another machine compiles {lock.parent.name}, or a process that did was killed; "
                f"waiting {STILL_S - still:.0f} s for a sign of life",
                flush=True,
            )
        else:
            time.sleep(POLL_S)


def is_open(path: Path) -> bool:
    """Whether a process of this user and machine has the file open."""
    for process in psutil.process_iter():
        try:
            if any(Path(file.path) == path for file in process.open_files()):
                return True
        except (psutil.Error, OSError):  # it has ended, or is somebody else's
            continue
    return False
