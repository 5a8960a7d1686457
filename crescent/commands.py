"""The console script `crescent`: commands about finished or unfinished runs; anything else starts the loop.

    crescent +experiment=qwen7b      the loop, with Hydra's overrides and flags
    crescent --help                  all commands; alone, `crescent` says the same and starts nothing

Flags may stand anywhere, and `--root FOLDER` names the folder of runs for every command and for the loop. Each command
imports what it needs when it runs, so that `--help` answers at once.
"""

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

from crescent import __version__
from crescent.doors.command_line import (
    HELP,
    CommandParser,
    find_command,
    help_text,
    open_console,
    refuse_words,
    run_folders,
    run_named,
)
from crescent.doors.flags import ROOT, flag_values
from crescent.doors.housekeeping import archive_command, rm_command, runs_command, show_command
from crescent.errors import BadConfig
from crescent.machine.program import run_to_exit_code


def main() -> None:
    """Run the command that the arguments name, or else the loop; ends the process with the exit code."""
    command, others = find_command(sys.argv[1:], COMMANDS)
    if command is not None:
        sys.exit(run_to_exit_code(lambda: COMMANDS[command](others)))
    sys.exit(run_to_exit_code(lambda: without_command(others)))


def without_command(arguments: Sequence[str]) -> None:
    """Show the help or the version, or run the loop, whose arguments are flags and settings.

    Raises:
        BadConfig: a word is no command.
    """
    if "--version" in arguments:
        print(f"crescent {__version__}")
        return
    _, beside = flag_values(arguments, ROOT)
    if not set(beside) - set(HELP):
        print(help_text({name: command.__doc__ or "" for name, command in COMMANDS.items()}))
        return
    from crescent.config import Config
    from crescent.doors.hydra_door import refuse_unknown_flags

    refuse_unknown_flags(beside, Config)  # before their values are taken for words
    refuse_words(arguments, COMMANDS)
    from crescent.loop import main as loop

    loop()


def trace_command(arguments: Sequence[str]) -> None:
    """`crescent trace`: where a pair came from, and which checkpoints learned from it."""
    parser = CommandParser(
        "trace",
        description="Follow a training pair, or any question, from its bait prompt to the checkpoints that learned "
        "from it, or to the filter that kept it out of the training data.",
        epilog="Ids stand in runs/NAME/round-N/pairs/pairs.jsonl and runs/NAME/round-N/synthesis/*.jsonl.",
    )
    parser.add_argument("id", help="id of a pair or a question, or its first digits (at least four)")
    where = "run folder, or the name of one in --root (default: all in --root, newest first)"
    parser.add_argument("--run", help=where)
    parser.add_argument("--full", action="store_true", help="do not shorten texts")
    parser.add_argument("--json", action="store_true", help="print the record as JSON")
    given = parser.read(arguments)

    from crescent.reading.finished import find_id
    from crescent.reading.trace import trace
    from crescent.show.trace import as_json, show

    runs = run_folders(None, given.root) if given.run is None else [run_named(given.run, given.root)]
    folders, identity = find_id(runs, given.id)
    found = trace(folders[0], identity)
    console = open_console()
    if given.json:
        console.out(as_json(found), highlight=False)
        return
    show(found, console, given.full)
    if len(folders) > 1:
        others = ", ".join(map(str, folders[1:4])) + (", …" if len(folders) > 4 else "")
        console.print(f"\nthis id also occurs in other runs (--run): {others}", soft_wrap=True)


def reliability_command(arguments: Sequence[str]) -> None:
    """`crescent reliability`: how often the majority was right, by agreement."""
    description = "How often the base's majority was right on labelled dev items, by agreement (eval.reliability=…)."
    parser = CommandParser("reliability", description)
    parser.add_run()
    given = parser.read(arguments)

    from crescent.show.reliability import show_reliability

    show_reliability(run_named(given.run, given.root), open_console())


def compare_command(arguments: Sequence[str]) -> None:
    """`crescent compare`: rounds and benchmarks of several runs, side by side."""
    parser = CommandParser(
        "compare",
        description="Rounds, benchmarks with intervals, and differing settings of any number of runs, finished or not.",
        epilog="The columns of the CSV are explained in crescent/show/compare_csv.py.",
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help="run folder, or the name of one in --root")
    parser.add_argument("--all", action="store_true", help="all runs in --root, the most recent first")
    forms = ("table", "markdown", "csv")
    parser.add_argument("--format", choices=forms, help="default: by the ending of --out (.md, .csv), else a table")
    parser.add_argument("--out", type=Path, help="write to this file")
    parser.add_argument("--study", metavar="NAME", help="decide on a study: a name in conf/study, or a file")
    parser.add_argument(
        "--records",
        type=Path,
        metavar="FILE",
        help="with --study: write the runs' records to this file (.json.gz), or, without runs, read them from it",
    )
    given = parser.read(arguments)
    if given.study is not None:
        compare_study(given)
        return
    if given.records is not None:
        raise BadConfig("--records holds the runs of a study: give --study NAME as well")
    if bool(given.runs) == given.all:
        raise BadConfig("name the runs to compare, or give --all for every run in runs/ (not both)")
    folders = run_folders(None, given.root) if given.all else [run_named(name, given.root) for name in given.runs]

    from crescent.reading.runs import compare_runs
    from crescent.show.compare import as_markdown, as_text, show
    from crescent.show.compare_csv import as_csv

    found = compare_runs(folders)
    suffix = given.out.suffix.lower() if given.out else ""
    form = given.format or {".md": "markdown", ".csv": "csv"}.get(suffix, "table")
    written = {"csv": as_csv, "markdown": as_markdown, "table": as_text}[form]
    if given.out:
        write_out(given.out, written(found))
    elif form == "table":
        show(found, open_console())
    else:
        open_console().out(written(found), highlight=False, end="")


