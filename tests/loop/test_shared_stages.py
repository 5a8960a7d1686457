"""Runs that share what they share: arms of a sweep on one synthesis, and a run that takes over another one's stages."""

import json
import shutil
from pathlib import Path

import pytest
from test_loop import Run, write_sums

from crescent.reading.rounds import read_run
from crescent.records import Pair, Vote, read_lines
from crescent.report.run import read_report
from crescent.run_folder.manifest import MANIFEST, REUSED, reused_from, tree_digest, verified_manifest
from crescent.tasks.computation import truth
from crescent.tasks.equivalence import as_number

ARMS = ("majority", "first", "shuffled", "gold")
SHARED = ("base/benchmarks", "base/eval", "round-1/synthesis")
QUICK = ("run.rounds=1", "bait.questions=60", "pairs.max_unanimous=1")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sums(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def sweep(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], str]:
    """Four arms on fakes: their folders, and what was printed."""
    run = Run(tmp_path_factory.mktemp("arms"), data, *QUICK)
    ended = run("-m", f"pairs.labels={','.join(ARMS)}", timeout_s=600)
    assert ended.returncode == 0, ended.stderr
    root = run.folder.parent
    (folders,) = [{arm: next(root.glob(f"smoke-labels-{arm}-*")) for arm in ARMS}]
    return folders, ended.stdout


def pairs_of(root: Path) -> list[Pair]:
    return read_lines(root / "round-1/pairs/new.jsonl", Pair)


def test_a_sweep_of_arms_pays_its_synthesis_and_its_base_once(sweep: tuple[dict[str, Path], str]) -> None:
    folders, printed = sweep
    for stage in SHARED:
        assert printed.count(f"{stage}: starts") == 1
        assert printed.count(f"{stage}: reused from {folders['majority']} (same settings and inputs)") == 3
        assert len({verified_manifest(root / stage)["digest"] for root in folders.values()}) == 1  # type: ignore[index]
    for stage in ("round-1/pairs", "round-1/train", "round-1/eval", "round-1/verdict"):
        assert printed.count(f"{stage}: starts") == 4
    assert "round-1/pairs: not reused from" in printed
    assert "pairs.labels 'majority' → 'first'" in printed
    assert "pairs.labels=gold uses labels" in printed


def test_arms_of_a_sweep_train_on_the_same_questions(sweep: tuple[dict[str, Path], str]) -> None:
    majority, first, shuffled, gold = (pairs_of(sweep[0][arm]) for arm in ARMS)
    assert len(majority) > 10
    for arm in (first, shuffled):
        assert [pair.question for pair in arm] == [pair.question for pair in majority]
    assert {pair.question for pair in gold} <= {pair.question for pair in majority}
    votes = {vote.question.id: vote for vote in read_lines(sweep[0]["gold"] / "round-1/synthesis/votes.jsonl", Vote)}
    for pair in gold:
        known = truth(votes[pair.question].question.text)
        assert known is not None
        assert as_number(pair.final) == known.value
    assert all(mine.final != theirs.final for mine, theirs in zip(shuffled, majority, strict=True))


def test_every_stage_has_its_metrics_once_and_is_paid_for_once(sweep: tuple[dict[str, Path], str]) -> None:
    folders, _ = sweep
    for arm, root in folders.items():
        lines = [json.loads(line)["stage"] for line in (root / "metrics.jsonl").read_text().splitlines()]
        stages = [path.parent.relative_to(root).as_posix() for path in root.glob(f"*/*/{MANIFEST}")]
        assert sorted(lines) == sorted(stages)
        report = read_report(read_run(root, root.name), samples=False)
        reused = {cost.stage: cost.made_by for cost in report.costs.reused}
        assert reused == ({} if arm == "majority" else dict.fromkeys(SHARED, str(folders["majority"])))
        own = [json.loads((root / stage / MANIFEST).read_text())["seconds"] for stage in stages if stage not in reused]
        assert report.costs.seconds() == pytest.approx(sum(own))
        base, row = report.summary.rounds
        assert (row.tokens == 0, base.seconds == 0) == (arm != "majority", arm != "majority")
        reread = " ".join(report.summary.missing)
        assert ("round-1/synthesis: reused from" in reread) == (arm != "majority")


def test_the_report_says_where_reused_stages_are_counted(sweep: tuple[dict[str, Path], str]) -> None:
    page = (sweep[0]["gold"] / "report.html").read_text()
    assert f"{', '.join(SHARED)}, made by {sweep[0]['majority']} in " in page
    assert "and reused." not in (sweep[0]["majority"] / "report.html").read_text()


