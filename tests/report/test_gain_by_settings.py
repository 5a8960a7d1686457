"""Runs as lines through their settings, on charts of runs made up for the test."""

import json
from dataclasses import replace

import pytest
from report_page import Element, PageParser

from crescent.reading.differing_settings import (
    DifferingSetting,
)
from crescent.reading.rounds import RoundSummary
from crescent.records import (
    Action,
    Comparison,
)
from crescent.report.figures import Figure
from crescent.report.gain_by_settings import RunGain, gain_figure


def run_gain(name: str, gain: float | None, action: Action = "accept", **way: float) -> RunGain:
    """The gain of a run with a judged child; without a gain, no child was judged yet."""
    if gain is None:
        return RunGain(name, None, None)
    known = {**dict.fromkeys(("questions", "agreement", "near_duplicate_drop_rate", "pairs")), **way}
    round_ = RoundSummary(1, name, action, **known, tokens=None, seconds=None, results=())
    return RunGain(name, round_, Comparison("sums_dev", "base", gain, gain - 0.1, gain + 0.1, 0.5, 0.5, 2, 1, 40))


def setting_of(key: str, *values: str) -> DifferingSetting:
    """A setting of the runs a, b, c …, in JSON."""
    runs: dict[str, list[str]] = {}
    for name, value in zip("abcdefghij", values, strict=False):
        runs.setdefault(value, []).append(name)
    return DifferingSetting(key, {value: tuple(names) for value, names in runs.items()})


def drawn(figure: Figure | None) -> Element:
    assert figure is not None
    reader = PageParser()
    reader.feed(str(figure.picture))
    return reader.root


def axis_names(figure: Figure | None) -> list[str]:
    return [element.all("title")[0].text for element in drawn(figure).all("g") if "class" not in element.attributes]


def corners(figure: Figure | None, name: str) -> list[list[tuple[float, float]]]:
    """The parts of a run's line."""
    tracks = [element for element in drawn(figure).all("g") if element.attributes.get("class", "").startswith("track")]
    track = next(track for track in tracks if track.all("title")[0].text.startswith(f"{name};"))
    lines = [element for element in track.all("polyline") if element.attributes["class"].startswith("track-line")]
    parts = [[at.split(",") for at in line.attributes["points"].split()] for line in lines]
    return [[(float(x), float(y)) for x, y in part] for part in parts]


THREE = (run_gain("a", 0.1), run_gain("b", 0.2), run_gain("c", 0.3))


def test_lines_go_from_settings_through_what_happened_to_the_gain() -> None:
    ways = ({"agreement": 0.5, "pairs": 9.0}, {"agreement": 0.6, "pairs": 9.0}, {"agreement": 0.7, "pairs": 9.0})
    runs = [replace(run, round_=run_gain("", 0, **way).round_) for run, way in zip(THREE, ways, strict=True)]
    settings = [
        setting_of("eval.shots", "0", "4", "4"),
        setting_of("run.seed", "2", "1", "2"),
        setting_of("train.trainer", '"sft"', '"sft"', '"dpo"'),
    ]
    figure = gain_figure("sums_dev", runs, settings)
    names = ["train.trainer", "eval.shots", "run.seed", "agreement %", "points gained on sums_dev"]
    assert axis_names(figure) == names, "pairs are the same in all, the others were not measured"
    assert figure is not None
    assert figure.numbers.columns[2:] == (*(f"|{name}" for name in names[:-1]), "child", "|points")
    assert figure.numbers.rows[2] == ("c", "3", "dpo", "4", "2", "70.0", "accepted", "+30.0 [20.0, 40.0]")
    gains = {name: corners(figure, name)[0][-1][1] for name in "abc"}
    assert gains["a"] > gains["b"] > gains["c"], "up is more"


def test_settings_that_span_decades_stand_on_a_logarithmic_axis() -> None:
    rate, ratio = setting_of("train.rate", "1e-05", "0.0001", "0.001"), setting_of("pairs.ratio", "10", "0", "1000")
    figure = gain_figure("sums_dev", THREE, [rate, ratio])
    heights = {name: [y for _, y in corners(figure, name)[0]] for name in "abc"}
    assert {"rate (log)", "ratio"} <= {element.text for element in drawn(figure).all("text")}, "no logarithm of zero"
    low, middle, high = (heights[name][1] for name in "abc")
    assert middle == pytest.approx((low + high) / 2, abs=0.1)
    low, middle, high = (heights[name][0] for name in "bac")
    assert (low - middle) / (low - high) == pytest.approx(0.01, abs=0.001)


