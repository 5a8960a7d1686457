"""The questions, answers and benchmark items of a report: text that a model wrote."""

import json
import re
from dataclasses import replace
from pathlib import Path

from chromium import open_page
from report_page import Element, report_of
from smoke_runs import change_records, reseal, set_setting

from crescent.records import (
    Alarm,
    Candidate,
    Pair,
    Response,
    Verdict,
    Vote,
    read_lines,
)
from crescent.report.texts import plain

HOSTILE = (
    "</script></div></style><script>hostile=1</script><img src=x onerror=hostile=1>"
    "<svg onload=hostile=1><iframe src=javascript:hostile=1></iframe>{{ 7 * 7 }}\x00\u202egnp.exe\x1b[31m"
)


SEEN = "</script></div></style><script>hostile=1</script>"


def test_questions_can_be_read_with_all_their_answers(run: Path, page: Element) -> None:
    votes = {vote.question.id: vote for vote in read_lines(run / "round-1/synthesis/votes.jsonl", Vote)}
    shown = [element for element in page.all("details") if element.attributes.get("class") == "sample"]
    found = [next((v for v in votes.values() if v.question.id in element.text), None) for element in shown]
    known = [(element, vote) for element, vote in zip(shown, found, strict=True) if vote is not None]
    assert len(known) == 12
    assert len({vote.agreement for _, vote in known}) > 2, "sampled across agreement levels"
    for element, vote in known:
        assert vote.question.text in element.text
        for answer in vote.answers:
            assert " ".join(answer.text.split()) in element.text


def test_near_duplicates_stand_beside_their_neighbours(run: Path, page: Element) -> None:
    near = [
        candidate
        for number in (1, 2)
        for candidate in read_lines(run / f"round-{number}/synthesis/candidates.jsonl", Candidate)
        if candidate.outcome in ("rewritten", "near-duplicate")
    ]
    assert near, "this run has none: the threshold is too high for the test"
    section = next(element for element in page.all("section") if element.attributes.get("id") == "questions")
    assert f"cosine {max(candidate.question.similarity or 0 for candidate in near):.3f}" in section.text
    assert "nearest earlier question" in section.text


def test_items_gained_and_lost_show_both_responses(run: Path, page: Element) -> None:
    verdict = read_lines(run / "round-1/verdict/verdict.json", Verdict)[0]
    against = {comparison.benchmark: comparison for comparison in verdict.comparisons if comparison.against == "parent"}
    section = next(element for element in page.all("section") if element.attributes.get("id") == "changes")
    gained = sum(comparison.gained for comparison in against.values())
    assert f"Gained: {gained} items" in section.text
    samples = [element for element in section.all("details") if "parent" in element.text]
    assert samples
    for element in samples:
        assert [dt.text.split(",")[0] for dt in element.all("dt")] == ["Prompt", "Correct answer", "Parent", "Child"]


def test_a_preference_pair_shows_what_was_rejected(zero: Path) -> None:
    def with_outvoted(pair: object) -> object:
        assert isinstance(pair, Pair)
        return replace(pair, rejected="the outvoted response", margin=0.25)

    change_records(zero, "round-2/pairs/new.jsonl", Pair, with_outvoted)
    reseal(zero)
    text = report_of(zero).text
    assert "the outvoted response" in text
    assert "margin 0.25" in text


def test_no_text_of_a_model_can_do_anything(zero: Path) -> None:
    def spoil(record: object) -> object:
        match record:
            case Vote():
                spoilt = tuple(replace(a, text=HOSTILE, final=HOSTILE if a.final else None) for a in record.answers)
                question = replace(record.question, text=HOSTILE, bait=HOSTILE)
                return replace(record, question=question, answers=spoilt, winner=HOSTILE if record.winner else None)
            case Candidate():
                return replace(record, question=replace(record.question, text=HOSTILE, bait=HOSTILE), why=HOSTILE)
            case Response():
                final = HOSTILE if record.final else None
                return replace(record, text=HOSTILE, final=final, prompt=HOSTILE, target=HOSTILE)
            case Verdict():
                return replace(record, reason=HOSTILE, alarms=(Alarm(HOSTILE, 1.0, 0.5, HOSTILE),))
        return record

    for number in (1, 2):
        for name, kind in (("votes", Vote), ("candidates", Candidate)):
            change_records(zero, f"round-{number}/synthesis/{name}.jsonl", kind, spoil)
        change_records(zero, f"round-{number}/verdict/verdict.json", Verdict, spoil)
    for stage in ("base", "round-1", "round-2"):
        change_records(zero, f"{stage}/eval/responses.jsonl", Response, spoil)
        path = zero / stage / "eval/scores.json"
        path.write_text(path.read_text().replace("sums_test", SEEN))
    set_setting(zero, "path", json.dumps(HOSTILE))
    reseal(zero)
    page = report_of(zero)
    assert not page.all("script", "img", "iframe", "object", "form")
    for element in page.all():
        assert not [
            attribute for attribute in element.attributes if attribute.startswith("on") or attribute == "style"
        ], element.name
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
            shown.evaluate("document.querySelectorAll('details').forEach(element => element.open = true)")
            assert shown.evaluate("document.documentElement.scrollWidth") <= width
            assert shown.evaluate("typeof hostile") == "undefined"
            assert shown.evaluate("document.scripts.length") == 0
            assert shown.evaluate("document.querySelector('svg .line, svg .whisker') !== null")
            background = shown.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (background == "rgb(20, 23, 27)") is dark, "the style is not applied"
        assert shown.complaints == []
        assert [url for url in shown.requests if not url.startswith(("file:", "data:"))] == []


def test_a_text_of_a_megabyte_is_cut_with_a_note(zero: Path) -> None:
    def long(vote: object) -> object:
        assert isinstance(vote, Vote)
        return replace(
            vote, answers=tuple(replace(answer, text="9" * 1_000_000) for answer in vote.answers[:1]), classes=(0,)
        )

    change_records(zero, "round-1/synthesis/votes.jsonl", Vote, long)
    reseal(zero)
    assert "998,800 more characters are in the run folder" in report_of(zero).text
    assert (zero.parent / "report.html").stat().st_size < 1_000_000


def test_what_cannot_be_seen_is_spelled_out() -> None:
    assert plain("a\r\nb\tc") == "a\nb   c"
    assert plain("\x00 \u202e \ud800 \u2028 é 数") == "\\x00 \\u202e \\ud800 \\u2028 é 数"
