"""CPU time that one completion costs the process that asks: `python -m benchmarks client`.

A server in another process answers every request at once with the same completion. Contenders ask it for the same
completions, with the same number of requests in flight, and take turns. CPU time of this process is counted, not time
on the clock, so other work on the machine matters little.
"""

import argparse
import asyncio
import gc
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from benchmarks import save
from benchmarks.tables import Row, show
from crescent.engine.client import Client
from crescent.engine.journal import Journal, Journaled
from crescent.records import Completion, Request, request_seed

BASELINE = "aiohttp, msgspec"
PROMPT = (
    "A farmer has 12 fields and plants 7 rows of corn in each of them every day. "
    * 3
    + "\nPlease think step by step and provide a detailed explanation. Give the final answer at the end of the "
    "response as: #### answer"
)
TEXT = "First we look at what is given. " * 30 + "#### 84"
"""Text of every completion: about as long as an answer to a word problem."""

Contender = Callable[[str, Sequence[Request], int], Coroutine[Any, Any, float]]
"""Asks for all requests; returns the CPU seconds that it took. Arguments: URL of the server, requests, in flight."""


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks client", description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=3000, help="completions a contender asks for in its turn")
    parser.add_argument("--in-flight", type=int, default=256, help="requests in flight")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    rows = measure(options.requests, options.in_flight, options.repeats)
    show(f"CPU time of one completion, {options.in_flight} in flight, {options.repeats} turns each", rows)
    print(f"saved: {save('client', {'rows': rows})}")


def measure(number: int, in_flight: int, repeats: int) -> list[Row]:
    """A row for each contender: `number` completions in each of its turns."""
    taken: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    with server() as url:
        for _ in range(repeats):
            for name, contender in CONTENDERS.items():
                gc.collect()
                taken[name].append(1000 * asyncio.run(contender(url, requests(number), in_flight)) / number)
    baseline = statistics.median(taken[BASELINE])
    return [
        {
            "contender": name,
            "median, ms": statistics.median(times),
            "range, ms": f"[{min(times):.2f}, {max(times):.2f}]",
            "÷ baseline": statistics.median(times) / baseline,
            "completions per CPU second": round(1000 / statistics.median(times)),
        }
        for name, times in taken.items()
    ]


def requests(number: int) -> list[Request]:
    keys = [f"answer/{index // 5}/{index % 5}" for index in range(number)]
    return [Request(key, PROMPT, 0.8, 1024, request_seed(0, 1, key)) for key in keys]


async def plain(url: str, asked: Sequence[Request], in_flight: int) -> float:
    """The least that a script would do with the same libraries: no retries, no checks, nothing written down."""
    free = asyncio.Semaphore(in_flight)
    headers = {"Authorization": "Bearer key", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def complete(request: Request) -> str:
            body = {
                "model": "m",
                "messages": [{"role": "user", "content": request.prompt}],
                "temperature": request.temperature,
                "max_tokens": request.max_tokens,
                "seed": request.seed,
            }
            async with free, session.post(f"{url}/chat/completions", data=msgspec.json.encode(body)) as reply:
                text: str = msgspec.json.decode(await reply.read())["choices"][0]["message"]["content"]
                return text

        return await timed(complete, asked)


async def client(url: str, asked: Sequence[Request], in_flight: int) -> float:
    async with Client([url], "m", "key", in_flight, timeout_s=600) as engine:
        return await timed(engine.complete, asked)


async def journaled(url: str, asked: Sequence[Request], in_flight: int) -> float:
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "journal.jsonl") as journal:
        async with Client([url], "m", "key", in_flight, timeout_s=600) as engine:
            return await timed(Journaled(engine, journal).complete, asked)


CONTENDERS: dict[str, Contender] = {BASELINE: plain, "our client": client, "our client with a journal": journaled}


async def timed(complete: Callable[[Request], Awaitable[object]], asked: Sequence[Request]) -> float:
    """CPU seconds of all requests but the first, after which all is loaded and connected."""
    first, *others = asked
    await complete(first)
    before = time.process_time()
    await asyncio.gather(*map(complete, others))
    return time.process_time() - before


@contextmanager
def server() -> Iterator[str]:
    """URL of a server in another process that answers every request at once."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}/v1"
    finally:
        process.terminate()
        process.join()


def _serve(port: Connection) -> None:
    async def serve() -> None:
        listening = await asyncio.get_running_loop().create_server(_Answering, "127.0.0.1", 0, backlog=4096)
        port.send(listening.sockets[0].getsockname()[1])
        await listening.serve_forever()

    asyncio.run(serve())


class _Answering(asyncio.Protocol):
    """One connection: any request gets the same completion."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            head = self.received[:end].lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            if len(self.received) < end + 4 + length:
                return
            self.received = self.received[end + 4 + length :]
            self.transport.write(REPLY)


def _reply(completion: Completion) -> bytes:
    message = {"role": "assistant", "content": completion.text}
    body = {
        "id": "chatcmpl-0123456789abcdef",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": "m",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": completion.finish_reason}],
        "usage": {"prompt_tokens": completion.prompt_tokens, "completion_tokens": completion.tokens},
    }
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content


REPLY = _reply(Completion(TEXT, "stop", tokens=250, prompt_tokens=80))
