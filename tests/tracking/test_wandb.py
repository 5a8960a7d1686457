"""What W&B receives of a run: everything once, in the right place, and no secrets."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wandb_server import KEY, StandIn, read_offline

from crescent.config import Artifacts, Console, TrackingConfig, TrackingJob, Wandb, write_job
from crescent.errors import BadConfig, DataSaysNo, Missing
from crescent.machine.secrets import without_secrets
from crescent.observe import RunObserver
from crescent.reading.finished import RunReader
from crescent.records import (
    Action,
    Alarm,
    Answer,
    Candidate,
    Pair,
    Question,
    Response,
    Score,
    Verdict,
    Vote,
    write_lines,
)
from crescent.run_folder.ended import forget_end, write_end
from crescent.run_folder.manifest import REUSED, seal
from crescent.run_folder.metrics import MetricsFile
from crescent.tracking.contents import RunContents, read_curve
from crescent.tracking.ledger import UploadLedger, mode_of
from crescent.tracking.samples import MOST, sample_changed, sample_questions, sample_rejected
from crescent.tracking.sync import is_uploaded, sync, tracking_of
from crescent.tracking.view import make_view

SECRET = "hf_" + "Zq7" * 9
"""In the settings of the runs below."""
STEPS = 4


def question(number: int, name: str, **more: Any) -> Question:
    return Question(f"{number:08d}{name:0>8}", f"What is {name} + {number}?", number, 0, "b", 1, **more)


class Written:
    """A run folder as the loop leaves it, stage by stage."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        (root / "config.yaml").write_text(
            f"run: {{name: {root.name}}}\ntracking: {{project: crescent, group: null}}\n"
            f"serving: {{api_key: {SECRET}, note: 'key {SECRET}'}}\nmodel: {{revision: {'ab' * 20}}}\n"
        )
        self.metrics = MetricsFile(root / "metrics.jsonl")
        self.digests: dict[str, str] = {}

    def stage(self, stage: str, inputs: dict[str, str], metrics: dict[str, float]) -> None:
        """The stage is finished; its files were written before."""
        about = {"version": "1", "settings": {"lr": 0.5, "hub_token": SECRET}, "inputs": inputs}
        manifest = seal(self.root / stage, {"made_from": about, "metrics": metrics, "seconds": 1.5})
        self.digests[stage] = manifest["digest"]
        self.metrics.record(stage, metrics, 1.5, replace=True)

    def folder(self, stage: str) -> Path:
        (self.root / stage).mkdir(parents=True, exist_ok=True)
        return self.root / stage

    def base(self) -> "Written":
        self._evaluate("base/eval", {"checkpoint": "base"}, right=2)
        return self

    def round(self, number: int, action: Action = "accept", near: int = 3) -> "Written":
        """A round with four questions, `near` near-duplicates, one pair, `STEPS` steps, and an alarm if rolled back."""
        parent = self.digests.get(f"round-{number - 1}/train", "base")
        folder = self.folder(f"round-{number}/synthesis")
        questions = [question(number, str(index)) for index in range(4)]
        answer = Answer(questions[0].id, 0, 1, "so 4", "4", "stop", 2)
        votes = [Vote(asked, (answer, answer), (0, 0), "4", 2, 2) for asked in questions]
        write_lines(folder / "votes.jsonl", votes)
        first = questions[0].id
        rejected = [
            question(number, f"x{index}", neighbour=first, similarity=0.9 + index / 1e4) for index in range(near)
        ]
        write_lines(folder / "candidates.jsonl", [Candidate(dropped, "near-duplicate") for dropped in rejected])
        self.stage(f"round-{number}/synthesis", {"parent": parent}, {"agreement": 1.0, "tokens": 8})
        pair = Pair("p" * 16, first, number, "What?", "so 4", "4", 1.0)
        write_lines(self.folder(f"round-{number}/pairs") / "pairs.jsonl", [pair])
        self.stage(f"round-{number}/pairs", {"votes": self.digests[f"round-{number}/synthesis"]}, {"pairs": 1})
        self.train(number, loss=1.0)
        self._evaluate(f"round-{number}/eval", {"checkpoint": self.digests[f"round-{number}/train"]}, right=2)
        before = "base/eval" if number == 1 else f"round-{number - 1}/eval"
        bad = action == "roll back"
        alarms = (Alarm("commonest", 0.9, 0.5, "the commonest answer is given to 90 %"),) if bad else ()
        verdict = Verdict(action, "because", "c", "p", 0.1, 0.0, 0.2, 0.04, 1, 0, 4, alarms=alarms)
        write_lines(self.folder(f"round-{number}/verdict") / "verdict.json", [verdict])
        inputs = {"parent": self.digests[before], "child": self.digests[f"round-{number}/eval"]}
        self.stage(f"round-{number}/verdict", inputs, {"difference": 0.1})
        return self

    def train(self, number: int, loss: float) -> None:
        """Train, or train again."""
        folder = self.folder(f"round-{number}/train")
        (folder / "adapter").mkdir(exist_ok=True)
        (folder / "adapter/model.safetensors").write_text(f"weights {number} {loss}")
        lines = [{"done": step, "total": STEPS, "loss": loss / step} for step in range(1, STEPS + 1)]
        (self.root / "logs").mkdir(exist_ok=True)
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (self.root / "logs" / f"round-{number}-train.progress.jsonl").write_text(text)
        inputs = {"pairs": self.digests[f"round-{number}/pairs"], "start": "base"}
        self.stage(f"round-{number}/train", inputs, {"rows": 1, "loss": loss})

    def _evaluate(self, stage: str, inputs: dict[str, str], right: int) -> None:
        folder = self.folder(stage)
        first = right if stage == "base/eval" else right - 1
        good = {first % 4, (first + 1) % 4}
        finals = {item: ("4" if item in good else stage) for item in range(4)}
        write_lines(
            folder / "responses.jsonl",
            [
                Response(f"i{item}", "sums", f"q{item}", "t", final, "4", final == "4", "stop", 1)
                for item, final in finals.items()
            ],
        )
        (folder / "scores.json").write_bytes(b"[" + _json(Score("sums", right, 0, 4, 0.1, 0.9)) + b"]")
        self.stage(stage, inputs, {"sums/accuracy": right / 4})


