"""Runs side by side: two real smoke runs, and copies of them that were changed."""

import csv
import io
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import mean

import pytest
from smoke_runs import ROUND_STAGES, rename_items, reseal

from crescent.reading.finished import RunReader
from crescent.reading.runs import ComparedRuns, compare_runs, mean_and_deviation
from crescent.records import Response, Verdict, read_lines, write_lines
from crescent.run_folder.manifest import MANIFEST
from crescent.show.compare import as_markdown, as_text
from crescent.show.compare_csv import as_csv


def csv_lines(found: ComparedRuns) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(as_csv(found))))


def all_notes(found: ComparedRuns) -> str:
    """Everything that is not in a table."""
    return " | ".join([*(note for run in found.runs for note in run.missing), *found.notes])


def test_the_numbers_are_those_of_the_responses_counted_by_hand(two_runs: tuple[Path, Path]) -> None:
    found = csv_lines(compare_runs(two_runs))
    assert len(found) == 2 * (3 + 2)
    for line in found:
        root = next(root for root in two_runs if root.name == line["run"])
        folder = f"round-{line['round']}" if line["round"] != "0" else "base"

        def right(where: str, root: Path = root, name: str = line["benchmark"]) -> dict[str, bool]:
            responses = read_lines(root / where / "eval/responses.jsonl", Response)
            return {response.item: response.correct for response in responses if response.benchmark == name}

        now, before = right(folder), right("base")
        share, n, z = mean(now.values()), len(now), 1.959963984540054
        assert float(line["accuracy"]) == pytest.approx(share)
        # Wilson (1927), equation by equation.
        middle, half = (
            (share + z * z / (2 * n)) / (1 + z * z / n),
            z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n),
        )
        assert float(line["accuracy_low"]) == pytest.approx(middle - half)
        assert float(line["accuracy_high"]) == pytest.approx(middle + half)
        if line["round"] == "0":
            assert line["base_difference"] == ""
            continue
        gained = sum(now[item] and not before[item] for item in now)
        lost = sum(before[item] and not now[item] for item in now)
        tail = sum(math.comb(gained + lost, k) for k in range(min(gained, lost) + 1)) / 2 ** (gained + lost)
        assert float(line["base_difference"]) == pytest.approx((gained - lost) / n)
        assert float(line["base_p"]) == pytest.approx(min(1, 2 * tail))
        assert (int(line["base_gained"]), int(line["base_lost"])) == (gained, lost)
        assert float(line["base_low"]) <= (gained - lost) / n <= float(line["base_high"])


def test_a_first_round_s_interval_is_the_one_of_its_verdict(two_runs: tuple[Path, Path]) -> None:
    """Its parent is the base: the same resamples and seed."""
    for line in csv_lines(compare_runs(two_runs)):
        if line["round"] == "1" and line["split"] == "dev":
            root = next(root for root in two_runs if root.name == line["run"])
            (verdict,) = read_lines(root / "round-1/verdict/verdict.json", Verdict)
            assert (float(line["base_low"]), float(line["base_high"])) == (verdict.low, verdict.high)
            assert line["verdict"] == verdict.action
            assert line["checkpoint"] == verdict.child


def test_a_round_shows_what_its_manifests_measured(two_runs: tuple[Path, Path]) -> None:
    line = next(line for line in csv_lines(compare_runs(two_runs)) if (line["run"], line["round"]) == ("zero", "2"))
    run = RunReader(two_runs[0])
    manifests = [run.stage(f"round-2/{step}") for step in ROUND_STAGES]
    synthesis, pairs, *_ = [manifest["metrics"] for manifest in manifests if manifest]
    for column in ("questions", "agreement", "tokens"):
        assert float(line[column]) == synthesis[column]
    assert float(line["pairs"]) == pairs["pairs"]
    assert float(line["near_duplicate_drop_rate"]) == synthesis["dropped_near_duplicates"] / synthesis["candidates"]
    assert float(line["seconds"]) == pytest.approx(sum(manifest["seconds"] for manifest in manifests if manifest))