def compare_study(given: Namespace) -> None:
    """`crescent compare --study`: what a study found, from its runs or from their records."""
    if given.all or (not given.runs and given.records is None) or given.format == "csv":
        raise BadConfig("--study: name the study's runs, or a file with their --records; as a table or as markdown")

    from crescent.judging.deviations import deviations
    from crescent.judging.item_records import read_records, write_records
    from crescent.judging.study import judge_study
    from crescent.reading.study import read_study, read_study_runs
    from crescent.show.study import show_study, study_as_markdown, study_as_text

    study = read_study(given.study)
    if given.runs:
        records = read_study_runs(study, [run_named(name, given.root) for name in given.runs])
        if given.records is not None:
            write_records(given.records, records)
    else:
        records = read_records(given.records)
    result = judge_study(study, records, deviations(study, records))
    is_markdown = (given.format or (given.out.suffix if given.out else "")) in ("markdown", ".md")
    if given.out:
        write_out(given.out, (study_as_markdown if is_markdown else study_as_text)(result, records))
    elif is_markdown:
        open_console().out(study_as_markdown(result, records), highlight=False, end="")
    else:
        show_study(result, records, open_console())


def report_command(arguments: Sequence[str]) -> None:
    """`crescent report`: one HTML file about a run, or about several."""
    parser = CommandParser(
        "report",
        description="Write one self-contained HTML file: everything about one run, or a comparison of several.",
        epilog="The file holds no script and loads nothing: it can be mailed, printed and opened anywhere.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder, or the name of one in --root")
    parser.add_argument("--output", type=Path, help="default: report.html in the run's folder (several runs: here)")
    parser.add_argument("--rate", type=float, help="price of a machine-hour, e.g. 2.5, to compute what the run cost")
    given = parser.read(arguments)
    if given.rate is not None and not 0 <= given.rate < float("inf"):
        raise BadConfig(f"--rate {given.rate}: the price of a machine-hour must not be negative; e.g. 2.5")
    folders = [run_named(name, given.root) for name in given.runs]

    from crescent.report import write_report
    from crescent.run_folder.places import REPORT

    output = given.output or (folders[0] if len(folders) == 1 else Path()) / REPORT
    write_report(folders, output, given.rate)
    open_console().print(output, soft_wrap=True)


def sync_command(arguments: Sequence[str]) -> None:
    """`crescent sync`: upload what W&B is missing of a run."""
    parser = CommandParser(
        "sync",
        description="Create or complete the W&B runs of a run from the files in its folder. Nothing is uploaded twice, "
        "whether or not the run was tracked before (online or offline).",
        epilog="Login and server come from the environment, as for wandb itself; WANDB_MODE=offline writes "
        "files for `wandb sync`. See docs/tracking.md.",
    )
    parser.add_run()
    parser.add_argument("--project", help="W&B project (default: the run's tracking.project)")
    parser.add_argument("--entity", help="user or team that owns it (default: the run's tracking.entity)")
    parser.add_argument("--view", action="store_true", help='also create the view "rounds" of the project')
    parser.add_argument("--wait", type=float, default=900.0, metavar="SECONDS", help="longest wait (default: 900)")
    given = parser.read(arguments)
    if not 0 <= given.wait < float("inf"):
        raise BadConfig(f"--wait {given.wait}: seconds must not be negative; e.g. 900")

    from crescent.tracking.sync import sync

    folder = run_named(given.run, given.root)
    sync(folder, given.project, given.entity, given.wait, given.view, lambda line: print(line, flush=True))


def doctor_command(arguments: Sequence[str]) -> None:
    """`crescent doctor`: whether this machine can run an experiment."""
    if {"-h", "--help"} & set(arguments):
        print(
            "usage: crescent doctor [+experiment=NAME] [KEY=VALUE ...]\n\n"
            "Check driver, GPUs, compiler, versions, disk, logins, port, file system and limits for an experiment.\n"
            "Each line says ok, or what mends it. Exit code 69: the experiment cannot run here. Nothing is started."
        )
        return

    from crescent.doors.doctor import show_doctor
    from crescent.doors.hydra_door import as_config, through_hydra

    sys.argv = ["crescent doctor", *arguments]
    through_hydra("config", as_config, show_doctor)


