"""A run on the terminal: nothing, plain lines or a live picture, and the outcome at the end."""

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
from crescent.judging.wording import (
    OUTCOMES,
    p_number,
    p_value,
    percent,
    percent_with_interval,
    points_number_with_interval,
    points_with_interval,
)
from crescent.machine.inert_text import visible, visible_lines
from crescent.records import Evaluation, Round
from crescent.run_folder.metric_names import AGREEMENT, NEW_PAIRS, QUESTIONS
from crescent.run_folder.places import METRICS, REPORT
from crescent.show.forecast import Forecast, duration

PLAIN_INTERVAL_S = 10.0
UNCHANGED_INTERVAL_S = 60.0
"""Seconds after which an unchanged line is repeated, to show that the stage is alive."""


class View(Protocol):
    """What the terminal shows of a running loop."""

    def started(self, stage: str, resumed: bool) -> None: ...
    def progress(self, stage: str, done: int, total: int, note: str) -> None: ...
    def finished(self, stage: str, seconds: float, fresh: bool) -> None: ...
    def reused(self, stage: str, run: str) -> None: ...
    def round_done(self, finished: Round) -> None: ...
    def log(self, line: str) -> None: ...
    def close(self) -> None: ...


def open_console(kind: Console, forecast: Forecast) -> View:
    if kind is Console.quiet:
        return QuietView()
    if kind is Console.auto and sys.stdout.isatty():
        return LiveView(forecast)
    return PlainView(forecast)


class QuietView:
    """Prints nothing while the run works."""

    def started(self, stage: str, resumed: bool) -> None: ...
    def progress(self, stage: str, done: int, total: int, note: str) -> None: ...
    def finished(self, stage: str, seconds: float, fresh: bool) -> None: ...
    def reused(self, stage: str, run: str) -> None: ...
    def round_done(self, finished: Round) -> None: ...
    def log(self, line: str) -> None: ...
    def close(self) -> None: ...


class PlainView:
    """Lines with the time of day, for logs: progress every ten seconds at most, unchanged progress once a minute."""

    def __init__(self, forecast: Forecast, clock: Callable[[], float] = time.monotonic) -> None:
        self._forecast = forecast
        self._clock = clock
        self._last = self._begun = 0.0
        self._shown = (0, "")
        self._pace = Pace()
        self._news = False
        """Whether a stage was made since the last round; the verdict of an earlier start is not printed again."""

    def started(self, stage: str, resumed: bool) -> None:
        self._last = self._begun = self._clock()
        self._news, self._pace = True, Pace()
        self.log(f"{stage}: {'resumes' if resumed else 'starts'}")

    def progress(self, stage: str, done: int, total: int, note: str) -> None:
        now = self._clock()
        pace = self._pace.of(now, done, total)
        if now - self._last >= (UNCHANGED_INTERVAL_S if self._shown == (done, note) else PLAIN_INTERVAL_S):
            self._last, self._shown = now, (done, note)
            later = self._forecast.text(stage, self._pace.left_s)
            cost = self._forecast.cost(now - self._begun)
            self.log("  ".join(filter(None, (f"{stage}: {done}/{total}", pace, later, cost, note))))

    def finished(self, stage: str, seconds: float, fresh: bool) -> None:
        if fresh:
            self.log(f"{stage}: done in {seconds:.0f} s")

    def reused(self, stage: str, run: str) -> None:
        self._news = True
        self.log(f"{stage}: reused from {run} (same settings and inputs)")

    def round_done(self, finished: Round) -> None:
        if self._news:
            self.log(verdict_line(finished))
        self._news = False

    def log(self, line: str) -> None:
        print(f"{time.strftime('%H:%M:%S')}  {visible_lines(line)}", flush=True)

    def close(self) -> None: ...


