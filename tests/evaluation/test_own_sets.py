"""Benchmarks that people bring: a JSONL file or a data set, described by its fields."""

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crescent.config import AnswerStyle, BenchmarkConfig, EvalConfig, EvalJob, Source, Split, TaskConfig, check_sources
from crescent.errors import BadConfig, CrescentError, DataSaysNo, Missing
from crescent.records import Completion
from eval.benchmarks import load, read
from eval.evaluate import list_items
from eval.reading import open_readers

ROWS = [{"question": f"How much is {n} and {n}?", "answer": 2 * n} for n in range(20)]


def jsonl(folder: Path, rows: list[Any], name: str = "mine.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def mine(file: Path | str, **settings: Any) -> BenchmarkConfig:
    return BenchmarkConfig(**{"source": Source.jsonl, "style": AnswerStyle.number, "path": str(file), **settings})


def targets(path: Path | str, **settings: Any) -> list[str]:
    return [item.target for item in load("mine", mine(path, **settings), None)]


def test_a_file_is_used_whole_unless_it_is_divided(tmp_path: Path) -> None:
    path = jsonl(tmp_path, ROWS)
    assert targets(path) == [str(2 * n) for n in range(20)]
    dev, test = (load("mine", mine(path, divide=True, split=split), None) for split in Split)
    assert len(dev) + len(test) == 20
    assert dev
    assert test
    assert not {item.id for item in dev} & {item.id for item in test}
    assert len(targets(path, items=5)) == 5


def rewrite(path: Path, how: Callable[[bytes], bytes]) -> Path:
    path.write_bytes(how(path.read_bytes()))
    return path


def test_byte_order_marks_gzip_and_a_json_list_are_read_alike(tmp_path: Path) -> None:
    plain = targets(jsonl(tmp_path, ROWS))
    marked = rewrite(jsonl(tmp_path, ROWS, "a.jsonl"), lambda content: b"\xef\xbb\xbf" + content)
    packed = rewrite(jsonl(tmp_path, ROWS, "b.jsonl.gz"), gzip.compress)
    wide = rewrite(jsonl(tmp_path, ROWS, "c.jsonl"), lambda content: content.decode().encode("utf-16"))
    listed = rewrite(jsonl(tmp_path, ROWS, "d.json"), lambda _: json.dumps(ROWS).encode())
    assert targets(marked) == targets(packed) == targets(wide) == targets(listed) == plain


def test_a_path_may_be_below_the_data_folder(tmp_path: Path) -> None:
    jsonl(tmp_path, ROWS)
    assert len(load("mine", mine("mine.jsonl"), str(tmp_path))) == 20


@pytest.mark.parametrize(
    ("style", "answer", "target"),
    [
        ("number", "So it is 12.\n#### 1,200", "1200"),
        ("number", 3.0, "3"),
        ("number", ["7"], "7"),
        ("number", r"\boxed{12}", "12"),
        ("math", r"We get \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        ("math", "$x^2$", "x^2"),
        ("choice", "(b)", "B"),
        ("choice", "C.", "C"),
        ("text", "  The Seine ", "The Seine"),
    ],
)
def test_reference_answers_are_read_as_people_write_them(
    tmp_path: Path, style: str, answer: object, target: str
) -> None:
    path = jsonl(tmp_path, [{"question": "Which?\nA. one\nB. two\nC. three", "answer": answer}])
    assert targets(path, style=AnswerStyle[style]) == [target]


@pytest.mark.parametrize(
    ("answer", "choices"),
    [
        (1, ["wood", "iron", "glass"]),
        ("1", ["wood", "iron", "glass"]),
        ("iron", ["wood", "iron", "glass"]),
        ("b", ["wood", "iron", "glass"]),
        ("2", {"text": ["wood", "iron", "glass"], "label": ["1", "2", "3"]}),
        (1, ["3", "1", "4"]),
        ("1", ["3", "1", "4"]),
    ],
)
def test_options_of_a_field_of_their_own_get_letters(tmp_path: Path, answer: object, choices: object) -> None:
    path = jsonl(tmp_path, [{"q": {"stem": "Which?"}, "gold": answer, "options": choices}])
    settings = {"style": AnswerStyle.choice, "choices": "options", "question": "q.stem", "answer": "gold"}
    (item,) = load("mine", mine(path, **settings), None)
    assert item.target == "B"
    assert item.question.startswith("Which?\nA. ")


def test_rows_that_cannot_be_compared_are_left_out_and_counted(tmp_path: Path) -> None:
    more = [{"question": "Who?", "answer": "Ann"}, {"question": "What?"}, {"question": "", "answer": 3}, ROWS[0]]
    found = read("mine", mine(jsonl(tmp_path, [*ROWS, *more])), None)
    assert (len(found.items), found.unusable, found.duplicates) == (20, 3, 1)


@pytest.mark.parametrize(
    ("content", "settings", "kind", "says"),
    [
        (None, {}, Missing, r"eval\.benchmarks\.mine\.path=.*mine\.jsonl: no such file in .*; give the file"),
        ("", {}, DataSaysNo, r"mine\.jsonl: has no rows; write one JSON object a line"),
        ("\n \n", {}, DataSaysNo, "has no rows"),
        ('{"question": "a", "answer": 1}\n{"question', {}, DataSaysNo, r"mine\.jsonl: line 2: not JSON"),
        ("[1, 2]", {}, DataSaysNo, r"mine\.jsonl: entry 1: is no JSON object"),
        ("[1, 2", {}, DataSaysNo, "begins like a JSON list and is none"),
        ('"text"\n', {}, DataSaysNo, r"line 1: is no JSON object"),
        ('{"q": "a", "a": 1}\n', {}, DataSaysNo, r"line 1: has no field 'question' \(its fields: q, a\); set .*mine"),
        ('{"question": "a", "a": 1}\n', {}, DataSaysNo, r"has no field 'answer'.*set eval\.benchmarks\.mine\.answer"),
        (
            '{"question": "a", "answer": "Ann"}\n',
            {},
            DataSaysNo,
            r"line 1: field answer is 'Ann', which is no number; .*style to how the answer is written \(now number\)",
        ),
        ('{"question": "a", "answer": [1, 2]}\n', {}, DataSaysNo, r"\[1, 2\], which is no single answer"),
        ('{"question": [1], "answer": 1}\n', {}, DataSaysNo, r"line 1: field question is \[1\], which is no question"),
        (
            '{"question": " ", "answer": 1}\n',
            {},
            DataSaysNo,
            r"is no question; .*set eval.benchmarks.mine.question and",
        ),
        ("[" * 100_000, {}, DataSaysNo, "begins like a JSON list and is none"),
        (
            '{"question": "a", "answer": "E", "o": ["x", "y"]}\n',
            {"style": AnswerStyle.choice, "choices": "o"},
            DataSaysNo,
            "'E', which is none of its 2 options",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line_with_the_fix(
    tmp_path: Path, content: str | None, settings: dict[str, Any], kind: type[CrescentError], says: str
) -> None:
    path = tmp_path / "mine.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(kind, match=says) as caught:
        load("mine", mine(path, **settings), None)
    assert "\n" not in str(caught.value)


def test_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(b'{"question": "a", "answer": 1}\n{"question": "\xe9", "answer": 1}\n')
    with pytest.raises(BadConfig, match=r"mine\.jsonl: line 2 is not utf-8.*iconv"):
        targets(path)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"path": None}, r"path=None: source=jsonl needs a file"),
        ({"style": None}, r"style=None: .*set style=number, math, choice or text"),
        ({"style": AnswerStyle.code}, "style=code"),
        ({"source": Source.gsm8k}, "source=gsm8k has a format and a place of its own"),
        ({"config": "main"}, "only a data set on the hub has one"),
        ({"choices": "options"}, "set style=choice"),
        ({"style": AnswerStyle.text, "likelihood": 3}, "set likelihood=0"),
        ({"answer": " "}, "must name a field"),
    ],
)
def test_settings_that_can_never_work_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(BadConfig, match=says):
        mine("a.jsonl", **settings)


def test_one_file_does_not_decide_and_test_at_once() -> None:
    benchmarks = {"dev": mine("a.jsonl"), "test": mine("a.jsonl", split=Split.test)}
    with pytest.raises(BadConfig, match=r"benchmarks\.test\.path=a\.jsonl: is also the path of dev.*divide=true"):
        EvalConfig(benchmarks)
    half = {name: replace(benchmark, divide=True) for name, benchmark in benchmarks.items()}
    EvalConfig(half)
    with pytest.raises(BadConfig, match="divide=true"):
        EvalConfig({**half, "test": benchmarks["test"]})


def test_two_files_that_share_questions_do_not_decide_and_test(tmp_path: Path) -> None:
    benchmarks = {
        "dev": mine(jsonl(tmp_path, ROWS, "a.jsonl")),
        "test": mine(
            jsonl(tmp_path, [{"question": "how much is 3 and  3?", "answer": 6}], "b.jsonl"), split=Split.test
        ),
    }
    job = EvalJob(EvalConfig(benchmarks), TaskConfig(), urls=[], model="m", output="out")
    with pytest.raises(DataSaysNo, match=r"dev \(dev\) and .*test \(test\): 1 questions are in both, e\.g\. 'how much"):
        list_items(job)
    guard = replace(benchmarks["test"], split=Split.dev, guard=True)
    list_items(replace(job, eval=EvalConfig({**benchmarks, "test": guard})))


def test_the_prompt_must_ask_for_the_kind_of_answer_that_the_set_has() -> None:
    text = mine("a.jsonl", style=AnswerStyle.text)
    with pytest.raises(BadConfig, match=r"mine\.style=text: .*set eval\.benchmarks\.mine\.prompt to ask for it"):
        check_sources(EvalConfig({"mine": text}), TaskConfig())
    check_sources(EvalConfig({"mine": replace(text, prompt="{question} Answer briefly.")}), TaskConfig())
    check_sources(EvalConfig({"mine": text}), TaskConfig(answer_style=AnswerStyle.text))


def test_a_text_is_right_by_its_normalised_form_and_strictly_right_letter_by_letter() -> None:
    benchmarks = {"mine": mine("a.jsonl", style=AnswerStyle.text)}
    with open_readers(benchmarks, TaskConfig(), 1.0) as readers:
        read = readers["mine"].read
        near, exact = (
            read(Completion(text, "stop", 1), "Eiffel Tower") for text in ("The eiffel tower.", "#### Eiffel Tower")
        )
        wrong = read(Completion("Notre-Dame", "stop", 1), "Eiffel Tower")
    assert (near.correct, near.strict, near.flexible) == (True, False, None)
    assert (exact.correct, exact.strict) == (True, True)
    assert (wrong.final, wrong.correct, wrong.strict) == ("Notre-Dame", False, False)


def test_a_data_set_is_read_from_a_folder_a_file_or_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"question": f"How much is {n} and 1?", "answer": str(n + 1)} for n in range(6)]
    table = datasets.Dataset.from_list(rows)
    datasets.DatasetDict({"train": table.select(range(4)), "test": table.select(range(4, 6))}).save_to_disk(
        tmp_path / "all"
    )
    table.save_to_disk(tmp_path / "single")
    table.to_parquet(tmp_path / "rows.parquet")

    def hub(path: Path | str, **settings: Any) -> list[str]:
        return targets(path, source=Source.hub, **settings)

    assert hub(tmp_path / "all") == ["5", "6"]
    assert hub(tmp_path / "all", hub_split="train") == ["1", "2", "3", "4"]
    assert hub(tmp_path / "single") == hub(tmp_path / "rows.parquet") == ["1", "2", "3", "4", "5", "6"]
    with pytest.raises(Missing, match=r"mine\.path=.*all cannot be loaded .*hub_split=validation"):
        hub(tmp_path / "all", hub_split="validation")
    with pytest.raises(DataSaysNo, match=r"row 0: has no field 'problem' \(its fields: question, answer\)"):
        hub(tmp_path / "single", question="problem")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(Missing, match=r"mine\.path=org/absent: the hub does not give it .*source=jsonl"):
        hub("org/absent", config="main")
