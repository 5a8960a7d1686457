import io
import time
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console as RichConsole

from crescent.config import Console, TrackingConfig, Wandb
from crescent.observe import RunObserver
from crescent.records import Checkpoint, Evaluation, Round, Score, Verdict
from crescent.run_folder.manifest import MANIFEST
from crescent.run_folder.once import Done
from crescent.run_folder.reuse import note_reused
from crescent.show.console import LiveView, Pace, PlainView, RoundsPicture
from crescent.show.forecast import Forecast


def test_the_pace_counts_from_the_first_report_on() -> None:
    pace = Pace()
    assert pace.of(100.0, 500, 1000) == "", "an earlier attempt did these"
    assert pace.of(110.0, 520, 1000) == "2.0/s, 4 min left"
    assert pace.of(350.0, 980, 1000) == "1.9/s, 10 s left"
    assert pace.of(360.0, 1010, 1000) == "2.0/s", "more than was expected"


def test_the_pace_of_a_slow_stage_is_per_minute() -> None:
    pace = Pace()
    pace.of(0.0, 0, 10)
    assert pace.of(600.0, 1, 10) == "0.1/min, 90 min left"


def test_the_pace_is_that_of_the_last_minute_or_of_ten_units() -> None:
    pace = Pace()
    for second in range(0, 100, 10):
        pace.of(float(second), 100 * second, 100_000)
    for second in range(100, 200, 10):
        speed = pace.of(float(second), 9_000 + second, 100_000)
    assert speed.startswith("1.0/s")
    slow = Pace()
    assert [slow.of(100.0 * number, number, 100) for number in range(20)][-1] == "0.6/min, 135 min left"


def test_a_stage_that_starts_over_has_a_new_pace() -> None:
    pace = Pace()
    pace.of(0.0, 50, 100)
    assert pace.of(10.0, 0, 100) == ""
    assert pace.of(30.0, 20, 100) == "1.0/s, 80 s left"


def test_plain_lines_show_how_much_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter((0.0, 1.0, 21.0))
    view = PlainView(Forecast(2), lambda: next(clock))
    view.started("round-1/synthesis", resumed=False)
    view.progress("round-1/synthesis", 0, 100, "nothing yet")
    view.progress("round-1/synthesis", 40, 100, "12 agreed")
    assert "round-1/synthesis: 40/100  2.0/s, 30 s left  12 agreed" in capsys.readouterr().out


def test_the_round_and_the_run_are_forecast_from_the_stages_before() -> None:
    forecast = Forecast(rounds=3)
    assert forecast.text("base/eval", 5.0) == "", "there is no round yet"
    forecast.finished("base/eval", 100.0)
    told = forecast.text("round-1/synthesis", 60.0)
    assert told == "round 3 min left + train", "nobody knows how long the training takes"
    assert Forecast(rounds=1).text("round-1/synthesis", 60.0) == "", "nothing is known of what follows"
    forecast.finished("round-1/synthesis", 200.0)
    assert forecast.text("round-1/train", 80.0) == "round 3 min left", "its evaluation takes as long as the base's"
    forecast.finished("round-1/train", 300.0)
    assert forecast.text("round-1/eval", 60.0) == "round 60 s, run 21 min left"
    assert forecast.text("round-3/synthesis", 60.0) == "run 8 min left"
    assert forecast.text("round-3/synthesis", None) == "", "of its own pace nothing is known yet"


def test_a_line_of_progress_says_what_the_round_and_the_run_still_take(capsys: pytest.CaptureFixture[str]) -> None:
    forecast = Forecast(rounds=2)
    for stage, seconds in (("base/eval", 100.0), ("round-1/synthesis", 7200.0), ("round-1/train", 3600.0)):
        forecast.finished(stage, seconds)
    clock = iter((0.0, 1.0, 21.0))
    view = PlainView(forecast, lambda: next(clock))
    view.started("round-1/eval", resumed=False)
    view.progress("round-1/eval", 0, 100, "")
    view.progress("round-1/eval", 40, 100, "3 cut")
    assert "round-1/eval: 40/100  2.0/s, 30 s left  round 30 s, run 3.0 h left  3 cut" in capsys.readouterr().out


def test_a_line_of_progress_says_what_the_run_cost_so_far_if_an_hour_has_a_price(
    capsys: pytest.CaptureFixture[str],
) -> None:
    forecast = Forecast(rounds=2, rate=36.0)
    forecast.finished("base/eval", 100.0)
    forecast.finished("round-1/synthesis", 5000.0, here=False)
    clock = iter((0.0, 1.0, 20.0))
    view = PlainView(forecast, lambda: next(clock))
    view.started("round-1/train", resumed=False)
    view.progress("round-1/train", 0, 100, "")
    view.progress("round-1/train", 38, 100, "loss 0.5")
    assert "train: 38/100  2.0/s, 31 s left  round 2 min left  cost 1.20 so far  loss 0.5" in capsys.readouterr().out
    assert Forecast(rounds=2).cost(20.0) == ""


