"""What a study keeps of its runs: every answer to every item, in one character each.

The records of one study are one JSON object, gzipped: small enough to be committed, and everything that a study's table
shows is computed from them. An item's answers are a string with one character per sample, in the order of the samples:

    *    right
    .    no readable final answer
    a…z  wrong, but as long as the reference answer (the same letter: the same final answer)
    A…Z  wrong, and shorter or longer than the reference answer
    ?    wrong, after all letters are used up: different from every other answer

So `**a*.*B*` is five times right, once silent, once wrong in the right form. Wrong answers are told apart by their
number or spelling; right ones are all the same. Two spellings of one wrong formula count as two answers here, which can
only help a majority; maj@k of `eval` compares them by algebra.
"""

import gzip
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from crescent.errors import BadConfig, DataSaysNo
from crescent.records import Response
from crescent.tasks.equivalence import as_number, normal

FORMAT = 1
"""Version of the file's form."""
RIGHT, SILENT, OTHER = "*", ".", "?"


@dataclass(frozen=True)
class BenchmarkRecord:
    """One checkpoint's answers to one benchmark."""

    items: str
    """Digest of the items' ids, under which `StudyRecords.item_sets` lists them."""
    samples: int
    """Number of answers to each item."""
    tokens: float
    """Mean number of generated tokens per answer."""
    answers: tuple[str, ...]
    """One string per item, as explained above, in the order of the item set."""
    likelihoods: tuple[float, ...] = ()
    """Probability of each reference answer among the candidates, in [0, 1]; empty where it was not measured."""
    most_likely: str = ""
    """`1` for each item whose reference answer is more likely than every distractor, else `0`."""


@dataclass(frozen=True)
class VoteCount:
    """Votes of one round with one agreement, on questions that are one plain computation."""

    votes: int
    """Number of samples behind the winner."""
    of: int
    count: int
    """Number of such votes."""
    right: int
    """Number of those whose winner is right by computation."""


@dataclass(frozen=True)
class RoundRecord:
    """The base (round 0) or one round of a run."""

    round: int
    evaluation: str
    """Digest of the eval stage, under which `StudyRecords.evaluations` lists it; empty if it is not finished."""
    checkpoint: str
    """Digest of the evaluated model."""
    action: str | None = None
    """Action of the verdict."""
    synthesis: str = ""
    """Digest of the round's questions and votes; arms that train on the same questions have the same."""
    questions: int | None = None
    """Number of questions that self-deduplication accepted."""
    kept: int | None = None
    """Number of questions behind the new pairs."""
    pairs: int | None = None
    """Number of new pairs."""
    trained: int | None = None
    """Number of pairs trained on, those of earlier rounds included."""
    steps: int | None = None
    """Number of optimizer steps."""
    labels_known: int | None = None
    """Number of new pairs whose right answer is known, because their question is one plain computation."""
    labels_right: int | None = None
    """Number of those whose completion has that answer."""
    votes: tuple[VoteCount, ...] = ()
    """Reliability of the round's votes, by agreement."""


@dataclass(frozen=True)
class DeclaredAt:
    """A declaration under which a run was started."""

    digest: str
    at: str
    finished: tuple[str, ...] = ()
    """Round stages that were finished by then."""


@dataclass(frozen=True)
class RunRecord:
    """One run of a study."""

    name: str
    arm: str | None
    """Name of its arm; `None` for a model that was only evaluated."""
    seed: int | None
    status: str
    declared: tuple[DeclaredAt, ...]
    """Declarations under which it was started, oldest first."""
    settings: dict[str, str]
    """Settings that are not the same in all runs, as JSON by dotted key."""
    rounds: tuple[RoundRecord, ...]
    """The base, then the rounds."""
    missing: tuple[str, ...] = ()
    """What could not be read, and why."""


@dataclass(frozen=True)
class StudyRecords:
    """Everything that a study's table is computed from."""

    study: str
    digest: str
    """Digest of the declaration."""
    declaration: dict[str, Any]
    settings: dict[str, str]
    """Settings that are the same in all runs, as JSON by dotted key."""
    item_sets: dict[str, tuple[str, ...]]
    """Ids of the items, sorted, by their digest."""
    evaluations: dict[str, dict[str, BenchmarkRecord]]
    """Records by benchmark, by digest of the eval stage: arms that share a base share its entry."""
    runs: tuple[RunRecord, ...]
    format: int = FORMAT
    version: str = ""
    """Version of Crescent that wrote it."""
    made: dict[str, str] = field(default_factory=dict)
    """Remarks about the origin, e.g. the commit."""