def test_a_plan_of_a_further_arm_tells_what_it_will_reuse(
    sweep: tuple[dict[str, Path], str], data: Path, tmp_path: Path
) -> None:
    root = sweep[0]["majority"].parent
    planned = Run(root, data, *QUICK)("-m", "pairs.labels=minority", "mode=plan")
    assert planned.returncode == 0, planned.stderr
    text = " ".join(planned.stdout.split())
    for stage in SHARED:
        assert f"│ {stage} │ no │ will be reused from" in text
    assert "│ round-1/pairs │ no │ not made yet;" in text
    assert "pairs.labels=minority 10 to 40% of the answers against a weak majority are right" in text
    assert not list(root.glob("smoke-labels-minority-*"))


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of two rounds that reuses nothing."""
    run = Run(tmp_path_factory.mktemp("alone"), data)
    ended = run()
    assert ended.returncode == 0, ended.stderr
    return run


def test_a_run_that_reuses_everything_equals_one_that_reuses_nothing_also_when_killed(
    alone: Run, data: Path, tmp_path: Path
) -> None:
    run = Run(tmp_path, data, f"run.reuse=[{alone.folder}]")
    for place in ("reuse.link:3", "reuse.rename:2", "reuse.note:5"):
        assert run(failpoint=f"{place}=kill9").returncode == -9
    assert run.leaves_nothing_running()
    ended = run()
    assert ended.returncode == 0, ended.stderr
    assert tree_digest(run.folder) == tree_digest(alone.folder)
    assert run.metrics() == alone.metrics()
    made = {line.split("  ")[1].partition(":")[0] for line in ended.stdout.splitlines() if line.endswith(": starts")}
    assert made == {"round-1/verdict", "round-2/verdict"}, "a verdict names the checkpoints of its run"
    assert not (run.folder / "logs/server.log").exists(), "no engine was needed"
    again = run()
    assert again.returncode == 0
    assert "reused" not in again.stdout
    assert not list(run.folder.rglob("*.draft"))


def test_a_damaged_run_gives_what_is_intact_and_says_what_is_not(alone: Run, data: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(alone.folder, damaged)
    with (damaged / "round-1/synthesis/votes.jsonl").open("a") as file:
        file.write("\n")
    run = Run(tmp_path, data, f"run.reuse=[{damaged}]", "run.rounds=1")
    ended = run()
    assert ended.returncode == 0, ended.stderr
    assert f"round-1/synthesis: not reused from {damaged}: votes.jsonl is not as it was written" in ended.stdout
    assert "round-1/synthesis: starts" in ended.stdout
    assert f"round-1/pairs: reused from {damaged}" in ended.stdout, "made from the same synthesis, made again"
    for stage in ("synthesis", "train", "eval", "verdict"):
        mine, theirs = (verified_manifest(root / f"round-1/{stage}") for root in (run.folder, alone.folder))
        assert mine is not None
        assert theirs is not None
        assert mine["digest"] == theirs["digest"]


def test_a_name_that_is_no_run_is_refused_with_those_that_are(alone: Run, data: Path, tmp_path: Path) -> None:
    shutil.copytree(alone.folder, tmp_path / "earlier")
    run = Run(tmp_path, data, "run.reuse=[erlier]")
    for arguments in ((), ("mode=plan",)):
        refused = run(*arguments)
        assert refused.returncode == 2
        assert "run.reuse=erlier: neither erlier nor" in refused.stderr
        assert str(tmp_path / "earlier") in refused.stderr
        assert not run.folder.exists()
    planned = Run(tmp_path, data, "run.reuse=[earlier]")("mode=plan")
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.count("will be reused from") == 10


def test_a_run_that_read_other_data_is_left_out(alone: Run, data: Path, tmp_path: Path) -> None:
    other = shutil.copytree(data, tmp_path / "data")
    run = Run(tmp_path, data, f"run.reuse=[{alone.folder}]", f"eval.data={other}", "run.rounds=1", "bait.questions=20")
    ended = run()
    assert ended.returncode == 0, ended.stderr
    assert f"run.reuse={alone.folder}: left out" in ended.stdout
    assert not list(run.folder.rglob(f"*{REUSED}"))


def test_with_fixed_labels_the_base_asks_in_every_round(alone: Run, data: Path, tmp_path: Path) -> None:
    run = Run(tmp_path, data, f"run.reuse=[{alone.folder}]", "pairs.labels=fixed")
    ended = run()
    assert ended.returncode == 0, ended.stderr
    inputs = [
        json.loads((run.folder / f"round-{number}/synthesis" / MANIFEST).read_text())["made_from"]["inputs"]
        for number in (1, 2)
    ]
    assert inputs[0]["parent"] == inputs[1]["parent"]
    assert reused_from(run.folder / "round-1/train") == str(alone.folder), "the first round is the majority arm's"
    assert reused_from(run.folder / "round-2/synthesis") is None
    assert "rounds" in ended.stdout
