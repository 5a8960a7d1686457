"""The manifest of a finished stage: its files with sizes and hashes, and whether they are intact.

A stage counts as damaged only when that is proven: a file is missing, or has another size or hash. An error while
reading proves nothing and is raised as `Unreadable`. Files that the stage did not make do no harm and are only named.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NoReturn

from crescent.errors import TryAgain
from crescent.machine.disk import staged, sync, write_whole
from crescent.records import digest
from crescent.run_folder.dropped import dropped
from crescent.run_folder.places import SET_ASIDE

MANIFEST = "manifest.json"
SEAL = "sealed"
"""Key of the manifest's digest of itself. Manifests that were written before it existed are read as they are."""
LARGE = 16 << 20
"""Size from which a file with an unchanged modification time is not hashed again, in bytes."""
SCRATCH = "scratch"
"""Folder inside a stage's with what an interrupted attempt needs to resume; deleted when the stage is finished."""
REUSED = ".reused.json"
"""Suffix of the file beside a stage's folder that says which run made the stage, if another one did."""
LITTER = (
    *(".nfs*", ".fuse_hidden*", ".smbdelete*", ".DS_Store", "._*", ".Spotlight-*", ".directory"),
    *("Thumbs.db", "desktop.ini", "*~", "#*#", ".#*", ".*.sw?"),
)
"""Names of files that file systems, file managers and editors leave in folders: never a part of a stage."""


class Unreadable(TryAgain):
    """A file of a run folder could not be read, so whether it is intact is not known."""

    def __init__(self, error: OSError, folder: Path) -> None:
        path = error.filename if isinstance(error.filename, str | os.PathLike) else folder
        super().__init__(
            f"{path}: cannot be read ({error.strerror or error}), so whether {folder} is intact is not known; nothing "
            "was changed: see that it can be read (disk, network file system, permissions, open files), then run the "
            "same command again"
        )


@dataclass(frozen=True)
class Inspection:
    """What a look at a finished stage's folder found."""

    damage: str = ""
    """Proof that the stage is not as it was finished, e.g. that a file is missing; empty if it is intact."""
    recorded: Mapping[str, Any] = field(default_factory=dict)
    """Manifest as far as it can be read, also of a damaged stage."""
    strangers: tuple[str, ...] = ()
    """Names of files that the stage did not make."""

    @property
    def manifest(self) -> dict[str, Any] | None:
        """Manifest of an intact stage, else `None`."""
        return None if self.damage else dict(self.recorded)


