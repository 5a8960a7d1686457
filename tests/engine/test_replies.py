"""What a server says is checked: no reply, however odd, ends a run with a traceback or becomes a wrong answer."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from misbehaving import GOOD, Answer, completion_body, reply, reset, serving, slow_loris, truncated

from crescent.engine import client as client_module
from crescent.engine.client import Client, EngineDied
from crescent.engine.replies import Malformed, read_completion
from crescent.errors import BadConfig, CrescentError, TryAgain
from crescent.records import Completion, Request

ASKED = Request("a/1", "What is 2 + 2?", 0.0, 16, seed=1)
LOGIN = b"<!doctype html>\n<html><title>Sign in to WLAN</title>" + b"x" * 5000 + b"</html>"
MALFORMED: dict[str, Answer] = {
    "no choices": reply(200, {"choices": []}),
    "choices missing": reply(200, {"id": "1"}),
    "choices null": reply(200, {"choices": None}),
    "choice null": reply(200, {"choices": [None]}),
    "no message": reply(200, {"choices": [{"index": 0, "finish_reason": "stop"}]}),
    "message null": reply(200, {"choices": [{"message": None, "finish_reason": "stop"}]}),
    "content of another kind": reply(200, completion_body(message={"content": [{"type": "text"}]})),
    "tokens of another kind": reply(200, {**completion_body(), "usage": {"completion_tokens": "many"}}),
    "null": reply(200, None),
    "a list": reply(200, []),
    "a number": reply(200, 7),
    "a login page": reply(200, LOGIN),
    "an error with status 200": reply(200, {"error": {"message": "overloaded", "code": 500}}),
    "an older error with status 200": reply(200, {"object": "error", "message": "overloaded"}),
    "not JSON": reply(200, b"OK"),
    "half JSON": reply(200, b'{"choices": [{"mess'),
    "empty": reply(200, b""),
    "not UTF-8": reply(200, b"\xff\xfe{}"),
    "nested without end": reply(200, b"[" * 100_000),
    "aborted": reply(200, completion_body(finish_reason="abort")),
}
BROKEN: dict[str, Answer] = {
    "truncated": truncated,
    "reset": reset,
    "500": reply(500, {"error": {"message": "CUDA error"}}),
    "502 in HTML": reply(502, b"<html>Bad Gateway</html>"),
    "503": reply(503, b""),
    "408": reply(408, {}),
}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "LONGEST_PAUSE_S", 0.01)


def ask(url: str, asked: Request = ASKED, timeout_s: float = 10, patience_s: float = 60) -> Completion:
    async def one() -> Completion:
        async with Client([url], "m", "key", 8, timeout_s, patience_s) as client:
            return await client.complete(asked)

    return asyncio.run(one())


@pytest.mark.parametrize("name", [*MALFORMED, *BROKEN])
def test_a_reply_that_is_no_completion_is_asked_for_again(name: str) -> None:
    with serving({**MALFORMED, **BROKEN}[name], GOOD) as server:
        assert ask(server.url) == Completion("4", "stop", tokens=1, prompt_tokens=2)
        assert len(server.asked) == 2
        assert server.asked[0] == server.asked[1], "with the same seed"


@pytest.mark.parametrize("name", [*MALFORMED, *BROKEN])
def test_a_server_that_never_gives_a_completion_ends_with_75_and_its_words(name: str) -> None:
    with serving({**MALFORMED, **BROKEN}[name]) as server:
        with pytest.raises(EngineDied) as raised:
            ask(server.url)
        assert raised.value.exit_code == 75
        assert str(raised.value).startswith(server.url)
        assert len(str(raised.value)) < 500
        assert "\n" not in str(raised.value)
    expected = {"a login page": "Sign in to WLAN", "500": "CUDA error", "an error with status 200": "overloaded"}
    assert expected.get(name, "") in str(raised.value)
    assert bool(raised.value.unanswered) == (name in BROKEN and name != "408"), "a wrong reply makes no suspects"


def test_a_reply_without_end_is_given_up_in_time() -> None:
    with serving(slow_loris, GOOD) as server:
        assert ask(server.url, timeout_s=0.5).text == "4"
    with serving(slow_loris) as server, pytest.raises(EngineDied, match="no whole reply within"):
        ask(server.url, timeout_s=0.2)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_request_comes_back_as_such_with_the_servers_words(status: int) -> None:
    with serving(reply(status, {"error": {"message": "This model's maximum context length is 64 tokens"}})) as server:
        found = ask(server.url)
    assert (found.finish_reason, found.tokens) == ("error", 0)
    assert f"status {status}" in found.text
    assert "maximum context length" in found.text


def test_a_text_that_a_filter_withheld_is_a_refusal() -> None:
    with serving(reply(200, completion_body(finish_reason="content_filter"))) as server:
        assert ask(server.url).finish_reason == "error"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (reply(401, {"error": {"message": "wrong key"}}), "CRESCENT_API_KEY"),
        (reply(403, LOGIN), "CRESCENT_API_KEY"),
        (reply(404, {"message": "The model `m` does not exist"}), "does not serve m"),
        (reply(405, b""), "serving.urls"),
        (reply(302, LOGIN, Location="https://login.example/"), "it points to https://login.example/"),
        (reply(308, b"", Location="/v2"), "it points to /v2"),
    ],
    ids=["401", "403", "404", "405", "302", "308"],
)
def test_what_no_repetition_can_change_is_exit_2_at_once(answer: Answer, said: str) -> None:
    with serving(answer) as server:
        with pytest.raises(BadConfig, match=said) as raised:
            ask(server.url)
        assert len(server.asked) == 1
    assert len(str(raised.value)) < 700


@pytest.mark.parametrize("after", [lambda: "0.2", lambda: formatdate(usegmt=True), lambda: "soon", lambda: ""])
def test_a_server_that_limits_the_rate_is_waited_for(after: Callable[[], str]) -> None:
    limit = reply(429, {"error": {"message": "slow down"}}, Retry_After=after())
    with serving(*[limit] * 7, GOOD) as server:
        assert ask(server.url).text == "4"
        assert len(server.asked) == 8, "more often than a server that is broken"


def test_a_server_that_limits_the_rate_for_too_long_ends_with_75_and_no_restart() -> None:
    limit = reply(429, {"error": {"message": "quota used up"}}, Retry_After="3600")
    with serving(limit) as server, pytest.raises(TryAgain, match="quota used up") as raised:
        ask(server.url)
    assert not isinstance(raised.value, EngineDied)
    assert len(server.asked) == 1


def test_another_replica_replaces_one_that_answers_nonsense() -> None:
    with serving(MALFORMED["a login page"]) as wrong, serving(GOOD) as right:

        async def ask_both() -> list[Completion]:
            async with Client([wrong.url, right.url], "m", "key", 8, 10) as client:
                return [await client.complete(replace(ASKED, key=f"a/{number}")) for number in range(4)]

        assert {completion.text for completion in asyncio.run(ask_both())} == {"4"}
        assert len(wrong.asked) == client_module.TRIES


@pytest.mark.parametrize(
    ("more", "tokens", "reason"),
    [({"finish_reason": None}, 1, "stop"), ({"finish_reason": None}, 16, "length"), ({}, None, "stop")],
)
def test_what_a_reply_leaves_out_is_made_up_sensibly(more: dict[str, Any], tokens: int | None, reason: str) -> None:
    body = {**completion_body("a \ud800 b", **more), "usage": {"completion_tokens": tokens}}
    with serving(reply(200, body)) as server:
        assert ask(server.url) == Completion("a ? b", reason, tokens=tokens or 0, prompt_tokens=0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()), body=JSON)
def test_whatever_the_body_it_is_a_completion_or_malformed(raw: bytes, body: object) -> None:
    odd = {"choices": [{"message": {"content": body}, "finish_reason": body}], "usage": body}
    for content in (raw, json.dumps({"choices": body}).encode(), json.dumps(odd).encode()):
        with suppress(Malformed):
            found = read_completion(content, 16)
            found.text.encode()
            assert isinstance(found.finish_reason, str)


def test_every_failure_is_one_of_ours() -> None:
    with serving(MALFORMED["null"]) as server, pytest.raises(CrescentError):
        ask(server.url)