class Pace:
    """Speed of a stage and the time it still needs, by its last minute, or its last ten units if these took longer.

    It counts from the first report on: what an earlier attempt did took no time in this one.
    """

    SECONDS, UNITS = 60.0, 10

    def __init__(self) -> None:
        self._reports: deque[tuple[float, int]] = deque()
        self.left_s: float | None = None
        """Seconds that the stage still needs, as of the last report; `None` if unknown."""

    def of(self, now: float, done: int, total: int) -> str:
        """`12.5/s, 3 min left`, from a clock in seconds; empty while too little is known."""
        self.left_s = None
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
        self.left_s = max(0.0, (total - done) / rate)
        return f"{speed}, {duration(self.left_s)} left" if self.left_s else speed


class LiveView:
    """A table of the rounds so far, a bar for the running stage below it, and its progress below that."""

    def __init__(self, forecast: Forecast, console: RichConsole | None = None) -> None:
        self._forecast = forecast
        # Lines are text: brackets in a path or an error are not markup.
        self._console = console or RichConsole(markup=False, highlight=False)
        self._rounds: list[Round] = []
        unwrapped = Column(no_wrap=True)
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False, table_column=unwrapped),
            # The bar takes the space that the others leave, so that a narrow terminal shortens nothing else.
            BarColumn(bar_width=None, table_column=Column(ratio=1, max_width=50)),
            MofNCompleteColumn(table_column=unwrapped),
            TimeElapsedColumn(table_column=unwrapped),
            console=self._console,
            expand=True,
        )
        self._pace = Pace()
        self._note = ""
        self._task: TaskID | None = None
        self._news = False
        """As in `PlainView`."""
        self._live = Live(self._picture(), console=self._console, refresh_per_second=4)
        self._live.start()

    def _picture(self) -> Group:
        return Group(*([RoundsPicture(self._rounds)] if self._rounds else []), self._bars, self)

    def __rich__(self) -> RenderableType:
        """The line below the bar; drawn with every picture, so that the time left goes down between reports."""
        task = next((task for task in self._bars.tasks if task.id == self._task), None)
        if task is None:
            return Text()
        # Before its first report a stage has no total.
        pace = self._pace.of(task.get_time(), int(task.completed), int(task.total)) if task.total else ""
        later = self._forecast.text(task.description, self._pace.left_s if pace else None)
        cost = self._forecast.cost(task.elapsed or 0.0)
        line = "  ".join(filter(None, (" ", pace, later, cost, self._note)))
        return Text(line, no_wrap=True, overflow="ellipsis", style="dim")

    def started(self, stage: str, resumed: bool) -> None:
        self._drop_bar()
        self._news, self._pace, self._note = True, Pace(), "resumes" if resumed else ""
        self._task = self._bars.add_task(stage, total=None)

    def progress(self, stage: str, done: int, total: int, note: str) -> None:
        if self._task is not None:
            self._note = visible(note)
            self._bars.update(self._task, completed=done, total=total or None)

    def finished(self, stage: str, seconds: float, fresh: bool) -> None:
        self._drop_bar()
        if fresh:
            self.log(f"✓ {stage} in {seconds:.0f} s")

    def reused(self, stage: str, run: str) -> None:
        self._news = True
        self._drop_bar()
        self.log(f"✓ {stage}: reused from {run} (same settings and inputs)")

    def round_done(self, finished: Round) -> None:
        self._rounds.append(finished)
        if self._news:
            self.log(verdict_line(finished))
        self._news = False
        self._live.update(self._picture())

    def log(self, line: str) -> None:
        self._live.console.print(visible_lines(line))

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
    """The rounds of a run: as a table, or as lines where the table does not fit. No number is ever shortened."""

    rounds: Sequence[Round]

    def __rich_console__(self, console: RichConsole, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Called by rich."""
        table = rounds_table(self.rounds)
        fits = console.measure(table, options=options.update(width=10_000)).maximum <= options.max_width
        yield table if fits else Text("\n".join(line for round_ in self.rounds for line in round_lines(round_)))


def verdict_line(round_: Round) -> str:
    """`Round 1 accepted: 30 of 150 items gained, …`."""
    return f"Round {round_.number} {OUTCOMES[round_.verdict.action]}: {round_.verdict.reason}"


def round_lines(round_: Round) -> Iterator[str]:
    """One round for a narrow terminal."""
    (questions, agreement, pairs), verdict = counts(round_), round_.verdict
    yield f"round {round_.number}: {OUTCOMES[verdict.action]}"
    yield f"  {questions} {QUESTIONS.label}, {AGREEMENT.label} {agreement}, {pairs} {NEW_PAIRS.label}"
    for score in round_.child.scores:
        before = accuracy_on(score.benchmark, round_.parent)
        after = percent_with_interval(score.accuracy, score.low, score.high)
        yield f"  {score.benchmark}{'' if score.decides else ' (test)'}: {before} → {after}"
    yield f"  {points_with_interval(verdict.difference, verdict.low, verdict.high)}, {p_value(verdict.p_value)}"


def rounds_table(rounds: Sequence[Round]) -> Table:
    """One row for each round, and one for each further benchmark."""
    table = Table(title="rounds", title_justify="left")
    has_teacher = any(round_.teacher is not round_.parent for round_ in rounds)
    checkpoints = ["teacher", "parent", "child"] if has_teacher else ["parent", "child"]
    measures = (QUESTIONS.label, AGREEMENT.label, NEW_PAIRS.label)
    for column in ("round", *measures, "benchmark", *checkpoints, "points", "p"):
        table.add_column(column, justify="left" if column == "benchmark" else "right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for round_ in rounds:
        verdict = round_.verdict
        for place, score in enumerate(round_.child.scores):
            first = place == 0
            table.add_row(
                str(round_.number) if first else "",
                *(counts(round_) if first else ("", "", "")),
                score.benchmark + ("" if score.decides else " (test)"),
                *([accuracy_on(score.benchmark, round_.teacher)] if has_teacher else []),
                accuracy_on(score.benchmark, round_.parent),
                percent_with_interval(score.accuracy, score.low, score.high),
                points_number_with_interval(verdict.difference, verdict.low, verdict.high) if first else "",
                p_number(verdict.p_value) if first else "",
                OUTCOMES[verdict.action] if first else "",
            )
    return table


def counts(round_: Round) -> tuple[str, str, str]:
    """Questions, agreement and new pairs of a round."""
    votes, pairs = round_.votes.metrics, round_.pairs.metrics
    return f"{QUESTIONS.of(votes):.0f}", f"{AGREEMENT.of(votes):.2f}", f"{NEW_PAIRS.of(pairs):.0f}"


def accuracy_on(benchmark: str, evaluation: Evaluation) -> str:
    """Accuracy in percent; empty where the benchmark was not asked."""
    return next((percent(score.accuracy) for score in evaluation.scores if score.benchmark == benchmark), "")


def show_outcome(cfg: Config, root: Path, rounds: list[Round], claim: Sequence[str]) -> None:
    """Print the rounds, what may be claimed, where everything lies, and what to run next."""
    console = RichConsole(width=None if sys.stdout.isatty() else 150, markup=False, highlight=False)
    console.print(RoundsPicture(rounds))
    if cfg.tracking.console is Console.quiet:
        # The other views printed each verdict when it was reached.
        for round_ in rounds:
            console.print(verdict_line(round_), soft_wrap=True)
    console.print()
    for line in claim:
        console.print(visible(line), soft_wrap=True)
    accepted = (round_.child for round_ in reversed(rounds) if round_.verdict.action == "accept")
    best = next(accepted, rounds[0].parent).checkpoint
    origin = "the base: no child was accepted" if best.round == 0 else f"round {best.round}"
    where = best.weights or best.adapter
    console.print(f"\nbest checkpoint  {best.name} ({origin})\n                 {where}", soft_wrap=True)
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
        advice = "to look for the cause, read the votes and answers above; then raise verdict.patience or set another "
        advice += "run.name"
    else:
        advice = f"to continue, rerun with run.rounds={len(rounds) + 1}; add mode=plan to see what it costs"
    console.print(f"\n{advice}", soft_wrap=True)
