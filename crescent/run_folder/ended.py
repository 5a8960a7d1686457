"""Why a run stopped before its end: `ended.json` in its folder, deleted when the run resumes."""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from crescent.errors import TryAgain, known_failure
from crescent.machine.disk import write_whole
from crescent.machine.secrets import without_secrets

FILE = "ended.json"
SHOWN = 120
"""Length at which a cause is cut in a table, in characters."""


@dataclass(frozen=True)
class Ended:
    """An error or an interruption that ended a run."""

    exit_code: int
    cause: str
    """Message of the error, on one line."""
    stage: str | None
    """Stage that was being made, if known."""
    at: str
    """Time, in UTC and ISO 8601."""

    @property
    def is_cut(self) -> bool:
        """Whether `status` shows only the beginning of the cause."""
        return len(self.cause) > SHOWN

    @property
    def status(self) -> str:
        """One line for a table, e.g. `failed in round-1/pairs (65): 25 of 40 questions …`."""
        how = "interrupted" if self.exit_code == TryAgain.exit_code else "failed"
        where = f" in {self.stage}" if self.stage else ""
        if self.cause.startswith("interrupted by"):
            return f"{how}{where} ({self.exit_code})"
        cause = self.cause[:SHOWN].rsplit(" ", 1)[0] + " …" if self.is_cut else self.cause
        return f"{how}{where} ({self.exit_code}): {cause}"


def write_end(root: Path, error: BaseException, stage: str | None) -> None:
    """Record what ended the run, without secrets. Failing to write the file must not hide the error itself."""
    known = known_failure(error)
    cause = str(known) if known is not None else f"{type(error).__name__}: {error}"
    line = without_secrets(" ".join(cause.split()))
    code = known.exit_code if known is not None else 1
    ended = Ended(code, line, stage, datetime.now(UTC).isoformat(timespec="seconds"))
    with suppress(OSError):
        write_whole(root / FILE, (json.dumps(asdict(ended), indent=1, ensure_ascii=False) + "\n").encode())


def forget_end(root: Path) -> None:
    """Delete the record: the run resumes, or is finished."""
    (root / FILE).unlink(missing_ok=True)


def read_end(root: Path) -> Ended | None:
    """The record; `None` if there is none (the run is finished, running or was killed) or it cannot be read."""
    try:
        return msgspec.json.decode((root / FILE).read_bytes(), type=Ended)
    except (OSError, msgspec.DecodeError):
        return None
