"""Output that never stops the program: whatever happens to its reader, a write succeeds.

The reader may be gone (`| head`), full (`/dev/full`), closed (`>&-`), asleep (a terminal after Ctrl-S), or unable to
show a character (an ASCII locale).
"""

import io
import os
import select
import sys
import time
from contextlib import suppress

CHUNK = 512
"""Bytes that a pipe or terminal takes without blocking once it is ready: POSIX's smallest PIPE_BUF."""


class SteadyOutput(io.RawIOBase):
    """Writes to a file descriptor. What cannot be written is dropped, and the write counts as done."""

    def __init__(self, descriptor: int, patience_s: float | None) -> None:
        self.descriptor = descriptor
        self.patience_s = patience_s
        """Longest wait for a reader that does not read, in seconds; `None`: for ever."""
        self.asleep = False
        """Whether the reader did not read in time. It is not waited for again until it has read."""

    def write(self, data: bytes | bytearray | memoryview, /) -> int:  # type: ignore[override]  # narrower than Buffer
        rest = memoryview(data).cast("B")
        size = len(rest)
        with suppress(OSError):
            while rest and self._is_ready():
                try:
                    written = os.write(self.descriptor, rest[:CHUNK])
                except BlockingIOError:  # somebody made the descriptor non-blocking
                    time.sleep(0.01)
                    continue
                rest = rest[written:]
        return size

    def _is_ready(self) -> bool:
        """Wait until the descriptor takes `CHUNK` bytes; `False` if that takes longer than `patience_s`."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLOUT)
        wait_s = 0 if self.asleep else self.patience_s
        self.asleep = not poll.poll(None if wait_s is None else 1000 * wait_s)
        return not self.asleep

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.descriptor

    def isatty(self) -> bool:
        return os.isatty(self.descriptor)


def open_closed_descriptors() -> None:
    """Open the null device in place of standard streams that were closed.

    Otherwise the next file that is opened gets number 1 or 2, and whatever a library prints is written into it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            os.set_inheritable(descriptor, True)


def steady_streams(patience_s: float | None = None) -> None:
    """Replace `sys.stdout` and `sys.stderr` by streams on the same descriptors whose writes always succeed.

    A character that the encoding lacks is escaped. Streams that somebody else replaced (pytest, a notebook) are left
    alone.

    Args:
        patience_s: Longest wait for a reader that does not read, in seconds; what it misses is lost. `None` waits for
            ever, which is right for a pager, and wrong for a run that holds a GPU.
    """
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is not None and type(stream) is not io.TextIOWrapper:
            continue
        if stream is not None and _descriptor_of(stream) != descriptor:
            continue
        raw = getattr(getattr(stream, "buffer", None), "raw", None)
        if isinstance(raw, SteadyOutput):
            raw.patience_s = patience_s if raw.patience_s is None else raw.patience_s
            continue
        if stream is not None:
            with suppress(OSError):
                stream.flush()
        steady = SteadyOutput(descriptor, patience_s)
        text = io.TextIOWrapper(
            io.BufferedWriter(steady),  # type: ignore[type-var]  # its write takes less than any buffer
            encoding=stream.encoding if stream is not None else "utf-8",
            errors="backslashreplace",
            line_buffering=name == "stderr" or steady.isatty(),
        )
        setattr(sys, name, text)


def _descriptor_of(stream: io.TextIOWrapper) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None
