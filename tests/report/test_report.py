"""The HTML report: of a real smoke run, and of copies of it in which something happened."""

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from statistics import mean

import msgspec
import pytest
from chromium import open_page
from hypothesis import given
from hypothesis import strategies as st
from test_compare import reseal, teach

from crescent.commands import report_command
from crescent.errors import BadConfig, Missing
from crescent.machine.environment import Environment, Gpu
from crescent.reading.differing import Differing
from crescent.reading.rounds import RoundRow, read_run
from crescent.records import (
    Action,
    Alarm,
    Candidate,
    Comparison,
    Pair,
    Response,
    Score,
    Verdict,
    Vote,
    read_lines,
    write_lines,
)
from crescent.report import write_report
from crescent.report.charts import ticks
from crescent.report.figures import Figure
from crescent.report.funnel import funnel
from crescent.report.parallel import Outcome, parallel_figure
from crescent.report.run import read_report
from crescent.report.texts import plain
from crescent.run_folder.manifest import MANIFEST, seal, verified_manifest

VOID = {"meta", "link", "br", "img", "input", "hr"}
HOSTILE = (
    "</script></div></style><script>hostile=1</script><img src=x onerror=hostile=1>"
    "<svg onload=hostile=1><iframe src=javascript:hostile=1></iframe>{{ 7 * 7 }}\x00\u202egnp.exe\x1b[31m"
)
NEAR = ("diversify.threshold=0.5",)
"""So strict that some questions are near-duplicates."""
SEEN = "</script></div></style><script>hostile=1</script>"


class Element:
    """An HTML element, as far as a test asks about it."""

    def __init__(self, name: str, attributes: dict[str, str], parent: "Element | None") -> None:
        self.name, self.attributes, self.parent = name, attributes, parent
        self.children: list[Element] = []
        self.words: list[str] = []

    def all(self, *names: str) -> list["Element"]:
        found = [its for child in self.children for its in child.all(*names)]
        return [*([self] if not names or self.name in names else []), *found]

    @property
    def text(self) -> str:
        return " ".join(" ".join([*self.words, *(its.text for its in self.children)]).split())


class Reader(HTMLParser):
    """Builds elements; what is opened must be closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.root = self.here = Element("", {}, None)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        new = Element(tag, {name: value or "" for name, value in attrs}, self.here)
        self.here.children.append(new)
        if tag not in VOID:
            self.here = new

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.here.children.append(Element(tag, {name: value or "" for name, value in attrs}, self.here))

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.here.name, f"</{tag}> inside <{self.here.name}>"
        assert self.here.parent is not None
        self.here = self.here.parent

    def handle_data(self, data: str) -> None:
        self.here.words.append(data)


def read(path: Path) -> Element:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.here is reader.root, f"<{reader.here.name}> is not closed"
    return reader.root


def report(*roots: Path, rate: float | None = None) -> Element:
    output = roots[0].parent / "report.html"
    write_report(roots, output, rate)
    return read(output)


def table(page: Element, caption: str) -> list[list[str]]:
    """The cells of the one table whose caption begins like this, the headings first."""
    found = [its for its in page.all("table") if its.all("caption")[0].text.startswith(caption)]
    assert len(found) == 1, f"{caption}: {len(found)} tables"
    return [[cell.text for cell in row.children] for row in found[0].all("tr")]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rounds on the fakes, with everything that can be measured. Not to be written to."""
    root = tmp_path_factory.mktemp("runs")
    return teach(
        root, "zero", "eval.reliability=20", "eval.samples=2", "eval.temperature=0.7", "diversify.threshold=0.5"
    )


@pytest.fixture
def zero(run: Path, tmp_path: Path) -> Path:
    """A copy of it, to be written to."""
    return Path(shutil.copytree(run, tmp_path / "zero"))


