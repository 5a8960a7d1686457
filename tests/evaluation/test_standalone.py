"""`python -m eval` without a run: any model, adapter or endpoint, from a process of its own, with the fake engine."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from crescent.engine.fakes import FakeEngine
from crescent.engine.journal import CANARY, UNANSWERED, read_journal
from crescent.reading.runs import compare_runs
from crescent.records import Response, read_lines, write_lines
from crescent.run_folder.manifest import seal, tree_digest
from crescent.show.compare import as_markdown

HEAVY = {"torch", "transformers", "vllm", "datasets", "reasoning_gym", "wandb", "aiohttp", "scipy", "numpy", "sympy"}
"""Modules that are not imported before a wrong setting is refused."""
SUMS = (
    *("serving=fake", "model.context=512", "task=arithmetic", "eval=arithmetic", "~eval.benchmarks.sums_test"),
    *("eval.benchmarks.sums_dev.source=svamp", "eval.benchmarks.sums_dev.items=null"),
)


def furnish(folder: Path) -> Path:
    """60 sums in SVAMP's format: about half of them are dev items."""
    dice = random.Random(0)
    rows = []
    for number in range(60):
        first, second = dice.randrange(10, 90), dice.randrange(10, 90)
        asked = {"ID": f"sum-{number}", "Body": f"Shelf {number}.", "Question": f"What is {first} + {second}?"}
        rows.append({**asked, "Answer": float(first + second), "Equation": "", "Type": "Addition"})
    (folder / "svamp").mkdir()
    (folder / "svamp" / "SVAMP.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return furnish(tmp_path)


def evaluate(place: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    world = {**os.environ, "CRESCENT_DATA": str(place), "HF_HUB_OFFLINE": "1", "COLUMNS": "150", **environment}
    command = [sys.executable, "-P", "-m", "eval", *arguments]
    return subprocess.run(command, cwd=place, env=world, capture_output=True, text=True, timeout=120, check=False)


def run_of(place: Path) -> Path:
    (run,) = (place / "runs").iterdir()
    return run


def responses(run: Path) -> list[Response]:
    return read_lines(run / "base/eval/responses.jsonl", Response)


@dataclass(frozen=True)
class Evaluated:
    place: Path
    said: str


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    place = furnish(tmp_path_factory.mktemp("evaluated"))
    ended = evaluate(place, "model.path=fake:0.6", *SUMS)
    assert ended.returncode == 0, ended.stderr
    return Evaluated(place, ended.stdout)


def test_a_model_is_served_asked_and_scored_and_the_same_command_asks_nothing_again(evaluated: Evaluated) -> None:
    place, said = evaluated.place, evaluated.said
    run = run_of(place)
    assert re.fullmatch(r"eval-fake-0\.6-[0-9a-f]{6}", run.name)
    scores = json.loads((run / "base/eval/scores.json").read_text())
    assert [score["total"] for score in scores] == [len(responses(run))]
    assert f"{100 * scores[0]['correct'] / scores[0]['total']:.1f}%" in said
    for part in ("95% interval", "sums_dev", "strict", "flexible", "base/eval/responses.jsonl"):
        assert part in said
    (row,) = compare_runs([run]).runs
    assert row.status == "evaluation only"
    assert row.rounds[0].results[0].score.correct == scores[0]["correct"]

    better = place / "better"
    shutil.copytree(run, better)
    path = better / "base/eval/responses.jsonl"
    write_lines(path, [replace(response, correct=True) for response in read_lines(path, Response)])
    stage, manifest = better / "base/eval", json.loads((better / "base/eval/manifest.json").read_text())
    seal(stage, {name: manifest[name] for name in ("made_from", "metrics", "seconds")})
    wrong = scores[0]["total"] - scores[0]["correct"]
    (against,) = compare_runs([run, better]).models
    assert (against.run, against.reference) == ("better", run.name)
    assert (against.comparison.gained, against.comparison.lost) == (wrong, 0)
    assert against.comparison.p_value == pytest.approx(2 / 2**wrong)
    assert f"{wrong} | 0 |" in as_markdown(compare_runs([run, better]))
    shutil.rmtree(better)

    log = (run / "logs/server.log").stat().st_mtime_ns
    second = evaluate(place, "model.path=fake:0.6", *SUMS)
    assert second.returncode == 0, second.stderr
    assert second.stdout in said, "the same table"
    assert (run / "logs/server.log").stat().st_mtime_ns == log, "no engine was started"


def test_an_evaluation_is_rescored_without_an_engine_and_stays_finished(evaluated: Evaluated) -> None:
    run = run_of(evaluated.place)
    known, log = tree_digest(run), (run / "logs/server.log").stat().st_mtime_ns
    rescored = evaluate(evaluated.place, f"rescore={run}")
    assert rescored.returncode == 0, rescored.stderr
    assert f"0 of {len(responses(run))} readings changed" in rescored.stdout
    assert (tree_digest(run), (run / "logs/server.log").stat().st_mtime_ns) == (known, log)
    again = evaluate(evaluated.place, "model.path=fake:0.6", *SUMS)
    assert again.stdout in evaluated.said, "the same table"


def test_an_interrupted_evaluation_asks_only_for_the_rest(evaluated: Evaluated, place: Path) -> None:
    broken = evaluate(
        place, "model.path=fake:0.6", "run.name=broken", *SUMS, CRESCENT_FAILPOINT="journal.append:9=kill9"
    )
    assert broken.returncode == 69, broken.stderr
    journal = place / "runs/broken/base/eval.partial/journal.jsonl"
    kept = journal.read_bytes()
    assert kept.count(b"\n") == 9
    again = evaluate(
        place, "model.path=fake:0.6", "run.name=broken", *SUMS, CRESCENT_FAILPOINT="journal.append:10=kill9"
    )
    assert again.returncode == 69
    assert journal.read_bytes().startswith(kept)
    assert journal.read_bytes().count(b"\n") == 19
    assert evaluate(place, "model.path=fake:0.6", "run.name=broken", *SUMS).returncode == 0
    assert tree_digest(place / "runs/broken") == tree_digest(run_of(evaluated.place))


def test_an_adapter_is_served_on_its_base_and_its_samples_are_voted_on(place: Path) -> None:
    (place / "lora" / "adapter").mkdir(parents=True)
    (place / "lora" / "adapter" / "skill.json").write_text('{"skill": 1.0}')
    several = ("eval.samples=4", "eval.temperature=0.7")
    ended = evaluate(place, "model.path=fake:0.1", "adapter=lora/adapter", *SUMS, *several)
    assert ended.returncode == 0, ended.stderr
    for part in ("maj@4", "pass@4", "100.0%", f"{place}/lora/adapter"):
        assert part in ended.stdout
    run = run_of(place)
    assert "-lora-" in run.name, "every adapter's own folder is called `adapter`"
    spoken = [response for response in responses(run) if response.final is not None]
    assert spoken
    assert all(response.correct for response in spoken), "the adapter answered, and not its base"
    bare = evaluate(place, "model.path=fake:0.1", *SUMS, *several, "mode=plan")
    assert "(new)" in bare.stdout, "another model has another folder"


def test_other_settings_under_a_name_of_ones_own_are_refused_with_the_difference(evaluated: Evaluated) -> None:
    mine = ("model.path=fake:0.6", f"run.name={run_of(evaluated.place).name}", *SUMS)
    refused = evaluate(evaluated.place, *mine, "eval.max_tokens=20")
    assert refused.returncode == 3
    assert "eval.max_tokens: 24 → 20" in refused.stderr
    otherwise = evaluate(evaluated.place, *mine, "eval.benchmarks.sums_dev.style=math")
    assert otherwise.returncode == 3
    assert "eval.benchmarks.sums_dev.style: '(not there)' → 'math'" in otherwise.stderr
    same = evaluate(evaluated.place, *mine, "serving.concurrency=4", "eval.benchmarks.sums_dev.style=number")
    assert same.returncode == 0, "what does not touch results changes nothing"
    assert "starts" not in same.stdout


class Endpoint(FakeEngine):
    """It serves `good` (right every time) and, as an adapter of it, `bad` (wrong every time)."""

    def __init__(self) -> None:
        super().__init__("fake:1", 0, "good")
        self.adapters["bad"] = 0.0
        self.lock = threading.Lock()
        self.lasts = 10**9
        """Chat completions that it gives before it is out of order."""
        self.answered: Counter[str] = Counter()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == "/v1/chat/completions":
            with self.lock:
                if self.answered.total() >= self.lasts:
                    raise ConnectionAbortedError("nothing is said any more")
                self.answered[body["messages"][-1]["content"]] += 1
        return super().answer(path, body)

    def handle_error(self, request: object, client_address: object) -> None:
        """Quiet: the connection is closed, which is what is wanted."""


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    engine = Endpoint()
    thread = threading.Thread(target=engine.serve_forever, daemon=True)
    thread.start()
    yield engine
    engine.shutdown()
    engine.server_close()
    thread.join()


def test_an_endpoint_that_dies_midway_costs_no_answer_and_is_asked_nothing_twice(
    place: Path, endpoint: Endpoint
) -> None:
    endpoint.lasts = 11
    arguments = (*SUMS, f"serving.urls=[{endpoint.url}]", "serving.concurrency=4", "serving.max_restarts=0")
    died = evaluate(place, *arguments, CRESCENT_API_KEY="secret")
    assert died.returncode == 75, died.stderr
    assert "run the same command again" in died.stderr
    assert endpoint.answered.total() == 11, died.stderr + died.stdout
    entries = read_journal(run_of(place) / "base/eval.partial/journal.jsonl").entries
    suspects = {entry.key for entry in entries if entry.completion.finish_reason == UNANSWERED}
    assert suspects
    endpoint.lasts = 10**9
    again = evaluate(place, *arguments, CRESCENT_API_KEY="secret")
    assert again.returncode == 0, again.stderr
    assert "resumes" in again.stdout
    canaries = endpoint.answered.pop(CANARY.prompt)
    assert canaries == len(suspects), "one before each question that it had when it died"
    assert endpoint.answered == {response.prompt: 1 for response in responses(run_of(place))}


def test_an_endpoint_is_asked_for_its_model_or_for_the_one_that_is_named(place: Path, endpoint: Endpoint) -> None:
    url, mine = f"serving.urls=[{endpoint.url}]", {"CRESCENT_API_KEY": "secret"}
    for arguments, right in (((), True), (("model.path=bad",), False)):
        name = f"run.name=mine-{len(list(place.glob('runs/*')))}"
        ended = evaluate(place, *SUMS, url, name, *arguments, **mine)
        assert ended.returncode == 0, ended.stderr
        run = max((place / "runs").iterdir(), key=lambda folder: folder.stat().st_mtime_ns)
        assert {response.correct for response in responses(run) if response.final is not None} == {right}
        assert not (run / "logs/server.log").exists(), "nothing was started"
        assert "secret" not in (run / "config.yaml").read_text() + (run / "jobs/base-eval.yaml").read_text()

    unknown = evaluate(place, *SUMS, url, "model.path=ugly", **mine)
    assert unknown.returncode == 2
    assert "it serves bad, good, and not model.path=ugly" in unknown.stderr
    keyless = evaluate(place, *SUMS, url)
    assert keyless.returncode == 2
    assert "set CRESCENT_API_KEY" in keyless.stderr
    silent = evaluate(place, *SUMS, "serving.urls=[http://127.0.0.1:9/v1]")
    assert silent.returncode == 69
    assert "serving.urls=http://127.0.0.1:9/v1: nothing answers there" in silent.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "model.path: say what to evaluate: a hub id, a folder"),
        (("Qwen/Qwen2.5-0.5B",), 2, "did you mean model.path=Qwen/Qwen2.5-0.5B?"),
        (("model.pth=x",), 2, "did you mean model.path"),
        (("model.path=x", "eval=gsm8kk"), 2, "eval/gsm8kk"),
        (("model.path=x", "eval.benchmarks=null"), 2, "eval.benchmarks"),
        (("model.path=x", "task=code"), 2, "task.answer_style=code"),
        (("model.path=x", "model.context=512"), 2, "model.context=512: must hold prompt and answer"),
        (("model.path=x", "run.redo=round-1/eval"), 2, "run.redo=round-1/eval: there is no such stage"),
        (("adapter=nowhere",), 69, "adapter=nowhere: there is no such folder; the adapters of a run are in"),
        (("adapter=svamp",), 69, "adapter=svamp: no adapter_config.json in it"),
        (("model.path=half",), 2, "model.path=half: is a LoRA adapter; give it as adapter=half"),
        (("adapter=half",), 69, "no adapter_model.safetensors in it, and pickles are not loaded"),
        (("model.path=done",), 2, "model.path=done: is a run's folder"),
        (("nowhere.yaml",), 2, "nowhere.yaml: no such job file"),
    ],
)
def test_what_cannot_work_is_refused_at_once_with_the_fix(
    place: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    (place / "half").mkdir()
    (place / "half" / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 8, "base_model_name_or_path": "x"}')
    (place / "done" / "base").mkdir(parents=True)
    ended = evaluate(place, *arguments)
    assert ended.returncode == code, ended.stderr
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (place / "runs").exists()


def test_a_benchmark_that_is_not_there_is_missed_before_anything_is_served(place: Path) -> None:
    ended = evaluate(place, "model.path=fake:0.6", "serving=fake", "eval=gsm8k")
    assert ended.returncode == 69
    assert f"put the file at {place}/gsm8k/train.jsonl" in ended.stderr
    assert not list(place.glob("runs/*/logs/server.log"))


def test_a_plan_says_how_much_would_be_asked_and_starts_nothing(place: Path) -> None:
    several = ("eval.samples=4", "eval.temperature=0.7")
    planned = evaluate(place, "model.path=fake:0.6", *SUMS, *several, "mode=plan")
    assert planned.returncode == 0, planned.stderr
    found = re.search(r"sums_dev: (\d+) items, (\d+) requests of at most 24 tokens", planned.stdout)
    assert found
    assert int(found[2]) == 4 * int(found[1])
    assert not (place / "runs").exists()


def test_an_experiment_evaluates_as_its_run_does(place: Path) -> None:
    planned = evaluate(place, "+experiment=smoke", *SUMS[3:], "mode=plan")
    assert planned.returncode == 0, planned.stderr
    assert "fake:0.55" in planned.stdout


def test_every_point_of_a_sweep_has_a_folder_of_its_own(place: Path) -> None:
    swept = evaluate(place, "-m", "model.path=fake:0.2,fake:0.9", *SUMS, "mode=plan")
    assert swept.returncode == 0, swept.stderr
    assert len(set(re.findall(r"runs/eval-fake-0\.[29]-[0-9a-f]{6}", swept.stdout))) == 2


def test_help_says_both_ways(place: Path) -> None:
    shown = evaluate(place, "--help")
    assert shown.returncode == 0
    for part in ("model.path=ORG/MODEL", "adapter=FOLDER", "JOB.YAML", "eval: arc"):
        assert part in shown.stdout


def test_a_refusal_waits_for_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys, eval.standalone\n"
        "sys.argv = ['eval', 'model.path=x', 'eval.samples=0']\n"
        "try:\n    eval.standalone.main(sys.argv[1:])\n"
        "except SystemExit as ended:\n    assert ended.code == 2, ended.code\n"
        f"heavy = {HEAVY!r} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-P", "-c", program], cwd=tmp_path, check=True, timeout=60)


def test_a_misspelt_task_of_lm_eval_is_refused_before_anything_is_served(place: Path) -> None:
    """The interpreter is a stand-in: it says what lm-eval's index says about a name that is not in it."""
    lm_eval = place / "python"
    said = json.dumps({"tasks": {}, "unknown": {"arc_chalenge": ["arc_challenge"]}})
    lm_eval.write_text(f"#!/bin/sh\nprintf '%s' '{said}' > \"$3\"\n")
    lm_eval.chmod(0o755)
    tasks = ("eval.harness.tasks=[arc_chalenge]", f"eval.harness.python={lm_eval}")
    alone = evaluate(place, "model.path=fake:0.6", *SUMS, *tasks)
    loop = [sys.executable, "-P", "-m", "crescent.loop", "+experiment=smoke", *SUMS[3:], *tasks]
    in_a_run = subprocess.run(loop, cwd=place, capture_output=True, text=True, timeout=120, check=False)
    for ended in (alone, in_a_run):
        assert ended.returncode == 2, ended.stderr
        assert "lm-eval has no task 'arc_chalenge'; did you mean arc_challenge?" in ended.stderr
        assert "Traceback" not in ended.stderr
    assert not (place / "runs").exists()
