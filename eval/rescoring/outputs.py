"""Outputs of any model in the formats in which they are published, read and scored like our own responses.

A file has one JSON object per line, in one of three forms:

- lm-evaluation-harness's `samples_*.jsonl` (`--log_samples`): `resps`, `target`, `filter` and a label (`exact_match`),
  each item once for each filter;
- GSM8K's `example_model_solutions.jsonl` (arXiv 2110.14168): `question`, `ground_truth`, and for each model an object
  with `solution` and the label `is_correct`;
- plain: a reference (`target`, `answer`, …), a response or a list of them (`response`, `output`, …), and optionally a
  label (`is_correct`, `correct`, …).

A label says whether a response is right by somebody else's scoring.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crescent.config import AnswerStyle, TaskConfig
from crescent.errors import BadConfig, DataSaysNo, Missing
from crescent.records import Completion, Response, Score, digest, to_line
from crescent.tasks import open_task
from eval.benchmarks.word_problems import number
from eval.reading import Reader
from eval.rescoring.runs import THREADS, classes_of
from eval.scorers import last_boxed, score

TARGETS = ("target", "ground_truth", "reference", "gold", "answer", "expected_answer", "solution")
"""Fields for the reference answer, the most explicit first."""
RESPONSES = (
    *("response", "responses", "output", "outputs", "generation", "generations", "completion", "completions"),
    *("prediction", "predictions", "model_output", "text"),
)
"""Fields for the response, or for several."""
LABELS = ("is_correct", "correct", "label", "score", "acc", "exact_match")
"""Fields for the label: true, false, 0 or 1. Other values are no labels."""
IDS = ("id", "item", "doc_id", "index", "question", "problem", "prompt")
"""Fields that tell one item from another."""
SUFFIX = ".rescored.jsonl"
"""End of the names of the files that this module writes."""


@dataclass(frozen=True)
class Output:
    """A model's responses to one item."""

    item: str
    target: str
    texts: tuple[str, ...]
    finish_reason: str = "stop"
    labels: Mapping[str, tuple[bool, ...]] = field(default_factory=dict)
    """Labels of each of `texts`, by name."""


@dataclass(frozen=True)
class Agreement:
    """Our scoring beside labels, on the same responses."""

    label: str
    score: str
    """Name of our score: `deciding`, `strict` or `flexible`."""
    both_right: int
    only_ours: int
    """Number of responses that are right by our score and wrong by the label."""
    only_theirs: int
    both_wrong: int

    @property
    def total(self) -> int:
        return self.both_right + self.only_ours + self.only_theirs + self.both_wrong


@dataclass(frozen=True)
class ScoredOutputs:
    """Scores of one model's outputs in one file."""

    model: str
    """Name of the model; empty if the file has none."""
    score: Score
    responses: tuple[Response, ...]
    agreements: tuple[Agreement, ...]


def read_outputs(path: Path) -> dict[str, list[Output]]:
    """The outputs by model.

    Raises:
        BadConfig: a line is not a JSON object, or has none of the three forms.
        DataSaysNo: the file is empty, or items differ in the number of their responses.
    """
    found: dict[str, dict[str, Output]] = defaultdict(dict)
    for place, record in read_objects(path):
        for model, output in outputs_of(record, place):
            earlier = found[model].get(output.item)
            if earlier is None:
                found[model][output.item] = output
            elif "resps" in record and (earlier.texts, earlier.target) == (output.texts, output.target):
                # lm-evaluation-harness writes an item once for each filter.
                found[model][output.item] = replace(earlier, labels={**earlier.labels, **output.labels})
            else:
                repeated = f"{output.item}/{len(found[model])}"
                found[model][repeated] = replace(output, item=repeated)
    if not found:
        raise DataSaysNo(f"{path}: is empty, so there is nothing to score")
    for model, outputs in found.items():
        if len(counts := {len(output.texts) for output in outputs.values()}) > 1:
            raise DataSaysNo(f"{path}{f', {model}' if model else ''}: {min(counts)} to {max(counts)} responses an item")
    return {model: list(outputs.values()) for model, outputs in found.items()}


