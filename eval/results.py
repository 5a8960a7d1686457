"""Result files. Each stands for everything written before it: it appears last, and whole."""

from pathlib import Path

import msgspec

from crescent.machine.disk import write_whole


def write_result(path: Path, value: object) -> None:
    """Write records as indented JSON, at once."""
    write_whole(path, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
