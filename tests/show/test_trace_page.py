"""A trace on the terminal and as JSON."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from fakes import answers
from handmade_run import FIRST, KEPT, HandmadeRun, page, pair, verdict, voted, wrote

from crescent.reading.trace import Trace, trace
from crescent.records import (
    Bait,
    BaitCount,
    Candidate,
    Quarantined,
)
from crescent.show.trace import as_json
from crescent.synthesis.consensus import vote


@pytest.fixture
def run(tmp_path: Path) -> HandmadeRun:
    return HandmadeRun(tmp_path / "hand")


HOSTILE = "\x1b]0;owned\x07\x1b[31mred\x9b2J\r\u202egnp.exe\x7f [bold]bracket[/bold] :smile:\n\nfilters\n  passed all"


def test_whatever_a_model_writes_is_shown_as_text(run: HandmadeRun) -> None:
    mean = replace(wrote(HOSTILE), bait=HOSTILE)
    decided = vote(mean, answers(mean, HOSTILE, HOSTILE, None), [0, 0, -1])
    hit = Quarantined(mean, HOSTILE, HOSTILE, HOSTILE, "ngram", HOSTILE)
    candidates = [Candidate(mean, "accepted", why=HOSTILE)]
    run.synthesis(votes=[decided], candidates=candidates, baits=[BaitCount(Bait(HOSTILE, HOSTILE))])
    run.selection(1, [pair(decided)], quarantine=[hit])
    run.judge(1, verdict(run.train(1), reason=HOSTILE))
    found = trace(run.root, mean.id)
    for shown in (page(found), page(found, full=True), page(found, width=25), as_json(found)):
        assert not {character for character in shown if not character.isprintable()} - {"\n"}
    shown = page(found, width=120)
    assert "\\x1b[31mred\\x9b2J\\r\\u202egnp.exe\\x7f [bold]bracket[/bold] :smile:" in shown
    assert shown.splitlines().count("filters") == 1, "no text passes for a line of the page"


def test_a_page_fits_the_terminal_and_long_texts_are_shortened_with_a_count(run: HandmadeRun) -> None:
    long = wrote("word " * 1000)
    decided = voted(long, "9" * 300, "9" * 300, "1")
    tall = replace(decided.answers[2], text="line\n" * 100)
    run.synthesis(votes=[replace(decided, answers=(*decided.answers[:2], tall))])
    found = trace(run.root, long.id)
    for width in (80, 40):
        shown = page(found, width)
        assert max(map(len, shown.splitlines())) <= width
        assert len(shown.splitlines()) < 150
    shown = " ".join(page(found, 200).split())
    assert "word… (4,401 more characters)" in shown
    assert f"final {'9' * 60}… (240 more)" in shown
    assert page(found).count("| line") == 12
    assert page(found, full=True).count("| line") == 100
    assert "more characters" not in page(found, full=True)


def test_the_json_reads_back_to_the_same_trace(run: HandmadeRun) -> None:
    odd = wrote('Üben: \u2028 \x7f \x1b 🜂 \\ "?', neighbour=FIRST.id, similarity=0.5, index=2)
    decided = voted(odd, "é", "é", None)
    hit = Quarantined(FIRST, "gsm8k", "1", "?", "ngram", "?")
    run.synthesis(votes=[KEPT, decided])
    run.selection(1, [pair(decided)], quarantine=[hit])
    run.judge(1, verdict(run.train(1)))
    for identity in (odd.id, FIRST.id):
        found = trace(run.root, identity)
        line = as_json(found)
        assert line.isascii()
        assert line.isprintable()
        assert msgspec.json.decode(line, type=Trace) == found