def write_records(path: Path, records: StudyRecords) -> int:
    """Write the records; equal records make equal files. Returns the number of bytes."""
    packed = gzip.compress(msgspec.json.encode(records, order="deterministic"), compresslevel=9, mtime=0)
    try:
        path.write_bytes(packed)
    except OSError as error:
        raise BadConfig(f"--records {path}: {error.strerror}; name a file in a writable folder") from error
    return len(packed)


def read_records(path: Path) -> StudyRecords:
    """Read what `write_records` wrote.

    Raises:
        BadConfig: there is no such file.
        DataSaysNo: the file holds something else, or another version of it.
    """
    try:
        records = msgspec.json.decode(gzip.decompress(path.read_bytes()), type=StudyRecords)
    except FileNotFoundError as error:
        fix = "to write it, name the study's runs as well: crescent compare --study NAME --records FILE RUN…"
        raise BadConfig(f"--records {path}: no such file; {fix}") from error
    except (OSError, EOFError, ValueError) as error:
        raise DataSaysNo(f"--records {path}: holds no records of a study ({error})") from error
    if records.format != FORMAT:
        raise DataSaysNo(f"--records {path}: format {records.format}, and this version reads {FORMAT}")
    return records


def sample_string(samples: Sequence[Response]) -> str:
    """The answers to one item, one character each, in the order of the samples."""
    letters: dict[str, str] = {}
    unused = {True: list(string.ascii_lowercase), False: list(string.ascii_uppercase)}
    written = ""
    for response in sorted(samples, key=lambda response: response.sample):
        if response.correct:
            written += RIGHT
        elif response.final is None:
            written += SILENT
        else:
            number = as_number(response.final)
            answer = normal(response.final) if number is None else str(number)
            left = unused[has_form(response.final, response.target)]
            if answer not in letters and left:
                letters[answer] = left.pop(0)
            written += letters.get(answer, OTHER)
    return written


def has_form(final: str, target: str) -> bool:
    """Whether a final answer is as long as the reference answer: numbers of equally many characters, or other texts."""
    numbers = as_number(final), as_number(target)
    if (numbers[0] is None) != (numbers[1] is None):
        return False
    mine, other = (
        normal(text) if number is None else str(number) for text, number in zip((final, target), numbers, strict=True)
    )
    return len(mine) == len(other)


def right(answers: str) -> int:
    """Number of right samples."""
    return answers.count(RIGHT)


def majority_is_right(answers: str, samples: int | None = None) -> bool:
    """Whether the most frequent final answer of the first `samples` is right. Silent ones do not vote; a tie is wrong.

    As `maj@k` of an evaluation.
    """
    votes = Counter(answer for answer in answers[:samples] if answer not in (SILENT, OTHER))
    rivals = [count for answer, count in votes.items() if answer != RIGHT]
    if OTHER in answers[:samples]:
        rivals.append(1)
    return votes[RIGHT] > max(rivals, default=0)


def is_wrong_in_form(answer: str) -> bool:
    return answer in string.ascii_lowercase


def passed(answers: str) -> bool:
    """Whether at least one sample is right."""
    return RIGHT in answers


def benchmark_record(
    responses: Sequence[Response], items: str, likelihoods: Mapping[str, tuple[float, bool]] | None = None
) -> tuple[BenchmarkRecord, tuple[str, ...]]:
    """The record of one benchmark's responses, and the ids of its items.

    Args:
        items: Digest of the items' ids.
        likelihoods: By item: probability of the reference answer among the candidates, and whether it is the largest.
    """
    by_item: dict[str, list[Response]] = {}
    for response in responses:
        by_item.setdefault(response.item, []).append(response)
    ids = tuple(sorted(by_item))
    known = likelihoods is not None and set(ids) <= likelihoods.keys()
    found = [likelihoods[item] for item in ids] if likelihoods is not None and known else []
    record = BenchmarkRecord(
        items=items,
        samples=max((len(samples) for samples in by_item.values()), default=0),
        tokens=round(sum(response.tokens for response in responses) / max(1, len(responses)), 2),
        answers=tuple(sample_string(by_item[item]) for item in ids),
        likelihoods=tuple(round(share, 3) for share, _ in found),
        most_likely="".join("1" if top else "0" for _, top in found),
    )
    return record, ids