def _json(record: object) -> bytes:
    import msgspec

    return msgspec.json.encode(record)


def track(root: Path, environment: dict[str, str], lines: str = "0\n", live: bool = True, **tracking: Any) -> list[str]:
    """Report to W&B through the separate process; returns its lines on the error stream."""
    mode = Wandb.online if environment else Wandb.offline
    job = TrackingJob(str(root), root.name, TrackingConfig(wandb=mode, **tracking), live=live)
    write_job(root / "job.yaml", job)
    known = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    command = [sys.executable, "-P", "-m", "crescent.tracking", str(root / "job.yaml")]
    env = {**known, "CRESCENT_API_KEY": SECRET, **environment}
    ended = subprocess.run(command, input=lines.encode(), env=env, capture_output=True, timeout=90, check=False)
    return ended.stderr.decode().splitlines()


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was tracked offline, killed after its first round, and went on to a second that was rolled back."""
    written = Written(tmp_path_factory.mktemp("offline") / "taught").base().round(1)
    assert track(written.root, {}) == []
    written.round(2, "roll back")
    assert track(written.root, {}) == []
    return written.root


def test_the_loop_and_each_heavy_stage_have_a_run_in_one_group(offline: Path) -> None:
    found = read_offline(offline)
    stages = [f"taught-r0{number}-{kind}" for number in (1, 2) for kind in ("synthesis", "train", "eval")]
    assert sorted(run.name for run in found) == sorted(["taught", "taught-base-eval", *stages])
    assert {run.group for run in found} == {"taught"}
    assert Counter(run.job_type for run in found) == {"loop": 1, "synthesis": 2, "train": 2, "eval": 3}
    assert all(run.exit_code == 0 for run in found)


def test_a_restart_leaves_each_row_once_and_each_run_in_one_file(offline: Path) -> None:
    found = read_offline(offline)
    assert len({run.id for run in found}) == len(found)
    for run in found:
        assert run.steps == list(range(len(run.rows)))
    loop = next(run for run in found if run.job_type == "loop")
    names = [next(name for name in row if name.endswith("/seconds")) for row in loop.rows]
    kinds = ("synthesis", "pairs", "train", "eval", "verdict")
    assert names == ["round/eval/seconds", *2 * [f"round/{kind}/seconds" for kind in kinds]]
    assert [row["round"] for row in loop.rows] == [0, *5 * [1], *5 * [2]]


def test_curves_and_rounds_have_axes_of_their_own(offline: Path) -> None:
    loop, train = (
        next(run for run in read_offline(offline) if run.name == name) for name in ("taught", "taught-r02-train")
    )
    outcome = ("best/*", "gain_over_base", "accepted_rounds")
    assert loop.axes == dict.fromkeys(("round/*", "samples/*", *outcome), "round")
    assert train.axes == {"train/*": "train/step"}
    assert train.rows == [{"train/step": step, "train/loss": 1.0 / step} for step in range(1, STEPS + 1)]


def test_rows_hold_scores_with_their_intervals_and_what_was_decided(offline: Path) -> None:
    loop = next(run for run in read_offline(offline) if run.job_type == "loop")
    last = {name: value for row in loop.rows for name, value in row.items()}
    names = [f"round/eval/sums/{metric}" for metric in ("low", "accuracy", "high")]
    assert [last[name] for name in names] == [0.1, 0.5, 0.9]
    assert last["round/verdict/action"] == "roll back"
    tables = {name.split("/")[1]: value for name, value in last.items() if name.endswith("/nrows")}
    assert tables == {"questions": 4, "rejected": 3, "changed": 2}


def test_artifacts_record_their_lineage(offline: Path) -> None:
    made = [artifact for run in read_offline(offline) for artifact in run.artifacts if artifact["type"] != "run_table"]
    kinds = Counter((artifact["name"], artifact["type"]) for artifact in made)
    named = {("taught-pairs", "dataset"): 2, ("taught-model", "model"): 2, ("taught-evaluation", "evaluation"): 3}
    assert kinds == named
    by_stage = {artifact["metadata"]["stage"]: artifact for artifact in made}
    pairs, model, scored = (by_stage[f"round-2/{stage}"] for stage in ("pairs", "train", "eval"))
    assert model["metadata"]["made_from"]["pairs"] == pairs["metadata"]["digest"]
    assert scored["metadata"]["made_from"]["checkpoint"] == model["metadata"]["digest"]
    assert {model["metadata"]["digest"], "round-2", "latest"} == set(model["aliases"])
    weights = (offline / "round-2/train/adapter/model.safetensors").as_uri()
    assert model["contents"] == {"adapter/model.safetensors": weights, "manifest.json": ""}
    assert pairs["contents"] == {"pairs.jsonl": "", "manifest.json": ""}


def test_a_collapse_sends_an_alert_and_nothing_else_does(offline: Path) -> None:
    (alert,) = (alert for run in read_offline(offline) for alert in run.alerts)
    text = "roll back: because\nthe commonest answer is given to 90 %"
    assert alert == ("taught, round 2: collapse alarm", text)


def unfinished_training(written: Written, steps: int) -> Path:
    """A training stage as it lies on the disk after some of its steps; returns its progress file."""
    folder = written.root / "round-1/train.partial"
    (folder / "scratch").mkdir(parents=True, exist_ok=True)
    (folder / "scratch/key.json").write_text(json.dumps({"version": "1", "settings": {"lr": 0.5}, "inputs": {}}))
    lines = [{"done": step, "total": STEPS, "loss": 1 / step} for step in range(1, steps + 1)]
    (folder / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "progress.jsonl"


class Reporting:
    """The separate process while the run goes on: `say` notifies it, `ends` waits for its end."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        tracking = TrackingConfig(wandb=Wandb.online, stream_s=0.2, tags=["mine"])
        write_job(root / "job.yaml", TrackingJob(str(root), root.name, tracking))
        known = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
        command = [sys.executable, "-P", "-m", "crescent.tracking", str(root / "job.yaml")]
        pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, env={**known, **environment}, **pipes)

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def ends(self, exit_code: int) -> str:
        return self.process.communicate(f"{exit_code}\n".encode(), timeout=90)[1].decode()


