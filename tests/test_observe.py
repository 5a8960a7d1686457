"""Everybody is told once, and nobody who listens can break a run."""

import json
import struct
import subprocess
import sys
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


def test_wandb_gets_each_stage_on_the_round_axis_offline(tmp_path: Path) -> None:
    """In a process of its own: wandb keeps one service for as long as its process lives."""
    program = """
import sys
from pathlib import Path
from crescent.config import Console, TrackingConfig, Wandb
from crescent.observe import Observer
observer = Observer(Path(sys.argv[1]), TrackingConfig(wandb=Wandb.offline, console=Console.quiet), "t", {"seed": 1})
observer.finished("base/eval", {"sums/accuracy": 0.25}, 1.0, fresh=True)
observer.finished("round-1/train", {"loss": 0.125}, 1.0, fresh=True)
observer.finished("round-1/train", {"loss": 0.125}, 1.0, fresh=False)
observer.close(0)
"""
    ended = subprocess.run(
        [sys.executable, "-P", "-c", program, str(tmp_path)], capture_output=True, timeout=120, check=True
    )
    assert ended.stdout == b""
    records = read_offline(next((tmp_path / "wandb").glob("offline-run-*/run-*.wandb")))
    history = [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    logged = [{key: value for key, value in row.items() if not key.startswith("_")} for row in history]
    assert logged == [
        {"round": 0, "round/eval/seconds": 1.0, "round/eval/sums/accuracy": 0.25},
        {"round": 1, "round/train/seconds": 1.0, "round/train/loss": 0.125},
    ]
    axes = {record.metric.glob_name: record.metric.step_metric for record in records if record.HasField("metric")}
    assert axes.get("round/*") == "round"


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
