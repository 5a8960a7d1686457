"""The whole loop over real processes, with the fake engine and the fake trainer in place of the heavy ones."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from omegaconf import OmegaConf

from crescent.config import Split
from crescent.engine.fakes import DEADLY
from crescent.records import Candidate, Pair, Response, Verdict, Vote, read_lines
from crescent.run_folder.manifest import tree_digest
from eval.benchmarks import half

CRESCENT = [sys.executable, "-P", "-m", "crescent.loop", "+experiment=smoke"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sums(tmp_path_factory.mktemp("data"))


def write_sums(folder: Path) -> Path:
    """A benchmark of sums in SVAMP's format: quicker to load than a generator of a hundred families."""
    dice = random.Random(0)
    rows = []
    for number in range(120):
        first, second = dice.randrange(10, 90), dice.randrange(10, 90)
        question = {"ID": f"sum-{number}", "Body": f"Shelf {number}.", "Question": f"What is {first} + {second}?"}
        rows.append({**question, "Answer": float(first + second), "Equation": "", "Type": "Addition"})
    (folder / "svamp").mkdir()
    (folder / "svamp" / "SVAMP.json").write_text(json.dumps(rows))
    return folder


class Run:
    """One smoke run in a folder of its own; the same command can be given again and again."""

    def __init__(self, root: Path, data: Path, *overrides: str) -> None:
        self.folder = root / "smoke"
        self.mark = f"mark-{root}"
        benchmark = [
            "eval.benchmarks.sums_dev.source=svamp",
            "eval.benchmarks.sums_dev.items=null",
            "~eval.benchmarks.sums_test",
        ]
        self.arguments = [f"run.root={root}", *benchmark, *overrides]
        self.environment = {**os.environ, "CRESCENT_DATA": str(data), "CRESCENT_TEST_MARK": self.mark}

    def start(self, *overrides: str, failpoint: str = "") -> "subprocess.Popen[str]":
        environment = {**self.environment, "CRESCENT_FAILPOINT": failpoint}
        # Hydra wants its own flags first.
        flags = [override for override in overrides if override.startswith("-")]
        settings = [override for override in overrides if override not in flags]
        command = [*CRESCENT[:4], *flags, *CRESCENT[4:], *self.arguments, *settings]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __call__(
        self, *overrides: str, failpoint: str = "", timeout_s: float = 120
    ) -> "subprocess.CompletedProcess[str]":
        process = self.start(*overrides, failpoint=failpoint)
        output, errors = process.communicate(timeout=timeout_s)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def processes(self) -> list[psutil.Process]:
        """Everything alive that this run started."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("CRESCENT_TEST_MARK") == self.mark and process.status() != "zombie":
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def leaves_nothing_running(self) -> bool:
        deadline = time.monotonic() + 10
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.1)
        return not self.processes()

    def metrics(self) -> list[tuple[str, int]]:
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return [(entry["stage"], entry["round"]) for entry in map(json.loads, lines)]


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("undisturbed"), data)
    ended = run()
    assert ended.returncode == 0, ended.stderr
    assert run.leaves_nothing_running()
    return run


def test_two_rounds_end_with_a_table_and_where_everything_lies(undisturbed: Run) -> None:
    ended = undisturbed()
    for part in (
        "rounds",
        "sums_dev",
        "accepted",
        "child is the best checkpoint, better than the base on the deciding items.",
        "best checkpoint  ",
        "metrics.jsonl",
        "to continue, rerun with run.rounds=3",
    ):
        assert part in ended.stdout
    assert undisturbed.metrics() == [
        ("base/benchmarks", 0),
        ("base/eval", 0),
        *[(f"round-{n}/{stage}", n) for n in (1, 2) for stage in ("synthesis", "pairs", "train", "eval", "verdict")],
    ]


def test_the_second_round_is_asked_by_the_first_rounds_child(undisturbed: Run) -> None:
    made_from = [
        json.loads((undisturbed.folder / f"round-{number}" / stage / "manifest.json").read_text())
        for number, stage in ((1, "train"), (2, "synthesis"))
    ]
    assert made_from[1]["made_from"]["inputs"]["parent"] == made_from[0]["digest"]
    first, second = (
        [vote.agreement for vote in read_lines(undisturbed.folder / f"round-{n}/synthesis/votes.jsonl", Vote)]
        for n in (1, 2)
    )
    assert sum(second) / len(second) > sum(first) / len(first), "the child's higher skill shows in its own answers"


def test_running_again_does_nothing_and_prints_the_same_table(undisturbed: Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.folder.rglob("manifest.json")}
    log = (undisturbed.folder / "logs" / "server.log").stat().st_mtime_ns
    first, second = undisturbed(), undisturbed()
    assert first.returncode == second.returncode == 0
    assert first.stdout == second.stdout
    assert {path: path.stat().st_mtime_ns for path in undisturbed.folder.rglob("manifest.json")} == before
    assert (undisturbed.folder / "logs" / "server.log").stat().st_mtime_ns == log


@pytest.mark.parametrize(
    ("failpoint", "exit_code"),
    [
        ("journal.append:30=kill9", 69),
        ("journal.append:70=kill9", -signal.SIGKILL),
        ("once.manifest:4=kill9", -signal.SIGKILL),
        ("once.rename:2=kill9", -signal.SIGKILL),
        ("once.committed:6=kill9", -signal.SIGKILL),
        ("trainer.end=kill9", 69),
        ("journal.append:70=term", 75),
        ("once.manifest:5=enospc", 75),
    ],
)
def test_a_disturbed_run_ends_like_an_undisturbed_one(
    failpoint: str, exit_code: int, undisturbed: Run, data: Path, tmp_path: Path
) -> None:
    run = Run(tmp_path, data)
    broken = run(failpoint=failpoint)
    assert broken.returncode == exit_code, broken.stderr
    assert run.leaves_nothing_running()
    again = run()
    assert again.returncode == 0, again.stderr
    assert tree_digest(run.folder) == tree_digest(undisturbed.folder)
    assert run.metrics() == undisturbed.metrics()
    assert "resumes" in again.stdout or "once." in failpoint


def test_an_interrupted_synthesis_asks_for_nothing_twice(data: Path, tmp_path: Path) -> None:
    run = Run(tmp_path, data, "eval.benchmarks.sums_dev.items=10")
    run(failpoint="journal.append:40=kill9")
    journal = run.folder / "round-1" / "synthesis.partial" / "scratch" / "journal.jsonl"
    kept = journal.read_bytes()
    assert kept.count(b"\n") == 40
    run(failpoint="journal.append:41=kill9")
    assert journal.read_bytes().startswith(kept)
    assert journal.read_bytes().count(b"\n") == 81


def test_changed_settings_are_refused_and_more_rounds_are_not(undisturbed: Run) -> None:
    refused = undisturbed("consensus.samples=4")
    assert refused.returncode == 3
    assert "consensus.samples: 8 → 4" in refused.stderr
    assert "run.redo=round-1/synthesis" in refused.stderr
    assert undisturbed("tracking.project=other", "launch.grace_s=1").returncode == 0
    planned = undisturbed("run.rounds=3", "mode=plan")
    assert planned.stdout.count("same settings, manifest holds") == 12
    assert planned.stdout.count("not made yet") == 5


def test_a_second_supervisor_is_refused_and_told_who_holds_the_run(data: Path, tmp_path: Path) -> None:
    run = Run(tmp_path, data)
    first = run.start()
    holder = run.folder / "supervisor.json"
    while not (holder.exists() and holder.read_text()):
        assert first.poll() is None
        time.sleep(0.02)
    second = run()
    assert second.returncode == 4
    assert f"process {first.pid} " in second.stderr
    first.terminate()
    first.communicate(timeout=60)
    assert first.returncode == 75
    assert run.leaves_nothing_running()


def test_a_round_without_enough_pairs_stops_with_65_and_says_why(data: Path, tmp_path: Path) -> None:
    run = Run(tmp_path, data)
    ended = run("pairs.minimum=1000")
    assert ended.returncode == 65
    assert "pairs.minimum=1000" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert (run.folder / "round-1" / "synthesis" / "manifest.json").exists()


def test_a_worse_child_is_rolled_back_and_the_next_round_starts_from_its_parent(data: Path, tmp_path: Path) -> None:
    run = Run(
        tmp_path,
        data,
        "run.name=smoke",
        "model.path=fake:0.05",
        "verdict.patience=1",
        "run.rounds=3",
        "consensus.min_agreement=0.3",
    )
    ended = run()
    assert ended.returncode == 0, ended.stderr
    verdicts = [read_lines(run.folder / f"round-{n}/verdict/verdict.json", Verdict)[0] for n in (1, 2)]
    assert {verdict.action for verdict in verdicts} <= {"roll back", "retry"}
    assert verdicts[1].parent == "smoke-base"
    assert "Round 2 stopped: " in ended.stdout
    assert "rejected 2 in a row, patience is 1" in ended.stdout
    (stopped,) = (line for line in ended.stdout.splitlines() if "Round 2 stopped: " in line)
    assert "tries again" not in stopped, "a line says one thing"
    assert "discarded" not in stopped
    assert "the base: no child was accepted" in ended.stdout
    assert not (run.folder / "round-3").exists()
    assert run("verdict.patience=2").returncode == 0, "a stopped run may be given more patience"
    assert (run.folder / "round-3" / "verdict" / "manifest.json").exists()


def test_later_rounds_train_on_a_retried_rounds_pairs_and_not_on_a_rolled_back_ones(data: Path, tmp_path: Path) -> None:
    worse = ["run.name=smoke", "model.path=fake:0.8", "pairs.labels=minority", "consensus.min_agreement=0.3"]
    no_proof = ["verdict.gate=significant", "verdict.alpha=1e-12"]
    outcomes = []
    for name, overrides in (("worse", worse), ("no-proof", no_proof)):
        run = Run(tmp_path / name, data, *overrides, "verdict.patience=2")
        ended = run()
        assert ended.returncode == 0, ended.stderr
        first = read_lines(run.folder / "round-1/verdict/verdict.json", Verdict)[0]
        trained = read_lines(run.folder / "round-2/pairs/pairs.jsonl", Pair)
        outcomes.append((first.action, {pair.round for pair in trained}))
    assert outcomes == [("roll back", {2}), ("retry", {1, 2})]


def test_a_refused_run_leaves_the_config_of_the_finished_one(undisturbed: Run) -> None:
    before = (undisturbed.folder / "config.yaml").read_bytes()
    assert undisturbed("bait.temperature=0.5").returncode == 3
    assert (undisturbed.folder / "config.yaml").read_bytes() == before


def test_merged_weights_and_restarts_serve_the_same_child(undisturbed: Run, data: Path, tmp_path: Path) -> None:
    outcomes = []
    for way in ("reload", "restart"):
        run = Run(tmp_path / way, data, f"serving.child={way}", "serving.while_training=stop")
        assert run().returncode == 0
        votes = read_lines(run.folder / "round-2" / "synthesis" / "votes.jsonl", Vote)
        outcomes.append([(vote.question.text, vote.winner) for vote in votes])
    adapter = read_lines(undisturbed.folder / "round-2" / "synthesis" / "votes.jsonl", Vote)
    assert outcomes == [[(vote.question.text, vote.winner) for vote in adapter]] * 2


def test_no_question_is_asked_in_two_rounds(undisturbed: Run) -> None:
    texts = [
        vote.question.text
        for number in (1, 2)
        for vote in read_lines(undisturbed.folder / f"round-{number}/synthesis/votes.jsonl", Vote)
    ]
    assert len(texts) == len(set(texts))
    candidates = read_lines(undisturbed.folder / "round-2/synthesis/candidates.jsonl", Candidate)
    too_near = [
        candidate.question.similarity
        for candidate in candidates
        if candidate.outcome in ("rewritten", "near-duplicate")
    ]
    threshold = float(OmegaConf.load(undisturbed.folder / "config.yaml").diversify.threshold)
    assert too_near
    assert all(similarity is not None and similarity >= threshold - 1e-5 for similarity in too_near)


def test_an_item_that_kills_the_engine_is_skipped_and_the_run_goes_on(data: Path, tmp_path: Path) -> None:
    rows = json.loads((data / "svamp" / "SVAMP.json").read_text())[:30]
    bodies = (f"{DEADLY} {number}." for number in range(99))
    rows[7]["Body"] = next(body for body in bodies if half(f"{body} {rows[7]['Question']}") is Split.dev)
    deadly = tmp_path / "data"
    (deadly / "svamp").mkdir(parents=True)
    (deadly / "svamp" / "SVAMP.json").write_text(json.dumps(rows))
    run = Run(tmp_path / "runs", deadly, "run.rounds=1", "verdict.gate=off", "serving.concurrency=4")
    ended = run()
    assert ended.returncode == 0, ended.stderr
    responses = read_lines(run.folder / "base/eval/responses.jsonl", Response)
    errors = [response for response in responses if response.finish_reason == "error"]
    assert [DEADLY in response.prompt for response in errors] == [True]
    assert "is skipped: the engine died of it twice" in ended.stdout
    deaths = (run.folder / "logs" / "engine_deaths.jsonl").read_text()
    assert deaths.count("\n") == 4, "twice under the base, twice under its child: it may fare better there"


def test_a_sweep_makes_one_run_for_each_point(data: Path, tmp_path: Path) -> None:
    run = Run(tmp_path, data, "run.rounds=1")
    swept = run("-m", "run.seed=1,2")
    assert swept.returncode == 0, swept.stderr
    configs = [OmegaConf.load(path) for path in sorted(tmp_path.glob("smoke-*/config.yaml"))]
    assert sorted(config.run.seed for config in configs) == [1, 2]
    assert len({config.run.name for config in configs}) == 2
    assert {config.tracking.group for config in configs} == {"smoke"}
    assert len(list(tmp_path.glob("smoke-*/round-1/verdict/manifest.json"))) == 2


@pytest.mark.parametrize("child", ["adapter", "reload"])
def test_a_student_learns_from_a_teacher_that_stays_the_same(data: Path, tmp_path: Path, child: str) -> None:
    run = Run(
        tmp_path, data, "run.name=smoke", "model.path=fake:0.9", "train.student=fake:0.2", f"serving.child={child}"
    )
    ended = run()
    assert ended.returncode == 0, ended.stderr
    assert run.leaves_nothing_running()
    accuracy = {
        place: json.loads((run.folder / place / "eval/manifest.json").read_text())["metrics"]["sums_dev/accuracy"]
        for place in ("base", "teacher", "round-1", "round-2")
    }
    assert accuracy["teacher"] > 0.75
    assert accuracy["base"] < 0.35, "the child is compared with the student's own base"
    assert accuracy["round-1"] > accuracy["base"]
    assert "teacher" in ended.stdout
    asked = [json.loads((run.folder / f"round-{n}/synthesis/manifest.json").read_text())["made_from"] for n in (1, 2)]
    assert asked[0]["inputs"]["parent"] == asked[1]["inputs"]["parent"], "the teacher asks in every round"
    verdicts = [read_lines(run.folder / f"round-{n}/verdict/verdict.json", Verdict)[0] for n in (1, 2)]
    assert verdicts[0].action == "accept"
    assert verdicts[0].parent == "smoke-base"
    assert verdicts[1].parent.startswith("smoke-r01-")


def test_all_weights_can_be_trained_and_only_the_best_kept(data: Path, tmp_path: Path) -> None:
    full = ("train.tuning=full", "serving.child=restart", "train.start=parent")
    run = Run(tmp_path, data, *full)
    assert run().returncode == 0
    jobs = [OmegaConf.load(run.folder / "jobs" / f"round-{n}-train.yaml") for n in (1, 2)]
    assert jobs[0].parent is None
    assert Path(jobs[1].parent) == (run.folder / "round-1/train/weights").resolve(), "the child is gone on from"
    assert not (run.folder / "round-1/train/adapter").exists()
    before = tree_digest(run.folder)
    verdicts = [read_lines(run.folder / f"round-{n}/verdict/verdict.json", Verdict)[0].action for n in (1, 2)]
    assert run("run.keep=best").returncode == 0, "a finished run can be made lean later"
    kept = [(run.folder / f"round-{n}/train/weights").exists() for n in (1, 2)]
    best = 2 if verdicts[1] == "accept" else 1
    assert verdicts[0] == "accept"
    assert kept == [best == 1, best == 2]
    assert tree_digest(run.folder) == before
    again = run("run.keep=best")
    assert again.returncode == 0
    assert "starts" not in again.stdout, "what was dropped on purpose is not made again"
    lost = run("run.keep=best", f"run.redo=round-{3 - best}/eval")
    assert lost.returncode == 69
    assert f"run.redo=round-{3 - best}/train" in lost.stderr
    assert run("run.keep=best", f"run.redo=round-{3 - best}/train").returncode == 0
    assert tree_digest(run.folder) == before
