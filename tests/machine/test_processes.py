"""How progress of child processes is reported, and how a process of ours ends."""

import subprocess
import sys
from pathlib import Path

from crescent.machine.processes import report_progress


def test_a_number_the_child_does_not_know_is_not_reported(tmp_path: Path) -> None:
    reports: list[tuple[int, int, str]] = []
    progress = tmp_path / "progress.jsonl"
    report_progress(progress, lambda *report: reports.append(report))
    progress.write_text('{"done": 2, "total": 9, "tokens_per_second": 152.31, "mfu": null}\n{"done": 3, "tot')
    report_progress(progress, lambda *report: reports.append(report))
    assert reports == [], "the file is missing, or its last line half written"
    progress.write_text('{"done": 2, "total": 9, "tokens_per_second": 152.31, "mfu": null}\n')
    report_progress(progress, lambda *report: reports.append(report))
    assert reports == [(2, 9, "tokens per second 152.3")]


INTERRUPTED = """
import asyncio, os, signal, sys
from crescent.machine.program import run_async, run_to_exit_code

async def interrupts_itself():
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(0)

async def work():
    await asyncio.gather(*(asyncio.create_task(interrupts_itself()) for _ in range(3)))

sys.exit(run_to_exit_code(lambda: run_async(work())))
"""


def test_an_interruption_among_many_tasks_is_reported_in_one_line() -> None:
    ended = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert ended.returncode == 75
    assert ended.stderr == "error: interrupted by SIGINT; to resume, run the same command again\n"
