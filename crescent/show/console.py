"""How a run looks to a person: nothing, plain lines or a live picture, and its outcome at the end."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from crescent.config import Config, Console, Wandb
from crescent.records import Evaluation, Round, Verdict
from crescent.run_folder.metric_names import AGREEMENT, NEW_PAIRS, QUESTIONS
from crescent.run_folder.places import METRICS, REPORT

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
    """How fast a stage goes on and when it will be done, by its last minute, or its last ten units if they took longer.

    It counts from the first report on: what an earlier attempt did took no time now.
    """

    SECONDS, UNITS = 60.0, 10

    def __init__(self) -> None:
        self._reports: deque[tuple[float, int]] = deque()

    def of(self, now: float, done: int, total: int) -> str:
        """`12.5/s, 3 min left`, by a clock in seconds; empty while too little is known."""
        reports = self._reports
        if reports and done < reports[-1][1]:
            reports.clear()
        if not reports or done > reports[-1][1]:
            reports.append((now, done))
        while len(reports) > 2 and now - reports[1][0] >= self.SECONDS and done - reports[1][1] >= self.UNITS:
            reports.popleft()
        seconds, units = now - reports[0][0], done - reports[0][1]
        if seconds <= 0 or units <= 0:
            return ""
        rate = units / seconds
        speed = f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min"
        left = (total - done) / rate
        if left <= 0:
            return speed
        return f"{speed}, {left:.0f} s left" if left < 90 else f"{speed}, {left / 60:.0f} min left"


class LiveView:
    """The rounds so far in a table, the running stage as a bar below it, and below that how it goes."""

    def __init__(self, console: RichConsole | None = None) -> None:
        # Lines are text: brackets in a path or an error are no markup.
        self._console = console or RichConsole(markup=False, highlight=False)
        self._rounds: list[Round] = []
        whole = Column(no_wrap=True)
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False, table_column=whole),
            # It takes what the others leave, so that a narrow terminal shortens nothing else.
            BarColumn(bar_width=None, table_column=Column(ratio=1, max_width=50)),
            MofNCompleteColumn(table_column=whole),
            TimeElapsedColumn(table_column=whole),
            console=self._console,
            expand=True,
        )
        self._pace = Pace()
        self._note = ""
        self._task: TaskID | None = None
        self._live = Live(self._picture(), console=self._console, refresh_per_second=4)
        self._live.start()

    def _picture(self) -> Group:
        return Group(*([RoundsPicture(self._rounds)] if self._rounds else []), self._bars, self)

    def __rich__(self) -> RenderableType:
        """The line below the bar; asked for with every picture, so that the time left goes down between reports."""
        task = next((its for its in self._bars.tasks if its.id == self._task), None)
        if task is None:
            return Text()
        # Before its first report a stage has no total.
        pace = self._pace.of(task.get_time(), int(task.completed), int(task.total)) if task.total else ""
        return Text("  ".join(filter(None, (" ", pace, self._note))), no_wrap=True, overflow="ellipsis", style="dim")

    def started(self, stage: str, resumed: bool) -> None:
        self._drop_bar()
        self._pace, self._note = Pace(), "continues" if resumed else ""
        self._task = self._bars.add_task(stage, total=None)

    def progress(self, stage: str, done: int, total: int, note: str) -> None:
        if self._task is not None:
            self._note = note
            self._bars.update(self._task, completed=done, total=total or None)

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


@dataclass(frozen=True)
class RoundsPicture:
    """The rounds of a run: as a table, or in lines where the table does not fit. No number is ever shortened."""

    rounds: Sequence[Round]

    def __rich_console__(self, console: RichConsole, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Called by rich."""
        table = rounds_table(self.rounds)
        fits = console.measure(table, options=options.update(width=10_000)).maximum <= options.max_width
        yield table if fits else Text("\n".join(line for its in self.rounds for line in round_lines(its)))


def round_lines(its: Round) -> Iterator[str]:
    """One round for a narrow terminal."""
    questions, agreement, pairs = counted(its)
    yield f"round {its.number}: {its.verdict.action}"
    yield f"  {questions} {QUESTIONS.label}, {AGREEMENT.label} {agreement}, {pairs} {NEW_PAIRS.label}"
    for score in its.child.scores:
        before, after = accuracy_on(score.benchmark, its.parent), with_ends(score.accuracy, score.low, score.high)
        yield f"  {score.benchmark}{'' if score.decides else ' (test)'}: {before} → {after}"
    yield f"  difference {in_points(its.verdict)}, p {p_value(its.verdict.p_value)}"


def rounds_table(rounds: Sequence[Round]) -> Table:
    """One row each, and one for each further benchmark."""
    table = Table(title="rounds", title_justify="left")
    taught = any(its.teacher is not its.parent for its in rounds)
    compared = ["teacher", "parent", "child"] if taught else ["parent", "child"]
    measures = (QUESTIONS.label, AGREEMENT.label, NEW_PAIRS.label)
    for column in ("round", *measures, "benchmark", *compared, "difference", "p"):
        table.add_column(column, justify="left" if column == "benchmark" else "right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for its in rounds:
        verdict = its.verdict
        for row, score in enumerate(its.child.scores):
            before = accuracy_on(score.benchmark, its.parent)
            first = row == 0
            table.add_row(
                str(its.number) if first else "",
                *(counted(its) if first else ("", "", "")),
                score.benchmark + ("" if score.decides else " (test)"),
                *([accuracy_on(score.benchmark, its.teacher)] if taught else []),
                before,
                with_ends(score.accuracy, score.low, score.high),
                in_points(verdict) if first else "",
                p_value(verdict.p_value) if first else "",
                verdict.action if first else "",
            )
    return table


def counted(finished: Round) -> tuple[str, str, str]:
    """Questions, agreement and new pairs of a round."""
    votes, pairs = finished.votes.metrics, finished.pairs.metrics
    return f"{QUESTIONS.of(votes):.0f}", f"{AGREEMENT.of(votes):.2f}", f"{NEW_PAIRS.of(pairs):.0f}"


def with_ends(share: float, low: float, high: float) -> str:
    """A share and its interval, as percentages."""
    return f"{share:.1%} [{low:.1%}, {high:.1%}]"


def in_points(verdict: Verdict) -> str:
    """A verdict's difference and its interval, in percentage points."""
    return f"{verdict.difference * 100:+.1f} [{verdict.low * 100:+.1f}, {verdict.high * 100:+.1f}]"


def p_value(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def accuracy_on(benchmark: str, evaluated: Evaluation) -> str:
    """As a percentage; empty where it was not asked."""
    return next((f"{its.accuracy:.1%}" for its in evaluated.scores if its.benchmark == benchmark), "")


def show_outcome(cfg: Config, root: Path, rounds: list[Round]) -> None:
    """The rounds, where everything lies, and what to run next."""
    console = RichConsole(width=None if sys.stdout.isatty() else 150, markup=False, highlight=False)
    console.print(RoundsPicture(rounds))
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
        ("metrics", METRICS),
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
