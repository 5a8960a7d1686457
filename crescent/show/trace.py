"""A trace as a person reads it. Most of it was written by a model: it is text, whatever it looks like."""

import json

import msgspec
from rich.console import Console
from rich.text import Text

from crescent.reading.trace import Step, Trace, Training
from crescent.records import Question, Verdict
from crescent.show.texts import visible
from crescent.synthesis.consensus import SILENCE, standings

QUESTION_CHARACTERS = 600
ANSWER_CHARACTERS = 200
NAME_CHARACTERS = 60
LINE_CHARACTERS = 500
LINES = 12
"""Of one text that is shortened."""
EXPLAINED = {
    "trained on": "trained on by ",
    "not trained on yet": "selected, and not trained on yet",
    "not selected": "voted on, and not selected: why is not recorded",
    "not selected yet": "voted on; its round's pairs are not selected yet",
    "too easy": "NOT trained on: too easy",
    "quarantined": "NOT trained on: quarantined, too near to a benchmark",
    "too little agreement": "NOT trained on: too little agreement",
    "no majority": "NOT trained on: its answers have no majority",
    "near-duplicate": "NOT trained on: a near-duplicate after all rewrites",
    "unusable": "NOT trained on: no usable question",
}
MARKS = {True: "passed", False: "STOPPED", None: "unknown"}


def show(trace: Trace, console: Console, full: bool = False) -> None:
    """Print a trace; long texts are shortened, with a count, unless `full`."""
    page = _Page(console, full)
    page.line(0, f"{trace.of} {trace.id} of {trace.run}")
    page.line(0, EXPLAINED[trace.fate] + ", ".join(_learned(its) for its in trace.trained if its.checkpoint))
    if trace.steps:
        _show_question(trace, page)
    if trace.vote:
        _show_answers(trace, page)
    if trace.filters:
        page.heading("filters")
        for its in trace.filters:
            page.line(2, f"{MARKS[its.passed]:<9}{its.name}: {its.finding}", hanging=9)
        if trace.quarantine:
            page.line(2, f"it shares {trace.quarantine.evidence} with")
            page.text(4, trace.quarantine.item_question, QUESTION_CHARACTERS)
    if trace.pairs:
        _show_pairs(trace, page)
    if trace.missing:
        page.heading("not found")
        for note in trace.missing:
            page.line(2, note)


def as_json(trace: Trace) -> str:
    """One line that reads back to an equal trace; plain ASCII, so it does nothing to a terminal."""
    return json.dumps(msgspec.to_builtins(trace)).replace("\x7f", "\\u007f")


def _show_question(trace: Trace, page: "_Page") -> None:
    first = trace.steps[0].question
    page.heading("bait prompt")
    page.line(2, f"{first.bait}, for request {first.index} of round {first.round}")
    page.text(4, trace.bait.prompt if trace.bait else "(not kept)", QUESTION_CHARACTERS)
    page.heading("question")
    for step in trace.steps:
        question = step.question
        role = " <- asked for" if question.id == trace.id and len(trace.steps) > 1 else ""
        page.line(2, f"{_wording(question)} {question.id}, seed {question.seed}: {step.outcome}{role}")
        if step.why:
            page.line(4, step.why)
        page.text(4, question.text, QUESTION_CHARACTERS)
        _show_neighbour(step, page)


def _wording(question: Question) -> str:
    return f"rewrite {question.rewrites}" if question.rewrites else "invented"


def _show_neighbour(step: Step, page: "_Page") -> None:
    question, near = step.question, step.neighbour
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
    for answer, its in zip(vote.answers, vote.classes, strict=True):
        said = "silent" if its == SILENCE else f"class {its}, final {_short(answer.final or '')}"
        role = " <- trained on" if answer.sample in trace.chosen else ""
        if not role and its == leader and vote.winner is not None:
            role = " (majority)"
        page.line(2, f"sample {answer.sample}: {said}, {answer.tokens} tokens, {answer.finish_reason}{role}", hanging=4)
        page.text(4, answer.text, QUESTION_CHARACTERS if "<-" in role else ANSWER_CHARACTERS)
    page.heading("vote")
    winner = f"winner {_short(vote.winner)}" if vote.winner is not None else "no winner"
    page.line(2, f"{winner}: {vote.votes} of {vote.of} votes, agreement {vote.agreement:.3f}")
    page.line(2, f"margin {trace.margin:.3f}, entropy {trace.entropy:.3f} bits")


def _show_pairs(trace: Trace, page: "_Page") -> None:
    page.heading("training pairs")
    for pair, sample in zip(trace.pairs, trace.chosen, strict=True):
        made_of = "a replayed instruction" if pair.source == "replay" else f"sample {'?' if sample is None else sample}"
        page.line(2, f"{pair.id}, made of {made_of}")
        if pair.source == "replay":
            page.text(4, pair.prompt, QUESTION_CHARACTERS)
            page.text(4, pair.completion, QUESTION_CHARACTERS)
    page.heading("checkpoints that learned from it")
    for its in trace.trained:
        some = f" ({len(its.pairs)} of {len(trace.pairs)} pairs)" if len(its.pairs) < len(trace.pairs) else ""
        page.line(2, f"round {its.round}: {its.checkpoint or 'not trained yet'}{some}")
        if its.verdict:
            page.line(4, f"{_judged(its.verdict)}: {its.verdict.reason}")
        elif its.checkpoint:
            page.line(4, "not judged yet")
        if its.too_long:
            left_out = f"{its.too_long} of the round's pairs were left out, as longer than train.max_length"
            page.line(4, f"{left_out}; which ones is not recorded")
    if not trace.trained:
        page.line(2, "none: no round's pairs.jsonl contains it")


def _learned(training: Training) -> str:
    return f"{training.checkpoint} ({_judged(training.verdict) if training.verdict else 'not judged yet'})"


def _judged(verdict: Verdict) -> str:
    became = {"accept": "accepted", "retry": "retried", "roll back": "rolled back", "stop": "not accepted"}
    return became[verdict.action]


def _short(text: str) -> str:
    return text if len(text) <= NAME_CHARACTERS else f"{text[:NAME_CHARACTERS]}… ({len(text) - NAME_CHARACTERS} more)"


class _Page:
    """Lines, and texts with a bar on their left: no text can pass for a line of the page."""

    def __init__(self, console: Console, full: bool) -> None:
        self.console = console
        self.full = full

    def heading(self, text: str) -> None:
        self.console.print()
        self.console.print(Text(text, style="bold"))

    def line(self, indent: int, text: str, hanging: int = 2) -> None:
        """Wrapped below itself, `hanging` further in."""
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
