"""Each stage is reported once, and no tracker can break a run."""

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest
from wandb_server import StandIn, read_offline

from crescent.config import Console, TrackingConfig, Wandb
from crescent.observe import ReportFile, RunObserver
from crescent.run_folder.metrics import MetricsFile, round_of


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_stage_has_one_line_in_the_metrics_however_often_it_is_found(tmp_path: Path) -> None:
    for _ in range(3):
        metrics = MetricsFile(tmp_path / "metrics.jsonl")
        metrics.record("round-1/train", {"loss": 1.0}, 3.0, replace=False)
        metrics.record("round-1/eval", {"accuracy": 0.5}, 2.0, replace=False)
    assert [line["stage"] for line in lines(tmp_path / "metrics.jsonl")] == ["round-1/train", "round-1/eval"]


def test_a_stage_that_was_made_again_replaces_its_line(tmp_path: Path) -> None:
    MetricsFile(tmp_path / "metrics.jsonl").record("round-1/train", {"loss": 1.0}, 3.0, replace=True)
    assert MetricsFile(tmp_path / "metrics.jsonl").record("round-1/train", {"loss": 0.5}, 3.0, replace=True)
    assert [line["loss"] for line in lines(tmp_path / "metrics.jsonl")] == [0.5]


def test_a_torn_metrics_file_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    MetricsFile(tmp_path / "metrics.jsonl").record("base/eval", {"accuracy": 0.5}, 2.0, replace=True)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "round-1/tr')
    MetricsFile(tmp_path / "metrics.jsonl").record("round-1/train", {"loss": 1.0}, 3.0, replace=True)
    assert [line["stage"] for line in lines(tmp_path / "metrics.jsonl")] == ["base/eval", "round-1/train"]


@pytest.mark.parametrize(("stage", "number"), [("base/eval", 0), ("round-3/train", 3), ("round-12/eval", 12)])
def test_a_stage_belongs_to_its_round(stage: str, number: int) -> None:
    assert round_of(stage) == number


OBSERVE = """
import sys
from pathlib import Path
from crescent.config import Console, TrackingConfig, Wandb
from crescent.observe import RunObserver
tracking = TrackingConfig(wandb=Wandb(sys.argv[2]), console=Console.plain)
observer = RunObserver(Path(sys.argv[1]), tracking, "t")
"""
ONE_STAGE = (
    OBSERVE
    + """
observer.started("base/eval", resumed=False)
print("the stage works", file=sys.stderr, flush=True)
observer.finished("base/eval", {"sums/accuracy": 0.25}, 1.0, fresh=True)
observer.close(0)
"""
)
BASE_EVAL = {"round": 0, "round/eval/seconds": 1.0, "round/eval/sums/accuracy": 0.25}
TRAIN = {"round": 1, "round/train/seconds": 1.0, "round/train/loss": 0.125}


def in_its_own_process(
    program: str, root: Path, mode: Wandb, environment: Mapping[str, str], terminal: int | None = None
) -> tuple[str, list[str], float]:
    """What the program printed, its lines on the error stream, and its seconds.

    It has no login but the one in `environment`; on a `terminal` it could be asked for one.
    """
    known = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-P", "-c", program, str(root), mode.value],
        env={**known, "HOME": str(root), "NETRC": str(root / "netrc"), **environment},
        stdin=terminal if terminal is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=terminal if terminal is not None else subprocess.PIPE,
        timeout=60,
        check="SIGKILL" not in program,
    )
    return ended.stdout.decode(), (ended.stderr or b"").decode().splitlines(), time.monotonic() - began


