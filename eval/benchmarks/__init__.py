"""Benchmarks: labelled problems from a folder, from the Hugging Face hub, or generated.

Dev and test never share a question. GSM8K and MMLU have splits of their own: dev is GSM8K's train set and MMLU's
validation set. GSM-Plus rewords GSM8K's test questions, so all of it is test. Everything else is divided by `half`, a
hash of the letters of the question: dev and test stay disjoint whatever the seeds, sizes and options are. People's own
sets (`own`) are used whole unless they are told to divide; `check_apart` compares them with the others.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from crescent.config import OWN, BenchmarkConfig, Source, Split
from crescent.errors import BadConfig, DataSaysNo, Missing
from crescent.records import Item, digest
from eval.benchmarks import generated, multiple_choice, own, word_problems
from eval.benchmarks.multiple_choice import letters_of
from eval.benchmarks.origin import Row
from eval.benchmarks.shots import Shot, choose_shots, shot_source

OWN_SPLITS = (Source.gsm8k, Source.gsm_plus, Source.mmlu)
CHOICES = (Source.arc_challenge, Source.mmlu)


@dataclass(frozen=True)
class Benchmark:
    """Items, with the number of rows that were left out."""

    items: tuple[Item, ...]
    unusable: int
    """Rows without a single reference answer that a response can be compared with."""
    duplicates: int
    """Rows that repeat an earlier question."""
    shots: tuple[Shot, ...] = ()
    """Solved problems that precede each item."""


def load(name: str, config: BenchmarkConfig, data: str | None) -> list[Item]:
    """The items of one benchmark; equal settings give equal items in equal order.

    Args:
        data: Folder with local copies (`eval.data`); by default the one that CRESCENT_DATA names, else the hub.

    Raises:
        BadConfig: a family or option is unknown, or more items are asked for than there are.
        Missing: neither the folder nor the hub has the benchmark; the message says where to put it.
        DataSaysNo: the file contains nothing usable.
    """
    return list(read(name, config, data).items)


def read(name: str, config: BenchmarkConfig, data: str | None) -> Benchmark:
    """Like `load`, with the counts of what was left out, and with the shots.

    Raises:
        BadConfig, Missing, DataSaysNo: as `load`; BadConfig also if too few problems are left for shots.
    """
    found = usable(name, config, data)
    chosen = choose(found.items, config.items, config.seed)
    if config.shots == 0:
        return replace(found, items=chosen)
    # Nothing of a test set becomes a shot, not even the items that are not asked.
    hidden = found.items if config.split is Split.test else chosen
    return replace(found, items=chosen, shots=_shots(name, config, hidden, data_folder(data)))


def usable(name: str, config: BenchmarkConfig, data: str | None) -> Benchmark:
    """All items of the split that `load` could choose from; of a generated family only the chosen ones."""
    if config.source is Source.reasoning_gym:
        found = collect(name, config, generated.draw(name, config), enough=config.items)
    else:
        found = collect(name, config, rows(name, config, data_folder(data)))
    there = len(found.items)
    left_out = f"{found.unusable} rows without a usable answer and {found.duplicates} duplicates are left out"
    what = f"{config.source.value} {config.family or ''}".strip() + f" ({config.split.value})"
    if there == 0:
        raise DataSaysNo(f"eval.benchmarks.{name}: {what} has no usable item; {left_out}")
    if config.items is not None and config.items > there:
        fix = f"{left_out}; set items={there} or less"
        if config.source is Source.reasoning_gym:
            fix += ", or options that allow more different questions"
        raise BadConfig(f"eval.benchmarks.{name}.items={config.items}: {what} has only {there} unique items; {fix}")
    return found


def _shots(name: str, config: BenchmarkConfig, hidden: tuple[Item, ...], folder: Path | None) -> tuple[Shot, ...]:
    source = shot_source(config)
    if source.source is Source.reasoning_gym:
        pool = collect(name, source, generated.draw(name, source), enough=source.items)
        return choose_shots(name, config, pool.items, hidden, {})
    pool = collect(name, source, rows(name, source, folder))
    worked = {} if source.source in (*CHOICES, *OWN) else word_problems.solutions(name, source, folder)
    return choose_shots(name, config, pool.items, hidden, worked)


def rows(name: str, config: BenchmarkConfig, folder: Path | None) -> Iterable[Row]:
    """Rows of one set, from its files or from the hub."""
    match config.source:
        case source if source in OWN:
            return own.rows(name, config, folder)
        case source if source in CHOICES:
            return multiple_choice.rows(name, config, folder)
        case Source.mbpp:
            from eval.benchmarks import code_problems

            return code_problems.rows(name, config, folder)
        case _:
            return word_problems.rows(name, config, folder)


def collect(name: str, config: BenchmarkConfig, rows: Iterable[Row], enough: int | None = None) -> Benchmark:
    """Items from the rows of this split, the first of equal ones, until there are `enough`."""
    divided = config.divide if config.source in OWN else config.source not in OWN_SPLITS
    items: dict[str, Item] = {}
    unusable = duplicates = 0
    for question, target in rows:
        if divided and half(question) is not config.split:
            continue
        item_id = digest(config.source.value, question)
        if target is None or not question.strip():
            unusable += 1
        elif item_id in items:
            duplicates += 1
        else:
            items[item_id] = Item(item_id, name, question, target)
        if len(items) == enough:
            break
    return Benchmark(tuple(items.values()), unusable, duplicates)


def check_apart(benchmarks: Mapping[str, BenchmarkConfig], items: Iterable[Item]) -> None:
    """Refuse a set of one's own that shares questions with one of the other role; our own sets never do.

    Args:
        items: All usable items of all benchmarks.

    Raises:
        DataSaysNo: a question is in a dev and in a test set.
    """
    by_letters: dict[str, Item] = {}
    shared: dict[tuple[str, str], list[Item]] = {}
    for item in sorted(items, key=lambda item: benchmarks[item.benchmark].split is not Split.dev):
        other = by_letters.setdefault(letters_of(item.question), item)
        pair = benchmarks[other.benchmark], benchmarks[item.benchmark]
        if pair[0].split is not pair[1].split and any(config.source in OWN for config in pair):
            shared.setdefault((other.benchmark, item.benchmark), []).append(item)
    for (dev, test), found in shared.items():
        raise DataSaysNo(
            f"eval.benchmarks.{dev} (dev) and eval.benchmarks.{test} (test): {len(found)} questions are in both, e.g. "
            f"{found[0].question[:60]!r}; what decides must not be reported as a test: take them out of one of the "
            "two, or give both the same path and divide=true"
        )


def half(question: str) -> Split:
    """Split of a question. Spaces and case do not count: MAWPS has the same problem in several parts."""
    return (Split.dev, Split.test)[int(digest("split", "".join(question.split()).casefold()), 16) % 2]


def choose(items: tuple[Item, ...], count: int | None, seed: int) -> tuple[Item, ...]:
    """A seeded choice, in the order of `items`. A larger choice contains a smaller one; new rows change few items."""
    ranked = sorted(items, key=lambda item: digest(seed, "choice", item.id))
    chosen = {item.id for item in ranked[:count]}
    return tuple(item for item in items if item.id in chosen)


def data_folder(data: str | None) -> Path | None:
    """The folder with local copies, `None` if none is configured."""
    named = data or os.environ.get("CRESCENT_DATA")
    if named and not Path(named).is_dir():
        key = "eval.data" if data else "CRESCENT_DATA"
        raise Missing(f"{key}={named}: no such folder; unset it to use the Hugging Face hub")
    return Path(named) if named else None
