"""Smoke runs that are disturbed on purpose, and what each disturbance cost.

A reference run without disturbance gives the digest of all stages. A chain is one run that is disturbed and started
again until it is finished. It must end with the same digest, the same metrics, no process left, and every stage that
was committed at some time still the same folder.
"""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from crescent.run_folder.manifest import MANIFEST, tree_digest

LOOP = [sys.executable, "-P", "-m", "crescent.loop"]
SETTINGS = (
    *("eval.benchmarks.sums_dev.source=svamp", "~eval.benchmarks.sums_test", "eval.benchmarks.sums_dev.items=12"),
    *("bait.questions=12", "consensus.samples=4", "consensus.min_agreement=0.2", "pairs.minimum=2"),
    *("verdict.gate=off", "launch.grace_s=3", "serving.max_restarts=1000", "serving.start_timeout_s=120"),
)
FAKES = ("+experiment=smoke",)
REAL = (
    *("+experiment=instruct_sums", "run.name=smoke", "tracking=disabled", "serving.start_timeout_s=600"),
    *("train.max_steps=2", "train.save_steps=1", "launch.grace_s=20"),
    *("bait.questions=10", "consensus.samples=3", "eval.benchmarks.sums_dev.items=6"),
    *("pairs.minimum=1", "pairs.max_unanimous=1"),
)
"""Settings that start vLLM and TRL with SmolLM2-135M."""
ENGINE, TRAINER = ("crescent.engine.fakes serve", "VLLM", "vllm serve"), ("crescent.engine.fakes train", "-m train ")
"""What the command lines of the processes contain: of the fakes, and of vLLM and of our trainer."""
POLL_S = 0.05
GONE_WITHIN_S = 30.0
"""Time limit for all processes of a run to disappear after its supervisor has ended, in seconds."""
ENDS_WITHIN_S = 3600.0
"""Time limit for one attempt at a run, in seconds. It takes 10 on two free cores; 900 were seen where another job had
priority on both. So what is reported as a hang is one."""


def write_sums(folder: Path) -> Path:
    """A benchmark of sums in SVAMP's format: quicker to load than a generator of a hundred families."""
    dice = random.Random(0)
    rows = []
    for number in range(120):
        first, second = dice.randrange(10, 90), dice.randrange(10, 90)
        question = {"ID": f"sum-{number}", "Body": f"Shelf {number}.", "Question": f"What is {first} + {second}?"}
        rows.append({**question, "Answer": float(first + second), "Equation": "", "Type": "Addition"})
    (folder / "svamp").mkdir(parents=True)
    (folder / "svamp" / "SVAMP.json").write_text(json.dumps(rows))
    return folder


@dataclass
class Measured:
    """What was measured of one kind of disturbance."""

    tries: int = 0
    """Number of disturbances that hit something alive."""
    recovered: int = 0
    """Number of them after which the chain ended as it should in every respect."""
    completions_lost: int = 0
    """Number of completions that were written down and asked for again."""
    stages_made_again: int = 0
    """Number of stages that were finished or committed and made again."""
    resume_s: list[float] = field(default_factory=list)
    """Seconds from each start after a disturbance to the first line about work."""
    problems: list[str] = field(default_factory=list)
    """What was not as it should be, with the seed of the chain."""


