"""Every source of labelled problems, from hand-written files in the published formats."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crescent.config import BenchmarkConfig, Source, Split, TaskConfig, task_of
from crescent.config.evaluation import NUMBER_FAMILIES
from crescent.errors import BadConfig, DataSaysNo, Missing
from crescent.records import Completion, Item
from crescent.tasks import open_task
from crescent.tasks.multiple_choice import MultipleChoice
from eval.benchmarks import half, load, multiple_choice, read, usable, word_problems
from eval.benchmarks.multiple_choice import SUBJECTS, arc_file_row, arc_hub_row, mmlu_file_row, mmlu_hub_row
from eval.benchmarks.word_problems import (
    PERTURBATIONS,
    asdiv_row,
    gsm8k_row,
    gsm_plus_row,
    lila_row,
    math500_row,
    mawps_row,
    number,
    rows,
    svamp_row,
)
from eval.reading import grade
from eval.scorers import strict_match


def both_splits(data: Path | str, **settings: Any) -> tuple[list[Item], list[Item]]:
    dev = load("b", BenchmarkConfig(split=Split.dev, **settings), str(data))
    test = load("b", BenchmarkConfig(split=Split.test, **settings), str(data))
    return dev, test


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with a few hand-written problems of every set."""
    for split in ("train", "test"):
        lines = [
            {"question": f" {split} {n}: how many?\u2028", "answer": f"It is <<{n}*1=1>>.\n#### 1,{n:03}"}
            for n in range(20)
        ]
        write_rows(tmp_path / "gsm8k" / f"{split}.jsonl", lines)
    problems = "".join(
        f'<Problem ID="x-{n}" Grade="1" Source="here"><Body>Ann has {n} pens &amp; a cap.</Body>'
        f"<Question>How many pens?</Question><Answer>{n} (pens)</Answer></Problem>"
        for n in range(20)
    )
    (tmp_path / "asdiv").mkdir()
    (tmp_path / "asdiv" / "ASDiv.xml").write_text(
        f'<?xml version="1.0" encoding="UTF-8" ?><Machine-Reading-Corpus-File><ProblemSet>{problems}'
        "<Problem><Body>Who won?</Body><Question>Say it.</Question><Answer>Mrs. Hilt</Answer></Problem>"
        "</ProblemSet></Machine-Reading-Corpus-File>"
    )
    (tmp_path / "svamp").mkdir()
    svamp = [{"Body": f"Bo had {n} figs", "Question": "How many figs?", "Answer": float(n)} for n in range(20)]
    (tmp_path / "svamp" / "SVAMP.json").write_text(json.dumps(svamp))
    for family in ("addsub", "multiarith", "singleop", "singleeq"):
        spacing = " ." if family == "addsub" else "."
        mawps = [{"input": f"Cy saw {n} owls{spacing} How many ?", "target": n + 0.0} for n in range(20)]
        write_rows(tmp_path / "mawps" / f"{family}.jsonl", mawps)
    return tmp_path


def test_gsm8k_decides_on_train_and_reports_on_test(folder: Path) -> None:
    dev, test = both_splits(folder, source=Source.gsm8k)
    assert (len(dev), len(test)) == (20, 20)
    assert (dev[3].question, dev[3].target, dev[3].benchmark) == ("train 3: how many?", "1003", "b")
    assert test[0].question.startswith("test 0")


@pytest.mark.parametrize(
    ("source", "family", "question", "target"),
    [
        (Source.asdiv, None, "Ann has 7 pens & a cap. How many pens?", "7"),
        (Source.svamp, None, "Bo had 7 figs How many figs?", "7"),
        (Source.mawps, "addsub", "Cy saw 7 owls . How many ?", "7"),
        (Source.mawps, "singleeq", "Cy saw 7 owls. How many ?", "7"),
    ],
)
def test_sets_without_splits_are_divided_into_two_that_share_nothing(
    folder: Path, source: Source, family: str | None, question: str, target: str
) -> None:
    dev, test = both_splits(folder, source=source, family=family)
    assert dev
    assert test
    assert not {item.id for item in dev} & {item.id for item in test}
    assert len(dev) + len(test) == 20
    assert (question, target) in {(item.question, item.target) for item in dev + test}


