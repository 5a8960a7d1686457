"""How a run ended that did not come to its end: `ended.json` in its folder, gone as soon as the run goes on."""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from crescent.errors import TryAgain, known_failure
from crescent.machine.secrets import without_secrets

FILE = "ended.json"
SHOWN = 120
"""Characters of a cause that stand in a table."""


@dataclass(frozen=True)
class Ended:
    """By an error, or interrupted."""

    exit_code: int
    cause: str
    """One line."""
    stage: str | None
    """Which was being made, where it is known."""
    at: str
    """UTC."""

    @property
    def is_cut(self) -> bool:
        """Whether `status` does not hold the whole cause."""
        return len(self.cause) > SHOWN

    @property
    def status(self) -> str:
        """E.g. `failed in round-1/pairs (65): 25 of 40 questions …`."""
        how = "interrupted" if self.exit_code == TryAgain.exit_code else "failed"
        where = f" in {self.stage}" if self.stage else ""
        if self.cause.startswith("interrupted by"):
            return f"{how}{where} ({self.exit_code})"
        cause = self.cause[:SHOWN].rsplit(" ", 1)[0] + " …" if self.is_cut else self.cause
        return f"{how}{where} ({self.exit_code}): {cause}"


def write_end(root: Path, error: BaseException, stage: str | None) -> None:
    """Note what ended the run, without secrets; a folder that cannot be written to does not hide the error."""
    known = known_failure(error)
    cause = str(known) if known is not None else f"{type(error).__name__}: {error}"
    line = without_secrets(" ".join(cause.split()))
    code = known.exit_code if known is not None else 1
    ended = Ended(code, line, stage, datetime.now(UTC).isoformat(timespec="seconds"))
    staged = root / f"{FILE}.new"
    with suppress(OSError):
        staged.write_text(json.dumps(asdict(ended), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        staged.replace(root / FILE)


def forget_end(root: Path) -> None:
    """The run goes on, or is done."""
    (root / FILE).unlink(missing_ok=True)


def read_end(root: Path) -> Ended | None:
    """`None` for a run that is done, goes on, was killed, or has only such a file as cannot be read."""
    try:
        return msgspec.json.decode((root / FILE).read_bytes(), type=Ended)
    except (OSError, msgspec.DecodeError):
        return None
