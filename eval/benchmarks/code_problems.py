"""Python functions with tests: MBPP (arXiv 2108.07732), from a file or from the hub. The reference is the tests."""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from crescent.config import BenchmarkConfig, Source
from crescent.errors import DataSaysNo, Missing
from eval.benchmarks.word_problems import Origin, Raw, Row, from_hub


def rows(
    name: str, config: BenchmarkConfig, folder: Path | None, fetch: Callable[[Origin], list[Raw]] = from_hub
) -> list[Row]:
    """All rows of the set, unusable ones included. MBPP's own splits are joined: it is divided like other sets.

    Raises:
        Missing: it is neither in `folder` nor on the hub.
        DataSaysNo: the file is there and has another format.
    """
    if config.source is not Source.mbpp:
        raise ValueError(f"{config.source.value} is no set of programming problems")
    path = folder / MBPP.file if folder else None
    if path and path.is_file():
        return converted(from_file(path), str(path))
    try:
        raws = fetch(MBPP)
    except Exception as error:  # The hub's client raises a dozen kinds, and each of them means: not there.
        place = path or f"$CRESCENT_DATA/{MBPP.file}"
        raise Missing(
            f"eval.benchmarks.{name}: mbpp is not at {place}, and the hub's {MBPP.hub} cannot be had "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); put the file at {place} or run "
            f"`hf download --repo-type dataset {MBPP.hub}` where there is a network"
        ) from error
    return converted(raws, MBPP.hub)


def mbpp_row(raw: Raw) -> Row:
    """The task, the name its tests call, and the first test as an example: without it the arguments could be anything.

    The other tests stay unseen. No reference when the tests call nothing that the row's own solution defines.
    """
    tests = [test.strip() for test in raw["test_list"]]
    defined = re.findall(r"^def\s+(\w+)\s*\(", raw["code"].replace("\r\n", "\n"), re.MULTILINE)
    called = [function for function in defined if tests and re.search(rf"\b{function}\s*\(", tests[0])]
    if not called:
        return raw["text"].strip(), None
    text, function = raw["text"].strip(), called[-1]
    task = f"{text}\nYour function must be called `{function}`. For example, this must hold:\n{tests[0]}"
    return task, "\n".join([raw["test_setup_code"], *tests]).strip()


MBPP = Origin(
    file="mbpp/mbpp.jsonl",
    file_row=mbpp_row,
    hub="google-research-datasets/mbpp",
    hub_row=mbpp_row,
    splits=("train", "validation", "test", "prompt"),
    options={"name": "full"},
)


def converted(raws: Iterable[Raw], where: str) -> list[Row]:
    try:
        return [mbpp_row(raw) for raw in raws]
    except (KeyError, AttributeError, TypeError) as error:
        raise DataSaysNo(f"{where}: not the format MBPP is published in ({error!r})") from error


def from_file(path: Path) -> list[Raw]:
    try:
        return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line.strip()]
    except json.JSONDecodeError as error:
        raise DataSaysNo(f"{path}: cannot be read ({error}); copy it again") from error
