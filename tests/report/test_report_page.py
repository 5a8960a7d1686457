"""The file of a report: what it loads, how it looks, and who can use it."""

import base64
import hashlib
import re
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from chromium import open_page
from hypothesis import given
from hypothesis import strategies as st
from report_page import read_page, report_of
from smoke_runs import change_records, reseal, several

from crescent.commands import report_command
from crescent.errors import BadConfig, Missing
from crescent.records import (
    Verdict,
)
from crescent.report import write_report
from crescent.report.charts import ticks


def test_paper_holds_the_tables_that_a_screen_opens(run: Path, tmp_path: Path) -> None:
    """And of what fills pages, questions with all their answers, only the summaries."""
    write_report([run], tmp_path / "report.html")
    seen = "[...document.querySelectorAll('{}')].map(element => element.checkVisibility())"
    with open_page(tmp_path) as shown:
        for media, printed in (("print", True), ("screen", False)):
            shown.open(tmp_path / "report.html", 760, media=media)
            for selector in ("figcaption table", "#settings pre", "#scores > details table"):
                assert set(shown.evaluate(seen.format(selector))) == {printed}, selector
            assert set(shown.evaluate(seen.format("details.sample dl, details.group ul"))) == {False}
        assert shown.evaluate("document.documentElement.scrollWidth") <= 760


def test_a_caption_stays_where_its_table_scrolls(run: Path, tmp_path: Path) -> None:
    write_report([run], tmp_path / "report.html")
    with open_page(tmp_path) as shown:
        shown.open(tmp_path / "report.html", 390)
        shown.evaluate("window.wide = document.querySelector('#costs').closest('.scroll')")
        assert shown.evaluate("wide.scrollLeft = 90, wide.scrollLeft") > 50, "this table fits"
        assert shown.evaluate("document.querySelector('#costs span').getBoundingClientRect().left") >= 15


