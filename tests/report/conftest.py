"""A smoke run with everything that can be measured, and its report."""

import shutil
from pathlib import Path

import pytest
from report_page import Element, read_page
from smoke_runs import run_smoke

from crescent.report import write_report


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rounds on the fakes; a strict threshold makes some questions near-duplicates. Not to be written to."""
    root = tmp_path_factory.mktemp("runs")
    return run_smoke(
        root, "zero", "eval.reliability=20", "eval.samples=2", "eval.temperature=0.7", "diversify.threshold=0.5"
    )


@pytest.fixture
def zero(run: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be written to."""
    return Path(shutil.copytree(run, tmp_path / "zero"))


@pytest.fixture(scope="session")
def page(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Element:
    """The report of the run."""
    output = tmp_path_factory.mktemp("reports") / "report.html"
    write_report([run], output, rate=3.0)
    return read_page(output)
