"""Why an engine ended: the cause is found wherever it stands in the log, with what mends it."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from awkward_engine import CAUSE
from test_serving import BASE, FAKE, child_of, new_server, served_lines

from crescent.config import Child, WhileTraining
from crescent.engine.client import EngineDied
from crescent.engine.failure import FIXES, errors_in, explain_failure, find_cause, find_fix
from crescent.engine.server import Server
from crescent.errors import Missing, TryAgain
from launch import ChildProcess
from launch.local import LocalLaunch


class Awkward:
    """Starts fake engines that misbehave, one way after the other; the last one stays."""

    def __init__(self, *ways: str) -> None:
        self.ways = list(ways)
        self.commands: list[list[str]] = []

    def start(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> ChildProcess:
        how = self.ways.pop(0) if len(self.ways) > 1 else self.ways[0]
        self.commands.append(list(command))
        program = [sys.executable, "-P", str(Path(__file__).with_name("awkward_engine.py")), how]
        served = command[list(command).index("serve") :]
        return LocalLaunch(grace_s=1).start([*program, *served], log, environment)


def awkward_server(
    tmp_path: Path,
    *ways: str,
    child: Child = Child.adapter,
    max_restarts: int = 1,
    while_training: WhileTraining = WhileTraining.keep,
) -> tuple[Server, Awkward]:
    launch = Awkward(*ways)
    serving = replace(FAKE, child=child, max_restarts=max_restarts, while_training=while_training)
    return new_server(tmp_path, serving, launch), launch


def test_the_cause_is_shown_though_200_lines_follow_it(tmp_path: Path) -> None:
    server, _ = awkward_server(tmp_path, "dies-at-start")
    with pytest.raises(Missing) as ended:
        server.serve(BASE)
    first, fix, *_ = str(ended.value).splitlines()
    assert first == f"the engine failed to start (exit code 1): {CAUSE}"
    assert "install the CUDA toolkit (nvcc)" in fix
    assert "See root cause above" in str(ended.value), "the last lines are still there"


def test_an_engine_that_dies_later_shows_its_cause_too(tmp_path: Path) -> None:
    server, _ = awkward_server(tmp_path, "dies-when-asked", max_restarts=0)
    with pytest.raises(TryAgain) as ended:
        server.ask(child_of(tmp_path, 1.0), lambda endpoint: endpoint)
    assert CAUSE in str(ended.value)


def test_the_cause_of_an_earlier_start_is_not_shown_again(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("(EngineCore pid=1) ERROR 11-30 04:13:56 [core.py:1] ValueError: of yesterday\n")
    since = log.stat().st_size
    with log.open("a") as file:
        file.write("torch.OutOfMemoryError: CUDA out of memory\n")
    shown = explain_failure(log, since)
    assert shown.splitlines()[0] == "torch.OutOfMemoryError: CUDA out of memory"
    assert "serving.memory_share" in shown.splitlines()[1]


def test_what_an_engine_says_for_information_is_no_cause(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("(APIServer pid=6) INFO 11-30 04:13:40 [model.py:2] ValueError: KV cache\n(Worker pid=7) bye\n")
    lines = errors_in(log, 0)
    assert lines == [("Worker", "bye")]
    assert find_cause(lines) is None
    assert find_fix(None, lines) is None
    assert explain_failure(log, 0).splitlines()[0] == f"the last lines of {log}:"


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        ("/tmp/cuda_utils.c:5:10: fatal error: Python.h: No such file or directory", "Python.h"),
        ("RuntimeError: The NVIDIA driver on your system is too old (found version 12020)", "driver on your"),
        ("vllm serve: error: unrecognized arguments: --no-such-option", "unrecognized arguments"),
        ("ValueError: Free memory on device cuda:0 (9.1/79.1 GiB) on startup is less than desired GPU memory", "less"),
        ("ValueError: To serve one request, 7.0 GiB KV cache is needed, decrease `max_model_len`", "KV cache"),
        ("RuntimeError: Failed to infer device type, please set", "Failed to infer"),
    ],
)
def test_known_problems_come_with_what_mends_them(line: str, fix: str) -> None:
    wanted = next(sentence for words, sentence in FIXES.items() if words.startswith(fix))
    assert find_cause([("", "loading"), ("", line)]) == line
    assert find_fix(line, [("", line)]) == wanted


def test_a_compilers_complaint_explains_the_exception_after_it() -> None:
    lines = [("", "x.c:5:10: fatal error: Python.h: No such file"), ("EngineCore", "CalledProcessError: gcc, exit 1")]
    assert find_cause(lines) == "CalledProcessError: gcc, exit 1"
    assert find_fix(find_cause(lines), lines) == FIXES["Python.h"]


@pytest.mark.parametrize(("how", "starts"), [("busy-cache", 1), ("keeps-cache", 2)])
def test_a_cache_that_the_engine_keeps_never_serves_new_weights(tmp_path: Path, how: str, starts: int) -> None:
    server, launch = awkward_server(tmp_path, how, child=Child.reload)
    child = child_of(tmp_path, 1.0)
    try:
        server.serve(BASE)
        server.serve(child)
    finally:
        server.stop()
    assert len(launch.commands) == starts
    if starts == 2:
        assert child.weights in launch.commands[1]


@pytest.mark.parametrize("how", ["forgets-adapters", "sleeps-on"])
def test_an_engine_that_is_another_one_after_its_sleep_is_restarted_and_ends_no_run(tmp_path: Path, how: str) -> None:
    server, launch = awkward_server(tmp_path, how, "well", while_training=WhileTraining.sleep)
    child = child_of(tmp_path, 1.0)
    try:
        server.serve(child)
        server.pause()
        server.serve(child)
    finally:
        server.stop()
    assert len(launch.commands) == 2
    outcomes = [line["outcome"] for line in served_lines(tmp_path)]
    assert outcomes == ["proven", *(["wrong weights"] if how == "forgets-adapters" else []), "proven"]


def test_an_engine_that_died_is_told_from_one_that_refuses(tmp_path: Path) -> None:
    server, _ = awkward_server(tmp_path, "dies-when-asked")
    try:
        with pytest.raises(EngineDied):
            server.serve(child_of(tmp_path, 1.0))
    finally:
        server.stop()
