"""Evaluation with an engine of ten lines, and its door against a server of thirty."""

import asyncio
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from crescent.config import (
    AnswerStyle,
    BaitConfig,
    BenchmarkConfig,
    Config,
    EvalConfig,
    EvalJob,
    Source,
    Split,
    TaskConfig,
    VerdictConfig,
    can_vote,
    style_of,
    write_job,
)
from crescent.engine.journal import Journal, Journaled
from crescent.errors import BadConfig
from crescent.records import Completion, Item, Request, Response, Score, read_lines, request_seed
from crescent.run_folder.stage_settings import stage_settings
from crescent.tasks import open_task, read_final
from eval.benchmarks.shots import Shot
from eval.evaluate import evaluate, show
from eval.progress import progress
from eval.reading import open_readers
from eval.scorers import interval

SUMS = EvalConfig(benchmarks={"dev": BenchmarkConfig(), "test": BenchmarkConfig(split=Split.test)})
TASK = TaskConfig(answer_prompt="{question}\nEnd with #### and the number.", answer_style=AnswerStyle.number)


def sums(count: int, benchmark: str = "dev") -> list[Item]:
    return [Item(f"{benchmark}-{n}", benchmark, f"What is {n} + 1?", str(n + 1)) for n in range(count)]


class Adder:
    """Answers `What is 3 + 1?`: wrong for the numbers in `wrong`, cut for those in `cut`, not at all for `silent`."""

    def __init__(self, wrong: tuple[int, ...] = (), cut: tuple[int, ...] = (), silent: tuple[int, ...] = ()) -> None:
        self.wrong, self.cut, self.silent = wrong, cut, silent
        self.asked: list[Request] = []
        self.dies_after = 10**9

    async def complete(self, request: Request) -> Completion:
        await asyncio.sleep(0)
        if len(self.asked) >= self.dies_after:
            raise ConnectionError("the engine is dead")
        self.asked.append(request)
        n = int(re.findall(r"What is (\d+)", request.prompt)[0])
        if n in self.silent:
            return Completion("I would rather not say.", "stop", 5)
        if n in self.cut:
            return Completion(f"Well, {n} plus {n + 1}", "length", 5)
        return Completion(f"#### {n + 1 + (n in self.wrong)}", "stop", 5)


def evaluated(engine: Any, items: list[Item], config: EvalConfig = SUMS) -> tuple[list[Response], list[Score]]:
    with open_readers(config.benchmarks, TASK, 5.0) as readers:
        return asyncio.run(evaluate(engine, items, config, TASK.answer_prompt, readers, seed=7))


def test_every_item_is_asked_once_greedily_with_a_seed_of_its_own() -> None:
    engine = Adder()
    evaluated(engine, sums(5) + sums(5, "test"))
    assert len({request.key for request in engine.asked}) == len(engine.asked) == 10
    assert {request.temperature for request in engine.asked} == {0.0}
    by_key = {request.key: request for request in engine.asked}
    assert by_key["eval/dev/dev-3"].seed == request_seed(7, "eval", "dev-3")
    assert by_key["eval/dev/dev-3"].prompt == "What is 3 + 1?\nEnd with #### and the number."


def test_responses_come_in_the_order_of_the_items_whichever_finishes_first() -> None:
    class SlowStarter(Adder):
        async def complete(self, request: Request) -> Completion:
            await asyncio.sleep(0.05 if "What is 0" in request.prompt else 0)
            return await super().complete(request)

    items = sums(6) + sums(4, "test")
    responses, scores = evaluated(SlowStarter(), items)
    assert [response.item for response in responses] == [item.id for item in items]
    assert [(score.benchmark, score.total, score.decides) for score in scores] == [("dev", 6, True), ("test", 4, False)]


def test_unparsed_responses_are_wrong_and_counted_apart() -> None:
    responses, scores = evaluated(Adder(wrong=(1, 2), cut=(3,), silent=(4,)), sums(10))
    assert (scores[0].correct, scores[0].unparsed, scores[0].total) == (6, 2, 10)
    assert [response.final for response in responses[:6]] == ["1", "3", "4", None, None, "6"]
    assert [response.correct for response in responses[:6]] == [True, False, False, False, False, True]
    assert scores[0].low < 0.6 < scores[0].high


