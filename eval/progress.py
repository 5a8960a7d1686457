"""Progress of an evaluation, as JSON lines for the process that started it."""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec


def progress(path: Path, total: int, refused: Callable[[], int] = lambda: 0) -> Callable[[int], None]:
    """A function that appends `{"done": n, "total": m}` to `path`, at most once a second and after the last item.

    Args:
        refused: Number of requests that the engine refused so far; it is written where it is not zero.
    """
    written = -1.0

    def report(done: int) -> None:
        nonlocal written
        now = time.monotonic()
        if written < 0 or now - written >= 1 or done == total:
            written = now
            with path.open("ab") as file:
                count = {"refused": refused()} if refused() else {}
                file.write(msgspec.json.encode({"done": done, "total": total, **count}) + b"\n")

    return report
