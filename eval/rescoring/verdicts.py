"""The verdicts of a run, judged again on the new scores.

Each round is judged by itself: with the same child, parent, base and best as then, the same votes and settings. Stored
responses cannot show what later rounds would have become if another child had been accepted.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crescent.config import VerdictConfig
from crescent.errors import CrescentError, DataSaysNo
from crescent.judging.comparison import paired_test
from crescent.judging.measurements import Answers
from crescent.judging.verdict import judge
from crescent.records import Checkpoint, Comparison, Response, Verdict, read_lines
from crescent.run_folder.manifest import verified_manifest
from crescent.run_folder.metric_names import monitors_among
from eval.rescoring.stored import Stored, known_records, read_settings


@dataclass(frozen=True)
class Rejudged:
    """Old and new verdict of one round, with the comparison of child and parent on the benchmarks that decided."""

    round: int
    parent: str
    """Folder of the parent's evaluation in the run's: `base` or `round-1`."""
    items: int
    """Number of items that decided."""
    changed: int
    """Number of these items that became right or wrong, for the child or the parent."""
    old: Comparison
    new: Comparison
    old_action: str
    """Recorded action. Patience, which depends on all rounds, is in neither action."""
    new_action: str
    reason: str
    """Reason of the new verdict."""


def rejudge(
    root: Path, evaluations: Sequence[Stored], read_again: Mapping[str, Sequence[Response]], notes: list[str]
) -> Iterator[Rejudged]:
    """Judge every round with a verdict again.

    Args:
        read_again: New responses, by the digest of their evaluation.
        notes: A sentence about each round that cannot be judged is added.
    """
    for evaluation in evaluations:
        manifest = verified_manifest(root / evaluation.place / "verdict")
        if manifest is None:
            continue
        try:
            yield from judge_again(root, evaluation.place, manifest["made_from"], evaluations, read_again)
        except (CrescentError, KeyError) as error:
            cause = str(error) if isinstance(error, CrescentError) else f"its manifest has no {error}"
            notes.append(f"{evaluation.place}/verdict was not judged again: {cause}")


def judge_again(
    root: Path,
    place: str,
    made_from: Mapping[str, Any],
    evaluations: Sequence[Stored],
    read_again: Mapping[str, Sequence[Response]],
) -> Iterator[Rejudged]:
    """The round's verdicts; none if no benchmark decided (`verdict.gate=off`).

    Raises:
        DataSaysNo: an evaluation that the verdict rests on is missing.
        BadConfig: the verdict is of another version.
    """
    inputs, settings = made_from["inputs"], made_from["settings"]
    stored = {evaluation.digest: evaluation for evaluation in evaluations}
    if absent := [name for name in ("child", "parent", "base", "best") if inputs[name] not in stored]:
        raise DataSaysNo(f"the evaluation of its {absent[0]} is missing")
    child, parent = stored[inputs["child"]], stored[inputs["parent"]]
    stage = root / place / "verdict"
    with known_records(stage):
        verdict = read_lines(stage / "verdict.json", Verdict)[0]
    if not verdict.benchmarks:
        return
    cfg = read_settings(VerdictConfig, settings["verdict"], f"{root}, verdict")
    again = judge(
        Checkpoint(verdict.child, number_of(child.place), digest=""),
        Checkpoint(verdict.parent, number_of(parent.place), digest=""),
        Answers(*(read_again[inputs[name]] for name in ("child", "parent", "base", "best"))),
        cfg,
        deciding=verdict.benchmarks,
        guards=settings["eval"]["guards"],
        rounds=monitors_until(root, number_of(place)),
        seed=settings["seed"],
    )
    old_child, old_parent = (on(verdict.benchmarks, side.responses) for side in (child, parent))
    new_child, new_parent = (on(verdict.benchmarks, read_again[side.digest]) for side in (child, parent))
    yield Rejudged(
        round=number_of(place),
        parent=parent.place,
        items=again.items,
        changed=len(turned_items(old_child, new_child) | turned_items(old_parent, new_parent)),
        old=paired_test(old_child, old_parent, cfg.resamples, settings["seed"]),
        new=paired_test(new_child, new_parent, cfg.resamples, settings["seed"]),
        old_action=verdict.action,
        new_action=again.action,
        reason=again.reason,
    )


def monitors_until(root: Path, last: int) -> list[dict[str, float]]:
    """The collapse monitors of each round up to `last`, as recorded: votes are not read again."""
    manifests = [verified_manifest(root / f"round-{number}" / "synthesis") for number in range(1, last + 1)]
    return [monitors_among(manifest["metrics"]) for manifest in manifests if manifest is not None]


def number_of(place: str) -> int:
    """The round of a place; 0 for base and teacher."""
    return int(place.removeprefix("round-")) if place.startswith("round-") else 0


def on(benchmarks: Collection[str], responses: Sequence[Response]) -> list[Response]:
    return [response for response in responses if response.benchmark in benchmarks]


def turned_items(old: Sequence[Response], new: Sequence[Response]) -> set[tuple[str, str]]:
    """Items with a response that was right and is wrong, or was wrong and is right."""
    return {
        (before.benchmark, before.item)
        for before, after in zip(old, new, strict=True)
        if before.correct != after.correct
    }
