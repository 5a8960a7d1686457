"""The report of several runs."""

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from chromium import open_page
from report_page import report_of, table
from smoke_runs import change_records, reseal, set_setting, several

from crescent.records import (
    Response,
)


def test_runs_are_compared_on_what_they_share(run: Path, tmp_path: Path) -> None:
    roots = several(run, tmp_path)
    page = report_of(*roots, rate=2.0)
    rows = table(page, "Runs and their differing settings")
    assert rows[0][:3] == ["run", "consensus.samples", "run.seed"]
    assert [row[:3] for row in rows[1:]] == [["a0", "3", "0"], ["a1", "3", "1"], ["b0", "5", "0"], ["b1", "5", "1"]]
    assert "not finished: 1 of 2 rounds" in rows[4][3]
    gains = table(page, "sums_dev: gain over")
    assert [row[1] for row in gains[1:]] == ["round 2", "round 2", "round 2", "round 1"]
    titles = [element.text for element in page.all("h3", "h4")]
    assert "Gain by consensus.samples" in titles
    assert "Gain by run.seed" in titles
    assert titles.count("Gain by run.seed") == 1, "what only a test set shows is not to be tuned to"
    seeds = table(page, "Over seeds")
    assert ["samples=3", "sums_dev", "2", "2"] in [row[:4] for row in seeds]
    by_round = table(page, "sums_dev: accuracy % by round")
    assert by_round[4][3] == "–"


def test_the_report_of_a_sweep_opens_with_the_best(run: Path, tmp_path: Path) -> None:
    """The last run has one round, whose child is worse: the mean of its setting comes second."""
    page = report_of(*several(run, tmp_path))
    first = page.all("main")[0].all("section")[0]
    claim, *grounds = [element.text for element in first.all("p", "li")]
    assert claim.startswith("samples=3 came out best of 2 settings on sums_dev (40 items): ")
    assert grounds[0] == "All of these runs were on fakes, not on a model."
    assert any(line.startswith("It is not significantly better than any other (p ≤ 0.05") for line in grounds)
    assert "It was selected as the best of 2: expect a smaller gain on new items." in grounds
    assert any(line.startswith("On sums_test (not used for selection) it gains +") for line in grounds)
    assert "Not finished, ranked by the rounds so far: b1." in grounds
    ranking = table(page, "Ranking on sums_dev")
    assert [row[0] for row in ranking] == ["setting", "samples=3", "samples=5"]
    verdicts = table(page, "Last verdict of each run")
    assert [row[:3] for row in verdicts[1:]] == [
        ["a0", "rounds 1, 2", "round 2 accepted"],
        ["a1", "rounds 1, 2", "round 2 accepted"],
        ["b0", "rounds 1, 2", "round 2 accepted"],
        ["b1", "round 1", "round 1 accepted"],
    ]
    assert "points/hour" not in table(page, "Runs and their differing settings")[0], "of seconds, nothing by the hour"


def test_values_too_long_for_a_chart_have_letters(run: Path, tmp_path: Path) -> None:
    roots = []
    models = ("one/Qwen2.5-7B-Instruct", "two/Qwen2.5-7B-Instruct", "Llama-3-8B-Instruct", "Llama-3.1-8B-Instruct", "x")
    for nth, name in enumerate(models):
        roots.append(Path(shutil.copytree(run, tmp_path / f"run-{nth}")))
        set_setting(roots[-1], "path", f"/of/all/models/{name}")
    page = report_of(*roots)
    figure = next(element for element in page.all("figure") if element.all("h3", "h4")[0].text == "Gain by model.path")
    assert [element.text for element in figure.all("text") if element.text in tuple("ABCDEF")] == [
        "A",
        "B",
        "C",
        "D",
        "E",
    ]
    assert "A …Llama-3-8B-Instruct, B …Llama-3.1-8B-Instruct, C …" in figure.text


