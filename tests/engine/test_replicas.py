"""Several replicas: each on GPUs of its own, each proven, and a dead one is started again while the others go on."""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from test_serving import BASE, FAKE, ask, child_of, kill_engine, new_server, sum_request

from crescent.config import EngineKind, ServingConfig
from crescent.engine.client import Endpoint
from crescent.engine.placement import Seat, cpu_seats, gpu_seats, seats_here
from crescent.engine.replica import Replica
from crescent.engine.vllm_command import vllm_environment
from crescent.errors import BadConfig, CrescentError
from launch import ChildProcess
from launch.local import LocalLaunch

EIGHT = [str(number) for number in range(8)]


class Noting:
    """A launcher that notes with which log and environment it started what."""

    def __init__(self) -> None:
        self.logs: list[Path] = []
        self.environments: list[dict[str, str]] = []

    def start(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> ChildProcess:
        self.logs.append(log)
        self.environments.append(dict(environment))
        return LocalLaunch(grace_s=2).start(command, log, environment)


def until(what: Callable[[], bool], limit_s: float = 120) -> None:
    deadline = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def completes(endpoint: Endpoint, url: str) -> bool:
    """Whether a client gets a completion from this replica."""
    body = {"model": endpoint.model, "messages": [{"role": "user", "content": "What is 1 + 1?"}], "max_tokens": 9}
    try:
        reply = httpx.post(f"{url}/chat/completions", json=body, headers={"Authorization": f"Bearer {endpoint.key}"})
    except httpx.HTTPError:
        return False
    return reply.is_success


@pytest.mark.parametrize(
    ("replicas", "width", "gpus", "expected"),
    [
        ("auto", 1, EIGHT, [(number,) for number in EIGHT]),
        ("auto", 2, EIGHT[:5], [("0", "1"), ("2", "3")]),
        (3, 2, EIGHT, [("0", "1"), ("2", "3"), ("4", "5")]),
        (1, 1, ["GPU-a", "GPU-b"], [("GPU-a",)]),
        ("auto", 1, [], [()]),
        ("auto", 4, ["0"], None),
        (9, 1, EIGHT, None),
    ],
)
def test_each_replica_has_gpus_of_its_own(
    replicas: int | str, width: int, gpus: list[str], expected: list[tuple[str, ...]] | None
) -> None:
    serving = ServingConfig(replicas=replicas, tensor_parallel=width)
    if expected is None:
        with pytest.raises(BadConfig, match=r"serving\.replicas=.* need \d GPUs, and [18] are here"):
            gpu_seats(serving, gpus)
    else:
        assert [seat.gpus for seat in gpu_seats(serving, gpus)] == expected


def test_without_a_gpu_auto_is_one_replica_and_several_share_the_cores() -> None:
    assert seats_here(ServingConfig(engine=EngineKind.fake)) == [Seat()]
    assert cpu_seats(ServingConfig(), [0, 1, 2]) == [Seat()]
    assert [seat.cores for seat in cpu_seats(ServingConfig(replicas=2), [0, 1, 2])] == [(0, 2), (1,)]
    with pytest.raises(BadConfig, match="each needs a CPU core"):
        cpu_seats(ServingConfig(replicas=3), [0, 1])


def test_a_replica_sees_its_own_gpus_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    environment = vllm_environment(ServingConfig(), "key", gpus=("2", "3"))
    assert environment["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID", "these are nvidia-smi's numbers"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert "CUDA_DEVICE_ORDER" not in vllm_environment(ServingConfig(), "key", gpus=("4",))
    assert "CUDA_VISIBLE_DEVICES" not in vllm_environment(ServingConfig(), "key")


@pytest.mark.parametrize("replicas", [0, -1, "all"])
def test_a_number_of_replicas_that_is_none_is_refused(replicas: int | str) -> None:
    with pytest.raises(BadConfig, match="must be auto or at least 1"):
        ServingConfig(replicas=replicas)


def test_a_dead_replica_is_started_and_proven_again_while_the_others_go_on(tmp_path: Path) -> None:
    lines: list[str] = []
    launch = Noting()
    server = new_server(tmp_path, replace(FAKE, replicas=3, start_timeout_s=120), launch, say=lines.append)
    child, attempts = child_of(tmp_path, 1.0), []

    def work(endpoint: Endpoint) -> None:
        attempts.append(endpoint)
        kill_engine(endpoint.urls[1])
        until(lambda: not completes(endpoint, endpoint.urls[1]))
        assert ask(replace(endpoint, urls=endpoint.urls[::2]), *map(sum_request, range(9)))
        until(lambda: completes(endpoint, endpoint.urls[1]))

    try:
        server.ask(child, work)
    finally:
        server.stop()
    assert len(attempts) == 1, "the work was not disturbed"
    assert len(set(attempts[0].urls)) == 3
    assert sorted(log.name for log in launch.logs[:3]) == [f"server-{number}.log" for number in (1, 2, 3)]
    assert launch.logs[3].name == "server-2.log"
    proofs = [json.loads(line) for line in (tmp_path / "logs" / "served.jsonl").read_text().splitlines()]
    assert sorted(proof["url"] for proof in proofs) == sorted([*attempts[0].urls, attempts[0].urls[1]])
    assert {proof["outcome"] for proof in proofs} == {"proven"}
    deaths = [json.loads(line) for line in (tmp_path / "logs" / "engine_deaths.jsonl").read_text().splitlines()]
    assert [death["replica"] for death in deaths] == [2]
    assert any("replica 2 of 3: died and is restarted while the others go on (1 of 1)" in line for line in lines)


def test_a_replica_that_comes_back_with_other_weights_answers_nobody(tmp_path: Path) -> None:
    lines: list[str] = []
    server = new_server(tmp_path, replace(FAKE, replicas=2, start_timeout_s=120), say=lines.append)
    child = child_of(tmp_path, 1.0)

    def work(endpoint: Endpoint) -> list[bool]:
        (tmp_path / "child-1.0" / "skill.json").write_text('{"skill": 0.2}')
        kill_engine(endpoint.urls[0])
        until(lambda: any("is left out until the next stage" in line for line in lines))
        return [completes(endpoint, url) for url in endpoint.urls]

    try:
        assert server.ask(child, work) == [False, True]
        with pytest.raises(CrescentError, match="does not serve t-r01-abc"):
            server.serve(child)
    finally:
        server.stop()


def test_a_replica_that_keeps_dying_is_left_out(tmp_path: Path) -> None:
    lines: list[str] = []
    server = new_server(tmp_path, replace(FAKE, replicas=2, max_restarts=0, start_timeout_s=120), say=lines.append)

    def work(endpoint: Endpoint) -> tuple[str, ...]:
        kill_engine(endpoint.urls[0])
        until(lambda: any("is left out; its log is" in line for line in lines))
        return endpoint.urls

    try:
        urls = server.ask(BASE, work)
        assert server.serve(BASE).urls == urls[1:]
    finally:
        server.stop()


def test_stopping_does_not_wait_for_an_engine_that_is_starting(tmp_path: Path) -> None:
    class Hanging:
        def start(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> ChildProcess:
            return LocalLaunch(grace_s=1).start(["sleep", "600"], log, environment)

    server = new_server(tmp_path, replace(FAKE, replicas=2, start_timeout_s=600), Hanging())
    errors: list[BaseException] = []

    def serve(replica: Replica) -> None:
        try:
            replica.serve(BASE)
        except CrescentError as error:
            errors.append(error)

    starts = [threading.Thread(target=serve, args=(replica,)) for replica in server.replicas]
    for start in starts:
        start.start()
    until(lambda: all((tmp_path / "logs" / f"server-{number}.log").exists() for number in (1, 2)))
    server.stop()
    for start in starts:
        start.join(60)
    assert ["was stopped while it started" in str(error) for error in errors] == [True, True]