@pytest.mark.parametrize(
    ("text", "final"),
    [
        ("3 + 4 = 7, and then 7 + 2", None),
        ("#### 7\n\nNow another question: what is 5 + 5? It is 1", "7"),
        ("The answer is 7. The answer is 7. The answer is", "7"),
        ("Let me add. The answer is 12", None),
        ("So \\boxed{7} is what we wanted, and 8", "7"),
        ("#### Step 1: add 3 and 4 to get 7", None),
        ("It is $x = 7$ and then", None),
        ("", None),
        ("#### 12\n", "12"),
        ("x" * 200_000 + " #### 7 and", "7"),
    ],
)
@pytest.mark.parametrize("style", [AnswerStyle.number, AnswerStyle.math])
def test_a_response_that_was_cut_counts_only_with_a_finished_marked_answer(
    text: str, final: str | None, style: AnswerStyle
) -> None:
    with open_task(TaskConfig(answer_style=style), 5.0) as task:
        assert read_final(Completion(text, "length", 9), task) == final


def test_a_refused_request_is_unparsed_whatever_its_message_says() -> None:
    with open_task(TASK, 5.0) as task:
        assert read_final(Completion("maximum context is 4096", "error", 0), task) is None
        assert read_final(Completion("maximum context is 4096", "stop", 0), task) == "4096"


def test_answers_are_compared_as_the_task_compares_them() -> None:
    class Formal:
        async def complete(self, request: Request) -> Completion:
            return Completion(r"\boxed{\frac{2}{4}}", "stop", 5)

    items = [Item("a", "dev", "Half?", "0.5"), Item("b", "dev", "A third?", "1/3")]
    responses, _ = evaluated(Formal(), items)
    assert [response.correct for response in responses] == [True, False]


def test_braces_in_a_question_stay_braces_and_those_of_the_template_are_escapes() -> None:
    engine = Adder()
    hostile = Item("h", "dev", "What is 1 + {0.__class__} {question} }} {{", "1")
    prompt = "Use {{x}}. {question}"
    evaluated(engine, [hostile], EvalConfig(benchmarks={"dev": BenchmarkConfig(prompt=prompt)}))
    assert engine.asked[0].prompt == "Use {x}. What is 1 + {0.__class__} {question} }} {{"


def test_an_interrupted_evaluation_asks_no_item_twice(tmp_path: Path) -> None:
    items = sums(30)
    dying = Adder()
    dying.dies_after = 12
    with Journal(tmp_path / "journal.jsonl") as journal, pytest.raises(ConnectionError, match="the engine is dead"):
        evaluated(Journaled(dying, journal), items)
    healthy = Adder()
    with Journal(tmp_path / "journal.jsonl") as journal:
        resumed = evaluated(Journaled(healthy, journal), items)
    asked_before, asked_after = ({request.key for request in engine.asked} for engine in (dying, healthy))
    assert len(dying.asked) == 12
    assert len(healthy.asked) == 18
    assert not asked_before & asked_after
    assert resumed == evaluated(Adder(), items)


def test_after_a_failure_nothing_is_asked_any_more() -> None:
    class Counting(Adder):
        under_way = 0

        async def complete(self, request: Request) -> Completion:
            if "What is 0 " in request.prompt:
                raise ConnectionError("dead")
            self.under_way += 1
            try:
                await asyncio.sleep(60)
            finally:
                self.under_way -= 1
            raise AssertionError("nobody waited for this")

    engine = Counting()
    with pytest.raises(ConnectionError):
        evaluated(engine, sums(5))
    assert engine.under_way == 0


def sampled(samples: int, temperature: float = 0.7) -> EvalConfig:
    return EvalConfig(benchmarks=SUMS.benchmarks, samples=samples, temperature=temperature)


class Moody(Adder):
    """Gets a sum wrong whenever its seed is odd."""

    async def complete(self, request: Request) -> Completion:
        right = await super().complete(request)
        return right if request.seed % 2 == 0 else Completion("#### 0", "stop", 5)