def await_rows(server: StandIn, steps: list[int]) -> None:
    """Wait until the server has these steps of the training, and no others."""
    for _ in range(600):
        found = [run for run in server.runs.values() if run.job_type == "train"]
        if found and [row["train/step"] for row in found[0].rows] == steps:
            return
        time.sleep(0.1)
    raise AssertionError(f"steps {steps} did not arrive")


def test_a_curve_grows_while_the_stage_runs_and_the_finished_stage_is_the_same_run(tmp_path: Path) -> None:
    with StandIn() as server:
        written = Written(tmp_path / "taught").base()
        unfinished_training(written, 2)
        reporting = Reporting(written.root, server.environment)
        await_rows(server, [1, 2])
        unfinished_training(written, 3)
        await_rows(server, [1, 2, 3])
        assert reporting.ends(75) == ""
        assert server.run("train").exit_code == 75, "interrupted, and it goes on below"
        reporting = Reporting(written.root, server.environment)
        unfinished_training(written, 2)  # training resumes at an earlier step and repeats the later ones
        shutil.rmtree(written.root / "round-1/train.partial")
        written.round(1)
        assert reporting.ends(0) == ""
        trained = server.run("train")
        assert [row["train/step"] for row in trained.rows] == list(range(1, STEPS + 1))
        assert (trained.name, trained.exit_code) == ("taught-r01-train", 0)
        assert trained.config["digest"] == written.digests["round-1/train"]
        asked = len(server.asked)
        assert track(written.root, server.environment) == []
        assert "CreateArtifact" not in server.asked[asked:], "what was streamed is not uploaded a second time"


