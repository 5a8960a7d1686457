"""Data files as people have them."""

import codecs
import gzip
import json
from pathlib import Path

import pytest

from crescent.errors import BadConfig
from crescent.machine.text_files import read_text
from eval.benchmarks.origin import read_file

LINES = '{"question": "Wie viel kostet ein Käse für 3 €?"}\n{"question": "2 + 2"}\n'
RECORDS = [json.loads(line) for line in LINES.splitlines()]


@pytest.mark.parametrize(
    "content",
    [
        LINES.encode(),
        codecs.BOM_UTF8 + LINES.encode(),
        LINES.encode("utf-16"),
        codecs.BOM_UTF16_BE + LINES.encode("utf-16-be"),
        LINES.encode("utf-32"),
        gzip.compress(LINES.encode(), mtime=0),
        gzip.compress(LINES.encode("utf-16"), mtime=0),
        LINES.replace("\n", "\r\n").encode(),
    ],
)
def test_a_benchmark_is_read_whatever_its_byte_order_mark_and_compression(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(content)
    assert read_file(path) == RECORDS


def test_another_encoding_is_explained_with_the_line_and_the_command(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b'{"question": "1 + 1"}\n' + '{"question": "Käse"}\n'.encode("latin-1"))
    with pytest.raises(BadConfig, match=r"line 2 is not utf-8 \(byte 0xe4\).*iconv -f latin1") as caught:
        read_file(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [10, 40])
def test_a_damaged_archive_is_one_line(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(gzip.compress(LINES.encode())[:cut])
    with pytest.raises(BadConfig, match="gzip file is damaged"):
        read_text(path)


def test_an_archive_that_unpacks_to_more_than_the_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(gzip.compress(bytes(1 << 20)))
    with pytest.raises(BadConfig, match="unpacks to more than"):
        read_text(path, largest=1 << 19)
