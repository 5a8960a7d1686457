"""RESULTS.md: each table is what its command prints today from the committed records."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^<!-- crescent (compare [^\n]+) -->\n\n(.*?)\n<!-- end -->$", re.DOTALL | re.MULTILINE)
BLOCKS = BLOCK.findall((ROOT / "RESULTS.md").read_text())


def test_there_are_tables() -> None:
    assert BLOCKS


@pytest.mark.parametrize(("command", "table"), BLOCKS, ids=[command for command, _ in BLOCKS])
def test_a_table_is_what_its_command_prints_from_the_records(command: str, table: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "crescent", *command.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == table
