"""A trace on the terminal. Most of it was written by a model: it is shown as text, whatever it looks like."""

import json

import msgspec
from rich.console import Console
from rich.text import Text

from crescent.judging.wording import OUTCOMES
from crescent.machine.inert_text import visible
from crescent.reading.trace import Trace, TrainedRound, Wording
from crescent.records import Question, SeedQuestion, Vote
from crescent.synthesis.consensus import SILENCE, standings

QUESTION_CHARACTERS = 600
ANSWER_CHARACTERS = 200
NAME_CHARACTERS = 60
LINE_CHARACTERS = 500
LINES = 12
"""Lines that are shown of a shortened text."""
FATES = {
    "trained on": "used to train ",
    "not trained on yet": "selected, not trained on yet",
    "not selected": "voted on, not selected; the reason is not recorded",
    "not selected yet": "voted on; the pairs of its round are not selected yet",
    "too easy": "NOT trained on: too easy",
    "no answer of its arm": "NOT trained on: the control arm (pairs.labels) has no answer to it",
    "quarantined": "NOT trained on: quarantined, too similar to a benchmark item",
    "too little agreement": "NOT trained on: too little agreement",
    "no majority": "NOT trained on: its answers have no majority",
    "near-duplicate": "NOT trained on: still a near-duplicate after all rewrites",
    "unusable": "NOT trained on: not a usable question",
}
MARKS = {True: "passed", False: "STOPPED", None: "unknown"}


def show(trace: Trace, console: Console, full: bool = False) -> None:
    """Print a trace; long texts are shortened, with a count, unless `full`."""
    page = _Page(console, full)
    page.line(0, f"{trace.of} {trace.id} of {trace.run}")
    checkpoints = [_checkpoint(round_) for round_ in trace.trained if round_.checkpoint]
    page.line(0, FATES[trace.fate] + ", ".join(checkpoints))
    if trace.reused:
        page.line(0, f"reused from other runs: {', '.join(trace.reused)}")
    if trace.steps:
        _show_question(trace, page)
    if trace.vote:
        _show_answers(trace, page)
    if trace.filters:
        page.heading("filters")
        for filter_ in trace.filters:
            page.line(2, f"{MARKS[filter_.passed]:<9}{filter_.name}: {filter_.finding}", hanging=9)
        if trace.quarantine:
            page.line(2, f"evidence: {trace.quarantine.evidence}; the benchmark item:")
            page.text(4, trace.quarantine.item_question, QUESTION_CHARACTERS)
    if trace.pairs:
        _show_pairs(trace, page)
    if trace.missing:
        page.heading("missing")
        for note in trace.missing:
            page.line(2, note)


def as_json(trace: Trace) -> str:
    """One line that decodes to an equal trace; plain ASCII, so that a terminal obeys nothing in it."""
    return json.dumps(msgspec.to_builtins(trace)).replace("\x7f", "\\u007f")


def _show_question(trace: Trace, page: "_Page") -> None:
    first = trace.steps[0].question
    page.heading("bait prompt")
    page.line(2, f"{first.bait}, for request {first.index} of round {first.round}")
    page.text(4, trace.bait.prompt if trace.bait else "(not kept)", QUESTION_CHARACTERS)
    if trace.seed is not None:
        page.heading("seed question")
        page.line(2, f"line {trace.seed.line} of {trace.seed.file}: given, not invented, and never trained on itself")
        page.text(4, trace.seed.text, QUESTION_CHARACTERS)
    page.heading("question")
    for wording in trace.steps:
        question = wording.question
        role = " <- asked for" if question.id == trace.id and len(trace.steps) > 1 else ""
        page.line(2, f"{_origin(question, trace.seed)} {question.id}, seed {question.seed}: {wording.outcome}{role}")
        if wording.why:
            page.line(4, wording.why)
        page.text(4, question.text, QUESTION_CHARACTERS)
        _show_neighbour(wording, page)


def _origin(question: Question, seed: SeedQuestion | None) -> str:
    if question.rewrites:
        return f"rewrite {question.rewrites}"
    return "invented" if seed is None else "made from the seed question"


def _show_neighbour(wording: Wording, page: "_Page") -> None:
    question, near = wording.question, wording.neighbour
    if question.neighbour is None:
        return
    cosine = f", cosine {question.similarity:.3f}" if question.similarity is not None else ""
    where = f" (round {near.round}, request {near.index})" if near else ""
    page.line(4, f"nearest: {question.neighbour}{where}{cosine}")
    page.text(6, near.text if near else "(text not found)", QUESTION_CHARACTERS)


