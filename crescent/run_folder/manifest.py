"""The manifest of a stage: which files it has, their sizes and hashes, and whether they are intact."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from crescent.machine.disk import sync
from crescent.records import digest

MANIFEST = "manifest.json"


STAGED = "manifest.json.new"


LARGE = 16 << 20


SCRATCH = "scratch"
"""Folder inside a stage's, for what an interrupted attempt needs to go on: dropped when the stage is done."""


DROPPED = ".dropped.json"
"""Ends the name of the file beside a stage's folder that says which of its files were dropped on purpose."""


def seal(folder: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Sync every file, then write `manifest.json`: file to size and sha256, their digest, and `about`."""
    files, modified = {}, {}
    for path in _files(folder):
        sync(path)
        name, status = path.relative_to(folder).as_posix(), path.stat()
        files[name] = {"bytes": status.st_size, "sha256": _sha256(path)}
        modified[name] = status.st_mtime_ns
    manifest = {"digest": digest(files), "files": files, "modified": modified, **about}
    staged = folder / STAGED
    staged.write_text(json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False))
    sync(staged)
    staged.rename(folder / MANIFEST)
    sync(folder)
    return manifest


def verified_manifest(folder: Path) -> dict[str, Any] | None:
    """The folder's manifest, or `None` unless it is whole and every file in it is as it says."""
    manifest, wrong = _verify(folder)
    return None if wrong else manifest


def damage(folder: Path) -> str | None:
    """What keeps a stage's folder from being as it was finished, e.g. that a file is missing; `None` if it is."""
    return _verify(folder)[1] or None


def _verify(folder: Path) -> tuple[dict[str, Any], str]:
    """The folder's manifest, and what is wrong; nothing else is to be trusted then."""
    edited = "is not as it was written (damaged or edited)"
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        sealed = manifest["files"].keys()
        names = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
        complete = {"made_from", "metrics", "seconds"} <= manifest.keys()
        if not complete or manifest["digest"] != digest(manifest["files"]):
            return {}, f"{MANIFEST} {edited}"
        if missing := sorted(sealed - names.keys() - dropped(folder)):
            return {}, f"{missing[0]} is missing"
        if added := sorted(names.keys() - sealed):
            return {}, f"{added[0]} was added to it"
        changed = next((name for name, path in names.items() if not _is_as_sealed(path, name, manifest)), None)
        return (manifest, "") if changed is None else ({}, f"{changed} {edited}")
    except FileNotFoundError as error:
        return {}, f"{Path(error.filename or folder).name} is missing"
    except OSError as error:
        return {}, f"{Path(error.filename or folder).name} cannot be read ({error.strerror})"
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}, f"{MANIFEST} {edited}"


def dropped(folder: Path) -> set[str]:
    """The files of a finished stage that were deleted on purpose."""
    note = folder.with_name(folder.name + DROPPED)
    return set(json.loads(note.read_text())) if note.exists() else set()


def _is_as_sealed(path: Path, name: str, manifest: Mapping[str, Any]) -> bool:
    """Whether a file has the size and content it was sealed with.

    A large one that has kept its time of change is not read again: an unchanged run shall be found finished at once.
    """
    sealed, status = manifest["files"][name], path.stat()
    if status.st_size != sealed["bytes"]:
        return False
    kept = status.st_mtime_ns == manifest["modified"].get(name)
    return (kept and status.st_size >= LARGE) or _sha256(path) == sealed["sha256"]


def tree_digest(root: Path) -> str:
    """One digest for all finished stages of a run: equal runs give equal digests."""
    found = {}
    for path in sorted(root.rglob(MANIFEST)):
        relative = path.parent.relative_to(root).as_posix()
        if not relative.startswith("set-aside"):
            found[relative] = json.loads(path.read_text())["digest"]
    return digest(found)


def _files(folder: Path) -> Iterator[Path]:
    """What the stage made; its scratch is no part of it."""
    found = (path for path in folder.rglob("*") if path.is_file() and folder / SCRATCH not in path.parents)
    yield from sorted(path for path in found if path not in (folder / MANIFEST, folder / STAGED))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
