"""Samples of a round to look at in W&B: questions with their votes, rejected near-duplicates, answers that changed."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from crescent.errors import DataSaysNo
from crescent.reading.finished import Run
from crescent.records import Candidate, Response, Verdict, Vote

MOST = 200
"""Rows of a table."""
LONGEST = 1000
"""Characters of a cell."""


@dataclass(frozen=True)
class Table:
    """What one round adds to a table."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float | None, ...], ...]


def sample_questions(run: Run, number: int) -> Table:
    """Questions of a round with their votes. Chosen by their ids, which are hashes: at random, and always the same."""
    votes = sorted(run.records(f"round-{number}/synthesis/votes.jsonl", Vote), key=lambda its: its.question.id)[:MOST]
    columns = ("question", "agreement", "votes", "of", "winner", "answers", "bait", "rewrites", "id")
    rows = []
    for vote in votes:
        answers = " | ".join(its.final if its.final is not None else "(silent)" for its in vote.answers)
        question = vote.question
        counted = (round(vote.agreement, 4), vote.votes, vote.of, vote.winner)
        asked = (question.bait, question.rewrites, question.id)
        rows.append((_cut(question.text), *counted, _cut(answers), *asked))
    return Table(columns, tuple(rows))


def sample_rejected(run: Run, number: int) -> Table:
    """Near-duplicates of a round that were given up, each with its nearest earlier question, the nearest first."""
    found = run.records(f"round-{number}/synthesis/candidates.jsonl", Candidate, ['"outcome":"near-duplicate"'])
    near = [its for its in found if its.outcome == "near-duplicate"]
    near = sorted(near, key=lambda its: (-(its.question.similarity or 0.0), its.question.id))[:MOST]
    neighbours = run.neighbours(near) if near else {}
    columns = ("question", "nearest earlier question", "cosine", "rewrites", "bait", "id", "nearest id")
    rows = []
    for question in (its.question for its in near):
        neighbour = neighbours.get(question.neighbour or "")
        texts = (_cut(question.text), _cut(neighbour.text) if neighbour else None)
        rows.append((*texts, question.similarity, question.rewrites, question.bait, question.id, question.neighbour))
    return Table(columns, tuple(rows))


def sample_changed(run: Run, number: int) -> Table | None:
    """Items that child or parent answered wrongly, and not alike: lost ones first, then gained, then still wrong.

    Of several samples of an item, the first. `None` without the responses of both.
    """
    verdict = run.stage(f"round-{number}/verdict")
    parent = verdict["made_from"]["inputs"].get("parent") if verdict else None
    places = ["base/eval", *(f"round-{earlier}/eval" for earlier in run.rounds if earlier < number)]
    before = next((its for its in places if parent and (run.stage(its) or {}).get("digest") == parent), None)
    if before is None:
        return None
    earlier, now = _first_responses(run, before), _first_responses(run, f"round-{number}/eval")
    changed: dict[str, list[tuple[str | int | float | None, ...]]] = defaultdict(list)
    for key in sorted(now.keys() & earlier.keys()):
        child, other = now[key], earlier[key]
        if (child.correct and other.correct) or (child.final == other.final and child.correct == other.correct):
            continue
        kind = "lost" if other.correct else "gained" if child.correct else "still wrong"
        texts = (_cut(child.prompt), child.target, other.final, child.final, _cut(other.text), _cut(child.text))
        changed[kind].append((kind, child.benchmark, *texts, child.item))
    columns = ("change", "benchmark", "question", "reference", "parent's answer", "child's answer")
    rows = [row for kind in ("lost", "gained", "still wrong") for row in changed[kind]]
    return Table((*columns, "parent's response", "child's response", "item"), tuple(rows[:MOST]))


def verdict_of(run: Run, number: int, patience: int) -> Verdict | None:
    """A round's verdict as the loop acts on it: `verdict.patience` may have made a stop of it."""
    found = _judged(run, number)
    if found is None:
        return None
    from crescent.judging.verdict import with_patience  # scipy comes with it

    earlier = (_judged(run, its) for its in range(number - 1, 0, -1))
    rejected = len(list(takewhile(lambda its: its is not None and its.action != "accept", earlier)))
    return with_patience(found, rejected, patience)


def _judged(run: Run, number: int) -> Verdict | None:
    try:
        return next(run.records(f"round-{number}/verdict/verdict.json", Verdict), None)
    except DataSaysNo as error:
        run.note(str(error))
        return None


def _first_responses(run: Run, stage: str) -> dict[tuple[str, str], Response]:
    found: dict[tuple[str, str], Response] = {}
    for its in run.records(f"{stage}/responses.jsonl", Response):
        found.setdefault((its.benchmark, its.item), its)
    return found


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def shorten(parts: Sequence[str]) -> str:
    """Several sentences as one text that an alert may hold."""
    return _cut("\n".join(parts))
