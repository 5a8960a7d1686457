"""One line of `crescent doctor`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One checked thing."""

    name: str
    found: str
    mend: str | None = None
    """What mends it; `None` if it is ok."""
    needed: bool = True
    """Whether the experiment cannot run unless it is mended."""

    @property
    def ok(self) -> bool:
        return self.mend is None