@pytest.fixture(scope="session")
def page(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Element:
    """Its report."""
    output = tmp_path_factory.mktemp("reports") / "report.html"
    write_report([run], output, rate=3.0)
    return read(output)


def set_of(root: Path, key: str, value: str) -> None:
    """Another value for a setting in `config.yaml`, by the last part of its name."""
    path = root / "config.yaml"
    changed, count = re.subn(rf"(?m)^(\s*{key}:).*$", lambda its: f"{its[1]} {value}", path.read_text(), count=1)
    assert count == 1
    path.write_text(changed)


def change(root: Path, name: str, kind: type[object], how: Callable[[object], object]) -> None:
    path = root / name
    write_lines(path, [how(its) for its in read_lines(path, kind)])


def test_the_verdict_comes_first_and_says_what_the_run_decided(run: Path, page: Element) -> None:
    main = page.all("main")[0]
    first = main.all("section")[0]
    for number in (1, 2):
        verdict = read_lines(run / f"round-{number}/verdict/verdict.json", Verdict)[0]
        assert verdict.reason in first.text
    base, best = (read_lines(run / stage / "eval/responses.jsonl", Response) for stage in ("base", "round-2"))
    shares = [100 * mean(its.correct for its in given if its.benchmark == "sums_dev") for given in (base, best)]
    assert "Round 2’s child is the best checkpoint, better than the base on the deciding items." in first.text
    assert f"sums_dev: {shares[0]:.1f} % → {shares[1]:.1f} %" in first.text


def test_scores_are_those_of_the_responses_counted_by_hand(run: Path, page: Element) -> None:
    rows = {row[0]: row for row in table(page, "sums_dev: accuracy with")}
    head = rows["checkpoint"]
    for name, folder in (("base", "base"), ("round 1", "round-1"), ("round 2", "round-2")):
        given = [
            its for its in read_lines(run / folder / "eval/responses.jsonl", Response) if its.benchmark == "sums_dev"
        ]
        assert rows[name][head.index("accuracy %")].startswith(f"{100 * mean(its.correct for its in given):.1f} [")
        assert rows[name][head.index("unparsed")] == str(sum(its.final is None for its in given))
        scores = msgspec.json.decode((run / folder / "eval/scores.json").read_bytes(), type=list[Score])
        majority = next(its.majority for its in scores if its.benchmark == "sums_dev")
        assert majority is not None
        assert rows[name][head.index("maj@k %")] == f"{100 * majority:.1f}"


def test_every_question_of_the_funnel_is_somewhere(run: Path, page: Element) -> None:
    for number in (1, 2):
        parts = [verified_manifest(run / f"round-{number}" / stage) for stage in ("synthesis", "pairs", "train")]
        steps = funnel(*(its["metrics"] for its in parts if its))
        through = [its for its in steps if its.name not in ("new training pairs", "trained on")]
        for before, after in pairwise(through):
            assert before.count - sum(its.count for its in after.losses) == after.count, after.name
        assert steps[-2].count == len(read_lines(run / f"round-{number}/pairs/new.jsonl", Pair))
        assert steps[-1].count == len(read_lines(run / f"round-{number}/pairs/pairs.jsonl", Pair))
        assert [row[:2] for row in table(page, f"Round {number}, step by step")[1:]][:1] == [
            [steps[0].name, f"{steps[0].count:.0f}"]
        ]


def test_labels_without_a_majority_do_not_count_as_lost() -> None:
    """A control arm trains on first answers: ties and little agreement are counted, and kept."""
    pairs = {"pairs": 9, "questions": 9, "silent": 1, "ties": 3, "below_cut": 4, "total": 9}
    steps = funnel({"candidates": 10, "questions": 10}, pairs, {})
    labelled = next(its for its in steps if its.name == "with a label to train on")
    assert labelled.count == 9
    assert [(its.reason, its.count) for its in labelled.losses] == [("no label", 1)]


def test_time_and_money_add_up(run: Path, page: Element) -> None:
    seconds = {
        path.parent.relative_to(run).as_posix(): json.loads(path.read_text())["seconds"]
        for path in run.glob(f"*/*/{MANIFEST}")
    }
    rows = {row[0]: row for row in table(page, "What it cost")}
    assert float(rows["all"][rows[""].index("money")]) == pytest.approx(3 * sum(seconds.values()) / 3600, abs=0.01)
    ledger = read_report(read_run(run, "zero")).ledger
    assert ledger.seconds() == pytest.approx(sum(seconds.values()))
    assert ledger.until(1) == pytest.approx(sum(its for name, its in seconds.items() if not name.startswith("round-2")))
    assert "--rate" in report(Path(shutil.copytree(run, run.parent / "free"))).text


def test_tokens_are_counted_wherever_they_are_written_down(zero: Path) -> None:
    votes = read_lines(zero / "base/reliability/votes.jsonl", Vote)
    spent = {"reliability": sum(answer.tokens for its in votes for answer in its.answers)}
    spent["eval"] = sum(its.tokens for its in read_lines(zero / "base/eval/responses.jsonl", Response))
    (zero / "base/replay").mkdir()
    (zero / "base/harness").mkdir()
    manifest = json.loads((zero / "base/eval" / MANIFEST).read_text())
    for kind, metrics in (("replay", {"asked": 9, "pairs": 4, "tokens": 555}), ("harness", {})):
        seal(zero / "base" / kind, {"metrics": metrics, "seconds": 1.0, "made_from": manifest["made_from"]})
    page = report(zero)
    rows = {row[0]: row for row in table(page, "What it cost")}
    assert rows["base"][rows[""].index("tokens generated")] == f"{sum(spent.values()) + 555:,}"
    rows = {row[0]: row for row in table(page, "Time and tokens by stage")}
    assert rows["reliability"][-1] == f"{spent['reliability']:,}"
    assert rows["harness"][-1] == "–"
    assert "and what base/harness generated, which is not written down" in page.text


def test_hours_are_counted_for_each_gpu_of_the_machine_that_is_known(zero: Path) -> None:
    hours = read_report(read_run(zero, "zero")).ledger.hours
    assert "no GPU" in report(zero).text, "the run wrote down where it ran"
    gpu = Gpu("NVIDIA H100 80GB HBM3", 79.6)
    there = Environment("3.12.3", {"vllm": "0.32.0"}, "Linux 6.8 x86_64", cores=128, memory_gib=1007.0, gpus=(gpu,) * 8)
    write_lines(zero / "environment.jsonl", [there])
    page = report(zero)
    assert "vllm 0.32.0" in page.text
    assert "NVIDIA H100 80GB HBM3 (79.6 GiB)" in page.text
    rows = {row[0]: row for row in table(page, "What it cost")}
    assert float(rows["all"][rows[""].index("GPU-hours")]) == pytest.approx(8 * hours, rel=0.1)
    assert "points per GPU-hour" in rows[""]
    (zero / "environment.jsonl").unlink()
    assert "not recorded in this run folder" in report(zero).text


def test_questions_can_be_read_with_all_their_answers(run: Path, page: Element) -> None:
    votes = {its.question.id: its for its in read_lines(run / "round-1/synthesis/votes.jsonl", Vote)}
    shown = [its for its in page.all("details") if its.attributes.get("class") == "sample"]
    found = [next((v for v in votes.values() if v.question.id in its.text), None) for its in shown]
    known = [(its, vote) for its, vote in zip(shown, found, strict=True) if vote is not None]
    assert len(known) == 12
    assert len({vote.agreement for _, vote in known}) > 2, "chosen over all agreements"
    for its, vote in known:
        assert vote.question.text in its.text
        for answer in vote.answers:
            assert " ".join(answer.text.split()) in its.text


def test_near_duplicates_stand_beside_their_neighbours(run: Path, page: Element) -> None:
    near = [
        its
        for number in (1, 2)
        for its in read_lines(run / f"round-{number}/synthesis/candidates.jsonl", Candidate)
        if its.outcome in ("rewritten", "near-duplicate")
    ]
    assert near, "this run has none: its threshold is too high for the test"
    section = next(its for its in page.all("section") if its.attributes.get("id") == "questions")
    assert f"cosine {max(its.question.similarity or 0 for its in near):.3f}" in section.text
    assert "its neighbour" in section.text


def test_items_gained_and_lost_show_both_responses(run: Path, page: Element) -> None:
    verdict = read_lines(run / "round-1/verdict/verdict.json", Verdict)[0]
    against = {its.benchmark: its for its in verdict.comparisons if its.against == "parent"}
    section = next(its for its in page.all("section") if its.attributes.get("id") == "changes")
    gained = sum(its.gained for its in against.values())
    assert f"Gained: {gained} items" in section.text
    samples = [its for its in section.all("details") if "parent" in its.text]
    assert samples
    for its in samples:
        assert [dt.text.split(",")[0] for dt in its.all("dt")] == ["Prompt", "Right answer", "Parent", "Child"]


def test_a_preference_pair_shows_what_was_rejected(zero: Path) -> None:
    def outvoted(its: object) -> object:
        assert isinstance(its, Pair)
        return replace(its, rejected="the outvoted response", margin=0.25)

    change(zero, "round-2/pairs/new.jsonl", Pair, outvoted)
    reseal(zero)
    text = report(zero).text
    assert "the outvoted response" in text
    assert "margin 0.25" in text


def test_a_retried_child_is_called_so(zero: Path) -> None:
    def retried(its: object) -> object:
        assert isinstance(its, Verdict)
        alarms = (Alarm("one answer", 0.9, 0.5, "90% of its own questions have the same final answer (limit 50%)"),)
        return replace(its, action="retry", alarms=alarms)

    change(zero, "round-2/verdict/verdict.json", Verdict, retried)
    reseal(zero)
    page = report(zero)
    assert "Round 2 not accepted (retry)" in page.text
    set_of(zero, "rounds", "3")
    assert "Round 2 to be retried" in report(zero).text, "a third round is to come"
    assert "90% of its own questions have the same final answer (limit 50%)" in page.text
    assert "Alarms were raised in round 2" in page.text
    assert "Round 1’s child is the best checkpoint" in page.text


def test_no_text_of_a_model_can_do_anything(zero: Path) -> None:
    def spoil(its: object) -> object:
        match its:
            case Vote():
                spoilt = tuple(replace(a, text=HOSTILE, final=HOSTILE if a.final else None) for a in its.answers)
                question = replace(its.question, text=HOSTILE, bait=HOSTILE)
                return replace(its, question=question, answers=spoilt, winner=HOSTILE if its.winner else None)
            case Candidate():
                return replace(its, question=replace(its.question, text=HOSTILE, bait=HOSTILE), why=HOSTILE)
            case Response():
                final = HOSTILE if its.final else None
                return replace(its, text=HOSTILE, final=final, prompt=HOSTILE, target=HOSTILE)
            case Verdict():
                return replace(its, reason=HOSTILE, alarms=(Alarm(HOSTILE, 1.0, 0.5, HOSTILE),))
        return its

    for number in (1, 2):
        for name, kind in (("votes", Vote), ("candidates", Candidate)):
            change(zero, f"round-{number}/synthesis/{name}.jsonl", kind, spoil)
        change(zero, f"round-{number}/verdict/verdict.json", Verdict, spoil)
    for stage in ("base", "round-1", "round-2"):
        change(zero, f"{stage}/eval/responses.jsonl", Response, spoil)
        path = zero / stage / "eval/scores.json"
        path.write_text(path.read_text().replace("sums_test", SEEN))
    set_of(zero, "path", json.dumps(HOSTILE))
    reseal(zero)
    page = report(zero)
    assert not page.all("script", "img", "iframe", "object", "form")
    for element in page.all():
        assert not [its for its in element.attributes if its.startswith("on") or its == "style"], element.name
        assert element.attributes.get("href", "#").startswith(("#", "data:image/svg+xml,")), element.name
    assert page.text.count(SEEN) > 40
    assert "{{ 7 * 7 }}" in page.text
    assert "\\x00\\u202egnp.exe\\x1b[31m" in page.text
    raw = (zero.parent / "report.html").read_text(encoding="utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", raw)


def test_a_hostile_report_does_nothing_in_a_browser(zero: Path) -> None:
    """Nothing is logged, asked of the network or run; nothing sticks out of a phone's screen."""
    test_no_text_of_a_model_can_do_anything(zero)
    output = zero.parent / "report.html"
    with open_page(zero.parent) as shown:
        for width, dark in ((1280, False), (1280, True), (390, False)):
            shown.open(output, width, dark)
            shown.evaluate("document.querySelectorAll('details').forEach(its => its.open = true)")
            assert shown.evaluate("document.documentElement.scrollWidth") <= width
            assert shown.evaluate("typeof hostile") == "undefined"
            assert shown.evaluate("document.scripts.length") == 0
            assert shown.evaluate("document.querySelector('svg .line, svg .whisker') !== null")
            background = shown.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (background == "rgb(20, 23, 27)") is dark, "the style is not applied"
        assert shown.complaints == []
        assert [its for its in shown.requests if not its.startswith(("file:", "data:"))] == []


def test_paper_holds_the_tables_that_a_screen_opens(run: Path, tmp_path: Path) -> None:
    """And of what fills pages, questions with all their answers, only the summaries."""
    write_report([run], tmp_path / "report.html")
    seen = "[...document.querySelectorAll('{}')].map(its => its.checkVisibility())"
    with open_page(tmp_path) as shown:
        for media, printed in (("print", True), ("screen", False)):
            shown.open(tmp_path / "report.html", 760, media=media)
            for its in ("figcaption table", "#settings pre", "#scores > details table"):
                assert set(shown.evaluate(seen.format(its))) == {printed}, its
            assert set(shown.evaluate(seen.format("details.sample dl, details.group ul"))) == {False}
        assert shown.evaluate("document.documentElement.scrollWidth") <= 760


def test_a_caption_stays_where_its_table_scrolls(run: Path, tmp_path: Path) -> None:
    write_report([run], tmp_path / "report.html")
    with open_page(tmp_path) as shown:
        shown.open(tmp_path / "report.html", 390)
        shown.evaluate("window.wide = document.querySelector('#ledger').closest('.scroll')")
        assert shown.evaluate("wide.scrollLeft = 90, wide.scrollLeft") > 50, "this table fits"
        assert shown.evaluate("document.querySelector('#ledger span').getBoundingClientRect().left") >= 15


def test_a_text_of_a_megabyte_is_cut_with_a_note(zero: Path) -> None:
    def long(its: object) -> object:
        assert isinstance(its, Vote)
        return replace(
            its, answers=tuple(replace(answer, text="9" * 1_000_000) for answer in its.answers[:1]), classes=(0,)
        )

    change(zero, "round-1/synthesis/votes.jsonl", Vote, long)
    reseal(zero)
    assert "998,800 more characters are in the run folder" in report(zero).text
    assert (zero.parent / "report.html").stat().st_size < 1_000_000


def test_what_cannot_be_seen_is_spelled_out() -> None:
    assert plain("a\r\nb\tc") == "a\nb   c"
    assert plain("\x00 \u202e \ud800 \u2028 é 数") == "\\x00 \\u202e \\ud800 \\u2028 é 数"


def test_the_page_forbids_scripts_and_every_other_origin(run: Path, tmp_path: Path) -> None:
    write_report([run], tmp_path / "report.html")
    page, raw = read(tmp_path / "report.html"), (tmp_path / "report.html").read_text(encoding="utf-8")
    policy = next(its.attributes["content"] for its in page.all("meta") if "http-equiv" in its.attributes)
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
    assert sorted(its.name for its in tmp_path.iterdir()) == ["again.html", "once.html"]


@pytest.mark.parametrize("runs", [1, 2])
def test_it_can_be_read_without_eyes_and_without_a_mouse(run: Path, tmp_path: Path, runs: int) -> None:
    page = report(*several(run, tmp_path)[:runs])
    assert page.all("html")[0].attributes["lang"] == "en"
    for landmark in ("header", "nav", "main", "footer", "h1", "title"):
        assert len(page.all(landmark)) == (1 if landmark != "title" else len(page.all("title"))), landmark
    levels = [int(its.name[1]) for its in page.all("h1", "h2", "h3", "h4")]
    assert all(after <= before + 1 for before, after in pairwise(levels)), "a level of heading is left out"
    identities = [its.attributes["id"] for its in page.all() if "id" in its.attributes]
    assert len(identities) == len(set(identities))
    for element in page.all():
        for name in ("aria-labelledby", "aria-describedby"):
            assert element.attributes.get(name, identities[0]) in identities
    for link in page.all("nav")[0].all("a"):
        assert link.attributes["href"].removeprefix("#") in identities
    for its in page.all("table"):
        assert its.all("caption")[0].text
        assert all(th.attributes.get("scope") in ("col", "row") for th in its.all("th"))
    for figure in page.all("figure"):
        picture = next(its for its in figure.all("div") if its.attributes.get("role") == "img")
        assert len(picture.attributes["aria-label"]) > 20
        assert len(figure.all("table")) == 1, "the numbers of a chart stand beside it"
    for svg in page.all("svg"):
        assert svg.attributes["aria-hidden"] == "true"


def test_what_a_colour_says_a_shape_or_a_word_says_too(zero: Path) -> None:
    def worse(its: object) -> object:
        assert isinstance(its, Verdict)
        return replace(its, action="roll back")

    change(zero, "round-2/verdict/verdict.json", Verdict, worse)
    reseal(zero)
    page = report(zero)
    words = [its.text for its in page.all("ul") if its.attributes.get("class") == "legend"]
    assert "base accepted rolled back parent in service" in words
    fills = {its.attributes["fill"] for its in page.all("rect") if "column" in its.attributes.get("class", "")}
    assert fills <= {f"url(#{its.attributes['id']})" for its in page.all("pattern")}


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    digits = colour.removeprefix("#")
    digits = "".join(2 * its for its in digits) if len(digits) == 3 else digits
    channels = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [its / 12.92 if its <= 0.04045 else ((its + 0.055) / 1.055) ** 2.4 for its in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_can_be_told_from_the_ground(run: Path, tmp_path: Path) -> None:
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
            *(f"part-{its}" for its in range(6)),
            *(f"step-{its}" for its in range(5)),
        ):
            for ground in ("ground", "raised"):
                high, low = sorted((luminance(colours[name]), luminance(colours[ground])), reverse=True)
                least = 3 if name.startswith(("part-", "step-", "ghost")) else 4.5
                assert (high + 0.05) / (low + 0.05) >= least, f"{name} {colours[name]} on {ground}"
        ground = luminance(colours["ground"])
        steps = [abs(luminance(colours[f"step-{its}"]) ** 0.4 - ground**0.4) for its in range(5)]
        assert all(after - before > 0.04 for before, after in pairwise(steps)), "more is farther from the ground"


def test_a_half_finished_round_is_shown_as_far_as_it_goes(zero: Path) -> None:
    for stage in ("train", "eval", "verdict"):
        shutil.rmtree(zero / "round-2" / stage)
    page = report(zero)
    assert "Unfinished: not finished: 1 of 2 rounds, next round-2/train." in page.text
    unfinished = "Round 2 not trained No verdict: this round is not finished. "
    assert re.search(rf"{unfinished}\d+ questions, agreement over all votes 0\.\d\d, \d+ new pairs", page.text)
    assert table(page, "Round 2, step by step")[-1][0] == "to be trained on"
    assert "Round 1’s child is the best checkpoint" in page.text


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
    undecided, agreed = sum(its.winner is None for its in votes), sum(its.agreement >= 0.8 for its in votes)
    assert 0 < undecided < len(votes) - agreed, "this run has not every kind of vote"
    last = table(report(zero), "Round 2, step by step")[-1]
    assert last[:2] == ["with a majority that makes the agreement cut", str(agreed)]
    assert f"lost: {undecided} without a majority (a tie, or no final answer); " in last[3]
    assert f"{len(votes) - undecided - agreed} below consensus.min_agreement=0.8; by the votes alone" in last[3]


def test_a_run_that_has_only_begun_says_so(tmp_path: Path) -> None:
    (tmp_path / "begun/base/eval.partial").mkdir(parents=True)
    page = report(tmp_path / "begun")
    assert "Nothing is finished that a report could show." in page.text
    assert "base/eval: not finished, so it was not read" in page.text
    assert "There is no config.yaml" in page.text


def test_a_base_without_a_round_is_reported_without_a_verdict(zero: Path) -> None:
    for number in (1, 2):
        shutil.rmtree(zero / f"round-{number}")
    page = report(zero)
    assert "No child has been judged yet. sums_dev: the base solves" in page.text


def guarded(root: Path) -> None:
    """As if the test benchmark were a guard, on which nothing was gained."""
    base = [its for its in read_lines(root / "base/eval/responses.jsonl", Response) if its.benchmark == "sums_test"]
    for stage in ("base", "round-1", "round-2"):
        path = root / stage / "eval/scores.json"
        scores = msgspec.json.decode(path.read_bytes(), type=list[Score])
        path.write_bytes(msgspec.json.encode([replace(its, decides=True) for its in scores]))
        responses = read_lines(root / stage / "eval/responses.jsonl", Response)
        others = [its for its in responses if its.benchmark != "sums_test"]
        write_lines(root / stage / "eval/responses.jsonl", [*others, *base])
    reseal(root)


def test_a_guard_on_which_nothing_was_gained_takes_nothing_from_the_claim(zero: Path) -> None:
    guarded(zero)
    first = report(zero).all("main")[0].all("section")[0].text
    assert "Round 2’s child is the best checkpoint, better than the base on the deciding items." in first
    assert "sums_test:" not in first.split("Voting alone")[0]


def test_of_several_deciding_benchmarks_all_items_together_decide_the_claim(zero: Path) -> None:
    def both(its: object) -> object:
        assert isinstance(its, Verdict)
        return replace(its, benchmarks=("sums_dev", "sums_test"))

    change(zero, "round-2/verdict/verdict.json", Verdict, both)
    guarded(zero)
    first = report(zero).all("main")[0].all("section")[0].text
    assert "better than the base on the deciding items" in first
    assert re.search(r"Together: \+\d+\.\d \[.*\] points, p . 0\.\d+, on 70 items\.", first)


def test_an_accepted_child_that_chance_explains_is_not_called_better(zero: Path) -> None:
    """`gate=better` accepts any gain."""
    base = {
        (its.benchmark, its.item, its.sample): its for its in read_lines(zero / "base/eval/responses.jsonl", Response)
    }
    for stage in ("round-1", "round-2"):
        change(zero, f"{stage}/eval/responses.jsonl", Response, lambda its: base[its.benchmark, its.item, its.sample])  # type: ignore[attr-defined]
    reseal(zero)
    assert "Round 2’s child is the best checkpoint, not shown to be better than the base." in report(zero).text


def test_a_child_is_held_against_votes_on_the_items_that_were_voted_on(run: Path, page: Element) -> None:
    votes = read_lines(run / "base/reliability/votes.jsonl", Vote)
    responses = read_lines(run / "round-2/eval/responses.jsonl", Response)
    target = {(its.benchmark, its.item): its.target for its in responses}
    voted = {(its.question.bait, its.question.id): its.winner for its in votes}
    right = {item: winner is not None and winner == target[item] for item, winner in voted.items()}
    child = [its for its in responses if (its.benchmark, its.item) in right]
    gain = mean(its.correct for its in child) - mean(right.values())
    first = page.all("main")[0].all("section")[0].text
    found = re.search(r"maj@8, 20 items\): on the same 20 items round 2’s child is ([a-z ]+) that, (\S+) \[", first)
    assert found is not None
    assert float(found[2].replace("−", "-")) == pytest.approx(100 * gain, abs=0.051)
    p_value = float(re.split(r"p\s[=<]\s", first[found.start() :])[1][:5])
    assert found[1] == ("not shown to be above" if p_value > 0.05 else "above")


def test_scores_on_different_items_are_not_ranked(zero: Path) -> None:
    """Older runs did not write down which of the votes were right."""
    (zero / "base/reliability/labels.jsonl").unlink()
    path = zero / "base/eval/scores.json"
    scores = msgspec.json.decode(path.read_bytes(), type=list[Score])
    path.write_bytes(msgspec.json.encode([replace(its, majority=None, pass_at={}) for its in scores]))
    reseal(zero)
    reseal_alone(zero / "base/reliability")
    first = report(zero).all("main")[0].all("section")[0].text
    assert re.search(r"\[\S+, \S+\]\s% on sums_dev \(maj@8, 20\sitems\); round 2’s child solves \S+ \[", first)
    assert "They were not compared item by item, so it is not shown that training gave more than voting." in first


def test_what_a_vote_cannot_reach_is_not_drawn_as_one(zero: Path) -> None:
    for stage in ("base", "round-1", "round-2"):
        path = zero / stage / "eval/scores.json"
        scores = msgspec.json.decode(path.read_bytes(), type=list[Score])
        path.write_bytes(msgspec.json.encode([replace(its, majority=None, pass_at={}) for its in scores]))
    reseal(zero)
    page = report(zero)
    drawn = next(its for its in page.all("figure") if "majority of 8 votes on 20 of the items" in its.text)
    assert [its.text for its in drawn.all("text") if "@" in its.text] == ["maj@8"]
    assert "an upper bound and no vote" in page.text


def reseal_alone(stage: Path) -> None:
    manifest = json.loads((stage / MANIFEST).read_text())
    seal(stage, {name: manifest[name] for name in ("metrics", "seconds", "made_from")})


@pytest.mark.parametrize("config", [None, b"", b"\x00\xff\xfe"])
def test_a_renamed_run_without_settings_knows_its_base(zero: Path, config: bytes | None) -> None:
    (zero / "config.yaml").unlink()
    if config is not None:
        (zero / "config.yaml").write_bytes(config)
    text = report(zero.rename(zero.with_name("other"))).text
    assert "is not among what was read" not in text
    assert "Base zero-base" in text
    assert "Gained: " in text


def test_the_two_agreements_are_told_apart(run: Path, page: Element) -> None:
    metrics = json.loads((run / "round-1/synthesis" / MANIFEST).read_text())["metrics"]
    over_all, first = f"{metrics['agreement']:.2f}", f"{metrics['monitor/agreement']:.2f}"
    assert over_all != first
    assert f"agreement over all votes {over_all}," in page.all("main")[0].all("section")[0].text
    section = next(its for its in page.all("section") if its.attributes.get("id") == "agreement")
    assert f"round 1 {over_all} over all votes, {first} over the first" in section.text
    titles = [its.text for its in page.all("h3")]
    assert "Agreement of the first answers" in titles
    assert "Agreement" not in titles


def test_scores_beside_each_other_have_one_scale(page: Element) -> None:
    figures = [its for its in page.all("figure") if its.all("h3")[0].text in ("sums_dev", "sums_test")]
    scales = [[its.text for its in figure.all("text") if its.attributes["class"] == "tick end"] for figure in figures]
    assert len(scales) == 2
    assert scales[0] == scales[1]


def test_a_student_s_report_shows_its_teacher(zero: Path) -> None:
    """Rounds that another model asked and answered belong to the run; its scores are a yardstick."""
    shutil.copytree(zero / "base/eval", zero / "teacher/eval")
    manifest = json.loads((zero / "teacher/eval" / MANIFEST).read_text())
    made_from = {**manifest["made_from"], "inputs": {"checkpoint": "0123456789abcdef"}}
    seal(zero / "teacher/eval", {"metrics": {}, "seconds": 1.0, "made_from": made_from})

    def taught(manifest: dict[str, object]) -> None:
        made_from = manifest["made_from"]
        assert isinstance(made_from, dict)
        if "parent" in made_from["inputs"] and "child" not in made_from["inputs"]:
            made_from["inputs"]["parent"] = "0123456789abcdef"

    reseal(zero, taught)
    page = report(zero)
    assert "Round 2’s child is the best checkpoint" in page.text
    rows = {row[0]: row for row in table(page, "sums_dev: accuracy with")}
    assert rows["teacher"][2] == rows["base"][2]


def test_an_evaluation_alone_is_no_unfinished_run(zero: Path) -> None:
    for stage in ("base/reliability", "base/benchmarks", "round-1", "round-2", "jobs"):
        shutil.rmtree(zero / stage)
    (zero / "config.yaml").write_text("adapter: null\neval: {samples: 2}\n")
    page = report(zero)
    assert "One model was evaluated, and none was trained. sums_dev: it solves" in page.text
    assert "Unfinished" not in page.text
    other = Path(shutil.copytree(zero, zero.parent / "other"))
    page = report(zero, other)
    rows = table(page, "Models evaluated alone, against zero on the same items")
    assert [row[:3] for row in rows[1:]] == [["other", its, "0.0 [0.0, 0.0]"] for its in ("sums_dev", "sums_test")]
    assert "no child judged" not in page.text


def test_what_was_not_measured_is_said(zero: Path) -> None:
    """A run without votes on labelled items and without samples, made before there were monitors or candidates."""
    shutil.rmtree(zero / "base/reliability")
    for stage in ("base", "round-1", "round-2"):
        path = zero / stage / "eval/scores.json"
        scores = msgspec.json.decode(path.read_bytes(), type=list[Score])
        path.write_bytes(msgspec.json.encode([replace(its, majority=None, pass_at={}) for its in scores]))
    for number in (1, 2):
        (zero / f"round-{number}/synthesis/candidates.jsonl").unlink()

    def older(manifest: dict[str, object]) -> None:
        metrics = manifest["metrics"]
        assert isinstance(metrics, dict)
        manifest["metrics"] = {name: value for name, value in metrics.items() if not name.startswith("monitor/")}

    reseal(zero, older)
    page = report(zero)
    assert "What voting alone would give the base on sums_dev was not measured" in page.text
    assert "Diversity and collapse" not in page.text
    assert "maj@" not in page.text


def test_files_of_another_version_are_named_and_left_out(zero: Path) -> None:
    (zero / "round-1/synthesis/votes.jsonl").write_text('{"question":"another form"}\n')
    (zero / "base/reliability/reliability.json").write_text('{"sums_dev": 3}')
    reseal(zero)
    reseal_alone(zero / "base/reliability")
    page = report(zero)
    assert "votes.jsonl, line 1: no Vote" in page.text
    assert "reliability.json: cannot be read" in page.text
    assert "Round 2’s child is the best checkpoint" in page.text


def test_scores_that_cannot_be_read_are_not_taken_for_none(zero: Path) -> None:
    path = zero / "base/eval/scores.json"
    path.write_text(path.read_text().replace('"unparsed"', '"parsed"'))
    reseal(zero)
    first = report(zero).all("main")[0].all("section")[0].text
    assert "base/eval/scores.json: cannot be read" in first
    assert "No benchmark may decide" not in first
    assert "There is no test benchmark" not in first
    assert re.search(r"sums_dev: \d+\.\d\s%, \+\d+\.\d \[", first), "what its responses show is still said"


def several(run: Path, folder: Path) -> list[Path]:
    """Two seeds of two settings, the last of them not finished."""
    roots = []
    for name, seed, samples in (("a0", 0, 3), ("a1", 1, 3), ("b0", 0, 5), ("b1", 1, 5)):
        root = Path(shutil.copytree(run, folder / name))
        set_of(root, "seed", str(seed))
        set_of(root, "samples", str(samples))
        roots.append(root)
    shutil.rmtree(roots[-1] / "round-2")
    return roots


def test_runs_are_compared_on_what_they_share(run: Path, tmp_path: Path) -> None:
    roots = several(run, tmp_path)
    page = report(*roots, rate=2.0)
    rows = table(page, "Runs, and what differs between them")
    assert rows[0][:3] == ["run", "consensus.samples", "run.seed"]
    assert [row[:3] for row in rows[1:]] == [["a0", "3", "0"], ["a1", "3", "1"], ["b0", "5", "0"], ["b1", "5", "1"]]
    assert "not finished: 1 of 2 rounds" in rows[4][3]
    gains = table(page, "sums_dev: gain over")
    assert [row[1] for row in gains[1:]] == ["round 2", "round 2", "round 2", "round 1"]
    titles = [its.text for its in page.all("h3", "h4")]
    assert "Gain by consensus.samples" in titles
    assert "Gain by run.seed" in titles
    assert titles.count("Gain by run.seed") == 1, "what only a test set shows is not to be tuned to"
    seeds = table(page, "over seeds")
    assert ["samples=3", "sums_dev", "2", "2"] in [row[:4] for row in seeds]
    by_round = table(page, "sums_dev: accuracy % by round")
    assert by_round[4][3] == "–"


def test_a_sweep_opens_with_what_came_out_best(run: Path, tmp_path: Path) -> None:
    """The last run has one round, whose child is worse: its setting's mean comes second."""
    page = report(*several(run, tmp_path))
    first = page.all("main")[0].all("section")[0]
    claim, *grounds = [its.text for its in first.all("p", "li")]
    assert claim.startswith("samples=3 came out best of 2 settings on sums_dev (40 items): ")
    assert any(its.startswith("It cannot be told from any other (p ≤ 0.05") for its in grounds)
    assert "Being picked as the best of 2 flatters it: expect less on new items." in grounds
    assert any(its.startswith("On sums_test, by which nothing was chosen, it gains +") for its in grounds)
    assert "Ranked as far as they went, and not finished: b1." in grounds
    ranking = table(page, "best first: sums_dev")
    assert [row[0] for row in ranking] == ["setting", "samples=3", "samples=5"]
    verdicts = table(page, "Last verdict of each run")
    assert [row[:3] for row in verdicts[1:]] == [
        ["a0", "rounds 1, 2", "round 2: accept"],
        ["a1", "rounds 1, 2", "round 2: accept"],
        ["b0", "rounds 1, 2", "round 2: accept"],
        ["b1", "round 1", "round 1: accept"],
    ]
    assert "points/hour" not in table(page, "Runs, and what differs")[0], "of seconds, nothing by the hour"


def test_values_too_long_for_a_chart_have_letters(run: Path, tmp_path: Path) -> None:
    roots = []
    models = ("one/Qwen2.5-7B-Instruct", "two/Qwen2.5-7B-Instruct", "Llama-3-8B-Instruct", "Llama-3.1-8B-Instruct", "x")
    for nth, name in enumerate(models):
        roots.append(Path(shutil.copytree(run, tmp_path / f"run-{nth}")))
        set_of(roots[-1], "path", f"/of/all/models/{name}")
    page = report(*roots)
    figure = next(its for its in page.all("figure") if its.all("h3", "h4")[0].text == "Gain by model.path")
    assert [its.text for its in figure.all("text") if its.text in tuple("ABCDEF")] == ["A", "B", "C", "D", "E"]
    assert "A …Llama-3-8B-Instruct, B …Llama-3.1-8B-Instruct, C …" in figure.text


def test_a_random_search_is_told_apart_by_its_values_and_drawn_along_them(run: Path, tmp_path: Path) -> None:
    rates = [f"{1 + 8 * (nth % 2)}.0e{nth // 2 - 8:+03}" for nth in range(14)]
    roots = []
    for nth, rate in enumerate(rates):
        root = Path(shutil.copytree(run, tmp_path / f"one-of-many-runs-of-a-random-search-{nth}"))
        for many, key in enumerate(("samples", "threshold", "rank", "dropout", "warmup", "min_agreement"), 2):
            set_of(root, key, str(nth % many))
        set_of(root, "learning_rate", rate)
        set_of(root, "max_steps", str(5 * nth % 14))
        roots.append(root)
    page = report(*roots)
    runs = table(page, "Runs, and what differs between them")
    assert len(runs[0]) == 1 + 5 + 3 + 1, "five settings, and the name"
    assert sorted(row[-1] for row in runs[1:]) == sorted(its.name for its in roots)
    called = [row[0] for row in runs[1:]]
    assert len(set(called)) == 14
    assert not any("one-of-many" in its for its in called)
    everything = table(page, "All 8 settings that differ")
    assert [row[0] for row in everything[1:]] == called
    for caption in ("Last verdict", "sums_dev: gain over", "sums_dev: accuracy % by round"):
        assert [row[0] for row in table(page, caption)[1:]] == called, "the same order everywhere"
    charts = [its for its in page.all("details") if its.all("summary")[0].text == "14 charts"]
    assert [len(its.all("figure")) for its in charts] == [14, 14], "folded, of both benchmarks"
    figure = next(its for its in page.all("figure") if its.all("h3", "h4")[0].text == "Gain by train.learning_rate")
    assert "cannot tell" not in figure.text, "each value is one run’s, and the orders are not the same"
    across = sorted(float(its.attributes["cx"]) for its in figure.all("circle") if "main" in its.attributes["class"])
    steps = [after - before for before, after in pairwise(across[-14:])]
    assert max(steps[::2]) - min(steps[::2]) < 0.3, "from 1 to 9"
    assert max(steps[1::2]) - min(steps[1::2]) < 0.3, "from 9 to 10"
    assert steps[0] > 10 * steps[1], "as a logarithm has it"


def outcome(name: str, gain: float | None, verdict: Action = "accept", **way: float) -> Outcome:
    """Of one run with a child that was judged; without a gain, of one that has none yet."""
    if gain is None:
        return Outcome(name, None, None)
    known = {**dict.fromkeys(("questions", "agreement", "near_duplicate_drop_rate", "pairs")), **way}
    row = RoundRow(1, name, verdict, **known, tokens=None, seconds=None, measured=())
    return Outcome(name, row, Comparison("sums_dev", "base", gain, gain - 0.1, gain + 0.1, 0.5, 0.5, 2, 1, 40))


def swept(key: str, *values: str) -> Differing:
    """A setting of the runs a, b, c …, in JSON."""
    runs: dict[str, list[str]] = {}
    for name, value in zip("abcdefghij", values, strict=False):
        runs.setdefault(value, []).append(name)
    return Differing(key, {value: tuple(names) for value, names in runs.items()})


def drawn(figure: Figure | None) -> Element:
    assert figure is not None
    reader = Reader()
    reader.feed(str(figure.picture))
    return reader.root


def axis_names(figure: Figure | None) -> list[str]:
    return [its.all("title")[0].text for its in drawn(figure).all("g") if "class" not in its.attributes]


def corners(figure: Figure | None, name: str) -> list[list[tuple[float, float]]]:
    """The parts of a run's line."""
    tracks = [its for its in drawn(figure).all("g") if its.attributes.get("class", "").startswith("track")]
    track = next(its for its in tracks if its.all("title")[0].text.startswith(f"{name};"))
    lines = [its for its in track.all("polyline") if its.attributes["class"].startswith("track-line")]
    parts = [[at.split(",") for at in its.attributes["points"].split()] for its in lines]
    return [[(float(x), float(y)) for x, y in part] for part in parts]


THREE = (outcome("a", 0.1), outcome("b", 0.2), outcome("c", 0.3))


def test_lines_go_from_settings_through_what_happened_to_the_gain() -> None:
    ways = ({"agreement": 0.5, "pairs": 9.0}, {"agreement": 0.6, "pairs": 9.0}, {"agreement": 0.7, "pairs": 9.0})
    outcomes = [replace(its, row=outcome("", 0, **way).row) for its, way in zip(THREE, ways, strict=True)]
    settings = [
        swept("eval.shots", "0", "4", "4"),
        swept("run.seed", "2", "1", "2"),
        swept("train.trainer", '"sft"', '"sft"', '"dpo"'),
    ]
    figure = parallel_figure("sums_dev", outcomes, settings)
    names = ["train.trainer", "eval.shots", "run.seed", "agreement %", "points gained on sums_dev"]
    assert axis_names(figure) == names, "pairs are the same in all, the others were not measured"
    assert figure is not None
    assert figure.numbers.columns[2:] == (*(f"|{its}" for its in names[:-1]), "child", "|points")
    assert figure.numbers.rows[2] == ("c", "3", "dpo", "4", "2", "70.0", "accepted", "+30.0 [+20.0, +40.0]")
    gains = {name: corners(figure, name)[0][-1][1] for name in "abc"}
    assert gains["a"] > gains["b"] > gains["c"], "up is more"


def test_settings_that_span_decades_stand_on_a_logarithmic_axis() -> None:
    rate, ratio = swept("train.rate", "1e-05", "0.0001", "0.001"), swept("pairs.ratio", "10", "0", "1000")
    figure = parallel_figure("sums_dev", THREE, [rate, ratio])
    heights = {name: [y for _, y in corners(figure, name)[0]] for name in "abc"}
    assert {"rate (log)", "ratio"} <= {its.text for its in drawn(figure).all("text")}, "no logarithm of zero"
    low, middle, high = (heights[name][1] for name in "abc")
    assert middle == pytest.approx((low + high) / 2, abs=0.1)
    low, middle, high = (heights[name][0] for name in "bac")
    assert (low - middle) / (low - high) == pytest.approx(0.01, abs=0.001)


def test_a_value_that_is_not_known_leaves_a_gap() -> None:
    outcomes = [
        outcome("a", 0.1, agreement=0.5),
        outcome("b", 0.2),
        outcome("c", 0.3, "roll back", agreement=0.6),
        outcome("d", None),
    ]
    figure = parallel_figure(
        "sums_dev",
        outcomes,
        [swept("pairs.ratio", "1", "2", "(not there)", "4"), swept("run.seed", "0", "1", "0", "2")],
    )
    assert axis_names(figure) == ["pairs.ratio", "run.seed", "agreement %", "points gained on sums_dev"]
    assert [len(its) for its in corners(figure, "a")] == [4]
    assert [len(its) for its in corners(figure, "b")] == [2], "its gain stands alone"
    assert [len(its) for its in corners(figure, "c")] == [3]
    assert [len(its) for its in corners(figure, "d")] == [2]
    page = drawn(figure)
    looks = [its.attributes["class"] for its in page.all("polyline") if its.attributes["class"] != "near"]
    assert sorted(looks) == ["track-line", "track-line", "track-line dashed", "track-line unknown"]
    assert figure is not None
    assert [name for _, name in figure.legend] == ["accepted", "not accepted", "no child judged"]
    assert figure.numbers.rows[3][2:] == ("4", "2", "–", "none judged", "–")


def test_lines_of_equal_values_can_be_told_apart() -> None:
    outcomes = [outcome(name, 0.2) for name in "abcd"]
    figure = parallel_figure("sums_dev", outcomes, [swept("run.seed", "0", "0", "0", "1")])
    heights = [corners(figure, name)[0][0][1] for name in "abc"]
    assert heights == sorted(set(heights))
    assert heights[-1] - heights[0] < 10
    assert figure == parallel_figure("sums_dev", outcomes, [swept("run.seed", "0", "0", "0", "1")])


def test_settings_that_the_runs_cannot_tell_apart_share_an_axis() -> None:
    rate, other = swept("train.rate", "1", "2", "3"), swept("train.other", "30", "20", "10")
    order = swept("train.order", "1", "3", "2")
    figure = parallel_figure("sums_dev", THREE, [rate, other, order])
    assert axis_names(figure) == ["train.order", "train.other", "points gained on sums_dev"]
    assert figure is not None
    assert "cannot tell train.other from train.rate." in figure.note


def test_what_has_no_room_is_named() -> None:
    outcomes = [
        outcome(f"r{nth:02d}", nth / 100, agreement=nth / 50, questions=nth, pairs=nth % 7) for nth in range(50)
    ]
    settings = [
        Differing(f"train.s{key}", {str((nth * key) % 53): (its.name,) for nth, its in enumerate(outcomes)})
        for key in range(1, 8)
    ]
    settings.append(Differing("run.seed", {"0": ("r00",), "1": tuple(its.name for its in outcomes[1:])}))
    settings.append(Differing("model.path", {json.dumps(f"/m/{its.name}"): (its.name,) for its in outcomes}))
    figure = parallel_figure("sums_dev", outcomes, settings)
    shown = axis_names(figure)
    assert shown == [*(f"train.s{key}" for key in range(1, 6)), "agreement %", "pairs", "points gained on sums_dev"]
    assert figure is not None
    assert "The first 40 of 50 runs." in figure.note
    assert "Without an axis here: model.path, train.s6, train.s7, run.seed and 1 more." in figure.note
    assert len(figure.numbers.rows) == 40


@pytest.mark.parametrize(
    "value", ['"</title><script>hostile=1</script>\\u202e"', "1" + "0" * 400, "NaN", "-1e308", "[1, {}]", '""', "true"]
)
def test_a_setting_of_any_value_is_text_in_a_picture(value: str) -> None:
    for others in (("1", "2"), ('"x"', "null"), ("1e-320", "1e300"), ("0.1", "0.10000000000000002")):
        figure = parallel_figure("sums_dev", THREE, [swept("pairs.policy", value, *others)])
        page = drawn(figure)
        assert not page.all("script")
        assert "nan" not in str(figure.picture if figure else "nan").replace("NaN", "")
        assert "\u202e" not in page.text


def test_few_runs_and_equal_ones_have_tables_enough() -> None:
    seeds = [swept("run.seed", "0", "1", "2")]
    assert parallel_figure("sums_dev", THREE[:2], seeds) is None
    assert parallel_figure("sums_dev", [*THREE[:2], outcome("c", None)], seeds) is None
    assert parallel_figure("sums_dev", THREE, []) is None
    assert parallel_figure("sums_dev", THREE, [swept("run.seed", "0", "0", "0", "1")]) is None


def test_a_sweep_as_lines_scrolls_on_a_phone_and_the_page_does_not(run: Path, tmp_path: Path) -> None:
    roots = several(run, tmp_path)
    for root, policy in zip(roots, ("accumulate", "window", "window", "decay"), strict=True):
        set_of(root, "policy", policy)
        set_of(root, "accelerate", f"/a/path/of/{root.name}/that/differs/in/its/middle.yaml")
    page = report(*roots)
    assert [its.text for its in page.all("h3")].count("From settings to gain") == 1, "only of what decides"
    assert len(table(page, "sums_dev: from settings to gain")) == 5
    with open_page(tmp_path) as shown:
        shown.open(tmp_path / "report.html", 390)
        wide = "document.querySelector('.wide svg')"
        assert shown.evaluate("document.documentElement.scrollWidth") <= 390
        assert shown.evaluate(f"{wide}.getBoundingClientRect().width == Number({wide}.getAttribute('width'))")
        assert shown.evaluate(f"{wide}.closest('.scroll').scrollWidth > 390")
        outside = f"[...{wide}.querySelectorAll('text')].filter(its => its.getBBox().x < 0 || its.getBBox().x + "
        outside += f"its.getBBox().width > {wide}.viewBox.baseVal.width).map(its => its.textContent)"
        assert shown.evaluate(outside) == []
        shown.open(tmp_path / "report.html", 1200)
        assert shown.evaluate("document.documentElement.scrollWidth") <= 1200
        assert shown.complaints == []


def test_runs_with_other_items_are_named_and_not_compared(run: Path, tmp_path: Path) -> None:
    roots = several(run, tmp_path)[:2]
    for stage in ("base/eval", "round-1/eval", "round-2/eval"):
        change(roots[1], f"{stage}/responses.jsonl", Response, lambda its: replace(its, item=f"x{its.item}"))  # type: ignore[type-var]
    reseal(roots[1])
    text = report(*roots).text
    assert (
        "sums_dev: other items under the same name (40 items in a0; 40 items in a1), so these are not compared" in text
    )
    assert "a1: shares no items with another run, so its scores stand alone" in text


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
    text = report(*roots, tmp_path / "begun").text
    assert "begun: no child judged yet, so it has no gain to compare (nothing finished to compare)" in text
    assert "different versions of Crescent" in text


def test_a_report_goes_into_the_run_s_folder_unless_told_otherwise(
    zero: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    report_command([str(zero)])
    assert capsys.readouterr().out == f"{zero / 'report.html'}\n"
    shutil.copytree(zero, tmp_path / "other")
    report_command([str(zero), "other", "--rate", "2.5"])
    assert "2 runs side by side" in read(tmp_path / "report.html").text
    report_command(["zero", "--output", "elsewhere.html"])
    assert read(tmp_path / "elsewhere.html").all("h1")[0].text == "zero"
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
def test_ticks_are_round_few_and_hold_everything(low: float, span: float, many: int) -> None:
    found = ticks(low, low + span, many)
    slack = span * 1e-5
    assert found[0] <= low + slack
    assert found[-1] >= low + span - slack
    assert 2 <= len(found) <= 2 * many + 2