def test_runs_of_a_random_search_are_labelled_by_their_values_and_drawn_along_them(run: Path, tmp_path: Path) -> None:
    rates = [f"{1 + 8 * (nth % 2)}.0e{nth // 2 - 8:+03}" for nth in range(14)]
    roots = []
    for nth, rate in enumerate(rates):
        root = Path(shutil.copytree(run, tmp_path / f"one-of-many-runs-of-a-random-search-{nth}"))
        for many, key in enumerate(("samples", "threshold", "rank", "dropout", "warmup", "min_agreement"), 2):
            set_setting(root, key, str(nth % many))
        set_setting(root, "learning_rate", rate)
        set_setting(root, "max_steps", str(5 * nth % 14))
        roots.append(root)
    page = report_of(*roots)
    runs = table(page, "Runs and their differing settings")
    assert len(runs[0]) == 1 + 5 + 3 + 1, "five settings, and the name"
    assert sorted(row[-1] for row in runs[1:]) == sorted(root.name for root in roots)
    called = [row[0] for row in runs[1:]]
    assert len(set(called)) == 14
    assert not any("one-of-many" in name for name in called)
    everything = table(page, "All 8 settings that differ")
    assert [row[0] for row in everything[1:]] == called
    for caption in ("Last verdict", "sums_dev: gain over", "sums_dev: accuracy % by round"):
        assert [row[0] for row in table(page, caption)[1:]] == called, "the same order everywhere"
    charts = [element for element in page.all("details") if element.all("summary")[0].text == "14 charts"]
    assert [len(element.all("figure")) for element in charts] == [14, 14], "folded, of both benchmarks"
    figure = next(
        element for element in page.all("figure") if element.all("h3", "h4")[0].text == "Gain by train.learning_rate"
    )
    assert "confounded" not in figure.text, "each value is one run’s, and the orders are not the same"
    across = sorted(
        float(element.attributes["cx"]) for element in figure.all("circle") if "main" in element.attributes["class"]
    )
    steps = [after - before for before, after in pairwise(across[-14:])]
    assert max(steps[::2]) - min(steps[::2]) < 0.3, "from 1 to 9"
    assert max(steps[1::2]) - min(steps[1::2]) < 0.3, "from 9 to 10"
    assert steps[0] > 10 * steps[1], "as a logarithm has it"


def test_a_sweep_as_lines_scrolls_on_a_phone_and_the_page_does_not(run: Path, tmp_path: Path) -> None:
    roots = several(run, tmp_path)
    for root, policy in zip(roots, ("accumulate", "window", "window", "decay"), strict=True):
        set_setting(root, "policy", policy)
        set_setting(root, "accelerate", f"/a/path/of/{root.name}/that/differs/in/its/middle.yaml")
    page = report_of(*roots)
    assert [element.text for element in page.all("h3")].count("From settings to gain") == 1, "only of what decides"
    assert len(table(page, "sums_dev: from settings to gain")) == 5
    with open_page(tmp_path) as shown:
        shown.open(tmp_path / "report.html", 390)
        wide = "document.querySelector('.wide svg')"
        assert shown.evaluate("document.documentElement.scrollWidth") <= 390
        assert shown.evaluate(f"{wide}.getBoundingClientRect().width == Number({wide}.getAttribute('width'))")
        assert shown.evaluate(f"{wide}.closest('.scroll').scrollWidth > 390")
        outside = f"[...{wide}.querySelectorAll('text')].filter(text => text.getBBox().x < 0 || text.getBBox().x + "
        outside += f"text.getBBox().width > {wide}.viewBox.baseVal.width).map(text => text.textContent)"
        assert shown.evaluate(outside) == []
        shown.open(tmp_path / "report.html", 1200)
        assert shown.evaluate("document.documentElement.scrollWidth") <= 1200
        assert shown.complaints == []


def test_runs_with_other_items_are_named_and_not_compared(run: Path, tmp_path: Path) -> None:
    roots = several(run, tmp_path)[:2]
    for stage in ("base/eval", "round-1/eval", "round-2/eval"):
        change_records(
            roots[1], f"{stage}/responses.jsonl", Response, lambda response: replace(response, item=f"x{response.item}")
        )  # type: ignore[type-var]
    reseal(roots[1])
    text = report_of(*roots).text
    assert (
        "sums_dev: different items under the same name (40 items in a0; 40 items in a1), so these are not compared"
        in text
    )
    assert "a1: shares no items with another run, so its scores are not compared" in text


def test_runs_that_have_nothing_yet_or_were_made_by_another_version_stand_beside_the_others(
    run: Path, tmp_path: Path
) -> None:
    roots = several(run, tmp_path)[:2]

    def older(manifest: dict[str, object]) -> None:
        made_from = manifest["made_from"]
        assert isinstance(made_from, dict)
        made_from["version"] = "0.0.9"

    reseal(roots[1], older)
    (tmp_path / "begun/base/eval.partial").mkdir(parents=True)
    text = report_of(*roots, tmp_path / "begun").text
    assert "begun: no child judged yet, so there is no gain to compare (nothing finished to compare)" in text
    assert "different versions of Crescent" in text
