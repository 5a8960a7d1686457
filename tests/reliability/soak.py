"""The full soak: `make soak`, or `python tests/reliability/soak.py --minutes 60`.

Kills a small run at every failpoint in turn, then disturbs runs at random until every kind of disturbance was tried
often enough or the time is over. The result is written after every chain, so nothing is lost if this is interrupted,
and says how often each kind was really tried. `--table` prints the last result as docs/reliability.md shows it.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from disturbed import KINDS, REAL, REAL_KINDS, Measured, chain, kill_at_every_failpoint, reference

HERE = Path(__file__).parent
RESULT = HERE / "last_soak.json"
FAILPOINTS = "kill -9 at every failpoint in turn"
FAULTS = "every read and every write fails in turn"
SMALL = (
    *("bait.questions=3", "consensus.samples=3", "eval.benchmarks.sums_dev.items=3"),
    *("pairs.minimum=1",),
)
"""Settings of the runs: all kinds of stages, few requests."""
WANTED = {
    "kill -9 of the supervisor": 75,
    "kill -9 of supervisor, guards and children": 75,
    **dict.fromkeys(
        (
            *("kill -9 of the engine", "kill -9 of the trainer", "SIGTERM", "SIGHUP", "SIGINT", "SIGINT twice"),
            "SIGSTOP of the engine, for ever",
        ),
        20,
    ),
}
"""How often each kind is tried."""
IN_ONE_CHAIN = 10
REAL_SUFFIX = ", vLLM and TRL"
REAL_WANTED = dict.fromkeys((f"{name}{REAL_SUFFIX}" for name in REAL_KINDS), 5)
"""The same of runs with the real engine and trainer, which take minutes each."""


def add(total: Measured, found: Measured) -> None:
    total.tries += found.tries
    total.recovered += found.recovered
    total.completions_lost += found.completions_lost
    total.stages_made_again += found.stages_made_again
    total.resume_s += found.resume_s
    total.problems += found.problems


def write_result(path: Path, began: datetime, measured: dict[str, Measured], wanted: dict[str, int]) -> None:
    git = ["git", "-C", str(HERE)]
    commit = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=False)
    kinds = {}
    for name, found in measured.items():
        seconds = sorted(found.resume_s)
        kinds[name] = {
            **asdict(found),
            "wanted": wanted.get(name, found.tries),
            "resume_s": {
                "median": round(statistics.median(seconds), 1) if seconds else None,
                "longest": seconds[-1] if seconds else None,
            },
        }
    about = {
        "commit": commit.stdout.strip(),
        "began": began.isoformat(timespec="seconds"),
        "minutes": round((datetime.now(UTC) - began).total_seconds() / 60, 1),
    }
    path.write_text(json.dumps({**about, "kinds": kinds}, indent=1) + "\n")


def can_compile() -> bool:
    return sys.platform == "linux" and shutil.which("gcc") is not None


def compile_faulty_disk(folder: Path) -> Path:
    """The library to preload."""
    library = folder / "faulty_disk.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, HERE / "faulty_disk.c", "-ldl"], check=True)
    return library


def faulty_disk_cases(library: Path, root: Path, every: int) -> Iterator[dict[str, Any]]:
    """What `on_a_faulty_disk` found: a dict for every so many-th call that could fail."""
    command = [sys.executable, "-P", HERE / "on_a_faulty_disk.py", library, root, str(every)]
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as tried:
        assert tried.stdout is not None
        ended = False
        try:
            yield from map(json.loads, tried.stdout)
            ended = True
        finally:
            if not ended:
                tried.terminate()
    if tried.returncode != 0:
        raise RuntimeError(f"on_a_faulty_disk.py ended with {tried.returncode}")


def soak(
    minutes: float,
    kinds: Sequence[str],
    first_seed: int,
    result: Path,
    root: Path,
    every: int = 1,
    rounds: int = 2,
    in_one_chain: int = IN_ONE_CHAIN,
) -> bool:
    """Try everything; returns whether all went well.

    Args:
        every: Every how many-th call of the disk fails in turn, and every how many-th failpoint is tried.
        in_one_chain: Disturbances after which a run is left alone, so that it ends.
    """
    began, deadline = datetime.now(UTC), time.monotonic() + 60 * minutes
    measured = {name: Measured() for name in kinds if name in (FAILPOINTS, *WANTED, *REAL_WANTED)}
    seed, kinds, wanted = first_seed, list(kinds), {**WANTED, **REAL_WANTED}

    def say(line: str) -> None:
        print(f"{datetime.now().strftime('%H:%M:%S')}  {line}", flush=True)

    def note(name: str, found: Measured, quiet: bool = False) -> None:
        total = measured.setdefault(name, Measured())
        add(total, found)
        write_result(result, began, measured, wanted)
        if quiet:
            return
        say(f"{name}: {total.recovered} of {total.tries} as they should be{''.join(f'; {p}' for p in found.problems)}")

    waiting = [name for name in WANTED if name in kinds]
    real = [name for name in REAL_WANTED if name in kinds]
    settings = (*SMALL, f"run.rounds={rounds}")
    if FAILPOINTS in kinds or waiting:
        usual = reference(root / "usual", *settings)
        wanted[FAILPOINTS] = len(usual.order)
        say(f"the undisturbed run: {len(usual.order)} failpoints in {usual.seconds} s")
    if FAILPOINTS in kinds:
        note(FAILPOINTS, kill_at_every_failpoint(usual, root / "every-failpoint", settings, every, deadline))
    if FAULTS in kinds and can_compile():
        for case in faulty_disk_cases(compile_faulty_disk(root), root / "faulty-disk", every):
            problems = [f"call {case['call']}: {problem}" for problem in case["problems"]]
            wanted[case["case"]] = case["calls"]
            note(case["case"], Measured(1, not problems, problems=problems), quiet=case["call"] > 1 and not problems)
            if time.monotonic() > deadline:
                break
    elif FAULTS in kinds:
        say(f"{FAULTS}: left out, needs Linux and gcc")
    if real:
        usual_real = reference(root / "real", "run.rounds=1", which=REAL)
        say(f"the undisturbed run of vLLM and TRL: {usual_real.seconds} s")
        waiting += real
    while waiting and time.monotonic() < deadline:
        for name in list(waiting):
            left = wanted[name] - measured.get(name, Measured()).tries
            if left <= 0:
                waiting.remove(name)
            elif time.monotonic() < deadline:
                seed += 1
                tries = min(in_one_chain, left)
                folder = root / f"chain-{seed}"
                if name in real:
                    kind = REAL_KINDS[name.removesuffix(REAL_SUFFIX)]
                    note(name, chain([kind], usual_real, folder, seed, tries, ["run.rounds=1"]))
                else:
                    note(name, chain([KINDS[name]], usual, folder, seed, tries, settings))
    return all(not found.problems for found in measured.values())


def table(result: Path = RESULT) -> str:
    """The last soak as a table in markdown."""
    last: dict[str, Any] = json.loads(result.read_text())
    lines = [
        f"The last soak ran on {last['began'][:10]} for {last['minutes']:.0f} minutes, at commit {last['commit']}.",
        "",
        "| disturbance | tries, of which recovered | wanted | completions asked again | stages made again "
        "| seconds to resume: median, longest |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in last["kinds"].items():
        resume = found["resume_s"]
        seconds, lost = "–", "– | –"  # not measured where a single process stands for the run, or nothing was tried
        if resume["median"] is not None:
            seconds = f"{resume['median']:.1f}, {resume['longest']:.1f}"
            lost = f"{found['completions_lost']} | {found['stages_made_again']}"
        counts = f"{found['tries']}, {found['recovered']} | {found['wanted'] or '?'}"
        lines.append(f"| {name} | {counts} | {lost} | {seconds} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser("soak", description=__doc__.split("\n\n")[1])
    parser.add_argument("--minutes", type=float, default=180.0, help="no new chain starts after them (default: 180)")
    parser.add_argument("--kinds", nargs="*", default=[FAULTS, FAILPOINTS, *WANTED, *REAL_WANTED], help="default: all")
    parser.add_argument("--every", type=int, default=1, help="try only every so many-th failpoint and disk call")
    parser.add_argument("--rounds", type=int, default=2, help="of each run (default: 2)")
    parser.add_argument("--in-one-chain", type=int, default=IN_ONE_CHAIN, help="disturbances of one run")
    parser.add_argument("--seed", type=int, default=0, help="of the first chain")
    parser.add_argument("--result", type=Path, default=RESULT, help=f"default: {RESULT.name} beside this file")
    parser.add_argument("--table", action="store_true", help="only print the last result")
    given = parser.parse_args()
    if given.table:
        print(table(given.result))
        return 0
    with tempfile.TemporaryDirectory(prefix="crescent-soak-") as root:
        where = (given.result, Path(root))
        right = soak(given.minutes, given.kinds, given.seed, *where, given.every, given.rounds, given.in_one_chain)
    print(table(given.result))
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
