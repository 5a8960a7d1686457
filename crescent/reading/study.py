"""The runs of a study, read from their folders into `StudyRecords`."""

import importlib.util
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from crescent import __version__
from crescent.config import StudyConfig, as_settings
from crescent.config.study import arm_name
from crescent.errors import BadConfig, DataSaysNo
from crescent.judging.comparison import by_benchmark
from crescent.judging.item_records import (
    BenchmarkRecord,
    DeclaredAt,
    RoundRecord,
    RunRecord,
    StudyRecords,
    VoteCount,
    benchmark_record,
)
from crescent.judging.likelihood import FILE as LIKELIHOODS
from crescent.judging.likelihood import Likelihood
from crescent.reading.finished import Manifest, RunReader
from crescent.reading.rounds import EVALUATION_ONLY, REUSED_NOTE, RoundSummary, read_rounds
from crescent.records import Pair, Response, Vote, digest
from crescent.run_folder.declaration import read_declarations
from crescent.run_folder.metric import Metric
from crescent.run_folder.metric_names import ALL_PAIRS, KEPT_QUESTIONS, NEW_PAIRS, QUESTIONS, STEPS
from crescent.run_folder.places import RESPONSES
from crescent.tasks.computation import truth
from crescent.tasks.equivalence import as_number

ELSEWHERE = re.compile(r"(run\.(name|root|keep|redo|reuse)|tracking|launch|serving|study|mode|eval\.data)\b")
"""Start of the names of settings that say where and how a run works, not what it does."""


def read_study(given: str) -> StudyConfig:
    """A declaration by its name in conf/study, or by the path of its file: a declaration, or the config of a run.

    Raises:
        BadConfig: there is no such declaration, or it is wrong.
    """
    package = importlib.util.find_spec("conf")
    assert package is not None
    folders = [Path(place) / "study" for place in package.submodule_search_locations or ()]
    named = [folder / f"{given}.yaml" for folder in folders if re.fullmatch(r"[\w.-]+", given)]
    path = next((path for path in (Path(given), *named) if path.is_file()), None)
    if path is None:
        known = ", ".join(sorted(file.stem for folder in folders for file in folder.glob("*.yaml")))
        raise BadConfig(f"--study {given}: no file, and not in conf/study, which has {known or 'none'}")
    try:
        loaded = OmegaConf.load(path)
        declaration = loaded.study if isinstance(loaded, DictConfig) and "study" in loaded else loaded
        found = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(StudyConfig), declaration))
    except (OmegaConfBaseException, yaml.YAMLError, OSError, ValueError) as error:
        raise BadConfig(f"--study {given}: {str(error).splitlines()[0]}") from error
    assert isinstance(found, StudyConfig)
    return found


def read_study_runs(study: StudyConfig, roots: Sequence[Path]) -> StudyRecords:
    """The records of a study's runs; what cannot be read of a run is noted in its `missing`."""
    different = {root.resolve(): root for root in reversed(roots)}
    item_sets: dict[str, tuple[str, ...]] = {}
    evaluations: dict[str, dict[str, BenchmarkRecord]] = {}
    folders = sorted(different.values(), key=lambda root: (root.resolve().name, str(root)))
    runs = [read_study_run(root, item_sets, evaluations) for root in folders]
    common = dict(set.intersection(*(set(run.settings.items()) for run in runs))) if runs else {}
    return StudyRecords(
        study=study.name,
        digest=study.digest,
        declaration=as_settings(study),
        settings=common,
        item_sets=item_sets,
        evaluations=evaluations,
        runs=tuple(
            replace(run, settings={key: value for key, value in run.settings.items() if key not in common})
            for run in runs
        ),
        version=__version__,
    )


def read_study_run(
    root: Path, item_sets: dict[str, tuple[str, ...]], evaluations: dict[str, dict[str, BenchmarkRecord]]
) -> RunRecord:
    """One run, with all its settings. New item sets and evaluations are added to the dicts."""
    summary, reader = read_rounds(root), RunReader(root)
    settings = {key: value for key, value in (summary.settings or {}).items() if not ELSEWHERE.match(key)}
    trained = summary.status != EVALUATION_ONLY
    rounds = [_round(reader, round_, item_sets, evaluations) for round_ in summary.rounds]
    seed = json.loads(settings.get("run.seed", "null"))
    labels = json.loads(settings.get("pairs.labels", "null"))
    noise = json.loads(settings.get("pairs.noise", "0.0"))
    return RunRecord(
        name=root.resolve().name,
        arm=arm_name(labels, noise) if trained and isinstance(labels, str) else None,
        seed=seed if isinstance(seed, int) else None,
        status=summary.status,
        declared=tuple(
            DeclaredAt(declared.digest, declared.at, tuple(declared.finished)) for declared in read_declarations(root)
        ),
        settings=settings,
        rounds=tuple(rounds),
        # That a stage was taken over from another run is no gap in a study, which arms share by design.
        missing=tuple(note for note in dict.fromkeys([*summary.missing, *reader.missing]) if REUSED_NOTE not in note),
    )


