"""docs/scaling.md: each table is what the committed results give, by the page's own formulas."""

from dataclasses import replace

import pytest

from benchmarks import scaling
from benchmarks.scaling import BLOCK_OF_PAGE, PAGE, TABLES, Costs, duration, filled, results, rounded, size_of

COSTS = Costs(
    engine_s=0.07,
    tail_s=10.0,
    completions=7.0,
    accepted=0.8,
    compared=1.5,
    client_s=0.0006,
    comparison_s=1e-7,
    journal_bytes=1100.0,
    offsets_bytes=120.0,
    vote_bytes=9000.0,
    held_bytes=26_000.0,
    known_bytes=1900.0,
)


def test_the_tables_of_the_page_are_those_of_the_results() -> None:
    page = PAGE.read_text()
    assert filled(page) == page, "python -m benchmarks scaling --write"


def test_the_page_has_every_table_once() -> None:
    assert sorted(name for _, name, _ in BLOCK_OF_PAGE.findall(PAGE.read_text())) == sorted(TABLES)


def test_no_fault_that_was_simulated_changed_a_vote() -> None:
    by_engines: dict[int, set[str]] = {}
    for row in results("stream")["faults"]:
        by_engines.setdefault(row["engines"], set()).add(row["digest"])
    assert {len(digests) for digests in by_engines.values()} == {1}


def test_twice_the_candidates_cost_twice_the_completions_and_four_times_the_comparisons() -> None:
    assert COSTS.asking_s(2000) == pytest.approx(2 * COSTS.asking_s(1000))
    assert COSTS.comparing_s(2000) == pytest.approx(4 * COSTS.comparing_s(1000))
    assert COSTS.memory_bytes(2000) == pytest.approx(2 * COSTS.memory_bytes(1000))
    assert COSTS.disk_bytes(1000) == 1000 * (7 * 1100 + 0.8 * 9000)


def test_more_engines_shorten_all_but_the_tail() -> None:
    assert COSTS.engines_s(1000, 7) == pytest.approx(1000 * 0.07 / 7 + 10)


def test_rewrites_are_compared_with_all_accepted_questions_and_originals_with_half() -> None:
    originals = replace(COSTS, compared=1.0).comparing_s(1000)
    assert originals == pytest.approx(1000 * 800 / 2 * 1e-7)
    assert COSTS.comparing_s(1000) == pytest.approx(2 * originals)


def test_figures_have_two_digits_and_a_unit() -> None:
    assert [rounded(number) for number in (0.0, 0.0123, 1.26, 12.6, 126.0, 1260.0)] == [
        *("0", "0.012", "1.3", "13"),
        *("130", "1,300"),
    ]
    assert [duration(seconds) for seconds in (30, 300, 30_000, 3e6)] == ["30 s", "5.0 min", "8.3 h", "35 days"]
    assert [size_of(number) for number in (3e6, 4.5e9, 2e13)] == ["3.0 MB", "4.5 GB", "20 TB"]


def test_the_part_that_limits_a_large_round_is_named() -> None:
    assert "comparing" in scaling.table("binding").splitlines()[-1]