def test_each_item_is_asked_several_times_with_a_seed_for_each_time() -> None:
    engine = Adder()
    responses, scores = evaluated(engine, sums(5) + sums(5, "test"), sampled(4))
    assert len({request.key for request in engine.asked}) == len({request.seed for request in engine.asked}) == 40
    assert [(response.item, response.sample) for response in responses] == [
        (f"{benchmark}-{n}", sample) for benchmark in ("dev", "test") for n in range(5) for sample in range(4)
    ]
    assert [(score.total, score.samples, score.correct) for score in scores] == [(20, 4, 20), (20, 4, 20)]
    assert [(score.majority, score.pass_at) for score in scores] == [(1.0, {"1": 1.0, "2": 1.0, "4": 1.0})] * 2


def test_the_first_of_several_samples_is_asked_as_the_only_one_is() -> None:
    once, often = Adder(), Adder()
    evaluated(once, sums(3), sampled(1))
    evaluated(often, sums(3), sampled(3))
    assert {request.key for request in once.asked} == {"eval/dev/dev-0", "eval/dev/dev-1", "eval/dev/dev-2"}
    assert set(once.asked) < set(often.asked)
    assert {request.key for request in often.asked if "dev-2" in request.key} == {
        "eval/dev/dev-2",
        "eval/dev/dev-2/1",
        "eval/dev/dev-2/2",
    }


def test_accuracy_over_samples_is_their_mean_and_its_interval_is_as_wide_as_so_few_items_make_it() -> None:
    responses, scores = evaluated(Moody(), sums(40), sampled(8))
    rights = [sum(response.correct for response in responses if response.item == f"dev-{n}") for n in range(40)]
    found = scores[0]
    assert found.accuracy == sum(rights) / 320
    assert found.majority == sum(right > 4 for right in rights) / 40, (
        "its wrong answers are all the same; 4 : 4 is a tie"
    )
    assert found.pass_at["8"] == sum(right > 0 for right in rights) / 40
    assert (found.low, found.high) == pytest.approx(interval(rights, 8))


def test_a_benchmark_can_be_asked_in_a_way_of_its_own() -> None:
    greedy = BenchmarkConfig(split=Split.test, temperature=0.0, samples=1)
    config = EvalConfig(benchmarks={"dev": BenchmarkConfig(), "test": greedy}, samples=4, temperature=0.7)
    engine = Adder()
    responses, scores = evaluated(engine, sums(3) + sums(3, "test"), config)
    assert {(request.key.split("/")[1], request.temperature) for request in engine.asked} == {
        ("dev", 0.7),
        ("test", 0.0),
    }
    assert [(score.total, score.samples) for score in scores] == [(12, 4), (3, 1)]
    assert Counter(response.benchmark for response in responses) == {"dev": 12, "test": 3}
    assert [score.majority is None for score in scores] == [False, True]


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (
            {"samples": 3},
            r"eval\.benchmarks\.test\.samples=3: greedy samples .* or eval\.benchmarks\.test\.temperature=0\.6",
        ),
        ({"samples": 0}, r"samples=0: at least 1, or null"),
        ({"temperature": 3.0}, r"temperature=3\.0: must lie in \[0, 2\]"),
        ({"temperature": 0.0, "samples": 8}, r"eval\.benchmarks\.test\.samples=8: greedy samples"),
    ],
)
def test_a_way_of_its_own_that_makes_no_sense_is_refused(own: dict[str, Any], message: str) -> None:
    several = {} if own.get("samples") == 3 else {"samples": 8, "temperature": 1.0}
    with pytest.raises(BadConfig, match=message):
        EvalConfig(benchmarks={"test": BenchmarkConfig(**own)}, **several)


def test_items_do_not_depend_on_how_they_are_asked() -> None:
    plain, own = (
        Config(bait=BaitConfig(prompts={"plain": "Ask."}), eval=EvalConfig(benchmarks={"dev": BenchmarkConfig(**more)}))
        for more in ({}, {"temperature": 1.0, "samples": 8})
    )
    assert stage_settings(plain, "benchmarks") == stage_settings(own, "benchmarks")
    assert stage_settings(plain, "eval") != stage_settings(own, "eval")


def test_several_greedy_samples_are_refused_with_the_fix() -> None:
    with pytest.raises(
        BadConfig, match=r"eval\.samples=4: greedy samples .* are all the same; set eval\.temperature=0\.6"
    ):
        EvalConfig(samples=4)
    with pytest.raises(BadConfig, match=r"eval\.samples=0: each item is asked at least once"):
        EvalConfig(samples=0)


