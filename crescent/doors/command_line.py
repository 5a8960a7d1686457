"""How `crescent` reads its arguments: which word is the command, what was meant by a wrong one, and which run is named.

Nothing here imports what takes time: `--help` has to answer at once.
"""

import difflib
from argparse import ArgumentParser, Namespace
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from crescent.doors.flags import DIRECTORY, ROOT
from crescent.errors import BadConfig, Missing

if TYPE_CHECKING:
    from rich.console import Console

RUNS = Path("runs")
"""Default folder of runs (`run.root`)."""
VALUED = (
    *(ROOT, *DIRECTORY, "--config-path", "-cp", "--config-name", "-cn", "--package", "-p", "--cfg", "-c", "--info"),
    *("-i", "--experimental-rerun"),
)
"""Flags of ours and of Hydra that a value follows, which may read like a command."""
HELP = ("-h", "--help")
EXPERIMENTS = ("smoke", "quickstart", "qwen7b")
"""Experiments that the help names; with an experiment before it, `--help` lists all."""
MEANT = {
    **dict.fromkeys(("list", "ls", "run-list", "history"), "crescent runs"),
    **dict.fromkeys(("status", "info", "stat", "describe", "summary", "watch", "log", "logs"), "crescent show RUN"),
    "plan": "crescent +experiment=NAME mode=plan",
    **dict.fromkeys(("run", "start", "train", "loop", "resume", "continue"), "crescent +experiment=NAME"),
    "sweep": "crescent -m +experiment=NAME run.seed=1,2",
    **dict.fromkeys(("remove", "delete", "del", "clean", "prune", "purge"), "crescent rm RUN"),
    **dict.fromkeys(("diff", "cmp", "rank"), "crescent compare RUN…"),
    **dict.fromkeys(("zip", "tar", "pack", "backup"), "crescent archive RUN"),
    **dict.fromkeys(("copy", "cp", "clone", "branch"), "crescent fork RUN NEW"),
    **dict.fromkeys(("upload", "push"), "crescent sync RUN, or for a model crescent export RUN --to FOLDER --push ID"),
    **dict.fromkeys(("merge", "save"), "crescent export RUN --to FOLDER --merge"),
    **dict.fromkeys(("check", "fsck", "validate"), "crescent verify RUN, or for the machine crescent doctor"),
    "fix": "crescent repair RUN",
    "html": "crescent report RUN",
    "help": "crescent --help",
    "version": "crescent --version",
}
"""What other programs call it → our command."""


def help_text(commands: Mapping[str, str]) -> str:
    """All commands, a line each, and how a run is started.

    Args:
        commands: Docstring by command: after a colon, what the command does.
    """
    width = max(map(len, commands))
    summaries = {name: about.partition(": ")[2].partition("\n")[0] for name, about in commands.items()}
    listed = [f"  {name:<{width}}  {summary.removesuffix('.')}" for name, summary in summaries.items()]
    return "\n".join(
        [
            "usage: crescent COMMAND ... [--root FOLDER]",
            "       crescent +experiment=NAME [KEY=VALUE ...]",
            "",
            "A language model teaches itself for N rounds, and every round must prove that it helped.",
            "",
            "start a run, or resume it where it stopped:",
            f"  crescent +experiment=NAME              e.g. {', '.join(EXPERIMENTS)}",
            "  crescent +experiment=NAME mode=plan    print what it would do and cost; starts nothing",
            "  crescent -m +experiment=NAME run.seed=1,2",
            "                                         a sweep",
            "  crescent +experiment=NAME --help       all experiments and settings",
            "  python -m eval model.path=ORG/MODEL eval=gsm8k",
            "                                         evaluate any model, without a run",
            "",
            "commands about runs (a run is named by its folder, or by its name in --root):",
            *listed,
            "",
            "  crescent COMMAND --help                its arguments; flags may stand anywhere",
            "  --root FOLDER                          folder of the runs (default: runs)",
            "  --version                              version of Crescent",
        ]
    )


