"""What trackio records of a run: each row once, beside W&B or without it, on this machine only."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from test_wandb import SECRET, STEPS, Written, unfinished_training
from wandb_server import StandIn, read_offline

from crescent.config import TrackingConfig, TrackingJob, Wandb, write_job

NO_NETWORK = """
import socket
def refuse(*address, **how):
    raise SystemExit(f"a connection: {address}")
socket.getaddrinfo = socket.socket.connect = socket.socket.connect_ex = refuse
"""
READ = """
import json, sqlite3
from trackio import Api, SQLiteStorage, fragments
fragments.import_inbox_dir()  # as its dashboard does
found = {}
for run in Api().runs("crescent"):
    found.setdefault(run.name, []).append([run.config, SQLiteStorage.get_logs("crescent", run.name, run_id=run.id)])
print(json.dumps(found))
"""
OBSERVE = """
import sys
from pathlib import Path
from crescent.config import Console, TrackingConfig
from crescent.observe import RunObserver
observer = RunObserver(Path(sys.argv[1]), TrackingConfig(trackio=True, console=Console.plain), "taught")
"""


def environment(tmp: Path, **more: str) -> dict[str, str]:
    """An environment with a token, with which trackio would ask a server who is logged in."""
    known = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "TRACKIO_"))}
    return {**known, "TRACKIO_DIR": str(tmp / "trackio"), "HF_TOKEN": SECRET, **more}


def report(written: Written, mode: Wandb = Wandb.disabled, **more: str) -> Sequence[str]:
    """Report through the separate process; returns its lines on the error stream."""
    job = TrackingJob(str(written.root), written.root.name, TrackingConfig(wandb=mode, trackio=True))
    write_job(written.root / "job.yaml", job)
    command = [sys.executable, "-P", "-m", "crescent.tracking", str(written.root / "job.yaml")]
    env = environment(written.root.parent, **more)
    ended = subprocess.run(command, input=b"finished\n0\n", env=env, capture_output=True, timeout=90, check=False)
    return ended.stderr.decode().splitlines()


def without_network(tmp: Path) -> dict[str, str]:
    """An environment in which a process ends when it connects to anything or looks up an address."""
    (tmp / "site").mkdir(exist_ok=True)
    (tmp / "site/sitecustomize.py").write_text(NO_NETWORK)
    return {"PYTHONPATH": os.pathsep.join([str(tmp / "site"), os.environ.get("PYTHONPATH", "")])}


def read(tmp: Path) -> dict[str, list[Any]]:
    """The runs by name: the config and the rows of each."""
    command = [sys.executable, "-c", READ]
    ended = subprocess.run(command, env=environment(tmp), capture_output=True, timeout=60, check=True)
    found: dict[str, list[Any]] = json.loads(ended.stdout)
    return found


@pytest.mark.parametrize("storage", ["sqlite", "jsonl"])
def test_each_row_is_recorded_once_whatever_is_reported_again(tmp_path: Path, storage: str) -> None:
    written = Written(tmp_path / "taught").base().round(1)
    more = {**without_network(tmp_path), "TRACKIO_STORAGE_MODE": storage}
    assert report(written, **more) == []
    (written.root / "wandb/told.json").unlink()  # as if killed after trackio had it
    written.round(2, "roll back")
    assert report(written, **more) == []
    found = read(tmp_path)
    assert sorted(found) == ["taught", "taught-r01-train", "taught-r02-train"]
    ((config, rows),) = found["taught"]
    names = [next(name for name in row if name.endswith("/seconds")) for row in rows]
    kinds = ("synthesis", "pairs", "train", "eval", "verdict")
    assert names == ["round/eval/seconds", *2 * [f"round/{kind}/seconds" for kind in kinds]]
    assert [row["step"] for row in rows] == [row["round"] for row in rows] == [0, *5 * [1], *5 * [2]]
    assert rows[-1]["round/verdict/action"] == "roll back"
    assert config["_Group"] == "taught"
    assert config["serving"] == {"api_key": "(hidden)", "note": "key (hidden)"}
    ((_, curve),) = found["taught-r02-train"]
    assert [(row["step"], row["train/loss"]) for row in curve] == [(step, 1 / step) for step in range(1, STEPS + 1)]


def test_a_curve_grows_while_the_stage_runs_and_no_step_comes_twice(tmp_path: Path) -> None:
    written = Written(tmp_path / "taught").base()
    unfinished_training(written, 2)
    job = TrackingJob(str(written.root), "taught", TrackingConfig(trackio=True, stream_s=0.2))
    write_job(written.root / "job.yaml", job)
    command = [sys.executable, "-P", "-m", "crescent.tracking", str(written.root / "job.yaml")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment(tmp_path))

    def steps() -> list[int]:
        return [row["train/step"] for _, rows in read(tmp_path).get("taught-r01-train", []) for row in rows]

    found: list[int] = []
    for _ in range(60):
        with contextlib.suppress(subprocess.CalledProcessError):  # there is no project yet
            found = steps()
        if found:
            break
        time.sleep(0.5)
    assert found == [1, 2], "before the stage is finished"
    shutil.rmtree(written.root / "round-1/train.partial")
    written.round(1)
    process.communicate(b"0\n", timeout=90)
    assert steps() == list(range(1, STEPS + 1))


def test_runs_of_one_name_and_stages_that_are_redone_are_apart(tmp_path: Path) -> None:
    for place in ("a", "b"):
        written = Written(tmp_path / place / "taught").base().round(1)
        assert report(written, TRACKIO_DIR=str(tmp_path / "trackio")) == []
    written.train(1, loss=0.5)
    assert report(written, TRACKIO_DIR=str(tmp_path / "trackio")) == []
    found = read(tmp_path)
    assert sorted(len(rows) for _, rows in found["taught"]) == [6, 7]
    assert [len(rows) for _, rows in found["taught-r01-train"]] == [STEPS] * 3


def test_wandb_and_trackio_do_not_need_each_other(tmp_path: Path) -> None:
    (tmp_path / "site/trackio").mkdir(parents=True)
    (tmp_path / "site/trackio/__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'trackio'\")")
    missing = {"PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])}
    written = Written(tmp_path / "taught").base()
    reason = "ModuleNotFoundError: No module named 'trackio'"
    said = f"this run was not recorded in trackio ({reason}); pip install trackio"
    assert report(written, Wandb.offline, **missing) == [said]
    assert len(read_offline(written.root)) == 2
    with StandIn() as server:
        command = [sys.executable, "-P", "-m", "crescent", "sync", str(written.root)]
        (written.root / "config.yaml").write_text("run: {name: taught}\ntracking: {trackio: true}\n")
        env = environment(tmp_path, **server.environment)
        ended = subprocess.run(command, env=env, capture_output=True, timeout=90, check=False)
        assert (ended.returncode, ended.stderr.decode()) == (0, "")
        assert [len(rows) for _, rows in read(tmp_path)["taught"]] == [1]
        asked = len(server.asked)
        subprocess.run(command, env=env, capture_output=True, timeout=90, check=True)
        assert len(server.asked) == asked, "W&B is not even contacted"
    (tmp_path / "trackio").rename(tmp_path / "moved")
    (tmp_path / "trackio").write_text("a file in place of the folder of trackio")
    (said,) = report(written.round(1))
    assert said.startswith("this run was not recorded in trackio (")


def test_what_a_killed_loop_left_is_recorded_by_the_next_one(tmp_path: Path) -> None:
    stage = 'observer.finished("base/eval", {"sums/accuracy": 0.25}, 1.0, fresh=True)\n'
    killed = 'observer.started("base/eval", resumed=False)\n' + stage + "sys.stdin.read()"
    again = 'observer.finished("round-1/train", {"loss": 0.5}, 1.0, fresh=False)\nobserver.close(0)\n'
    root, env = tmp_path / "taught", environment(tmp_path)
    root.mkdir()
    first = subprocess.Popen([sys.executable, "-c", OBSERVE + killed, str(root)], env=env, stdin=subprocess.PIPE)
    while not (root / "wandb/told.json").exists():
        assert first.poll() is None
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    ended = subprocess.run([sys.executable, "-c", OBSERVE + again, str(root)], env=env, capture_output=True, check=True)
    assert ended.stderr == b""
    ((_, rows),) = read(tmp_path)["taught"]
    assert [(row["step"], row.get("round/eval/sums/accuracy")) for row in rows] == [(0, 0.25), (1, None)]
    began = (tmp_path / "trackio/crescent.db").stat().st_mtime_ns
    subprocess.run([sys.executable, "-c", OBSERVE + again, str(root)], env=env, capture_output=True, check=True)
    assert (tmp_path / "trackio/crescent.db").stat().st_mtime_ns == began
