"""The stream simulator: the real stream and client on model engines, in virtual time."""

import asyncio
import time
from functools import cache
from typing import Any

import pytest

from benchmarks.model_engines import Faults, Lengths, Speed
from benchmarks.stream import Scenario, simulate
from benchmarks.virtual_time import Stuck, VirtualTime

SMALL = Speed(slots=16)


@cache
def small(engines: int = 1, **others: Any) -> dict[str, Any]:
    return simulate(Scenario(engines, questions=96 * engines, speed=SMALL, **others))


def test_an_hour_of_waiting_takes_no_time_and_the_clock_shows_it() -> None:
    async def wait() -> float:
        await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(1800))
        return asyncio.get_running_loop().time()

    began = time.monotonic()
    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        assert runner.run(wait()) == pytest.approx(3600)
    assert time.monotonic() - began < 60


def test_what_runs_in_a_thread_takes_the_time_that_it_states() -> None:
    async def work() -> tuple[float, str]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTime)

        def embed() -> str:
            loop.spend(2.5)
            return "vectors"

        return loop.time(), await asyncio.to_thread(embed)

    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        assert runner.run(work()) == (0.0, "vectors")
        assert runner.get_loop().time() == pytest.approx(2.5)


def test_waiting_for_what_nobody_brings_is_an_error_and_does_not_last_for_ever() -> None:
    async def wait() -> None:
        await asyncio.get_running_loop().create_future()

    with asyncio.Runner(loop_factory=VirtualTime) as runner, pytest.raises(Stuck):
        runner.run(wait())


def test_two_simulations_of_one_scenario_are_equal() -> None:
    assert small() == simulate(Scenario(1, questions=96, speed=SMALL))


def test_the_share_of_capacity_falls_when_too_few_requests_are_in_flight() -> None:
    shares = [small(in_flight=sent)["share"] for sent in (4, 8, 24)]
    assert shares == sorted(shares)
    assert shares[0] < 0.5 * shares[2]


def test_the_share_of_capacity_falls_when_the_client_is_too_slow_for_the_engines() -> None:
    assert small(2, client_ms=100.0)["client busy"] > 0.9
    assert small(2, client_ms=100.0)["share"] < 0.8 * small(2)["share"]


def test_slow_embedding_delays_the_round() -> None:
    assert small(embed_ms=500.0)["wall s"] > small()["wall s"] + 10


@pytest.mark.parametrize(
    "faults",
    [Faults(hung_attempts=1), Faults(hung_attempts=5), Faults(errors=0.05), Faults(death_s=5), Faults(hang_s=5)],
    ids=str,
)
def test_what_goes_wrong_costs_time_and_changes_no_vote(faults: Faults) -> None:
    disturbed = small(2, faults=faults)
    assert disturbed["digest"] == small(2)["digest"]
    assert disturbed["wall s"] > small(2)["wall s"]


@pytest.mark.parametrize("engines", [1, 2])
def test_a_reply_that_got_lost_holds_up_the_others_for_far_less_than_the_time_out(engines: int) -> None:
    """`serving.request_timeout_s` is ten minutes; answers to all later questions wait for a lost one."""
    assert small(engines, faults=Faults(hung_attempts=1))["pause s"] < 60


def test_a_question_that_hangs_on_its_engine_is_handed_over_to_another() -> None:
    assert small(2, faults=Faults(hung_attempts=5))["pause s"] < 60


def test_a_dead_engine_beside_others_is_no_reason_to_start_again() -> None:
    assert small(2, faults=Faults(death_s=5))["restarts"] == 0
    assert small(1, faults=Faults(death_s=5))["restarts"] == 1


def test_lengths_are_spread_as_stated() -> None:
    import random

    dice = random.Random(0)
    lengths = Lengths(mean=250, spread=0.6, most=1024, runaway=0.01)
    drawn = [lengths.draw(dice) for _ in range(20_000)]
    assert sum(drawn) / len(drawn) == pytest.approx(0.99 * 250 + 0.01 * 1024, rel=0.03)
    assert 0.008 < drawn.count(1024) / len(drawn) < 0.02
