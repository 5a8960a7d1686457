"""The settings that differ between runs, and short names for the runs made from them."""

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, takewhile

SECONDARY = re.compile(r"(run|tracking|launch|sweep)\.|mode$")
"""Start of the names of settings that say where and how long a run works, not what it does. Of these, only `NOTABLE`
ones are shown."""
NOTABLE = ("run.seed", "run.rounds")
INCIDENTAL = ("serving.", "eval.", "verdict.", "tracking.", "launch.", "sweep.")
"""Start of the names of settings that are rarely what a sweep is about."""
NOT_SET = "(not set)"
LARGEST_NUMBER = 1e100
"""Numbers beyond it are treated as texts."""
VALUE_CHARACTERS = 24
LABEL_CHARACTERS = 40
SETTINGS_IN_SHORT_LABEL = 3
"""Most settings in a label, where all differing settings together would make it too long."""


@dataclass(frozen=True)
class DifferingSetting:
    """One setting that is not the same in all runs."""

    key: str
    runs_by_value: dict[str, tuple[str, ...]]


def differing_settings(settings_by_run: Mapping[str, Mapping[str, str]]) -> Iterator[DifferingSetting]:
    """The settings that are not the same in all runs; values are JSON, keys are dotted."""
    for key in sorted({key for settings in settings_by_run.values() for key in settings}):
        if SECONDARY.match(key) and key not in NOTABLE:
            continue
        runs_by_value: dict[str, list[str]] = defaultdict(list)
        for run, settings in settings_by_run.items():
            runs_by_value[settings.get(key, NOT_SET)].append(run)
        if len(runs_by_value) > 1:
            yield DifferingSetting(key, {value: tuple(runs) for value, runs in runs_by_value.items()})


def describe_runs(
    settings: Sequence[DifferingSetting], without: Collection[str] = (), most: int = LABEL_CHARACTERS
) -> dict[str, str]:
    """Each run by its values of the differing settings: `samples=3 seed=1`.

    Where a description is longer than `most` characters, it uses as few settings as tell the runs apart. Of settings
    that divide the runs in the same way, one is named.
    """
    chosen: dict[frozenset[tuple[str, ...]], DifferingSetting] = {}
    for setting in sorted(settings, key=lambda setting: (incidental(setting.key), setting.key)):
        if setting.key not in without:
            chosen.setdefault(frozenset(setting.runs_by_value.values()), setting)
    keys = short_keys([setting.key for setting in chosen.values()])
    parts: dict[str, list[str]] = defaultdict(list)
    for setting in chosen.values():
        texts = distinct(list(setting.runs_by_value), VALUE_CHARACTERS)
        for value, runs in setting.runs_by_value.items():
            for run in runs:
                parts[run].append(f"{keys[setting.key]}={'–' if value == NOT_SET else texts[value]}")
    if max((len(" ".join(texts)) for texts in parts.values()), default=0) > most:
        descriptions = len({tuple(texts) for texts in parts.values()})
        sizes = range(1, SETTINGS_IN_SHORT_LABEL + 1)
        for places in chain.from_iterable(combinations(range(len(chosen)), size) for size in sizes):
            if len({tuple(texts[place] for place in places) for texts in parts.values()}) == descriptions:
                return {run: " ".join(texts[place] for place in places) for run, texts in parts.items()}
    return {run: " ".join(texts) for run, texts in parts.items()}


def run_labels(settings: Sequence[DifferingSetting], names: Sequence[str]) -> dict[str, str]:
    """A label for each run: its differing settings where these are shorter than the names and unique, else its name."""
    longest = max(map(len, names), default=0)
    descriptions = describe_runs(settings, most=min(LABEL_CHARACTERS, longest - 1))
    labels = {name: descriptions.get(name, name) for name in names}
    unique = len(set(labels.values())) == len(labels)
    shorter = max(map(len, labels.values()), default=0) < longest
    return labels if unique and shorter else {name: name for name in names}


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """The last parts of dotted names, as many as make each name unique."""

    def tail(key: str, parts: int) -> str:
        return ".".join(key.split(".")[-parts:])

    def is_unique(key: str, parts: int) -> bool:
        return [tail(other, parts) for other in keys].count(tail(key, parts)) == 1

    return {key: next((tail(key, parts) for parts in range(1, 9) if is_unique(key, parts)), key) for key in keys}


def distinct(values: Sequence[str], most: int) -> dict[str, str]:
    """Settings' values as texts of at most `most` characters; where one is longer, their common start is left out."""
    texts = {value: text_of(value) for value in values}
    if max(map(len, texts.values()), default=0) <= most:
        return texts
    same = takewhile(lambda characters: len(set(characters)) == 1, zip(*texts.values(), strict=False))
    # The common start ends where a part of a path or a name begins.
    common = re.sub(r"[^/\s,._-]*$", "", "".join(characters[0] for characters in same))
    endings = {value: f"…{text[len(common) :]}" if common else text for value, text in texts.items()}
    cut = {value: _cut(ending, most) for value, ending in endings.items()}
    if len(set(cut.values())) == len(cut):
        return cut
    return {value: text if len(text) <= most else f"…{text[1 - most :]}" for value, text in endings.items()}


def incidental(key: str) -> int:
    """Sort key: what a sweep is about first, then settings that are rarely meant, then seeds."""
    return 2 if key == "run.seed" else 1 if key.startswith(INCIDENTAL) or key == "run.rounds" else 0


def in_order(values: Collection[str]) -> list[str]:
    """Numbers by size, then texts."""

    def place(value: str) -> tuple[bool, float, str]:
        number = number_of(value)
        return (True, 0.0, value) if number is None else (False, number, value)

    return sorted(values, key=place)


def number_of(value: str) -> float | None:
    """A setting's value as a number that can be drawn; `None` when it is not a number."""
    decoded = _decoded(value)
    if isinstance(decoded, bool) or not isinstance(decoded, int | float) or not abs(decoded) < LARGEST_NUMBER:
        return None
    return float(decoded)


def short(value: str) -> str:
    """A setting's value without quotes, cut where it is long."""
    return _cut(text_of(value), VALUE_CHARACTERS)


def text_of(value: str) -> str:
    """A setting's value without quotes."""
    decoded = _decoded(value)
    return decoded if isinstance(decoded, str) else value


def _decoded(value: str) -> object:
    try:
        decoded: object = json.loads(value)
    except ValueError:
        return value
    return decoded


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