class Smoke:
    """One smoke run in a folder of its own; the same command can be given again and again."""

    def __init__(self, root: Path, data: Path, *overrides: str, which: Sequence[str] = FAKES) -> None:
        self.root = root
        self.folder = root / "smoke"
        self.output = root / "output"
        self.reached = root / "reached"
        """File with the names of all failpoints that were reached, one a line."""
        root.mkdir(parents=True)
        self.command = [*LOOP, f"run.root={root}", *SETTINGS, *which, *overrides]
        self.mark = f"mark-{root}"
        self.environment = {**os.environ, "CRESCENT_DATA": str(data), "CRESCENT_TEST_MARK": self.mark}

    def start(self, failpoint: str = "count", **variables: str) -> subprocess.Popen[bytes]:
        own = {"PYTHONFAULTHANDLER": "1", "CRESCENT_FAILPOINT": failpoint, "CRESCENT_FAILPOINT_LOG": str(self.reached)}
        with self.output.open("wb") as output, (self.root / "errors").open("wb") as errors:
            return subprocess.Popen(
                self.command, env={**self.environment, **own, **variables}, stdout=output, stderr=errors
            )

    def finish(self, failpoint: str = "count", **variables: str) -> int:
        """Run to the end; returns the exit code."""
        return self.start(failpoint, **variables).wait(ENDS_WITHIN_S)

    def errors(self) -> str:
        return (self.root / "errors").read_text(errors="replace")

    def stacks(self, process: subprocess.Popen[bytes]) -> str:
        """Where all threads of an attempt are, which ends it: PYTHONFAULTHANDLER answers SIGABRT."""
        process.send_signal(signal.SIGABRT)
        process.wait(GONE_WITHIN_S)
        return self.errors()[-6000:]

    def works(self) -> bool:
        """Whether the last attempt has said that it works at a stage."""
        text = self.output.read_bytes() if self.output.exists() else b""
        return b": starts" in text or b": resumes" in text

    def processes(self, parts: Sequence[str] = ()) -> list[psutil.Process]:
        """Living processes of this run whose command lines contain one of `parts`; no guard among them then."""
        found = []
        for process in psutil.process_iter():
            try:
                # vLLM's processes name themselves, which overwrites what /proc says of their environment.
                ours = any(self.marks(some) for some in (process, *process.parents()))
                if ours and process.status() != "zombie":
                    line = " ".join(process.cmdline())
                    if not parts or (any(part in line for part in parts) and "launch.guard" not in line):
                        found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def marks(self, process: psutil.Process) -> bool:
        return bool(process.environ().get("CRESCENT_TEST_MARK") == self.mark)

    def left(self) -> list[psutil.Process]:
        """Processes that are still alive some time after the supervisor has ended."""
        deadline = time.monotonic() + GONE_WITHIN_S
        while (alive := self.processes()) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return alive

    def committed(self) -> dict[str, tuple[str, int]]:
        """Digest and inode of each committed stage."""
        found = {}
        for path in self.folder.glob(f"*/*/{MANIFEST}"):
            stage = path.parent.relative_to(self.folder).as_posix()
            if not stage.endswith(".partial") and not stage.startswith("set-aside"):
                found[stage] = (json.loads(path.read_bytes())["digest"], path.stat().st_ino)
        return found

    def metrics(self) -> list[tuple[str, int]]:
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return [(entry["stage"], entry["round"]) for entry in map(json.loads, lines)]

    def counts(self) -> Counter[str]:
        """How often each failpoint was reached, over all attempts."""
        return Counter(self.reached.read_text().split())


@dataclass(frozen=True)
class Reference:
    """A run that nothing disturbed."""

    data: Path
    digest: str
    metrics: list[tuple[str, int]]
    reached: Counter[str]
    order: list[str]
    """Names of the failpoints, in the order in which they were reached."""
    seconds: float
    which: Sequence[str] = FAKES
    """Settings that choose the experiment: `FAKES` or `REAL`."""


def reference(root: Path, *overrides: str, which: Sequence[str] = FAKES) -> Reference:
    data = write_sums(root / "data")
    run = Smoke(root / "reference", data, *overrides, which=which)
    began = time.monotonic()
    code = run.finish()
    assert code == 0, run.errors()
    order = run.reached.read_text().split()
    seconds = round(time.monotonic() - began, 1)
    return Reference(data, tree_digest(run.folder), run.metrics(), run.counts(), order, seconds, which)


Disturb = Callable[[Smoke, "subprocess.Popen[bytes]", random.Random, float], int]
"""Disturbs a running attempt once or more; returns how often."""


