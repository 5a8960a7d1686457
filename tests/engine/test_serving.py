"""The engine: started, asked, loaded with children, proven and stopped; the fake engine behind the real protocol."""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from crescent.config import Child, Dtype, EngineKind, ModelConfig, ServingConfig, TrainConfig, WhileTraining
from crescent.engine.client import Client, Endpoint, EngineDied
from crescent.engine.fakes import PROOF_IDS, log_probabilities
from crescent.engine.server import Server
from crescent.errors import BadConfig, CrescentError, Missing, TryAgain
from crescent.records import Checkpoint, Completion, Proof, Request
from launch import ChildProcess, Launch
from launch.local import LocalLaunch

FAKE = ServingConfig(
    engine=EngineKind.fake,
    child=Child.adapter,
    while_training=WhileTraining.keep,
    concurrency=8,
    start_timeout_s=30,
    request_timeout_s=10,
    max_restarts=1,
)
BASE = Checkpoint("t-base", 0, "base", weights="fake:0.2")


def new_server(
    tmp_path: Path,
    serving: ServingConfig = FAKE,
    launch: Launch | None = None,
    name: str = "t",
    dtype: Dtype = Dtype.float32,
    say: Callable[[str], None] = lambda line: None,
) -> Server:
    model = ModelConfig(path="fake:0.2", dtype=dtype)
    log = tmp_path / "logs" / "server.log"
    return Server(serving, model, TrainConfig(), launch or LocalLaunch(grace_s=2), name, log, say)


def kill_engine(url: str) -> None:
    """Kill the engine behind a URL as a crash would."""
    port = url.removesuffix("/v1").split(":")[-1]
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if {"crescent.engine.fakes", port} <= set(process.cmdline()):
                process.kill()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = new_server(tmp_path)
    yield server
    server.stop()


