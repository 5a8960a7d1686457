"""The checks that `make check` runs, so that the tests say it too."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("check", ["ruff check .", "ruff format --check .", "mypy"])
def test_the_code_passes(check: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", *check.split()], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_readme_names_only_what_is_there() -> None:
    readme = (ROOT / "README.md").read_text()
    for target in ("install", "quickstart", "test", "check"):
        assert f"\n{target}:" in (ROOT / "Makefile").read_text()
    for experiment in ("qwen7b", "smoke"):
        assert f"+experiment={experiment}" in readme
        assert (ROOT / "conf" / "experiment" / f"{experiment}.yaml").exists()
    assert "make test" in (ROOT / ".ci" / "run").read_text()