def after_a_while(run: Smoke, process: subprocess.Popen[bytes], dice: random.Random, longest_s: float) -> bool:
    """Wait for a random time, most often within work; returns whether the attempt is still running."""
    if dice.random() < 0.8:
        while process.poll() is None and not run.works():
            time.sleep(POLL_S)
    until = time.monotonic() + dice.uniform(0, longest_s)
    while process.poll() is None and time.monotonic() < until:
        time.sleep(POLL_S)
    return process.poll() is None


def signals(*numbers: signal.Signals, apart_s: float = 0.3) -> Disturb:
    """Send the supervisor one signal after another."""

    def disturb(run: Smoke, process: subprocess.Popen[bytes], dice: random.Random, longest_s: float) -> int:
        if not after_a_while(run, process, dice, longest_s):
            return 0
        for number in numbers:
            process.send_signal(number)
            time.sleep(apart_s if number is not signal.SIGKILL else 0)
        return 1

    return disturb


def kill_group(run: Smoke, process: subprocess.Popen[bytes], dice: random.Random, longest_s: float) -> int:
    """Kill the supervisor, the guards and everything behind them."""
    if not after_a_while(run, process, dice, longest_s):
        return 0
    everything = run.processes()
    dice.shuffle(everything)
    for victim in everything:
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            continue
    return 1


def child(parts: Sequence[str], number: signal.Signals, at_most: int, longest_s: float) -> Disturb:
    """Send a signal to a child whenever there is one, at most so many times in one attempt."""

    def disturb(run: Smoke, process: subprocess.Popen[bytes], dice: random.Random, _: float) -> int:
        hits, earlier = 0, set[int]()
        while hits < at_most and process.poll() is None:
            alive = [found for found in run.processes(parts) if found.pid not in earlier]
            for victim in dice.sample(alive, min(1, len(alive))):
                time.sleep(dice.uniform(0, longest_s))
                try:
                    victim.send_signal(number)
                except psutil.NoSuchProcess:
                    continue
                earlier.add(victim.pid)
                hits += 1
            time.sleep(POLL_S)
        return hits

    return disturb


@dataclass(frozen=True)
class Kind:
    """A kind of disturbance."""

    disturb: Disturb
    codes: frozenset[int]
    """Exit codes of an attempt that was disturbed this way; 0 if it was done before."""
    overrides: tuple[str, ...] = ()


KILLED_ENGINE, KILLED_TRAINER = "kill -9 of the engine", "kill -9 of the trainer"
KINDS = {
    "kill -9 of the supervisor": Kind(signals(signal.SIGKILL), frozenset({-9})),
    "kill -9 of supervisor, guards and children": Kind(kill_group, frozenset({-9})),
    "SIGTERM": Kind(signals(signal.SIGTERM), frozenset({75, -15})),
    "SIGHUP": Kind(signals(signal.SIGHUP), frozenset({75, -1})),
    "SIGINT": Kind(signals(signal.SIGINT), frozenset({75, -2})),
    "SIGINT twice": Kind(signals(signal.SIGINT, signal.SIGINT), frozenset({75, -2})),
    KILLED_ENGINE: Kind(child(ENGINE, signal.SIGKILL, 4, 4.0), frozenset({0})),
    KILLED_TRAINER: Kind(child(TRAINER, signal.SIGKILL, 1, 0.5), frozenset({0, 69})),
    "SIGSTOP of the engine, for ever": Kind(
        child(ENGINE, signal.SIGSTOP, 2, 4.0), frozenset({0}), ("serving.request_timeout_s=2",)
    ),
}

REAL_KINDS = {
    **{name: KINDS[name] for name in ("kill -9 of the supervisor", "kill -9 of supervisor, guards and children")},
    KILLED_ENGINE: Kind(child(ENGINE, signal.SIGKILL, 2, 60.0), frozenset({0})),
    KILLED_TRAINER: Kind(child(TRAINER, signal.SIGKILL, 1, 15.0), frozenset({0, 69})),
}
"""The same for vLLM and TRL, which live longer: an engine is killed while it starts, too."""


