"""The public functions: `from crescent import …`, the examples that use them, and what they refuse."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handmade_run import voted, wrote
from smoke_runs import run_smoke

import crescent
from crescent import (
    CrescentError,
    deduplicate,
    final_answer,
    judge,
    read_pairs,
    read_run,
    read_votes,
    same_answer,
    vote,
)

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


def python(*arguments: str, cwd: Path) -> str:
    """What a Python of its own prints, with the package found as this process finds it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=200
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_every_public_name_is_there_and_documented() -> None:
    assert sorted(crescent._HOMES) == sorted(set(crescent.__all__) - {"__version__"})
    for name in crescent._HOMES:
        assert getattr(crescent, name).__doc__, name
    assert dir(crescent) == sorted(crescent.__all__)
    misspelled = "votes"
    with pytest.raises(AttributeError, match=misspelled):
        getattr(crescent, misspelled)
    page = (ROOT / "docs" / "api.md").read_text()
    assert not [name for name in crescent._HOMES if f"::: {crescent._HOMES[name]}.{name}\n" not in page]


def test_importing_the_package_imports_nothing_else(tmp_path: Path) -> None:
    code = "import sys, crescent; print(sorted(name for name in sys.modules if 'numpy' in name or 'crescent.' in name))"
    assert python("-c", code, cwd=tmp_path) == "[]\n"


def test_formulas_are_compared_from_a_script_without_a_main_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from crescent import same_answer, vote\n"
        r"print(vote([r'\boxed{x(x+1)}', r'\boxed{x^2+x}', r'\boxed{x^2}']).classes)"
        "\nprint(same_answer('2*sin(x)*cos(x)', 'sin(2*x)'))\n"
    )
    assert python(str(script), cwd=tmp_path) == "(0, 0, 1)\nTrue\n"


def test_a_fork_compares_formulas_in_processes_of_its_own(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os\nfrom crescent import same_answer\n"
        "assert same_answer('x(x+1)', 'x^2+x')\n"
        "child = os.fork()\n"
        "if child == 0:\n    os._exit(0 if same_answer('y(y+1)', 'y^2+y') else 1)\n"
        "print(os.waitpid(child, 0)[1], same_answer('z(z+1)', 'z^2+z'))\n"
    )
    assert python("-W", "ignore", str(script), cwd=tmp_path) == "0 True\n"


def test_the_example_script_runs(tmp_path: Path) -> None:
    printed = python(str(EXAMPLES / "vote.py"), cwd=tmp_path).splitlines()
    assert printed == ["x^2 + x by 2 of 4, agreement 0.50", "classes: (0, 0, 1, -1)", "1/2 is 0.5: True"]


def test_a_vote_of_texts_is_the_vote_of_the_loop() -> None:
    decided = vote(["#### 4", "#### 5", "It is 4.", "no idea"], "What is 2 + 2?", style="number")
    expected = voted(wrote("What is 2 + 2?"), "4", "5", "4", None)
    assert (decided.winner, decided.votes, decided.of) == (expected.winner, expected.votes, expected.of)
    assert (decided.classes, decided.agreement) == (expected.classes, 0.5)
    assert vote(["#### 4", "#### 5"], style="number").winner is None


def test_final_answers_are_read_and_compared_as_their_style_says() -> None:
    assert final_answer("Adding gives 1,234 apples.", "number") == "1,234"
    assert same_answer("1,234", "1234", "number")
    assert final_answer("The answer is (B).", "choice") == "B"
    assert same_answer("the Seine", "Seine.", "text")
    assert not same_answer("x^2", "x^3")
    with pytest.raises(CrescentError, match=r"style='code'.*number, math, choice, text"):
        final_answer("4", "code")  # type: ignore[arg-type]


def test_a_near_duplicate_is_dropped_and_names_its_neighbour() -> None:
    pens, train = "Ann has 3 pens and buys 4 more. How many has she?", "A train leaves at noon. When does it arrive?"
    kept, dropped, other = deduplicate([pens, pens.upper(), train])
    assert (kept.action, dropped.action, other.action) == ("accept", "drop", "accept")
    assert dropped.neighbour is not None
    assert dropped.neighbour.text == pens
    assert [decision.action for decision in deduplicate([pens], earlier=[pens])] == ["drop"]
    assert deduplicate([]) == []


def test_an_embedder_of_ones_own_is_used_and_checked() -> None:
    def directions(texts: Any) -> Any:
        return np.array([[3.0, 0.0] if "a" in text else [0.0, 2.0] for text in texts])

    decisions = deduplicate(["a", "b", "ab"], threshold=0.9, embed=directions)
    assert [(decision.action, decision.similarity) for decision in decisions] == [
        ("accept", None),
        ("accept", 0.0),
        ("drop", 1.0),
    ]
    with pytest.raises(CrescentError, match=r"shape \(1, 2\)"):
        deduplicate(["a", "b"], embed=lambda texts: np.ones((1, 2)))
    with pytest.raises(CrescentError, match="zero or not finite"):
        deduplicate(["a"], embed=lambda texts: np.zeros((1, 2)))
    with pytest.raises(CrescentError, match="threshold=0"):
        deduplicate(["a"], threshold=0)


def test_a_child_is_judged_by_which_items_it_has_right() -> None:
    better = judge([True] * 70 + [False] * 30, [True] * 50 + [False] * 50)
    assert (better.action, better.gained, better.lost, better.items) == ("accept", 20, 0, 100)
    assert better.low < better.difference == 0.2 < better.high
    assert judge([True] * 51 + [False] * 49, [True] * 50 + [False] * 50).action == "retry"
    assert judge([True] * 51 + [False] * 49, [True] * 50 + [False] * 50, gate="better").action == "accept"
    assert judge([[True, False]] * 30, [[True, True]] * 30).action == "roll back"
    assert not better.alarms
    with pytest.raises(CrescentError, match="2 items of the child, 1 of the parent"):
        judge([True, False], [True])
    with pytest.raises(CrescentError, match="gate='off'"):
        judge([True], [True], gate="off")  # type: ignore[arg-type]


def test_a_finished_run_is_read_back(tmp_path: Path) -> None:
    run = run_smoke(tmp_path, "smoke", "run.rounds=1")
    summary = read_run(run)
    assert (summary.name, len(summary.rounds)) == ("smoke", 2)
    votes, pairs = read_votes(run, 1), read_pairs(str(run), 1)
    assert summary.rounds[1].questions == len(votes)
    assert summary.rounds[1].pairs == len(pairs)
    with pytest.raises(CrescentError, match="round-2/synthesis: not there; rounds here: \\[1\\]"):
        read_votes(run, 2)
    with pytest.raises(CrescentError, match="not a run folder"):
        read_run(tmp_path)


def test_the_notebook_runs_and_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells run in their order in one namespace, as in Jupyter; those tagged `varies` print what a run measured."""
    notebook = json.loads((EXAMPLES / "library.ipynb").read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    namespace: dict[str, Any] = {}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 5
    for cell in cells:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("".join(cell["source"]), "library.ipynb", "exec"), namespace)
        shown = "".join("".join(output["text"]) for output in cell["outputs"])
        if "varies" not in cell["metadata"].get("tags", []):
            assert printed.getvalue() == shown, "".join(cell["source"])
