"""Solved problems before an item: where they come from, how they look, and that no test item is among them."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from crescent.config import BenchmarkConfig, EvalConfig, Source, Split
from crescent.errors import BadConfig, Missing
from crescent.records import Item
from eval.benchmarks import half, read, usable
from eval.benchmarks.shots import Shot, choose_shots, few_shot_prompt
from eval.evaluate import ask

SMALL = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty handmade problems of each set."""
    for split in ("train", "test"):
        solved = "Half of it is 10/2 = <<10/2=5>>5.\nSo it is <<5*216=1080>>1,080.\n#### 1,080"
        rows = [{"question": f"{split} {n}: how many?", "answer": solved} for n in range(20)]
        write_rows(tmp_path / "gsm8k" / f"{split}.jsonl", rows)
    reworded = [
        {
            "question": f"Reworded {n}: how many?",
            "answer": "7",
            "solution": "#### 7",
            "perturbation_type": "distraction",
        }
        for n in range(20)
    ]
    write_rows(tmp_path / "gsm_plus" / "gsmplus_testmini.jsonl", reworded)
    formulas = [
        {"problem": f"What is ${n}x$?", "solution": "It is $\\boxed{x^2}$.", "answer": "x^2", "subject": "Algebra"}
        for n in range(20)
    ]
    write_rows(tmp_path / "math500" / "test.jsonl", formulas)
    owls = [{"input": f"Cy saw {n} owls. How many ?", "target": n + 0.0} for n in range(20)]
    write_rows(tmp_path / "mawps" / "singleop.jsonl", owls)
    options = [{"query": f"Question: Metal {n}?", "choices": ["wood", "iron"], "gold": 1} for n in range(20)]
    write_rows(tmp_path / "arc_challenge" / "arc_challenge.jsonl", options)
    return tmp_path


def shots_of(folder: Path | None, **settings: Any) -> tuple[tuple[Shot, ...], set[str]]:
    """The shots, and the questions that are asked."""
    found = read("b", BenchmarkConfig(**settings), str(folder) if folder else None)
    return found.shots, {item.question for item in found.items}


def test_shots_and_item_are_one_message_of_question_and_answer_blocks() -> None:
    shots = [Shot("a", "What is 1 + 1?", "1 + 1 = 2\n#### 2"), Shot("b", "Is {x} a brace?", "#### 1")]
    assert few_shot_prompt(shots, "What is {y} + 2?") == (
        "Question: What is 1 + 1?\nAnswer: 1 + 1 = 2\n#### 2\n\n"
        "Question: Is {x} a brace?\nAnswer: #### 1\n\n"
        "Question: What is {y} + 2?\nAnswer:"
    )


def test_gsm8k_shows_train_solutions_without_the_calculators_annotations(folder: Path) -> None:
    shots, _ = shots_of(folder, source=Source.gsm8k, split=Split.test, shots=5)
    assert len({shot.id for shot in shots}) == 5
    assert all(shot.question.startswith("train") for shot in shots)
    assert shots[0].answer == "Half of it is 10/2 = 5.\nSo it is 1,080.\n#### 1,080"


def test_gsm8k_dev_shows_train_problems_that_it_does_not_ask(folder: Path) -> None:
    shots, asked = shots_of(folder, source=Source.gsm8k, items=15, shots=5)
    assert len(asked) == 15
    assert not asked & {shot.question for shot in shots}
    assert len(asked | {shot.question for shot in shots}) == 20


@pytest.mark.parametrize(
    ("source", "family", "answers"),
    [
        (Source.mawps, "singleop", {f"#### {n}" for n in range(20)}),
        (Source.math500, None, {"It is $\\boxed{x^2}$.\n#### x^2"}),
        (Source.arc_challenge, None, {"#### B"}),
    ],
)
def test_a_set_divided_in_two_shows_dev_problems_only(
    folder: Path, source: Source, family: str | None, answers: set[str]
) -> None:
    for settings in ({"split": Split.test}, {"split": Split.dev, "items": 3}):
        shots, asked = shots_of(folder, source=source, family=family, shots=3, **settings)
        questions = {shot.question for shot in shots}
        assert len(questions) == 3
        assert {half(question) for question in questions} == {Split.dev}
        assert not asked & questions
        assert {shot.answer for shot in shots} <= answers


def test_gsm_plus_shows_gsm8k_train_and_none_of_its_own(folder: Path) -> None:
    shots, asked = shots_of(folder, source=Source.gsm_plus, split=Split.test, shots=4)
    assert all(shot.question.startswith("train") for shot in shots)
    assert len(asked) == 20
    (folder / "gsm8k" / "train.jsonl").unlink()
    with pytest.raises(Missing, match=r"gsm8k/train\.jsonl"):
        shots_of(folder, source=Source.gsm_plus, split=Split.test, shots=4)


@pytest.mark.parametrize("split", list(Split))
def test_generated_shots_come_from_another_seed_and_are_not_asked(split: Split) -> None:
    settings = {"source": Source.reasoning_gym, "family": "chain_sum", "items": 40, "options": SMALL, "split": split}
    shots, asked = shots_of(None, shots=5, **settings)
    questions = [shot.question for shot in shots]
    assert len(set(questions)) == 5
    assert not asked & set(questions)
    assert {half(question) for question in questions} == {Split.dev}
    without = read("b", BenchmarkConfig(**settings), None)
    assert asked == {item.question for item in without.items}, "shots change no item"
    assert without.shots == ()
    assert (shots, asked) == shots_of(None, shots=5, **settings)