def test_the_loop_gets_its_settings_as_soon_as_they_are_known_and_its_tags(tmp_path: Path) -> None:
    with StandIn() as server:
        written = Written(tmp_path / "taught")
        settings = (written.root / "config.yaml").read_text()
        (written.root / "config.yaml").unlink()
        reporting = Reporting(written.root, server.environment)
        for _ in range(600):
            if server.runs:
                break
            time.sleep(0.1)
        assert server.run("loop").tags == ["mine"]
        (written.root / "config.yaml").write_text(f"{settings}train: {{trainer: sft}}\nmodel: {{path: org/small}}\n")
        written.base()
        assert reporting.ends(0) == ""
        loop = server.run("loop")
        assert loop.config["train"] == {"trainer": "sft"}
        assert loop.tags == ["mine", "small", "sft"]


def test_names_in_wandb_have_no_spaces(tmp_path: Path) -> None:
    written = Written(tmp_path / "taught").base().round(1)
    metrics = {"agreement": 1.0, "unusable/cut at max_tokens": 2}
    written.stage("round-1/synthesis", {"parent": "base"}, metrics)
    assert track(written.root, {}) == []
    names = {name for run in read_offline(written.root) for row in run.rows for name in row}
    assert {name for name in names if "unusable" in name} == {
        "round/synthesis/unusable/cut_at_max_tokens",
        "synthesis/unusable/cut_at_max_tokens",
    }
    assert not [name for name in names if " " in name]


def test_an_alert_is_sent_when_patience_runs_out(tmp_path: Path) -> None:
    written = Written(tmp_path / "taught").base().round(1, "retry").round(2, "accept").round(3, "retry")
    with (written.root / "config.yaml").open("a") as config:
        config.write("verdict: {patience: 0}\n")
    assert track(written.root, {}) == []
    loop = next(run for run in read_offline(written.root) if run.job_type == "loop")
    actions = [row["round/verdict/action"] for row in loop.rows if "round/verdict/action" in row]
    assert actions == ["stop", "accept", "stop"]
    assert [title for title, _ in loop.alerts] == ["taught, round 1: stop", "taught, round 3: stop"]
    assert "stop: because; rejected 1 in a row, patience is 0" in loop.alerts[1][1]


def test_no_secret_is_uploaded(offline: Path) -> None:
    for path in (offline / "wandb").rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
    loop = next(run for run in read_offline(offline) if run.job_type == "loop")
    assert loop.config["serving"] == {"api_key": "(hidden)", "note": "key (hidden)"}
    assert loop.config["model"] == {"revision": "ab" * 20}