def verify_command(arguments: Sequence[str]) -> None:
    """`crescent verify`: whether everything in a run folder is as it was written."""
    parser = CommandParser(
        "verify",
        description="Check every manifest, file and journal of a run, and say what a rerun would do. Changes nothing. "
        "Ends with 65 if something is damaged, with 75 if something could not be read.",
    )
    parser.add_run()
    given = parser.read(arguments)

    from crescent.reading.verification import verify_run

    verify_run(run_named(given.run, given.root), lambda line: open_console().print(line, soft_wrap=True))


def repair_command(arguments: Sequence[str]) -> None:
    """`crescent repair`: set aside what is damaged, restore what another run still holds."""
    parser = CommandParser(
        "repair",
        description="Set damaged stages and journal lines of a run aside, so that the next run makes them again, "
        "and link stages from other runs that hold them intact. Deletes nothing; without --yes, it only says what it "
        "would do.",
        epilog="Runs in the same folder, those of run.reuse and those of --from are searched for intact copies.",
    )
    parser.add_run()
    parser.add_argument("--yes", action="store_true", help="do it")
    parser.add_argument("--from", dest="named", nargs="+", default=[], metavar="RUN", help="runs to look in first")
    given = parser.read(arguments)

    from crescent.doors.repair import repair_run

    donors = [run_named(name, given.root) for name in given.named]
    console = open_console()
    repair_run(run_named(given.run, given.root), given.yes, donors, lambda line: console.print(line, soft_wrap=True))


def export_command(arguments: Sequence[str]) -> None:
    """`crescent export`: a checkpoint or its training data, as a folder that works without the run."""
    parser = CommandParser(
        "export",
        description="Write a round's child with tokenizer, licence and a card (data lineage, scores), or with --pairs "
        "what it was trained on, as a data set. The run is not changed.",
        epilog="See docs/own.md.",
    )
    parser.add_run()
    parser.add_argument("--round", default="best", metavar="N", help="a round (default: best, the last accepted)")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="new folder to write")
    parser.add_argument("--pairs", action="store_true", help="its training data instead: SFT and preference rows")
    parser.add_argument("--merge", action="store_true", help="complete weights, even if the run has only an adapter")
    parser.add_argument("--gguf", action="store_true", help="also a GGUF file, with llama.cpp's converter")
    parser.add_argument("--base", metavar="ID", help="hub id of the base, if the run started from a folder")
    parser.add_argument("--push", metavar="ID", help="upload the folder to this repository of the Hugging Face hub")
    parser.add_argument("--public", action="store_true", help="with --push: a new repository is public")
    given = parser.read(arguments)
    if given.pairs and (given.merge or given.gguf or given.base):
        raise BadConfig("--pairs exports training data: leave out --merge, --gguf and --base")
    if given.public and not given.push:
        raise BadConfig("--public is about the repository that --push makes: give --push ORGANISATION/NAME, too")

    from crescent.doors.export import export_model, push

    run, console = run_named(given.run, given.root), open_console()
    if given.pairs:
        from crescent.doors.export_pairs import export_pairs

        rows = export_pairs(run, given.round, given.to)
        what = ", ".join(f"{count} rows as {form}" for form, count in rows.items())
    else:
        chosen = export_model(run, given.round, given.to, given.merge, given.base, given.gguf)
        what = f"round {chosen.round_.round}, {chosen.round_.checkpoint}"
    console.print(f"{given.to}  {what}", soft_wrap=True)
    if given.push:
        console.print(push(given.to, given.push, "dataset" if given.pairs else "model", given.public), soft_wrap=True)


def fork_command(arguments: Sequence[str]) -> None:
    """`crescent fork`: another run that starts from finished stages of a run."""
    parser = CommandParser(
        "fork",
        description="Make a run folder beside RUN that starts from its finished stages: linked, not copied, and taken "
        "as they are. Settings may differ from there on; in W&B it is a run of its own.",
        epilog="See docs/own.md.",
    )
    parser.add_run()
    parser.add_argument("name", metavar="NEW", help="name of the new run")
    where = "first round or stage to make anew, e.g. round-2 (default: all finished stages are taken)"
    parser.add_argument("--from", dest="before", metavar="STAGE", help=where)
    given = parser.read(arguments)

    from crescent.doors.fork import fork_run

    console = open_console()
    fork_run(
        run_named(given.run, given.root), given.name, given.before, lambda line: console.print(line, soft_wrap=True)
    )


Command = Callable[[Sequence[str]], None]
COMMANDS: dict[str, Command] = {
    "runs": runs_command,
    "show": show_command,
    "trace": trace_command,
    "reliability": reliability_command,
    "compare": compare_command,
    "sync": sync_command,
    "report": report_command,
    "doctor": doctor_command,
    "verify": verify_command,
    "repair": repair_command,
    "export": export_command,
    "fork": fork_command,
    "archive": archive_command,
    "rm": rm_command,
}
"""Commands by first argument. Each parses the rest of the command line."""


def write_out(path: Path, text: str) -> None:
    """Write `text` to a file, which is replaced if it exists.

    Raises:
        BadConfig: the file cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadConfig(f"--out {path}: {error.strerror}; name a file in a writable folder") from error
