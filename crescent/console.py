"""How a run looks to a person: nothing, plain lines or a live picture, and its outcome at the end."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from rich.console import Console as RichConsole
from rich.console import Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from crescent.config import Config, Console, Wandb
from crescent.records import Evaluation, Round
from crescent.report import REPORT

PLAIN_INTERVAL_S = 10.0
UNCHANGED_INTERVAL_S = 60.0
"""Seconds after which a line that says nothing new is a sign of life."""


class View(Protocol):
    """How the run looks to a person."""

    def started(self, stage: str, resumed: bool) -> None: ...
    def progress(self, stage: str, done: int, total: int, note: str) -> None: ...
    def finished(self, stage: str, seconds: float, fresh: bool) -> None: ...
    def round_done(self, finished: Round) -> None: ...
    def say(self, line: str) -> None: ...
    def close(self) -> None: ...


def open_console(kind: Console) -> View:
    if kind is Console.quiet:
        return QuietView()
    if kind is Console.auto and sys.stdout.isatty():
        return LiveView()
    return PlainView()


class QuietView:
    """Says nothing."""

    def started(self, stage: str, resumed: bool) -> None: ...
    def progress(self, stage: str, done: int, total: int, note: str) -> None: ...
    def finished(self, stage: str, seconds: float, fresh: bool) -> None: ...
    def round_done(self, finished: Round) -> None: ...
    def say(self, line: str) -> None: ...
    def close(self) -> None: ...


class PlainView:
    """Lines with a time of day, for logs: progress at most every ten seconds, and once a minute where there is none."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = 0.0
        self._shown = (0, "")
        self._pace = Pace()
        self._news = False
        """Whether anything was done since the last round: a run that was finished before has nothing to tell."""

    def started(self, stage: str, resumed: bool) -> None:
        self._last, self._news, self._pace = self._clock(), True, Pace()
        self.say(f"{stage}: {'continues' if resumed else 'starts'}")

    def progress(self, stage: str, done: int, total: int, note: str) -> None:
        now = self._clock()
        pace = self._pace.of(now, done, total)
        if now - self._last >= (UNCHANGED_INTERVAL_S if self._shown == (done, note) else PLAIN_INTERVAL_S):
            self._last, self._shown = now, (done, note)
            self.say("  ".join(filter(None, (f"{stage}: {done}/{total}", pace, note))))

    def finished(self, stage: str, seconds: float, fresh: bool) -> None:
        if fresh:
            self.say(f"{stage}: done in {seconds:.0f} s")

    def round_done(self, finished: Round) -> None:
        if self._news:
            self.say(f"round {finished.number}: {finished.verdict.action}: {finished.verdict.reason}")
        self._news = False

    def say(self, line: str) -> None:
        print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)

    def close(self) -> None: ...