def test_the_same_problem_is_on_the_same_side_in_every_part_of_mawps(folder: Path) -> None:
    dev, _ = both_splits(folder, source=Source.mawps, family="addsub")
    _, test = both_splits(folder, source=Source.mawps, family="singleeq")
    assert not {item.question.replace(" ", "") for item in dev} & {item.question.replace(" ", "") for item in test}


def test_division_is_fair_and_deaf_to_spacing() -> None:
    sides = [half(f"How much is {n} and {n + 1}?") for n in range(1000)]
    assert 450 < sides.count(Split.dev) < 550
    assert half("Ann has 3 pens . How many ?") is half("ann has 3 pens. How many?")


def test_ids_come_from_the_question_and_not_from_its_place_or_seed(folder: Path) -> None:
    some = load("b", BenchmarkConfig(items=5, seed=1), str(folder))
    others = load("c", BenchmarkConfig(), str(folder))
    assert {item.id for item in some} < {item.id for item in others}


def test_a_choice_is_seeded_and_a_larger_one_contains_it(folder: Path) -> None:
    def chosen(items: int, seed: int) -> list[str]:
        return [item.id for item in load("b", BenchmarkConfig(items=items, seed=seed), str(folder))]

    assert chosen(8, 0) == chosen(8, 0)
    assert set(chosen(8, 0)) < set(chosen(12, 0))
    assert set(chosen(8, 0)) != set(chosen(8, 1))


def test_asking_for_more_than_there_is_names_both_numbers(folder: Path) -> None:
    with pytest.raises(BadConfig, match=r"items=21.*only 20 unique items.*set items=20 or less"):
        load("dev", BenchmarkConfig(items=21), str(folder))


def test_rows_without_a_number_and_repeated_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    answers = ["#### 5", "#### five", "no mark", "#### 7"]
    lines = [{"question": f"q{n}", "answer": answer} for n, answer in enumerate(answers)]
    write_rows(tmp_path / "gsm8k" / "train.jsonl", [*lines, lines[0], lines[3]])
    benchmark = read("b", BenchmarkConfig(), str(tmp_path))
    assert [item.target for item in benchmark.items] == ["5", "7"]
    assert (benchmark.unusable, benchmark.duplicates) == (2, 2)


def test_a_set_without_any_usable_row_is_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "gsm8k" / "train.jsonl", [{"question": "q", "answer": "none"}])
    with pytest.raises(DataSaysNo, match="no usable item; 1 rows without"):
        load("b", BenchmarkConfig(), str(tmp_path))


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("1,234", "1234"),
        (" 109,200,000", "109200000"),
        ("$12.50", "12.5"),
        (43.0, "43"),
        (39, "39"),
        ("-5", "-5"),
        ("0.00", "0"),
        ("100", "100"),
        ("5/2", "5/2"),
        (0.6666666667, "2/3"),
        (3.33333, "10/3"),
        (-0.1666666667, "-1/6"),
        ("0.125", "0.125"),
        ("3.14159", "3.14159"),
        ("2.00000", "2"),
        ("5-7", None),
        ("3/0", None),
        ("1,2", None),
        ("7:3", None),
        ("3:30 p.m.", None),
        ("11; 12", None),
        ("nan", None),
        ("", None),
    ],
)
def test_reference_answers_become_plain_numbers(written: object, plain: str | None) -> None:
    assert number(written) == plain