def read_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line's object, with its place for an error."""
    with path.open(encoding="utf-8") as file:
        for line_number, line in enumerate(file, 1):
            if not line.strip():
                continue
            place = f"{path}, line {line_number}"
            try:
                record = json.loads(line)
            except ValueError as error:
                raise BadConfig(f"{place}: not JSON ({error}); each line must be an object") from error
            if not isinstance(record, dict):
                raise BadConfig(f"{place}: a JSON {type(record).__name__}; each line must be an object")
            yield place, record


def outputs_of(record: Mapping[str, Any], place: str) -> Iterator[tuple[str, Output]]:
    """The outputs in one line, each with its model."""
    named = {name: value for name, value in record.items() if isinstance(value, dict) and "solution" in value}
    if "resps" in record:
        yield "", harness_output(record, place)
    elif named and "ground_truth" in record:
        for model, value in named.items():
            labels = labels_in(value)
            item = item_of(record)
            yield model, Output(item, reference(record["ground_truth"]), (str(value["solution"]),), labels=labels)
    else:
        yield str(record.get("model", "")), plain_output(record, place)


def harness_output(record: Mapping[str, Any], place: str) -> Output:
    texts = [text for request in record["resps"] for text in (request if isinstance(request, list) else [request])]
    if not texts or not all(isinstance(text, str) for text in texts):
        rule = "its resps are log-probabilities, not texts; only tasks that generate can be scored again"
        raise BadConfig(f"{place}: {rule}")
    metrics = record.get("metrics") or ["exact_match", "acc"]
    known = [label for metric in metrics if (label := as_label(record.get(metric))) is not None]
    labels = {str(record.get("filter", "lm-eval")): (known[0],)} if known and len(texts) == 1 else {}
    return Output(item_of(record), reference(record.get("target", "")), tuple(texts), labels=labels)


def plain_output(record: Mapping[str, Any], place: str) -> Output:
    said = next((name for name in RESPONSES if name in record), None)
    target = next((name for name in TARGETS if name in record and name != said), None)
    if said is None or target is None:
        there = ", ".join(list(record)[:12])
        raise BadConfig(
            f"{place}: its fields are {there}; it needs a reference ({', '.join(TARGETS[:5])}, …) and a response "
            f"({', '.join(RESPONSES[:8:2])}, …), or the fields of lm-evaluation-harness's samples"
        )
    given = record[said]
    texts = tuple(map(str, given)) if isinstance(given, list) else (str(given),)
    reason = record.get("finish_reason")
    return Output(
        item=item_of(record),
        target=reference(record[target]),
        texts=texts,
        finish_reason=reason if reason in ("length", "error") else "stop",
        labels={name: label for name, label in labels_in(record).items() if len(label) == len(texts)},
    )


def item_of(record: Mapping[str, Any]) -> str:
    """Id of the item: a number or a short text as it is, else its digest."""
    given = next((record[name] for name in IDS if record.get(name) is not None), json.dumps(record, sort_keys=True))
    return str(given) if isinstance(given, int) or len(str(given)) <= 40 else digest(str(given))


def labels_in(record: Mapping[str, Any]) -> dict[str, tuple[bool, ...]]:
    """The labels of a record by field, one for each response."""
    found = {}
    for name in LABELS:
        given = record.get(name)
        labels = [as_label(value) for value in (given if isinstance(given, list) else [given])]
        if labels and None not in labels:
            found[name] = tuple(map(bool, labels))
    return found


def as_label(value: object) -> bool | None:
    """Whether a label says that a response is right; `None` if the value is not a label."""
    return bool(value) if isinstance(value, bool | int | float) and value in (0, 1) else None