def test_an_interrupted_evaluation_of_several_samples_asks_none_twice(tmp_path: Path) -> None:
    dying, healthy = Moody(), Moody()
    dying.dies_after = 17
    with Journal(tmp_path / "journal.jsonl") as journal, pytest.raises(ConnectionError):
        evaluated(Journaled(dying, journal), sums(10), sampled(4))
    with Journal(tmp_path / "journal.jsonl") as journal:
        resumed = evaluated(Journaled(healthy, journal), sums(10), sampled(4))
    assert (len(dying.asked), len(healthy.asked)) == (17, 23)
    assert not {request.key for request in dying.asked} & {request.key for request in healthy.asked}
    assert resumed == evaluated(Moody(), sums(10), sampled(4))


def test_a_journal_of_single_answers_serves_when_more_samples_are_wanted(tmp_path: Path) -> None:
    first, more = Adder(), Adder()
    with Journal(tmp_path / "journal.jsonl") as journal:
        evaluated(Journaled(first, journal), sums(10), sampled(1))
        evaluated(Journaled(more, journal), sums(10), sampled(3))
    assert (len(first.asked), len(more.asked)) == (10, 20)


def test_the_three_scores_of_each_response_are_kept_beside_each_other() -> None:
    says = {
        "a": Completion("2 + 2 = 4\n#### 4", "stop", 5),
        "b": Completion("The answer is 4, from 2 and 2.", "stop", 5),
        "c": Completion("So it is 4.", "stop", 5),
        "d": Completion("\\boxed{4} is more than 3.", "stop", 5),
        "e": Completion("context is 4", "error", 0),
        "f": Completion("First 2 + 2 = 4", "length", 5),
        "g": Completion("#### 4\nThen 2 + 5 is", "length", 5),
    }

    class Reciter:
        async def complete(self, request: Request) -> Completion:
            return says[request.prompt[0]]

    responses, scores = evaluated(Reciter(), [Item(letter, "dev", letter, "4") for letter in says])
    assert [(response.strict, response.flexible, response.correct) for response in responses] == [
        (True, True, True),
        (False, False, True),
        (False, True, True),
        (True, False, True),
        (False, False, False),
        (False, True, False),
        (True, False, True),
    ]
    assert (scores[0].strict, scores[0].flexible, scores[0].correct, scores[0].unparsed) == (3, 3, 5, 2)


def test_lettered_options_have_no_strict_and_no_flexible_score() -> None:
    config = EvalConfig(benchmarks={"arc": BenchmarkConfig(source=Source.arc_challenge)})

    class Chooser:
        async def complete(self, request: Request) -> Completion:
            return Completion("#### B", "stop", 5)

    with open_readers(config.benchmarks, TaskConfig(answer_style=AnswerStyle.choice), 5.0) as readers:
        question = "Which?\nA. this\nB. that"
        item = Item("a", "arc", question, "B")
        responses, scores = asyncio.run(evaluate(Chooser(), [item], config, "{question}", readers, seed=7))
    assert (responses[0].correct, responses[0].strict, responses[0].flexible) == (True, None, None)
    assert (scores[0].strict, scores[0].flexible) == (None, None)


def answered(text: str, target: str, benchmark: BenchmarkConfig, task: TaskConfig) -> tuple[str | None, bool]:
    """What is read of one response to the benchmark, in a run with this task, and whether it is right."""

    class Reciter:
        async def complete(self, request: Request) -> Completion:
            return Completion(text, "stop", 5)

    config = EvalConfig(benchmarks={"mine": benchmark})
    with open_readers(config.benchmarks, task, 5.0) as readers:
        items = [Item("a", "mine", "How many?", target)]
        (response,), _ = asyncio.run(evaluate(Reciter(), items, config, "{question}", readers, seed=7))
    return response.final, response.correct


MATH = TaskConfig(answer_style=AnswerStyle.math)


@pytest.mark.parametrize("source", [Source.gsm8k, Source.gsm_plus, Source.asdiv, Source.svamp, Source.mawps])
def test_word_problems_are_read_as_numbers_whatever_the_run_is_about(source: Source) -> None:
    benchmark = BenchmarkConfig(source, split=Split.test, family="singleop" if source is Source.mawps else None)
    text = "With $x = 3$ a day they need 7 days."
    assert answered(text, "7", benchmark, MATH) == ("7", True)
    assert answered(text, "3", replace(benchmark, style=AnswerStyle.math), MATH) == ("x = 3", True)