@pytest.fixture(scope="module")
def online(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StandIn, Written]]:
    """A run that was tracked online, of which W&B lost the end of the first round, and that went on to a second."""
    with StandIn() as server:
        written = Written(tmp_path_factory.mktemp("online") / "taught").base().round(1, "roll back")
        assert track(written.root, server.environment) == []
        server.keep(rows=4, of="loop")
        written.round(2)
        assert track(written.root, server.environment) == []
        yield server, written


def test_online_every_row_arrives_once_also_what_was_lost(online: tuple[StandIn, Written]) -> None:
    server, _ = online
    loop = server.run("loop")
    assert loop.steps == list(range(11))
    assert [row["round"] for row in loop.rows] == [0, *5 * [1], *5 * [2]]
    assert [row["train/step"] for row in server.run("train", "r02-train").rows] == [1, 2, 3, 4]
    assert loop.exit_code == 0


def test_online_the_pairs_lead_to_the_model_and_the_model_to_its_scores(online: tuple[StandIn, Written]) -> None:
    server, _ = online
    used = {
        run.name: [(server.artifacts[key]["name"], server.runs[server.artifacts[key]["run"]].name) for key in run.uses]
        for run in server.runs.values()
        if run.uses
    }
    assert used == {
        "taught-r01-train": [("taught-pairs", "taught-r01-synthesis")],
        "taught-r01-eval": [("taught-model", "taught-r01-train")],
        "taught-r02-synthesis": [("taught-model", "taught-r01-train")],
        "taught-r02-train": [("taught-pairs", "taught-r02-synthesis")],
        "taught-r02-eval": [("taught-model", "taught-r02-train")],
    }


def test_an_alert_is_sent_once_also_when_its_row_is_uploaded_again(online: tuple[StandIn, Written]) -> None:
    server, _ = online
    assert [title for title, _ in server.run("loop").alerts] == ["taught, round 1: collapse alarm"]


def test_no_secret_goes_over_the_wire(online: tuple[StandIn, Written]) -> None:
    server, _ = online
    assert any(b"taught-r01-train" in body for body in server.heard)
    assert not [body[:200] for body in server.heard if SECRET.encode() in body]


