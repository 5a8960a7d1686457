"""The settings that differ between runs, and what runs are called by them."""

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, takewhile

SECONDARY = re.compile(r"(run|tracking|launch)\.|mode$")
"""Begins the names of settings that tell where and how long a run goes on, and not what it does; of these, only
`NOTABLE` are shown."""
NOTABLE = ("run.seed", "run.rounds")
INCIDENTAL = ("serving.", "eval.", "verdict.", "tracking.", "launch.")
"""Begin the names of settings that are rarely what a sweep is about."""
ABSENT = "(not there)"
MOST = 1e100
"""Numbers beyond it are texts."""
VALUE_CHARACTERS = 24
LABEL_CHARACTERS = 40
FEWEST = 3
"""Settings that are tried together where all make too long a name."""


@dataclass(frozen=True)
class Differing:
    """One setting that is not the same in all runs."""

    key: str
    runs_by_value: dict[str, tuple[str, ...]]


def differing(settings_by_run: Mapping[str, Mapping[str, str]]) -> Iterator[Differing]:
    """The settings, each in JSON by its dotted key, that are not the same in all runs."""
    for key in sorted({key for settings in settings_by_run.values() for key in settings}):
        if SECONDARY.match(key) and key not in NOTABLE:
            continue
        runs_by_value: dict[str, list[str]] = defaultdict(list)
        for run, settings in settings_by_run.items():
            runs_by_value[settings.get(key, ABSENT)].append(run)
        if len(runs_by_value) > 1:
            yield Differing(key, {value: tuple(its) for value, its in runs_by_value.items()})


def told_by(
    settings: Sequence[Differing], without: Collection[str] = (), most: int = LABEL_CHARACTERS
) -> dict[str, str]:
    """What each run is, by what differs: `samples=3 seed=1`. Where that is long, by as few settings as tell them apart.

    Of settings that divide the runs in the same way, one is named.
    """
    chosen: dict[frozenset[tuple[str, ...]], Differing] = {}
    for its in sorted(settings, key=lambda its: (incidental(its.key), its.key)):
        if its.key not in without:
            chosen.setdefault(frozenset(its.runs_by_value.values()), its)
    keys = short_keys([its.key for its in chosen.values()])
    parts: dict[str, list[str]] = defaultdict(list)
    for its in chosen.values():
        written = distinct(list(its.runs_by_value), VALUE_CHARACTERS)
        for value, runs in its.runs_by_value.items():
            for run in runs:
                parts[run].append(f"{keys[its.key]}={'–' if value == ABSENT else written[value]}")
    if max((len(" ".join(its)) for its in parts.values()), default=0) > most:
        many = len({tuple(its) for its in parts.values()})
        for few in chain.from_iterable(combinations(range(len(chosen)), size) for size in range(1, FEWEST + 1)):
            if len({tuple(its[nth] for nth in few) for its in parts.values()}) == many:
                return {run: " ".join(its[nth] for nth in few) for run, its in parts.items()}
    return {run: " ".join(its) for run, its in parts.items()}


def labels(settings: Sequence[Differing], names: Sequence[str]) -> dict[str, str]:
    """What runs are called: by what differs, where that is shorter than their names and tells them apart."""
    longest = max(map(len, names), default=0)
    told = told_by(settings, most=min(LABEL_CHARACTERS, longest - 1))
    found = {its: told.get(its, its) for its in names}
    unique = len(set(found.values())) == len(found)
    return found if unique and max(map(len, found.values()), default=0) < longest else {its: its for its in names}


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """The last parts of dotted names, as many as tell them apart."""

    def tail(key: str, parts: int) -> str:
        return ".".join(key.split(".")[-parts:])

    return {
        key: next(
            (tail(key, its) for its in range(1, 9) if [tail(other, its) for other in keys].count(tail(key, its)) == 1),
            key,
        )
        for key in keys
    }


def distinct(values: Sequence[str], most: int) -> dict[str, str]:
    """Settings' values as text, none longer; where one is, what they all begin with is left out first."""
    texts = {its: text_of(its) for its in values}
    if max(map(len, texts.values()), default=0) <= most:
        return texts
    # Up to where a part begins, as in paths.
    alike = takewhile(lambda its: len(set(its)) == 1, zip(*texts.values(), strict=False))
    common = re.sub(r"[^/\s,._-]*$", "", "".join(its[0] for its in alike))
    rest = {value: f"…{its[len(common) :]}" if common else its for value, its in texts.items()}
    cut = {value: _cut(its, most) for value, its in rest.items()}
    if len(set(cut.values())) == len(cut):
        return cut
    return {value: its if len(its) <= most else f"…{its[1 - most :]}" for value, its in rest.items()}


def incidental(key: str) -> int:
    """Seeds come after what is rarely meant, and that after all others."""
    return 2 if key == "run.seed" else 1 if key.startswith(INCIDENTAL) or key == "run.rounds" else 0


def in_order(values: Collection[str]) -> list[str]:
    """Numbers by size, then texts."""

    def place(value: str) -> tuple[bool, float, str]:
        number = number_of(value)
        return (True, 0.0, value) if number is None else (False, number, value)

    return sorted(values, key=place)


def number_of(given: str) -> float | None:
    """A setting's value as a number that can be drawn; `None`: it is none."""
    read = _value(given)
    if isinstance(read, bool) or not isinstance(read, int | float) or not abs(read) < MOST:
        return None
    return float(read)


def short(given: str) -> str:
    """A setting's value without quotes, cut where it is long."""
    return _cut(text_of(given), VALUE_CHARACTERS)


def text_of(given: str) -> str:
    read = _value(given)
    return read if isinstance(read, str) else given


def _value(given: str) -> object:
    try:
        read: object = json.loads(given)
    except ValueError:
        return given
    return read


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