def test_formulas_are_read_as_formulas_whatever_the_run_is_about() -> None:
    text = "So it is $x^2 + 1$, as 2 of them are."
    assert answered(text, "x^2+1", BenchmarkConfig(Source.math500), TASK) == ("x^2 + 1", True)


def test_a_benchmark_with_a_prompt_of_its_own_may_have_another_kind_of_answer() -> None:
    prompt = "{question} Give the letter."
    options = BenchmarkConfig(Source.arc_challenge, prompt=prompt)
    assert answered("The answer is (B), of 4.", "B", options, MATH) == ("B", True)
    program = "```python\ndef half(x):\n    return x // 2\n```"
    programs = BenchmarkConfig(Source.mbpp, prompt=prompt)
    assert answered(program, "assert half(4) == 2", programs, MATH)[1]
    assert not answered(program, "assert half(4) == 3", programs, MATH)[1]
    run = Config(
        bait=BaitConfig(prompts={"mine": "Ask something."}),
        eval=EvalConfig({"gsm8k": BenchmarkConfig(), "arc": options}, reliability=5),
        task=MATH,
    )
    assert [name for name, benchmark in run.eval.benchmarks.items() if can_vote(benchmark, run.task)] == ["gsm8k"]


def test_generated_sums_are_numbers_and_other_families_are_read_as_the_run_reads() -> None:
    def generated(family: str) -> BenchmarkConfig:
        return BenchmarkConfig(Source.reasoning_gym, family=family, items=1)

    choice = TaskConfig(answer_style=AnswerStyle.choice)
    assert {style_of(generated("chain_sum"), task) for task in (MATH, TASK, choice)} == {AnswerStyle.number}
    assert style_of(generated("polynomial_multiplication"), MATH) is AnswerStyle.math
    assert style_of(generated("polynomial_multiplication"), TASK) is AnswerStyle.number
    assert style_of(generated("polynomial_multiplication"), choice) is AnswerStyle.math


def test_a_style_that_cannot_read_the_reference_answers_is_refused() -> None:
    with pytest.raises(BadConfig, match=r"style=choice: cannot read .* source=gsm8k; use number or math, or leave"):
        BenchmarkConfig(Source.gsm8k, style=AnswerStyle.choice)
    with pytest.raises(BadConfig, match=r"style=number: .* source=math500"):
        BenchmarkConfig(Source.math500, style=AnswerStyle.number)


@pytest.mark.parametrize("stage", ["eval", "reliability"])
def test_a_benchmarks_style_is_a_setting_of_the_stages_that_read_answers_where_it_is_not_the_tasks(stage: str) -> None:
    def style(task: TaskConfig, benchmark: BenchmarkConfig) -> str:
        prompts = BaitConfig(prompts={"mine": "Ask something."})
        run = Config(bait=prompts, eval=EvalConfig({"mine": benchmark}, reliability=5), task=task)
        assert "style" not in stage_settings(run, "benchmarks")["eval"]["benchmarks"]["mine"]
        found = stage_settings(run, stage)["eval"]["benchmarks"]["mine"]
        # Without the key the settings are those of a run from before benchmarks had styles: it resumes.
        return str(found.get("style", "absent"))

    assert style(TASK, BenchmarkConfig()) == "absent"
    assert style(TASK, BenchmarkConfig(style=AnswerStyle.number)) == "absent"
    assert style(TASK, BenchmarkConfig(style=AnswerStyle.math)) == "math"
    assert style(MATH, BenchmarkConfig()) == "number"
    assert style(MATH, BenchmarkConfig(style=AnswerStyle.math)) == "absent"
    assert style(MATH, BenchmarkConfig(Source.math500)) == "absent"
    assert style(TASK, BenchmarkConfig(Source.math500)) == "math"


