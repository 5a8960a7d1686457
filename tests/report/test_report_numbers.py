"""The numbers of a report, counted again by hand."""

import json
import shutil
from itertools import pairwise
from pathlib import Path
from statistics import mean

import msgspec
import pytest
from report_page import Element, report_of, table
from smoke_runs import reseal

from crescent.machine.environment import Environment, Gpu
from crescent.reading.rounds import read_run
from crescent.records import (
    Pair,
    Response,
    Score,
    Vote,
    read_lines,
    write_lines,
)
from crescent.report.funnel import funnel
from crescent.report.run import read_report
from crescent.run_folder.manifest import MANIFEST, seal, verified_manifest


def test_scores_are_those_of_the_responses_counted_by_hand(run: Path, page: Element) -> None:
    rows = {row[0]: row for row in table(page, "sums_dev: accuracy with")}
    head = rows["checkpoint"]
    for name, folder in (("base", "base"), ("round 1", "round-1"), ("round 2", "round-2")):
        given = [
            response
            for response in read_lines(run / folder / "eval/responses.jsonl", Response)
            if response.benchmark == "sums_dev"
        ]
        assert rows[name][head.index("accuracy %")].startswith(
            f"{100 * mean(response.correct for response in given):.1f} ["
        )
        assert rows[name][head.index("unparsed")] == str(sum(response.final is None for response in given))
        scores = msgspec.json.decode((run / folder / "eval/scores.json").read_bytes(), type=list[Score])
        majority = next(score.majority for score in scores if score.benchmark == "sums_dev")
        assert majority is not None
        assert rows[name][head.index("maj@k %")] == f"{100 * majority:.1f}"


def test_no_question_of_the_funnel_is_unaccounted_for(run: Path, page: Element) -> None:
    for number in (1, 2):
        parts = [verified_manifest(run / f"round-{number}" / stage) for stage in ("synthesis", "pairs", "train")]
        steps = funnel(*(manifest["metrics"] for manifest in parts if manifest))
        through = [step for step in steps if step.name not in ("new training pairs", "trained on")]
        for before, after in pairwise(through):
            assert before.count - sum(dropped.count for dropped in after.dropped) == after.count, after.name
        assert steps[-2].count == len(read_lines(run / f"round-{number}/pairs/new.jsonl", Pair))
        assert steps[-1].count == len(read_lines(run / f"round-{number}/pairs/pairs.jsonl", Pair))
        assert [row[:2] for row in table(page, f"Round {number}, step by step")[1:]][:1] == [
            [steps[0].name, f"{steps[0].count:.0f}"]
        ]


def test_questions_that_an_arm_has_no_answer_to_are_lost_for_its_reason() -> None:
    pairs = {"pairs": 4, "questions": 4, "below_cut": 1, "not_computable": 3, "never_right": 2, "total": 4}
    steps = funnel({"candidates": 10, "questions": 10}, pairs, {})
    labelled = next(step for step in steps if step.name == "with a label to train on")
    assert [(dropped.reason, dropped.count) for dropped in labelled.dropped] == [
        ("too little agreement", 1),
        ("not computable (pairs.labels=gold)", 3),
        ("never right (pairs.labels=gold)", 2),
    ]


def test_labels_without_a_majority_do_not_count_as_lost() -> None:
    """A control arm trains on first answers: ties and low agreement are counted, but kept."""
    pairs = {"pairs": 9, "questions": 9, "silent": 1, "ties": 3, "below_cut": 4, "total": 9}
    steps = funnel({"candidates": 10, "questions": 10}, pairs, {})
    labelled = next(step for step in steps if step.name == "with a label to train on")
    assert labelled.count == 9
    assert [(dropped.reason, dropped.count) for dropped in labelled.dropped] == [("no label", 1)]


def test_time_and_money_add_up(run: Path, page: Element) -> None:
    seconds = {
        path.parent.relative_to(run).as_posix(): json.loads(path.read_text())["seconds"]
        for path in run.glob(f"*/*/{MANIFEST}")
    }
    rows = {row[0]: row for row in table(page, "Costs")}
    assert float(rows["all"][rows[""].index("money")]) == pytest.approx(3 * sum(seconds.values()) / 3600, abs=0.01)
    costs = read_report(read_run(run, "zero")).costs
    assert costs.seconds() == pytest.approx(sum(seconds.values()))
    assert costs.until(1) == pytest.approx(
        sum(taken for name, taken in seconds.items() if not name.startswith("round-2"))
    )
    assert "--rate" in report_of(Path(shutil.copytree(run, run.parent / "free"))).text