class Recorder:
    """A launcher that records what is started, and starts something else."""

    def __init__(self, instead: list[str]) -> None:
        self.instead = instead
        self.commands: list[list[str]] = []
        self.environments: list[dict[str, str]] = []

    def start(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> ChildProcess:
        self.commands.append(list(command))
        self.environments.append(dict(environment))
        return LocalLaunch(grace_s=1).start(self.instead, log, environment)


def child_of(tmp_path: Path, skill: float, claimed: float | None = None) -> Checkpoint:
    """A trained child; its proof is that of skill `claimed`, if given."""
    folder = tmp_path / f"child-{skill}"
    folder.mkdir(exist_ok=True)
    (folder / "skill.json").write_text(json.dumps({"skill": skill}))
    recorded = skill if claimed is None else claimed
    proof = Proof(
        PROOF_IDS,
        tuple(log_probabilities(ids, recorded) for ids in PROOF_IDS),
        tuple(log_probabilities(ids, 0.2) for ids in PROOF_IDS),
    )
    return Checkpoint("t-r01-abc", 1, "child", adapter=str(folder), weights=str(folder), proof=proof, base=BASE)


def ask(endpoint: Endpoint, *requests: Request) -> list[Completion]:
    async def all_of_them() -> list[Completion]:
        async with Client(endpoint.urls, endpoint.model, endpoint.key, 8, 10) as client:
            return list(await asyncio.gather(*map(client.complete, requests)))

    return asyncio.run(all_of_them())


def sum_request(number: int, max_tokens: int = 50) -> Request:
    return Request(f"a/{number}", f"What is {number} + 1?", 0.8, max_tokens, seed=number)


def test_the_same_request_gives_the_same_completion_whatever_it_is_asked_with(server: Server) -> None:
    endpoint = server.serve(BASE)
    alone = [ask(endpoint, sum_request(number))[0] for number in range(5)]
    assert ask(endpoint, *map(sum_request, range(5))) == alone


def test_a_cut_completion_says_so(server: Server) -> None:
    (completion,) = ask(server.serve(BASE), sum_request(1, max_tokens=1))
    assert (completion.finish_reason, completion.tokens) == ("length", 1)


@pytest.mark.parametrize("way", list(Child))
def test_a_child_is_served_and_proven_whatever_the_way(way: Child, tmp_path: Path) -> None:
    server = new_server(tmp_path, replace(FAKE, child=way))
    try:
        before = ask(server.serve(BASE), *map(sum_request, range(40)))
        after = ask(server.serve(child_of(tmp_path, 1.0)), *map(sum_request, range(40)))
    finally:
        server.stop()
    right = [sum(f"#### {n + 1}" in completion.text for n, completion in enumerate(some)) for some in (before, after)]
    assert right[0] < 20 < 35 < right[1]
    proofs = [json.loads(line) for line in (tmp_path / "logs" / "served.jsonl").read_text().splitlines()]
    assert [proof["checkpoint"] for proof in proofs] == ["t-r01-abc"]
    assert proofs[0]["from_own"] == 0 < proofs[0]["from_other"]
    assert proofs[0]["outcome"] == "proven"


def test_a_server_that_serves_other_weights_is_not_trusted(server: Server, tmp_path: Path) -> None:
    server.serve(BASE)
    with pytest.raises(CrescentError, match="does not serve t-r01-abc"):
        server.serve(child_of(tmp_path, skill=0.2, claimed=0.9))


def test_a_stale_child_is_distinguished_from_the_next_one_and_from_the_base(tmp_path: Path) -> None:
    server = new_server(tmp_path, replace(FAKE, child=Child.reload))
    try:
        child = child_of(tmp_path, 0.9)
        server.serve(BASE)
        server.serve(child)
        server.serve(BASE)
        (tmp_path / "child-0.2").mkdir()
        (tmp_path / "child-0.2" / "skill.json").write_text('{"skill": 0.9}')
        server.replicas[0].served = None
        with pytest.raises(CrescentError, match="does not serve t-base"):
            server.serve(replace(BASE, weights=str(tmp_path / "child-0.2")))
    finally:
        server.stop()


def test_a_child_that_learned_next_to_nothing_is_served_with_a_note(tmp_path: Path) -> None:
    lines: list[str] = []
    server = new_server(tmp_path, say=lines.append)
    try:
        server.serve(child_of(tmp_path, 0.2001))
    finally:
        server.stop()
    assert any("cannot be told from its parent" in line for line in lines)


def test_an_engine_that_dies_while_it_loads_a_child_raises_engine_died(server: Server, tmp_path: Path) -> None:
    server.serve(BASE)
    server.replicas[0]._runs = lambda: True  # type: ignore[method-assign]  # it dies just after it was seen alive
    kill_engine(server.replicas[0].url)
    with pytest.raises(EngineDied):
        server.serve(child_of(tmp_path, 1.0))


def test_a_dead_engine_is_started_again_and_asked_again(server: Server) -> None:
    first = server.serve(BASE)
    attempts = []

    def work(endpoint: Endpoint) -> list[Completion]:
        attempts.append(endpoint)
        if len(attempts) == 1:
            kill_engine(first.urls[0])
        return ask(endpoint, sum_request(1))

    assert server.ask(BASE, work)[0].finish_reason == "stop"
    assert len(attempts) == 2
    assert (server.log.parent / "engine_deaths.jsonl").read_text().count("\n") == 1


def test_an_engine_that_keeps_dying_ends_the_run_with_75(server: Server) -> None:
    def work(_: Endpoint) -> None:
        raise EngineDied("gone")

    with pytest.raises(TryAgain, match=r"died 2 times.*serving.max_restarts=1") as ended:
        server.ask(BASE, work)
    assert ended.value.exit_code == 75


@pytest.mark.parametrize(
    ("last_words", "fix"),
    [
        ("ModuleNotFoundError: No module named 'vllm'", "make install"),
        ("torch.OutOfMemoryError: CUDA out of memory", "serving.memory_share"),
        ("ValueError: larger than the available KV cache memory", "model.context"),
    ],
)
def test_an_engine_that_dies_at_its_start_shows_its_last_words_and_the_likely_fix(
    last_words: str, fix: str, tmp_path: Path
) -> None:
    dies = Recorder([sys.executable, "-c", f"import sys; print('loading'); sys.exit({last_words!r})"])
    server = new_server(tmp_path, launch=dies)
    with pytest.raises(Missing) as ended:
        server.serve(BASE)
    assert last_words in str(ended.value)
    assert fix in str(ended.value)


def test_vllm_is_started_on_loopback_with_a_key_that_is_not_on_its_command_line(tmp_path: Path) -> None:
    for way in Child:
        dies = Recorder([sys.executable, "-c", "raise SystemExit(1)"])
        server = new_server(tmp_path, replace(FAKE, engine=EngineKind.vllm, child=way), launch=dies)
        with pytest.raises(Missing):
            server.serve(BASE)
        line, environment = " ".join(dies.commands[0]), dies.environments[0]
        assert "--host 127.0.0.1" in line
        assert "--dtype float32" in line
        assert "--middleware crescent.engine.key.RequireKey" in line
        assert len(environment["VLLM_API_KEY"]) > 30
        assert environment["VLLM_API_KEY"] not in line
        assert ("VLLM_SERVER_DEV_MODE" in environment) == (way is Child.reload)
        assert ("--enable-lora" in line) == (way is Child.adapter)


def test_a_request_without_the_key_is_refused(server: Server) -> None:
    endpoint = server.serve(BASE)
    with pytest.raises(BadConfig, match=r"wrong key.*CRESCENT_API_KEY"):
        ask(replace(endpoint, key="guess"), sum_request(1))


def test_a_running_endpoint_can_be_used_instead_of_our_own_server(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = server.serve(BASE)
    monkeypatch.setenv("CRESCENT_API_KEY", running.key)
    guest = new_server(tmp_path, replace(FAKE, urls=[running.urls[0]]), name="guest")
    child = child_of(tmp_path, 1.0)
    assert ask(guest.serve(BASE), sum_request(1)), "requests use the name that the server gives the base"
    answers = ask(guest.serve(child), *map(sum_request, range(20)))
    assert sum(f"#### {n + 1}" in answer.text for n, answer in enumerate(answers)) > 15
    guest.stop()
    assert ask(running, sum_request(1)), "a server that we did not start keeps running"


def test_replicas_share_the_work_and_replace_each_other(tmp_path: Path) -> None:
    server = new_server(tmp_path, replace(FAKE, replicas=2))
    try:
        endpoint = server.serve(BASE)
        assert len(set(endpoint.urls)) == 2
        assert len(ask(endpoint, *map(sum_request, range(30)))) == 30
        kill_engine(endpoint.urls[1])
        assert len(ask(endpoint, *map(sum_request, range(30)))) == 30, (
            "the other replica takes over the work of a dead one"
        )
    finally:
        server.stop()


def served_lines(tmp_path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (tmp_path / "logs" / "served.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("way", [Child.adapter, Child.reload, Child.restart])
def test_the_engines_own_noise_is_measured_on_the_base_before_a_child_is_proven(way: Child, tmp_path: Path) -> None:
    server = new_server(tmp_path, replace(FAKE, child=way), dtype=Dtype.bfloat16)
    # An engine whose values are all 0.03 off. Distances alone could not tell such a child from its parent.
    connection = server.replicas[0].connection
    exact = connection.log_probabilities
    connection.log_probabilities = lambda *asked: [  # type: ignore[method-assign]
        None if value is None else value + 0.03 for value in exact(*asked)
    ]
    try:
        server.serve(child_of(tmp_path, 0.4))
    finally:
        server.stop()
    (line,) = served_lines(tmp_path)
    assert line["measured_noise"] == pytest.approx(0.03)
    assert line["noise"] == pytest.approx(0.03)
    assert line["outcome"] == "proven"


def test_an_interrupted_run_goes_on_with_the_noise_that_it_measured(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "served.jsonl").write_text('{"measured_noise":0.07}\n{"measured_noise":null}\n{"measured_no')
    server = new_server(tmp_path, replace(FAKE, child=Child.restart))
    try:
        server.serve(child_of(tmp_path, 0.9))
    finally:
        server.stop()
    (_, _, last) = (tmp_path / "logs" / "served.jsonl").read_text().splitlines()[0:3]
    assert last.startswith('{"measured_no')
    assert server.replicas[0].prover.noise() == 0.07


def test_an_endpoint_with_another_base_is_refused_with_what_it_should_serve(server: Server, tmp_path: Path) -> None:
    child = child_of(tmp_path, 1.0)
    assert child.proof is not None
    other = tuple(log_probabilities(ids, 0.8) for ids in PROOF_IDS)
    with pytest.raises(CrescentError, match=r"does not serve the base of t-r01-abc.*fake:0.2 in float32"):
        server.serve(replace(child, proof=replace(child.proof, parent=other)))


def test_an_engine_that_sleeps_is_woken_and_proven_before_it_is_asked(tmp_path: Path) -> None:
    serving = replace(FAKE, while_training=WhileTraining.sleep, start_timeout_s=120)
    lines: list[str] = []
    server = new_server(tmp_path, serving, say=lines.append)
    child = child_of(tmp_path, 1.0)
    try:
        endpoint = server.serve(child)
        server.pause()
        with pytest.raises(BadConfig, match="sleeps"):
            ask(endpoint, sum_request(1))
        assert ask(server.serve(child), sum_request(1))
    finally:
        server.stop()
    assert [line["outcome"] for line in served_lines(tmp_path)] == ["proven", "proven"]
    assert sum("the engine starts" in line for line in lines) == 1, "it was woken, not started again"


def test_an_engine_that_does_not_wake_up_is_started_again(tmp_path: Path) -> None:
    lines: list[str] = []
    server = new_server(
        tmp_path, replace(FAKE, while_training=WhileTraining.sleep, start_timeout_s=120), say=lines.append
    )
    try:
        server.serve(BASE)
        server.pause()
        kill_engine(server.replicas[0].url)
        assert ask(server.serve(BASE), sum_request(1))
    finally:
        server.stop()
    assert any("does not wake up" in line for line in lines)