def test_shots_stand_before_each_item_and_a_further_question_ends_the_response() -> None:
    engine = Adder()
    shots = [Shot("s", "What is 1 + 1?", "It is 1 + 1 = 2.\n#### 2")]
    with open_readers(SUMS.benchmarks, TASK, 5.0) as readers:
        items = [*sums(1), *sums(1, "test")]
        asyncio.run(evaluate(engine, items, SUMS, TASK.answer_prompt, readers, seed=7, shots={"test": shots}))
    plain, shown = sorted(engine.asked, key=lambda request: request.key)
    assert (plain.prompt, plain.stop) == ("What is 0 + 1?\nEnd with #### and the number.", ())
    assert shown.prompt == (
        "Question: What is 1 + 1?\nAnswer: It is 1 + 1 = 2.\n#### 2\n\nQuestion: What is 0 + 1?\nAnswer:"
    )
    assert shown.stop == ("\nQuestion:",)


def test_responses_and_scores_of_older_runs_are_still_read() -> None:
    old = b'{"item":"a","benchmark":"dev","prompt":"q","text":"t","final":"1","target":"1","correct":true,'
    response = msgspec.json.decode(old + b'"finish_reason":"stop","tokens":3}', type=Response)
    assert (response.sample, response.strict, response.flexible) == (0, None, None)
    score = b'{"benchmark":"dev","correct":1,"unparsed":0,"total":2,"low":0.1,"high":0.9}'
    assert msgspec.json.decode(score, type=Score).samples == 1


def test_the_table_shows_the_three_scores_and_with_several_samples_what_voting_gives() -> None:
    numbers = Score("gsm8k", 60, 2, 100, 0.5, 0.7, False, strict=40, flexible=55)
    options = Score("arc", 3, 0, 10, 0.1, 0.6)
    console = Console(record=True, width=140, file=io.StringIO())
    show([numbers, options], console)
    table = console.export_text()
    assert re.search(r"gsm8k +│ test +│ +60\.0% │ \[50\.0, 70\.0\] │ +40\.0% │ +55\.0% │ +60 │ +2 │ +100 ", table)
    assert re.search(r"arc +│ dev +│ +30\.0% │ [^│]+ │ +– │ +– │ +3 │ +0 │ +10 ", table)
    assert "maj@" not in table
    voted = Score("gsm8k", 60, 2, 100, 0.5, 0.7, samples=4, majority=0.72, pass_at={"1": 0.6, "2": 0.7, "4": 0.84})
    show([voted], console)
    table = console.export_text()
    assert "maj@4" in table
    assert re.search(r" 72\.0% │ +84\.0% │ +– │ +– │ +60 │ +2 │ +25 ", table)
    show([], console)


def test_progress_is_reported_at_most_once_a_second_and_at_the_end(tmp_path: Path) -> None:
    report = progress(tmp_path / "progress.jsonl", total=1000)
    for done in range(1, 1001):
        report(done)
    lines = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert lines[0] == {"done": 1, "total": 1000}
    assert lines[-1] == {"done": 1000, "total": 1000}
    assert len(lines) < 10


class Endpoint:
    """An OpenAI-compatible server around the sums; counts its requests."""

    def __init__(self) -> None:
        endpoint = self
        self.requests = 0

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                n = int(re.findall(r"(\d+) figs", body["messages"][0]["content"])[-1])
                endpoint.requests += 1
                message = {"role": "assistant", "content": f"#### {n}"}
                reply = {
                    "id": "x",
                    "object": "chat.completion",
                    "created": 0,
                    "model": body["model"],
                    "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
                }
                payload = json.dumps(reply).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    thread = threading.Thread(target=endpoint.server.serve_forever, daemon=True)
    thread.start()
    yield endpoint
    endpoint.server.shutdown()
    endpoint.server.server_close()
    thread.join()


