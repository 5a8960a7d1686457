r"""Sets of one's own: a JSONL file, or any data set that the `datasets` library loads, described by its fields.

Reference answers are written as people write them: `#### 12`, `\boxed{12}`, `1,200`, a letter, the number of an option
or its text. A row whose answer cannot be compared in the benchmark's style is left out and counted.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crescent.config import AnswerStyle, BenchmarkConfig, Source, own_place
from crescent.errors import DataSaysNo, Missing
from crescent.machine.text_files import read_text
from crescent.tasks.multiple_choice import OPTIONS
from eval.benchmarks.multiple_choice import row as lettered
from eval.benchmarks.origin import Raw, Row
from eval.benchmarks.word_problems import number
from eval.scorers import last_boxed

SAVED = ("dataset_info.json", "dataset_dict.json")
"""Files by which a folder that `save_to_disk` wrote is known; `datasets` loads it in another way than data files."""
FORMATS = {".parquet": "parquet", ".csv": "csv", ".jsonl": "json", ".json": "json", ".arrow": "arrow"}
"""Formats of data files by the end of their names."""
SHOWN = 80
"""Characters of a value that an error shows."""


class Absent(Exception):
    """A row does not have a field."""


class Unusable(Exception):
    """The answer of a row cannot be compared; the message says why."""


def rows(name: str, config: BenchmarkConfig, folder: Path | None) -> list[Row]:
    """All rows of the set; a reference answer that cannot be compared is `None`.

    Raises:
        Missing: the file is not there, or the hub does not have the data set.
        DataSaysNo: it is empty, a line is no JSON object, no row has the fields, or no answer can be compared.
        BadConfig: the file is in an encoding that nobody named.
    """
    where = f"eval.benchmarks.{name}"
    found: list[Row] = []
    problems: list[str] = []
    absent: list[str] = []
    for place, raw in _numbered(where, config, folder):
        try:
            found.append(_row(raw, config))
        except Absent as error:
            absent.append(_missing_field(place, where, config, raw, str(error)))
            found.append(("", None))
        except Unusable as error:
            problems.append(f"{place}: {error}")
            found.append((_text(raw, config), None))
    if found and len(absent) == len(found):
        raise DataSaysNo(absent[0])
    if not found:
        raise DataSaysNo(
            f"{where}.path={config.path}: has no rows; write one JSON object a line, with a question and an answer"
        )
    if all(target is None for _, target in found):
        assert config.style is not None
        reason = (problems or absent)[0]
        raise DataSaysNo(
            f"{reason}; no row of {len(found)} can be used: set {where}.question and {where}.answer to the fields with "
            f"question and final answer, or {where}.style to how the answer is written (now {config.style.value})"
        )
    return found


def _numbered(where: str, config: BenchmarkConfig, folder: Path | None) -> Iterator[tuple[str, Raw]]:
    """Each record, with its file and line for errors."""
    place = own_place(config, folder)
    if config.source is Source.jsonl:
        if place is None or place.is_dir():
            beside = f" or in {folder}" if folder else ""
            rule = "is a folder" if place else f"no such file in {Path.cwd()}{beside}"
            raise Missing(f"{where}.path={config.path}: {rule}; give the file with one JSON object a line")
        yield from _json_lines(place)
        return
    for index, raw in enumerate(_data_set(where, config, place)):
        yield f"{config.path}: row {index}", raw


def _json_lines(path: Path) -> Iterator[tuple[str, Raw]]:
    """The objects of a JSONL file, or of a file with one JSON list."""
    text = read_text(path)
    if text.lstrip().startswith("["):
        try:
            listed = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataSaysNo(
                f"{path}: begins like a JSON list and is none ({error}); write one object a line"
            ) from error
        numbered: Iterable[tuple[str, object]] = ((f"{path}: entry {n}", raw) for n, raw in enumerate(listed, 1))
    else:
        numbered = _decoded(path, text)
    for place, raw in numbered:
        if not isinstance(raw, dict):
            raise DataSaysNo(f"{place}: is no JSON object; each line needs one, with a question and an answer")
        yield place, raw


def _decoded(path: Path, text: str) -> Iterator[tuple[str, object]]:
    for number_, line in enumerate(text.split("\n"), 1):
        if line.strip():
            place = f"{path}: line {number_}"
            try:
                yield place, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataSaysNo(f"{place}: not JSON ({error}); one object a line, e.g. from `jq -c`") from error


def _data_set(where: str, config: BenchmarkConfig, place: Path | None) -> Any:
    """The records of one split, as `datasets.Dataset`."""
    import datasets

    datasets.disable_progress_bars()
    try:
        if place is None:
            return datasets.load_dataset(config.path, config.config, split=config.hub_split, revision=config.revision)
        if place.is_file():
            kind = FORMATS.get(place.suffix, "json")
            return datasets.load_dataset(kind, data_files=str(place), split="train")
        if any((place / name).is_file() for name in SAVED):
            saved = datasets.load_from_disk(str(place))
            return saved[config.hub_split] if isinstance(saved, datasets.DatasetDict) else saved
        return datasets.load_dataset(str(place), config.config, split=config.hub_split)
    except Exception as error:  # the library raises a dozen kinds, and each means: this cannot be loaded
        cause = (str(error) or type(error).__name__).splitlines()[0]
        on_hub = "the hub does not give it" if place is None else f"{place} cannot be loaded"
        raise Missing(
            f"{where}.path={config.path}: {on_hub} ({cause}); check path, config={config.config}, "
            f"hub_split={config.hub_split} and HF_TOKEN, or save it as JSONL and use source=jsonl"
        ) from error


def _row(raw: Raw, config: BenchmarkConfig) -> Row:
    question, answer = _text(raw, config), value_of(raw, config.answer)
    if not question:
        raise Unusable(f"field {config.question} is {_shown(value_of(raw, config.question))}, which is no question")
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if answer is None or isinstance(answer, dict | list) or not str(answer).strip():
        raise Unusable(f"field {config.answer} is {_shown(answer)}, which is no single answer")
    match config.style:
        case AnswerStyle.choice:
            return _choice(question, answer, raw, config)
        case AnswerStyle.number:
            target = number(_final(answer))
            if target is None:
                raise Unusable(f"field {config.answer} is {_shown(answer)}, which is no number")
            return question, target
        case AnswerStyle.math:
            return question, re.sub(r"\A\$+(.*?)\$+\Z", r"\1", _final(answer), flags=re.DOTALL).strip()
        case _:
            return question, str(answer).strip()


def value_of(raw: Raw, name: str) -> Any:
    """The value of a field, of a field inside a field (`a.b`), or of an entry of a list (`a.0`).

    Raises:
        Absent: there is no such field.
    """
    if name in raw:
        return raw[name]
    value: Any = raw
    for part in name.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list | tuple) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            raise Absent(name)
    return value


def _text(raw: Raw, config: BenchmarkConfig) -> str:
    question = value_of(raw, config.question)
    # Half of a surrogate pair is JSON, but no text that an engine could be sent.
    return question.strip().encode("utf-8", "replace").decode() if isinstance(question, str) else ""


def _final(answer: object) -> str:
    """The answer without the solution before it."""
    written = str(answer)
    after = written.rpartition("####")[2].strip()
    return (last_boxed(after) or after).strip()


def _choice(question: str, answer: object, raw: Raw, config: BenchmarkConfig) -> Row:
    """The question with lettered options, and the letter of the right one."""
    if config.choices is None:
        letter = re.fullmatch(r"\(?([A-Ja-j])[).:]?", _final(answer))
        if letter is None:
            raise Unusable(f"field {config.answer} is {_shown(answer)}, which is no letter from A to J")
        return question, letter[1].upper()
    given = value_of(raw, config.choices)
    labels = [str(label) for label in given.get("label", [])] if isinstance(given, Mapping) else []
    options = given.get("text") if isinstance(given, Mapping) else given
    if not isinstance(options, list | tuple) or not 2 <= len(options) <= len(OPTIONS):
        raise Unusable(f"field {config.choices} is {_shown(given)}, which is no list of 2 to {len(OPTIONS)} options")
    texts = [str(option) for option in options]
    place = _place_of(answer, texts, labels)
    if place is None or place >= len(texts):
        raise Unusable(f"field {config.answer} is {_shown(answer)}, which is none of its {len(texts)} options")
    return lettered(question, texts, place)


def _place_of(answer: object, texts: Sequence[str], labels: Sequence[str]) -> int | None:
    """Number of the right option, from 0: by its label, its number, its text or its letter.

    A JSON number is the number of an option; as a text, the same digits may be an option."""
    written = str(answer).strip()
    if isinstance(answer, int) and not isinstance(answer, bool) and not labels:
        return answer if answer >= 0 else None
    if written in labels:
        return labels.index(written)
    if written.isdecimal() and written not in texts:
        return int(written)
    if written in texts:
        return texts.index(written)
    letter = re.fullmatch(r"\(?([A-Ja-j])[).:]?", written)
    return OPTIONS.index(letter[1].upper()) if letter else None


def _missing_field(place: str, where: str, config: BenchmarkConfig, raw: Raw, field: str) -> str:
    there = ", ".join(map(str, list(raw)[:8])) or "none"
    key = next((key for key in ("question", "answer", "choices") if getattr(config, key) == field), "question")
    return f"{place}: has no field {field!r} (its fields: {there}); set {where}.{key} to the right one"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
