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
    assert [count.bait for count in first] == [count.bait for count in second]
    assert sum(count.asked for count in first) == sum(count.asked for count in second) == 60
    assert [count.asked for count in first] != [count.asked for count in second]
    assert "{topic}" not in "".join(count.bait.prompt for count in first)


def test_the_outcome_of_every_candidate_is_recorded(whole: Run) -> None:
    for number in (1, 2):
        folder = whole.folder / f"round-{number}/synthesis"
        candidates = read_lines(folder / "candidates.jsonl", Candidate)
        assert {candidate.question.index for candidate in candidates} == set(range(60))
        accepted = [candidate.question for candidate in candidates if candidate.outcome == "accepted"]
        assert accepted == [vote.question for vote in read_lines(folder / "votes.jsonl", Vote)]
        rewritten = {candidate.question.id for candidate in candidates if candidate.outcome == "rewritten"}
        assert {candidate.question.parent for candidate in candidates if candidate.question.rewrites} <= rewritten


def test_questions_near_a_benchmark_are_quarantined_and_never_trained_on(whole: Run) -> None:
    folder = whole.folder / "round-1/pairs"
    aside = read_lines(folder / "quarantine.jsonl", Quarantined)
    assert len(aside) == metrics(whole, "round-1/pairs")["quarantined"] > 0
    assert {hit.rule for hit in aside} <= {"ngram", "masked", "similarity"}
    trained = {pair.question for pair in read_lines(folder / "pairs.jsonl", Pair)}
    assert not trained & {hit.question.id for hit in aside}
    benchmark = {hit.item_question for hit in aside}
    assert benchmark == {hit.question.text for hit in aside}
    # Not only the items that are evaluated: those are 60 of the dev half's 200 or so.
    asked = {response.item for response in read_lines(whole.folder / "base/eval/responses.jsonl", Response)}
    assert {hit.item for hit in aside} - asked


def test_general_instructions_are_mixed_into_the_training_pairs(whole: Run) -> None:
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
    asked = {vote.question.text for vote in read_lines(whole.folder / "round-1/synthesis/votes.jsonl", Vote)}
    again, anew = (
        asked & {vote.question.text for vote in read_lines(run.folder / "round-1/synthesis/votes.jsonl", Vote)}
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


def test_the_authors_rule_accepts_questions_that_ours_would_reject(data: Path, tmp_path: Path) -> None:
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
    unchecked = [vote.question for vote in votes if vote.question.rewrites]
    assert any(question.similarity is not None and question.similarity >= 0.4 for question in unchecked)
    assert {vote.question.rewrites for vote in votes} == {0, 1}
    ties = [vote for vote in votes if vote.winner is not None and vote.votes == 1]
    assert ties


def test_a_run_continues_whatever_another_run_it_reads_did_since(data: Path, tmp_path: Path) -> None:
    other = Run(tmp_path / "other", data, "run.rounds=1")
    ours = Run(tmp_path / "ours", data, "run.rounds=1", f"diversify.runs=[{other.folder},{tmp_path / 'ours/smoke'}]")
    for run in (other, ours):
        assert run().returncode == 0
    assert other("run.rounds=2").returncode == 0
    ended = ours("run.rounds=2")
    assert ended.returncode == 0, ended.stderr
