"""The whole method in one run: a pool of baits, replay, quarantine, reliability, another run's questions."""

import json
from pathlib import Path

import pytest
from test_loop import Run

from crescent.records import BaitCount, Candidate, Pair, Quarantined, Response, Vote, read_lines

METHOD = (
    "bait=pool",
    "bait.topics=3",
    "bait.difficulties=2",
    "bait.questions=60",
    "diversify.threshold=0.97",
    "pairs.replay.share=0.1",
    "eval.reliability=12",
    "eval.benchmarks.sums_dev.items=60",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark of the very sums that the fake model invents, a quarter of them all."""
    folder = tmp_path_factory.mktemp("data") / "svamp"
    folder.mkdir()
    sums = [(first, second) for first in range(40) for second in range(40) if (first + 3 * second) % 4 == 0]
    rows = [
        {"ID": f"{a}-{b}", "Body": "", "Question": f"What is {a} + {b}?", "Answer": float(a + b), "Type": "Addition"}
        for a, b in sums
    ]
    (folder / "SVAMP.json").write_text(json.dumps(rows))
    return folder.parent


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("whole"), data, *METHOD)
    ended = run()
    assert ended.returncode == 0, ended.stderr
    return run


def metrics(run: Run, stage: str) -> dict[str, float]:
    found: dict[str, float] = json.loads((run.folder / stage / "manifest.json").read_text())["metrics"]
    return found


def test_both_rounds_ask_the_same_pool_in_other_proportions(whole: Run) -> None:
    first, second = (read_lines(whole.folder / f"round-{n}/synthesis/baits.jsonl", BaitCount) for n in (1, 2))
    assert len(first) == metrics(whole, "round-1/synthesis")["baits"] > 6
    assert [its.bait for its in first] == [its.bait for its in second]
    assert sum(its.asked for its in first) == sum(its.asked for its in second) == 60
    assert [its.asked for its in first] != [its.asked for its in second]
    assert "{topic}" not in "".join(its.bait.prompt for its in first)


def test_what_became_of_every_candidate_is_written_down(whole: Run) -> None:
    for number in (1, 2):
        folder = whole.folder / f"round-{number}/synthesis"
        candidates = read_lines(folder / "candidates.jsonl", Candidate)
        assert {its.question.index for its in candidates} == set(range(60))
        accepted = [its.question for its in candidates if its.outcome == "accepted"]
        assert accepted == [its.question for its in read_lines(folder / "votes.jsonl", Vote)]
        rewritten = {its.question.id for its in candidates if its.outcome == "rewritten"}
        assert {its.question.parent for its in candidates if its.question.rewrites} <= rewritten


def test_questions_like_a_benchmarks_are_set_aside_and_never_trained_on(whole: Run) -> None:
    folder = whole.folder / "round-1/pairs"
    aside = read_lines(folder / "quarantine.jsonl", Quarantined)
    assert len(aside) == metrics(whole, "round-1/pairs")["quarantined"] > 0
    assert {its.rule for its in aside} <= {"ngram", "masked", "similarity"}
    trained = {pair.question for pair in read_lines(folder / "pairs.jsonl", Pair)}
    assert not trained & {its.question.id for its in aside}
    benchmark = {its.item_question for its in aside}
    assert benchmark == {its.question.text for its in aside}
    # Not only those that are asked: 60 of the dev half's 200 or so.
    asked = {its.item for its in read_lines(whole.folder / "base/eval/responses.jsonl", Response)}
    assert {its.item for its in aside} - asked


def test_general_instructions_are_mixed_in_once_written(whole: Run) -> None:
    written = read_lines(whole.folder / "base/replay/pairs.jsonl", Pair)
    mixed = [pair for pair in read_lines(whole.folder / "round-2/pairs/pairs.jsonl", Pair) if pair.source == "replay"]
    assert {pair.id for pair in mixed} <= {pair.id for pair in written}
    assert len(mixed) == metrics(whole, "round-2/pairs")["replayed"] > 0
    total = metrics(whole, "round-2/pairs")["total"]
    assert len(mixed) <= 0.1 * total


def test_the_base_is_measured_before_the_first_round(whole: Run) -> None:
    found = metrics(whole, "base/reliability")
    assert 0 < found["sums_dev/single"] <= found["sums_dev/majority"] <= 1
    assert (whole.folder / "base/reliability/votes.jsonl").exists()


def test_another_runs_questions_count_as_earlier_ones(whole: Run, data: Path, tmp_path: Path) -> None:
    alone = Run(tmp_path / "alone", data, "run.rounds=1", "run.seed=5", "diversify.threshold=0.97")
    after = Run(tmp_path / "after", data, *alone.arguments[-3:], f"diversify.runs=[{whole.folder}]")
    for run in (alone, after):
        ended = run()
        assert ended.returncode == 0, ended.stderr
    asked = {its.question.text for its in read_lines(whole.folder / "round-1/synthesis/votes.jsonl", Vote)}
    again, anew = (
        asked & {its.question.text for its in read_lines(run.folder / "round-1/synthesis/votes.jsonl", Vote)}
        for run in (alone, after)
    )
    assert again
    assert not anew


def test_a_folder_that_is_no_run_is_refused_before_anything_starts(data: Path, tmp_path: Path) -> None:
    ended = Run(tmp_path, data, f"diversify.runs=[{tmp_path}]")()
    assert ended.returncode == 2
    assert "diversify.runs" in ended.stderr
    assert "runs/NAME" in ended.stderr


def test_a_benchmark_that_is_not_there_ends_the_run_before_the_engine_starts(tmp_path: Path) -> None:
    run = Run(tmp_path, tmp_path)
    run.environment["HF_HUB_OFFLINE"] = "1"
    ended = run()
    assert ended.returncode == 69
    assert "svamp" in ended.stderr.lower()
    assert not (run.folder / "logs" / "server.log").exists()


def test_the_authors_rule_accepts_what_ours_would_reject(data: Path, tmp_path: Path) -> None:
    run = Run(
        tmp_path,
        data,
        "run.rounds=1",
        "bait.questions=120",
        "diversify.recheck=never",
        "diversify.batch=20",
        "diversify.threshold=0.4",
        "diversify.history_threshold=0.4",
        "consensus.samples=3",
        "consensus.min_agreement=0",
        "consensus.keep_ties=true",
        "consensus.adaptive=false",
    )
    ended = run()
    assert ended.returncode == 0, ended.stderr
    votes = read_lines(run.folder / "round-1/synthesis/votes.jsonl", Vote)
    unchecked = [its.question for its in votes if its.question.rewrites]
    assert any(its.similarity is not None and its.similarity >= 0.4 for its in unchecked)
    assert {its.question.rewrites for its in votes} == {0, 1}
    ties = [its for its in votes if its.winner is not None and its.votes == 1]
    assert ties


def test_what_another_run_does_later_does_not_keep_ours_from_going_on(data: Path, tmp_path: Path) -> None:
    other = Run(tmp_path / "other", data, "run.rounds=1")
    ours = Run(tmp_path / "ours", data, "run.rounds=1", f"diversify.runs=[{other.folder},{tmp_path / 'ours/smoke'}]")
    for run in (other, ours):
        assert run().returncode == 0
    assert other("run.rounds=2").returncode == 0
    ended = ours("run.rounds=2")
    assert ended.returncode == 0, ended.stderr
