"""A run folder written by hand, stage by stage, for tests that follow a pair."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fakes import answers
from rich.console import Console

from crescent.reading.trace import Trace
from crescent.records import (
    Pair,
    Question,
    Verdict,
    Vote,
    digest,
    write_lines,
)
from crescent.run_folder.manifest import seal
from crescent.show.trace import show
from crescent.synthesis.consensus import vote

K = 4


SYNTHESIS = {
    "bait": {"prompts": {"sums": "Write a sum."}},
    "consensus": {"samples": K},
    "diversify": {"threshold": 0.85, "runs": []},
}


PAIRS = {
    "consensus": {"min_agreement": 0.5},
    "pairs": {"max_unanimous": 0.4, "decontamination": {"ngram": 13, "masked": True, "similarity": 0.9}},
}


def wrote(text: str, number: int = 1, index: int = 0, **more: Any) -> Question:
    return Question(digest(number, index, text), text, number, index, bait="sums", seed=index, **more)


def voted(question: Question, *finals: str | None) -> Vote:
    known = list(dict.fromkeys(final for final in finals if final is not None))
    return vote(question, answers(question, *finals), [-1 if final is None else known.index(final) for final in finals])


def pair(decided: Vote, sample: int = 0) -> Pair:
    question, text = decided.question, decided.answers[sample].text
    identity = digest(question.id, sample, question.text)
    return Pair(identity, question.id, question.round, question.text, text, decided.winner or "", decided.agreement)


def verdict(child: str, action: Any = "accept", reason: str = "it is better") -> Verdict:
    return Verdict(action, reason, child, "base", 0.1, 0.0, 0.2, 0.04, 3, 1, 20)


@dataclass
class HandmadeRun:
    """A run folder whose stages are sealed one after the other, each made from the one before it."""

    root: Path
    digests: dict[str, str] = field(default_factory=dict)

    def stage(self, name: str, files: dict[str, Sequence[object]], settings: Any = None, after: str = "") -> str:
        folder = self.root / name
        folder.mkdir(parents=True)
        for file, records in files.items():
            write_lines(folder / file, records)
        inputs = {"before": self.digests[after]} if after else {}
        made_from = {"version": "0", "settings": settings or {}, "inputs": inputs}
        about: dict[str, Any] = {"made_from": made_from, "metrics": {}, "seconds": 1.0}
        self.digests[name] = str(seal(folder, about)["digest"])
        return self.digests[name]

    def synthesis(self, number: int = 1, settings: Any = SYNTHESIS, **files: Sequence[object]) -> None:
        named = {f"{name}.jsonl": records for name, records in files.items()}
        self.stage(f"round-{number}/synthesis", {"votes.jsonl": [], **named}, settings)

    def selection(self, number: int, new: Sequence[Pair], old: Sequence[Pair] = (), **files: Sequence[object]) -> None:
        named = {f"{name}.jsonl": records for name, records in files.items()}
        training = {"new.jsonl": new, "pairs.jsonl": [*old, *new]}
        self.stage(f"round-{number}/pairs", {**training, **named}, PAIRS, f"round-{number}/synthesis")

    def train(self, number: int) -> str:
        """The child's name."""
        trained = self.stage(f"round-{number}/train", {"metrics.json": [{}]}, {}, f"round-{number}/pairs")
        return f"{self.root.name}-r{number:02d}-{trained[:8]}"

    def judge(self, number: int, *found: Verdict) -> None:
        self.stage(f"round-{number}/verdict", {"verdict.json": found})


FIRST = wrote("What is 2 + 3?")
KEPT = voted(FIRST, "5", "5", "6", None)


def page(found: Trace, width: int = 80, full: bool = False) -> str:
    """What `crescent trace` prints."""
    out = io.StringIO()
    show(found, Console(file=out, width=width, markup=False, highlight=False, emoji=False), full)
    return out.getvalue()