def test_the_drop_rate_is_a_share_of_all_candidates(zero: Path) -> None:
    def repeat(manifest: dict[str, object]) -> None:
        metrics = manifest["metrics"]
        assert isinstance(metrics, dict)
        if "candidates" in metrics:
            metrics.update(candidates=24, dropped_near_duplicates=6)

    reseal(zero, repeat)
    assert {line["near_duplicate_drop_rate"] for line in csv_lines(compare_runs([zero])) if line["round"] != "0"} == {
        "0.25"
    }


def test_items_that_are_not_known_are_not_averaged(two_runs: tuple[Path, Path], tmp_path: Path) -> None:
    copies = [Path(shutil.copytree(root, tmp_path / root.name)) for root in two_runs]
    for root in copies:
        (root / "base/eval/responses.jsonl").write_text("{}\n")
        reseal(root)
    found = compare_runs(copies)
    assert {group.round for group in found.seed_groups} == {1}
    assert as_markdown(found).count("items not known") == 4, "a table for each run and benchmark"


def test_settings_are_shown_where_they_differ_and_seeds_are_averaged(two_runs: tuple[Path, Path]) -> None:
    found = compare_runs(two_runs)
    assert {setting.key: setting.runs_by_value for setting in found.settings} == {
        "run.rounds": {"2": ("zero",), "1": ("one",)},
        "run.seed": {"0": ("zero",), "1": ("one",)},
    }
    assert {(group.benchmark, group.round) for group in found.seed_groups} == {
        (name, number) for name in ("sums_dev", "sums_test") for number in (0, 1)
    }, "the second round has one seed only"
    accuracies = [
        float(line["accuracy"]) for line in csv_lines(found) if (line["benchmark"], line["round"]) == ("sums_dev", "1")
    ]
    averaged = next(group for group in found.seed_groups if (group.benchmark, group.round) == ("sums_dev", 1))
    centre, deviation = mean_and_deviation(averaged.accuracies)
    assert averaged.runs == ("zero", "one")
    assert centre == pytest.approx(sum(accuracies) / 2)
    assert deviation == pytest.approx(abs(accuracies[0] - accuracies[1]) / math.sqrt(2))
    assert mean_and_deviation([0.5]) == (0.5, None)


def test_runs_that_differ_in_more_than_seeds_are_not_averaged(two_runs: tuple[Path, Path], zero: Path) -> None:
    config = zero / "config.yaml"
    config.write_text(config.read_text().replace("samples: 8", "samples: 4"))
    found = compare_runs([zero, two_runs[1]])
    assert found.seed_groups == ()
    assert "consensus.samples" in {setting.key for setting in found.settings}


def test_runs_of_different_models_are_not_averaged(two_runs: tuple[Path, Path], zero: Path) -> None:
    config = zero / "config.yaml"
    config.write_text(re.sub(r"path: fake:\S+", "path: fake:0.9", config.read_text()))
    found = compare_runs([zero, two_runs[1]])
    assert "model.path" in {setting.key for setting in found.settings}
    assert found.seed_groups == ()
    config.write_text((two_runs[0] / "config.yaml").read_text().replace("mode: run", "mode: check"))
    found = compare_runs([zero, two_runs[1]])
    assert "mode" not in {setting.key for setting in found.settings}, "another mode makes no other run"
    assert found.seed_groups


def test_the_same_run_twice_and_the_same_seed_twice_count_once(two_runs: tuple[Path, Path], zero: Path) -> None:
    first, second = two_runs
    twice = compare_runs([second, zero, second.parent / "." / "one"])
    assert [run.name for run in twice.runs] == ["one", "zero"]
    assert "named more than once" in all_notes(twice)
    again = compare_runs([zero, first, second])
    assert [run.name for run in again.runs] == [str(zero), str(first), "one"], "two folders of one name"
    assert {group.runs for group in again.seed_groups} == {(str(zero), "one")}
    assert f"{first}: settings and seed of {zero}" in all_notes(again)


