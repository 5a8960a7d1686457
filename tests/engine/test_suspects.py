"""A request that kills the engine is found in few turns and few restarts, however many were in flight with it."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from test_journal import Mortal, request

from crescent.engine.client import EngineDied
from crescent.engine.journal import CANARY, Journal, Journaled
from crescent.engine.suspects import ALONE, FEW, Turns, groups
from crescent.records import Completion, Request


class Counting(Mortal):
    """Counts the times that requests came to an idle engine."""

    def __init__(self, deadly: Request | None) -> None:
        super().__init__(deadly)
        self.turns = 0

    async def complete(self, asked: Request) -> Completion:
        self.turns += asked != CANARY and not self.has - {CANARY.key}
        return await super().complete(asked)


def ask_until_the_engine_survives(path: Path, engine: Counting, count: int) -> tuple[list[Completion], int]:
    """All completions, and how often the engine died."""

    async def ask(journal: Journal) -> list[Completion]:
        journaled = Journaled(engine, journal)
        tasks = [asyncio.create_task(journaled.complete(request(index))) for index in range(count)]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    for deaths in range(10):
        engine.dead = False
        try:
            with Journal(path) as journal:
                return asyncio.run(ask(journal)), deaths
        except EngineDied:
            continue
    raise AssertionError("the engine keeps dying")


@pytest.mark.parametrize("deadly", [0, 100, 249])
def test_one_of_250_is_found_in_two_restarts_more_and_nobody_else_is_blamed(tmp_path: Path, deadly: int) -> None:
    engine = Counting(deadly=request(deadly))
    found, deaths = ask_until_the_engine_survives(tmp_path / "journal.jsonl", engine, 250)
    assert [index for index, completion in enumerate(found) if completion.finish_reason == "error"] == [deadly]
    assert deaths == 3, "among all, in its group, alone"
    assert engine.turns < 40, "sent alone one after another, 250 suspects took up to 250 turns"


def test_few_suspects_are_sent_alone_and_many_in_groups() -> None:
    few = {f"q/{index}": "" for index in range(FEW)}
    assert len(set(groups(few).values())) == FEW
    many = Counter(groups({f"q/{index}": "" for index in range(250)}).values())
    assert sorted(many.values()) == [10] + [16] * 15
    marked = groups({**{f"q/{index}": "" for index in range(30)}, "q/x": ALONE, "q/y": ALONE})
    assert marked["q/x"] != marked["q/y"]


def test_while_suspects_wait_nobody_else_starts_and_groups_never_meet() -> None:
    async def run() -> list[set[str]]:
        turns, here, seen = Turns(), [], []

        async def visit(group: str | None) -> None:
            async with turns.of(group):
                here.append(str(group))
                for _ in range(3):
                    await asyncio.sleep(0)
                    seen.append(set(here))
                here.remove(str(group))

        order = [None, None, "a", None, "b", "a", None, "b", "b"]
        await asyncio.gather(*(visit(group) for group in order))
        return seen

    seen = asyncio.run(run())
    assert all(len(together) == 1 for together in seen)
    order = [together for place, together in enumerate(seen) if place == 0 or together != seen[place - 1]]
    assert order == [{"None"}, {"a"}, {"b"}, {"None"}]


def test_a_cancelled_suspect_holds_nobody_up() -> None:
    async def run() -> bool:
        turns = Turns()
        async with turns.of(None):
            waiting = asyncio.create_task(asyncio.wait_for(take_a_turn(turns, "a"), 0.01))
            with pytest.raises(TimeoutError):
                await waiting
            async with asyncio.timeout(5), turns.of(None):
                return True

    assert asyncio.run(run())


async def take_a_turn(turns: Turns, group: str) -> None:
    async with turns.of(group):
        pass
