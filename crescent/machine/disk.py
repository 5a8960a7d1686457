"""Files and folders that appear complete, or not at all."""

import errno
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import fsync
from pathlib import Path

from filelock import FileLock, Timeout

UNLINKABLE = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)
"""Errors of a file system that cannot give this file a second name there."""

UNSYNCABLE = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF)
"""Errors of `fsync` on file systems that cannot sync this kind of file (https://man7.org/linux/man-pages/man2/fsync.2.html);
some network file systems refuse it for folders with EBADF, as they are open for reading only."""
UNLOCKABLE = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""Errors of `flock` on file systems without locks (https://man7.org/linux/man-pages/man2/flock.2.html)."""
_warned: set[str] = set()


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary sibling folder to write into. It is synced and renamed to `path` if the block raises nothing.

    A sibling that a killed process left is deleted first, so only one process at a time may write `path`.
    """
    draft = draft_of(path)
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    yield draft
    for entry in [*draft.rglob("*"), draft]:
        sync(entry)
    draft.rename(path)
    sync(path.parent)


def draft_of(path: Path) -> Path:
    """Folder in which `whole_folder` writes; a killed process may leave it behind."""
    return path.with_name(f".{path.name}.draft")


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name; on another file system, copy it with its modification time.

    Of a linked file there is one content: neither name may be written to in place. Deleting one leaves the other.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in UNLINKABLE:
            raise
        shutil.copy2(source, target)


def sync(path: Path) -> None:
    """Wait until the content of a file, or the list of names in a folder, is on the disk.

    A file system that cannot promise this is warned about once, and used all the same.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSYNCABLE:
            raise
        what = "folders" if path.is_dir() else "files"
        warn_once(
            f"sync of {what}",
            f"{path}: this file system cannot say when {what} are on the disk ({error.strerror}): a crash of the "
            "machine, not of a process, may cost the last stage, which is then made again",
        )
    finally:
        os.close(descriptor)


@contextmanager
def file_lock(path: Path, timeout_s: float = -1) -> Iterator[bool]:
    """Lock a file. Yields `False`, with a warning, if the file system has no locks.

    Args:
        timeout_s: Longest wait for the lock, in seconds; negative: for ever.

    Raises:
        filelock.Timeout: another process holds it.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=timeout_s)
    except (OSError, NotImplementedError) as error:
        if isinstance(error, Timeout) or (isinstance(error, OSError) and error.errno not in UNLOCKABLE):
            raise
        warn_once(
            "locks", f"{path.parent}: no locks on this file system ({error}); work there with one process at a time"
        )
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def warn_once(about: str, line: str) -> None:
    """Print a warning to the error stream, the first one `about` something in this process."""
    if about not in _warned:
        _warned.add(about)
        print(f"warning: {line}", file=sys.stderr, flush=True)


def staged(path: Path, shared: bool = False) -> Path:
    """Name under which `write_whole` writes before it renames; a killed process may leave such a file."""
    # Processes on two machines may have the same number.
    writer = f"{socket.gethostname()}-{os.getpid()}." if shared else ""
    return path.with_name(f"{path.name}.{writer}new")


def write_whole(path: Path, content: bytes, shared: bool = False) -> None:
    """Write a file of which neither a reader nor a crash ever leaves half.

    Args:
        shared: Whether several processes may write it at the same time; then the last one wins.
    """
    draft = staged(path, shared)
    try:
        draft.write_bytes(content)
        sync(draft)
        draft.rename(path)
    except OSError:
        with suppress(OSError):
            draft.unlink()
        raise
    sync(path.parent)