def find_command(arguments: Sequence[str], commands: Collection[str]) -> tuple[str | None, list[str]]:
    """The command among the arguments, and the others in their order; only flags and their values may precede it."""
    before = ""
    for place, argument in enumerate(arguments):
        if argument in commands and before not in VALUED:
            return argument, [*arguments[:place], *arguments[place + 1 :]]
        if not argument.startswith("-") and not before.startswith("-"):
            break
        before = argument
    return None, list(arguments)


def refuse_words(arguments: Sequence[str], commands: Collection[str]) -> None:
    """Refuse arguments that are neither a flag nor an override, which has a `=` or deletes with `~`.

    Raises:
        BadConfig: there is one; the message names the command that was probably meant.
    """
    before = ""
    for argument in arguments:
        is_word = bool(argument) and "=" not in argument and not argument.startswith(("-", "~", "+"))
        if is_word and before not in VALUED:
            refuse_word(argument, commands)
        before = argument


def refuse_word(word: str, commands: Collection[str]) -> NoReturn:
    """Refuse a word that is not a command, and suggest one.

    Raises:
        BadConfig: always.
    """
    from crescent.reading.finished import is_run

    if word in ("eval", "evaluate"):
        raise BadConfig(f"{word}: a model is evaluated with `python -m eval model.path=ORG/MODEL eval=gsm8k`")
    if word in commands:
        raise BadConfig(f"{word}: the command comes before its arguments, and settings belong to none: crescent {word}")
    if word in MEANT:
        raise BadConfig(f"{word}: no such command; did you mean `{MEANT[word]}`?")
    if is_run(Path(word)) or is_run(RUNS / word):
        raise BadConfig(f"{word}: is a run, and no command; did you mean `crescent show {word}`?")
    near = difflib.get_close_matches(word, [*commands, *MEANT], n=1)
    if near:
        meant = f"did you mean `{MEANT[near[0]]}`?" if near[0] in MEANT else f"did you mean {near[0]}?"
    else:
        meant = f"the commands are {', '.join(commands)}"
    raise BadConfig(f"{word}: no such command (settings are given as KEY=VALUE); {meant}")


class CommandParser(ArgumentParser):
    """The parser of one command: its flags may stand anywhere, and every command knows `--root`."""

    def __init__(self, command: str, description: str, epilog: str = "") -> None:
        super().__init__(f"crescent {command}", description=description, epilog=epilog)
        where = "folder of the runs that are named without a path (default: runs)"
        self.add_argument(ROOT, type=Path, default=RUNS, metavar="FOLDER", help=where)

    def read(self, arguments: Sequence[str]) -> Namespace:
        """The arguments, with flags before, between and after the others."""
        return self.parse_intermixed_args(list(arguments))

    def add_run(self) -> None:
        """Add the argument that most commands have."""
        self.add_argument("run", metavar="RUN", help=f"run folder, or the name of one in {ROOT}")


def run_named(given: str, root: Path = RUNS) -> Path:
    """Run folder by path or, for a bare name, in `root`.

    Raises:
        Missing: as `run_folders`.
    """
    from crescent.reading.finished import is_run

    here = Path(given)
    bare = here.name == given and not is_run(here) and (is_run(root / here) or not here.exists())
    return run_folders(root / here if bare else here, root)[0]


def run_folders(named: Path | None, root: Path = RUNS) -> list[Path]:
    """The named run folder, or all those in `root`, newest first.

    Raises:
        Missing: there is no such folder, or it is not a run folder.
    """
    from crescent.reading.finished import is_run, runs_below

    if named is None:
        if found := runs_below(root):
            return found
        raise Missing(f"{root.absolute()} has no run in it; name the folder of runs with --root, or change folder")
    if is_run(named):
        return [named]
    problem = "not a run folder: no run was started in it" if named.is_dir() else "no such folder"
    near = [run for run in runs_below(root) if run.name == named.name or run.parent == named]
    near = near or runs_below(named) or runs_below(root)
    meant = f"; runs: {', '.join(map(str, near[:6]))}{', …' if len(near) > 6 else ''}" if near else ""
    raise Missing(f"{named}: {problem}{meant}")


def open_console() -> "Console":
    """A console that prints text as it is."""
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False)
