"""Which of the arguments is the command, and what was meant by a word that is none."""

import pytest
from hydra._internal.utils import get_args_parser

from crescent.commands import COMMANDS, without_command
from crescent.doors.command_line import MEANT, find_command, help_text, refuse_words
from crescent.doors.flags import flag_values, settings_first, with_root
from crescent.errors import BadConfig


@pytest.mark.parametrize(
    ("arguments", "command", "others"),
    [
        (["report", "a", "--root", "x"], "report", ["a", "--root", "x"]),
        (["--root", "x", "report", "a"], "report", ["--root", "x", "a"]),
        (["--yes", "rm", "a"], "rm", ["--yes", "a"]),
        (["--format", "csv", "compare", "a"], "compare", ["--format", "csv", "a"]),
        (["--root", "runs", "+experiment=smoke"], None, ["--root", "runs", "+experiment=smoke"]),
        (["--config-dir", "show", "+experiment=x"], None, ["--config-dir", "show", "+experiment=x"]),
        (["+experiment=x", "runs"], None, ["+experiment=x", "runs"]),
        (["-m", "+experiment=x"], None, ["-m", "+experiment=x"]),
        (["show", "runs"], "show", ["runs"]),
        (["banana", "show"], None, ["banana", "show"]),
        ([], None, []),
    ],
)
def test_only_flags_and_their_values_precede_a_command(
    arguments: list[str], command: str | None, others: list[str]
) -> None:
    assert find_command(arguments, COMMANDS) == (command, others)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["list"], "crescent runs"),
        (["ls"], "crescent runs"),
        (["status"], "crescent show RUN"),
        (["plan"], "mode=plan"),
        (["delete", "a"], "crescent rm RUN"),
        (["statsu"], "crescent show RUN"),
        (["archve"], "did you mean archive?"),
        (["+experiment=x", "runs"], "the command comes before its arguments"),
        (["12 34"], "the commands are"),
        (["--root", "x", "qwen"], "qwen: no such command"),
    ],
)
def test_a_word_that_is_no_command_is_refused_with_what_was_meant(arguments: list[str], told: str) -> None:
    with pytest.raises(BadConfig) as refused:
        refuse_words(arguments, COMMANDS)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ["+experiment=x", "~bait.prompts.a", "-m", "run.seed=1,2"],
        ["--config-dir", "mine", "+experiment=x"],
        ["--cfg", "job"],
        ["-c", "job", "-p", "train"],
        ["--info", "searchpath"],
        ["--config-dir=mine", "--hydra-help"],
    ],
)
def test_what_hydra_understands_is_left_to_it(arguments: list[str]) -> None:
    refuse_words(arguments, COMMANDS)


def test_no_command_of_ours_is_explained_as_a_word_of_others() -> None:
    assert not MEANT.keys() & COMMANDS.keys()
    named = " ".join(MEANT.values())
    assert all(word in COMMANDS for word in named.split() if word in ("runs", "show", "rm", "export", "verify"))


def test_the_help_has_a_line_for_each_command() -> None:
    text = help_text({name: command.__doc__ or "" for name, command in COMMANDS.items()})
    for name, command in COMMANDS.items():
        assert (command.__doc__ or "").startswith(f"`crescent {name}`: ")
        (line,) = [line for line in text.splitlines() if line.startswith(f"  {name} ")]
        assert len(line.split()) > 3
    assert max(map(len, text.splitlines())) <= 100


def test_a_flag_without_its_folder_is_refused() -> None:
    with pytest.raises(BadConfig, match="--root: a folder must follow"):
        without_command(["+experiment=smoke", "--root"])


def test_the_folder_of_runs_becomes_a_setting_whatever_is_in_its_name() -> None:
    assert with_root(["a=1", "--root", "x", "b=2"]) == ["a=1", "b=2", "run.root='x'"]
    assert with_root(["--root=it's"]) == ["run.root='it\\'s'"]
    assert with_root(["a=1"]) == ["a=1"]


def test_settings_may_stand_behind_flags_and_hydra_gets_them_first() -> None:
    assert settings_first(["a=1", "-m", "b=1,2", "~c"]) == ["a=1", "b=1,2", "~c", "-m"]
    assert settings_first(["--config-dir", "d=e", "a=1"]) == ["a=1", "--config-dir", "d=e"]
    assert settings_first(["-m", "--info", "all", "+x=1", "--cfg", "job"]) == [
        "+x=1",
        "-m",
        "--info",
        "all",
        "--cfg",
        "job",
    ]
    parser = get_args_parser()
    with pytest.raises(SystemExit):
        parser.parse_args(["a=1", "-m", "b=1,2"])
    assert parser.parse_args(settings_first(["a=1", "-m", "b=1,2"])).overrides == ["a=1", "b=1,2"]
    assert flag_values(["--root", "x", "--root=y", "z"], "--root") == (["x", "y"], ["z"])
