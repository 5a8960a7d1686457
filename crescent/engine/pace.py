"""When a reply will not come any more, long before the time-out: judged by how long the others took.

A stream of questions decides them in order, so it waits for the slowest; with the time-out alone, one lost reply would
hold it up for ten minutes (`python -m benchmarks stream`).
"""

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager

ROOM = 2.0
"""Time that the first attempt at a request has, divided by the longest that the replies so far make likely."""
SHORTEST_LIMIT_S = 20.0
"""Shortest time that an attempt has, in seconds, however fast the replies have been."""
ENOUGH_REPLIES = 32
"""Number of replies from which the time of others is foreseen."""


class Pace:
    """How long the replies of an endpoint have taken so far."""

    def __init__(self) -> None:
        self._replies = 0
        self._slowest_s = 0.0
        self._per_token_s = 0.0
        """Seconds per token of the slowest reply, its wait for a place in the batch included."""

    def add(self, seconds: float, tokens: int) -> None:
        self._replies += 1
        if seconds > self._slowest_s:
            self._slowest_s, self._per_token_s = seconds, seconds / max(1, tokens)

    def limit_s(self, max_tokens: int) -> float:
        """Seconds within which a reply of so many tokens comes, with room to spare; infinite before that is known."""
        if self._replies < ENOUGH_REPLIES:
            return math.inf
        return max(SHORTEST_LIMIT_S, ROOM * max(self._slowest_s, self._per_token_s * max_tokens))

    @contextmanager
    def shortening(self, limit: asyncio.Timeout, tokens: int | None) -> Iterator[None]:
        """End an attempt, which begins now, as soon as a reply of so many tokens should have come; `None`: never."""
        loop = asyncio.get_running_loop()
        sent_at = loop.time()
        timer: asyncio.TimerHandle | None = None

        def look() -> None:
            nonlocal timer
            assert tokens is not None
            due = sent_at + self.limit_s(tokens)
            if due <= loop.time():
                limit.reschedule(loop.time())
            else:  # the next replies may show that it takes longer, or how long it takes
                timer = loop.call_at(min(due, loop.time() + SHORTEST_LIMIT_S), look)

        if tokens is not None:
            timer = loop.call_later(SHORTEST_LIMIT_S, look)
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
