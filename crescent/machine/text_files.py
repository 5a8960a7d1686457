"""Text of files that people bring: with a byte-order mark, in UTF-16, compressed, or in an encoding nobody named."""

import codecs
import gzip
import zlib
from pathlib import Path

from crescent.errors import BadConfig

GZIP = b"\x1f\x8b"
LARGEST = 4 << 30
"""Bytes of the largest text that is unpacked. A small file can unpack to more than the memory holds."""
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins with the mark of UTF-16, so it comes first
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte-order marks (https://www.unicode.org/faq/utf_bom.html#bom4) and their encodings."""


def read_text(path: Path, largest: int = LARGEST) -> str:
    """Text of a file in UTF-8, or in the encoding that its byte-order mark names; unpacked first if it is gzip.

    Line ends stay as they are.

    Raises:
        BadConfig: it is neither, or damaged, or unpacks to more than `largest` bytes.
    """
    content = path.read_bytes()
    if content.startswith(GZIP):
        content = _unpacked(path, largest)
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadConfig(
            f"{path}: line {line} is not {encoding} (byte 0x{content[error.start]:02x}); if it is Latin-1: "
            f"iconv -f latin1 -t utf-8 {path.name} > new, and put that in its place"
        ) from error


def _unpacked(path: Path, largest: int) -> bytes:
    try:
        with gzip.open(path) as file:
            content = file.read(largest + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadConfig(f"{path}: the gzip file is damaged ({error}); copy it again") from error
    if len(content) > largest:
        raise BadConfig(f"{path}: unpacks to more than {largest:,} bytes; is it the right file?")
    return content
