"""The declarations under which a run was started (`study`), with what was finished by then.

A line is added when a run is started under another declaration than before, and none is ever changed: so it can be seen
whether a study was declared before it was run, and whether it was changed on the way.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from crescent.config import StudyConfig, as_settings
from crescent.records import read_lines, to_line
from crescent.run_folder.manifest import MANIFEST

DECLARATIONS = "study.jsonl"
"""Name of the file in a run folder."""


class Declared(msgspec.Struct, frozen=True):
    """One start of a run under a declaration."""

    study: str
    digest: str
    """Digest of the declaration."""
    at: str
    """Time of the start, UTC, ISO 8601."""
    finished: list[str]
    """Names of the round stages that were finished by then; in a study that was declared before it was run: none."""
    declaration: dict[str, Any]


def record_declaration(root: Path, study: StudyConfig | None) -> None:
    """Add the declaration to the run folder, unless it is the last one there."""
    known = read_declarations(root)
    if study is None or (known and known[-1].digest == study.digest):
        return
    manifests = sorted(root.glob(f"round-*/*/{MANIFEST}"))
    finished = [path.parent.relative_to(root).as_posix() for path in manifests]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with (root / DECLARATIONS).open("ab") as file:
        file.write(to_line(Declared(study.name, study.digest, now, finished, as_settings(study))))


def read_declarations(root: Path) -> list[Declared]:
    """The declarations of a run, oldest first; none if it belongs to no study."""
    path = root / DECLARATIONS
    return read_lines(path, Declared) if path.exists() else []
