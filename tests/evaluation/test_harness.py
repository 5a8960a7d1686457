"""lm-eval as a process of its own: what it is asked, how its numbers are read, and that they agree with ours.

The tests that start it need an interpreter with `lm-eval[api]`: CRESCENT_LM_EVAL names one, ours is the default.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.recorded import FOLDER as RECORDINGS
from benchmarks.recorded import read_recording
from crescent.config import (
    AnswerStyle,
    BenchmarkConfig,
    Child,
    Dtype,
    EvalConfig,
    EvalJob,
    HarnessConfig,
    ModelConfig,
    ServingConfig,
    Split,
    TaskConfig,
    TrainConfig,
    WhileTraining,
)
from crescent.engine.client import EngineDied
from crescent.engine.server import Server
from crescent.engine.vllm_command import runs_on_cpu
from crescent.errors import BadConfig, CrescentError, Missing
from crescent.models.packaged_model import packaged_model
from crescent.records import Checkpoint, Completion, Response, read_lines
from crescent.tasks import open_task
from eval.evaluate import run
from eval.harness import (
    HarnessScore,
    Leaf,
    Served,
    ask_server,
    check_safe,
    command,
    divide,
    explain,
    find_tasks,
    read_results,
    run_tasks,
)
from eval.harness_tasks import NEEDED, leaves
from eval.reading import grade
from eval.scorers import flexible_match, strict_match
from launch.local import LocalLaunch

LM_EVAL = os.environ.get("CRESCENT_LM_EVAL", sys.executable)
PROMPT = "{question} Give the final answer as: #### answer"
TASK = TaskConfig(answer_prompt=PROMPT, answer_style=AnswerStyle.number)
LAST = ("Question:", "</s>", "<|im_end|>")
KEY = "a-key-that-nobody-else-has"


def has_lm_eval(python: str) -> bool:
    names = repr(("lm_eval", *NEEDED))
    look = f"import importlib.util, sys; sys.exit(not all(map(importlib.util.find_spec, {names})))"
    return subprocess.run([python, "-P", "-c", look], check=False).returncode == 0


needs_lm_eval = pytest.mark.skipif(
    not has_lm_eval(LM_EVAL), reason="no lm-eval: pip install 'lm-eval[api]==0.4.13', or CRESCENT_LM_EVAL=interpreter"
)


URL = "http://127.0.0.1:9/v1"
"""An address where nobody answers."""


def job(output: Path = Path("nowhere"), url: str = URL, **harness: Any) -> EvalJob:
    config = HarnessConfig(**{"tasks": ["gsm8k_local"], "python": LM_EVAL, **harness})
    evaluation = EvalConfig(harness=config, max_tokens=64)
    return EvalJob(evaluation, TASK, [url], "base", str(output), concurrency=16)


def option(line: Sequence[str], name: str) -> str:
    return line[line.index(name) + 1]


def leaf(name: str, output_type: str | None = "generate_until", data: str = "json") -> Leaf:
    return Leaf(name, output_type, data, unsafe=False)


def test_a_chat_is_asked_without_a_tokenizer_and_settings_are_passed_on() -> None:
    asked = job(limit=5, num_fewshot=0, include_path="tasks", arguments=["--seed", "7"])
    line = command(asked, "local-chat-completions", ["ifeval", "gsm8k"], Served(context=4096), None, Path("out"), URL)
    assert line[:5] == [LM_EVAL, "-P", "-m", "lm_eval", "run"]
    assert option(line, "--tasks") == "ifeval,gsm8k"
    assert json.loads(option(line, "--model_args")) == {
        "model": "base",
        "base_url": "http://127.0.0.1:9/v1/chat/completions",
        "num_concurrent": 16,
        "timeout": 600,
        "max_gen_toks": 64,
        "max_length": 4096,
    }
    assert (option(line, "--limit"), option(line, "--num_fewshot")) == ("5", "0")
    assert option(line, "--include_path") == "tasks"
    assert "--apply_chat_template" in line
    assert line[-2:] == ["--seed", "7"]


def test_log_probabilities_are_asked_with_the_tokenizer_of_the_served_weights(tmp_path: Path) -> None:
    line = command(job(), "local-completions", ["arc"], Served(base=str(tmp_path)), None, Path("out"), URL)
    arguments = json.loads(option(line, "--model_args"))
    assert arguments["base_url"] == "http://127.0.0.1:9/v1/completions"
    assert arguments["tokenizer"] == str(tmp_path)
    assert arguments["tokenizer_backend"] == "huggingface"
    assert arguments["num_concurrent"] == 16
    named = command(job(), "local-completions", ["arc"], Served(base=str(tmp_path)), "org/model", Path("out"), URL)
    assert json.loads(option(named, "--model_args"))["tokenizer"] == "org/model"


def test_an_adapter_on_a_cpu_is_asked_for_log_probabilities_one_by_one() -> None:
    served = Served(adapter=True, base="org/model")
    text, chat = (
        json.loads(option(command(job(), model, ["arc"], served, None, Path("out"), URL), "--model_args"))
        for model in ("local-completions", "local-chat-completions")
    )
    assert text["num_concurrent"] == (1 if runs_on_cpu() else 16)
    assert chat["num_concurrent"] == 16


def test_two_replicas_with_adapters_on_a_cpu_are_asked_for_log_probabilities_by_one_request_each() -> None:
    asked = replace(job(), urls=[URL, URL])
    line = command(asked, "local-completions", ["arc"], Served(adapter=True, base="org/m"), None, Path("out"), URL)
    assert json.loads(option(line, "--model_args"))["num_concurrent"] == (2 if runs_on_cpu() else 16)


@pytest.mark.parametrize("base", [None, "/no/such/folder"])
def test_without_a_tokenizer_log_probabilities_cannot_be_asked(base: str | None) -> None:
    with pytest.raises(Missing, match="--tokenizer FOLDER"):
        command(job(), "local-completions", ["arc"], Served(base=base), None, Path("out"), URL)


def test_answers_as_long_as_the_context_leave_no_room_for_a_prompt() -> None:
    with pytest.raises(BadConfig, match=r"eval\.max_tokens=64: .* context of 64 tokens; lower it"):
        command(job(), "local-chat-completions", ["ifeval"], Served(context=64), None, Path("out"), URL)


def test_generated_answers_are_a_chat_and_a_group_is_never_divided() -> None:
    mixed = [leaf("a"), leaf("b", "multiple_choice")]
    tasks = {"ifeval": [leaf("ifeval")], "arc": [leaf("arc", "multiple_choice")], "mixed": mixed, "gsm8k": [leaf("g")]}
    assert divide(tasks, chat=True) == {
        "local-chat-completions": ["ifeval", "gsm8k"],
        "local-completions": ["arc", "mixed"],
    }
    assert divide(tasks, chat=False) == {"local-completions": ["ifeval", "arc", "mixed", "gsm8k"]}


def test_a_task_that_does_not_say_what_it_asks_for_is_no_chat() -> None:
    assert divide({"squad": [leaf("squad", None)]}, chat=True) == {"local-completions": ["squad"]}


def test_programs_of_the_model_run_only_if_the_settings_allow_it() -> None:
    tasks = {"ifeval": [leaf("ifeval")], "code": [leaf("a"), replace(leaf("humaneval"), unsafe=True)]}
    with pytest.raises(BadConfig, match=r"code runs the model's programs .* without a sandbox; use eval=mbpp"):
        check_safe(tasks, [])
    check_safe(tasks, ["--confirm_run_unsafe_code"])


def entry(kind: str, tags: Sequence[str] = (), **described: Any) -> SimpleNamespace:
    return SimpleNamespace(kind=SimpleNamespace(name=kind), cfg=described or None, tags=set(tags))


def test_groups_and_tags_come_down_to_their_single_tasks() -> None:
    index = {
        "top": entry("GROUP", task=["part", "tag", {"task": "one", "num_fewshot": 3}]),
        "part": entry("GROUP", task=["one", {"group": "inline", "task": ["two"]}]),
        "tag": entry("TAG", tags=["two", "three"]),
        "one": entry("TASK", output_type="multiple_choice", dataset_path="org/one"),
        "two": entry("TASK", output_type="generate_until", unsafe_code=True),
        "three": entry("PY_TASK"),
    }
    found = [(task["name"], task["output_type"], task["data"], task["unsafe"]) for task in leaves("top", index)]
    first, second, third = (
        ("one", "multiple_choice", "org/one", False),
        ("two", "generate_until", None, True),
        ("three", None, None, False),
    )
    assert found == [first, second, third, second, first]


def test_scores_keep_lm_evals_names_and_an_unknown_standard_error_is_none() -> None:
    arc = {"name": "arc", "alias": "arc", "sample_len": 9, "acc,none": 0.5, "acc_stderr,none": 0.1}
    group = {"name": "all", "alias": "all", "sample_len": 40, "acc,none": 0.25, "acc_stderr,none": "N/A"}
    results = {"results": {"all": group, "arc": arc}, "n-samples": {"arc": {"original": 99, "effective": 9}}}
    assert read_results(results) == [
        HarnessScore("all", "acc,none", 0.25, None, 40),
        HarnessScore("arc", "acc,none", 0.5, 0.1, 9),
    ]


@pytest.mark.parametrize(
    ("written", "kind", "says"),
    [
        (
            "ConnectionError: Couldn't reach 'a/b' on the Hub (OfflineModeIsEnabled)",
            Missing,
            "arc needs the data set a/b",
        ),
        ("DatasetNotFoundError: Dataset 'a/b' doesn't exist on the Hub or cannot be accessed.", Missing, "HF_HOME"),
        ("ModuleNotFoundError: No module named 'langdetect'", Missing, "the package langdetect"),
        ("lm-eval: error: unrecognized arguments: --frobnicate", BadConfig, "eval.harness.arguments: .*--frobnicate"),
        ("API request failed! Status code: 400, Response text: too long. Retrying", BadConfig, "lower eval.max_tokens"),
        ("API request failed! Status code: 500, Response text: dead. Retrying", EngineDied, "unanswered"),
        ("aiohttp.client_exceptions.ServerDisconnectedError: Server disconnected", EngineDied, "unanswered"),
        ("    logprobs = sum(choice['logprobs'])\nKeyError: 'logprobs'", BadConfig, "no log-probabilities"),
        ("ZeroDivisionError: division by zero", CrescentError, "division by zero"),
    ],
)
def test_a_failure_is_explained_by_what_lm_eval_wrote(
    written: str, kind: type[CrescentError], says: str, tmp_path: Path
) -> None:
    log = tmp_path / "lm_eval.log"
    log.write_text(f"Traceback (most recent call last):\n{written}\n")
    error = explain(log, 1, [leaf("arc", data="a/b"), leaf("other")], "python")
    assert type(error) is kind
    with pytest.raises(kind, match=says):
        raise error


def test_options_that_have_a_field_are_no_further_arguments() -> None:
    with pytest.raises(BadConfig, match=r"eval\.harness\.arguments=--limit: is set by the evaluation itself"):
        HarnessConfig(arguments=["--limit=3"])


def test_without_lm_eval_the_error_says_how_to_install_it(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    bare = str(tmp_path / "bare" / "bin" / "python")
    with pytest.raises(Missing, match=r"is not installed: lm_eval, .*-m pip install 'lm-eval\[api\]==0\.4\.13'"):
        find_tasks(HarnessConfig(tasks=["arc"], python=bare), tmp_path)


def test_an_interpreter_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Missing, match=r"eval\.harness\.python=/no/such/python"):
        find_tasks(HarnessConfig(tasks=["arc"], python="/no/such/python"), tmp_path)


def test_a_dead_replica_beside_another_does_not_stop_an_evaluation(key: None) -> None:
    alive = Scripted()
    try:
        assert ask_server(replace(job(), urls=[URL, alive.url])).context == 512
    finally:
        alive.end()


def test_an_endpoint_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineDied, match=r"127\.0\.0\.1:9"):
        run_tasks(job(tmp_path))


FILTERS = {
    "strict-match": (r"#### (\-?[0-9\.\,]+)", 0),
    "flexible-extract": (r"(-?[$0-9.,]{2,})|(-?[0-9]+)", -1),
}
"""The filters of lm-eval's gsm8k (version 3): a pattern, and which of its matches counts."""
IGNORED = (",", r"\$", "(?s).*#### ", r"\.$")
"""Patterns that its metric removes from answer and reference before it compares them."""


