"""Files and folders that appear complete, or not at all."""

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary sibling folder to write into. It is synced and renamed to `path` if the block raises nothing.

    A sibling that a killed process left is deleted first, so only one process at a time may write `path`.
    """
    draft = path.with_name(f".{path.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    yield draft
    for entry in [*draft.rglob("*"), draft]:
        sync(entry)
    draft.rename(path)
    sync(path.parent)


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
