"""Programs as answers: how they are found, run on the model's own inputs, voted on, and tested by a benchmark."""

import ctypes
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import answers, cut, question, stop

from crescent.config import AnswerStyle, BenchmarkConfig, ConsensusConfig, Source, Split, TaskConfig
from crescent.errors import DataSaysNo, Missing
from crescent.records import Completion
from crescent.synthesis.consensus import vote
from crescent.tasks import open_task
from crescent.tasks.code import LONGEST_INPUT, CodeTask, find_program, inputs_request, read_inputs
from eval.benchmarks.code_problems import mbpp_row, rows

PR_GET_SECCOMP = 21
HAS_SECCOMP = sys.platform == "linux" and ctypes.CDLL(None).prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0
needs_seccomp = pytest.mark.skipif(not HAS_SECCOMP, reason="this kernel has no seccomp: no program is run here")

CFG = TaskConfig(
    name="code",
    answer_style=AnswerStyle.code,
    inputs_prompt="Inputs for: {question}",
    program_timeout_s=1.0,
    program_memory_mib=256,
)
INPUTS = ("([3, 1, 2],)", "([],)", "([5, 5],)")


@pytest.fixture(scope="module")
def task() -> Iterator[CodeTask]:
    with open_task(CFG, grading_timeout_s=1.0) as opened:
        assert isinstance(opened, CodeTask)
        yield opened


def fenced(program: str, language: str = "python") -> str:
    return f"Here it is.\n\n```{language}\n{program}\n```\nIt works."


LARGEST = [
    "def solve(nums):\n    return max(nums) if nums else None",
    "def solve(a):\n  best = None\n  for x in a:\n    best = x if best is None else max(x, best)\n  return best",
    "def solve(nums):\n    return (sorted(nums) or [None])[-1]",
    "from functools import reduce\ndef solve(xs):\n    return reduce(lambda a, b: max(a, b), xs) if xs else None",
]
SMALLEST = "def solve(nums):\n    return min(nums) if nums else None"
PRINTS = "def solve(nums):\n    print(max(nums, default=None))"


@needs_seccomp
def test_programs_written_differently_agree_and_a_wrong_one_dissents(task: CodeTask) -> None:
    texts = [*map(fenced, [LARGEST[0], SMALLEST, *LARGEST[1:], PRINTS]), "I would sort the list."]
    finals = [task.read(text, INPUTS) for text in texts]
    classes = task.classes(finals)
    assert classes == (0, 1, 0, 0, 0, -1, -1)
    decided = vote(question("largest?"), answers(question("largest?"), *finals), classes, inputs=INPUTS)
    assert (decided.winner, decided.votes, decided.of) == ('["3", "None", "5"]', 4, 7)


@needs_seccomp
@pytest.mark.parametrize(
    "program",
    [
        "def solve(nums): raise ValueError(nums)",
        "def solve(): return 1",
        "def solve(nums): print(nums)",
        "def solve(nums):\n    while True: pass",
        "def solve(nums): return 'a' * 10**12",
        "import socket\ndef solve(nums): return 1",
        "def solve(nums) return 1",
        "x = 1",
        "",
    ],
)
def test_a_program_that_returns_nothing_is_silent(task: CodeTask, program: str) -> None:
    assert task.read(fenced(program), INPUTS) is None


@needs_seccomp
def test_a_program_that_fails_on_some_inputs_has_an_answer(task: CodeTask) -> None:
    assert task.read(fenced("def solve(nums): return nums[0]"), INPUTS) == '["3", "!IndexError", "5"]'


@needs_seccomp
def test_only_programs_stopped_by_their_limits_are_undecided() -> None:
    with CodeTask(CFG) as fresh:
        fresh.read(fenced("def solve(nums): return 'a' * 10**12"), INPUTS)
        fresh.read(fenced("def solve(nums): return 1 / 0"), INPUTS)
        fresh.read(fenced("no program"), INPUTS)
        assert fresh.undecided == 1
        assert not fresh.correct("def f():\n    while True: pass", "f()")
        assert fresh.undecided == 2


@needs_seccomp
def test_without_inputs_the_answer_is_the_program_itself(task: CodeTask) -> None:
    assert task.read(fenced("def f(x): return x")) == "def f(x): return x\n"
    assert task.read(fenced("def f(x) return x")) is None
    assert task.read(fenced("def f(): return " + "(" * 300)) is None
    assert task.read(fenced("x = " + "-" * 40_000 + "1\ndef f(): pass")) is None
    assert task.read_cut(fenced("def f(x): return x")) is None


