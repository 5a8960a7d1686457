"""The documentation as a site, the README and what stands beside them. `make docs` builds the site itself."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

import crescent
from crescent.config import Config

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SCREEN = 70
"""Lines of a screen."""
LARGEST_PICTURE = 150_000

sys.path.insert(0, str(DOCS / "hooks"))
import pages  # noqa: E402
import settings_page  # noqa: E402


def navigation(entries: Any) -> Iterator[str]:
    """File names of all pages in the navigation."""
    for entry in entries:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            yield from [value] if isinstance(value, str) else navigation(value)


def test_every_page_is_in_the_navigation_once() -> None:
    named = list(navigation(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    there = {path.name for path in DOCS.glob("*.md")} | set(pages.BESIDE_DOCS.values())
    assert sorted(named) == sorted(there)


def test_a_warning_fails_the_site() -> None:
    """mkdocs counts only the warnings that it prints, so --quiet would let a broken link pass."""
    assert "mkdocs build --clean --strict\n" in (ROOT / "Makefile").read_text()
    assert "make docs" in (ROOT / ".ci" / "run").read_text()


def test_links_lead_to_the_pages_of_the_site() -> None:
    assert pages.target("../RESULTS.md", "method.md") == "results.md"
    assert pages.target("docs/study.md", "results.md") == "study.md"
    assert pages.target("study.md", "method.md") == "study.md"


def test_a_page_that_fetches_from_elsewhere_is_recognised() -> None:
    assert pages.FETCHED.search('<script src="https://unpkg.com/x">')
    assert pages.FETCHED.search('<link rel="stylesheet" href="https://fonts.googleapis.com/css">')
    assert not pages.FETCHED.search('<a href="https://arxiv.org/abs/2502.13441">paper</a> <script src="x.js">')


def test_the_list_of_settings_has_every_setting_with_default_unit_and_choices() -> None:
    page = settings_page.settings()
    assert settings_page.MARK in (DOCS / "settings.md").read_text()
    for group in fields(Config):
        assert f"\n## {group.name}\n" in page or f'id="{group.name}"' in page
    entry = dict(re.findall(r'<a id="([\w.]+)"></a>(.*?)(?=<a id=|\Z)', page, re.DOTALL))
    assert len(entry) > 180
    assert "default `8`" in entry["consensus.samples"]
    assert "float, in seconds, default `5.0`" in entry["consensus.grading_timeout_s"]
    assert "default `Qwen/Qwen2.5-7B-Instruct`" in entry["model.path"]  # from conf/, not from the dataclass
    assert "- `label_free`: Without labels" in entry["verdict.gate"]
    assert "default `dev`" in entry["eval.benchmarks.NAME.split"]


def test_the_readme_fits_a_screen_and_keeps_its_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= SCREEN
    assert "make quickstart " in readme
    assert "make test " in readme


def test_pictures_are_small_and_badges_are_true() -> None:
    assert all(path.stat().st_size <= LARGEST_PICTURE for path in (DOCS / "images").iterdir())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] in (DOCS / "images" / "licence.svg").read_text()
    assert project["requires-python"] == ">=3.11,<3.14"
    assert ">3.11 to 3.13<" in (DOCS / "images" / "python.svg").read_text()


def test_the_citation_names_this_version_and_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == crescent.__version__
    assert "2502.13441" in citation["references"][0]["url"]


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.name
)
def test_issue_templates_are_forms(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    if path.name != "config.yml":
        assert {"name", "description", "body"} <= form.keys()
        assert all({"type", "attributes"} <= part.keys() for part in form["body"])


def test_the_example_of_ones_own_data_and_bait_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "crescent.loop", "--config-dir", "examples/own/conf", "+experiment=mine"]
    few = ["bait.questions=12", "pairs.minimum=1", "run.rounds=1", f"run.root={tmp_path}"]
    ended = subprocess.run([*command, *few], cwd=ROOT, capture_output=True, text=True, check=False, timeout=250)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "mine" / "round-1" / "verdict").is_dir()