def test_what_was_tracked_is_not_uploaded_again(
    online: tuple[StandIn, Written], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server, written = online
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    asked = len(server.asked)
    sync(written.root, None, None, 60, False, print)
    assert capsys.readouterr().out == f"W&B has everything of {written.root} (project crescent)\n"
    assert len(server.asked) == asked, "W&B is not even contacted"
    job = TrackingJob(str(written.root), "taught", tracking_of({}), live=False)
    assert is_uploaded(job)
    (written.root / "wandb/told.json").unlink()
    assert not is_uploaded(job)


def test_a_stage_that_was_redone_has_a_run_of_its_own_and_adds_a_row(online: tuple[StandIn, Written]) -> None:
    server, written = online
    rows, runs = len(server.run("loop").rows), len(server.runs)
    written.train(2, loss=0.5)
    assert track(written.root, server.environment, live=False) == []
    assert len(server.runs) == runs + 1
    loop = server.run("loop")
    assert loop.steps == list(range(rows + 1))
    assert loop.rows[-1]["round/train/loss"] == 0.5


def test_a_run_tracked_offline_is_synced_and_its_files_are_set_aside(tmp_path: Path) -> None:
    written = Written(tmp_path / "taught").base()
    assert track(written.root, {}, artifacts=Artifacts.none) == []
    assert len(read_offline(written.root)) == 2
    known = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    with StandIn() as server:
        command = [sys.executable, "-P", "-m", "crescent", "sync", str(written.root), "--project", "other"]
        ended = subprocess.run(
            command, env={**known, **server.environment}, capture_output=True, timeout=90, text=True, check=False
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.splitlines()[-1] == f"W&B has everything of {written.root} (project other)"
        assert {run.name: run.steps for run in server.runs.values()} == {"taught": [0], "taught-base-eval": [0]}
    assert read_offline(written.root) == []
    assert len(list((written.root / "wandb/superseded").iterdir())) == 2


def test_a_table_or_an_artifact_that_is_refused_costs_no_number_and_a_sync_alerts_nobody(tmp_path: Path) -> None:
    written = Written(tmp_path / "taught").base().round(1, "roll back")
    with StandIn() as server:
        server.refuses_artifacts = True
        errors = track(written.root, server.environment, live=False)
        assert len(errors) == 3
        assert server.run("loop").alerts == []
        assert {line.split(" (")[0] for line in errors} == {
            "W&B did not accept tables",
            "W&B did not accept artifacts",
            "W&B did not accept the lineage",
        }
        assert [row["round"] for row in server.run("loop").rows] == [0, *5 * [1]]
        assert len(server.run("train").rows) == STEPS


def test_a_table_holds_200_rows_at_most(tmp_path: Path) -> None:
    Written(tmp_path / "r").base().round(1, near=MOST + 5)
    rejected = sample_rejected(RunReader(tmp_path / "r"), 1)
    assert len(rejected.rows) == MOST
    assert rejected.columns[:3] == ("question", "nearest earlier question", "cosine")
    text, neighbour, cosine = rejected.rows[0][:3]
    assert (text, neighbour) == (f"What is x{MOST + 4} + 1?", "What is 0 + 1?")
    assert cosine == pytest.approx(0.9 + (MOST + 4) / 1e4)


def test_questions_are_shown_with_their_votes(tmp_path: Path) -> None:
    Written(tmp_path / "r").base().round(1)
    table = sample_questions(RunReader(tmp_path / "r"), 1)
    assert table.columns[:6] == ("question", "agreement", "votes", "of", "winner", "answers")
    assert table.rows[0][:6] == ("What is 0 + 1?", 1.0, 2, 2, "4", "4 | 4")


def test_wrong_answers_that_changed_are_shown_the_lost_ones_first(tmp_path: Path) -> None:
    Written(tmp_path / "r").base().round(1)
    table = sample_changed(RunReader(tmp_path / "r"), 1)
    assert table is not None
    changes = [(row[0], row[-1], row[4], row[5]) for row in table.rows]
    assert changes == [
        ("lost", "i3", "4", "round-1/eval"),
        ("gained", "i1", "base/eval", "4"),
        ("still wrong", "i0", "base/eval", "round-1/eval"),
    ]


def test_a_torn_or_repeated_curve_is_read_as_far_as_it_goes_each_step_once(tmp_path: Path) -> None:
    lines = [{"done": 1, "loss": 2.0}, {"done": 2, "loss": 1.0, "mfu": None}, {"done": 2, "loss": 1.0}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "curve").write_text(text + '{"done": 3, "lo')
    found = list(read_curve(tmp_path / "curve"))
    assert found == [{"train/step": 1, "train/loss": 2.0}, {"train/step": 2, "train/loss": 1.0}]


def test_ids_stay_when_the_folder_moves_and_differ_between_folders(tmp_path: Path) -> None:
    names = ("a", "b")
    first, second = (Written(tmp_path / name).base().root for name in names)
    identity = UploadLedger(first).identity()
    first.rename(tmp_path / "moved")
    assert UploadLedger(tmp_path / "moved").identity() == identity
    assert UploadLedger(second).identity() != identity


def test_a_stage_whose_files_were_changed_is_not_uploaded(tmp_path: Path) -> None:
    written = Written(tmp_path / "r").base()
    (written.root / "base/eval/scores.json").write_text("[]")
    ledger = UploadLedger(written.root)
    ledger.add([{"stage": "base/eval", "round": 0}])
    contents = RunContents(TrackingJob(str(written.root), "r", TrackingConfig()), ledger)
    ((stage, identity),) = contents.stages()
    assert contents.stage(stage, identity) is None


def test_a_stage_that_another_run_made_names_that_run(tmp_path: Path) -> None:
    written = Written(tmp_path / "r").base().round(1)
    for stage in ("base/eval", "round-1/synthesis"):
        note = {"run": "runs/maker", "digest": written.digests[stage]}
        (written.root / f"{stage}{REUSED}").write_text(json.dumps(note))
    ledger = UploadLedger(written.root)
    ledger.add({"stage": stage, "round": 0} for stage in ("base/eval", "round-1/pairs", "round-1/train"))
    contents = RunContents(TrackingJob(str(written.root), "r", TrackingConfig()), ledger)
    found = {}
    for stage, identity in contents.stages():
        uploaded = contents.stage(stage, identity)
        assert uploaded is not None
        keys = ("reused_from", "votes_reused_from")
        configured, described = uploaded.run.config, uploaded.makes[0].metadata
        assert [configured.get(key) for key in keys] == [described.get(key) for key in keys]
        found[stage] = [configured.get(key) for key in keys]
    assert found == {
        "base/eval": ["runs/maker", None],
        "round-1/pairs": [None, "runs/maker"],
        "round-1/train": [None, None],
    }


def test_the_view_shows_each_benchmark_with_its_interval_and_is_made_again_in_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Random names that the library may draw, and cannot find again.
    ending_badly = iter(("rvqozgcxwnw", "abcdefghinw"))
    monkeypatch.setattr("wandb_workspaces.workspaces.internal.runid.generate_id", lambda _length: next(ending_badly))
    with StandIn() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        address = make_view("me", "crescent", ["sums"], None)
        assert make_view("me", "crescent", ["sums", "words"], address) == address
        (view,) = server.views.values()
    sections = {section["name"]: section["panels"] for section in view["section"]["panelBankConfig"]["sections"]}
    assert list(sections) == ["Scores", "Verdicts", "Questions", "Cost", "Training"]
    scores = [panel["config"] for panel in sections["Scores"]]
    assert [score["xAxis"] for score in scores] == ["round", "round"]
    assert scores[1]["metrics"] == [f"round/eval/words/{metric}" for metric in ("accuracy", "low", "high")]


def test_a_point_of_a_wandb_sweep_has_its_agents_id_and_parameters_and_its_stages_are_no_points(tmp_path: Path) -> None:
    written = Written(tmp_path / "taught").base()
    (tmp_path / "point.yaml").write_text("wandb_version: 1\n\ntrain.learning_rate:\n  value: 1.0e-05\n")
    with StandIn() as server:
        swept = {"WANDB_SWEEP_ID": "sweep123", "WANDB_RUN_ID": "point1"}
        swept["WANDB_SWEEP_PARAM_PATH"] = str(tmp_path / "point.yaml")
        assert track(written.root, {**server.environment, **swept}) == []
        assert {
            run.name: (run.id == "point1", run.sweep, run.config.get("train.learning_rate"))
            for run in server.runs.values()
        } == {"taught": (True, "sweep123", 1e-05), "taught-base-eval": (False, None, None)}


@pytest.mark.parametrize(
    ("asked", "allowed", "used"),
    [
        ("online", "", "online"),
        ("online", "offline", "offline"),
        ("offline", "online", "offline"),
        ("online", "disabled", "disabled"),
        ("disabled", "online", "disabled"),
    ],
)
def test_wandb_mode_can_only_restrict_what_the_settings_ask_for(
    asked: str, allowed: str, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", allowed)
    assert mode_of(TrackingConfig(wandb=Wandb(asked))) is Wandb(used)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("api_key", "anything", "(hidden)"),
        ("hub_token", "anything", "(hidden)"),
        ("max_tokens", 24, 24),
        ("tokens_per_second", "24", "24"),
        ("note", "my key is sk-abcdefghijklmnop1234", "my key is (hidden)"),
        ("url", "https://me:pass@host/v1", "https://(hidden)@host/v1"),
        ("note", KEY, "(hidden)"),
        ("revision", KEY, KEY),
        ("paths", ["/data/x", "hf_" + "a" * 20], ["/data/x", "(hidden)"]),
    ],
)
def test_what_looks_or_is_named_like_a_secret_is_hidden(name: str, value: object, shown: object) -> None:
    assert without_secrets({"a": {name: value}}) == {"a": {name: shown}}


def test_the_values_of_secret_variables_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMEBODYS_API_KEY", "plain words")
    assert without_secrets("it is: plain words") == "it is: (hidden)"


def test_a_sync_of_nothing_and_of_an_unknown_mode_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Missing, match="no stage is finished"):
        sync(tmp_path, None, None, 1, False, print)
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    with pytest.raises(BadConfig, match="WANDB_MODE=dryrun"):
        sync(tmp_path, None, None, 1, False, print)