def reference(given: object) -> str:
    """The bare reference answer: of a worked solution what follows `####` or `A:`, or the content of its last box."""
    text = str(given).strip()
    marked = re.findall(r"(?:####|^A:)[ \t]*(\S.*?)[ \t]*$", text, re.MULTILINE)
    found = marked[-1] if marked else last_boxed(text) or text
    return number(found) or found


def guess_style(outputs: Sequence[Output]) -> AnswerStyle:
    """Style of the reference answers: numbers if all are numbers, options if all are letters, else formulas."""
    targets = {output.target for output in outputs}
    if all(number(target) is not None for target in targets):
        return AnswerStyle.number
    if all(re.fullmatch(r"[A-Z]", target) for target in targets):
        return AnswerStyle.choice
    return AnswerStyle.math


def score_outputs(
    outputs: Mapping[str, Sequence[Output]], task: TaskConfig, grading_timeout_s: float
) -> list[ScoredOutputs]:
    """Scores of each model's outputs, read in the task's answer style."""
    found = []
    with open_task(task, grading_timeout_s) as opened, ThreadPoolExecutor(THREADS) as pool:
        reader = Reader(task.answer_style, opened)

        def respond(output: Output) -> list[Response]:
            return [read_text(output, sample, reader) for sample in range(len(output.texts))]

        for model, published in outputs.items():
            responses = [response for answers in pool.map(respond, published) for response in answers]
            scored = score(model or "outputs", responses, classes_of(responses, reader, pool), decides=False)
            agreements = tuple(agreements_of(published, responses))
            found.append(ScoredOutputs(model, scored, tuple(responses), agreements))
    return found


def read_text(output: Output, sample: int, reader: Reader) -> Response:
    text = output.texts[sample]
    reading = reader.read(Completion(text, output.finish_reason, 0), output.target)
    return Response(
        item=output.item,
        benchmark="",
        prompt="",
        text=text,
        final=reading.final,
        target=output.target,
        correct=reading.correct,
        finish_reason=output.finish_reason,
        tokens=0,
        sample=sample,
        strict=reading.strict,
        flexible=reading.flexible,
    )


def agreements_of(published: Sequence[Output], responses: Sequence[Response]) -> Iterator[Agreement]:
    """Each label that all items have, beside each of our scores that all responses have."""
    common = set.intersection(*(set(output.labels) for output in published))
    for label in sorted(common):
        theirs = [right for output in published for right in output.labels[label]]
        for name, ours in (
            ("deciding", [response.correct for response in responses]),
            ("strict", [response.strict for response in responses]),
            ("flexible", [response.flexible for response in responses]),
        ):
            if None in ours:
                continue
            pairs = list(zip(ours, theirs, strict=True))
            yield Agreement(
                label=label,
                score=name,
                both_right=pairs.count((True, True)),
                only_ours=pairs.count((True, False)),
                only_theirs=pairs.count((False, True)),
                both_wrong=pairs.count((False, False)),
            )


def write_readings(path: Path, scored: Sequence[ScoredOutputs], outputs: Mapping[str, Sequence[Output]]) -> Path:
    """Write the reading of each response to `NAME.rescored.jsonl` beside the file.

    Raises:
        Missing: nothing can be written there.
    """
    target = path.with_name(path.name.removesuffix(".jsonl") + SUFFIX)
    lines = []
    for found in scored:
        labels = {output.item: output.labels for output in outputs[found.model]}
        for response in found.responses:
            given = {name: label[response.sample] for name, label in labels[response.item].items()}
            lines.append(
                to_line(
                    {
                        "model": found.model,
                        "item": response.item,
                        "sample": response.sample,
                        "final": response.final,
                        "target": response.target,
                        "correct": response.correct,
                        "strict": response.strict,
                        "flexible": response.flexible,
                        "labels": given,
                    }
                )
            )
    try:
        target.write_bytes(b"".join(lines))
    except PermissionError as error:
        fix = "copy the file to a folder that can be written to"
        raise Missing(f"{target}: cannot be written ({error.strerror}); {fix}") from error
    return target