def filtered(text: str, pattern: str, place: int) -> str:
    """The answer that a regex filter takes, as the documentation of lm-eval describes it."""
    matches = re.findall(pattern, text)
    if not matches:
        return "[invalid]"
    chosen = matches[place]
    groups = [group for group in chosen if group] if isinstance(chosen, tuple) else [chosen]
    return groups[0].strip()


def exact_match(answer: str, target: str) -> bool:
    for pattern in IGNORED:
        answer, target = re.sub(pattern, "", answer), re.sub(pattern, "", target)
    return answer.lower() == target.lower()


def recorded_answers() -> list[tuple[str, str]]:
    """Recorded answers of a model, each with numbers that may be its reference: some stand in it, one does not.

    Few of them bear a mark, so they are there a second time with one before the last number.
    """
    rows = [row for name in ("arithmetic", "words") for row in read_recording(RECORDINGS / f"{name}.jsonl.gz").rows()]
    cases = []
    for text in {row.text: None for row in rows if row.kind == "answer"}:
        numbers = re.findall(r"(?<![\d.,])-?\d+(?:\.\d+)?(?![\d.,]*\d)", text)
        before, last, after = text.rpartition(numbers[-1]) if numbers else (text, "", "")
        for said in (text, f"{before}#### {last}{after}"):
            cases += [(said, target) for target in dict.fromkeys([*numbers[:1], *numbers[-2:], "123456789"])]
    return cases