def test_what_a_killed_process_left_the_next_one_uploads_to_wandb(tmp_path: Path) -> None:
    killed = (
        OBSERVE
        + """
import os, signal, time
observer.started("base/eval", resumed=False)
observer.finished("base/eval", {"sums/accuracy": 0.25}, 1.0, fresh=True)
logged = Path(sys.argv[1]) / "wandb/logged.jsonl"
while not logged.exists():
    time.sleep(0.1)
os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    again = (
        OBSERVE
        + """
observer.finished("base/eval", {"sums/accuracy": 0.25}, 1.0, fresh=False)
observer.finished("round-1/train", {"loss": 0.125}, 1.0, fresh=False)
observer.close(0)
print(observer.wandb.started)
"""
    )
    in_its_own_process(killed, tmp_path, Wandb.offline, {})
    MetricsFile(tmp_path / "metrics.jsonl").record("round-1/train", {"loss": 0.125}, 1.0, replace=True)
    said, errors, _ = in_its_own_process(again, tmp_path, Wandb.offline, {})
    assert (said, errors) == ("True\n", [])
    (loop,) = read_offline(tmp_path)
    assert (loop.rows, loop.axes["round/*"], loop.exit_code) == ([BASE_EVAL, TRAIN], "round", 0)
    said, _, _ = in_its_own_process(again, tmp_path, Wandb.offline, {})
    assert said == "False\n", "a rerun with nothing to upload does not start W&B"


@pytest.mark.parametrize("answer", ["401", "429", "silence"])
def test_a_server_that_refuses_or_is_silent_leaves_an_offline_run(tmp_path: Path, answer: str) -> None:
    with StandIn(answer) as server:
        environment = {**server.environment, "WANDB_INIT_TIMEOUT": "2"}
        _, errors, seconds = in_its_own_process(ONE_STAGE, tmp_path, Wandb.online, environment)
    assert seconds < 20
    assert errors[0] == "the stage works", "nothing is waited for before the stage works"
    assert len(errors) == 2
    assert errors[1].startswith("W&B cannot be used online (CommError: ")
    assert errors[1].endswith(f"upload it later: crescent sync {tmp_path}")
    assert [run.rows for run in read_offline(tmp_path)] == [[BASE_EVAL]]
    assert [line["stage"] for line in lines(tmp_path / "metrics.jsonl")] == ["base/eval"]


def test_without_a_login_wandb_does_not_ask_for_one_on_the_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    in_its_own_process(ONE_STAGE, tmp_path, Wandb.online, {"TERM": "xterm"}, terminal=theirs)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode().splitlines()
    os.close(ours)
    assert len(shown) == 2
    assert "No API key configured" in shown[1]
    assert "crescent sync" in shown[1]
    assert [run.rows for run in read_offline(tmp_path)] == [[BASE_EVAL]]


def test_online_says_once_where_to_look(tmp_path: Path) -> None:
    with StandIn() as server:
        said, errors, _ = in_its_own_process(ONE_STAGE, tmp_path, Wandb.online, server.environment)
    assert said.count(f"W&B: {server.url}/me/crescent/runs/") == 1
    assert errors == ["the stage works"]
    assert [run.rows for run in server.runs.values()] == [[BASE_EVAL]]


def test_a_network_lost_after_the_start_is_waited_for_a_limited_time(tmp_path: Path) -> None:
    with StandIn("graphql only") as server:
        environment = {**server.environment, "WANDB_FINISH_TIMEOUT": "2"}
        _, errors, seconds = in_its_own_process(ONE_STAGE, tmp_path, Wandb.online, environment)
    assert seconds < 20
    assert errors == [
        "the stage works",
        f"W&B did not receive everything in time; upload it later: crescent sync {tmp_path}",
    ]
    assert [line["stage"] for line in lines(tmp_path / "metrics.jsonl")] == ["base/eval"]


def test_a_tracker_that_hangs_is_ended_with_the_run(tmp_path: Path) -> None:
    hanging = ONE_STAGE.replace("console=Console.plain", "console=Console.plain, wait_s=3")
    with StandIn("silence") as server:
        environment = {**server.environment, "WANDB_INIT_TIMEOUT": "600"}
        _, errors, seconds = in_its_own_process(hanging, tmp_path, Wandb.online, environment)
    assert seconds < 12
    said = f"W&B did not receive everything within 3 s; upload it later: crescent sync {tmp_path}"
    assert errors == ["the stage works", said]
    alive = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert not [command for command in alive if str(tmp_path) in command]


def test_a_tracker_that_dies_costs_one_line(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/wandb.py").write_text("import os\nos._exit(9)")
    said, errors, _ = in_its_own_process(ONE_STAGE, tmp_path, Wandb.offline, {"PYTHONPATH": str(tmp_path / "site")})
    died = f"the process that reports to W&B ended with exit code 9; upload it later: crescent sync {tmp_path}"
    assert errors == ["the stage works", died]
    assert "base/eval: done" in said


def test_a_tracker_that_fails_is_switched_off_and_the_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wandb").write_text("a file in place of the folder of W&B")
    observer = RunObserver(tmp_path, TrackingConfig(wandb=Wandb.offline, console=Console.quiet), "t")
    for number in (1, 2):
        observer.finished(f"round-{number}/train", {"loss": 1.0}, 1.0, fresh=True)
    observer.close(0)
    assert capsys.readouterr().err.count("W&B is switched off") == 1
    assert len(lines(tmp_path / "metrics.jsonl")) == 2


def test_the_report_is_written_again_only_after_a_stage_was_finished(tmp_path: Path) -> None:
    observer = RunObserver(tmp_path, TrackingConfig(wandb=Wandb.disabled, console=Console.quiet), "t")
    page = tmp_path / "report.html"
    observer.close(2)
    assert not page.exists(), "there is nothing to report"
    observer.finished("base/eval", {"sums/accuracy": 0.25}, 1.0, fresh=True)
    observer.close(75)
    written = page.stat().st_mtime_ns
    again = RunObserver(tmp_path, TrackingConfig(wandb=Wandb.disabled, console=Console.quiet), "t")
    again.finished("base/eval", {"sums/accuracy": 0.25}, 1.0, fresh=False)
    again.close(0)
    assert page.stat().st_mtime_ns == written
    again.finished("round-1/train", {"loss": 0.5}, 1.0, fresh=True)
    again.close(1)
    assert page.stat().st_mtime_ns > written


def test_a_report_that_cannot_be_written_costs_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    (tmp_path / "report.html.new").mkdir()
    ReportFile(tmp_path, None).update()
    assert f"to try again: crescent report {tmp_path}" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["[1,2]\n", '{"a": 1}\n', "7\n", '{"stage": ["a/b"], "round": 1}\n', "\x80\n"])
def test_a_line_of_no_stage_is_ignored_and_gone_with_the_next_write(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "metrics.jsonl"
    MetricsFile(path).record("base/eval", {"accuracy": 0.5}, 2.0, replace=True)
    path.write_bytes(damage.encode("latin-1") + path.read_bytes())
    MetricsFile(path).record("round-1/train", {"loss": 1.0}, 3.0, replace=True)
    assert [line["stage"] for line in lines(path)] == ["base/eval", "round-1/train"]
