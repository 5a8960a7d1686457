"""What the supervisor asks a server for is checked as well, and a server that is not ours is never restarted."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from misbehaving import Answer, reply, reset, serving, truncated
from test_replies import LOGIN, MALFORMED
from test_serving import BASE, FAKE, child_of, new_server

from crescent.config import Child
from crescent.engine.client import EngineDied
from crescent.engine.connection import Connection
from crescent.engine.outside import check_endpoint
from crescent.errors import BadConfig, CrescentError, Missing, TryAgain
from launch import ChildProcess
from launch.local import LocalLaunch

IDS = (5, 6)
SCORED = [None, {"6": {"logprob": -0.5}}]
ABOUT_MESSAGES = ("no message", "message null", "content of another kind", "tokens of another kind", "aborted")
ODD: dict[str, Answer] = {
    **{name: answer for name, answer in MALFORMED.items() if name not in ABOUT_MESSAGES},
    "other tokens": reply(200, {"choices": [{"prompt_logprobs": [None, {"7": {"logprob": -0.5}}]}]}),
    "too few tokens": reply(200, {"choices": [{"prompt_logprobs": [None]}]}),
    "no number": reply(200, {"choices": [{"prompt_logprobs": [None, {"6": {"logprob": None}}]}]}),
    "an empty reply": reply(200, b""),
    "half a body": truncated,
    "a reset connection": reset,
}
UNLIKE_A_LIST: dict[str, Answer] = {
    "null": reply(200, None),
    "a login page": reply(200, LOGIN),
    "no data": reply(200, {"object": "list"}),
    "data null": reply(200, {"data": None}),
    "a model without a name": reply(200, {"data": [{"object": "model"}]}),
    "an error with status 200": reply(200, {"error": {"message": "overloaded"}}),
}


def test_log_probabilities_are_those_of_the_tokens_asked_for() -> None:
    with serving(reply(200, {"choices": [{"text": "", "prompt_logprobs": SCORED}]})) as server:
        assert Connection(server.url, "key").log_probabilities(IDS, "m") == [None, -0.5]


@pytest.mark.parametrize("name", ODD)
def test_a_reply_without_these_log_probabilities_is_no_traceback_and_75(name: str) -> None:
    with serving(ODD[name]) as server, pytest.raises(EngineDied, match=f"127.0.0.1:{server.server_port}") as raised:
        Connection(server.url, "key").log_probabilities(IDS, "m")
    assert raised.value.exit_code == 75
    assert len(str(raised.value)) < 400


def test_a_server_that_gives_no_log_probabilities_is_no_dead_engine() -> None:
    for choice in ({"prompt_logprobs": None, "text": ""}, {"text": ""}):
        with serving(reply(200, {"choices": [choice]})) as server, pytest.raises(BadConfig, match="prompt_logprobs"):
            Connection(server.url, "key").log_probabilities(IDS, "m")


@pytest.mark.parametrize("name", UNLIKE_A_LIST)
def test_what_is_no_list_of_models_is_said_with_its_beginning(name: str, tmp_path: Path) -> None:
    with serving(UNLIKE_A_LIST[name]) as server:
        with pytest.raises(EngineDied, match="no list of models"):
            Connection(server.url, "key").models()
        with pytest.raises(BadConfig, match="must speak OpenAI's protocol"):
            check_endpoint(server.url, "key", 100, None, tmp_path)


@pytest.mark.parametrize(("status", "kind"), [(500, Missing), (502, TryAgain), (503, TryAgain)])
def test_an_endpoint_that_fails_to_load_an_adapter_is_said_to_and_not_restarted(
    status: int, kind: type[CrescentError], tmp_path: Path
) -> None:
    fails = reply(status, {"error": {"message": "RuntimeError: no free slot"}})
    with serving(reply(200, {"data": [{"id": "fake:0.2"}]}), fails) as outside:
        server = new_server(tmp_path, replace(FAKE, urls=[outside.url], child=Child.adapter))
        with pytest.raises(kind, match=r"serving.urls=.*cannot load the adapter t-r01-abc.*no free slot") as raised:
            server.ask(replace(child_of(tmp_path, 0.4), proof=None), lambda endpoint: None)
        assert not isinstance(raised.value, EngineDied)
        assert len([body for body in outside.asked if "lora_name" in body]) == 1
    assert not server.deaths.path.exists()


class KilledAtFirst:
    """Starts an engine that is killed while it starts, then real ones."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.started = 0

    def start(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> ChildProcess:
        self.started += 1
        dies = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
        given = dies if self.started <= self.times else command
        return LocalLaunch(grace_s=1).start(given, log, environment)


def test_an_engine_that_is_killed_at_its_start_is_restarted_like_any_other(tmp_path: Path) -> None:
    launch = KilledAtFirst(times=1)
    server = new_server(tmp_path, launch=launch)
    try:
        assert server.ask(BASE, lambda endpoint: endpoint.model) == "t-base"
    finally:
        server.stop()
    assert launch.started == 2
    assert "ended by a signal while it started" in server.deaths.path.read_text()


def test_an_engine_that_is_always_killed_at_its_start_ends_the_run_with_75(tmp_path: Path) -> None:
    launch = KilledAtFirst(times=99)
    server = new_server(tmp_path, launch=launch)
    with pytest.raises(TryAgain, match=r"the engine died 2 times.*serving.max_restarts=1"):
        server.ask(BASE, lambda endpoint: None)
    assert launch.started == 2
