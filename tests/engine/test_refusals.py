"""Refused requests are counted, shown, asked again by the next attempt, and end the stage if they are many."""

import asyncio
from pathlib import Path

import pytest
from fakes import ShufflingEngine, stop

from crescent.engine.journal import Journal, Journaled
from crescent.engine.refusals import CANARY
from crescent.errors import BadConfig, Missing
from crescent.records import Completion, Request

TOO_LONG = Completion("refused with status 400: 'maximum context length is 64'", "error", tokens=0)


def asked(index: int) -> Request:
    return Request(f"eval/{index}", f"What is {index} + 1?", 0.0, 16, seed=index)


class Refusing:
    """An engine that refuses some requests, sooner than it answers the others."""

    def __init__(self, *refused: int, everything: bool = False) -> None:
        self.refused = {asked(index).key for index in refused}
        self.everything = everything
        self.sent: list[str] = []

    async def complete(self, request: Request) -> Completion:
        self.sent.append(request.key)
        if self.everything or request.key in self.refused:
            return TOO_LONG
        for _ in range(5):
            await asyncio.sleep(0)
        return stop("4")


def run(path: Path, engine: Refusing, count: int, allowed: float = 0.02) -> tuple[list[Completion], Journaled]:
    async def all_of_them(journal: Journal) -> tuple[list[Completion], Journaled]:
        journaled = Journaled(engine, journal, allowed)
        tasks = [asyncio.create_task(journaled.complete(asked(index))) for index in range(count)]
        try:
            return await asyncio.gather(*tasks), journaled
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    with Journal(path) as journal:
        return asyncio.run(all_of_them(journal))


def test_a_few_refusals_are_counted_and_named(tmp_path: Path) -> None:
    found, journaled = run(tmp_path / "journal.jsonl", Refusing(3, 5, 70), 200)
    assert [index for index, completion in enumerate(found) if completion.finish_reason == "error"] == [3, 5, 70]
    assert journaled.refusals.line().startswith("3 of 200 requests were refused")
    assert "maximum context length" in journaled.refusals.line()


def test_two_refusals_of_few_requests_end_nothing(tmp_path: Path) -> None:
    found, _ = run(tmp_path / "journal.jsonl", Refusing(0, 1), 4)
    assert len(found) == 4


def test_more_than_a_small_share_ends_the_stage_with_the_engines_words(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="maximum context length") as raised:
        run(tmp_path / "journal.jsonl", Refusing(*range(0, 70, 7)), 70)
    assert raised.value.exit_code == 69
    assert "serving.max_refused=0.02" in str(raised.value)
    found, _ = run(tmp_path / "journal.jsonl", Refusing(*range(0, 70, 7)), 70, allowed=0.2)
    assert len(found) == 70


def test_what_was_refused_is_asked_again_by_the_next_attempt_and_nothing_else_is(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    run(path, Refusing(3, 5), 200)
    engine = Refusing()
    found, journaled = run(path, engine, 200)
    assert sorted(engine.sent) == ["eval/3", "eval/5"]
    assert {completion.text for completion in found} == {"4"}
    assert journaled.refusals.line() == ""


def test_refusals_that_earlier_versions_wrote_down_are_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(asked(3), TOO_LONG)
    engine = Refusing()
    run(path, engine, 4)
    assert "eval/3" in engine.sent


def test_an_engine_that_refuses_everything_is_exit_2_at_once_with_its_words(tmp_path: Path) -> None:
    engine = Refusing(everything=True)
    with pytest.raises(BadConfig, match=r"refuses every request.*maximum context length") as raised:
        run(tmp_path / "journal.jsonl", engine, 200)
    assert raised.value.exit_code == 2
    assert engine.sent.count(CANARY.key) == 1


def test_an_engine_that_answers_is_not_asked_for_more_than_the_stage_needs(tmp_path: Path) -> None:
    engine = ShufflingEngine(lambda _: stop("4"))
    with Journal(tmp_path / "journal.jsonl") as journal:
        asyncio.run(Journaled(engine, journal).complete(asked(1)))
    assert engine.asked == 1