def test_a_family_without_a_question_left_has_no_shots() -> None:
    digits = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
    config = BenchmarkConfig(Source.reasoning_gym, items=500, family="chain_sum", options=digits)
    with pytest.raises(BadConfig, match=r"only (\d+) unique") as caught:
        usable("b", config, None)
    every = int(str(caught.value).partition("has only ")[2].split()[0])
    with pytest.raises(BadConfig, match=rf"shots=5: only 0 dev problems are left .*set items={every - 5} or less"):
        shots_of(None, source=Source.reasoning_gym, items=every, family="chain_sum", options=digits, shots=5)
    shots, asked = shots_of(
        None, source=Source.reasoning_gym, items=every - 5, family="chain_sum", options=digits, shots=5
    )
    assert len(asked | {shot.question for shot in shots}) == every


def test_the_choice_is_seeded_the_same_for_every_number_of_items_and_more_begin_with_the_fewer(folder: Path) -> None:
    def chosen(**settings: Any) -> list[str]:
        shots, _ = shots_of(folder, source=Source.gsm8k, split=Split.test, **settings)
        return [shot.id for shot in shots]

    assert chosen(shots=5) == chosen(shots=5, items=3)
    assert chosen(shots=8)[:5] == chosen(shots=5)
    assert chosen(shots=5) != chosen(shots=5, seed=1)


def test_a_test_question_that_stands_in_train_too_is_no_shot(folder: Path) -> None:
    rows = [{"question": f"TRAIN {n}:  how many?", "answer": "#### 1"} for n in range(18)]
    write_rows(folder / "gsm8k" / "test.jsonl", rows)
    shots, _ = shots_of(folder, source=Source.gsm8k, split=Split.test, items=1, shots=2)
    assert {shot.question for shot in shots} == {"train 18: how many?", "train 19: how many?"}
    with pytest.raises(BadConfig, match=r"eval\.benchmarks\.b\.shots=3: only 2 dev problems are left.*set shots=2"):
        shots_of(folder, source=Source.gsm8k, split=Split.test, items=1, shots=3)


def test_no_problem_left_names_both_ways_out(folder: Path) -> None:
    with pytest.raises(BadConfig, match=r"shots=5: only 0 dev problems .*set items=15 or less, or set shots=0"):
        shots_of(folder, source=Source.gsm8k, shots=5)
    with pytest.raises(BadConfig, match="only 1 dev problems"):
        choose_shots("b", BenchmarkConfig(shots=2), [Item("a", "b", "q", "1")], [], {})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shots": -1}, r"shots=-1: must not be negative"),
        ({"shots": 5, "prompt": "{question}!"}, r"shots=5: shots already show how to answer.*leave out .*prompt"),
        ({"shots": 5, "source": Source.mbpp}, r"shots=5: the reference of a program is its tests"),
        ({"source": Source.gsm_plus}, r"split=dev: GSM-Plus rewords GSM8K's test questions.*set split=test"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        BenchmarkConfig(**settings)


def test_without_shots_a_request_is_what_it_always_was() -> None:
    config = EvalConfig(benchmarks={"b": BenchmarkConfig()})
    request = ask(Item("id", "b", "What is 1 + 1?", "2"), config, "{question} Say it.", seed=7)
    assert (request.key, request.prompt, request.stop) == ("eval/b/id", "What is 1 + 1? Say it.", ())


def test_the_five_shot_benchmarks_are_the_zero_shot_ones_after_five_shots() -> None:
    def configured(name: str) -> EvalConfig:
        read_from = OmegaConf.load(Path(__file__).parents[2] / "conf" / "eval" / f"{name}.yaml")
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(EvalConfig), read_from))
        assert isinstance(config, EvalConfig)
        return config

    plain, shown = configured("maths").benchmarks, configured("maths_5shot").benchmarks
    assert {f"{name}_5shot": replace(benchmark, shots=5) for name, benchmark in plain.items()} == shown
    assert [name for name, benchmark in plain.items() if benchmark.split is Split.dev] == ["gsm8k_dev"]


@pytest.mark.skipif("CRESCENT_DATA" not in os.environ, reason="CRESCENT_DATA names no folder with benchmark data")
@pytest.mark.parametrize(
    ("source", "family"),
    [
        (Source.gsm8k, None),
        (Source.gsm_plus, None),
        (Source.asdiv, None),
        (Source.svamp, None),
        (Source.math500, None),
        (Source.mawps, "multiarith"),
        (Source.mmlu, None),
        (Source.arc_challenge, None),
    ],
)
def test_no_published_test_question_is_shown(source: Source, family: str | None) -> None:
    data = Path(os.environ["CRESCENT_DATA"])
    shots, asked = shots_of(data, source=source, family=family, split=Split.test, shots=20)
    assert len(shots) == 20
    assert not asked & {shot.question for shot in shots}
    assert not any("<<" in shot.answer for shot in shots)
    assert all("#### " in shot.answer for shot in shots)
