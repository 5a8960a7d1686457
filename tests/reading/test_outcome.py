"""What a run has come to: its best accepted checkpoint, whatever children came after it."""

import json
from dataclasses import asdict
from pathlib import Path

from crescent.reading.finished import RunReader
from crescent.reading.outcome import read_outcome
from crescent.records import Action, Score, Verdict, write_lines
from crescent.run_folder.manifest import seal

MADE = {"metrics": {}, "seconds": 1.0, "made_from": {"inputs": {}, "settings": {}, "version": "0"}}


def evaluate(root: Path, place: str, **correct: int) -> None:
    folder = root / place / "eval"
    folder.mkdir(parents=True)
    decides = {"dev": True, "more": True, "guard": True, "test": False}
    total = {"dev": 100, "more": 300, "guard": 10, "test": 50}
    scores = [Score(name, count, 0, total[name], 0.0, 1.0, decides[name]) for name, count in correct.items()]
    (folder / "scores.json").write_text(json.dumps([asdict(score) for score in scores]))
    seal(folder, MADE)


def judge(root: Path, number: int, action: Action) -> None:
    folder = root / f"round-{number}/verdict"
    folder.mkdir(parents=True)
    numbers = {"difference": 0.5, "low": 0.4, "high": 0.6, "p_value": 0.01, "gained": 9, "lost": 0, "items": 400}
    verdict = Verdict(action, "because", f"a-r{number:02d}", "a-base", **numbers, benchmarks=("dev", "more"))
    write_lines(folder / "verdict.json", [verdict])
    seal(folder, MADE)


def test_a_child_that_was_not_accepted_changes_nothing(tmp_path: Path) -> None:
    evaluate(tmp_path, "base", dev=50, more=30, guard=9, test=5)
    for number, action, dev in ((1, "accept", 60), (2, "retry", 90), (3, "roll back", 99)):
        evaluate(tmp_path, f"round-{number}", dev=dev, more=60, guard=1, test=10)
        judge(tmp_path, number, action)
    outcome = read_outcome(RunReader(tmp_path))
    assert outcome is not None
    assert outcome.metrics == {
        "best/dev": 0.6,
        "best/more": 0.2,
        "best/guard": 0.1,
        "best/test": 0.2,
        "gain_over_base": (10 + 30) / 400,
        "accepted_rounds": 1.0,
    }, "items of all deciding benchmarks count together, and guards and test benchmarks do not decide"


def test_the_last_accepted_child_is_the_best_and_earlier_rounds_can_be_asked_for(tmp_path: Path) -> None:
    evaluate(tmp_path, "base", dev=50)
    for number, dev in ((1, 60), (2, 55)):
        evaluate(tmp_path, f"round-{number}", dev=dev)
        judge(tmp_path, number, "accept")
    until = [read_outcome(RunReader(tmp_path), number) for number in (0, 1, 2)]
    assert [outcome and outcome.accepted_rounds for outcome in until] == [0, 1, 2]
    assert [outcome and round(outcome.gain_over_base, 6) for outcome in until] == [0.0, 0.1, 0.05]


def test_where_nothing_was_accepted_the_base_is_the_best_and_the_gain_is_nothing(tmp_path: Path) -> None:
    assert read_outcome(RunReader(tmp_path)) is None, "no base was evaluated"
    evaluate(tmp_path, "base", dev=50)
    evaluate(tmp_path, "round-1", dev=90)
    judge(tmp_path, 1, "retry")
    outcome = read_outcome(RunReader(tmp_path))
    assert outcome is not None
    assert outcome.metrics == {"best/dev": 0.5, "gain_over_base": 0.0, "accepted_rounds": 0.0}
