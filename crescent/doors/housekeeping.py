"""Commands that keep a folder of runs in order: list, show, archive and remove them."""

import sys
from collections.abc import Sequence
from pathlib import Path

from crescent.doors.command_line import CommandParser, open_console, run_named


def runs_command(arguments: Sequence[str]) -> None:
    """`crescent runs`: all runs, newest first: model, date, rounds, status, best, size."""
    description = (
        "List the runs of a folder, the most recently changed first. Best: the last accepted child, by its mean "
    )
    parser = CommandParser("runs", f"{description}accuracy on the benchmarks that decide; size: of all its files.")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    given = parser.read(arguments)

    import msgspec

    from crescent.reading.listing import list_runs
    from crescent.show.run_list import show_runs

    found = list_runs(given.root)
    if given.json:
        open_console().out("\n".join(msgspec.json.encode(run).decode() for run in found), highlight=False)
        return
    show_runs(found, given.root, open_console())


def show_command(arguments: Sequence[str]) -> None:
    """`crescent show`: one run: status, result, rounds, benchmarks, where its best checkpoint is."""
    parser = CommandParser("show", "Show one run, finished or not: status, result, rounds and benchmarks.")
    parser.add_run()
    given = parser.read(arguments)

    from crescent.reading.listing import list_run
    from crescent.reading.runs import compare_runs
    from crescent.report.lenient import LenientReader
    from crescent.report.run_headline import read_headline
    from crescent.run_folder.places import REPORT
    from crescent.show.compare import show
    from crescent.show.run_list import facts

    run, console = run_named(given.run, given.root), open_console()
    compared, line = compare_runs([run]), list_run(run)
    trained = run / f"round-{line.best.round if line.best else 0}/train"
    checkpoint = next((path for path in (trained / "adapter", trained / "weights") if path.is_dir()), None)
    report = run / REPORT
    found = read_headline(LenientReader(run), compared.runs[0])
    for text in [*facts(line, checkpoint, report if report.exists() else None), "", found.claim, *found.lines, ""]:
        console.print(text, soft_wrap=True)
    show(compared, console)


def rm_command(arguments: Sequence[str]) -> None:
    """`crescent rm`: remove runs, after saying what cannot be made again, and asking."""
    parser = CommandParser(
        "rm",
        "Remove runs. Says first what their commands would not make again, then asks. A run that is at work, or that "
        "other runs stand on (run.reuse, forks, models taken from it), is refused.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder, or the name of one in --root")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    given = parser.read(arguments)

    from crescent.doors.removal import remove_runs

    console = open_console()
    ask = ask_terminal if sys.stdin is not None and sys.stdin.isatty() else None
    runs = list(dict.fromkeys(run_named(name, given.root) for name in given.runs))
    remove_runs(runs, given.yes, ask, lambda line: console.print(line, soft_wrap=True))


def ask_terminal(question: str) -> str:
    """What the person types; nothing if the input ends (Ctrl-D)."""
    try:
        return input(question)
    except EOFError:
        print()
        return ""


def archive_command(arguments: Sequence[str]) -> None:
    """`crescent archive`: a run in one file, read again to be sure."""
    parser = CommandParser(
        "archive",
        "Pack a run into one .tar.gz file and read it again. The run stays; crescent rm removes it.",
    )
    parser.add_run()
    parser.add_argument("--to", type=Path, metavar="FILE", help="file to write (default: NAME.tar.gz in --root)")
    light = "leave out complete weights that base and adapter make again (crescent export --merge)"
    parser.add_argument("--light", action="store_true", help=light)
    given = parser.read(arguments)

    from crescent.doors.archive import archive_run

    run, console = run_named(given.run, given.root), open_console()
    target = given.to or run.parent / f"{run.resolve().name}.tar.gz"
    archive_run(run, target, given.light, lambda line: console.print(line, soft_wrap=True))