def chain(
    kinds: Sequence[Kind], undisturbed: Reference, root: Path, seed: int, tries: int, overrides: Sequence[str] = ()
) -> Measured:
    """Disturb one run until it is finished, at most `tries` times, and look whether it ended as it should.

    Args:
        kinds: Of each attempt, one is drawn.
        overrides: Settings of the reference run.
    """
    dice, found = random.Random(seed), Measured()
    own = (override for kind in kinds for override in kind.overrides)
    run = Smoke(root, undisturbed.data, *overrides, *own, which=undisturbed.which)
    committed: dict[str, tuple[str, int]] = {}
    problems: list[str] = []
    code: int | None = None
    while code != 0 and len(problems) < 3:
        kind, began = dice.choice(kinds), time.monotonic()
        process = run.start()
        if found.tries:
            while process.poll() is None and not run.works():
                time.sleep(POLL_S)
            found.resume_s.append(round(time.monotonic() - began, 2))
        hits = kind.disturb(run, process, dice, undisturbed.seconds / 3) if found.tries < tries else 0
        found.tries += hits
        try:
            code = process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            problems.append(f"it hung: {run.stacks(process)}")
            code = process.wait()
        if code not in (kind.codes | {0} if hits else {0}):
            last = run.errors().strip().splitlines()[-1:]
            problems.append(f"exit code {code}: {' '.join(last)[:300]}")
        if left := run.left():
            problems.append(f"left running: {left}")
            for victim in left:
                victim.kill()
        now = run.committed()
        problems += [f"{stage} was changed or is gone" for stage, was in committed.items() if now.get(stage) != was]
        committed = now
    problems += list(ended_differently(run, undisturbed))
    lost = run.counts()
    lost.subtract(undisturbed.reached)
    found.completions_lost, found.stages_made_again = max(0, lost["journal.append"]), max(0, lost["once.committed"])
    found.recovered = 0 if problems else found.tries
    found.problems = [f"seed {seed}: {problem}" for problem in problems]
    return found


def ended_differently(run: Smoke, undisturbed: Reference) -> Iterator[str]:
    """What a finished chain has other than the reference."""
    if tree_digest(run.folder) != undisturbed.digest:
        yield "its stages differ from the undisturbed ones"
    if run.metrics() != undisturbed.metrics:
        yield f"its metrics are {run.metrics()}"


def kill_at_every_failpoint(
    undisturbed: Reference, root: Path, overrides: Sequence[str], sample: int = 1, until: float = math.inf
) -> Measured:
    """Kill one run at every failpoint in the order of the reference run, each time where the last kill left it.

    Args:
        sample: Every how many-th place is tried.
        until: Monotonic time from which no further place is tried.
    """
    found, committed = Measured(), dict[str, tuple[str, int]]()
    run = Smoke(root, undisturbed.data, *overrides, which=undisturbed.which)
    waiting: Counter[str] = Counter()
    for number, name in enumerate(undisturbed.order):
        waiting[name] += 1
        if number % sample or time.monotonic() > until:
            continue
        began = time.monotonic()
        process = run.start(f"{name}:{waiting[name]}=kill9")
        waiting.clear()
        if found.tries:
            while process.poll() is None and not run.works():
                time.sleep(POLL_S)
            found.resume_s.append(round(time.monotonic() - began, 2))
        code = process.wait(ENDS_WITHIN_S)
        found.tries += code != 0
        problems = []
        if code not in (-9, 69):
            problems.append(f"exit code {code}: {run.errors()[-300:]}")
        if left := run.left():
            problems.append(f"left running: {left}")
        now = run.committed()
        problems += [f"{stage} was changed or is gone" for stage, was in committed.items() if now.get(stage) != was]
        committed = now
        found.recovered += not problems
        found.problems += [f"place {number} ({name}): {problem}" for problem in problems]
        if code == 0:
            break
    if run.finish() != 0:
        found.problems.append(run.errors()[-300:])
    found.problems += ended_differently(run, undisturbed)
    return found