def test_an_unfinished_run_is_compared_as_far_as_it_went(zero: Path) -> None:
    shutil.rmtree(zero / "round-2/verdict")
    (zero / "round-2/eval").rename(zero / "round-2/eval.partial")
    (run,) = compare_runs([zero]).runs
    assert run.status == "not finished: 1 of 2 rounds, next round-2/eval"
    assert [(round_.round, round_.action, len(round_.results)) for round_ in run.rounds[1:]] == [
        (1, "accept", 2),
        (2, None, 0),
    ]
    assert (
        run.rounds[2].checkpoint
        == f"zero-r02-{json.loads((zero / 'round-2/train' / MANIFEST).read_text())['digest'][:8]}"
    )
    shutil.rmtree(zero / "round-2/train")
    assert compare_runs([zero]).runs[0].rounds[2].checkpoint is None


def test_a_run_that_failed_at_once_is_there_and_empty(tmp_path: Path, two_runs: tuple[Path, Path]) -> None:
    (tmp_path / "failed" / "base" / "eval.partial").mkdir(parents=True)
    found = compare_runs([tmp_path / "failed", two_runs[1]])
    assert found.runs[0].rounds == ()
    assert found.runs[0].status == "nothing finished to compare"
    assert csv_lines(found)[0]["status"] == "nothing finished to compare"
    assert "base/eval: not finished" in all_notes(found)
    assert "config.yaml: does not exist" in all_notes(found)
    assert "nothing finished to compare" in as_text(compare_runs([tmp_path / "failed"]))


def test_a_changed_file_is_not_read(zero: Path) -> None:
    scores = zero / "round-2/eval/scores.json"
    scores.write_text(scores.read_text().replace('"unparsed": ', '"unparsed": 1'))
    found = compare_runs([zero])
    assert [len(round_.results) for round_ in found.runs[0].rounds] == [2, 2, 0]
    changed = "round-2/eval: scores.json is not as it was written (damaged or edited), so it was not read"
    assert f"{changed}; run.redo=round-2/eval makes it and all later ones again" in all_notes(found)
    assert found.runs[0].status == "damaged in round-2/eval"


def test_a_file_that_is_lost_is_named_and_its_run_is_not_called_unfinished(zero: Path) -> None:
    (zero / "round-1/synthesis/votes.jsonl").unlink()
    found = compare_runs([zero])
    assert "round-1/synthesis: votes.jsonl is missing, so it was not read" in all_notes(found)
    assert found.runs[0].status == "damaged in round-1/synthesis"
    (zero / "round-1/synthesis" / MANIFEST).write_text("{")
    assert f"round-1/synthesis: {MANIFEST} is not as it was written" in all_notes(compare_runs([zero]))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"sums_dev": 0.5}\n', "was it written by another version of Crescent?"),
        (b'{"item": "x', "its JSON is incomplete: it is damaged"),
        (b'{"item": "\xff"}\n', "its JSON is incomplete: it is damaged"),
    ],
)
def test_a_record_that_is_torn_is_not_taken_for_one_of_another_version(zero: Path, text: bytes, said: str) -> None:
    (zero / "round-2/eval/responses.jsonl").write_bytes(text)
    reseal(zero)
    (note,) = (note for note in compare_runs([zero]).runs[0].missing if "round-2/eval/" in note)
    assert said in note


def test_a_round_from_before_the_last_redo_is_not_read(zero: Path) -> None:
    """The first round was made again, the second not yet."""
    votes = zero / "round-1/synthesis/votes.jsonl"
    votes.write_bytes(b"".join(votes.read_bytes().splitlines(keepends=True)[1:]))
    second = Path(shutil.move(zero / "round-2", zero.parent / "round-2"))
    reseal(zero)
    shutil.move(second, zero / "round-2")
    found = compare_runs([zero])
    assert [round_.round for round_ in found.runs[0].rounds] == [0, 1]
    assert "round-2: was made before the rounds before it were made again" in all_notes(found)
    assert found.runs[0].status.startswith("not finished: 1 of 2 rounds")