def test_tokens_are_counted_wherever_they_are_recorded(zero: Path) -> None:
    votes = read_lines(zero / "base/reliability/votes.jsonl", Vote)
    spent = {"reliability": sum(answer.tokens for vote in votes for answer in vote.answers)}
    spent["eval"] = sum(response.tokens for response in read_lines(zero / "base/eval/responses.jsonl", Response))
    (zero / "base/replay").mkdir()
    (zero / "base/harness").mkdir()
    manifest = json.loads((zero / "base/eval" / MANIFEST).read_text())
    for kind, metrics in (("replay", {"asked": 9, "pairs": 4, "tokens": 555}), ("harness", {})):
        seal(zero / "base" / kind, {"metrics": metrics, "seconds": 1.0, "made_from": manifest["made_from"]})
    page = report_of(zero)
    rows = {row[0]: row for row in table(page, "Costs")}
    assert rows["base"][rows[""].index("tokens generated")] == f"{sum(spent.values()) + 555:,}"
    rows = {row[0]: row for row in table(page, "Time and tokens by stage")}
    assert rows["reliability"][-1] == f"{spent['reliability']:,}"
    assert rows["harness"][-1] == "–"
    assert "and what base/harness generated, which was not recorded" in page.text


def test_hours_are_counted_for_each_gpu_of_the_machine_that_is_known(zero: Path) -> None:
    hours = read_report(read_run(zero, "zero")).costs.hours
    assert "no GPU" in report_of(zero).text, "the run recorded where it ran"
    gpu = Gpu("NVIDIA H100 80GB HBM3", 79.6)
    there = Environment("3.12.3", {"vllm": "0.32.0"}, "Linux 6.8 x86_64", cores=128, memory_gib=1007.0, gpus=(gpu,) * 8)
    write_lines(zero / "environment.jsonl", [there])
    page = report_of(zero)
    assert "vllm 0.32.0" in page.text
    assert "NVIDIA H100 80GB HBM3 (79.6 GiB)" in page.text
    rows = {row[0]: row for row in table(page, "Costs")}
    assert float(rows["all"][rows[""].index("GPU-hours")]) == pytest.approx(8 * hours, rel=0.1)
    assert "points per GPU-hour" in rows[""]
    (zero / "environment.jsonl").unlink()
    assert "not recorded in this run folder" in report_of(zero).text


def test_votes_of_which_no_pairs_were_made_are_counted(zero: Path) -> None:
    """A run that stopped for want of pairs."""
    for stage in ("pairs", "train", "eval", "verdict"):
        shutil.rmtree(zero / "round-2" / stage)

    def stricter(manifest: dict[str, object]) -> None:
        settings = manifest["made_from"]["settings"]  # type: ignore[index]
        if "consensus" in settings:
            settings["consensus"]["min_agreement"] = 0.8

    reseal(zero, stricter)
    votes = read_lines(zero / "round-2/synthesis/votes.jsonl", Vote)
    undecided, agreed = sum(vote.winner is None for vote in votes), sum(vote.agreement >= 0.8 for vote in votes)
    assert 0 < undecided < len(votes) - agreed, "this run has not every kind of vote"
    last = table(report_of(zero), "Round 2, step by step")[-1]
    assert last[:2] == ["with a majority that reaches the agreement cut", str(agreed)]
    assert f"{undecided} without a majority (a tie, or no final answer); " in last[3]
    assert f"{len(votes) - undecided - agreed} below consensus.min_agreement=0.8; by the votes alone" in last[3]


def test_the_two_agreements_are_distinguished(run: Path, page: Element) -> None:
    metrics = json.loads((run / "round-1/synthesis" / MANIFEST).read_text())["metrics"]
    over_all, first = f"{metrics['agreement']:.2f}", f"{metrics['monitor/agreement']:.2f}"
    assert over_all != first
    assert f"agreement over all votes {over_all}," in page.all("main")[0].all("section")[0].text
    section = next(element for element in page.all("section") if element.attributes.get("id") == "agreement")
    assert f"round 1 {over_all} over all votes, {first} over the first" in section.text
    titles = [element.text for element in page.all("h3")]
    assert "Agreement of the first answers" in titles
    assert "Agreement" not in titles


def test_scores_beside_each_other_have_one_scale(page: Element) -> None:
    figures = [element for element in page.all("figure") if element.all("h3")[0].text in ("sums_dev", "sums_test")]
    scales = [
        [element.text for element in figure.all("text") if element.attributes["class"] == "tick end"]
        for figure in figures
    ]
    assert len(scales) == 2
    assert scales[0] == scales[1]


def test_a_student_s_report_shows_its_teacher(zero: Path) -> None:
    """Rounds that another model asked and answered belong to the run; its scores are drawn for comparison."""
    shutil.copytree(zero / "base/eval", zero / "teacher/eval")
    manifest = json.loads((zero / "teacher/eval" / MANIFEST).read_text())
    made_from = {**manifest["made_from"], "inputs": {"checkpoint": "0123456789abcdef"}}
    seal(zero / "teacher/eval", {"metrics": {}, "seconds": 1.0, "made_from": made_from})

    def two_runs(manifest: dict[str, object]) -> None:
        made_from = manifest["made_from"]
        assert isinstance(made_from, dict)
        if "parent" in made_from["inputs"] and "child" not in made_from["inputs"]:
            made_from["inputs"]["parent"] = "0123456789abcdef"

    reseal(zero, two_runs)
    page = report_of(zero)
    assert "Round 2’s child is the best checkpoint" in page.text
    rows = {row[0]: row for row in table(page, "sums_dev: accuracy with")}
    assert rows["teacher"][2] == rows["base"][2]
