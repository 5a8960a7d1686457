"""The console script `crescent`: commands about runs by name, and everything else to the loop.

    crescent +experiment=qwen7b      the loop, with Hydra's overrides and flags
    crescent trace ID                a training pair or question, from its bait prompt to its checkpoints
    crescent reliability RUN         how far agreement can be trusted as a label
    crescent compare RUN…            rounds and benchmarks of any number of runs, side by side
    crescent sync RUN                W&B is told what it was not told of a run
    crescent report RUN…             one HTML file about a run, or about how several compare

What a command needs is imported when it runs: `--help` answers at once.
"""

import difflib
import re
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

from crescent.errors import BadConfig, Missing, run_to_exit_code

if TYPE_CHECKING:
    from rich.console import Console

RUNS = Path("runs")
"""Where runs lie unless `run.root` says otherwise."""


def main() -> None:
    """Run the command that the first argument names, or else the loop; ends the process with the exit code."""
    first, *rest = sys.argv[1:] or [""]
    if first in COMMANDS:
        sys.exit(run_to_exit_code(lambda: COMMANDS[first](rest)))
    # An override has a `=`, a deletion begins with `~`, a flag with `-`: a bare word is a misspelt command.
    if re.fullmatch(r"[a-z]+", first):
        sys.exit(run_to_exit_code(lambda: refuse(first)))
    from crescent.loop import main as loop

    loop()


def trace_command(arguments: Sequence[str]) -> None:
    """Where a pair came from, and which checkpoints learned from it."""
    parser = ArgumentParser(
        "crescent trace",
        description="Follow a training pair, or any question, from its bait prompt to the checkpoints that learned "
        "from it, or to what kept it out of the training data.",
        epilog="Ids stand in runs/NAME/round-N/pairs/pairs.jsonl and runs/NAME/round-N/synthesis/*.jsonl.",
    )
    parser.add_argument("id", help="id of a pair or a question, or its first digits (four at least)")
    parser.add_argument("--run", type=Path, help="run folder; by default all in runs/, the newest first")
    parser.add_argument("--full", action="store_true", help="do not shorten texts")
    parser.add_argument("--json", action="store_true", help="print the record as JSON")
    given = parser.parse_args(arguments)

    from crescent.reading.finished import find
    from crescent.reading.trace import trace
    from crescent.show.trace import as_json, show

    folders, identity = find(run_folders(given.run), given.id)
    found = trace(folders[0], identity)
    console = open_console()
    if given.json:
        console.out(as_json(found), highlight=False)
        return
    show(found, console, given.full)
    if len(folders) > 1:
        others = ", ".join(str(its) for its in folders[1:4]) + (", …" if len(folders) > 4 else "")
        console.print(f"\nother runs know this id, too (--run): {others}", soft_wrap=True)


def reliability_command(arguments: Sequence[str]) -> None:
    """How often the majority was right, by agreement."""
    description = "How often the base's majority was right on labelled dev items, by agreement (eval.reliability=…)."
    parser = ArgumentParser("crescent reliability", description=description)
    parser.add_argument("run", type=Path, help="run folder, e.g. runs/NAME")
    given = parser.parse_args(arguments)

    from crescent.show.reliability import show_reliability

    (root,) = run_folders(given.run)
    show_reliability(root, open_console())


def compare_command(arguments: Sequence[str]) -> None:
    """Rounds and benchmarks of several runs, side by side."""
    parser = ArgumentParser(
        "crescent compare",
        description="Rounds, benchmarks with intervals, and differing settings of any number of runs, finished or not.",
        epilog="The columns of the CSV are explained in crescent/show/compare_csv.py.",
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help="run folder, or the name of one in runs/")
    parser.add_argument("--all", action="store_true", help="all runs in runs/, the one worked on last first")
    forms = ("table", "markdown", "csv")
    parser.add_argument("--format", choices=forms, help="by default what --out ends in (.md, .csv), or else a table")
    parser.add_argument("--out", type=Path, help="write to this file")
    given = parser.parse_args(arguments)
    if bool(given.runs) == given.all:
        raise BadConfig("name the runs to compare, or say --all for those in runs/: one of the two")
    folders = run_folders(None) if given.all else [run_named(its) for its in given.runs]

    from crescent.reading.runs import compare
    from crescent.show.compare import as_markdown, as_text, show
    from crescent.show.compare_csv import as_csv

    found = compare(folders)
    suffix = given.out.suffix.lower() if given.out else ""
    form = given.format or {".md": "markdown", ".csv": "csv"}.get(suffix, "table")
    written = {"csv": as_csv, "markdown": as_markdown, "table": as_text}[form]
    if given.out:
        write_out(given.out, written(found))
    elif form == "table":
        show(found, open_console())
    else:
        open_console().out(written(found), highlight=False, end="")


