"""Endpoints that somebody else started are asked, before a round is spent, whether they will do."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_serving import FAKE, new_server

from crescent.config import WhileTraining
from crescent.engine.fakes import FakeEngine
from crescent.engine.outside import check_endpoint, is_here
from crescent.errors import BadConfig, CrescentError, Missing


class Outside(FakeEngine):
    """A server that refuses some requests, in vLLM's words."""

    def __init__(self) -> None:
        super().__init__("fake:0.2", 0, "base")
        self.refusal: str | None = None
        self.context: int | None = None
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def models(self) -> dict[str, Any]:
        listed = super().models()
        listed["data"][-1]["max_model_len"] = self.context
        return listed

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(path)
        if self.refusal is not None:
            raise KeyError(self.refusal)
        return super().answer(path, body)


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[Outside]:
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    engine = Outside()
    thread = threading.Thread(target=engine.serve_forever)
    thread.start()
    yield engine
    engine.shutdown()
    thread.join()
    engine.server_close()


def test_an_endpoint_that_will_do_is_left_as_it_was(outside: Outside, tmp_path: Path) -> None:
    outside.context = 4096
    check_endpoint(outside.url, "secret", 4096, 64, tmp_path / "runs" / "x")
    assert outside.asked == ["/v1/load_lora_adapter", "/v1/unload_lora_adapter"]
    assert outside.adapters == {}
    assert list(tmp_path.iterdir()) == []


def test_an_endpoint_that_loads_nothing_is_not_asked_to(outside: Outside, tmp_path: Path) -> None:
    check_endpoint(outside.url, "secret", 4096, None, tmp_path)
    assert outside.asked == []


@pytest.mark.parametrize(
    ("refusal", "kind", "parts"),
    [
        ("LoRA rank 64 is greater than max_lora_rank 16.", BadConfig, ["train.lora.rank=64", "--max-lora-rank 64"]),
        ("No adapter found for /x", Missing, ["cannot see", "under the same path"]),
        ("/v1/load_lora_adapter", Missing, ["VLLM_ALLOW_RUNTIME_LORA_UPDATING=1", "--enable-lora"]),
    ],
)
def test_an_endpoint_that_cannot_load_our_adapters_is_refused_with_what_mends_it(
    outside: Outside, tmp_path: Path, refusal: str, kind: type[CrescentError], parts: list[str]
) -> None:
    outside.refusal = refusal
    with pytest.raises(kind) as refused:
        check_endpoint(outside.url, "secret", 4096, 64, tmp_path)
    for part in parts:
        assert part in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_short_context_a_wrong_key_and_silence_are_refused(outside: Outside, tmp_path: Path) -> None:
    outside.context = 2048
    with pytest.raises(BadConfig, match=r"2048 tokens of context; set model\.context=2048"):
        check_endpoint(outside.url, "secret", 4096, 64, tmp_path)
    with pytest.raises(BadConfig, match="CRESCENT_API_KEY"):
        check_endpoint(outside.url, "guess", 4096, 64, tmp_path)
    with pytest.raises(Missing, match="nothing answers there"):
        check_endpoint("http://127.0.0.1:9/v1", "secret", 4096, 64, tmp_path)


def test_a_server_on_this_machine_is_said_to_keep_its_gpu_memory(outside: Outside, tmp_path: Path) -> None:
    lines: list[str] = []
    for url, expected in ((outside.url, 1), ("http://192.0.2.77:8000/v1", 0)):
        lines.clear()
        server = new_server(tmp_path, replace(FAKE, urls=[url], while_training=WhileTraining.stop), say=lines.append)
        server.pause()
        assert sum("keeps its memory while the trainer works" in line for line in lines) == expected
        server.stop()


@pytest.mark.parametrize(
    ("url", "here"),
    [("http://localhost:8000/v1", True), ("http://[::1]:8000/v1", True), ("http://192.0.2.77:1/v1", False)],
)
def test_this_machine_is_recognised_by_its_addresses(url: str, here: bool) -> None:
    assert is_here(url) is here