def test_what_another_run_made_is_no_cost_of_this_one_after_a_restart_either(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = TrackingConfig(wandb=Wandb.disabled, console=Console.plain, hourly_rate=3600.0)
    first = RunObserver(tmp_path, settings, "a")
    first.reused("base/eval", {}, 100.0, "runs/b")
    assert first.forecast.cost(1.0) == "cost 1.00 so far"
    assert first.forecast.text("round-1/train", 5.0) == "run 2 min left", "the other run knows how long it takes"
    for stage in ("eval", "benchmarks"):
        (tmp_path / "base" / stage).mkdir(parents=True)
        (tmp_path / "base" / stage / MANIFEST).write_text('{"digest": "d"}')
    note_reused(tmp_path / "base/eval", "runs/b", {"digest": "d"})
    again = RunObserver(tmp_path, settings, "a")
    again.finished("base/eval", {}, 100.0, fresh=False)
    again.finished("base/benchmarks", {}, 2.0, fresh=False)
    assert again.forecast.cost(1.0) == "cost 3.00 so far"


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_live_picture_shows_bar_pace_and_note_however_narrow(width: int) -> None:
    output = io.StringIO()
    view = LiveView(
        Forecast(2), RichConsole(file=output, force_terminal=True, width=width, markup=False, highlight=False)
    )
    view.started("round-1/synthesis", resumed=False)
    view.progress("round-1/synthesis", 1000, 10_000, f"5 agreed [/broken] {200 * 'x'}")
    view._live.refresh()
    time.sleep(0.02)
    view.progress("round-1/synthesis", 2000, 10_000, f"9 agreed [/broken] {200 * 'x'}")
    view._live.refresh()
    view._drop_bar()
    view.close()
    shown = output.getvalue()
    line, below = next(pair for pair in pairwise(shown.splitlines()) if "2000/10000" in pair[0])
    assert "round-1/synthesis" in line
    assert "━━━" in line
    assert "/s, " in below
    assert "9 agreed [/broken]" in below
    assert "…" in below


def test_unchanged_progress_is_repeated_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    view = PlainView(Forecast(2), lambda: now)
    view.started("round-1/train", resumed=False)
    for _ in range(14):
        now += 10.0
        view.progress("round-1/train", 1 if now < 125 else 2, 4, "loss 0.5")
    lines = [line for line in capsys.readouterr().out.splitlines() if "/4" in line]
    assert [line.split("/4")[0][-1] for line in lines] == ["1", "1", "2"]


def round_of(number: int) -> Round:
    def done(**metrics: float) -> Done:
        return Done(Path(), "d", metrics, 1.0)

    parent, child = (
        Evaluation(Checkpoint(name, at, name), (Score("sums_dev", right, 0, 150, 0.125, 0.875),), done())
        for name, at, right in (("base", 0, 80), ("child", number, 124))
    )
    verdict = Verdict("roll back", "because", "child", "base", 0.293, 0.22, 0.367, 0.0004, 44, 0, 150)
    votes, pairs = done(questions=1234, agreement=0.43), done(pairs=25)
    return Round(number, parent, votes, pairs, parent, child, verdict)


@pytest.mark.parametrize("width", [40, 60, 80, 160])
def test_no_number_of_the_rounds_is_shortened_however_narrow(width: int) -> None:
    output = io.StringIO()
    RichConsole(file=output, width=width, markup=False, highlight=False).print(
        RoundsPicture([round_of(1), round_of(2)])
    )
    shown = " ".join(output.getvalue().split()).replace("p < 0.001", "p <0.001")
    for part in (
        "1234",
        "0.43",
        "25",
        "sums_dev",
        "53.3%",
        "82.7%",
        "+29.3",
        "[22.0,",
        "36.7]",
        "<0.001",
        "rolled back",
    ):
        assert shown.count(part) == 2, part
    assert "…" not in shown
    assert max(map(len, output.getvalue().splitlines())) <= width


def test_a_verdict_is_printed_once_when_it_is_reached(capsys: pytest.CaptureFixture[str]) -> None:
    view = PlainView(Forecast(2), lambda: 0.0)
    view.round_done(round_of(1))
    view.started("round-2/verdict", resumed=False)
    view.round_done(round_of(2))
    lines = [line for line in capsys.readouterr().out.splitlines() if "rolled back" in line]
    assert [line[10:] for line in lines] == ["Round 2 rolled back: because"], "round 1 was judged by an earlier start"