def report_command(arguments: Sequence[str]) -> None:
    """One HTML file about a run, or about several."""
    parser = ArgumentParser(
        "crescent report",
        description="Write one self-contained HTML file: of one run everything, of several how they compare.",
        epilog="The file holds no script and loads nothing: it can be mailed, printed and opened anywhere.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder, or the name of one in runs/")
    parser.add_argument("--output", type=Path, help="by default report.html in the run's folder; of several runs, here")
    parser.add_argument("--rate", type=float, help="money per machine-hour, e.g. 2.5, for what the run cost")
    given = parser.parse_args(arguments)
    if given.rate is not None and not 0 <= given.rate < float("inf"):
        raise BadConfig(f"--rate {given.rate}: money per machine-hour is a number that is not negative, e.g. 2.5")
    folders = [run_named(its) for its in given.runs]

    from crescent.report import write_report
    from crescent.run_folder.places import REPORT

    output = given.output or (folders[0] if len(folders) == 1 else Path()) / REPORT
    write_report(folders, output, given.rate)
    open_console().print(output, soft_wrap=True)


def sync_command(arguments: Sequence[str]) -> None:
    """Tell W&B what it was not told of a run."""
    parser = ArgumentParser(
        "crescent sync",
        description="Make the W&B runs of a run from its own files, or complete them: nothing is told twice, whether "
        "the run was tracked before (online, offline) or not.",
        epilog="The login and the server come from the environment, as for wandb itself; WANDB_MODE=offline makes "
        "files for `wandb sync`. See docs/tracking.md.",
    )
    parser.add_argument("run", metavar="RUN", help="run folder, or the name of one in runs/")
    parser.add_argument("--project", help="W&B project; by default the run's tracking.project")
    parser.add_argument("--entity", help="user or team that owns it; by default the run's tracking.entity")
    parser.add_argument("--view", action="store_true", help='also make the view "rounds" of the project')
    parser.add_argument("--wait", type=float, default=900.0, metavar="SECONDS", help="at most; 900 by default")
    given = parser.parse_args(arguments)
    if not 0 <= given.wait < float("inf"):
        raise BadConfig(f"--wait {given.wait}: seconds are a number that is not negative, e.g. 900")

    from crescent.tracking.sync import sync

    folder = run_named(given.run)
    sync(folder, given.project, given.entity, given.wait, given.view, lambda line: print(line, flush=True))


Command = Callable[[Sequence[str]], None]
COMMANDS: dict[str, Command] = {
    "trace": trace_command,
    "reliability": reliability_command,
    "compare": compare_command,
    "sync": sync_command,
    "report": report_command,
}
"""By first argument. Each parses the rest itself."""


def write_out(path: Path, text: str) -> None:
    """Write what was asked for; a file of that name is replaced.

    Raises:
        BadConfig: it cannot be written there.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadConfig(f"--out {path}: {error.strerror}; name a file in a folder that can be written to") from error


def run_named(given: str) -> Path:
    """The run folder of this path, or, of a bare name, in `runs/`.

    Raises:
        Missing: as `run_folders`.
    """
    from crescent.reading.finished import is_run

    here = Path(given)
    bare = here.name == given and not is_run(here) and (is_run(RUNS / here) or not here.exists())
    return run_folders(RUNS / here if bare else here)[0]


def run_folders(named: Path | None) -> list[Path]:
    """The run folder that was named, or all of those in `runs/`, the newest first.

    Raises:
        Missing: it is not there, or is no run folder.
    """
    from crescent.reading.finished import is_run, runs_below

    if named is None:
        if found := runs_below(RUNS):
            return found
        raise Missing(f"{RUNS.absolute()} holds no run: name a run folder with --run, or go to where runs/ is")
    if is_run(named):
        return [named]
    there = "is no run folder: nothing has been begun in it" if named.is_dir() else "there is no such folder"
    near = [its for its in runs_below(RUNS) if its.name == named.name or its.parent == named]
    near = near or runs_below(named) or runs_below(RUNS)
    meant = f"; runs: {', '.join(map(str, near[:6]))}{', …' if len(near) > 6 else ''}" if near else ""
    raise Missing(f"{named}: {there}{meant}")


def refuse(word: str) -> None:
    """Say what a bare word might have meant."""
    near = difflib.get_close_matches(word, COMMANDS, n=1)
    if word in ("eval", "evaluate"):
        raise BadConfig(f"{word}: a model is evaluated with `python -m eval model.path=ORG/MODEL eval=gsm8k`")
    meant = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(COMMANDS)}"
    raise BadConfig(f"{word}: there is no such command, and settings are given as KEY=VALUE; {meant}")


def open_console() -> "Console":
    """Brackets and numbers in what is printed are text; what the terminal's encoding lacks is shown as its number."""
    from rich.console import Console

    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    return Console(markup=False, highlight=False, emoji=False)
