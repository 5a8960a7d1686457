"""docs/own.md, followed word for word as far as settings go: what it shows composes and passes all checks."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from test_config import composed

from crescent.commands import COMMANDS
from crescent.config import Source
from crescent.doors.hydra_door import declare

PAGE = (Path(__file__).parent.parent.parent / "docs" / "own.md").read_text()


def shown(language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def commands() -> list[list[str]]:
    """The commands of the page as arguments, without comments."""
    lines = "\n".join(shown("sh")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


RUNS = [arguments[1:] for arguments in commands() if arguments[0] == "crescent" and arguments[1] not in COMMANDS]


def test_the_page_shows_runs_and_commands() -> None:
    assert len(RUNS) >= 6
    shown_commands = {arguments[1] for arguments in commands() if arguments[1] in COMMANDS}
    assert shown_commands == {"archive", "export", "fork", "rm", "runs", "show"}


@pytest.mark.parametrize("overrides", RUNS, ids=" ".join)
def test_what_the_page_shows_composes(overrides: list[str]) -> None:
    try:
        cfg = composed(*declare(overrides))
    finally:
        declare([])
    own = [benchmark for benchmark in cfg.eval.benchmarks.values() if benchmark.source in (Source.jsonl, Source.hub)]
    assert bool(own) == any("source" in override for override in overrides)
    assert bool(cfg.bait.seeds) == any("seeds" in override for override in overrides)


def test_flags_of_the_commands_exist(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in commands():
        if arguments[1] in COMMANDS:
            with pytest.raises(SystemExit):
                COMMANDS[arguments[1]](["--help"])
            described = capsys.readouterr().out
            assert all(flag in described for flag in arguments if flag.startswith("--"))


def test_own_yaml_is_found_through_config_dir(tmp_path: Path) -> None:
    """The files of the page, written where it says, with Hydra's own flag."""
    for text in shown("yaml"):
        name = re.match(r"# (my-conf/\S+)\n", text)
        assert name, text
        yaml.safe_load(text)
        path = tmp_path / name[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.partition("\n")[2])
    (tmp_path / "dev.jsonl").write_text("".join(f'{{"question": "{n} + 1?", "answer": {n + 1}}}\n' for n in range(20)))
    command = [
        sys.executable,
        "-P",
        "-m",
        "crescent.loop",
        "--config-dir",
        "my-conf",
        "+experiment=mine",
        "--cfg",
        "job",
    ]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found = yaml.safe_load(ended.stdout)
    assert list(found["bait"]["prompts"]) == ["trains"]
    assert list(found["eval"]["benchmarks"]) == ["mine"]
