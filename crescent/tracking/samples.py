"""Samples of a round for W&B: questions with their votes, dropped near-duplicates, and changed answers."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from crescent.errors import DataSaysNo
from crescent.machine.inert_text import uncalculated, visible_lines
from crescent.reading.finished import RunReader
from crescent.records import Candidate, Response, Verdict, Vote
from crescent.run_folder.places import RESPONSES

MOST = 200
"""Largest number of rows of a table."""
LONGEST = 1000
"""Largest number of characters of a cell."""


@dataclass(frozen=True)
class Table:
    """Rows that one round adds to a table."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float | None, ...], ...]

    @property
    def cells(self) -> list[list[str | int | float | None]]:
        """The rows for a program that shows them and exports them as CSV: no text is calculated or obeyed there."""
        return [
            [visible_lines(uncalculated(cell)) if isinstance(cell, str) else cell for cell in row] for row in self.rows
        ]


def sample_questions(run: RunReader, number: int) -> Table:
    """Questions of a round with their votes. Ids are hashes, so the first ones by id are a random sample that stays the
    same."""
    votes = sorted(run.records(f"round-{number}/synthesis/votes.jsonl", Vote), key=lambda vote: vote.question.id)[:MOST]
    columns = ("question", "agreement", "votes", "of", "winner", "answers", "bait", "rewrites", "id")
    rows = []
    for vote in votes:
        answers = " | ".join(answer.final if answer.final is not None else "(silent)" for answer in vote.answers)
        question = vote.question
        counted = (round(vote.agreement, 4), vote.votes, vote.of, vote.winner)
        asked = (question.bait, question.rewrites, question.id)
        rows.append((_cut(question.text), *counted, _cut(answers), *asked))
    return Table(columns, tuple(rows))


def sample_rejected(run: RunReader, number: int) -> Table:
    """Dropped near-duplicates of a round, each with its nearest earlier question; the most similar first."""
    found = run.records(f"round-{number}/synthesis/candidates.jsonl", Candidate, ['"outcome":"near-duplicate"'])
    dropped = [candidate for candidate in found if candidate.outcome == "near-duplicate"]
    dropped.sort(key=lambda candidate: (-(candidate.question.similarity or 0.0), candidate.question.id))
    dropped = dropped[:MOST]
    neighbours = run.neighbours(dropped) if dropped else {}
    columns = ("question", "nearest earlier question", "cosine", "rewrites", "bait", "id", "nearest id")
    rows = []
    for question in (candidate.question for candidate in dropped):
        neighbour = neighbours.get(question.neighbour or "")
        texts = (_cut(question.text), _cut(neighbour.text) if neighbour else None)
        rows.append((*texts, question.similarity, question.rewrites, question.bait, question.id, question.neighbour))
    return Table(columns, tuple(rows))


def sample_changed(run: RunReader, number: int) -> Table | None:
    """Items that child or parent answered wrongly, with different answers: first lost, then gained, then still wrong.

    If an item has several samples, the first counts. `None` if the responses of child or parent are missing.
    """
    verdict = run.stage(f"round-{number}/verdict")
    parent = verdict["made_from"]["inputs"].get("parent") if verdict else None
    places = ["base/eval", *(f"round-{earlier}/eval" for earlier in run.rounds if earlier < number)]
    before = next((stage for stage in places if parent and (run.stage(stage) or {}).get("digest") == parent), None)
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


def verdict_of(run: RunReader, number: int, patience: int) -> Verdict | None:
    """A round's verdict as the loop acts on it: `verdict.patience` may have turned it into a stop."""
    found = _judged(run, number)
    if found is None:
        return None
    from crescent.judging.verdict import with_patience  # imports scipy

    earlier = (_judged(run, round_) for round_ in range(number - 1, 0, -1))
    rejected = len(list(takewhile(lambda verdict: verdict is not None and verdict.action != "accept", earlier)))
    return with_patience(found, rejected, patience)


def _judged(run: RunReader, number: int) -> Verdict | None:
    try:
        return next(run.records(f"round-{number}/verdict/verdict.json", Verdict), None)
    except DataSaysNo as error:
        run.note(str(error))
        return None


def _first_responses(run: RunReader, stage: str) -> dict[tuple[str, str], Response]:
    found: dict[tuple[str, str], Response] = {}
    for response in run.records(f"{stage}/{RESPONSES}", Response):
        found.setdefault((response.benchmark, response.item), response)
    return found


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def shorten(parts: Sequence[str]) -> str:
    """Several sentences as one text, short enough for an alert."""
    return _cut("\n".join(parts))
