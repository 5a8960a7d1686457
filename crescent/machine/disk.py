"""Write files and folders so that they are there whole, or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary sibling to write into; it takes the name `path` when the block ends well, every file on disk before.

    A sibling left by a killed process is made again from nothing, so one process at a time may write `path`.
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
    """Wait until a file's content, or a folder's list of names, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is never half there."""
    staged = path.with_name(f"{path.name}.new")
    staged.write_bytes(content)
    sync(staged)
    staged.rename(path)
    sync(path.parent)
