"""Python functions with tests: MBPP (arXiv 2108.07732), from a file or from the hub. The reference is the tests."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from crescent.config import BenchmarkConfig, Source
from crescent.errors import DataSaysNo
from eval.benchmarks.origin import Origin, Raw, Row, fetch, from_hub, read_file


def rows(
    name: str, config: BenchmarkConfig, folder: Path | None, load: Callable[[Origin], list[Raw]] = from_hub
) -> list[Row]:
    """All rows of the set, unusable ones included. MBPP's own splits are joined: it is divided like other sets.

    Raises:
        Missing: the set is neither in `folder` nor on the hub.
        DataSaysNo: the file has another format.
    """
    if config.source is not Source.mbpp:
        raise ValueError(f"{config.source.value} is not a set of programming problems")
    path = folder / MBPP.file if folder else None
    if path and path.is_file():
        return converted(read_file(path), str(path))
    return converted(fetch(name, MBPP.hub, path or MBPP.file, lambda: load(MBPP)), MBPP.hub)


def mbpp_row(raw: Raw) -> Row:
    """The task, with the name that its tests call and the first test as an example of the arguments.

    The other tests stay hidden. The reference is `None` if the tests call nothing that the row's solution defines.
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
        raise DataSaysNo(f"{where}: not the format in which MBPP is published ({error!r})") from error