def test_other_items_under_the_same_name_stand_apart(two_runs: tuple[Path, Path], zero: Path) -> None:
    rename_items(zero, ("base/eval", "round-1/eval", "round-2/eval"), "sums_test")
    found = compare_runs([zero, two_runs[1]])
    assert "sums_test: different items under the same name (30 items in zero; 30 items in one)" in all_notes(found)
    assert {group.benchmark for group in found.seed_groups} == {"sums_dev"}
    assert as_markdown(found).count("### sums\\_test") + as_markdown(found).count("### sums_test") == 2
    assert all(line["base_difference"] for line in csv_lines(found) if line["round"] != "0"), (
        "within a run they are the same"
    )


def test_a_round_with_other_items_than_its_base_is_not_compared_with_it(zero: Path) -> None:
    rename_items(zero, ("round-2/eval",), "sums_dev")
    found = compare_runs([zero])
    differences = {(line["round"], line["benchmark"]): line["base_difference"] != "" for line in csv_lines(found)}
    assert differences[("2", "sums_dev")] is False
    assert differences[("2", "sums_test")] is True
    assert "round-2/eval, sums_dev: not compared with the base" in all_notes(found)


def test_what_an_older_version_did_not_measure_is_a_dash(zero: Path) -> None:
    def forget(manifest: dict[str, object]) -> None:
        metrics = manifest["metrics"]
        assert isinstance(metrics, dict)
        for name in ("dropped_near_duplicates", "tokens"):
            metrics.pop(name, None)

    reseal(zero, forget)
    found = compare_runs([zero])
    line = next(line for line in csv_lines(found) if line["round"] == "1")
    assert (line["near_duplicate_drop_rate"], line["tokens"]) == ("", "")
    assert line["questions"] == "24"
    row = next(row for row in as_markdown(found).splitlines() if "zero-r01-" in row)
    assert row.split(" | ")[5] == "–"


def test_records_of_another_version_are_named_and_left_out(zero: Path) -> None:
    (zero / "round-2/verdict/verdict.json").write_text('{"accepted": true}\n')
    (zero / "round-2/eval/scores.json").write_text('{"sums_dev": 0.5}')
    (zero / "round-1/eval/responses.jsonl").write_text('{"correct": true}\n')
    reseal(zero)
    found = compare_runs([zero])
    last = found.runs[0].rounds[-1]
    assert (last.action, last.results) == (None, ())
    assert all(result.against_base is None for result in found.runs[0].rounds[1].results)
    assert [float(line["accuracy"]) for line in csv_lines(found) if line["round"] == "1"]
    for file in ("round-2/verdict/verdict.json", "round-2/eval/scores.json", "round-1/eval/responses.jsonl"):
        assert file in all_notes(found)


def test_a_stop_because_patience_ran_out_is_shown_as_a_stop(zero: Path) -> None:
    """The verdict on disk says what the comparison shows; patience is counted by the loop."""
    for number in (1, 2):
        path = zero / f"round-{number}/verdict/verdict.json"
        write_lines(path, [replace(read_lines(path, Verdict)[0], action="roll back")])
    reseal(zero)
    (run,) = compare_runs([zero]).runs
    assert [round_.action for round_ in run.rounds] == [None, "roll back", "stop"]
    assert run.status == "stopped after 2 rounds"
    config = zero / "config.yaml"
    config.write_text(config.read_text().replace("patience: 1", "patience: 2"))
    assert [round_.action for round_ in compare_runs([zero]).runs[0].rounds] == [None, "roll back", "roll back"]


@pytest.mark.parametrize("config", ["", "- a\n- b\n", "{run: [", "a: !!python/object:os.system {}\n", "\x00"])
def test_a_config_that_cannot_be_read_costs_the_settings_and_nothing_else(zero: Path, config: str) -> None:
    (zero / "config.yaml").write_text(config)
    found = compare_runs([zero])
    assert found.runs[0].settings is None
    assert "config.yaml: " in all_notes(found)
    assert len(csv_lines(found)) == 6
    assert found.runs[0].status == "2 rounds; the number planned is not known"