def ours_of(text: str, target: str) -> dict[str, bool | None]:
    return {"strict-match": strict_match(text, target), "flexible-extract": flexible_match(text, target)}


def has_box_alone(text: str) -> bool:
    """Whether only a box marks its answer: that is a strict answer for us, and none for lm-eval's gsm8k."""
    return r"\boxed" in text and re.search(FILTERS["strict-match"][0], text) is None


def test_strict_and_flexible_are_lm_evals_filters_on_what_a_model_wrote() -> None:
    agreed = dict.fromkeys([(name, right) for name in FILTERS for right in (True, False)], 0)
    for text, target in recorded_answers():
        ours = ours_of(text, target)
        for name, (pattern, place) in FILTERS.items():
            if name == "strict-match" and has_box_alone(text):
                continue
            theirs = exact_match(filtered(text, pattern, place), target)
            assert ours[name] is theirs, (name, text, target)
            agreed[name, theirs] += 1
    assert min(agreed.values()) >= 50, agreed


# From here on lm-eval itself runs.


@needs_lm_eval
def test_strict_and_flexible_are_what_lm_eval_itself_says_of_what_a_model_wrote() -> None:
    program = """
import json, sys
from lm_eval.api.metrics import exact_match_hf_evaluate
from lm_eval.filters.extraction import RegexFilter
asked = json.load(sys.stdin)
said = {}
for name, (pattern, place) in asked["filters"].items():
    found = RegexFilter(pattern, place).apply([[text] for text, _ in asked["cases"]], [{} for _ in asked["cases"]])
    said[name] = [
        bool(exact_match_hf_evaluate([answer], [target], asked["ignored"], ignore_case=True)["exact_match"])
        for (answer,), (_, target) in zip(found, asked["cases"])
    ]
json.dump(said, sys.stdout)
"""
    cases = recorded_answers()
    asked = json.dumps({"filters": FILTERS, "ignored": IGNORED, "cases": cases})
    ended = subprocess.run([LM_EVAL, "-P", "-c", program], input=asked, capture_output=True, text=True, check=True)
    theirs = json.loads(ended.stdout[ended.stdout.index("{") :])
    for place, (text, target) in enumerate(cases):
        for name, verdict in ours_of(text, target).items():
            if name == "flexible-extract" or not has_box_alone(text):
                assert verdict is theirs[name][place], (name, text, target)


