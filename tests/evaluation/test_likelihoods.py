"""Likelihoods of reference answers, asked over HTTP as of vLLM."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from crescent.config import BenchmarkConfig, EvalConfig, Source, Split
from crescent.engine.client import Client
from crescent.engine.fakes import FakeEngine
from crescent.errors import BadConfig
from crescent.judging.likelihood import Likelihood
from crescent.records import Item
from eval.benchmarks import Benchmark
from eval.likelihoods import score_likelihoods


class WithoutLogprobs(FakeEngine):
    """An endpoint that ignores what it does not know."""

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return super().answer(path, {name: value for name, value in body.items() if name != "prompt_logprobs"})


@contextmanager
def serving(kind: type[FakeEngine]) -> Iterator[FakeEngine]:
    """A fake engine in a thread; its base adds with skill 0.9, its adapter `weak` with 0.1."""
    served = kind("fake:0.9", 0, "base")
    served.adapters["weak"] = 0.1
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    monkeypatch.setenv("VLLM_API_KEY", "key")
    with serving(FakeEngine) as served:
        yield served


def client_of(engine: FakeEngine, model: str) -> Client:
    return Client([f"http://127.0.0.1:{engine.server_address[1]}/v1"], model, "key", 1, 30)


def items(count: int) -> Benchmark:
    found = [Item(f"i{number}", "sums", f"What is {number} + 7?", str(number + 7)) for number in range(10, 10 + count)]
    return Benchmark(tuple(found), 0, 0)


def config(likelihood: int = 5) -> EvalConfig:
    sums = BenchmarkConfig(Source.reasoning_gym, Split.test, 20, family="basic_arithmetic", likelihood=likelihood)
    return EvalConfig(benchmarks={"sums": sums})


def scored(engine: FakeEngine, model: str, cfg: EvalConfig, count: int = 20) -> list[Likelihood]:
    async def ask() -> list[Likelihood]:
        async with client_of(engine, model) as client:
            return await score_likelihoods(client, {"sums": items(count)}, cfg, "{question}")

    return asyncio.run(ask())


def test_a_better_model_finds_more_reference_answers_most_likely(engine: FakeEngine) -> None:
    strong, weak = scored(engine, "base", config()), scored(engine, "weak", config())
    assert len(strong) == len(weak) == 20
    assert strong[0].candidates == ("17", "18", "16", "27", "7", "19")
    assert sum(found.is_most_likely for found in strong) > 12 > 8 > sum(found.is_most_likely for found in weak)
    assert scored(engine, "base", config()) == strong, "nothing is drawn"


class Letters:
    """Gives every character the log-probability -1, and nothing to choose between answers of one length."""

    async def log_probabilities(self, prompt: str, reply: str) -> list[tuple[int, float | None]]:
        return [(ord(character), -1.0) for character in prompt + reply]


def test_a_number_that_begins_with_another_one_is_compared_as_a_whole() -> None:
    eleven = Benchmark((Item("a", "sums", "What is 4 + 7?", "11"),), 0, 0)
    (found,) = asyncio.run(score_likelihoods(Letters(), {"sums": eleven}, config(likelihood=4), "{question}"))
    assert found.candidates == ("11", "12", "10", "21", "1")
    assert found.log_probabilities == (-3.0, -3.0, -3.0, -3.0, -2.0), "each with its end"


def test_a_benchmark_without_distractors_is_not_asked(engine: FakeEngine) -> None:
    assert scored(engine, "base", config(likelihood=0)) == []


def test_an_endpoint_without_prompt_logprobs_is_refused_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "key")
    refused = pytest.raises(BadConfig, match=r"gives no prompt_logprobs; eval.benchmarks.NAME.likelihood needs vLLM")
    with serving(WithoutLogprobs) as served, refused:
        scored(served, "base", config(), count=1)
