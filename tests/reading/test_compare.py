"""Runs side by side: two real smoke runs, and copies of them in which something happened."""

import csv
import io
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean

import pytest
from rich.console import Console

from crescent.judging.reliability import LabelledVote, curve
from crescent.reading.differing import Differing, differing, distinct, labels, told_by
from crescent.reading.finished import Run
from crescent.reading.runs import RunTable, compare, mean_and_deviation
from crescent.records import Response, Verdict, read_lines, write_lines
from crescent.run_folder.manifest import MANIFEST, seal
from crescent.show import compare_csv
from crescent.show.compare import as_markdown, as_text, show
from crescent.show.compare_csv import COLUMNS, as_csv

STEPS = ("synthesis", "pairs", "train", "eval", "verdict")
STAGES = ("base/eval", *(f"round-{number}/{step}" for number in (1, 2) for step in STEPS))
Change = Callable[[dict[str, object]], None]


def teach(root: Path, name: str, *overrides: str) -> Path:
    """A run on the fakes: few questions, few items."""
    few = ("bait.questions=24", "eval.benchmarks.sums_dev.items=40", "eval.benchmarks.sums_test.items=30")
    loop = [sys.executable, "-P", "-m", "crescent.loop", "+experiment=smoke", f"run.root={root}", f"run.name={name}"]
    ended = subprocess.run([*loop, *few, *overrides], capture_output=True, text=True, check=False, timeout=250)
    assert ended.returncode == 0, ended.stderr
    return root / name


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Seed 0 with two rounds, seed 1 with one. Not to be written to."""
    root = tmp_path_factory.mktemp("runs")
    return teach(root, "zero"), teach(root, "one", "run.seed=1", "run.rounds=1")


@pytest.fixture
def zero(taught: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the first run, to be written to."""
    return Path(shutil.copytree(taught[0], tmp_path / "zero"))


def reseal(root: Path, change: Change = lambda manifest: None) -> None:
    """Seal all stages again as they are now, each as made from the others as they are now."""
    digests: dict[str, str] = {}
    for stage in STAGES:
        if (root / stage).exists():
            manifest = json.loads((root / stage / MANIFEST).read_text())
            change(manifest)
            inputs = {name: digests.get(its, its) for name, its in manifest["made_from"]["inputs"].items()}
            about = {name: manifest[name] for name in ("metrics", "seconds")}
            sealed = seal(root / stage, {**about, "made_from": {**manifest["made_from"], "inputs": inputs}})
            digests[manifest["digest"]] = sealed["digest"]


def rename_items(root: Path, stages: tuple[str, ...], benchmark: str) -> None:
    for stage in stages:
        path = root / stage / "responses.jsonl"
        responses = read_lines(path, Response)
        write_lines(
            path, [replace(its, item=f"x{its.item}") if its.benchmark == benchmark else its for its in responses]
        )
    reseal(root)


def lines(found: RunTable) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(as_csv(found))))


def told(found: RunTable) -> str:
    """Everything that is not in a table."""
    return " | ".join([*(note for run in found.runs for note in run.missing), *found.notes])


def test_the_numbers_are_those_of_the_responses_counted_by_hand(taught: tuple[Path, Path]) -> None:
    found = lines(compare(taught))
    assert len(found) == 2 * (3 + 2)
    for line in found:
        root = next(its for its in taught if its.name == line["run"])
        folder = f"round-{line['round']}" if line["round"] != "0" else "base"

        def right(where: str, root: Path = root, name: str = line["benchmark"]) -> dict[str, bool]:
            responses = read_lines(root / where / "eval/responses.jsonl", Response)
            return {its.item: its.correct for its in responses if its.benchmark == name}

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
        gained = sum(now[its] and not before[its] for its in now)
        lost = sum(before[its] and not now[its] for its in now)
        tail = sum(math.comb(gained + lost, k) for k in range(min(gained, lost) + 1)) / 2 ** (gained + lost)
        assert float(line["base_difference"]) == pytest.approx((gained - lost) / n)
        assert float(line["base_p"]) == pytest.approx(min(1, 2 * tail))
        assert (int(line["base_gained"]), int(line["base_lost"])) == (gained, lost)
        assert float(line["base_low"]) <= (gained - lost) / n <= float(line["base_high"])


