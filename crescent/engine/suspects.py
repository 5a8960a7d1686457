"""Finds the request that kills the engine among those that the engine had when it died.

Sent alone one after another, 250 suspects take a quarter of an hour (at 4 s each). Halving them costs an engine for
every half with the culprit: up to eight restarts of a minute or two, which is no faster and as many as
`serving.max_restarts` allows. So many suspects are sent in about as many groups as a group has members, and then the
members of the group that kills the engine are sent alone: 2 x 16 turns for 250 suspects, and two restarts.
"""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

FEW = 16
"""Number of suspects up to which each is sent alone: that takes no longer than the restart that a group may cost."""
ALONE = "alone"
"""Mark of a suspect whose group killed the engine."""


def groups(suspects: Mapping[str, str]) -> dict[str, str]:
    """Group of each suspect.

    Args:
        suspects: Mark by key of the request: `ALONE` or empty.
    """
    alone = [key for key, mark in suspects.items() if mark == ALONE]
    others = sorted(key for key, mark in suspects.items() if mark != ALONE)
    size = 1 if len(others) <= FEW else math.isqrt(len(others) - 1) + 1
    found = {key: f"alone {key}" for key in alone}
    return found | {key: f"group {place // size}" for place, key in enumerate(others)}


class Turns:
    """Who may be with the engine at a time: requests above suspicion, or the suspects of one group.

    Suspects come first: while one waits, no request above suspicion starts.
    """

    def __init__(self) -> None:
        self._present: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def of(self, group: str | None) -> AsyncIterator[None]:
        """Wait for the turn of a group, `None` for requests above suspicion, and hold it for the time of the block."""
        name = group or ""
        self._waiting[name] += 1
        try:
            while not self._may_start(name):
                self._changed.clear()
                await self._changed.wait()
        finally:
            self._leave(self._waiting, name)
        self._present[name] += 1
        try:
            yield
        finally:
            self._leave(self._present, name)

    def _may_start(self, name: str) -> bool:
        if self._present:
            suspects_wait = any(self._waiting)
            return set(self._present) == {name} and (bool(name) or not suspects_wait)
        first = next((waiting for waiting in self._waiting if waiting), "")
        return name == first

    def _leave(self, place: Counter[str], name: str) -> None:
        place[name] -= 1
        if not place[name]:
            del place[name]
        self._changed.set()