def test_rows_of_the_files_and_of_the_hub_mean_the_same() -> None:
    assert gsm8k_row({"question": "Q?", "answer": "#### is a mark\n#### -1,080"}) == ("Q?", "-1080")
    hub_asdiv = {"body": "B.", "question": "Q?", "solution_type": "Sum", "answer": "9 (apples)", "formula": "7+2=9"}
    assert asdiv_row(hub_asdiv) == ("B. Q?", "9")
    assert asdiv_row({"body": "B.", "question": "Q?", "answer": "5 (years old); 15 (years old)"}) == ("B. Q?", None)
    hub_svamp = {"ID": "chal-1", "Body": "B.", "Question": "Q?", "Answer": "145.0", "question_concat": "B. Q?"}
    assert svamp_row(hub_svamp) == svamp_row({"Body": "B. ", "Question": "Q?", "Answer": 145.0}) == ("B. Q?", "145")
    assert lila_row({"input": "Q?", "output_answer": "8.0", "output_program": "print(8)"}) == ("Q?", "8")
    assert mawps_row({"input": "Q?", "target": 8}) == ("Q?", "8")


def test_a_missing_benchmark_says_where_to_put_it(tmp_path: Path) -> None:
    # In a process of its own: the hub's client reads HF_HUB_OFFLINE once, when it is imported.
    code = """
import sys
from crescent.config import BenchmarkConfig, Source, Split
from crescent.errors import Missing
from eval.benchmarks import load
sets = [("gsm8k", None), ("asdiv", None), ("svamp", None), ("mawps", "singleop")]
sets += [("gsm_plus", None), ("math500", None)]
for source, family in [*sets, ("arc_challenge", None), ("mmlu", None)]:
    for data in (sys.argv[1], None):
        try:
            split = Split.test if source == "gsm_plus" else Split.dev
            load("mine", BenchmarkConfig(Source[source], split, family=family), data)
        except Missing as error:
            print(error)
"""
    environment = {key: value for key, value in os.environ.items() if key != "CRESCENT_DATA"} | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-P", "-c", code, str(tmp_path)]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(said) == 16
    places = ["gsm8k/train.jsonl", "asdiv/ASDiv.xml", "svamp/SVAMP.json", "mawps/singleop.jsonl"]
    places += ["gsm_plus/gsmplus_testmini.jsonl", "math500/test.jsonl"]
    places += ["arc_challenge/arc_challenge.jsonl", "mmlu/test/abstract_algebra_test.csv"]
    hubs = ["openai/gsm8k", "EleutherAI/asdiv", "ChilleD/SVAMP", "allenai/lila", "qintongli/GSM-Plus"]
    hubs += ["HuggingFaceH4/MATH-500", "allenai/ai2_arc", "cais/mmlu"]
    for place, hub, in_folder, without_folder in zip(places, hubs, said[::2], said[1::2], strict=True):
        assert f"put the file at {tmp_path / place}" in in_folder
        assert f"put the file at $CRESCENT_DATA/{place}" in without_folder
        assert f"--repo-type dataset {hub}" in in_folder
        assert "eval.benchmarks.mine" in in_folder


def test_the_converted_branch_of_the_hub_is_read_part_by_part(tmp_path: Path) -> None:
    # The library reads a local copy of the branch's folders as it reads the branch.
    from datasets import Dataset

    origin = word_problems.find("b", BenchmarkConfig(source=Source.mawps, family="addsub"))
    for part in ("addsub", "singleop"):
        for split in origin.splits:
            target = tmp_path / part / split / "0000.parquet"
            target.parent.mkdir(parents=True)
            Dataset.from_list([{"input": f"{part} {split}?", "output_answer": "3.0"}]).to_parquet(str(target))
    local = replace(origin, hub=str(tmp_path), options={"data_dir": origin.options["data_dir"]})
    found = [local.hub_row(raw) for raw in word_problems.from_hub(local)]
    assert found == [("addsub train?", "3"), ("addsub validation?", "3"), ("addsub test?", "3")]


def test_the_environment_names_the_folder_and_a_wrong_one_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRESCENT_DATA", str(folder))
    assert len(load("b", BenchmarkConfig(), None)) == 20
    with pytest.raises(Missing, match=r"eval\.data=/no/where: no such folder"):
        load("b", BenchmarkConfig(), "/no/where")