def write_gsm8k(folder: Path, rows: Sequence[tuple[str, str]], generation: str = "") -> None:
    """lm-eval's own `gsm8k` (version 3) with our prompt, over a local file, as the task `gsm8k_local`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"question": question, "answer": f"So it is.\n#### {final}"}) for question, final in rows]
    (folder / "gsm8k.jsonl").write_text("\n".join(lines) + "\n")
    description = {
        "task": "gsm8k_local",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "gsm8k.jsonl")}},
        "output_type": "generate_until",
        "test_split": "test",
        "doc_to_text": PROMPT.replace("{question}", "{{question}}"),
        "doc_to_target": "{{answer}}",
        "metric_list": [
            {
                "metric": "exact_match",
                "aggregation": "mean",
                "higher_is_better": True,
                "ignore_case": True,
                "ignore_punctuation": False,
                "regexes_to_ignore": [",", "\\$", "(?s).*#### ", "\\.$"],
            }
        ],
        "generation_kwargs": {"until": list(LAST), "do_sample": False, "temperature": 0.0},
        "num_fewshot": 0,
        "filter_list": [
            {
                "name": "strict-match",
                "filter": [
                    {"function": "regex", "regex_pattern": "#### (\\-?[0-9\\.\\,]+)"},
                    {"function": "take_first"},
                ],
            },
            {
                "name": "flexible-extract",
                "filter": [
                    {"function": "regex", "group_select": -1, "regex_pattern": "(-?[$0-9.,]{2,})|(-?[0-9]+)"},
                    {"function": "take_first"},
                ],
            },
        ],
    }
    # Every JSON text is a YAML text.
    (folder / "gsm8k_local.yaml").write_text(json.dumps(description))


def write_choices(folder: Path, rows: Sequence[tuple[str, list[str], int]]) -> None:
    """A multiple-choice task `choices_local` over a local file."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"question": asked, "options": list(options), "right": right}) for asked, options, right in rows
    ]
    (folder / "choices.jsonl").write_text("\n".join(lines) + "\n")
    description = {
        "task": "choices_local",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "choices.jsonl")}},
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "options",
        "doc_to_target": "right",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    (folder / "choices_local.yaml").write_text(json.dumps(description))