def _round(
    reader: RunReader,
    summary: RoundSummary,
    item_sets: dict[str, tuple[str, ...]],
    evaluations: dict[str, dict[str, BenchmarkRecord]],
) -> RoundRecord:
    number = summary.round
    stage = f"round-{number}/eval" if number else "base/eval"
    training = reader.training(number) if number else None
    evaluation = reader.stage(stage)
    checkpoint = str(evaluation["made_from"]["inputs"].get("checkpoint", "")) if evaluation else ""
    if number and (training is None or checkpoint != training["digest"]):
        evaluation = None  # that of an earlier attempt at this round
    if evaluation is not None and evaluation["digest"] not in evaluations:
        evaluations[evaluation["digest"]] = _evaluation(reader, stage, item_sets)
    found = RoundRecord(number, evaluation["digest"] if evaluation else "", checkpoint, summary.action)
    if not number:
        return found
    synthesis, selection = reader.synthesis(number), reader.selection(number)
    pairs = list(reader.records(f"round-{number}/pairs/new.jsonl", Pair)) if selection else []
    votes = list(reader.records(f"round-{number}/synthesis/votes.jsonl", Vote)) if synthesis else []
    known, right = label_counts(pairs, votes)
    return replace(
        found,
        synthesis=str(synthesis["digest"]) if synthesis else "",
        questions=_count(synthesis, QUESTIONS),
        kept=_count(selection, KEPT_QUESTIONS),
        pairs=_count(selection, NEW_PAIRS),
        trained=_count(selection, ALL_PAIRS),
        steps=_count(training, STEPS),
        labels_known=known,
        labels_right=right,
        votes=vote_counts(votes),
    )


def label_counts(pairs: Sequence[Pair], votes: Sequence[Vote]) -> tuple[int, int]:
    """Number of pairs whose question is one plain computation, and of those whose answer is its value."""
    texts = {vote.question.id: vote.question.text for vote in votes}
    known = [(pair, sum_) for pair in pairs if (sum_ := truth(texts.get(pair.question, ""))) is not None]
    return len(known), sum(as_number(pair.final) == sum_.value for pair, sum_ in known)


def vote_counts(votes: Sequence[Vote]) -> tuple[VoteCount, ...]:
    """The votes on plain computations by agreement, those without a winner left out."""
    counts: Counter[tuple[int, int]] = Counter()
    rights: Counter[tuple[int, int]] = Counter()
    for vote in votes:
        known = truth(vote.question.text)
        if known is not None and vote.winner is not None:
            counts[vote.votes, vote.of] += 1
            rights[vote.votes, vote.of] += as_number(vote.winner) == known.value
    return tuple(VoteCount(*key, count=counts[key], right=rights[key]) for key in sorted(counts))


def _evaluation(reader: RunReader, stage: str, item_sets: dict[str, tuple[str, ...]]) -> dict[str, BenchmarkRecord]:
    try:
        responses = by_benchmark(list(reader.records(f"{stage}/{RESPONSES}", Response)))
        likelihoods: dict[str, dict[str, tuple[float, bool]]] = {}
        for found in reader.records(f"{stage}/{LIKELIHOODS}", Likelihood):
            likelihoods.setdefault(found.benchmark, {})[found.item] = found.share, found.is_most_likely
    except DataSaysNo as error:
        reader.note(str(error))
        return {}
    records = {}
    for benchmark, answers in responses.items():
        items = f"set-{digest(sorted({response.item for response in answers}))}"
        records[benchmark], item_sets[items] = benchmark_record(answers, items, likelihoods.get(benchmark))
    return records


def _count(manifest: Manifest | None, metric: Metric) -> int | None:
    value = metric.of(manifest["metrics"]) if manifest is not None else None
    return None if value is None else round(value)


def settings_of(run: RunRecord, common: Mapping[str, str]) -> dict[str, str]:
    """All settings of a run."""
    return {**common, **run.settings}
