"""Whatever is killed, stopped or interrupted, the same command ends the run as if nothing had happened.

This is the sample of the full soak (`make soak`) that runs with the other tests.
"""

import os
from pathlib import Path

import pytest
from disturbed import KINDS, Reference, chain, kill_at_every_failpoint, reference
from soak import SMALL, table

SETTINGS = (*SMALL, "run.rounds=1")
DOCS = Path(__file__).parents[2] / "docs" / "reliability.md"
pytestmark = pytest.mark.timeout(900)
whole_runs = pytest.mark.skipif(
    "CRESCENT_SOAK" not in os.environ, reason="whole runs are disturbed where CRESCENT_SOAK is set, and by make soak"
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return reference(tmp_path_factory.mktemp("small"), *SETTINGS)


@whole_runs
def test_a_run_that_is_killed_at_one_failpoint_after_another_ends_like_an_undisturbed_one(
    small: Reference, tmp_path: Path
) -> None:
    found = kill_at_every_failpoint(small, tmp_path / "killed", SETTINGS, sample=10)
    assert found.problems == []
    assert found.tries >= 3


@whole_runs
@pytest.mark.parametrize("seed", [1])
def test_a_run_that_is_disturbed_in_all_ways_ends_like_an_undisturbed_one(
    seed: int, small: Reference, tmp_path: Path
) -> None:
    kinds = [kind for kind in KINDS.values() if not kind.overrides]
    found = chain(kinds, small, tmp_path / "disturbed", seed, tries=5, overrides=SETTINGS)
    assert found.problems == []
    assert found.tries >= 1
    assert found.completions_lost == 0


def test_the_docs_show_the_last_soak() -> None:
    assert table() in DOCS.read_text()
