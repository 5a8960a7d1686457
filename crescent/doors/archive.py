"""`crescent archive`: a run in one file that can be stored, mailed and unpacked anywhere."""

import hashlib
import io
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Any, cast

from crescent.doors.removal import refuse_if_at_work
from crescent.errors import BadConfig, DataSaysNo
from crescent.machine.disk import sync
from crescent.reading.verification import stages_of
from crescent.run_folder.dropped import DROPPED, note_dropped
from crescent.run_folder.lock import ALIVE, HOLDER, LOCK, only_supervisor
from crescent.run_folder.manifest import inspect, manifests_of
from crescent.show.run_list import size

LEFT_OUT = (LOCK, HOLDER, ALIVE, ".*.draft", "__pycache__")
"""Patterns of what means something only where the run is at work."""
WEIGHTS = "weights"
"""Folder of a training stage with complete weights; `adapter` beside it is enough to merge them again."""
LEVEL = 1
"""Level of compression: weights cannot be compressed, and everything else is small."""


class _Hashing:
    """A file that remembers the digest of what was read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.sha256 = hashlib.sha256()

    def read(self, count: int = -1) -> bytes:
        content = self.file.read(count)
        self.sha256.update(content)
        return content


def archive_run(run: Path, target: Path, is_light: bool, say: Callable[[str], None]) -> None:
    """Pack a run into `target`, a tar file with gzip, and read it again to be sure. The run stays as it is.

    Args:
        is_light: Whether to leave out complete weights that base and adapter make again.

    Raises:
        BadConfig: the file exists.
        DataSaysNo: a stage is damaged, or the file does not hold what was packed.
        RunLocked: the run is at work.
    """
    if target.exists():
        raise BadConfig(f"{target}: exists already; name another file with --to, or remove it")
    if not target.parent.is_dir():
        raise BadConfig(f"{target}: there is no folder {target.parent}; make it, or name another file with --to")
    refuse_if_at_work(run)
    draft = target.with_name(f".{target.name}.draft")
    try:
        with only_supervisor(run):
            damaged = [stage for stage in stages_of(run) if inspect(run / stage).damage]
            if damaged:
                raise DataSaysNo(f"{run}/{damaged[0]}: is damaged; crescent repair {run}, then archive it")
            digests = _pack(run, draft, mergeable(run) if is_light else [])
        _check(draft, digests)
        draft.rename(target)
    finally:
        draft.unlink(missing_ok=True)
    sync(target.parent)
    say(f"{target}  {size(target.stat().st_size)}, {len(digests)} files, read again and complete")
    unpacked = run.parent / run.resolve().name
    say(f"to unpack it: tar -xzf {target} -C {run.parent}; then: crescent verify {unpacked}")


def mergeable(run: Path) -> list[str]:
    """Training stages whose complete weights can be left out, because an adapter lies beside them."""
    stages = [path.parent.relative_to(run).as_posix() for path in sorted(run.glob(f"round-*/train/{WEIGHTS}"))]
    return [stage for stage in stages if (run / stage / "adapter").is_dir()]


def _pack(run: Path, draft: Path, without_weights: list[str]) -> dict[str, str]:
    """Write the tar file; returns the digest of each packed file by its name there."""
    digests = {}
    top = run.resolve().name
    with tarfile.open(draft, "w:gz", compresslevel=LEVEL) as packed:
        for path in sorted(run.rglob("*")):
            name = path.relative_to(run).as_posix()
            if _is_left_out(name, without_weights) or path.is_socket():
                continue
            about = packed.gettarinfo(path, f"{top}/{name}")
            if about.islnk():  # a second name of a file that is packed already: readers get a file of its own
                about.type, about.size = tarfile.REGTYPE, path.stat().st_size
            if not about.isreg():
                packed.addfile(about)
                continue
            with path.open("rb") as file:
                hashing = _Hashing(file)
                packed.addfile(about, cast(Any, hashing))
            digests[about.name] = hashing.sha256.hexdigest()
        for name, content in _notes(run, without_weights):
            about = tarfile.TarInfo(f"{top}/{name}")
            about.size = len(content)
            packed.addfile(about, io.BytesIO(content))
            digests[about.name] = hashlib.sha256(content).hexdigest()
    sync(draft)
    return digests


def _is_left_out(name: str, without_weights: list[str]) -> bool:
    """Whether a file, named from the run folder, is not packed, or as another one (`_notes`)."""
    if any(fnmatch(part, pattern) for part in name.split("/") for pattern in LEFT_OUT):
        return True
    parts = (f"{stage}{end}" for stage in without_weights for end in (f"/{WEIGHTS}", DROPPED))
    return any(name == part or name.startswith(f"{part}/") for part in parts)


def _notes(run: Path, without_weights: list[str]) -> Iterator[tuple[str, bytes]]:
    """The notes that say which weights were left out on purpose, as `run.keep=best` writes them."""
    manifests = manifests_of(run)
    with tempfile.TemporaryDirectory() as scratch:
        for stage in without_weights:
            beside = Path(scratch) / (stage + DROPPED)
            beside.parent.mkdir(parents=True, exist_ok=True)
            if (run / (stage + DROPPED)).exists():
                beside.write_bytes((run / (stage + DROPPED)).read_bytes())
            note_dropped(Path(scratch) / stage, WEIGHTS, manifests[stage])
            yield stage + DROPPED, beside.read_bytes()


def _check(draft: Path, digests: dict[str, str]) -> None:
    """Read the file again.

    Raises:
        DataSaysNo: it does not hold what was packed.
    """
    found = {}
    with tarfile.open(draft) as packed:
        for about in packed:
            file = packed.extractfile(about) if about.isreg() else None
            if file is not None:
                found[about.name] = hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
    if wrong := sorted(name for name in digests.keys() | found.keys() if digests.get(name) != found.get(name)):
        raise DataSaysNo(f"{draft}: does not hold {wrong[0]} as it was packed; check the disk, then try again")