@pytest.mark.parametrize(("file", "source"), [("gsm8k/train.jsonl", Source.gsm8k), ("asdiv/ASDiv.xml", Source.asdiv)])
@pytest.mark.parametrize("text", ['{"prompt": "another format"}', "<broken", "[1, 2]"])
def test_a_file_in_another_format_is_named(tmp_path: Path, file: str, source: Source, text: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(text)
    with pytest.raises(DataSaysNo, match=file):
        load("b", BenchmarkConfig(source=source), str(tmp_path))


def test_an_unknown_part_of_mawps_lists_the_known_ones() -> None:
    with pytest.raises(BadConfig, match=r"family=addsubs.*addsub, multiarith, singleop, singleeq"):
        load("b", BenchmarkConfig(source=Source.mawps, family="addsubs"), None)


def perturbed(n: int, kind: str, answer: str | None) -> dict[str, Any]:
    """A row of GSM-Plus."""
    return {
        "question": f"{kind} {n}: how many?\n",
        "solution": f"It is {answer}.\n#### {answer}",
        "answer": answer,
        "perturbation_type": kind,
        "seed_question": f"{n}: how many?",
    }


def test_gsm_plus_is_all_test_and_what_has_no_answer_by_design_is_no_item(tmp_path: Path) -> None:
    lines = [perturbed(n, "digit expansion", f"{n},080") for n in (1, 2, 3)]
    lines += [perturbed(n, "reversing operation", "4.33") for n in (1, 2)]
    lines += [perturbed(n, "critical thinking", answer) for n, answer in ((1, "None"), (2, None))]
    write_rows(tmp_path / "gsm_plus" / "gsmplus_testmini.jsonl", [*lines, lines[0]])
    settings: dict[str, Any] = {"source": Source.gsm_plus, "split": Split.test}
    found = read("b", BenchmarkConfig(**settings), str(tmp_path))
    assert [item.target for item in found.items] == ["1080", "2080", "3080", "4.33", "4.33"]
    assert (found.items[0].question, found.unusable, found.duplicates) == ("digit expansion 1: how many?", 2, 1)
    part = read("b", BenchmarkConfig(**settings, family="reversing operation"), str(tmp_path))
    assert (len(part.items), part.unusable) == (2, 0)
    with pytest.raises(DataSaysNo, match=r"gsm_plus critical thinking \(test\) has no usable item; 2 rows without"):
        load("b", BenchmarkConfig(**settings, family="critical thinking"), str(tmp_path))
    with pytest.raises(BadConfig, match=r"b\.family=distraction: .*no such perturbation; one of .*, or null for all"):
        load("b", BenchmarkConfig(**settings, family="distraction"), str(tmp_path))


def test_math500_keeps_its_formulas_and_is_divided_in_two(tmp_path: Path) -> None:
    answer = "\\left( 3, \\frac{\\pi}{2} \\right)"
    assert math500_row({"problem": " Where? ", "answer": f"{answer} "}) == ("Where?", answer)
    lines = [
        {"problem": f"Where is {n}?", "answer": answer, "solution": "s", "subject": ("Algebra", "Geometry")[n % 2]}
        for n in range(40)
    ]
    write_rows(tmp_path / "math500" / "test.jsonl", lines)
    dev, test = both_splits(tmp_path, source=Source.math500)
    assert len(dev) + len(test) == 40
    assert dev
    assert test
    assert sum(map(len, both_splits(tmp_path, source=Source.math500, family="Geometry"))) == 20
    with pytest.raises(BadConfig, match=r"b\.family=geometry: MATH-500 has no such subject; one of Algebra, Counting"):
        load("b", BenchmarkConfig(source=Source.math500, family="geometry"), str(tmp_path))


@pytest.mark.parametrize("file", ["gsm_plus/gsmplus_testmini.jsonl", "math500/test.jsonl"])
def test_a_new_file_in_another_format_is_named(tmp_path: Path, file: str) -> None:
    source = Source.gsm_plus if "gsm_plus" in file else Source.math500
    family = "digit expansion" if source is Source.gsm_plus else "Algebra"
    write_rows(tmp_path / file, [{"prompt": "another format"}])
    for part in (None, family):
        with pytest.raises(DataSaysNo, match=file):
            load("b", BenchmarkConfig(source=source, split=Split.test, family=part), str(tmp_path))


@pytest.mark.skipif("CRESCENT_DATA" not in os.environ, reason="CRESCENT_DATA names no folder with benchmark data")
def test_the_published_gsm_plus_and_math500_are_read_and_their_solutions_are_right() -> None:
    data = Path(os.environ["CRESCENT_DATA"])
    plus: dict[str, Any] = {"source": Source.gsm_plus, "split": Split.test}
    found = read("b", BenchmarkConfig(**plus), str(data))
    assert (len(found.items), found.unusable, found.duplicates) == (2100, 300, 0)
    for family in PERTURBATIONS[:-1]:
        assert len(load("b", BenchmarkConfig(**plus, family=family), str(data))) == 300
    assert sum(map(len, both_splits(data, source=Source.math500))) == 500
    sets = (
        (Source.math500, "math500/test.jsonl", math500_row),
        (Source.gsm_plus, "gsm_plus/gsmplus_testmini.jsonl", gsm_plus_row),
    )
    for source, file, convert in sets:
        with open_task(task_of(BenchmarkConfig(source, split=Split.test), TaskConfig()), 5.0) as task:
            for line in (data / file).read_text("utf-8").splitlines():
                raw = json.loads(line)
                target = convert(raw)[1]
                if target is not None:
                    assert grade(Completion(raw["solution"], "stop", 1), target, task)[1], raw
                    assert strict_match(raw["solution"], target), raw


def generated(items: int = 100, split: Split = Split.dev, seed: int = 0, **options: Any) -> list[Item]:
    settings = {"source": Source.reasoning_gym, "family": "chain_sum", "options": options}
    return load("sums", BenchmarkConfig(items=items, split=split, seed=seed, **settings), None)


def test_every_family_that_is_said_to_ask_for_numbers_has_numbers_as_reference_answers() -> None:
    for family in sorted(NUMBER_FAMILIES):
        benchmark = BenchmarkConfig(Source.reasoning_gym, items=2, family=family)
        with open_task(task_of(benchmark, TaskConfig()), 5.0) as task:
            for item in load("sums", benchmark, None):
                assert grade(Completion(f"#### {item.target}", "stop", 1), item.target, task)[1], (family, item.target)


def test_generated_sets_are_seeded_and_as_the_family_writes_them() -> None:
    items = generated()
    assert items == generated()
    assert items != generated(seed=1)
    assert len({item.question for item in items}) == 100
    assert all(re.fullmatch(r"State the final answer to .+ =", item.question) for item in items)
    assert all(eval_sum(item.question) == int(item.target) for item in items)


def eval_sum(question: str) -> int:
    terms = question.partition(": ")[2].removesuffix(" =").replace("- ", "-").replace("+ ", "")
    return sum(int(term) for term in terms.split())


def test_generated_test_sets_contain_no_dev_question_whatever_the_seeds() -> None:
    small = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
    dev = {item.question for seed in range(3) for item in generated(60, Split.dev, seed, **small)}
    test = {item.question for seed in range(3) for item in generated(60, Split.test, seed, **small)}
    assert not dev & test


def test_a_small_family_is_used_up_and_then_says_how_many_there_are() -> None:
    small = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
    with pytest.raises(BadConfig, match=r"items=500: reasoning_gym chain_sum \(dev\) has only \d+ unique") as caught:
        generated(500, **small)
    found = re.search(r"only (\d+) unique", str(caught.value))
    assert found
    assert len(generated(int(found[1]), **small)) == int(found[1])


def test_what_was_drawn_once_is_found_again_without_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRESCENT_CACHE", str(tmp_path / "cache"))
    drawn = generated(20)
    with monkeypatch.context() as gone:
        gone.setitem(sys.modules, "reasoning_gym", None)
        assert generated(20) == drawn
        with pytest.raises(ImportError):
            generated(20, seed=1)
    (cached,) = (tmp_path / "cache").iterdir()
    rows = json.loads(cached.read_text())
    for damaged in ("", "[", "[1]", json.dumps(rows[:5])):
        cached.write_text(damaged)
        assert generated(20) == drawn
        assert json.loads(cached.read_text()) == rows, "drawn again, or drawn to the end"


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    monkeypatch.setenv("CRESCENT_CACHE", str(tmp_path / "cache"))
    assert len(generated(20)) == 20


def test_an_unknown_family_lists_close_names() -> None:
    config = BenchmarkConfig(source=Source.reasoning_gym, family="chainsum", items=3)
    with pytest.raises(BadConfig, match=r"family=chainsum.*did you mean.*chain_sum"):
        load("b", config, None)


def test_options_a_family_does_not_take_are_refused_with_its_own_words() -> None:
    with pytest.raises(BadConfig, match=r"eval\.benchmarks\.sums\.options.*bogus"):
        generated(bogus=1)
    with pytest.raises(BadConfig, match="max_terms must be >= min_terms"):
        generated(min_terms=20)
    with pytest.raises(BadConfig, match=r"options\.seed.*use eval\.benchmarks\.sums\.seed"):
        load("sums", BenchmarkConfig(Source.reasoning_gym, items=3, family="chain_sum", options={"seed": 1}), None)


@pytest.mark.skipif("CRESCENT_DATA" not in os.environ, reason="CRESCENT_DATA names no folder with benchmark data")
def test_the_published_files_have_the_published_sizes() -> None:
    def counted(**settings: Any) -> tuple[int, int]:
        dev, test = both_splits(os.environ["CRESCENT_DATA"], **settings)
        assert not {half_key(item) for item in dev} & {half_key(item) for item in test}
        return len(dev), len(test)

    assert counted(source=Source.gsm8k) == (7473, 1319)
    assert sum(counted(source=Source.asdiv)) == 2091
    assert sum(counted(source=Source.svamp)) == 1000
    sizes = {family: sum(counted(source=Source.mawps, family=family)) for family in word_problems.LILA}
    assert sizes == {"addsub": 395, "multiarith": 580, "singleop": 531, "singleeq": 508}
    assert sum(counted(source=Source.arc_challenge)) == 1172
    # Of 1,531 and 14,042; 28 of the test set's stand in the validation set, too.
    assert counted(source=Source.mmlu) == (1500, 13933)
    assert counted(source=Source.mmlu, family="college_physics") == (5, 91)


@pytest.mark.skipif("CRESCENT_DATA" not in os.environ, reason="CRESCENT_DATA names no folder with benchmark data")
@pytest.mark.parametrize("source", [Source.arc_challenge, Source.mmlu])
def test_the_published_questions_are_questions_of_the_task(source: Source) -> None:
    task = MultipleChoice()
    dev, test = both_splits(os.environ["CRESCENT_DATA"], source=source)
    accepted = [task.accepts(item.question) for item in dev + test]
    assert sum(accepted) / len(accepted) > 0.999
    assert {item.target for item in dev + test} == set("ABCD")


ARC = {
    "query": "Question: Which is a metal?",
    "choices": ["wood", " iron\n", "glass"],
    "gold": 1,
}
METAL = "Which is a metal?\nA. wood\nB. iron\nC. glass"


def test_options_stand_one_a_line_and_the_reference_is_a_letter() -> None:
    hub = {"question": "Which is a metal?", "choices": {"text": ["wood", "iron", "glass"], "label": ["1", "2", "3"]}}
    assert arc_file_row(ARC) == arc_hub_row({**hub, "answerKey": "2"}) == (METAL, "B")
    assert mmlu_file_row(["Which is a metal?", "wood", "iron", "glass", "air", "D"]) == (METAL + "\nD. air", "D")
    assert mmlu_hub_row({"question": "Which is a metal?", "choices": ["wood", "iron", "glass"], "answer": 0})[1] == "A"


def test_a_question_with_two_right_letters_has_no_reference() -> None:
    assert arc_file_row({**ARC, "choices": ["iron", "iron", "glass"]})[1] is None
    assert arc_file_row({**ARC, "choices": ["glass", "iron", "glass"]})[1] == "B"


def write_mmlu(folder: Path, split: str, stems: dict[str, list[str]]) -> None:
    """One file a subject, as all 57 have to be there; subjects without stems are empty."""
    (folder / "mmlu" / split).mkdir(parents=True)
    for subject in SUBJECTS:
        lines = [f'"{stem}, say",yes,no,"a, b",never,C' for stem in stems.get(subject, [])]
        (folder / "mmlu" / split / f"{subject}_{split}.csv").write_text("\n".join(lines), "utf-8")


def test_mmlu_decides_on_val_and_reports_on_test_and_no_question_is_in_both(tmp_path: Path) -> None:
    write_mmlu(tmp_path, "val", {"anatomy": ["one", "two", "three"], "virology": ["four"]})
    write_mmlu(tmp_path, "test", {"anatomy": ["five"], "virology": ["six", "Two"]})
    dev, test = both_splits(tmp_path, source=Source.mmlu)
    assert [item.question.partition(",")[0] for item in dev] == ["one", "three", "four"]
    assert [item.question.partition(",")[0] for item in test] == ["five", "six", "Two"]
    assert (test[0].question, test[0].target) == ("five, say\nA. yes\nB. no\nC. a, b\nD. never", "C")
    dev, test = both_splits(tmp_path, source=Source.mmlu, family="anatomy")
    assert [item.question.partition(",")[0] for item in dev + test] == ["one", "three", "five"]


def test_an_unknown_subject_lists_close_names() -> None:
    with pytest.raises(BadConfig, match=r"b\.family=physics: .*did you mean .*college_physics"):
        load("b", BenchmarkConfig(source=Source.mmlu, family="physics"), None)


def test_arc_is_divided_into_two_that_share_nothing(tmp_path: Path) -> None:
    write_rows(tmp_path / multiple_choice.ARC_FILE, [{**ARC, "query": f"Question: Metal {n}?"} for n in range(40)])
    dev, test = both_splits(tmp_path, source=Source.arc_challenge)
    assert len(dev) + len(test) == 40
    assert dev
    assert test
    assert not {item.question for item in dev} & {item.question for item in test}


@pytest.mark.parametrize("text", ['{"prompt": "another"}', "<broken", '{"query": "q", "choices": [], "gold": 3}'])
def test_a_file_of_options_in_another_format_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "arc_challenge").mkdir()
    (tmp_path / multiple_choice.ARC_FILE).write_text(text)
    with pytest.raises(DataSaysNo, match=r"arc_challenge\.jsonl: not the format"):
        load("b", BenchmarkConfig(source=Source.arc_challenge), str(tmp_path))
    write_mmlu(tmp_path, "test", {})
    (tmp_path / "mmlu" / "test" / "virology_test.csv").write_text("stem,yes,no,maybe,never,E")
    with pytest.raises(DataSaysNo, match=r"virology_test\.csv: not the format"):
        load("b", BenchmarkConfig(source=Source.mmlu, split=Split.test), str(tmp_path))


def test_all_usable_items_are_those_chosen_and_those_not(folder: Path) -> None:
    config = BenchmarkConfig(items=5)
    chosen, every = load("b", config, str(folder)), usable("b", config, str(folder)).items
    assert len(every) == 20
    assert set(chosen) < set(every)


def half_key(item: Item) -> str:
    return "".join(item.question.split()).casefold()


def test_word_problem_rows_keep_unusable_ones_for_counting(folder: Path) -> None:
    found = rows("b", BenchmarkConfig(source=Source.asdiv), folder)
    assert len(found) == 21
    assert found[-1] == ("Who won? Say it.", None)