def test_questions_need_words() -> None:
    task = CodeTask(CFG)
    assert task.accepts("Reverse a list.")
    assert not task.accepts(" \n")


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("```python\ndef f(): pass\n```", "def f(): pass\n"),
        ("```py\ndef f(): pass\n```\nNow use it:\n```python\nprint(f())\n```", "def f(): pass\n"),
        ("First:\n```\ndef f(): pass\n```\nBetter:\n```Python\ndef g(): pass\n```", "def g(): pass\n"),
        ("```python\ndef f(): pass\n```\n```bash\ndef g(): pass\n```", "def f(): pass\n"),
        ("1. So:\n   ```python\n   def f():\n       pass\n   ```\n", "def f():\n    pass\n"),
        ("```python\ndef f(): pass", "def f(): pass"),
        ("def f():\n    return 1\n", "def f():\n    return 1\n"),
        ("```python\nprint(1)\n```", None),
        ("We define a function that adds.", None),
        ("", None),
    ],
)
def test_the_last_block_with_a_function_is_the_program(text: str, program: str | None) -> None:
    assert find_program(text) == program


@pytest.mark.parametrize(
    "hostile", ["`" * 200_000, "```\n" * 50_000, " " * 200_000 + "```", "```" + " " * 200_000, "def " * 50_000]
)
def test_hostile_responses_are_read_in_linear_time(hostile: str) -> None:
    find_program(hostile)
    read_inputs(stop(hostile), 8)


@pytest.mark.parametrize(
    ("text", "inputs"),
    [
        ("solve([1,2], 3)\nsolve([], 0)\nsolve([1, 2],3)", ("([1, 2], 3)", "([], 0)")),
        ("So:\n\n1. `solve('a b')` -> 3\n2. `solve(\"it's\")`\n- solve(-1)  # x", ("('a b',)", '("it\'s",)', "(-1,)")),
        ("```python\nprint(solve(1))\nassert sorted(solve([2, 1])) == [1, 2]\n```", ("(1,)", "([2, 1],)")),
        ("```python\n# Example\n>>> solve(1)\n6\n```", ("(1,)",)),
        ("[([1, 2], 3), ([4], 5)]", ("([1, 2], 3)", "([4], 5)")),
        ("```\n[\n  (1, 'x'),\n  (2, 'y'),\n]\n```", ("(1, 'x')", "(2, 'y')")),
        ("inputs = [(1,), (2,)]", ("(1,)", "(2,)")),
        ("1. ([1, 2], 3)\n2. ([4], 5)", ("([1, 2], 3)", "([4], 5)")),
        ("Input: [1, 2]\nInput 2: [3]", ("([1, 2],)", "([3],)")),
        ("solve(3) -> 6\n6\nsolve(4) => 8", ("(3,)", "(4,)")),
        ("solve({'b': 1, 'a': {2, 1}}, None, True)", ("({'b': 1, 'a': {2, 1}}, None, True)",)),
    ],
)  # fmt: skip
def test_inputs_are_read_from_what_models_write(text: str, inputs: tuple[str, ...]) -> None:
    assert read_inputs(stop(text), 8) == inputs


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot do that.",
        "solve(x)",
        "solve(__import__('os').getpid())",
        "solve(9**9**9)",
        "solve([i for i in range(10)])",
        "solve(nums=[1])",
        "solve()",
        "solve({[]: 1})",
        "def solve(n):\n    return helper(1)",
        "nums = [1], k = 3",
        f"solve('{'a' * LONGEST_INPUT}')",
        "solve(" + "[" * 30 + "]" * 30 + ")",
        "solve('\0')",
        "-" * 1_999 + "1",
        "1+" * 999 + "1",
        "a." * 999 + "a",
        "not " * 499 + "1",
        "```\n" + "~" * 3_999 + "1\n```",
        "(" * 100_000,
    ],
)
def test_a_text_without_inputs_has_none(text: str) -> None:
    assert read_inputs(stop(text), 8) == ()


