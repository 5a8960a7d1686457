"""Runs on a real Ray cluster of several nodes on this machine: an engine is killed, a node is lost, and the run equals
one that nothing disturbed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import psutil
import pytest

from crescent.run_folder.manifest import MANIFEST, tree_digest

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(900),
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'ray[default]'"),
]
LOOP = (sys.executable, "-P", "-m", "crescent.loop", "+experiment=smoke")
FEW = (
    *("bait.questions=60", "eval.benchmarks.sums_dev.items=40", "eval.benchmarks.sums_test.items=30"),
    *("run.seed=1", "serving.replicas=2"),
)
LONGEST_S = 400.0
"""Longest wait for a run on a busy machine."""
ASKS_WITHIN_S = 2.0
"""Time in which a stage that started has sent requests, in seconds."""
CORES = 2
"""CPU cores that a worker node says it has, and that a replica reserves."""


class RayNodes:
    """A head node that has room for the trainer only, and worker nodes with room for one replica each."""

    def __init__(self, errors: IO[str]) -> None:
        command = [sys.executable, str(Path(__file__).with_name("ray_nodes.py")), "1", str(CORES), str(CORES)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, text=True)
        self.address = self._line()

    def ask(self, command: str) -> None:
        """A command of `ray_nodes`."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        assert self._line() == "done", command

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayNodes]:
    errors = tmp_path_factory.mktemp("nodes") / "errors.txt"
    with pytest.MonkeyPatch.context() as patch, errors.open("w") as file:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "a-word-that-is-not-guessed")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        running = RayNodes(file)
        try:
            assert running.address, errors.read_text()
            yield running
        finally:
            running.stop()


def started(nodes: RayNodes, folder: Path, name: str, *settings: str) -> subprocess.Popen[str]:
    """A run on the cluster, with its output in a file beside its folder."""
    where = (f"launch.ray.address={nodes.address}", f"launch.ray.replica_cpus={CORES}", "launch.ray.room_s=200")
    with (folder / f"{name}.txt").open("w") as output:
        return subprocess.Popen(
            [*LOOP, *FEW, f"run.root={folder}", f"run.name={name}", "launch=ray", *where, *settings],
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )


def engines(run: str) -> list[psutil.Process]:
    """The engines of a run, whose models are named after it."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            if words[3:5] == ["crescent.engine.fakes", "serve"] and words[7].startswith(run):
                found.append(process)
    return found


def wait_for(condition: Callable[[], object], what: str, run: subprocess.Popen[str], output: Path) -> None:
    deadline = time.monotonic() + LONGEST_S
    while not condition():
        assert run.poll() is None, f"ended before: {what}\n{output.read_text()}"
        assert time.monotonic() < deadline, f"not in {LONGEST_S:.0f} s: {what}\n{output.read_text()}"
        time.sleep(0.05)


@contextmanager
def held(processes: Sequence[psutil.Process]) -> Iterator[None]:
    """Engines that answer nothing for a while, so that requests are outstanding."""
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with suppress(psutil.Error):
                process.resume()


def test_a_run_that_loses_an_engine_and_a_node_ends_as_an_undisturbed_one(nodes: RayNodes, tmp_path: Path) -> None:
    root, output = tmp_path / "cluster" / "lost", tmp_path / "cluster" / "lost.txt"
    root.parent.mkdir()
    run = started(nodes, root.parent, "lost")

    def wait_until_asked(number: int) -> None:
        """Wait until the round's questions are asked for; the engines are held before."""
        wait_for(lambda: f"round-{number}/synthesis: starts" in output.read_text(), f"round {number}", run, output)
        time.sleep(ASKS_WITHIN_S)

    def wait_for_restarts(count: int) -> None:
        line = "died and is restarted while the others go on"
        wait_for(lambda: output.read_text().count(line) == count, f"restart {count}", run, output)

    try:
        wait_for(lambda: output.read_text().count("the engine answers") == 2, "two engines", run, output)
        first, second = engines("lost")
        wait_for((root / "base/eval" / MANIFEST).exists, "the base's evaluation", run, output)
        with held((first, second)):
            wait_until_asked(1)
            first.kill()
            wait_for_restarts(1)
        alone = [*LOOP, *FEW, f"run.root={tmp_path}", "run.name=lost"]
        undisturbed = subprocess.Popen(alone, stdout=subprocess.DEVNULL)
        wait_for((root / "round-1/train" / MANIFEST).exists, "the first child", run, output)
        left = engines("lost")
        wait_for((root / "round-1/eval" / MANIFEST).exists, "the end of the first round", run, output)
        with held(left):
            wait_until_asked(2)
            nodes.ask("lose")
            wait_for_restarts(2)
        nodes.ask(f"add {CORES}")
        assert run.wait(LONGEST_S) == 0, output.read_text()
        assert undisturbed.wait(LONGEST_S) == 0
    finally:
        run.kill()
    assert tree_digest(root) == tree_digest(tmp_path / "lost")
    deaths = [json.loads(line)["replica"] for line in (root / "logs/engine_deaths.jsonl").read_text().splitlines()]
    assert len(deaths) == 2, output.read_text()
    assert not engines("lost")
    assert not (root / ".ray-token").exists()
    assert (root / "logs/round-1-train.log").exists(), "the trainer's output came back"


def test_a_killed_loop_leaves_no_process_on_the_nodes(nodes: RayNodes, tmp_path: Path) -> None:
    run = started(nodes, tmp_path, "killed", "run.rounds=1")
    output = tmp_path / "killed.txt"
    wait_for(lambda: len(engines("killed")) == 2, "two engines", run, output)
    run.kill()
    run.wait()
    deadline = time.monotonic() + 60
    while engines("killed"):
        assert time.monotonic() < deadline, "an engine outlives its loop"
        time.sleep(0.2)


def test_a_command_that_is_lost_is_started_again_and_exit_codes_come_back(nodes: RayNodes, tmp_path: Path) -> None:
    losses = [sys.executable, str(Path(__file__).with_name("ray_losses.py")), nodes.address, str(tmp_path)]
    ended = subprocess.run(losses, capture_output=True, text=True, check=False, timeout=LONGEST_S)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert (found["failed"], found["stopped"]) == (7, 143)
    assert (found["begun"], found["lost"], found["left"]) == (2, 75, 0), found
    assert "its node was lost; it is started again where there is room" in found["log"]


def test_what_the_cluster_refuses_is_explained(
    nodes: RayNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planned(*settings: str) -> str:
        where = (f"launch.ray.address={nodes.address}", f"launch.ray.replica_cpus={CORES}")
        plan = [*LOOP, f"run.root={tmp_path}", "mode=plan", "launch=ray", *where, *settings]
        ended = subprocess.run(plan, capture_output=True, text=True, check=False, timeout=LONGEST_S, env={**os.environ})
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    here = nodes.address.partition(":")[0]
    plan = planned("serving.replicas=2")
    assert f"generation by 2 replicas with {CORES} CPUs each, spread over the nodes: {here} up to 1, {here} up" in plan
    assert "training on one node with 1 CPU; while it works, the replicas do this: keep" in plan
    assert "cannot run there: serving.replicas=9: each needs 2 CPUs, so 2 fit" in planned("serving.replicas=9")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another-word")
    assert f"cannot run there: launch.ray.address={nodes.address}" in (wrong := planned())
    assert "launch.ray.token=True" in wrong
