"""Everybody is told once, and nobody who listens can break a run."""

import gzip
import json
import os
import pty
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from crescent.config import Console, TrackingConfig, Wandb
from crescent.observe import MetricsFile, Observer, round_of


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_stage_stands_in_the_metrics_once_however_often_it_is_found(tmp_path: Path) -> None:
    for _ in range(3):
        metrics = MetricsFile(tmp_path / "metrics.jsonl")
        metrics.record("round-1/train", {"loss": 1.0}, 3.0, replace=False)
        metrics.record("round-1/eval", {"accuracy": 0.5}, 2.0, replace=False)
    assert [its["stage"] for its in lines(tmp_path / "metrics.jsonl")] == ["round-1/train", "round-1/eval"]


def test_a_stage_that_was_made_again_replaces_its_line(tmp_path: Path) -> None:
    MetricsFile(tmp_path / "metrics.jsonl").record("round-1/train", {"loss": 1.0}, 3.0, replace=True)
    assert MetricsFile(tmp_path / "metrics.jsonl").record("round-1/train", {"loss": 0.5}, 3.0, replace=True)
    assert [its["loss"] for its in lines(tmp_path / "metrics.jsonl")] == [0.5]


def test_a_torn_metrics_file_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    MetricsFile(tmp_path / "metrics.jsonl").record("base/eval", {"accuracy": 0.5}, 2.0, replace=True)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "round-1/tr')
    MetricsFile(tmp_path / "metrics.jsonl").record("round-1/train", {"loss": 1.0}, 3.0, replace=True)
    assert [its["stage"] for its in lines(tmp_path / "metrics.jsonl")] == ["base/eval", "round-1/train"]


@pytest.mark.parametrize(("stage", "number"), [("base/eval", 0), ("round-3/train", 3), ("round-12/eval", 12)])
def test_a_stage_belongs_to_its_round(stage: str, number: int) -> None:
    assert round_of(stage) == number


OBSERVE = """
import sys
from pathlib import Path
from crescent.config import Console, TrackingConfig, Wandb
from crescent.observe import Observer
tracking = TrackingConfig(wandb=Wandb(sys.argv[2]), console=Console.plain)
observer = Observer(Path(sys.argv[1]), tracking, "t", {"seed": 1})
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
KEY = "0" * 40


def in_its_own_process(
    program: str, root: Path, mode: Wandb, environment: Mapping[str, str], terminal: int | None = None
) -> tuple[str, list[str], float]:
    """What the program printed, its lines on the error stream, and its seconds: wandb keeps one service a process.

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
        check=True,
    )
    return ended.stdout.decode(), (ended.stderr or b"").decode().splitlines(), time.monotonic() - began


def test_wandb_gets_each_stage_on_the_round_axis_offline(tmp_path: Path) -> None:
    program = (
        OBSERVE
        + """
observer.finished("base/eval", {"sums/accuracy": 0.25}, 1.0, fresh=True)
observer.finished("round-1/train", {"loss": 0.125}, 1.0, fresh=True)
observer.finished("round-1/train", {"loss": 0.125}, 1.0, fresh=False)
observer.close(0)
"""
    )
    _, errors, _ = in_its_own_process(program, tmp_path, Wandb.offline, {})
    assert errors == []
    assert offline_rows(tmp_path) == [[BASE_EVAL, TRAIN]]
    records = read_offline(next((tmp_path / "wandb").glob("offline-run-*/run-*.wandb")))
    axes = {record.metric.glob_name: record.metric.step_metric for record in records if record.HasField("metric")}
    assert axes.get("round/*") == "round"


def test_what_a_killed_process_could_not_tell_wandb_the_next_one_tells(tmp_path: Path) -> None:
    killed = (
        OBSERVE
        + """
observer.finished("base/eval", {"sums/accuracy": 0.25}, 1.0, fresh=True)
observer.metrics_file.record("round-1/train", {"loss": 0.125}, 1.0, replace=True)  # and is killed here
observer.wandb.close(0)
"""
    )
    again = (
        OBSERVE
        + """
observer.finished("base/eval", {"sums/accuracy": 0.25}, 1.0, fresh=False)
observer.finished("round-1/train", {"loss": 0.125}, 1.0, fresh=False)
observer.close(0)
print("wandb" in sys.modules)
"""
    )
    in_its_own_process(killed, tmp_path, Wandb.offline, {})
    in_its_own_process(again, tmp_path, Wandb.offline, {})
    assert offline_rows(tmp_path) == [[BASE_EVAL], [TRAIN]]
    said, _, _ = in_its_own_process(again, tmp_path, Wandb.offline, {})
    assert said == "False\n", "a rerun with nothing to tell does not start W&B"


