"""What a reader looks for first: model, date, commit, best checkpoint, lineage, loss; and whether it was a model."""

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from chromium import open_page
from report_page import Element, report_of, table
from smoke_runs import change_records, reseal, set_setting

from crescent.machine.environment import FILE, commit, describe
from crescent.records import Score, Verdict, read_lines, to_line
from crescent.report import write_report


def facts(page: Element) -> dict[str, str]:
    """The facts below the verdict by their names."""
    (about,) = (element for element in page.all("dl") if "about" in element.attributes.get("class", ""))
    return dict(zip((name.text for name in about.all("dt")), (value.text for value in about.all("dd")), strict=True))


def losses(root: Path, number: int, count: int) -> None:
    lines = [{"done": step, "total": count, "loss": 2 / step} for step in range(1, count + 1)]
    path = root / f"logs/round-{number}-train.progress.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_report_says_which_model_when_what_came_out_and_where_it_lies(zero: Path) -> None:
    found = facts(report_of(zero))
    first, second = (read_lines(zero / f"round-{number}/verdict/verdict.json", Verdict)[0] for number in (1, 2))
    assert found["Model"].startswith("fake")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d( to \d{4}-\d\d-\d\d)? \(UTC\)", found["Date"])
    assert found["Best checkpoint"] == f"{second.child}: {zero}/round-2/train/adapter"
    assert found["Accepted rounds"] == "2 of 2"
    assert re.fullmatch(r"\+\d+\.\d points on the deciding items", found["Gain over the base"])
    assert re.fullmatch(r"sums_dev \d+\.\d%, sums_test \d+\.\d%", found["Its accuracy"])
    assert found["Lineage"].split(" zero-r")[0] == "zero-base: the base"
    assert f"{first.child}: trained from the base on what zero-base asked and answered" in found["Lineage"]
    assert f"{second.child}: trained from the base on what {first.child} asked and answered" in found["Lineage"]


def retried(verdict: object) -> object:
    assert isinstance(verdict, Verdict)
    return replace(verdict, action="retry")


def test_without_an_accepted_child_the_base_is_the_best_checkpoint(zero: Path) -> None:
    for number in (1, 2):
        change_records(zero, f"round-{number}/verdict/verdict.json", Verdict, retried)
    reseal(zero)
    found = facts(report_of(zero))
    assert found["Best checkpoint"].startswith("zero-base, the base: fake")
    assert found["Gain over the base"] == "0.0 points on the deciding items"
    assert found["Accepted rounds"].startswith("0 of ")
    assert "Lineage" not in found


def test_a_run_on_fakes_says_so_in_its_claim_and_one_on_a_model_does_not(zero: Path) -> None:
    claims = []
    for engine in ("fake", "vllm"):
        set_setting(zero, "engine", engine)
        (claim,) = (element.text for element in report_of(zero).all("p") if element.attributes.get("class") == "claim")
        claims.append(claim)
    assert claims == [f"On fakes, not on a model: {claims[1]}", claims[1]]


def test_the_loss_of_each_round_is_drawn_and_a_long_curve_is_thinned(zero: Path) -> None:
    losses(zero, 1, 5)
    losses(zero, 2, 1000)
    page = report_of(zero)
    assert [row[0] for row in table(page, "Round 1: loss")[-5:]] == ["1", "2", "3", "4", "5"]
    lines = [element.attributes["points"].split() for element in page.all("polyline")]
    assert 120 in map(len, lines), "means of parts of the long curve"
    assert "1,000 steps; each point is a mean of up to 9 steps" in page.text
    assert table(page, "Round 2: loss")[-1][0] == "1000"
    (zero / "logs/round-1-train.progress.jsonl").unlink()
    assert "Loss, round 1" not in report_of(zero).text


@pytest.mark.parametrize(("right", "shown"), [(0, False), (7, True)])
def test_strict_scores_explain_themselves_or_are_not_shown(zero: Path, right: int, shown: bool) -> None:
    for stage in ("base", "round-1", "round-2"):
        path = zero / stage / "eval/scores.json"
        scores = msgspec.json.decode(path.read_bytes(), type=list[Score])
        changed = [{**msgspec.to_builtins(score), "strict": right, "flexible": 9} for score in scores]
        path.write_bytes(msgspec.json.encode(changed))
    reseal(zero)
    page = report_of(zero)
    columns = table(page, "sums_dev: accuracy with 95% intervals")[0]
    assert ("strict %" in columns) is shown
    assert "flexible %" in columns
    said = "only the requested answer format counts" if shown else "no response is in the format"
    assert said in page.text


def test_the_commit_is_that_of_the_checkout_and_nothing_without_one(zero: Path, tmp_path: Path) -> None:
    assert commit(tmp_path) == ""
    checkout = tmp_path / "checkout"
    git = ("git", "-C", str(checkout), "-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", "init", "-q", str(checkout)], check=True)
    (checkout / "a.py").write_text("1")
    subprocess.run([*git, "add", "a.py"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "first"], check=True)
    assert re.fullmatch(r"[0-9a-f]{12}", commit(checkout))
    (checkout / "a.py").write_text("2")
    assert re.fullmatch(r"[0-9a-f]{12}, with changes", commit(checkout))
    (zero / FILE).write_bytes(to_line(replace(describe(), commit="0123456789ab")))
    assert facts(report_of(zero))["Commit"] == "0123456789ab"


def test_every_table_fits_a_window_of_800_pixels(run: Path, tmp_path: Path) -> None:
    write_report([run], tmp_path / "report.html", rate=3.0)
    wide = "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth + 1)"
    with open_page(tmp_path) as shown:
        shown.open(tmp_path / "report.html", width=800)
        shown.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        found = shown.evaluate(f"{wide}.map(box => box.innerText.split('\\n')[0])")
    assert found == []
