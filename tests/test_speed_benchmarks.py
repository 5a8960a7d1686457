"""`python -m benchmarks` lists the speed benchmarks, and each of them can be started."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import client, size, synthesis
from benchmarks.__main__ import COMMANDS
from benchmarks.contamination import measure
from benchmarks.tables import rate

ROOT = Path(__file__).parent.parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_without_arguments_each_speed_benchmark_is_listed_with_one_line() -> None:
    listed = run()
    assert listed.returncode == 0, listed.stderr
    assert "eval/benchmarks" in listed.stdout, "benchmarks of models are somewhere else"
    assert dict(re.findall(r"^  (\w+) +(.+)$", listed.stdout, re.MULTILINE)) == COMMANDS


def test_an_unknown_name_shows_the_list_and_fails() -> None:
    listed = run("nonsense")
    assert listed.returncode == 2
    assert "dedup" in listed.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_each_listed_command_has_a_main(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    with pytest.raises(SystemExit) as ended:
        module.main(["--help"])
    assert ended.value.code == 0


def test_a_module_with_a_main_is_listed() -> None:
    modules = [path for path in (ROOT / "benchmarks").glob("*.py") if path.stem != "__main__"]
    assert {path.stem for path in modules if "\ndef main(" in path.read_text()} == set(COMMANDS)


def test_a_rate_is_shown_with_its_interval() -> None:
    assert rate(59, 96) == "61% [51, 71] of 96"
    assert rate(0, 0) == "–"


def test_the_cost_of_a_completion_is_compared_with_that_of_plain_aiohttp() -> None:
    rows = {row["contender"]: row for row in client.measure(number=20, in_flight=4, repeats=2)}
    assert set(rows) == {"aiohttp, msgspec", "our client", "our client with a journal"}
    assert rows["aiohttp, msgspec"]["÷ baseline"] == 1
    assert all(row["median, ms"] > 0 for row in rows.values())


def test_the_cost_of_a_round_is_measured_on_a_whole_synthesis() -> None:
    cost = synthesis.measure(64)
    assert cost["accepted"] > 20
    assert cost["completions"] >= cost["questions"] + 5 * cost["accepted"]
    assert cost["CPU ms a completion"] > 0
    assert cost["of them answers' texts"] > 5 * 900


@pytest.mark.parametrize("name", ["gsm8k", "sums"])
def test_the_quarantine_finds_planted_items_and_hardly_anything_else(name: str) -> None:
    if name == "gsm8k" and "CRESCENT_DATA" not in os.environ:
        pytest.skip("CRESCENT_DATA names no folder with benchmark data")
    for row in measure(100, [name]):
        assert row["recall"] >= (0.95 if row["kind"] != "reworded" else 0.5), row
        assert row["precision"] >= 0.9 if name == "sums" else row["others quarantined"] <= 0.01 * row["others"], row


def test_the_size_of_files_is_measured_on_the_files_themselves() -> None:
    journal, votes = size.journal_of(50), size.votes_of(20)
    assert journal["file, bytes each"] > len(client.TEXT)
    assert votes["file, bytes each"] > size.SAMPLES * len(client.TEXT)


def test_a_comparison_with_more_questions_takes_longer() -> None:
    few, many = (size.cosines_by_known(known)["CPU ms a block"] for known in (500, 20_000))
    assert many > 2 * few > 0
