"""The commands of the pages that need neither an engine nor a login, run as a reader would type them.

The files that a page names lie in the reader's folder. Runs on the fakes are made smaller than the page makes them.
"""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest
from test_doc_commands import BLOCK, ROOT, commands

from crescent.commands import COMMANDS
from crescent.records import Candidate, Item, Pair, read_lines

OWN, START = ROOT / "docs" / "own.md", ROOT / "docs" / "index.md"
YAML = re.compile(r"^```yaml\n# (my-conf/\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SMALL = ("bait.questions=12", "tracking.console=quiet")
SHORT = (*SMALL, "run.rounds=1", "eval.benchmarks.sums_dev.items=12", "eval.benchmarks.sums_test.items=12")


def typed(words: Sequence[str], folder: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    """Run what a page shows, in a folder."""
    shown = {"crescent": [sys.executable, "-P", "-m", "crescent"], "python": [sys.executable, "-P"]}
    command = [*shown[words[0]], *words[1:], *more]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
        env=offline,
        stdin=subprocess.DEVNULL,
    )


def named(words: Sequence[str]) -> str:
    """The run that a command makes."""
    return next(word.removeprefix("run.name=") for word in words if word.startswith("run.name="))


ON_FAKES = {named(words): words for words in commands(OWN) if "+experiment=smoke" in words}
BENCHMARKS = {"mine": {"mine"}, "three-sets": {"mine", "final", "facts"}}
OF_THE_EXPERIMENT = {"addition", "subtraction", "multiplication"}
BAITS = {
    "topics": {"mine/trains", "mine/apples"},
    "besides": {*OF_THE_EXPERIMENT, "mine"},
    "all-but-one": OF_THE_EXPERIMENT - {"addition"},
    "only-mine": {"mine"},
    "seeds": {"rewrite/seed-1", "evolve/seed-1", "rewrite/seed-2", "evolve/seed-2"},
    "harder": {"harder/seed-1", "harder/seed-2", "harder/seed-3"},
}
"""Bait prompts of the questions that each run of the page asks for."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that `docs/own.md` names, where its commands look for them."""
    place = tmp_path_factory.mktemp("reader")
    sums = {
        "dev": [{"question": f"What is {n} + 7?", "answer": f"{n} + 7 = {n + 7}\n#### {n + 7}"} for n in range(20)],
        "test": [{"question": f"What is {n} + 7?", "answer": n + 7} for n in range(50, 62)],
        "facts": [{"question": f"Who is number {n}?", "answer": "nobody"} for n in range(4)],
        "questions": [{"question": f"What is {n} + 9?"} for n in (1, 2)],
    }
    for name, rows in sums.items():
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with gzip.open(place / "q.jsonl.gz", "wt") as file:
        file.write("".join(json.dumps({"text": f"What is {n} + 5?"}) + "\n" for n in (1, 2, 3)))
    for name, text in YAML.findall(OWN.read_text()):
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return place


@pytest.fixture(scope="module")
def mine(folder: Path) -> Path:
    """Two rounds of the first command of `docs/own.md` that runs."""
    ended = typed(ON_FAKES["mine"], folder, *SMALL)
    assert ended.returncode == 0, ended.stderr
    return folder / "runs" / "mine"


@pytest.fixture(scope="module")
def topics(folder: Path) -> Path:
    """A run of which the others with other bait prompts take over what the base answered."""
    ended = typed(ON_FAKES["topics"], folder, *SHORT)
    assert ended.returncode == 0, ended.stderr
    return folder / "runs" / "topics"


def test_each_run_of_the_page_has_a_name_of_its_own_and_is_run_here() -> None:
    on_page = [words for words in commands(OWN) if "+experiment=smoke" in words]
    assert len(on_page) == len(ON_FAKES)
    assert ON_FAKES.keys() == {*BENCHMARKS, *BAITS}


def benchmarks_of(run: Path) -> set[str]:
    return {item.benchmark for item in read_lines(run / "base/benchmarks/items.jsonl", Item)}


def test_a_benchmark_of_one_s_own_is_asked(mine: Path) -> None:
    assert benchmarks_of(mine) == BENCHMARKS["mine"]


def test_three_sets_of_one_s_own_decide_are_reported_and_guard(folder: Path) -> None:
    ended = typed(ON_FAKES["three-sets"], folder, *SMALL, "run.rounds=1")
    assert ended.returncode == 0, ended.stderr
    assert benchmarks_of(folder / "runs/three-sets") == BENCHMARKS["three-sets"]
    assert "guards held" in ended.stdout
    assert "Only reported: final" in ended.stdout


def baits_of(run: Path) -> Collection[str]:
    return {found.question.bait for found in read_lines(run / "round-1/synthesis/candidates.jsonl", Candidate)}


def test_bait_prompts_and_topics_of_one_s_own_are_asked(topics: Path) -> None:
    assert baits_of(topics) == BAITS["topics"]


@pytest.mark.parametrize("name", [name for name in BAITS if name != "topics"])
def test_the_bait_prompts_are_those_that_the_page_says(name: str, topics: Path) -> None:
    place = topics.parent.parent
    ended = typed(ON_FAKES[name], place, *SHORT, "run.reuse=[runs/topics]")
    assert ended.returncode == 0, ended.stderr
    assert baits_of(place / "runs" / name) == BAITS[name]


@pytest.mark.parametrize(
    "words", [words for words in commands(OWN) if words and words[-1] == "mode=plan"], ids=" ".join
)
def test_a_model_of_one_s_own_is_planned_under_its_name(words: list[str], folder: Path) -> None:
    ended = typed(words, folder)
    assert ended.returncode == 0, ended.stderr
    model = next(word for word in words if word.startswith("model.path=")).rpartition("/")[2]
    assert f"runs/{model.lower()}-qwen7b (new)" in ended.stdout


def test_a_yaml_of_one_s_own_is_planned_as_the_page_says(folder: Path) -> None:
    (command,) = re.findall(r"`(crescent --config-dir my-conf [^`]+)`", OWN.read_text())
    ended = typed(command.split(), folder, "mode=plan")
    assert ended.returncode == 0, ended.stderr
    assert "runs/trains (new)" in ended.stdout
    assert "and all of mine" in ended.stdout


SAID = {
    "crescent runs": (0, "mine"),
    "crescent show runs/mine": (0, "finished, 2 rounds"),
    "crescent export runs/mine --to mine-7b": (0, "mine-7b  round "),
    "crescent export runs/mine --round 2 --to mine-r2 --merge": (69, "is not on this machine; export the adapter"),
    "crescent export runs/mine --to mine-up --push ORGANISATION/mine": None,
    "crescent export runs/mine --pairs --to mine-pairs": (0, "rows as sft"),
    "crescent fork runs/mine mine-b --from round-2": (0, "run the command of mine with run.name=mine-b"),
    "crescent archive runs/mine": (0, "read again and complete"),
    "crescent rm runs/mine-b runs/mine": (2, "crescent rm runs/mine-b runs/mine --yes"),
}
"""Exit code and words of each command about a run, in the order of the page; `None`: it needs a login."""
FORK = next(words for words in commands(OWN) if "fork" in words)
ABOUT_RUNS = [" ".join(words) for words in commands(OWN) if words and words[1] in COMMANDS]


def test_every_command_about_a_run_is_known_here() -> None:
    assert list(SAID) == ABOUT_RUNS


@pytest.mark.parametrize("command", [command for command, said in SAID.items() if said])
def test_a_command_about_a_run_does_what_the_page_says(command: str, mine: Path) -> None:
    said = SAID[command]
    assert said is not None
    if "rm" in command.split() and not mine.with_name("mine-b").exists():
        typed(FORK, mine.parent.parent)
    ended = typed(command.split(), mine.parent.parent)
    assert ended.returncode == said[0], ended.stderr
    assert said[1] in ended.stdout + ended.stderr


def test_a_fork_goes_on_with_the_command_of_its_run(mine: Path) -> None:
    place = mine.parent.parent
    shutil.rmtree(place / "runs/mine-b", ignore_errors=True)
    assert typed(["crescent", "fork", "runs/mine", "mine-b", "--from", "round-2"], place).returncode == 0
    again = [word.replace("run.name=mine", "run.name=mine-b") for word in ON_FAKES["mine"]]
    ended = typed(again, place, *SMALL, "consensus.samples=3")
    assert ended.returncode == 0, ended.stderr
    assert (place / "runs/mine-b/round-2/verdict").is_dir()


@pytest.fixture(scope="module")
def closer(topics: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs under the names of the page's block "Look closer"."""
    place = tmp_path_factory.mktemp("closer")
    settings = (*SHORT, "eval.reliability=8", f"run.reuse=[{topics}]")
    ended = typed(["crescent", "+experiment=smoke", "run.name=a"], place, *settings)
    assert ended.returncode == 0, ended.stderr
    for name in ("b", "qwen7b"):
        shutil.copytree(place / "runs/a", place / "runs" / name)
    return place


CLOSER = {
    "trace": "trained on",
    "reliability": "agreement",
    "compare": "sums_dev",
    "report": "report.html",
    "export": "out  ",
    "fork": "runs/b  starts from",
    "rescore=runs/a": "sums_dev",
}
"""What the page says comes out of each command of the block, by the word that tells it from the others."""
BLOCK_CLOSER = [words for words in commands(START) if words and (set(words) & CLOSER.keys()) and "--study" not in words]


def test_the_block_about_looking_closer_has_a_command_of_each_kind() -> None:
    assert {word for words in BLOCK_CLOSER for word in words if word in CLOSER} == CLOSER.keys()
    assert any("crescent trace" in block for block in BLOCK.findall(START.read_text()))


@pytest.mark.parametrize("words", BLOCK_CLOSER, ids=" ".join)
def test_looking_closer_shows_what_the_page_says(words: list[str], closer: Path) -> None:
    if "trace" in words:
        pair = read_lines(closer / "runs/a/round-1/pairs/pairs.jsonl", Pair)[0]
        words = [*words[:-1], pair.id[:8]]
    if "fork" in words:
        shutil.rmtree(closer / "runs/b")
    ended = typed(words, closer)
    assert ended.returncode == 0, ended.stderr
    (said,) = [said for word, said in CLOSER.items() if word in words]
    assert said in ended.stdout