@pytest.mark.parametrize("damage", [None, "[1,2]\n", '{"a": 1}\n'])
def test_a_sync_needs_the_stages_and_not_the_metrics(
    tmp_path: Path, damage: str | None, online: tuple[StandIn, Written], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, written = online
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    root = Path(shutil.copytree(written.root, tmp_path / "taught"))
    whole = [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]
    (root / "metrics.jsonl").unlink()
    if damage is not None:
        (root / "metrics.jsonl").write_text(damage)
    asked = len(server.asked)
    sync(root, None, None, 60, False, print)
    assert [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()] == whole
    assert len(server.asked) == asked, "the lines are those that W&B has"


def test_a_sync_of_a_run_that_failed_or_is_damaged_says_so(
    tmp_path: Path,
    online: tuple[StandIn, Written],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server, written = online
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    root = Path(shutil.copytree(written.root, tmp_path / "taught"))
    has = f"W&B has everything of {root} (project crescent)"
    (root / "config.yaml").write_text("run: {name: taught, rounds: 3}\ntracking: {project: crescent}\n")
    sync(root, None, None, 60, False, print)
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{has}; the run: not finished: ")
    write_end(root, DataSaysNo("too few"), "round-3/pairs")
    sync(root, None, None, 60, False, print)
    assert capsys.readouterr().out == f"{has}; the run: failed in round-3/pairs (65): too few\n"
    forget_end(root)
    (root / "round-1/synthesis/votes.jsonl").unlink()
    sync(root, None, None, 60, False, print)
    assert capsys.readouterr().out == f"{has}; the run: damaged in round-1/synthesis\n"


def command(root: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """`crescent sync` without a login."""
    known = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    env = {**known, "HOME": str(root), "NETRC": str(root / "netrc"), **environment}
    asked = [sys.executable, "-P", "-m", "crescent", "sync", str(root), *arguments]
    return subprocess.run(asked, env=env, capture_output=True, timeout=90, text=True, check=False)


@pytest.mark.parametrize("key", [None, "short", KEY])
def test_a_sync_without_a_login_is_refused_and_not_retried(tmp_path: Path, key: str | None) -> None:
    written = Written(tmp_path / "taught").base()
    with StandIn("401") as server:
        login = {"WANDB_API_KEY": key} if key else {}
        ended = command(written.root, WANDB_BASE_URL=server.url, WANDB_INIT_TIMEOUT="5", **login)
    assert ended.returncode == 69, ended.stderr
    assert "run `wandb login`, or set WANDB_API_KEY" in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--project", "a/b"], "tracking.project='a/b': a W&B project has at most 128 characters"),
        (["--project", "x" * 129], "crescent sync takes --project NAME"),
        (["--wait", "nan"], "--wait nan: seconds must not be negative"),
        (["--wait", "inf"], "--wait inf: "),
        (["--wait", "-1"], "--wait -1.0: "),
    ],
)
def test_what_can_never_be_synced_is_refused_at_once(tmp_path: Path, arguments: list[str], said: str) -> None:
    ended = command(Written(tmp_path / "taught").base().root, *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_the_loop_does_not_wait_for_a_tracker_that_does_not_listen(tmp_path: Path) -> None:
    with StandIn("silence") as server:
        os.environ.update(server.environment)  # for the process that is started
        try:
            tracking = TrackingConfig(wandb=Wandb.online, console=Console.quiet, wait_s=0)
            observer = RunObserver(tmp_path, tracking, "t")
            observer.started("base/eval", resumed=False)
            observer.finished("base/eval", {"n": 1}, 1.0, fresh=True)
            for _ in range(20_000):  # more than a pipe holds: if one of them waited, the test would never end
                observer.wandb.notify()
            observer.close(0)
        finally:
            for name in server.environment:
                del os.environ[name]
