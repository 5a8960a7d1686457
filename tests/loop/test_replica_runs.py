"""Runs on eight replicas: whatever happens to them, the result is that of a run on one."""

import json
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from test_loop import Run, write_sums

from crescent.run_folder.manifest import tree_digest


def engines(run: Run) -> list[psutil.Process]:
    """Engines of a run, without the guards before them, in the order they were started."""
    found = []
    for process in run.processes():
        try:
            if process.cmdline()[3:5] == ["crescent.engine.fakes", "serve"]:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return sorted(found, key=psutil.Process.create_time)


def kill_an_engine_when(journal: Path, lines: int, run: Run, process: "subprocess.Popen[str]") -> None:
    """Kill one of the engines when a stage's journal has this many lines, with the stage in the middle."""
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= lines):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    engines(run)[3].kill()
    assert journal.exists(), "the stage ended too early for this test"


@pytest.mark.timeout(600)
def test_a_replica_killed_in_synthesis_and_one_in_evaluation_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    data = write_sums(tmp_path / "data")
    settings = [
        "run.rounds=1",
        "bait.questions=80",
        "serving.start_timeout_s=200",
        "run.name=smoke",
        "serving.concurrency=1",
    ]
    runs = {count: Run(tmp_path / f"{count}", data, *settings, f"serving.replicas={count}") for count in (1, 8)}
    alone = runs[1](timeout_s=250)
    assert alone.returncode == 0, alone.stderr
    run = runs[8]
    process = run.start()
    for journal, lines in (("base/eval.partial", 20), ("round-1/synthesis.partial/scratch", 100)):
        kill_an_engine_when(run.folder / journal / "journal.jsonl", lines, run, process)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert run.leaves_nothing_running()
    assert tree_digest(run.folder) == tree_digest(runs[1].folder)
    deaths = (run.folder / "logs/engine_deaths.jsonl").read_text().splitlines()
    assert len({json.loads(death)["replica"] for death in deaths}) == len(deaths) == 2
    assert output.count("is restarted while the others go on") == 2
    assert "resumes" not in output, "no stage had to start again, so nothing was asked twice"
    assert len(list((run.folder / "logs").glob("server-*.log"))) == 8
