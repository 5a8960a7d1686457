"""Why a run stopped before its end is recorded, shown, and deleted when the run resumes."""

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crescent.errors import DataSaysNo, Interrupted
from crescent.reading.runs import compare_runs
from crescent.report import write_report
from crescent.run_folder.ended import FILE, read_end, write_end
from crescent.run_folder.lock import HOLDER, is_running

FEW = ("bait.questions=24", "eval.benchmarks.sums_dev.items=20", "~eval.benchmarks.sums_test", "run.rounds=1")
SECRET = "hf_" + "Zq7" * 9


def loop(root: Path, *overrides: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-m", "crescent.loop", "+experiment=smoke", f"run.root={root}", *FEW, *overrides]
    return subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)


def status(root: Path) -> str:
    return compare_runs([root]).runs[0].status


def test_a_failed_run_says_where_and_why_until_it_resumes(tmp_path: Path) -> None:
    root = tmp_path / "smoke"
    failed = loop(tmp_path, "pairs.minimum=1000")
    assert failed.returncode == 65
    written = (root / FILE).read_text()
    ended = json.loads(written)
    assert (ended["exit_code"], ended["stage"]) == (65, "round-1/pairs")
    assert failed.stderr.endswith(f"error: {ended['cause']}\n")
    assert status(root).startswith("failed in round-1/pairs (65): ")
    assert any(ended["cause"] in note for note in compare_runs([root]).runs[0].missing), (
        "the table shows only its beginning"
    )
    assert "Failed in round-1/pairs (65): " in (root / "report.html").read_text()

    assert loop(tmp_path, "consensus.samples=3").returncode == 3
    assert (root / FILE).read_text() == written, "a refused start did nothing"
    full = loop(tmp_path, "pairs.minimum=900")
    assert full.returncode == 65
    assert "pairs.minimum=900" in (root / FILE).read_text()

    assert loop(tmp_path).returncode == 0
    assert not (root / FILE).exists()
    assert status(root) == "finished, 1 round"
    assert loop(tmp_path, "consensus.samples=3").returncode == 3
    assert not (root / FILE).exists(), "and a finished run stays one"


@pytest.mark.parametrize(
    ("error", "stage", "shown"),
    [
        (DataSaysNo("too few\nfor 2"), "round-1/pairs", "failed in round-1/pairs (65): too few for 2"),
        (BaseExceptionGroup("", [DataSaysNo("one of several")]), None, "failed (65): one of several"),
        (Interrupted("SIGTERM"), "round-2/train", "interrupted in round-2/train (75)"),
        (ZeroDivisionError("by 0"), "base/eval", "failed in base/eval (1): ZeroDivisionError: by 0"),
        (OSError(errno.ENOSPC, "full", "x"), "base/eval", "interrupted in base/eval (75): x: full; what is finished"),
        (DataSaysNo(f"the key {SECRET}"), None, "failed (65): the key (hidden)"),
        (DataSaysNo("word " * 100), None, f"failed (65): {'word ' * 24}…"),
    ],
)
def test_an_end_is_shown_on_one_line_without_secrets(
    error: BaseException, stage: str | None, shown: str, tmp_path: Path
) -> None:
    (tmp_path / "base/eval.partial").mkdir(parents=True)
    write_end(tmp_path, error, stage)
    assert SECRET not in (tmp_path / FILE).read_text()
    assert status(tmp_path).startswith(shown)


@pytest.mark.parametrize("damage", ["", "[1, 2]", '{"exit_code": 65}', "\x00"])
def test_a_record_that_cannot_be_read_counts_as_none(damage: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(damage)
    assert read_end(tmp_path) is None


@pytest.fixture
def another() -> Iterator["subprocess.Popen[bytes]"]:
    """Another process that is alive."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_run_with_a_live_supervisor_is_running_and_a_killed_one_is_not(
    another: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    (tmp_path / "base/eval.partial").mkdir(parents=True)
    holder = tmp_path / HOLDER
    supervisor = {"pid": another.pid, "host": socket.gethostname(), "command": ["crescent", "+experiment=smoke"]}
    holder.write_text(json.dumps(supervisor))
    assert status(tmp_path) == "running: nothing finished to compare"
    os.utime(holder, (1e9, 1e9))
    assert not is_running(tmp_path), "a later process has the pid of the killed one"
    for different in (
        {"host": "elsewhere"},
        {"command": ["crescent", "sync", "x"]},
        {"pid": os.getpid()},
        {"pid": "?"},
    ):
        holder.write_text(json.dumps({**supervisor, **different}))
        assert not is_running(tmp_path), different
    another.kill()
    another.wait()
    holder.write_text(json.dumps(supervisor))
    assert status(tmp_path) == "nothing finished to compare"


def test_a_report_of_a_run_that_was_interrupted_says_so(tmp_path: Path) -> None:
    (tmp_path / "run/base/eval.partial").mkdir(parents=True)
    write_end(tmp_path / "run", Interrupted("SIGINT"), "base/eval")
    write_report([tmp_path / "run"], tmp_path / "page.html")
    assert "Interrupted in base/eval (75)." in (tmp_path / "page.html").read_text()