def seal(folder: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Sync every file, then write `manifest.json`: size and SHA-256 of each file, their digest, and `about`."""
    files, modified = {}, {}
    for path in _files(folder):
        sync(path)
        name, status = path.relative_to(folder).as_posix(), path.stat()
        files[name] = {"bytes": status.st_size, "sha256": _sha256(path)}
        modified[name] = status.st_mtime_ns
    manifest = {"digest": digest(files), "files": files, "modified": modified, **about}
    # The digest is of what a reader will find: JSON has no tuples, and no other keys than strings.
    manifest[SEAL] = _own_digest(json.loads(json.dumps(manifest)))
    write_whole(folder / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False).encode())
    return manifest


def verified_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a stage's folder; `None` if it is damaged, or a file in the folder does not match it.

    Raises:
        Unreadable: as `inspect`.
    """
    return inspect(folder).manifest


def damage(folder: Path) -> str | None:
    """What is wrong with a finished stage's folder, e.g. that a file is missing; `None` if it is intact."""
    try:
        return inspect(folder).damage or None
    except Unreadable as error:
        return str(error)


def inspect(folder: Path, thorough: bool = False) -> Inspection:
    """Compare a finished stage's folder with its manifest.

    Args:
        thorough: Whether to read large files even if their modification time is unchanged.

    Raises:
        Unreadable: a file could not be read; what was read until then is no proof of damage.
    """
    try:
        return _inspect(folder, thorough)
    except OSError as error:
        raise Unreadable(error, folder) from error


def is_there(path: Path) -> bool:
    """Whether a file or folder exists. `Path.exists` may answer no where it only failed to look.

    Raises:
        Unreadable: that could not be found out.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise Unreadable(error, path) from error
    return True


def _inspect(folder: Path, thorough: bool) -> Inspection:
    edited = "is not as it was written (damaged or edited)"
    try:
        with _named(folder / MANIFEST) as path:
            content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return Inspection(f"{MANIFEST} is missing")
    try:
        manifest: dict[str, Any] = json.loads(content)
        complete = {"made_from", "metrics", "seconds"} <= manifest.keys()
        sound = manifest["digest"] == digest(manifest["files"])
        sealed = manifest.get(SEAL, _own_digest(manifest)) == _own_digest(manifest)
        sizes = {name: (int(about["bytes"]), str(about["sha256"])) for name, about in manifest["files"].items()}
        modified = dict(manifest.get("modified", {}))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Inspection(f"{MANIFEST} {edited}")
    if not complete or not sound or not sealed:
        return Inspection(f"{MANIFEST} {edited}", manifest)
    paths = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    strangers = tuple(sorted(paths.keys() - sizes.keys()))
    absent = sizes.keys() - paths.keys() - dropped(folder, manifest)
    if missing := sorted(name for name in absent if not _is_litter(name)):
        return Inspection(f"{missing[0]} is missing", manifest, strangers)
    for name in sorted(paths.keys() & sizes.keys()):
        try:
            if not _is_as_sealed(paths[name], *sizes[name], modified.get(name), thorough):
                return Inspection(f"{name} {edited}", manifest, strangers)
        except FileNotFoundError:
            return Inspection(f"{name} is missing", manifest, strangers)
    return Inspection("", manifest, strangers)


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


def manifests_of(root: Path) -> dict[str, dict[str, Any]]:
    """Legible manifests of the finished stages of a run, by stage; whether the stages are intact is not looked at."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(root.glob(f"*/*/{MANIFEST}")):
        stage = path.parent.relative_to(root).as_posix()
        if stage.startswith(f"{SET_ASIDE}/") or stage.endswith(".partial") or "/." in stage:
            continue
        try:
            manifest = json.loads(path.read_bytes())
            if isinstance(manifest["digest"], str) and isinstance(manifest["made_from"]["inputs"], dict):
                found[stage] = manifest
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def tree_digest(root: Path) -> str:
    """Digest of all finished stages of a run: equal runs have equal digests."""
    found = {}
    for path in sorted(root.rglob(MANIFEST)):
        relative = path.parent.relative_to(root).as_posix()
        if not relative.startswith(SET_ASIDE):
            found[relative] = json.loads(path.read_text())["digest"]
    return digest(found)


def _own_digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of everything in a manifest but this digest."""
    rest = {name: value for name, value in manifest.items() if name != SEAL}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _is_as_sealed(path: Path, size: int, sha256: str, modified: int | None, thorough: bool) -> bool:
    """Whether a file has the size and the content that the manifest lists.

    A large file with an unchanged modification time is not read, so that a finished run is recognised at once.
    """
    status = path.stat()
    if status.st_size != size:
        return False
    kept = status.st_mtime_ns == modified and not thorough
    return (kept and size >= LARGE) or _sha256(path) == sha256


def _files(folder: Path) -> Iterator[Path]:
    """Files that the stage made: all but its scratch folder, its manifest, and litter.

    Raises:
        OSError: a folder cannot be listed; `Path.rglob` would take it for an empty one.
    """
    manifest = folder / MANIFEST
    found = []
    for place, folders, names in os.walk(folder, onerror=_raise):
        here = Path(place)
        if here == folder and SCRATCH in folders:
            folders.remove(SCRATCH)
        paths = (here / name for name in names if not _is_litter(name))
        found += [path for path in paths if path not in (manifest, staged(manifest)) and _is_file(path)]
    yield from sorted(found)


def _is_file(path: Path) -> bool:
    """Whether a path leads to a file; pipes, sockets and links that lead nowhere are none."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return False


def _is_litter(name: str) -> bool:
    return any(fnmatch(name.rpartition("/")[2], pattern) for pattern in LITTER)


def _raise(error: OSError) -> NoReturn:
    raise error


def _sha256(path: Path) -> str:
    with _named(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _named(path: Path) -> Iterator[Path]:
    """Put the path into errors: one that comes while reading, unlike one from opening, does not name the file."""
    try:
        yield path
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
