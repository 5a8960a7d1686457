"""A reply that will not come is recognised by how long the others took; a slow one is waited for."""

import asyncio
import math

import pytest

from benchmarks.virtual_time import VirtualTime
from crescent.engine.client import Client, EngineDied
from crescent.engine.pace import ENOUGH_REPLIES, SHORTEST_LIMIT_S, Pace
from crescent.engine.transport import Connections, Reply
from crescent.records import Request

TIMEOUT_S = 600.0
REPLY = b'{"choices": [{"message": {"content": "4"}, "finish_reason": "stop"}], "usage": {"completion_tokens": 100}}'


def paced(seconds: float, tokens: int, replies: int = ENOUGH_REPLIES) -> Pace:
    pace = Pace()
    for _ in range(replies):
        pace.add(seconds, tokens)
    return pace


def test_nothing_is_foreseen_from_a_few_replies() -> None:
    assert paced(1.0, 100, ENOUGH_REPLIES - 1).limit_s(100) == math.inf


def test_a_reply_of_all_its_tokens_has_twice_the_time_that_the_pace_allows() -> None:
    assert paced(30.0, 100).limit_s(1000) == pytest.approx(2 * 300)


def test_the_limit_is_no_shorter_than_twice_the_slowest_reply() -> None:
    assert paced(60.0, 1000).limit_s(10) == pytest.approx(2 * 60)


def test_however_fast_the_replies_were_a_pause_of_some_seconds_is_no_loss() -> None:
    assert paced(0.01, 100).limit_s(100) == SHORTEST_LIMIT_S


class Late(Connections):
    """Replies after a second; to prompts that say so, after longer, or never on some attempts."""

    asked: list[tuple[str, str, float]]

    def __init__(self, url: str, api_key: str) -> None:
        super().__init__(url, api_key)
        self.asked = []

    async def post(self, path: str, body: bytes) -> Reply:
        loop = asyncio.get_running_loop()
        words = body.split(b'"content":"')[1].split(b'"')[0].decode().split()
        self.asked.append((self.url, words[0], loop.time()))
        if words[0] == "lost" and self.url.endswith(words[1]):
            await loop.create_future()
        await asyncio.sleep(float(words[1]) if words[0] == "slow" else 1.0)
        return Reply(200, {}, REPLY)


def asked(*prompts: str, servers: int = 1) -> tuple[float, list[tuple[str, str, float]]]:
    """Seconds until all are answered, and the attempts at the last prompts: URL, kind and time of each."""
    connections: list[Late] = []

    def connect(url: str, key: str) -> Late:
        connections.append(Late(url, key))
        return connections[-1]

    async def ask() -> float:
        urls = [f"http://127.0.0.1/{number}" for number in range(servers)]
        async with Client(urls, "m", "key", 64, TIMEOUT_S, connect=connect) as client:
            usual = [Request(f"usual/{n}", "usual", 0.0, 100, n) for n in range(ENOUGH_REPLIES)]
            await asyncio.gather(*(client.complete(request) for request in usual))
            began = asyncio.get_running_loop().time()
            others = [Request(f"other/{n}", prompt, 0.0, 100, n) for n, prompt in enumerate(prompts)]
            await asyncio.gather(*(client.complete(request) for request in others))
            return asyncio.get_running_loop().time() - began

    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        seconds = runner.run(ask())
    attempts = [attempt for server in connections for attempt in server.asked if attempt[1] != "usual"]
    return seconds, sorted(attempts, key=lambda attempt: attempt[2])


def test_a_lost_reply_is_asked_of_the_other_server_at_once() -> None:
    seconds, attempts = asked("lost 0", servers=2)
    assert [url[-1] for url, _, _ in attempts] == ["0", "1"]
    assert seconds == pytest.approx(SHORTEST_LIMIT_S + 1)


def test_a_slow_reply_is_waited_for_in_the_end() -> None:
    seconds, attempts = asked("slow 300")
    assert len(attempts) == 3, "two short attempts, and a whole one"
    assert seconds < 300 + 3 * SHORTEST_LIMIT_S


def test_a_server_that_never_replies_ends_as_before() -> None:
    with pytest.raises(EngineDied, match=r"serving\.request_timeout_s=600"):
        asked("lost 0")