def test_a_value_that_is_not_known_leaves_a_gap() -> None:
    runs = [
        run_gain("a", 0.1, agreement=0.5),
        run_gain("b", 0.2),
        run_gain("c", 0.3, "roll back", agreement=0.6),
        run_gain("d", None),
    ]
    figure = gain_figure(
        "sums_dev",
        runs,
        [setting_of("pairs.ratio", "1", "2", "(not set)", "4"), setting_of("run.seed", "0", "1", "0", "2")],
    )
    assert axis_names(figure) == ["pairs.ratio", "run.seed", "agreement %", "points gained on sums_dev"]
    assert [len(part) for part in corners(figure, "a")] == [4]
    assert [len(part) for part in corners(figure, "b")] == [2], "its gain stands alone"
    assert [len(part) for part in corners(figure, "c")] == [3]
    assert [len(part) for part in corners(figure, "d")] == [2]
    page = drawn(figure)
    looks = [element.attributes["class"] for element in page.all("polyline") if element.attributes["class"] != "near"]
    assert sorted(looks) == ["track-line", "track-line", "track-line dashed", "track-line unknown"]
    assert figure is not None
    assert [name for _, name in figure.legend] == ["accepted", "not accepted", "no child judged"]
    assert figure.numbers.rows[3][2:] == ("4", "2", "–", "none judged", "–")


def test_lines_of_equal_values_lie_side_by_side() -> None:
    runs = [run_gain(name, 0.2) for name in "abcd"]
    figure = gain_figure("sums_dev", runs, [setting_of("run.seed", "0", "0", "0", "1")])
    heights = [corners(figure, name)[0][0][1] for name in "abc"]
    assert heights == sorted(set(heights))
    assert heights[-1] - heights[0] < 10
    assert figure == gain_figure("sums_dev", runs, [setting_of("run.seed", "0", "0", "0", "1")])


def test_confounded_settings_share_an_axis() -> None:
    rate, other = setting_of("train.rate", "1", "2", "3"), setting_of("train.other", "30", "20", "10")
    order = setting_of("train.order", "1", "3", "2")
    figure = gain_figure("sums_dev", THREE, [rate, other, order])
    assert axis_names(figure) == ["train.order", "train.other", "points gained on sums_dev"]
    assert figure is not None
    assert "train.other is confounded with train.rate." in figure.note


def test_what_has_no_room_is_named() -> None:
    runs = [run_gain(f"r{nth:02d}", nth / 100, agreement=nth / 50, questions=nth, pairs=nth % 7) for nth in range(50)]
    settings = [
        DifferingSetting(f"train.s{key}", {str((nth * key) % 53): (run.name,) for nth, run in enumerate(runs)})
        for key in range(1, 8)
    ]
    settings.append(DifferingSetting("run.seed", {"0": ("r00",), "1": tuple(run.name for run in runs[1:])}))
    settings.append(DifferingSetting("model.path", {json.dumps(f"/m/{run.name}"): (run.name,) for run in runs}))
    figure = gain_figure("sums_dev", runs, settings)
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
        figure = gain_figure("sums_dev", THREE, [setting_of("pairs.policy", value, *others)])
        page = drawn(figure)
        assert not page.all("script")
        assert "nan" not in str(figure.picture if figure else "nan").replace("NaN", "")
        assert "\u202e" not in page.text


def test_few_runs_and_equal_ones_have_no_chart() -> None:
    seeds = [setting_of("run.seed", "0", "1", "2")]
    assert gain_figure("sums_dev", THREE[:2], seeds) is None
    assert gain_figure("sums_dev", [*THREE[:2], run_gain("c", None)], seeds) is None
    assert gain_figure("sums_dev", THREE, []) is None
    assert gain_figure("sums_dev", THREE, [setting_of("run.seed", "0", "0", "0", "1")]) is None
