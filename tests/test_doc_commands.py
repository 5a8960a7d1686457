"""Every command of the documentation that names an experiment composes to a config that can work."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from crescent.config import Config
from crescent.doors.hydra_door import declare, refuse_unknown, replace_prompts

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command of a page, without its comment."""
    for block in BLOCK.findall(page.read_text()):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"\s&&\s", line):
                yield shlex.split(part, comments=True)


def overrides(words: list[str]) -> list[str] | None:
    """What a command that names an experiment of ours sets, of a sweep only the first point; else `None`.

    `NAME` stands for any experiment, and `--config-dir` for experiments of the reader's own.
    """
    if words[:2] == ["docker", "run"]:
        words = words[words.index("python") :]
    is_run = "crescent" in words[:2] or "crescent.loop" in words
    experiments = {word.partition("=")[2] for word in words if word.startswith("+experiment=")}
    if not is_run or "--config-dir" in words or not experiments - {"NAME"}:
        return None
    settings = [word for word in words if re.match(r"[+~]*[a-z_.]+(=|$)", word) and word.strip("+~") not in OTHERS]
    if "-m" not in words[1 if words[0] == "crescent" else 3 :]:
        return settings
    swept = [word for word in settings if not word.startswith("hydra") and "(" not in word]
    return [re.sub(r"=([^\[{,]+),.*", r"=\1", word) for word in swept]


OTHERS = {"python", "crescent", "doctor", "crescent.loop"}
FOUND = [(page.name, setting) for page in PAGES for words in commands(page) if (setting := overrides(words))]


def test_commands_are_found() -> None:
    assert len(FOUND) > 20
    assert ("clusters.md", ["+experiment=qwen7b"]) in FOUND, "that of a container"
    assert ("own.md", ["+experiment=smoke", "run.name=all-but-one", "~bait.prompts.addition"]) in FOUND
    swept = overrides(shlex.split("python -m crescent.loop -m +experiment=qwen7b consensus.samples=4,8 run.seed=1,2"))
    assert swept == ["+experiment=qwen7b", "consensus.samples=4", "run.seed=1"]


@pytest.mark.parametrize(("page", "settings"), FOUND, ids=[f"{page}: {' '.join(words)}" for page, words in FOUND])
def test_a_command_of_the_pages_can_work(page: str, settings: list[str]) -> None:
    arguments = declare(settings)
    try:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            config = compose("config", arguments)
        refuse_unknown(config, Config)
        replace_prompts(config, arguments)
        assert isinstance(OmegaConf.to_object(config), Config)
    finally:
        declare([])