def test_the_page_forbids_scripts_and_every_other_origin(run: Path, tmp_path: Path) -> None:
    write_report([run], tmp_path / "report.html")
    page, raw = read_page(tmp_path / "report.html"), (tmp_path / "report.html").read_text(encoding="utf-8")
    policy = next(element.attributes["content"] for element in page.all("meta") if "http-equiv" in element.attributes)
    style = raw.split("<style>")[1].split("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.split("; ")[:2] == ["default-src 'none'", f"style-src 'sha256-{digest}'"]
    assert "unsafe" not in policy
    assert not re.search(r"@import|url\((?!#)", style)
    for element in page.all():
        for name in ("src", "href", "action", "data", "srcset"):
            assert element.attributes.get(name, "#").startswith(("#", "data:image/svg+xml,")), element.name


def test_the_same_run_gives_the_same_file(run: Path, tmp_path: Path) -> None:
    for name in ("once.html", "again.html"):
        write_report([run], tmp_path / name)
    assert (tmp_path / "once.html").read_bytes() == (tmp_path / "again.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.html", "once.html"]


@pytest.mark.parametrize("runs", [1, 2])
def test_the_page_can_be_used_without_eyes_and_without_a_mouse(run: Path, tmp_path: Path, runs: int) -> None:
    page = report_of(*several(run, tmp_path)[:runs])
    assert page.all("html")[0].attributes["lang"] == "en"
    for landmark in ("header", "nav", "main", "footer", "h1", "title"):
        assert len(page.all(landmark)) == (1 if landmark != "title" else len(page.all("title"))), landmark
    levels = [int(element.name[1]) for element in page.all("h1", "h2", "h3", "h4")]
    assert all(after <= before + 1 for before, after in pairwise(levels)), "a level of heading is left out"
    identities = [element.attributes["id"] for element in page.all() if "id" in element.attributes]
    assert len(identities) == len(set(identities))
    for element in page.all():
        for name in ("aria-labelledby", "aria-describedby"):
            assert element.attributes.get(name, identities[0]) in identities
    for link in page.all("nav")[0].all("a"):
        assert link.attributes["href"].removeprefix("#") in identities
    for element in page.all("table"):
        assert element.all("caption")[0].text
        assert all(th.attributes.get("scope") in ("col", "row") for th in element.all("th"))
    for figure in page.all("figure"):
        picture = next(element for element in figure.all("div") if element.attributes.get("role") == "img")
        assert len(picture.attributes["aria-label"]) > 20
        assert len(figure.all("table")) == 1, "the numbers of a chart stand beside the chart"
    for svg in page.all("svg"):
        assert svg.attributes["aria-hidden"] == "true"


def test_a_shape_or_a_word_repeats_what_a_colour_shows(zero: Path) -> None:
    def worse(verdict: object) -> object:
        assert isinstance(verdict, Verdict)
        return replace(verdict, action="roll back")

    change_records(zero, "round-2/verdict/verdict.json", Verdict, worse)
    reseal(zero)
    page = report_of(zero)
    words = [element.text for element in page.all("ul") if element.attributes.get("class") == "legend"]
    assert "base accepted rolled back parent in service" in words
    fills = {
        element.attributes["fill"] for element in page.all("rect") if "column" in element.attributes.get("class", "")
    }
    assert fills <= {f"url(#{pattern.attributes['id']})" for pattern in page.all("pattern")}


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    digits = colour.removeprefix("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    channels = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4 for channel in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_contrast_with_the_background(run: Path, tmp_path: Path) -> None:
    """WCAG 2.2 AA: 4.5 for text (1.4.3), 3 for what draws a chart (1.4.11), on paper as on the screen."""
    write_report([run], tmp_path / "report.html")
    themes = re.findall(r":root \{(.*?)\}", (tmp_path / "report.html").read_text(), re.DOTALL)
    assert len(themes) == 3
    for theme in themes:
        colours = dict(re.findall(r"--([\w-]+): (#\w+);", theme))
        for name in (
            "text",
            "soft",
            "main",
            "second",
            "third",
            "good",
            "bad",
            "warn",
            "ghost",
            *(f"part-{number}" for number in range(6)),
            *(f"step-{number}" for number in range(5)),
        ):
            for ground in ("ground", "raised"):
                high, low = sorted((luminance(colours[name]), luminance(colours[ground])), reverse=True)
                least = 3 if name.startswith(("part-", "step-", "ghost")) else 4.5
                assert (high + 0.05) / (low + 0.05) >= least, f"{name} {colours[name]} on {ground}"
        ground = luminance(colours["ground"])
        steps = [abs(luminance(colours[f"step-{number}"]) ** 0.4 - ground**0.4) for number in range(5)]
        assert all(after - before > 0.04 for before, after in pairwise(steps)), "more is farther from the ground"


def test_a_report_goes_into_the_run_s_folder_by_default(
    zero: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    report_command([str(zero)])
    assert capsys.readouterr().out == f"{zero / 'report.html'}\n"
    shutil.copytree(zero, tmp_path / "other")
    report_command([str(zero), "other", "--rate", "2.5"])
    assert "2 runs side by side" in read_page(tmp_path / "report.html").text
    report_command(["zero", "--output", "elsewhere.html"])
    assert read_page(tmp_path / "elsewhere.html").all("h1")[0].text == "zero"
    with pytest.raises(Missing, match="no such folder"):
        report_command(["nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(Missing, match="no run was started in it"):
        report_command(["empty"])
    with pytest.raises(BadConfig, match=r"nowhere/report.html: No such file .*; name a file"):
        report_command(["zero", "--output", "nowhere/report.html"])
    with pytest.raises(BadConfig, match="must not be negative"):
        report_command(["zero", "--rate", "-1"])


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e6), st.integers(2, 8))
def test_ticks_are_round_few_and_hold_everything(low: float, span: float, count: int) -> None:
    found = ticks(low, low + span, count)
    slack = span * 1e-5
    assert found[0] <= low + slack
    assert found[-1] >= low + span - slack
    assert 2 <= len(found) <= 2 * count + 2