def verdicts(output: Path) -> dict[tuple[str, str], tuple[str, bool]]:
    """By question and filter, what the model said and whether lm-eval counts it as right."""
    (samples,) = (output / "harness").rglob("samples_gsm8k_local_*.jsonl")
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    return {
        (line["doc"]["question"], line["filter"]): (line["resps"][0][0], line["exact_match"] == 1.0) for line in lines
    }


def ours(said: str, final: str) -> bool:
    with open_task(TASK, 5.0) as task:
        return grade(Completion(said, "stop", tokens=1), final, task)[1]


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint's key in our environment, as the loop passes it."""
    monkeypatch.setenv("CRESCENT_API_KEY", KEY)


@pytest.fixture
def fake_engine(key: None) -> Iterator[str]:
    """The fake engine's process, whose model adds two numbers correctly in six of ten cases."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as probe:
        port = probe.server_port
    serve = [sys.executable, "-P", "-m", "crescent.engine.fakes", "serve", "fake:0.6", str(port), "base"]
    with subprocess.Popen(serve, env=os.environ | {"VLLM_API_KEY": KEY}) as process:
        url = f"http://127.0.0.1:{port}/v1"
        while process.poll() is None:
            try:
                ask_server(job(url=url))
                break
            except EngineDied:
                time.sleep(0.1)
        yield url
        process.terminate()


@needs_lm_eval
def test_lm_eval_and_we_count_the_same_answers_as_right(tmp_path: Path, fake_engine: str) -> None:
    sums = [(n * 7 % 40, n * 13 % 37) for n in range(40)]
    rows = [(f"What is {a} + {b}?", str(a + b)) for a, b in sums]
    write_gsm8k(tmp_path / "tasks", rows)
    evaluated = job(tmp_path / "out", fake_engine, include_path=str(tmp_path / "tasks"))
    scores = run_tasks(evaluated)

    theirs = verdicts(tmp_path / "out")
    right = [ours(theirs[question, "strict-match"][0], final) for question, final in rows]
    for read_by in ("strict-match", "flexible-extract"):
        assert [theirs[question, read_by][1] for question, _ in rows] == right
    assert 0 < sum(right) < len(rows)
    assert [(score.task, score.metric, score.n) for score in scores] == [
        ("gsm8k_local", "exact_match,strict-match", 40),
        ("gsm8k_local", "exact_match,flexible-extract", 40),
    ]
    assert {score.value for score in scores} == {sum(right) / len(rows)}
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file() and KEY in path.read_text("latin-1")]
    # A finished folder is read, and nobody is asked: there is no such endpoint.
    assert run_tasks(replace(evaluated, urls=["http://127.0.0.1:9/v1"])) == scores


SPELLINGS = {
    # What the model says; the reference answer; right for lm-eval's strict match, its flexible one, and us.
    "So 3 * 6 = 18.\n#### 18": ("18", True, True, True),
    "That makes $1,234.\n#### 1,234": ("1234", True, True, True),
    "#### 18.00": ("18", False, False, True),
    "#### $18": ("18", False, True, True),
    "####18": ("18", False, True, True),
    "The answer is 18.": ("18", False, True, True),
    "The answer is -5.": ("-5", False, True, True),
    "Therefore it is \\boxed{18}, from 2 boxes.": ("18", False, False, True),
    "#### 17": ("18", False, False, False),
    "#### 18, which is 36 / 2": ("18", True, False, True),
    "The answer is 18...": ("18", False, False, True),
    "#### 3\nNo, wait.\n#### 18": ("18", False, True, True),
    "I would rather not say.": ("18", False, False, False),
}


class Scripted:
    """An OpenAI-compatible endpoint: question N gets the N-th spelling, and each token has a known log-probability.

    It ends after `lasts` answers, like a server that is killed.
    """

    def __init__(self, port: int = 0, lasts: int = 10**9) -> None:
        self.answered: list[str] = []
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.say({"data": [{"id": "base", "max_model_len": 512}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if len(scripted.answered) >= lasts:
                    threading.Thread(target=scripted.end).start()
                    self.close_connection = True
                    return
                if self.path == "/v1/chat/completions":
                    asked = body["messages"][-1]["content"]
                    text = list(SPELLINGS)[int(asked.split()[1])]
                    answer: dict[str, Any] = {"message": {"role": "assistant", "content": text}}
                else:
                    (ids,) = body["prompt"]
                    asked = str(ids)
                    every = [-token / 100 for token in [*ids, 0]]
                    top = [{str(token): value} for token, value in zip([*ids, 0], every, strict=True)]
                    answer = {"logprobs": {"token_logprobs": every, "top_logprobs": top}}
                scripted.answered.append(asked)
                self.say({"choices": [{"index": 0, "finish_reason": "stop", **answer}]})

            def say(self, reply: dict[str, Any]) -> None:
                payload = json.dumps(reply).encode()
                self.send_response(200 if self.headers["Authorization"] == f"Bearer {KEY}" else 401)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def end(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def write_tokenizer(folder: Path, words: Sequence[str]) -> None:
    """A tokenizer with one token per word, in this order from 1."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    folder.mkdir()
    tokenizer = Tokenizer(WordLevel({"?": 0} | {word: n for n, word in enumerate(words, 1)}, unk_token="?"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "?", "eos_token": "?", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))