def door(job: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "100"}
    command = [sys.executable, "-P", "-m", "eval", *options, str(job)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def svamp_job(folder: Path, endpoint: Endpoint) -> EvalJob:
    problems = [{"Body": f"Bo had {n} figs.", "Question": "How many?", "Answer": float(n)} for n in range(40)]
    (folder / "data" / "svamp").mkdir(parents=True)
    (folder / "data" / "svamp" / "SVAMP.json").write_text(json.dumps(problems))
    benchmarks = {
        "svamp_dev": BenchmarkConfig(source=Source.svamp, items=10),
        "svamp_test": BenchmarkConfig(source=Source.svamp, items=5, split=Split.test),
    }
    config = EvalConfig(benchmarks=benchmarks, data=str(folder / "data"))
    return EvalJob(eval=config, task=TASK, urls=[endpoint.url], model="fake", output=str(folder / "out"))


def test_the_door_writes_responses_scores_and_counts_and_asks_nothing_the_second_time(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    write_job(tmp_path / "job.yaml", svamp_job(tmp_path, endpoint))
    first = door(tmp_path / "job.yaml")
    assert first.returncode == 0, first.stderr
    assert endpoint.requests == 15
    out = tmp_path / "out"
    responses = read_lines(out / "responses.jsonl", Response)
    assert [response.benchmark for response in responses] == ["svamp_dev"] * 10 + ["svamp_test"] * 5
    assert all(response.correct for response in responses)
    scores = json.loads((out / "scores.json").read_text())
    assert [(score["benchmark"], score["correct"], score["total"], score["decides"]) for score in scores] == [
        ("svamp_dev", 10, 10, True),
        ("svamp_test", 5, 5, False),
    ]
    assert json.loads((out / "benchmarks.json").read_text())["svamp_dev"]["items"] == 10
    assert json.loads((out / "progress.jsonl").read_text().splitlines()[-1]) == {"done": 15, "total": 15}
    assert not (out / "journal.jsonl").exists()
    second = door(tmp_path / "job.yaml")
    assert (second.returncode, second.stdout, endpoint.requests) == (0, first.stdout, 15)
    assert "svamp_dev" in second.stdout


def test_the_door_asks_several_samples_after_shots_that_are_written_down(tmp_path: Path, endpoint: Endpoint) -> None:
    job = svamp_job(tmp_path, endpoint)
    job.eval.samples, job.eval.temperature = 3, 0.7
    job.eval.benchmarks["svamp_test"].shots = 2
    write_job(tmp_path / "job.yaml", job)
    asked = door(tmp_path / "job.yaml")
    assert asked.returncode == 0, asked.stderr
    assert endpoint.requests == 45
    assert "maj@3" in asked.stdout
    out = tmp_path / "out"
    responses = read_lines(out / "responses.jsonl", Response)
    assert Counter((response.benchmark, response.sample) for response in responses) == {
        **{("svamp_dev", sample): 10 for sample in range(3)},
        **{("svamp_test", sample): 5 for sample in range(3)},
    }
    assert all(response.correct and response.strict and response.flexible for response in responses)
    scores = json.loads((out / "scores.json").read_text())
    assert [(score["total"], score["samples"], score["strict"], score["majority"]) for score in scores] == [
        (30, 3, 30, 1.0),
        (15, 3, 15, 1.0),
    ]
    written = json.loads((out / "benchmarks.json").read_text())
    assert (written["svamp_dev"]["shots"], len(written["svamp_test"]["shots"])) == ([], 2)
    shown = next(response.prompt for response in responses if response.benchmark == "svamp_test")
    assert (shown.count("Question: "), shown.count("#### ")) == (3, 2)
    assert json.loads((out / "progress.jsonl").read_text().splitlines()[-1]) == {"done": 45, "total": 45}


def test_without_a_usable_item_nothing_is_asked_and_without_a_benchmark_there_is_nothing_to_ask(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    job = svamp_job(tmp_path, endpoint)
    (tmp_path / "data" / "svamp" / "SVAMP.json").write_text('[{"Body": "B", "Question": "Q?", "Answer": "many"}]')
    write_job(tmp_path / "job.yaml", job)
    unusable = door(tmp_path / "job.yaml")
    assert unusable.returncode == 65
    assert "svamp (dev) has no usable item" in unusable.stderr
    job.eval.benchmarks.clear()
    write_job(tmp_path / "job.yaml", job)
    nothing = door(tmp_path / "job.yaml")
    assert (nothing.returncode, endpoint.requests) == (0, 0), nothing.stderr
    assert json.loads((tmp_path / "out" / "scores.json").read_text()) == []


def test_the_door_lists_all_items_chosen_or_not_and_asks_nothing(tmp_path: Path, endpoint: Endpoint) -> None:
    job = svamp_job(tmp_path, endpoint)
    small = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
    sums = BenchmarkConfig(Source.reasoning_gym, items=4, family="chain_sum", options=small)
    job.eval.benchmarks["sums"] = sums
    write_job(tmp_path / "job.yaml", job)
    listed = door(tmp_path / "job.yaml", "--items")
    assert listed.returncode == 0, listed.stderr
    items = read_lines(tmp_path / "out" / "items.jsonl", Item)
    counts = Counter(item.benchmark for item in items)
    assert counts["sums"] == 4
    assert counts["svamp_dev"] + counts["svamp_test"] == 40
    assert counts["svamp_dev"] > 10
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["items.jsonl"]
    assert endpoint.requests == 0
    job.eval.benchmarks["gsm8k"] = BenchmarkConfig()
    write_job(tmp_path / "job.yaml", job)
    missing = door(tmp_path / "job.yaml", "--items")
    assert missing.returncode == 69
    assert "gsm8k/train.jsonl" in missing.stderr


def test_the_door_shows_errors_without_a_traceback(tmp_path: Path, endpoint: Endpoint) -> None:
    missing = door(tmp_path / "nowhere.yaml")
    assert missing.returncode == 2
    assert "no such job file" in missing.stderr
    job = svamp_job(tmp_path, endpoint)
    job.eval.benchmarks["gsm8k"] = BenchmarkConfig()
    write_job(tmp_path / "job.yaml", job)
    offline = door(tmp_path / "job.yaml")
    assert offline.returncode == 69
    assert "gsm8k/train.jsonl" in offline.stderr
    assert "Traceback" not in missing.stderr + offline.stderr
    assert endpoint.requests == 0


def configured(source: Source, style: AnswerStyle, reliability: int = 0) -> Config:
    inputs = "Inputs of {question}?" if style is AnswerStyle.code else None
    # GSM-Plus has no dev items, so a second benchmark that the task reads is there to decide.
    split = Split.test if source is Source.gsm_plus else Split.dev
    benchmarks = {"mine": BenchmarkConfig(source=source, split=split, family="f", items=3)}
    if split is Split.test:
        benchmarks["dev"] = BenchmarkConfig(source=Source.gsm8k)
    return Config(
        bait=BaitConfig(prompts={"mine": "Ask something."}),
        eval=EvalConfig(benchmarks=benchmarks, reliability=reliability),
        task=TaskConfig(answer_style=style, inputs_prompt=inputs),
        verdict=VerdictConfig(),
    )


@pytest.mark.parametrize(
    ("source", "style", "fix"),
    [
        (Source.arc_challenge, AnswerStyle.number, "use task=multiple_choice, or one of reasoning_gym, gsm8k"),
        (Source.mmlu, AnswerStyle.code, "use task=multiple_choice, or one of mbpp"),
        (Source.mbpp, AnswerStyle.math, "use task=code, or one of reasoning_gym"),
        (Source.gsm8k, AnswerStyle.choice, "use task=math, or one of arc_challenge, mmlu as source"),
    ],
)
def test_a_benchmark_the_task_cannot_read_is_refused_with_both_keys_and_the_fix(
    source: Source, style: AnswerStyle, fix: str
) -> None:
    with pytest.raises(BadConfig) as refused:
        configured(source, style)
    assert f"eval.benchmarks.mine.source={source.value}" in str(refused.value)
    assert f"task.answer_style={style.value}" in str(refused.value)
    assert fix in str(refused.value)
    task = TaskConfig(answer_style=style, inputs_prompt="{question}" if style is AnswerStyle.code else None)
    with pytest.raises(BadConfig, match=r"eval\.benchmarks\.mine\.source"):
        EvalJob(EvalConfig({"mine": BenchmarkConfig(source=source)}), task, urls=[], model="m", output="out")


def test_every_source_has_a_task_that_reads_it() -> None:
    # Only people's own sets have answers in words.
    readable = {AnswerStyle.choice: ("arc_challenge", "mmlu"), AnswerStyle.code: ("mbpp",), AnswerStyle.text: ()}
    words = ("reasoning_gym", "gsm8k", "asdiv", "svamp", "mawps", "gsm_plus")
    for style in AnswerStyle:
        for source in readable.get(style, words):
            configured(Source[source], style)
    for style in (AnswerStyle.math, AnswerStyle.number):
        configured(Source.math500, style)