@pytest.mark.parametrize("answer", ["401", "429", "silence"])
def test_a_server_that_refuses_or_is_silent_leaves_an_offline_run(tmp_path: Path, answer: str) -> None:
    with StandIn(answer) as server:
        environment = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "WANDB_INIT_TIMEOUT": "2"}
        _, errors, seconds = in_its_own_process(ONE_STAGE, tmp_path, Wandb.online, environment)
    assert seconds < 20
    assert len(errors) == 2
    assert errors[0].startswith("W&B cannot be used online (CommError: ")
    assert f"wandb sync {tmp_path}/wandb/offline-run-*" in errors[0]
    assert errors[1] == "the stage works"
    assert offline_rows(tmp_path) == [[BASE_EVAL]]
    assert [its["stage"] for its in lines(tmp_path / "metrics.jsonl")] == ["base/eval"]


def test_without_a_login_nobody_is_asked_for_one_on_the_terminal(tmp_path: Path) -> None:
    ours, its = pty.openpty()
    in_its_own_process(ONE_STAGE, tmp_path, Wandb.online, {"TERM": "xterm"}, terminal=its)
    os.close(its)
    shown = os.read(ours, 10_000).decode().splitlines()
    os.close(ours)
    assert len(shown) == 2
    assert "No API key configured" in shown[0]
    assert "wandb sync" in shown[0]
    assert offline_rows(tmp_path) == [[BASE_EVAL]]


def test_online_says_once_where_to_look(tmp_path: Path) -> None:
    with StandIn("everything") as server:
        environment = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
        said, errors, _ = in_its_own_process(ONE_STAGE, tmp_path, Wandb.online, environment)
    assert said.count(f"W&B: {server.url}/me/crescent/runs/") == 1
    assert errors == ["the stage works"]
    assert [{name: its for name, its in row.items() if name[0] != "_"} for row in server.history] == [BASE_EVAL]


def test_a_network_lost_after_the_start_is_waited_for_a_limited_time(tmp_path: Path) -> None:
    with StandIn("graphql only") as server:
        environment = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "WANDB_FINISH_TIMEOUT": "2"}
        _, errors, seconds = in_its_own_process(ONE_STAGE, tmp_path, Wandb.online, environment)
    assert seconds < 20
    assert len(errors) == 2
    assert f"upload it later: wandb sync {tmp_path}/wandb/run-" in errors[1]
    assert [its["stage"] for its in lines(tmp_path / "metrics.jsonl")] == ["base/eval"]


class StandIn:
    """A W&B server on this machine that answers with an HTTP error, with silence, or as far as a run needs."""

    def __init__(self, answer: str) -> None:
        self.history: list[dict[str, Any]] = []
        """The rows that were uploaded."""
        self._over = threading.Event()
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if answer == "silence" or (answer == "graphql only" and self.path != "/graphql"):
                    stand_in._over.wait()
                    return
                refused = answer.isdigit()
                reply = json.dumps({"errors": [{"message": "no"}]} if refused else stand_in.reply(self.path, body))
                self.send_response(int(answer) if refused else 200)
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply.encode())

            def do_PUT(self) -> None:
                self.do_POST()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "StandIn":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def reply(self, path: str, body: bytes) -> dict[str, Any]:
        if path.endswith("/file_stream"):
            rows = json.loads(body).get("files", {}).get("wandb-history.jsonl", {"content": []})["content"]
            self.history += [json.loads(row) for row in rows]
        if path != "/graphql":
            return {}
        asked = json.loads(body)
        given = asked["variables"]
        if asked["operationName"] == "UpsertBucket":
            project = {"id": "p", "name": "crescent", "entity": {"id": "e", "name": "me"}}
            bucket = {"id": "b", "name": given["name"], "displayName": "t", "config": "{}", "project": project}
            return {"data": {"upsertBucket": {"bucket": {**bucket, "historyLineCount": 0}, "inserted": True}}}
        if asked["operationName"] == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.url}/upload"} for name in given["files"]]
            return {"data": {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}}
        return {"data": {}}


def offline_rows(root: Path) -> list[list[dict[str, Any]]]:
    """What each offline run of this folder logged, in order of their start."""
    runs = []
    for path in sorted((root / "wandb").glob("offline-run-*/run-*.wandb")):
        histories = [record.history for record in read_offline(path) if record.HasField("history")]
        rows = [{"/".join(it.nested_key) or it.key: json.loads(it.value_json) for it in h.item} for h in histories]
        runs.append([{name: its for name, its in row.items() if name[0] != "_"} for row in rows])
    return runs


def read_offline(path: Path) -> list[Any]:
    """The records of an offline run: after 7 bytes a LevelDB log, blocks of 32 KiB of chunks (crc, length, type)."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, begun, records = path.read_bytes(), 7, b"", []
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        begun += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # the whole record, or the last part of one
            records.append(Record.FromString(begun))
            begun = b""
    return records


def test_a_tracker_that_fails_is_switched_off_and_the_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wandb").write_text("a file where W&B wants its folder")
    observer = Observer(tmp_path, TrackingConfig(wandb=Wandb.offline, console=Console.quiet), "t", {})
    for number in (1, 2):
        observer.finished(f"round-{number}/train", {"loss": 1.0}, 1.0, fresh=True)
    observer.close(0)
    assert capsys.readouterr().err.count("W&B is switched off") == 1
    assert len(lines(tmp_path / "metrics.jsonl")) == 2