@needs_lm_eval
@pytest.mark.timeout(900)
def test_a_killed_server_costs_no_answers_and_each_kind_of_task_is_asked_its_own_way(tmp_path: Path, key: None) -> None:
    rows = [(f"Question {n} is what?", final) for n, (final, *_) in enumerate(SPELLINGS.values())]
    write_gsm8k(tmp_path / "tasks", rows)
    # The likelier option is the one whose word has the smaller number: two of three are right.
    write_choices(tmp_path / "tasks", [("Which", ["a", "b"], 0), ("Who", ["c", "b"], 1), ("What", ["a", "c"], 1)])
    write_tokenizer(tmp_path / "tokenizer", ["a", "b", "c", "Which", "Who", "What"])
    tasks = ["choices_local", "gsm8k_local"]
    first = Scripted(lasts=4)
    asked = job(tmp_path / "out", first.url, tasks=tasks, include_path=str(tmp_path / "tasks"))
    asked.concurrency = 2
    with pytest.raises(EngineDied):
        run_tasks(asked, str(tmp_path / "tokenizer"))
    assert not (tmp_path / "out" / "harness.json").exists()

    second = Scripted(first.port)
    scores = run_tasks(asked, str(tmp_path / "tokenizer"))
    second.end()
    assert len(first.answered) == 4
    assert len(second.answered) == len(SPELLINGS) + 6 - 4
    assert not set(first.answered) & set(second.answered)

    theirs = verdicts(tmp_path / "out")
    found = {
        said: (final, theirs[question, "strict-match"][1], theirs[question, "flexible-extract"][1], ours(said, final))
        for (question, final), said in zip(rows, SPELLINGS, strict=True)
    }
    assert found == SPELLINGS
    for said, (final, strict, flexible, _) in SPELLINGS.items():
        # The box is ours: lm-eval's gsm8k does not know it.
        assert strict_match(said, final) is strict or "boxed" in said
        assert flexible_match(said, final) is flexible
    strict, flexible = (sum(verdict[place] for verdict in SPELLINGS.values()) / len(SPELLINGS) for place in (1, 2))
    assert {(score.task, score.metric): (score.value, score.n) for score in scores} == {
        ("choices_local", "acc,none"): (2 / 3, 3),
        ("gsm8k_local", "exact_match,strict-match"): (strict, len(SPELLINGS)),
        ("gsm8k_local", "exact_match,flexible-extract"): (flexible, len(SPELLINGS)),
    }
    assert not (tmp_path / "out" / "harness" / "cache").exists()


