"""Files and folders that appear complete, or not at all."""

import errno
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UNLINKABLE = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)
"""Errors of a file system that cannot give this file a second name there."""


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
    """Wait until the content of a file, or the list of names in a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