def test_a_first_round_s_interval_is_the_one_of_its_verdict(taught: tuple[Path, Path]) -> None:
    """Its parent is the base: the same resamples and seed."""
    for line in lines(compare(taught)):
        if line["round"] == "1" and line["split"] == "dev":
            root = next(its for its in taught if its.name == line["run"])
            (verdict,) = read_lines(root / "round-1/verdict/verdict.json", Verdict)
            assert (float(line["base_low"]), float(line["base_high"])) == (verdict.low, verdict.high)
            assert line["verdict"] == verdict.action
            assert line["checkpoint"] == verdict.child


def test_a_round_shows_what_its_manifests_measured(taught: tuple[Path, Path]) -> None:
    line = next(its for its in lines(compare(taught)) if (its["run"], its["round"]) == ("zero", "2"))
    run = Run(taught[0])
    manifests = [run.stage(f"round-2/{step}") for step in STEPS]
    synthesis, pairs, *_ = [its["metrics"] for its in manifests if its]
    for column in ("questions", "agreement", "tokens"):
        assert float(line[column]) == synthesis[column]
    assert float(line["pairs"]) == pairs["pairs"]
    assert float(line["near_duplicate_drop_rate"]) == synthesis["dropped_near_duplicates"] / synthesis["candidates"]
    assert float(line["seconds"]) == pytest.approx(sum(its["seconds"] for its in manifests if its))


def test_the_drop_rate_is_a_share_of_all_candidates(zero: Path) -> None:
    def repeat(manifest: dict[str, object]) -> None:
        metrics = manifest["metrics"]
        assert isinstance(metrics, dict)
        if "candidates" in metrics:
            metrics.update(candidates=24, dropped_near_duplicates=6)

    reseal(zero, repeat)
    assert {its["near_duplicate_drop_rate"] for its in lines(compare([zero])) if its["round"] != "0"} == {"0.25"}


def swept(zero: Path, folder: Path, *points: tuple[str, int, int, int]) -> list[Path]:
    """Copies with other samples and seeds; of the last children's right answers to dev items, the first are wrong."""
    roots = []
    for name, samples, seed, wrong in points:
        root = Path(shutil.copytree(zero, folder / name))
        config = (root / "config.yaml").read_text().replace("samples: 8", f"samples: {samples}")
        (root / "config.yaml").write_text(re.sub(r"(?m)^  seed: 0$", f"  seed: {seed}", config))
        path, found, left = root / "round-2/eval/responses.jsonl", [], wrong
        for its in read_lines(path, Response):
            spoiled = its.benchmark == "sums_dev" and its.correct and left > 0
            left -= spoiled
            found.append(replace(its, correct=its.correct and not spoiled))
        write_lines(path, found)
        scores = json.loads((path.parent / "scores.json").read_text())
        for its in scores:
            if its["benchmark"] == "sums_dev":
                its["correct"] -= wrong
                its["accuracy"] = its["correct"] / its["total"]
        (path.parent / "scores.json").write_text(json.dumps(scores))
        reseal(root)
        roots.append(root)
    return roots