def test_inputs_end_where_the_completion_was_cut_and_at_the_limit() -> None:
    assert read_inputs(cut("solve(1)\nsolve(2)\nsolve(3"), 8) == ("(1,)", "(2,)")
    assert read_inputs(cut("solve(1)\nsolve(23)"), 8) == ("(1,)",)
    assert read_inputs(stop("\n".join(f"solve({n})" for n in range(20))), 3) == ("(0,)", "(1,)", "(2,)")
    assert read_inputs(Completion("solve(1)", "error", 0), 8) == ()


def test_the_request_for_inputs_is_seeded_by_its_question() -> None:
    asked, other = question("Sum {a} list."), question("Sum.", index=1)
    request = inputs_request(asked, CFG, ConsensusConfig(), run_seed=1)
    assert (request.key, request.prompt) == (f"inputs/{asked.id}", "Inputs for: Sum {a} list.")
    assert request == inputs_request(asked, CFG, ConsensusConfig(), run_seed=1)
    seeds = {
        request.seed,
        inputs_request(other, CFG, ConsensusConfig(), 1).seed,
        inputs_request(asked, CFG, ConsensusConfig(), 2).seed,
    }
    assert len(seeds) == 3


def mbpp(**changes: Any) -> dict[str, Any]:
    """A hand-written row in MBPP's format."""
    row = {
        "text": "Write a function to double a number.",
        "code": "def helper(x):\r\n  return x\r\ndef double(x):\r\n  return helper(x) * 2",
        "task_id": 1,
        "test_setup_code": "",
        "test_list": ["assert double(2) == 4", "assert double(0) == 0", "assert set([double(1)]) == {2}"],
        "challenge_test_list": [],
    }
    return row | changes


def test_an_mbpp_question_names_the_function_and_shows_one_test_only() -> None:
    asked, target = mbpp_row(mbpp(test_setup_code="import math"))
    assert asked.startswith("Write a function to double a number.\n")
    assert "`double`" in asked
    assert "assert double(2) == 4" in asked
    assert "double(0)" not in asked
    assert target == "import math\nassert double(2) == 4\nassert double(0) == 0\nassert set([double(1)]) == {2}"


def test_an_mbpp_row_without_a_function_its_tests_call_is_unusable() -> None:
    assert mbpp_row(mbpp(code="double = lambda x: 2 * x"))[1] is None
    assert mbpp_row(mbpp(test_list=[]))[1] is None


@needs_seccomp
@pytest.mark.parametrize(
    ("program", "right"),
    [
        ("def double(x): return x + x", True),
        ("def double(x): return x + 2", False),
        ("def twice(x): return 2 * x", False),
        ("def double(x): raise SystemExit(0)", False),
        ("import sys\nsys.exit(0)\ndef double(x): return 2 * x", False),
        ("exit()\ndef double(x): return 2 * x", False),
    ],
)
def test_an_mbpp_answer_is_correct_when_it_passes_all_tests(task: CodeTask, program: str, right: bool) -> None:
    _, target = mbpp_row(mbpp())
    final = task.read(fenced(program))
    assert final is not None
    assert target is not None
    assert task.correct(final, target) is right


def test_mbpp_is_read_from_the_data_folder(tmp_path: Path) -> None:
    file = tmp_path / "mbpp" / "mbpp.jsonl"
    file.parent.mkdir()
    file.write_text("".join(json.dumps(mbpp(text=f"Double, {n}.")) + "\n" for n in range(3)) + "\n")
    found = rows("mbpp", BenchmarkConfig(source=Source.mbpp, split=Split.dev), tmp_path)
    assert [asked.split("\n")[0] for asked, _ in found] == ["Double, 0.", "Double, 1.", "Double, 2."]
    file.write_text('{"prompt": "another format"}\n')
    with pytest.raises(DataSaysNo, match=r"mbpp.jsonl: not the format"):
        rows("mbpp", BenchmarkConfig(source=Source.mbpp), tmp_path)
    file.write_text("not json\n")
    with pytest.raises(DataSaysNo, match="copy it again"):
        rows("mbpp", BenchmarkConfig(source=Source.mbpp), tmp_path)


def test_a_missing_mbpp_says_where_to_put_it(tmp_path: Path) -> None:
    def unreachable(_: object) -> list[Any]:
        raise ConnectionError("no network")

    with pytest.raises(
        Missing, match=r"mbpp/mbpp\.jsonl.*hf download --repo-type dataset google-research-datasets/mbpp"
    ):
        rows("mbpp", BenchmarkConfig(source=Source.mbpp), tmp_path, unreachable)
