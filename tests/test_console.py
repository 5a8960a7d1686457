import io
import time

import pytest
from rich.console import Console as RichConsole

from crescent.console import LiveView, Pace, PlainView


def test_the_pace_counts_from_the_first_report_on() -> None:
    pace = Pace()
    assert pace.of(100.0, 500, 1000) == "", "an earlier attempt did these"
    assert pace.of(110.0, 520, 1000) == "2.0/s, 4 min left"
    assert pace.of(350.0, 980, 1000) == "1.9/s, 10 s left"
    assert pace.of(360.0, 1010, 1000) == "2.0/s, 0 s left", "more than was expected"


def test_a_slow_stage_is_told_by_the_minute() -> None:
    pace = Pace()
    pace.of(0.0, 0, 10)
    assert pace.of(600.0, 1, 10) == "0.1/min, 90 min left"


def test_a_stage_that_starts_over_has_a_new_pace() -> None:
    pace = Pace()
    pace.of(0.0, 50, 100)
    assert pace.of(10.0, 0, 100) == ""
    assert pace.of(30.0, 20, 100) == "1.0/s, 80 s left"


def test_plain_lines_say_how_much_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter((0.0, 1.0, 21.0))
    view = PlainView(lambda: next(clock))
    view.started("round-1/synthesis", resumed=False)
    view.progress("round-1/synthesis", 0, 100, "nothing yet")
    view.progress("round-1/synthesis", 40, 100, "12 agreed")
    assert "round-1/synthesis: 40/100  2.0/s, 30 s left  12 agreed" in capsys.readouterr().out


def test_the_live_picture_shows_bar_pace_and_note() -> None:
    output = io.StringIO()
    view = LiveView(RichConsole(file=output, force_terminal=True, width=160, markup=False, highlight=False))
    view.started("round-1/synthesis", resumed=False)
    view.progress("round-1/synthesis", 10, 100, "5 agreed [/broken]")
    view._live.refresh()
    time.sleep(0.02)
    view.progress("round-1/synthesis", 20, 100, "9 agreed [/broken]")
    view._live.refresh()
    view.close()
    shown = output.getvalue()
    assert "20/100" in shown
    assert "/s, " in shown
    assert "9 agreed [/broken]" in shown


def test_a_stage_that_stands_still_says_so_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    view = PlainView(lambda: now)
    view.started("round-1/train", resumed=False)
    for _ in range(14):
        now += 10.0
        view.progress("round-1/train", 1 if now < 125 else 2, 4, "loss 0.5")
    lines = [line for line in capsys.readouterr().out.splitlines() if "/4" in line]
    assert [line.split("/4")[0][-1] for line in lines] == ["1", "1", "2"]
