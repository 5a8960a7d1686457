"""A supervised start before a study: from labelled problems that no benchmark asks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from crescent.records import Item, Pair, read_lines, write_lines
from crescent.run_folder.places import LABELLED
from crescent.tasks.computation import same_computation


def command(root: Path, *settings: str) -> "subprocess.CompletedProcess[str]":
    arguments = [sys.executable, "-P", "-m", "crescent.warm_start", f"run.root={root}", *settings]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.real
@pytest.mark.timeout(300)
def test_it_teaches_how_to_ask_and_to_answer_and_nothing_that_a_benchmark_asks(tiny: Path, tmp_path: Path) -> None:
    small = (f"model.path={tiny}", "labelled.items=40", "train.batch=4", "train.micro_batch=4", "train.max_steps=3")
    small += ("+start=quickstart", "run.name=warm-sums")
    ended = command(tmp_path, *small)
    assert ended.returncode == 0, ended.stderr
    folder = tmp_path / "warm-sums"
    assert f"model.path={folder / 'weights'}" in ended.stdout
    assert (folder / "weights" / "model.safetensors").exists()
    assert json.loads((folder / "metrics.json").read_text())["steps"] == 3
    template = (folder / "weights" / "chat_template.jinja").read_text()
    assert "system" in (tiny / "chat_template.jinja").read_text()
    assert "system" not in template
    assert "assistant" in template

    items = read_lines(folder / "labelled.jsonl", Item)
    pairs = read_lines(folder / "pairs.jsonl", Pair)
    answers = {pair.prompt: pair.completion for pair in pairs[::2]}
    assert answers == {item.question: item.target for item in items}
    asked = pairs[1::2]
    assert {pair.prompt for pair in asked} == {"Ask for the sum of two numbers."}
    assert [pair.completion for pair in asked] == [item.question for item in items]

    again = command(tmp_path, *small)
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stdout


@pytest.mark.timeout(120)
def test_problems_that_a_benchmark_asks_are_left_out_in_any_order(tmp_path: Path) -> None:
    from hydra import compose, initialize_config_module

    import crescent.doors.hydra_door  # noqa: F401 - registers the schema
    from crescent.warm_start import as_warm_start, labelled_items
    from eval.benchmarks import load

    with initialize_config_module("conf", version_base="1.3"):
        settings = [f"run.root={tmp_path}", "labelled.items=2000", "eval.benchmarks.sums_dev.items=300"]
        cfg = as_warm_start(compose("warm_start", overrides=settings))
    benchmarks = cfg.eval.benchmarks.items()
    asked = {same_computation(item.question) for name, one in benchmarks for item in load(name, one, None)}
    found = labelled_items(cfg)
    labelled = load("labelled", cfg.labelled, None)
    left_out = [item for item in labelled if item not in found]
    assert 1000 < len(found) < len(labelled) == 2000
    assert not asked & {same_computation(item.question) for item in found}
    assert all(same_computation(item.question) in asked for item in left_out)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("labelled.items=null", "items=None: a generator needs a number of items"),
        ("labelled.family=sums", "labelled.family"),
        ("model.path=/no/such/folder", "/no/such/folder"),
        ("labeled.items=3", "labeled"),
    ],
)
def test_a_start_that_cannot_be_made_says_why_at_once(tmp_path: Path, setting: str, message: str) -> None:
    ended = command(tmp_path, setting)
    assert ended.returncode in (2, 66, 69)
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.timeout(240)
def test_a_run_whose_benchmarks_ask_what_its_model_was_taught_is_refused(tmp_path: Path) -> None:
    weights, row = tmp_path / "taught" / "weights", {"ID": "1", "Body": "", "Equation": "", "Type": "Addition"}
    weights.mkdir(parents=True)
    (weights / "skill.json").write_text('{"skill": 0.5}')
    write_lines(weights.parent / LABELLED, [Item("7", "labelled", "What is 12 + 30?", "42")])
    (tmp_path / "svamp").mkdir()
    (tmp_path / "svamp" / "SVAMP.json").write_text(json.dumps([{**row, "Question": "Add 30 + 12.", "Answer": 42.0}]))
    run = [
        sys.executable,
        "-P",
        "-m",
        "crescent.loop",
        "+experiment=smoke",
        f"run.root={tmp_path}",
        f"eval.data={tmp_path}",
    ]
    run += [f"model.path={weights}", "~eval.benchmarks.sums_test", "eval.benchmarks.sums_dev.source=svamp"]
    run += ["eval.benchmarks.sums_dev.items=null"]
    ended = subprocess.run(run, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 2, ended.stderr
    assert "was taught the answers to benchmark items (1 of sums_dev; the first is " in ended.stderr
    assert "Traceback" not in ended.stderr
