"""A comparison of runs in a terminal, as Markdown and as CSV."""

import csv
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from smoke_runs import reseal

from crescent.judging.reliability import LabelledVote, curve
from crescent.reading.runs import ComparedRuns, compare_runs
from crescent.records import Response, read_lines, write_lines
from crescent.run_folder.manifest import seal
from crescent.show import compare_csv
from crescent.show.compare import as_markdown, as_text, show
from crescent.show.compare_csv import COLUMNS, as_csv


def csv_lines(found: ComparedRuns) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(as_csv(found))))


def test_what_voting_gives_without_training_stands_below_the_base(zero: Path) -> None:
    voted = curve([LabelledVote(4, 4, True, 4), LabelledVote(3, 4, True, 3), LabelledVote(2, 4, False, 1)])
    folder = zero / "base/reliability"
    folder.mkdir()
    write_lines(folder / "reliability.json", [{"sums_dev": voted}])
    seal(folder, {"made_from": {"settings": {}, "inputs": {}, "version": "0"}, "metrics": {}, "seconds": 1.0})
    found = compare_runs([zero])
    base = next(line for line in csv_lines(found) if (line["round"], line["benchmark"]) == ("0", "sums_dev"))
    assert (base["majority_samples"], float(base["majority"])) == ("4", pytest.approx(2 / 3))
    text = as_text(found)
    assert text.count("66.7 [20.8, 93.9]") == 1
    assert "maj@4 in zero" in text
    assert not any(line["majority"] for line in csv_lines(found) if line["round"] != "0")


def test_names_are_text_wherever_they_are_printed(two_runs: tuple[Path, Path], tmp_path: Path) -> None:
    name = "=cmd\\|' /C calc'!A0\n<b>\x1b[31m[bold]x\\"
    root = Path(shutil.copytree(two_runs[1], tmp_path / name.replace("/", "∕")))
    found = compare_runs([root])
    first = csv_lines(found)[0]
    assert first["run"].startswith("'=cmd\\|")
    assert float(first["accuracy"]) > 0
    for text in (as_text(found), as_markdown(found), as_csv(found)):
        assert "\x1b" not in text
        assert "[bold]" in text
    rows = [row.replace("\\\\", "").replace("\\|", "") for row in as_markdown(found).splitlines() if "calc" in row]
    columns = {row.count("|") for row in rows}
    assert columns == {5, 9, 10}
    assert "<b>" not in as_markdown(found)


def test_a_gain_that_is_negative_stays_a_number_for_a_spreadsheet(zero: Path) -> None:
    path = zero / "round-2/eval/responses.jsonl"
    write_lines(path, [replace(response, correct=False) for response in read_lines(path, Response)])
    reseal(zero)
    of_round_2 = [line for line in csv_lines(compare_runs([zero])) if line["round"] == "2"]
    assert [float(line["base_difference"]) < 0 for line in of_round_2] == [True, True]


def test_the_columns_of_the_csv_stay_as_they_are(two_runs: tuple[Path, Path]) -> None:
    assert as_csv(compare_runs(two_runs)).splitlines()[0] == ",".join(COLUMNS)
    assert COLUMNS[:5] == ("run", "folder", "status", "seed", "round")
    assert compare_csv.__doc__
    assert not [column for column in COLUMNS if column not in compare_csv.__doc__], "each is explained"


@pytest.mark.parametrize("width", [80, 120, 200])
def test_no_line_is_wider_than_the_terminal(two_runs: tuple[Path, Path], width: int, tmp_path: Path) -> None:
    long = Path(shutil.copytree(two_runs[1], tmp_path / "qwen7b-samples-16-min-agreement-0-75-seed-3-ab12cd"))
    text = io.StringIO()
    show(compare_runs([*two_runs, long]), Console(file=text, width=width, markup=False, highlight=False))
    assert max(map(len, text.getvalue().splitlines())) <= width
    for line in csv_lines(compare_runs(two_runs)):
        assert f"{100 * float(line['accuracy']):.1f} [{100 * float(line['accuracy_low']):.1f}, " in text.getvalue()
    assert "…" not in text.getvalue(), "no cell is cut"
    assert ("#1" in text.getvalue()) == (width < 120), "long names are numbered where there is no room for them"


@pytest.mark.parametrize("width", [30, 60, 80, 120])
def test_no_number_is_cut_on_a_narrow_terminal(two_runs: tuple[Path, Path], width: int) -> None:
    found = compare_runs(two_runs)
    written = io.StringIO()
    show(found, Console(file=written, width=width, color_system=None))
    words = written.getvalue().split()
    for run in found.runs:
        for row in run.rounds:
            for result in row.results:
                for share in (result.score.low, result.score.high):
                    assert any(re.fullmatch(rf"\[?{100 * share:.1f}[\],;]*", word) for word in words), share
                if result.against_base is not None:
                    low, high = result.against_base.low, result.against_base.high
                    assert f"[{100 * low:.1f}," in words
                    assert any(word.startswith(f"{100 * high:.1f}]") for word in words)
            if row.action is not None:
                assert any(word.startswith(f"{row.agreement:.2f}") for word in words)


def test_several_answers_to_an_item_show_their_majority_and_whether_any_is_right(zero: Path) -> None:
    path = zero / "round-1/eval/scores.json"
    scores = json.loads(path.read_text())
    for score in scores:
        several = {"samples": 4, "majority": 0.75, "pass_at": {"1": 0.5, "2": 0.6, "4": 0.9}}
        score.update({**several, "strict": score["total"] // 2, "flexible": None})
    path.write_text(json.dumps(scores))
    reseal(zero)
    found = compare_runs([zero])
    sampled = next(line for line in csv_lines(found) if line["round"] == "1")
    assert (sampled["samples"], sampled["maj_k"], sampled["pass_k"], sampled["strict"], sampled["flexible"]) == (
        "4",
        "0.75",
        "0.9",
        "0.5",
        "",
    )
    base = next(line for line in csv_lines(found) if line["round"] == "0")
    assert (base["samples"], base["maj_k"], base["pass_k"]) == ("1", "", "")
    cells = "75.0 (k=4) | 90.0 (k=4)"
    assert any(cells in row and "| 50.0 | – |" in row for row in as_markdown(found).splitlines())
    wide = io.StringIO()
    show(found, Console(file=wide, width=200))
    assert "75.0 (k=4)  90.0 (k=4)" in wide.getvalue()
    narrow = io.StringIO()
    show(found, Console(file=narrow, width=80))
    assert "same responses, strict and flexible scoring" in narrow.getvalue()
    assert "75.0 (k=4)  90.0 (k=4)" in narrow.getvalue()
    assert max(map(len, narrow.getvalue().splitlines())) <= 80