def test_runs_are_ranked_and_told_from_the_best_by_the_same_items(zero: Path, tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    points = (("the-worst-of-three", 4, 0, 12), ("the-one-between-them", 6, 0, 2), ("the-very-best-of-all", 8, 0, 0))
    roots = swept(zero, tmp_path / "sweep", *points)
    found = compare(roots)
    ranking = found.ranking
    assert ranking is not None
    assert [its.runs for its in ranking.standings] == [(its.name,) for its in reversed(roots)]
    best, between, worst = ranking.standings
    right = sum(its.correct for its in read_lines(zero / "round-2/eval/responses.jsonl", Response)[:40])
    assert best.accuracy == right / 40
    for its, wrong, holm in ((between, 2, 1), (worst, 12, 2)):
        assert its.to_best is not None
        assert (its.to_best.difference, its.to_best.gained, its.to_best.lost) == (-wrong / 40, 0, wrong)
        assert its.to_best.p_value == pytest.approx(2 / 2**wrong)
        assert its.to_best.p_holm == pytest.approx(holm * 2 / 2**wrong)
    text = as_text(found)
    assert max(map(len, text.splitlines())) <= 120
    text = " ".join(text.split())
    assert text.startswith("samples=8 came out best of 3 runs on sums_dev (40 items): ")
    rule = "p <= 0.05, exact McNemar on the same items, Holm over 2"
    assert f"It can be told from samples=4 ({rule}); not from samples=6." in text
    assert "best of 3 flatters it" in text
    assert "On sums_test, by which nothing was chosen, it gains" in text
    assert "- samples=8 came out best of 3 runs" in as_markdown(found)
    for root in roots:
        path = root / "round-2/verdict/verdict.json"
        write_lines(path, [replace(read_lines(path, Verdict)[0], benchmarks=("sums_dev", "sums_test"))])
        reseal(root)
    both = compare(roots).ranking
    assert both is not None
    assert (both.benchmarks, both.items) == (("sums_dev", "sums_test"), 70)
    worst = both.standings[-1]
    assert worst.gain is not None
    assert worst.gain.items == 70
    assert worst.gains == (pytest.approx(worst.gain.difference),)
    assert worst.to_best is not None
    assert (
        worst.to_best.difference
        == pytest.approx(worst.accuracy - both.standings[0].accuracy)
        == pytest.approx(-12 / 70)
    )


def test_settings_with_several_seeds_are_ranked_by_their_means(zero: Path, tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    points = (("a-run-of-many-0", 4, 0, 12), ("a-run-of-many-1", 4, 1, 0), ("b-run-of-many-0", 6, 0, 5))
    found = compare(swept(zero, tmp_path / "sweep", *points, ("b-run-of-many-1", 6, 1, 5)))
    ranking = found.ranking
    assert ranking is not None
    first, second = ranking.standings
    assert first.runs == ("b-run-of-many-0", "b-run-of-many-1")
    assert first.accuracies == (first.accuracy, first.accuracy)
    assert second.to_best is not None
    assert (second.seeds, second.to_best.items, second.to_best.difference) == (2, 40, -1 / 40)
    assert not second.worse_than(first), "one seed is the best of all, the other the worst"
    text = as_text(found)
    assert "samples=6 came out best of 2 settings on sums_dev" in text
    assert "means of 2 seeds" in " ".join(text.split())
    averaged = text[text.index("over seeds:") : text.index("settings that differ")]
    assert "samples=4  sums_dev" in averaged
    assert "a-run-of-many" not in averaged


def test_a_best_child_that_was_not_accepted_is_called_so(zero: Path, tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    roots = swept(zero, tmp_path / "sweep", ("a", 4, 0, 3), ("b", 6, 0, 0))
    for number in (1, 2):
        path = roots[1] / f"round-{number}/verdict/verdict.json"
        write_lines(path, [replace(read_lines(path, Verdict)[0], action="roll back", difference=number / 10)])
    reseal(roots[1])
    found = compare(roots)
    assert found.ranking is not None
    best, other = found.ranking.standings
    assert (best.runs, best.rounds, best.accepted) == (("b",), (2,), (False,))
    assert other.accepted == (True,)
    text = as_text(found)
    assert "Its child was not accepted; a run that accepts none ends with its base." in text
    assert "round 2, not accepted" in text
    assert "The best that was accepted is a: " in text


def test_a_run_that_was_asked_other_items_has_no_place(zero: Path, tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    points = (("a", 4, 0, 0), ("b", 6, 0, 5), ("c", 8, 0, 0))
    roots = swept(zero, tmp_path / "sweep", *points)
    rename_items(roots[2], ("base/eval", "round-1/eval", "round-2/eval"), "sums_dev")
    shutil.rmtree(roots[1] / "round-1/verdict")
    found = compare(roots)
    assert found.ranking is None, "a single one of each kind"
    (tmp_path / "again").mkdir()
    found = compare([*swept(zero, tmp_path / "again", ("d", 5, 0, 3)), *roots])
    assert found.ranking is not None
    assert found.ranking.left_out == {"b": "no child judged yet", "c": "other items decide"}
    assert "Without a place: b (no child judged yet), c (other items decide)." in as_text(found)


def test_runs_are_called_by_what_differs_where_that_is_shorter_and_tells_them_apart() -> None:
    names = ["a-rather-long-name-1", "a-rather-long-name-2", "a-rather-long-name-3"]

    def settings(**values: tuple[str, ...]) -> list[Differing]:
        of_run = {
            name: {key.replace("__", "."): its[nth] for key, its in values.items()} for nth, name in enumerate(names)
        }
        return list(differing(of_run))

    votes = settings(consensus__samples=("3", "3", "5"), run__seed=("1", "2", "1"), eval__k=("3", "3", "5"))
    assert list(labels(votes, names).values()) == ["samples=3 seed=1", "samples=3 seed=2", "samples=5 seed=1"]
    assert told_by(votes, ["run.seed"])[names[0]] == "samples=3"
    alike = settings(consensus__samples=("3", "3", "5"))
    assert list(labels(alike, names).values()) == names, "two of them would be called the same"
    assert labels(votes, [its[-1] for its in names]) == {"1": "1", "2": "2", "3": "3"}, "not shorter"
    two = settings(bait__temperature=("1", "1", "2"), consensus__temperature=("1", "2", "1"))
    assert labels(two, names)[names[0]] == names[0], "longer than a name"
    enough = settings(samples=("1", "1", "2"), path=("a", "b", "c"), a_rather_long_one=("1", "2", "1"))
    assert list(labels(enough, names).values()) == ["path=a", "path=b", "path=c"], "that alone tells them apart"
    assert told_by(two)[names[1]] == "bait.temperature=1 consensus.temperature=2"
    many = settings(**{f"x__setting_number_{its}": (f"{its}1", f"{its}2", f"{its}{its % 3}") for its in range(3, 9)})
    assert max(map(len, told_by(many).values())) <= 40, "as few settings as tell them apart"
    assert len(set(told_by(many).values())) == 3


def test_what_values_begin_with_is_left_out_where_it_hides_the_rest() -> None:
    paths = ['"/data/models/of/a/kind/Qwen2.5-7B"', '"/data/models/of/a/kind/Llama-3-8B"']
    assert list(distinct(paths, 16).values()) == ["…Qwen2.5-7B", "…Llama-3-8B"]
    assert list(distinct(['"a"', "3"], 16).values()) == ["a", "3"]


def test_items_that_are_not_known_are_not_averaged(taught: tuple[Path, Path], tmp_path: Path) -> None:
    copies = [Path(shutil.copytree(its, tmp_path / its.name)) for its in taught]
    for root in copies:
        (root / "base/eval/responses.jsonl").write_text("{}\n")
        reseal(root)
    found = compare(copies)
    assert {its.round for its in found.seeds} == {1}
    assert as_markdown(found).count("items not known") == 4, "a table for each run and benchmark"


def test_settings_are_shown_where_they_differ_and_seeds_are_averaged(taught: tuple[Path, Path]) -> None:
    found = compare(taught)
    assert {its.key: its.runs_by_value for its in found.settings} == {
        "run.rounds": {"2": ("zero",), "1": ("one",)},
        "run.seed": {"0": ("zero",), "1": ("one",)},
    }
    assert {(its.benchmark, its.round) for its in found.seeds} == {
        (name, number) for name in ("sums_dev", "sums_test") for number in (0, 1)
    }, "the second round has one seed only"
    both = [float(its["accuracy"]) for its in lines(found) if (its["benchmark"], its["round"]) == ("sums_dev", "1")]
    averaged = next(its for its in found.seeds if (its.benchmark, its.round) == ("sums_dev", 1))
    centre, deviation = mean_and_deviation(averaged.accuracies)
    assert averaged.runs == ("zero", "one")
    assert centre == pytest.approx(sum(both) / 2)
    assert deviation == pytest.approx(abs(both[0] - both[1]) / math.sqrt(2))
    assert mean_and_deviation([0.5]) == (0.5, None)


def test_runs_that_differ_in_more_than_seeds_are_not_averaged(taught: tuple[Path, Path], zero: Path) -> None:
    config = zero / "config.yaml"
    config.write_text(config.read_text().replace("samples: 8", "samples: 4"))
    found = compare([zero, taught[1]])
    assert found.seeds == ()
    assert "consensus.samples" in {its.key for its in found.settings}


def test_runs_of_different_models_are_not_averaged(taught: tuple[Path, Path], zero: Path) -> None:
    config = zero / "config.yaml"
    config.write_text(re.sub(r"path: fake:\S+", "path: fake:0.9", config.read_text()))
    found = compare([zero, taught[1]])
    assert "model.path" in {its.key for its in found.settings}
    assert found.seeds == ()
    config.write_text((taught[0] / "config.yaml").read_text().replace("mode: run", "mode: check"))
    found = compare([zero, taught[1]])
    assert "mode" not in {its.key for its in found.settings}, "what a command was asked to do makes no other run"
    assert found.seeds


def test_the_same_run_twice_and_the_same_seed_twice_count_once(taught: tuple[Path, Path], zero: Path) -> None:
    other, one = taught
    twice = compare([one, zero, one.parent / "." / "one"])
    assert [its.name for its in twice.runs] == ["one", "zero"]
    assert "named more than once" in told(twice)
    again = compare([zero, other, one])
    assert [its.name for its in again.runs] == [str(zero), str(other), "one"], "two folders of one name"
    assert {its.runs for its in again.seeds} == {(str(zero), "one")}
    assert f"{other}: settings and seed of {zero}" in told(again)


def test_an_unfinished_run_is_compared_as_far_as_it_went(zero: Path) -> None:
    shutil.rmtree(zero / "round-2/verdict")
    (zero / "round-2/eval").rename(zero / "round-2/eval.partial")
    (run,) = compare([zero]).runs
    assert run.status == "not finished: 1 of 2 rounds, next round-2/eval"
    assert [(its.round, its.verdict, len(its.measured)) for its in run.rows[1:]] == [(1, "accept", 2), (2, None, 0)]
    assert (
        run.rows[2].checkpoint
        == f"zero-r02-{json.loads((zero / 'round-2/train' / MANIFEST).read_text())['digest'][:8]}"
    )
    shutil.rmtree(zero / "round-2/train")
    assert compare([zero]).runs[0].rows[2].checkpoint is None


def test_a_run_that_failed_at_once_is_there_and_empty(tmp_path: Path, taught: tuple[Path, Path]) -> None:
    (tmp_path / "failed" / "base" / "eval.partial").mkdir(parents=True)
    found = compare([tmp_path / "failed", taught[1]])
    assert found.runs[0].rows == ()
    assert found.runs[0].status == "nothing finished to compare"
    assert lines(found)[0]["status"] == "nothing finished to compare"
    assert "base/eval: not finished" in told(found)
    assert "config.yaml: there is none" in told(found)
    assert "nothing finished to compare" in as_text(compare([tmp_path / "failed"]))


def test_what_a_changed_file_says_is_not_believed(zero: Path) -> None:
    scores = zero / "round-2/eval/scores.json"
    scores.write_text(scores.read_text().replace('"unparsed": ', '"unparsed": 1'))
    found = compare([zero])
    assert [len(its.measured) for its in found.runs[0].rows] == [2, 2, 0]
    changed = "round-2/eval: scores.json is not as it was written (damaged or edited), so it was not read"
    assert f"{changed}; run.redo=round-2/eval makes it and all later ones again" in told(found)
    assert found.runs[0].status == "damaged in round-2/eval"


def test_a_file_that_is_lost_is_named_and_its_run_is_not_called_unfinished(zero: Path) -> None:
    (zero / "round-1/synthesis/votes.jsonl").unlink()
    found = compare([zero])
    assert "round-1/synthesis: votes.jsonl is missing, so it was not read" in told(found)
    assert found.runs[0].status == "damaged in round-1/synthesis"
    (zero / "round-1/synthesis" / MANIFEST).write_text("{")
    assert f"round-1/synthesis: {MANIFEST} is not as it was written" in told(compare([zero]))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"sums_dev": 0.5}\n', "was it written by another version of Crescent?"),
        (b'{"item": "x', "this is no whole JSON: it is damaged"),
        (b'{"item": "\xff"}\n', "this is no whole JSON: it is damaged"),
    ],
)
def test_a_record_that_is_torn_is_not_taken_for_one_of_another_version(zero: Path, text: bytes, said: str) -> None:
    (zero / "round-2/eval/responses.jsonl").write_bytes(text)
    reseal(zero)
    (note,) = (its for its in compare([zero]).runs[0].missing if "round-2/eval/" in its)
    assert said in note


def test_a_round_from_before_the_last_redo_is_not_read(zero: Path) -> None:
    """The first round was made again, the second not yet."""
    votes = zero / "round-1/synthesis/votes.jsonl"
    votes.write_bytes(b"".join(votes.read_bytes().splitlines(keepends=True)[1:]))
    second = Path(shutil.move(zero / "round-2", zero.parent / "round-2"))
    reseal(zero)
    shutil.move(second, zero / "round-2")
    found = compare([zero])
    assert [its.round for its in found.runs[0].rows] == [0, 1]
    assert "round-2: was made before the rounds before it were made again" in told(found)
    assert found.runs[0].status.startswith("not finished: 1 of 2 rounds")


def test_other_items_under_the_same_name_stand_apart(taught: tuple[Path, Path], zero: Path) -> None:
    rename_items(zero, ("base/eval", "round-1/eval", "round-2/eval"), "sums_test")
    found = compare([zero, taught[1]])
    assert "sums_test: other items under the same name (30 items in zero; 30 items in one)" in told(found)
    assert {its.benchmark for its in found.seeds} == {"sums_dev"}
    assert as_markdown(found).count("### sums\\_test") + as_markdown(found).count("### sums_test") == 2
    assert all(its["base_difference"] for its in lines(found) if its["round"] != "0"), "within a run they are the same"


def test_a_round_with_other_items_than_its_base_is_not_compared_with_it(zero: Path) -> None:
    rename_items(zero, ("round-2/eval",), "sums_dev")
    found = compare([zero])
    differences = {(its["round"], its["benchmark"]): its["base_difference"] != "" for its in lines(found)}
    assert differences[("2", "sums_dev")] is False
    assert differences[("2", "sums_test")] is True
    assert "round-2/eval, sums_dev: not compared with the base" in told(found)


def test_what_an_older_version_did_not_measure_is_a_dash(zero: Path) -> None:
    def forget(manifest: dict[str, object]) -> None:
        metrics = manifest["metrics"]
        assert isinstance(metrics, dict)
        for name in ("dropped_near_duplicates", "tokens"):
            metrics.pop(name, None)

    reseal(zero, forget)
    found = compare([zero])
    line = next(its for its in lines(found) if its["round"] == "1")
    assert (line["near_duplicate_drop_rate"], line["tokens"]) == ("", "")
    assert line["questions"] == "24"
    row = next(its for its in as_markdown(found).splitlines() if "zero-r01-" in its)
    assert row.split(" | ")[5] == "–"


def test_records_of_another_version_are_named_and_left_out(zero: Path) -> None:
    (zero / "round-2/verdict/verdict.json").write_text('{"accepted": true}\n')
    (zero / "round-2/eval/scores.json").write_text('{"sums_dev": 0.5}')
    (zero / "round-1/eval/responses.jsonl").write_text('{"correct": true}\n')
    reseal(zero)
    found = compare([zero])
    last = found.runs[0].rows[-1]
    assert (last.verdict, last.measured) == (None, ())
    assert all(its.against_base is None for its in found.runs[0].rows[1].measured)
    assert [float(its["accuracy"]) for its in lines(found) if its["round"] == "1"]
    for file in ("round-2/verdict/verdict.json", "round-2/eval/scores.json", "round-1/eval/responses.jsonl"):
        assert file in told(found)


def test_a_stop_for_want_of_patience_is_shown_as_one(zero: Path) -> None:
    """The verdict on disk says what the comparison shows; patience is counted by the loop."""
    for number in (1, 2):
        path = zero / f"round-{number}/verdict/verdict.json"
        write_lines(path, [replace(read_lines(path, Verdict)[0], action="roll back")])
    reseal(zero)
    (run,) = compare([zero]).runs
    assert [its.verdict for its in run.rows] == [None, "roll back", "stop"]
    assert run.status == "stopped after 2 rounds"
    config = zero / "config.yaml"
    config.write_text(config.read_text().replace("patience: 1", "patience: 2"))
    assert [its.verdict for its in compare([zero]).runs[0].rows] == [None, "roll back", "roll back"]


def test_what_voting_gives_for_nothing_stands_below_the_base(zero: Path) -> None:
    voted = curve([LabelledVote(4, 4, True, 4), LabelledVote(3, 4, True, 3), LabelledVote(2, 4, False, 1)])
    folder = zero / "base/reliability"
    folder.mkdir()
    write_lines(folder / "reliability.json", [{"sums_dev": voted}])
    seal(folder, {"made_from": {"settings": {}, "inputs": {}, "version": "0"}, "metrics": {}, "seconds": 1.0})
    found = compare([zero])
    base = next(its for its in lines(found) if (its["round"], its["benchmark"]) == ("0", "sums_dev"))
    assert (base["majority_samples"], float(base["majority"])) == ("4", pytest.approx(2 / 3))
    text = as_text(found)
    assert text.count("66.7 [20.8, 93.9]") == 1
    assert "maj@4 in zero" in text
    assert not any(its["majority"] for its in lines(found) if its["round"] != "0")


@pytest.mark.parametrize("config", ["", "- a\n- b\n", "{run: [", "a: !!python/object:os.system {}\n", "\x00"])
def test_a_config_that_cannot_be_read_costs_the_settings_and_nothing_else(zero: Path, config: str) -> None:
    (zero / "config.yaml").write_text(config)
    found = compare([zero])
    assert found.runs[0].settings is None
    assert "config.yaml: " in told(found)
    assert len(lines(found)) == 6
    assert found.runs[0].status == "2 rounds; how many were planned is not known"


def test_names_are_text_wherever_they_are_printed(taught: tuple[Path, Path], tmp_path: Path) -> None:
    name = "=cmd\\|' /C calc'!A0\n<b>\x1b[31m[bold]x\\"
    root = Path(shutil.copytree(taught[1], tmp_path / name.replace("/", "∕")))
    found = compare([root])
    first = lines(found)[0]
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
    write_lines(path, [replace(its, correct=False) for its in read_lines(path, Response)])
    reseal(zero)
    assert [float(its["base_difference"]) < 0 for its in lines(compare([zero])) if its["round"] == "2"] == [True, True]


def test_the_columns_of_the_csv_stay_as_they_are(taught: tuple[Path, Path]) -> None:
    assert as_csv(compare(taught)).splitlines()[0] == ",".join(COLUMNS)
    assert COLUMNS[:5] == ("run", "folder", "status", "seed", "round")
    assert compare_csv.__doc__
    assert not [its for its in COLUMNS if its not in compare_csv.__doc__], "each is explained"


@pytest.mark.parametrize("width", [80, 120, 200])
def test_no_line_is_wider_than_the_terminal(taught: tuple[Path, Path], width: int, tmp_path: Path) -> None:
    long = Path(shutil.copytree(taught[1], tmp_path / "qwen7b-samples-16-min-agreement-0-75-seed-3-ab12cd"))
    text = io.StringIO()
    show(compare([*taught, long]), Console(file=text, width=width, markup=False, highlight=False))
    assert max(map(len, text.getvalue().splitlines())) <= width
    for line in lines(compare(taught)):
        assert f"{100 * float(line['accuracy']):.1f} [{100 * float(line['accuracy_low']):.1f}, " in text.getvalue()
    assert "…" not in text.getvalue(), "no cell is cut"
    assert ("#1" in text.getvalue()) == (width < 120), "long names are numbered where there is no room for them"


@pytest.mark.parametrize("width", [30, 60, 80, 120])
def test_no_number_is_cut_on_a_narrow_terminal(taught: tuple[Path, Path], width: int) -> None:
    found = compare(taught)
    written = io.StringIO()
    show(found, Console(file=written, width=width, color_system=None))
    words = written.getvalue().split()
    for run in found.runs:
        for row in run.rows:
            for its in row.measured:
                for share in (its.score.low, its.score.high):
                    assert any(re.fullmatch(rf"\[?{100 * share:.1f}[\],;]*", word) for word in words), share
                if its.against_base is not None:
                    low, high = its.against_base.low, its.against_base.high
                    assert f"[{100 * low:+.1f}," in words
                    assert any(word.startswith(f"{100 * high:+.1f}]") for word in words)
            if row.verdict is not None:
                assert any(word.startswith(f"{row.agreement:.2f}") for word in words)


def test_several_answers_to_an_item_show_their_majority_and_whether_any_is_right(zero: Path) -> None:
    path = zero / "round-1/eval/scores.json"
    scores = json.loads(path.read_text())
    for its in scores:
        several = {"samples": 4, "majority": 0.75, "pass_at": {"1": 0.5, "2": 0.6, "4": 0.9}}
        its.update({**several, "strict": its["total"] // 2, "flexible": None})
    path.write_text(json.dumps(scores))
    reseal(zero)
    found = compare([zero])
    one = next(its for its in lines(found) if its["round"] == "1")
    assert (one["samples"], one["maj_k"], one["pass_k"], one["strict"], one["flexible"]) == (
        "4",
        "0.75",
        "0.9",
        "0.5",
        "",
    )
    base = next(its for its in lines(found) if its["round"] == "0")
    assert (base["samples"], base["maj_k"], base["pass_k"]) == ("1", "", "")
    cells = "75.0 (k=4) | 90.0 (k=4)"
    assert any(cells in row and "| 50.0 | – |" in row for row in as_markdown(found).splitlines())
    wide = io.StringIO()
    show(found, Console(file=wide, width=200))
    assert "75.0 (k=4)  90.0 (k=4)" in wide.getvalue()
    narrow = io.StringIO()
    show(found, Console(file=narrow, width=80))
    assert "read otherwise" in narrow.getvalue()
    assert "75.0 (k=4)  90.0 (k=4)" in narrow.getvalue()
    assert max(map(len, narrow.getvalue().splitlines())) <= 80
