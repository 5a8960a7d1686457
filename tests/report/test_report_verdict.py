"""The verdict of a report: what it claims, what limits the claim, and what is missing."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import mean

import msgspec
import pytest
from report_page import Element, report_of, table
from smoke_runs import change_records, reseal, reseal_alone, set_setting

from crescent.records import (
    Alarm,
    Response,
    Score,
    Verdict,
    Vote,
    read_lines,
    write_lines,
)


def guarded(root: Path) -> None:
    """As if the test benchmark were a guard, on which nothing was gained."""
    base = [
        response
        for response in read_lines(root / "base/eval/responses.jsonl", Response)
        if response.benchmark == "sums_test"
    ]
    for stage in ("base", "round-1", "round-2"):
        path = root / stage / "eval/scores.json"
        scores = msgspec.json.decode(path.read_bytes(), type=list[Score])
        path.write_bytes(msgspec.json.encode([replace(score, decides=True) for score in scores]))
        responses = read_lines(root / stage / "eval/responses.jsonl", Response)
        others = [response for response in responses if response.benchmark != "sums_test"]
        write_lines(root / stage / "eval/responses.jsonl", [*others, *base])
    reseal(root)


def test_the_verdict_comes_first_and_says_what_the_run_decided(run: Path, page: Element) -> None:
    main = page.all("main")[0]
    first = main.all("section")[0]
    for number in (1, 2):
        verdict = read_lines(run / f"round-{number}/verdict/verdict.json", Verdict)[0]
        assert verdict.reason in first.text
    base, best = (read_lines(run / stage / "eval/responses.jsonl", Response) for stage in ("base", "round-2"))
    shares = [
        100 * mean(response.correct for response in given if response.benchmark == "sums_dev") for given in (base, best)
    ]
    assert "Round 2’s child is the best checkpoint, better than the base on the deciding items." in first.text
    assert f"sums_dev: {shares[0]:.1f}% → {shares[1]:.1f}%" in first.text


def test_a_retried_child_is_named_as_such(zero: Path) -> None:
    def retried(verdict: object) -> object:
        assert isinstance(verdict, Verdict)
        alarms = (Alarm("one answer", 0.9, 0.5, "90% of its own questions have the same final answer (limit 50%)"),)
        return replace(verdict, action="retry", alarms=alarms)

    change_records(zero, "round-2/verdict/verdict.json", Verdict, retried)
    reseal(zero)
    page = report_of(zero)
    assert "Round 2 retried (run ended)" in page.text
    set_setting(zero, "rounds", "3")
    assert re.search(r"Round 2 retried (?!\(run ended\))", report_of(zero).text), "a third round is to come"
    assert "90% of its own questions have the same final answer (limit 50%)" in page.text
    assert "Alarms were raised in round 2" in page.text
    assert "Round 1’s child is the best checkpoint" in page.text


def test_a_half_finished_round_is_shown_as_far_as_it_goes(zero: Path) -> None:
    for stage in ("train", "eval", "verdict"):
        shutil.rmtree(zero / "round-2" / stage)
    page = report_of(zero)
    assert "Not finished: 1 of 2 rounds, next round-2/train." in page.text
    unfinished = "Round 2 not trained No verdict: this round is not finished. "
    assert re.search(rf"{unfinished}\d+ questions, agreement over all votes 0\.\d\d, \d+ new pairs", page.text)
    assert table(page, "Round 2, step by step")[-1][0] == "to be trained on"
    assert "Round 1’s child is the best checkpoint" in page.text


def test_a_run_that_has_only_begun_says_so(tmp_path: Path) -> None:
    (tmp_path / "begun/base/eval.partial").mkdir(parents=True)
    page = report_of(tmp_path / "begun")
    assert "No stage is finished, so there is nothing to report yet." in page.text
    assert "base/eval: not finished, so it was not read" in page.text
    assert "This run folder has no config.yaml" in page.text


def test_a_base_without_a_round_is_reported_without_a_verdict(zero: Path) -> None:
    for number in (1, 2):
        shutil.rmtree(zero / f"round-{number}")
    page = report_of(zero)
    assert "No child has been judged yet. sums_dev: the base scores" in page.text


def test_a_guard_on_which_nothing_was_gained_takes_nothing_from_the_claim(zero: Path) -> None:
    guarded(zero)
    first = report_of(zero).all("main")[0].all("section")[0].text
    assert "Round 2’s child is the best checkpoint, better than the base on the deciding items." in first
    assert "sums_test:" not in first.split("Voting alone")[0]


def test_of_several_deciding_benchmarks_all_items_together_decide_the_claim(zero: Path) -> None:
    def decided_on_both(verdict: object) -> object:
        assert isinstance(verdict, Verdict)
        return replace(verdict, benchmarks=("sums_dev", "sums_test"))

    change_records(zero, "round-2/verdict/verdict.json", Verdict, decided_on_both)
    guarded(zero)
    first = report_of(zero).all("main")[0].all("section")[0].text
    assert "better than the base on the deciding items" in first
    assert re.search(r"Together: \+\d+\.\d points \[.*\], p . 0\.\d+, on 70 items\.", first)


def test_an_accepted_child_that_chance_explains_is_not_called_better(zero: Path) -> None:
    """`gate=better` accepts any gain."""
    base = {
        (response.benchmark, response.item, response.sample): response
        for response in read_lines(zero / "base/eval/responses.jsonl", Response)
    }
    for stage in ("round-1", "round-2"):
        change_records(
            zero,
            f"{stage}/eval/responses.jsonl",
            Response,
            lambda response: base[response.benchmark, response.item, response.sample],
        )  # type: ignore[attr-defined]
    reseal(zero)
    assert "Round 2’s child is the best checkpoint, not shown to be better than the base." in report_of(zero).text


def test_a_child_is_held_against_votes_on_the_items_that_were_voted_on(run: Path, page: Element) -> None:
    votes = read_lines(run / "base/reliability/votes.jsonl", Vote)
    responses = read_lines(run / "round-2/eval/responses.jsonl", Response)
    target = {(response.benchmark, response.item): response.target for response in responses}
    voted = {(vote.question.bait, vote.question.id): vote.winner for vote in votes}
    right = {item: winner is not None and winner == target[item] for item, winner in voted.items()}
    child = [response for response in responses if (response.benchmark, response.item) in right]
    gain = mean(response.correct for response in child) - mean(right.values())
    first = page.all("main")[0].all("section")[0].text
    found = re.search(
        r"maj@8, 20 items\): on the same 20 items round 2’s child is ([a-z ]+) that, (\S+) points \[", first
    )
    assert found is not None
    assert float(found[2]) == pytest.approx(100 * gain, abs=0.051)
    p_value = float(re.findall(r"p\s[=<]\s(\d\.\d+)", first[found.start() :])[0])
    assert found[1] == ("not shown to be above" if p_value > 0.05 else "above")


def test_scores_on_different_items_are_not_ranked(zero: Path) -> None:
    """Older runs did not write down which of the votes were right."""
    (zero / "base/reliability/labels.jsonl").unlink()
    path = zero / "base/eval/scores.json"
    scores = msgspec.json.decode(path.read_bytes(), type=list[Score])
    path.write_bytes(msgspec.json.encode([replace(score, majority=None, pass_at={}) for score in scores]))
    reseal(zero)
    reseal_alone(zero / "base/reliability")
    first = report_of(zero).all("main")[0].all("section")[0].text
    assert re.search(r"\d% \[\S+, \S+\] on sums_dev \(maj@8, 20\sitems\); round 2’s child scores \S+% \[", first)
    assert "They were not compared item by item, so it is not shown that training gave more than voting." in first


def test_what_a_vote_cannot_reach_is_not_drawn_as_one(zero: Path) -> None:
    for stage in ("base", "round-1", "round-2"):
        path = zero / stage / "eval/scores.json"
        scores = msgspec.json.decode(path.read_bytes(), type=list[Score])
        path.write_bytes(msgspec.json.encode([replace(score, majority=None, pass_at={}) for score in scores]))
    reseal(zero)
    page = report_of(zero)
    drawn = next(element for element in page.all("figure") if "majority of 8 votes on 20 of the items" in element.text)
    assert [element.text for element in drawn.all("text") if "@" in element.text] == ["maj@8"]
    assert "an upper bound, not a vote" in page.text


@pytest.mark.parametrize("config", [None, b"", b"\x00\xff\xfe"])
def test_a_renamed_run_without_settings_knows_its_base(zero: Path, config: bytes | None) -> None:
    (zero / "config.yaml").unlink()
    if config is not None:
        (zero / "config.yaml").write_bytes(config)
    text = report_of(zero.rename(zero.with_name("other"))).text
    assert "was not read, so the items that changed" not in text
    assert "Base zero-base" in text
    assert "Gained: " in text


def test_an_evaluation_without_training_is_not_an_unfinished_run(zero: Path) -> None:
    for stage in ("base/reliability", "base/benchmarks", "round-1", "round-2", "jobs"):
        shutil.rmtree(zero / stage)
    (zero / "config.yaml").write_text("adapter: null\neval: {samples: 2}\n")
    page = report_of(zero)
    assert "One model was evaluated; nothing was trained. sums_dev: the model scores" in page.text
    assert "Not finished" not in page.text
    other = Path(shutil.copytree(zero, zero.parent / "other"))
    page = report_of(zero, other)
    rows = table(page, "Models compared with zero on the same items")
    assert [row[:3] for row in rows[1:]] == [
        ["other", benchmark, "0.0 [0.0, 0.0]"] for benchmark in ("sums_dev", "sums_test")
    ]
    assert "no child judged" not in page.text


def test_what_was_not_measured_is_said(zero: Path) -> None:
    """A run without votes on labelled items and without samples, made before there were monitors or candidates."""
    shutil.rmtree(zero / "base/reliability")
    for stage in ("base", "round-1", "round-2"):
        path = zero / stage / "eval/scores.json"
        scores = msgspec.json.decode(path.read_bytes(), type=list[Score])
        path.write_bytes(msgspec.json.encode([replace(score, majority=None, pass_at={}) for score in scores]))
    for number in (1, 2):
        (zero / f"round-{number}/synthesis/candidates.jsonl").unlink()

    def older(manifest: dict[str, object]) -> None:
        metrics = manifest["metrics"]
        assert isinstance(metrics, dict)
        manifest["metrics"] = {name: value for name, value in metrics.items() if not name.startswith("monitor/")}

    reseal(zero, older)
    page = report_of(zero)
    assert "What voting alone would give the base on sums_dev was not measured" in page.text
    assert "Diversity and collapse" not in page.text
    assert "maj@" not in page.text


def test_files_of_another_version_are_named_and_left_out(zero: Path) -> None:
    (zero / "round-1/synthesis/votes.jsonl").write_text('{"question":"another form"}\n')
    (zero / "base/reliability/reliability.json").write_text('{"sums_dev": 3}')
    reseal(zero)
    reseal_alone(zero / "base/reliability")
    page = report_of(zero)
    assert "votes.jsonl, line 1: not a Vote" in page.text
    assert "reliability.json: cannot be read" in page.text
    assert "Round 2’s child is the best checkpoint" in page.text


def test_scores_that_cannot_be_read_are_not_taken_for_none(zero: Path) -> None:
    path = zero / "base/eval/scores.json"
    path.write_text(path.read_text().replace('"unparsed"', '"parsed"'))
    reseal(zero)
    first = report_of(zero).all("main")[0].all("section")[0].text
    assert "base/eval/scores.json: cannot be read" in first
    assert "No benchmark may decide" not in first
    assert "There is no test benchmark" not in first
    assert re.search(r"sums_dev: \d+\.\d%, \+\d+\.\d points \[", first), "what its responses show is still reported"
