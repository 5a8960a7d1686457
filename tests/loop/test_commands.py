"""The command line, from processes of its own: what is a command, what goes to the loop, and how each one ends."""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from crescent.reading.trace import Trace, trace
from crescent.records import Candidate, Pair, Vote, read_lines

HEAVY = {"torch", "vllm", "hydra", "omegaconf", "scipy", "transformers", "numpy", "wandb", "datasets", "aiohttp"}
"""What no `--help` may wait for."""
TOO_HEAVY = HEAVY - {"omegaconf", "numpy"}
"""What no trace may wait for."""


def crescent(*arguments: str, cwd: Path | None = None, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-m", "crescent", *arguments]
    world = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, cwd=cwd, env=world)


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rounds on the fakes, started as `crescent +experiment=smoke`, in runs/smoke of a folder."""
    place = tmp_path_factory.mktemp("place")
    dice = random.Random(0)
    rows = []
    for number in range(40):
        first, second = dice.randrange(10, 90), dice.randrange(10, 90)
        asked = {"ID": f"sum-{number}", "Body": f"Shelf {number}.", "Question": f"What is {first} + {second}?"}
        rows.append({**asked, "Answer": float(first + second), "Equation": "", "Type": "Addition"})
    (place / "svamp").mkdir()
    (place / "svamp" / "SVAMP.json").write_text(json.dumps(rows))
    benchmark = ("eval.benchmarks.sums_dev.source=svamp", "eval.benchmarks.sums_dev.items=null")
    # Near-duplicates, rewrites and ties happen.
    often = ("~eval.benchmarks.sums_test", "diversify.threshold=0.52", "diversify.max_rewrites=1")
    ended = crescent("+experiment=smoke", *benchmark, *often, cwd=place, CRESCENT_DATA=str(place))
    assert ended.returncode == 0, ended.stderr
    return place


def test_every_question_and_pair_of_a_real_run_is_followed_to_where_its_files_say(smoke: Path) -> None:
    run = smoke / "runs" / "smoke"
    trained = {
        number: {pair.id: pair for pair in read_lines(run / f"round-{number}/pairs/pairs.jsonl", Pair)}
        for number in (1, 2)
    }
    fates = set()
    for number in (1, 2):
        for vote in read_lines(run / f"round-{number}/synthesis/votes.jsonl", Vote):
            found = trace(run, vote.question.id)
            assert found.vote == vote
            assert (found.fate == "trained on") == any(
                pair.question == vote.question.id for pairs in trained.values() for pair in pairs.values()
            )
            assert found.steps[-1].question == vote.question
            assert (found.steps[-1].neighbour is None) == (vote.question.neighbour is None)
            assert found.bait is not None
            fates.add(found.fate)
        for candidate in read_lines(run / f"round-{number}/synthesis/candidates.jsonl", Candidate):
            found = trace(run, candidate.question.id)
            fates.add(found.fate)
            assert candidate in [Candidate(step.question, step.outcome, step.why) for step in found.steps]
    assert {"trained on", "near-duplicate"} <= fates
    for number, pairs in trained.items():
        for pair in pairs.values():
            found = trace(run, pair.id)
            assert number in [training.round for training in found.trained]
            assert all(training.checkpoint and training.verdict for training in found.trained)
            (sample,) = found.chosen
            assert found.vote is not None
            assert sample is not None
            assert found.vote.answers[sample].text == pair.completion


def test_a_trace_names_the_checkpoints_as_the_server_knew_them(smoke: Path) -> None:
    run = smoke / "runs" / "smoke"
    pair = read_lines(run / "round-2/pairs/new.jsonl", Pair)[0]
    ended = crescent("trace", pair.id[:10], cwd=smoke)
    assert ended.returncode == 0, ended.stderr
    (training,) = trace(run, pair.id).trained
    assert training.checkpoint is not None
    assert training.checkpoint in ended.stdout
    assert training.checkpoint in (run / "logs" / "served.jsonl").read_text()
    for heading in ("bait prompt", "question", "answers: ", "vote", "filters", "training pairs"):
        assert f"\n{heading}" in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) <= 80


def test_the_json_of_a_trace_is_the_record(smoke: Path) -> None:
    run = Path("runs/smoke")
    pair = read_lines(smoke / run / "round-1/pairs/new.jsonl", Pair)[0]
    ended = crescent("trace", pair.id, "--json", "--run", str(run), cwd=smoke)
    assert ended.returncode == 0, ended.stderr
    found = msgspec.json.decode(ended.stdout, type=Trace)
    assert found.run == str(run)
    assert found.pairs == (pair,)


def test_a_terminal_of_another_encoding_gets_the_trace_all_the_same(smoke: Path) -> None:
    pair = read_lines(smoke / "runs/smoke/round-1/pairs/new.jsonl", Pair)[0]
    ended = crescent("trace", pair.id, cwd=smoke, PYTHONIOENCODING="ascii")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("trace", "0123456789abcdef"), 69, "looked in runs/smoke"),
        (("trace", "xyz"), 2, "16 hex digits"),
        (("trace", "0123", "--run", "runs/smok"), 69, "runs/smok: no such folder; runs: runs/smoke"),
        (("trace", "0123", "--run", "svamp"), 69, "svamp: not a run folder"),
        (("trace", "0123", "--run", "runs"), 69, "runs: runs/smoke"),
        (("trace",), 2, "usage: crescent trace"),
        (("reliability", "runs/smok"), 69, "runs/smok: no such folder"),
        (("compare",), 2, "name the runs to compare, or give --all"),
        (("compare", "smoke", "--all"), 2, "not both"),
        (("compare", "smoke", "smok"), 69, "runs/smok: no such folder; runs: runs/smoke"),
        (("compare", "svamp"), 69, "svamp: not a run folder"),
        (("compare", "runs/*-none"), 69, "runs/*-none: no such folder"),
        (("compare", "smoke", "--out", "nowhere/table.md"), 2, "--out nowhere/table.md: No such file"),
        (("compare", "smoke", "--format", "html"), 2, "invalid choice"),
        (("tarce", "0123"), 2, "did you mean trace?"),
        (("banana",), 2, "the commands are runs, show, trace"),
        (("list",), 2, "did you mean `crescent runs`?"),
        (("plan", "+experiment=smoke"), 2, "did you mean `crescent +experiment=NAME mode=plan`?"),
        (("+experiment=smoke", "status"), 2, "did you mean `crescent show RUN`?"),
        (("smoke",), 2, "did you mean `crescent show smoke`?"),
        (("show", "smok"), 69, "runs/smok: no such folder; runs: runs/smoke"),
        (("rm", "smoke"), 2, "crescent rm runs/smoke --yes"),
        (("eval", "model.path=x"), 2, "`python -m eval model.path=ORG/MODEL eval=gsm8k`"),
        (("consensus.sample=3",), 2, "consensus.samples"),
        (("+experiment=smoke", "run.redo=round-1/trian"), 2, "did you mean round-1/train?"),
    ],
)
def test_mistakes_end_with_their_exit_code_and_a_fix(
    smoke: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    ended = crescent(*arguments, cwd=smoke)
    assert ended.returncode == code
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr


def test_runs_are_compared_by_folder_by_name_or_all_of_them(smoke: Path) -> None:
    by_name = crescent("compare", "smoke", cwd=smoke)
    assert by_name.returncode == 0, by_name.stderr
    assert re.search(r"^sums_dev: dev, \d+ items", by_name.stdout, re.MULTILINE)
    assert max(map(len, by_name.stdout.splitlines())) <= 80
    for arguments in (["runs/smoke/"], ["--all"]):
        assert crescent("compare", *arguments, cwd=smoke).stdout == by_name.stdout


def test_a_comparison_is_written_in_the_form_that_its_file_s_name_asks_for(smoke: Path, tmp_path: Path) -> None:
    for form, name in (("markdown", "table.md"), ("csv", "table.csv")):
        printed = crescent("compare", "smoke", "--format", form, cwd=smoke)
        ended = crescent("compare", "smoke", "--out", str(tmp_path / name), cwd=smoke)
        assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr
        assert (tmp_path / name).read_text(encoding="utf-8") == printed.stdout
    ended = crescent("compare", "smoke", "--out", str(tmp_path / "table.md"), "--format", "csv", cwd=smoke)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "table.md").read_text() == (tmp_path / "table.csv").read_text()


def test_without_any_run_a_trace_says_where_it_looked(tmp_path: Path) -> None:
    ended = crescent("trace", "0123456789abcdef", cwd=tmp_path)
    assert ended.returncode == 69
    assert f"{tmp_path}/runs has no run in it" in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [("+experiment=smoke", "--help"), ("--cfg", "job")])
def test_everything_that_is_no_command_goes_to_the_loop(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """The help of each names the command that was typed, and is otherwise the same."""
    ours = crescent(*arguments, cwd=tmp_path)
    command = [sys.executable, "-P", "-m", "crescent.loop", *arguments]
    theirs = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ours.returncode == theirs.returncode == 0, ours.stderr + theirs.stderr
    assert ("crescent.loop" in theirs.stdout, "crescent.loop" in ours.stdout) == ("--help" in arguments, False)
    assert ours.stdout.split() == theirs.stdout.replace("python -m crescent.loop", "crescent").split()
    assert "min_agreement" in ours.stdout


def test_a_sweep_goes_to_the_loop(tmp_path: Path) -> None:
    ended = crescent("-m", "+experiment=smoke", "mode=plan", "run.seed=1,2", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("run folder  runs/smoke-seed-") == 2


def imported(*arguments: str, cwd: Path) -> set[str]:
    """Top-level names of all that a command imports."""
    say = "import atexit, sys; atexit.register(lambda: print(*sys.modules, sep='\\n', file=sys.stderr))"
    program = f"{say}; sys.argv[1:] = {list(arguments)}; from crescent.commands import main; main()"
    command = [sys.executable, "-P", "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    assert ended.returncode == 0, ended.stderr
    return {line.partition(".")[0] for line in ended.stderr.split()}


@pytest.mark.parametrize("arguments", [(), ("--help",), ("--root", "somewhere"), ("-h", "--root=somewhere")])
def test_alone_it_prints_help_and_starts_nothing(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ended = crescent(*arguments, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("usage: crescent COMMAND")
    for command in ("runs ", "show ", "rm ", "archive ", "trace ", "--version", "crescent +experiment="):
        assert f"  {command}" in ended.stdout
    assert list(tmp_path.iterdir()) == []


def test_flags_may_stand_anywhere(smoke: Path) -> None:
    root = smoke / "runs"
    expected = crescent("runs", "--json", cwd=smoke).stdout.replace("runs/smoke", f"{root}/smoke")
    for arguments in (["runs", "--json", "--root", str(root)], [f"--root={root}", "--json", "runs"]):
        ended = crescent(*arguments, cwd=smoke.parent)
        assert (ended.returncode, ended.stdout) == (0, expected), ended.stderr
    table = crescent("compare", "smoke", "--format", "csv", cwd=smoke).stdout
    for arguments in (
        ["--format", "csv", "compare", "smoke"],
        ["compare", "--format", "csv", "--root", "runs", "smoke"],
    ):
        assert crescent(*arguments, cwd=smoke).stdout == table


def test_the_loop_and_the_doctor_know_the_folder_of_runs_too(tmp_path: Path) -> None:
    root = tmp_path / "it's [here]"
    ended = crescent("--root", str(root), "+experiment=smoke", "mode=plan", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert f"{root}/smoke (new)" in ended.stdout


def test_the_version_is_ours(tmp_path: Path) -> None:
    from crescent import __version__

    assert crescent("--version", cwd=tmp_path).stdout == f"crescent {__version__}\n"
    command = [sys.executable, "-P", "-m", "crescent.loop", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stdout == f"crescent {__version__}\n"


def test_runs_lists_name_model_date_rounds_status_best_and_size(smoke: Path) -> None:
    ended = crescent("runs", cwd=smoke)
    assert ended.returncode == 0, ended.stderr
    (row,) = [line for line in ended.stdout.splitlines() if line.startswith(" smoke ")]
    assert re.search(r"smoke +fake:0.55 +\d{4}-\d\d-\d\d +2 of 2 +finished +(base|r[12]) \d+\.\d% +[\d.]+ [kM]B", row)
    (line,) = crescent("--json", "runs", cwd=smoke).stdout.splitlines()
    assert json.loads(line)["folder"] == "runs/smoke"
    assert "has no run in it" in crescent("runs", "--root", str(smoke / "svamp"), cwd=smoke).stdout


def test_show_says_status_result_and_where_the_best_checkpoint_is(smoke: Path) -> None:
    ended = crescent("show", "smoke", cwd=smoke)
    assert ended.returncode == 0, ended.stderr
    for part in ("model       fake:0.55", "status      finished, 2 rounds", "report      runs/smoke/report.html"):
        assert part in ended.stdout
    assert re.search(r"^sums_dev: dev, \d+ items", ended.stdout, re.MULTILINE)


def test_help_and_traces_import_nothing_heavy(smoke: Path) -> None:
    assert not imported("--help", cwd=smoke) & (HEAVY | {"rich", "msgspec", "yaml", "psutil"})
    assert not imported(cwd=smoke) & (HEAVY | {"rich", "msgspec", "yaml", "psutil"})
    for command in ("runs", "show", "rm", "archive", "export", "fork"):
        assert not imported(command, "--help", cwd=smoke) & (HEAVY | {"rich", "msgspec"})
    assert not imported("trace", "--help", cwd=smoke) & (HEAVY | {"rich", "msgspec"})
    assert not imported("reliability", "--help", cwd=smoke) & (HEAVY | {"rich", "msgspec"})
    assert not imported("compare", "--help", cwd=smoke) & (HEAVY | {"rich", "msgspec"})
    compared = imported("compare", "smoke", cwd=smoke)
    assert "scipy" in compared, "which has its tests"
    assert not compared & TOO_HEAVY - {"scipy"}
    pair = read_lines(smoke / "runs/smoke/round-1/pairs/new.jsonl", Pair)[0]
    found = imported("trace", pair.id, cwd=smoke)
    assert "rich" in found, "or else nothing was looked at"
    assert not found & TOO_HEAVY