@needs_lm_eval
@pytest.mark.timeout(900)
def test_two_replicas_share_the_tasks_and_the_scores_are_those_of_one(tmp_path: Path, key: None) -> None:
    rows = [(f"Question {n} is what?", final) for n, (final, *_) in enumerate(SPELLINGS.values())]
    write_gsm8k(tmp_path / "tasks", rows)
    write_choices(tmp_path / "tasks", [("Which", ["a", "b"], 0), ("Who", ["c", "b"], 1), ("What", ["a", "c"], 1)])
    write_tokenizer(tmp_path / "tokenizer", ["a", "b", "c", "Which", "Who", "What"])
    scores = []
    for count in (1, 2):
        replicas = [Scripted() for _ in range(count)]
        asked = job(tmp_path / str(count), tasks=["choices_local", "gsm8k_local"], include_path=str(tmp_path / "tasks"))
        asked.urls, asked.concurrency = [replica.url for replica in replicas], 4
        scores.append(run_tasks(asked, str(tmp_path / "tokenizer")))
        for replica in replicas:
            replica.end()
            assert replica.answered
        assert sum(len(replica.answered) for replica in replicas) == len(SPELLINGS) + 6, "nothing is asked twice"
    assert scores[0] == scores[1]


@needs_lm_eval
def test_a_misspelt_task_is_refused_with_similar_names(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"lm-eval has no task 'arc_chalenge'; did you mean arc_challenge"):
        find_tasks(HarnessConfig(tasks=["gsm8k", "arc_chalenge"], python=LM_EVAL), tmp_path)


@needs_lm_eval
def test_names_stand_for_what_the_installed_lm_eval_says(tmp_path: Path) -> None:
    names = ["mmlu", "ifeval", "truthfulqa_mc2", "humaneval"]
    config = HarnessConfig(tasks=names, python=LM_EVAL, arguments=["--confirm_run_unsafe_code"])
    found = find_tasks(config, tmp_path)
    assert len(found["mmlu"]) == 57
    assert {task.data for task in found["mmlu"]} == {"cais/mmlu"}
    assert found["ifeval"] == [Leaf("ifeval", "generate_until", "google/IFEval", unsafe=False)]
    assert divide(found, chat=True) == {
        "local-completions": ["mmlu", "truthfulqa_mc2"],
        "local-chat-completions": ["ifeval", "humaneval"],
    }
    assert [name for name in names if any(task.unsafe for task in found[name])] == ["humaneval"]