class Pace:
    """How fast a stage goes on and when it will be done, from its first report on: what an earlier attempt did took no
    time now."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def of(self, now: float, done: int, total: int) -> str:
        """`12.5/s, 3 min left`, by a clock in seconds; empty while too little is known."""
        if self._first is None or done < self._first[1]:
            self._first = (now, done)
        seconds, units = now - self._first[0], done - self._first[1]
        if seconds <= 0 or units <= 0:
            return ""
        rate = units / seconds
        speed = f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min"
        left = max(0, total - done) / rate
        return f"{speed}, {left:.0f} s left" if left < 90 else f"{speed}, {left / 60:.0f} min left"


class PaceColumn(ProgressColumn):
    """`Pace` in the live picture."""

    def __init__(self) -> None:
        super().__init__()
        self._paces: dict[TaskID, Pace] = {}

    def render(self, task: Task) -> Text:
        pace = self._paces.setdefault(task.id, Pace())
        # Before its first report a stage has no total.
        return Text(pace.of(task.get_time(), int(task.completed), int(task.total)) if task.total else "")


class LiveView:
    """The rounds so far in a table, the running stage as a bar below it."""

    def __init__(self, console: RichConsole | None = None) -> None:
        # Lines are text: brackets in a path or an error are no markup.
        self._console = console or RichConsole(markup=False, highlight=False)
        self._rounds: list[Round] = []
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<18}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            PaceColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
        )
        self._task: TaskID | None = None
        self._live = Live(self._picture(), console=self._console, refresh_per_second=4)
        self._live.start()

    def _picture(self) -> Group:
        return Group(*([rounds_table(self._rounds)] if self._rounds else []), self._bars)

    def started(self, stage: str, resumed: bool) -> None:
        self._drop_bar()
        self._task = self._bars.add_task(stage, total=None, note="continues" if resumed else "")

    def progress(self, stage: str, done: int, total: int, note: str) -> None:
        if self._task is not None:
            self._bars.update(self._task, completed=done, total=total or None, note=note)

    def finished(self, stage: str, seconds: float, fresh: bool) -> None:
        self._drop_bar()
        if fresh:
            self.say(f"✓ {stage} in {seconds:.0f} s")

    def round_done(self, finished: Round) -> None:
        self._rounds.append(finished)
        self._live.update(self._picture())

    def say(self, line: str) -> None:
        self._live.console.print(line)

    def close(self) -> None:
        self._drop_bar()
        self._live.update(self._bars)
        self._live.stop()

    def _drop_bar(self) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None


def rounds_table(rounds: list[Round]) -> Table:
    """The rounds of a run, one row each."""
    table = Table(title="rounds", title_justify="left")
    taught = any(its.teacher is not its.parent for its in rounds)
    compared = ["teacher", "parent", "child"] if taught else ["parent", "child"]
    for column in ("round", "questions", "agreement", "pairs", "benchmark", *compared, "difference", "p"):
        table.add_column(column, justify="left" if column == "benchmark" else "right")
    table.add_column("verdict")
    for its in rounds:
        verdict = its.verdict
        for row, score in enumerate(its.child.scores):
            before = accuracy_on(score.benchmark, its.parent)
            first = row == 0
            table.add_row(
                str(its.number) if first else "",
                f"{its.votes.metrics['questions']:.0f}" if first else "",
                f"{its.votes.metrics['agreement']:.2f}" if first else "",
                f"{its.pairs.metrics['pairs']:.0f}" if first else "",
                score.benchmark + ("" if score.decides else " (test)"),
                *([accuracy_on(score.benchmark, its.teacher)] if taught else []),
                before,
                f"{score.accuracy:.1%} [{score.low:.1%}, {score.high:.1%}]",
                f"{verdict.difference * 100:+.1f} [{verdict.low * 100:+.1f}, {verdict.high * 100:+.1f}]"
                if first
                else "",
                ("<0.001" if verdict.p_value < 0.001 else f"{verdict.p_value:.3f}") if first else "",
                verdict.action if first else "",
            )
    return table


def accuracy_on(benchmark: str, evaluated: Evaluation) -> str:
    """As a percentage; empty where it was not asked."""
    return next((f"{its.accuracy:.1%}" for its in evaluated.scores if its.benchmark == benchmark), "")


def show_outcome(cfg: Config, root: Path, rounds: list[Round]) -> None:
    """The rounds, where everything lies, and what to run next."""
    console = RichConsole(width=None if sys.stdout.isatty() else 150, markup=False, highlight=False)
    console.print(rounds_table(rounds))
    best = next((its.child for its in reversed(rounds) if its.verdict.action == "accept"), rounds[0].parent)
    for its in rounds:
        console.print(f"round {its.number}: {its.verdict.action}: {its.verdict.reason}", soft_wrap=True)
    where = best.checkpoint.weights or best.checkpoint.adapter
    kind = "the base itself: no child was better" if best.checkpoint.round == 0 else f"round {best.checkpoint.round}"
    console.print(f"\nbest checkpoint  {best.checkpoint.name} ({kind})\n                 {where}", soft_wrap=True)
    for name, path in (
        ("report", REPORT),
        ("questions, votes", "round-*/synthesis"),
        ("training pairs", "round-*/pairs"),
        ("answers, scores", "*/eval"),
        ("metrics", "metrics.jsonl"),
        ("logs", "logs"),
    ):
        console.print(f"{name:<16} {root / path}", soft_wrap=True)
    if cfg.tracking.wandb is Wandb.offline:
        console.print(f"W&B, offline     upload with: crescent sync {root}", soft_wrap=True)
    if rounds[-1].verdict.action == "stop":
        advice = "look into the votes and answers above, then raise verdict.patience, or try a new run.name"
    else:
        advice = f"the same command with run.rounds={len(rounds) + 1} goes on; add mode=plan to see what that costs"
    console.print(f"\nnext: {advice}", soft_wrap=True)
