"""The manifest of a finished stage: its files with sizes and hashes, and whether they are intact."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from crescent.machine.disk import staged, sync, write_whole
from crescent.records import digest
from crescent.run_folder.places import SET_ASIDE

MANIFEST = "manifest.json"
LARGE = 16 << 20
"""Size from which a file with an unchanged modification time is not hashed again, in bytes."""
SCRATCH = "scratch"
"""Folder inside a stage's with what an interrupted attempt needs to resume; deleted when the stage is finished."""
DROPPED = ".dropped.json"
"""Suffix of the file beside a stage's folder that lists which of its files were deleted on purpose."""

REUSED = ".reused.json"
"""Suffix of the file beside a stage's folder that says which run made the stage, if another one did."""


def seal(folder: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Sync every file, then write `manifest.json`: size and SHA-256 of each file, their digest, and `about`."""
    files, modified = {}, {}
    for path in _files(folder):
        sync(path)
        name, status = path.relative_to(folder).as_posix(), path.stat()
        files[name] = {"bytes": status.st_size, "sha256": _sha256(path)}
        modified[name] = status.st_mtime_ns
    manifest = {"digest": digest(files), "files": files, "modified": modified, **about}
    write_whole(folder / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False).encode())
    return manifest


def verified_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a stage's folder; `None` if it is damaged, or a file in the folder does not match it."""
    manifest, wrong = verify(folder)
    return None if wrong else manifest


def damage(folder: Path) -> str | None:
    """What is wrong with a finished stage's folder, e.g. that a file is missing; `None` if it is intact."""
    return verify(folder)[1] or None


def verify(folder: Path) -> tuple[dict[str, Any], str]:
    """The manifest of a stage's folder and `""`; or `{}` and what is wrong with the folder."""
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
    """Names of the files of a finished stage that were deleted on purpose."""
    note = folder.with_name(folder.name + DROPPED)
    return set(json.loads(note.read_text())) if note.exists() else set()


def reused_from(folder: Path) -> str | None:
    """The run that made a finished stage, if it was taken over from another run (`run.reuse`).

    A file that speaks of other contents than are here now does not count.
    """
    try:
        note = json.loads(folder.with_name(folder.name + REUSED).read_text())
        here = json.loads((folder / MANIFEST).read_text())["digest"]
        return str(note["run"]) if note["digest"] == here else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_as_sealed(path: Path, name: str, manifest: Mapping[str, Any]) -> bool:
    """Whether a file has the size and the content that the manifest lists.

    A large file with an unchanged modification time is not read, so that a finished run is recognised at once.
    """
    sealed, status = manifest["files"][name], path.stat()
    if status.st_size != sealed["bytes"]:
        return False
    kept = status.st_mtime_ns == manifest["modified"].get(name)
    return (kept and status.st_size >= LARGE) or _sha256(path) == sealed["sha256"]


def tree_digest(root: Path) -> str:
    """Digest of all finished stages of a run: equal runs have equal digests."""
    found = {}
    for path in sorted(root.rglob(MANIFEST)):
        relative = path.parent.relative_to(root).as_posix()
        if not relative.startswith(SET_ASIDE):
            found[relative] = json.loads(path.read_text())["digest"]
    return digest(found)


def _files(folder: Path) -> Iterator[Path]:
    """Files that the stage made: all but its scratch folder and its manifest."""
    manifest = folder / MANIFEST
    found = (path for path in folder.rglob("*") if path.is_file() and folder / SCRATCH not in path.parents)
    yield from sorted(path for path in found if path not in (manifest, staged(manifest)))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