def _show_answers(trace: Trace, page: "_Page") -> None:
    vote = trace.vote
    assert vote is not None
    page.heading(f"answers: {vote.of} of {trace.samples or '?'} asked")
    for number, text in enumerate(vote.inputs):
        page.line(2, f"input {number}")
        page.text(4, text, ANSWER_CHARACTERS)
    leader, _, _ = standings(vote.classes)
    for answer, class_ in zip(vote.answers, vote.classes, strict=True):
        final = "no final answer" if class_ == SILENCE else f"class {class_}, final {_short(answer.final or '')}"
        role = " <- trained on" if answer.sample in trace.chosen else ""
        if not role and class_ == leader and vote.winner is not None:
            role = " (majority)"
        about = f"sample {answer.sample}: {final}, {answer.tokens} tokens, {answer.finish_reason}{role}"
        page.line(2, about, hanging=4)
        page.text(4, answer.text, QUESTION_CHARACTERS if "<-" in role else ANSWER_CHARACTERS)
    page.heading("vote")
    winner = f"winner {_short(vote.winner)}" if vote.winner is not None else "no winner"
    page.line(2, f"{winner}: {vote.votes} of {vote.of} votes, agreement {vote.agreement:.3f}")
    page.line(2, f"margin {trace.margin:.3f}, entropy {trace.entropy:.3f} bits")


def _show_pairs(trace: Trace, page: "_Page") -> None:
    page.heading("training pairs")
    for pair, sample in zip(trace.pairs, trace.chosen, strict=True):
        borrowed = sample is None and trace.vote is not None and pair.completion not in _texts(trace.vote)
        source = f"sample {'?' if sample is None else sample}"
        if borrowed:
            source = "the response to another question (pairs.labels=shuffled, or pairs.noise)"
        page.line(2, f"{pair.id}, made from {'a replayed instruction' if pair.source == 'replay' else source}")
        if pair.source == "replay":
            page.text(4, pair.prompt, QUESTION_CHARACTERS)
        if pair.source == "replay" or borrowed:
            page.text(4, pair.completion, QUESTION_CHARACTERS)
    page.heading("checkpoints trained on it")
    for round_ in trace.trained:
        part = f" ({len(round_.pairs)} of {len(trace.pairs)} pairs)" if len(round_.pairs) < len(trace.pairs) else ""
        page.line(2, f"round {round_.round}: {round_.checkpoint or 'not trained yet'}{part}")
        if round_.verdict:
            page.line(4, f"{OUTCOMES[round_.verdict.action]}: {round_.verdict.reason}")
        elif round_.checkpoint:
            page.line(4, "not judged yet")
        if round_.too_long:
            left_out = f"{round_.too_long} of the round's pairs were left out, as longer than train.max_length"
            page.line(4, f"{left_out}; which ones is not recorded")
    if not trace.trained:
        page.line(2, "none: no round's pairs.jsonl contains it")


def _texts(vote: Vote) -> set[str]:
    return {answer.text for answer in vote.answers}


def _checkpoint(round_: TrainedRound) -> str:
    outcome = OUTCOMES[round_.verdict.action] if round_.verdict else "not judged yet"
    return f"{round_.checkpoint} ({outcome})"


def _short(text: str) -> str:
    return text if len(text) <= NAME_CHARACTERS else f"{text[:NAME_CHARACTERS]}… ({len(text) - NAME_CHARACTERS} more)"


class _Page:
    """Prints lines, and texts with a bar on their left: no text can pass for a line of the page."""

    def __init__(self, console: Console, full: bool) -> None:
        self.console = console
        self.full = full

    def heading(self, text: str) -> None:
        self.console.print()
        self.console.print(Text(text, style="bold"))

    def line(self, indent: int, text: str, hanging: int = 2) -> None:
        """A line that wraps with an indent that is `hanging` deeper."""
        self._wrapped(visible(self._shortened(text, LINE_CHARACTERS, 1)), " " * indent, " " * (indent + hanging))

    def text(self, indent: int, text: str, characters: int) -> None:
        bar = " " * indent + "| "
        for line in self._shortened(text, characters, LINES).split("\n"):
            self._wrapped(visible(line.replace("\t", "    ")), bar, bar)

    def _wrapped(self, text: str, first: str, rest: str) -> None:
        lines = Text(text).wrap(self.console, max(20, self.console.width - len(rest)), overflow="fold") or [Text()]
        for number, line in enumerate(lines):
            line.rstrip()
            self.console.print(Text(rest if number else first) + line, no_wrap=True, overflow="ignore", crop=False)

    def _shortened(self, text: str, characters: int, lines: int) -> str:
        if self.full:
            return text
        kept = text[:characters]
        if lines > 1:
            kept = "\n".join(kept.split("\n")[:lines])
        if len(kept) == len(text):
            return text
        kept = kept.rstrip()
        return f"{kept}… ({len(text) - len(kept):,} more characters)"
