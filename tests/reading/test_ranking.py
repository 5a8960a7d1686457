"""Trained runs ranked on the same items."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from smoke_runs import rename_items, reseal, sweep_of

from crescent.reading.runs import compare_runs
from crescent.records import Response, Verdict, read_lines, write_lines
from crescent.show.compare import as_markdown, as_text


def test_runs_are_ranked_and_compared_with_the_best_on_the_same_items(zero: Path, tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    points = (("the-worst-of-three", 4, 0, 12), ("the-one-between-them", 6, 0, 2), ("the-very-best-of-all", 8, 0, 0))
    roots = sweep_of(zero, tmp_path / "sweep", *points)
    found = compare_runs(roots)
    ranking = found.ranking
    assert ranking is not None
    assert [standing.runs for standing in ranking.standings] == [(root.name,) for root in reversed(roots)]
    best, between, worst = ranking.standings
    right = sum(response.correct for response in read_lines(zero / "round-2/eval/responses.jsonl", Response)[:40])
    assert best.accuracy == right / 40
    for standing, wrong, holm in ((between, 2, 1), (worst, 12, 2)):
        assert standing.against_best is not None
        assert (standing.against_best.difference, standing.against_best.gained, standing.against_best.lost) == (
            -wrong / 40,
            0,
            wrong,
        )
        assert standing.against_best.p_value == pytest.approx(2 / 2**wrong)
        assert standing.against_best.p_holm == pytest.approx(holm * 2 / 2**wrong)
    text = as_text(found)
    assert max(map(len, text.splitlines())) <= 120
    text = " ".join(text.split())
    assert text.startswith("samples=8 came out best of 3 runs on sums_dev (40 items): ")
    rule = "p <= 0.05, exact McNemar test on the same items, Holm-adjusted for 2"
    assert f"It is significantly better than samples=4 ({rule}); not than samples=6." in text
    assert "It was selected as the best of 3: expect a smaller gain on new items." in text
    assert "On sums_test (not used for selection) it gains +" in text
    assert "- samples=8 came out best of 3 runs" in as_markdown(found)
    for root in roots:
        path = root / "round-2/verdict/verdict.json"
        write_lines(path, [replace(read_lines(path, Verdict)[0], benchmarks=("sums_dev", "sums_test"))])
        reseal(root)
    pooled = compare_runs(roots).ranking
    assert pooled is not None
    assert (pooled.benchmarks, pooled.items) == (("sums_dev", "sums_test"), 70)
    worst = pooled.standings[-1]
    assert worst.gain is not None
    assert worst.gain.items == 70
    assert worst.gains == (pytest.approx(worst.gain.difference),)
    assert worst.against_best is not None
    assert (
        worst.against_best.difference
        == pytest.approx(worst.accuracy - pooled.standings[0].accuracy)
        == pytest.approx(-12 / 70)
    )


def test_settings_with_several_seeds_are_ranked_by_their_means(zero: Path, tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    points = (("a-run-of-many-0", 4, 0, 12), ("a-run-of-many-1", 4, 1, 0), ("b-run-of-many-0", 6, 0, 5))
    found = compare_runs(sweep_of(zero, tmp_path / "sweep", *points, ("b-run-of-many-1", 6, 1, 5)))
    ranking = found.ranking
    assert ranking is not None
    first, second = ranking.standings
    assert first.runs == ("b-run-of-many-0", "b-run-of-many-1")
    assert first.accuracies == (first.accuracy, first.accuracy)
    assert second.against_best is not None
    assert (second.shared_seeds, second.against_best.items, second.against_best.difference) == (2, 40, -1 / 40)
    assert not second.is_worse_than(first), "one seed is the best of all, the other the worst"
    text = as_text(found)
    assert "samples=6 came out best of 2 settings on sums_dev" in text
    assert "means of 2 seeds" in " ".join(text.split())
    averaged = text[text.index("over seeds:") : text.index("settings that differ")]
    assert "samples=4  sums_dev" in averaged
    assert "a-run-of-many" not in averaged


def test_a_best_child_that_was_not_accepted_is_named_as_such(zero: Path, tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    roots = sweep_of(zero, tmp_path / "sweep", ("a", 4, 0, 3), ("b", 6, 0, 0))
    for number in (1, 2):
        path = roots[1] / f"round-{number}/verdict/verdict.json"
        write_lines(path, [replace(read_lines(path, Verdict)[0], action="roll back", difference=number / 10)])
    reseal(roots[1])
    found = compare_runs(roots)
    assert found.ranking is not None
    best, other = found.ranking.standings
    assert (best.runs, best.rounds, best.accepted) == (("b",), (2,), (False,))
    assert other.accepted == (True,)
    text = as_text(found)
    assert "Its child was not accepted; a run that accepts no child ends with its base." in text
    assert "round 2, not accepted" in text
    assert "The best accepted one is a: " in text


def test_a_run_that_was_asked_other_items_is_not_ranked(zero: Path, tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    points = (("a", 4, 0, 0), ("b", 6, 0, 5), ("c", 8, 0, 0))
    roots = sweep_of(zero, tmp_path / "sweep", *points)
    rename_items(roots[2], ("base/eval", "round-1/eval", "round-2/eval"), "sums_dev")
    shutil.rmtree(roots[1] / "round-1/verdict")
    found = compare_runs(roots)
    assert found.ranking is None, "only one run of each kind"
    (tmp_path / "again").mkdir()
    found = compare_runs([*sweep_of(zero, tmp_path / "again", ("d", 5, 0, 3)), *roots])
    assert found.ranking is not None
    assert found.ranking.left_out == {"b": "no child judged yet", "c": "other items decide"}
    assert "Not ranked: b (no child judged yet), c (other items decide)." in as_text(found)