@needs_lm_eval
def test_a_data_set_that_cannot_be_had_is_named(
    tmp_path: Path, fake_engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    with pytest.raises(Missing, match=r"gsm8k needs the data set openai/gsm8k, .* HF_HOME"):
        run_tasks(job(tmp_path / "out", fake_engine, tasks=["gsm8k"]))


@pytest.fixture
def real_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """vLLM's server with the packaged model, as the loop starts it on a CPU; its model is called `base`."""
    model = ModelConfig(path=str(packaged_model()), dtype=Dtype.float32, context=1024)
    keep = WhileTraining.keep
    serving = ServingConfig(child=Child.reload, while_training=keep, concurrency=8, cpu_cache_gib=1, eager=True)
    server = Server(serving, model, TrainConfig(), LocalLaunch(), "base", tmp_path / "logs" / "server.log")
    try:
        endpoint = server.serve(Checkpoint("base", 0, "base", weights=model.path))
        monkeypatch.setenv("CRESCENT_API_KEY", endpoint.key)
        yield endpoint.urls[0]
    finally:
        server.stop()


@pytest.mark.real
@needs_lm_eval
@pytest.mark.timeout(1200)
def test_on_a_real_model_lm_eval_and_we_get_the_same_answers_and_the_same_numbers(
    tmp_path: Path, real_engine: str
) -> None:
    rows = [(f"What is {a} + {b}?", str(a + b)) for a, b in [(n % 7 + 1, n * 5 % 8 + 1) for n in range(12)]]
    write_gsm8k(tmp_path / "tasks", rows)
    (tmp_path / "data" / "gsm8k").mkdir(parents=True)
    (tmp_path / "data" / "gsm8k" / "test.jsonl").write_text((tmp_path / "tasks" / "gsm8k.jsonl").read_text())
    write_choices(
        tmp_path / "tasks",
        [("Which of them is a fruit?", ["apple", "hammer"], 0), ("Which of them is a tool?", ["apple", "hammer"], 1)],
    )
    tasks = ["choices_local", "gsm8k_local"]
    asked = job(tmp_path / "out", real_engine, tasks=tasks, include_path=str(tmp_path / "tasks"))
    asked.eval.benchmarks["gsm8k"] = BenchmarkConfig(split=Split.test)
    asked.eval.data = str(tmp_path / "data")
    (ours_score,) = run(asked)
    scores = {(score.task, score.metric): score for score in run_tasks(asked)}

    theirs = verdicts(tmp_path / "out")
    responses = read_lines(tmp_path / "out" / "responses.jsonl", Response)
    assert len(responses) == 12
    question_of = {PROMPT.format(question=question): question for question, _ in rows}
    for response in responses:
        question = question_of[response.prompt]
        assert theirs[question, "strict-match"] == (response.text, response.strict)
        assert theirs[question, "flexible-extract"] == (response.text, response.flexible)
    assert scores["gsm8k_local", "exact_match,strict-match"].value == (ours_score.strict or 0) / 12
    assert scores["gsm8k_local", "exact_match,flexible-extract"].value == (ours_score.flexible or 0) / 12

    # The log-probabilities of options are those of their tokens, as the server says them one prompt at a time.
    (samples,) = (tmp_path / "out" / "harness").rglob("samples_choices_local_*.jsonl")
    for sample in map(json.loads, samples.read_text().splitlines()):
        for said, (response,) in zip(sample["arguments"].values(), sample["resps"], strict=True):
            alone = log_probability(real_engine, said["arg_0"], said["arg_1"])
            assert float(response[0]) == pytest.approx(alone, abs=1e-3)


def log_probability(url: str, context: str, continuation: str) -> float:
    import httpx
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(packaged_model() / "tokenizer.json"))
    before, ids = (tokenizer.encode(text, add_special_tokens=False).ids for text in (context, context + continuation))
    body = {"model": "base", "prompt": ids, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
    headers = {"Authorization": f"Bearer {os.environ['CRESCENT_API_KEY']}"}
    reply = httpx.post(f"{url}/completions", json=body, headers=headers, timeout=300).json()
    tokens = reply["choices"][0]["prompt_logprobs"]
    return sum(tokens[place][str(ids[place])]["logprob"] for place in range(len(before), len(ids)))
